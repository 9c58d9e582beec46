"""Where `celery` with CELERY_APP=canonq or `-A canonq` finds the app. A wrong setting is told in one line, not in a traceback."""

from __future__ import annotations

import sys

from canonq.core.errors import CanonqError

try:
    from workers.app import app
    from workers.console import install
except CanonqError as error:
    print(error.line, file=sys.stderr)
    raise SystemExit(int(error.exit_status)) from None

install()

__all__ = ["app"]
