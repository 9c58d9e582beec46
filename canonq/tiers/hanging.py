"""Where a process hangs that is about to be killed: told by itself, shortly before."""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import IO

from canonq.tiers.facts import STACK

_open: list[IO[str]] = []  #: until this process ends


def tell_where_it_hangs(limit: float) -> None:
    """Have the stack written into the current folder shortly before `limit` seconds are over. It takes no part in the work."""
    _open.append(Path(STACK).open("w"))  # noqa: SIM115 - until this process ends
    faulthandler.dump_traceback_later(max(0.1, limit - max(0.3, limit / 20)), file=_open[-1])
