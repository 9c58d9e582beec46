"""Where `celery -A canonq` finds the app. A wrong setting is told in one line, not in a traceback."""

from __future__ import annotations

import sys

from canonq.core.errors import CanonqError

try:
    from workers.app import app
except CanonqError as error:
    print(f"canonq: {error}", file=sys.stderr)
    raise SystemExit(int(error.exit_status)) from None

__all__ = ["app"]
