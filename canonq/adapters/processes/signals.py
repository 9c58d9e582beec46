"""The signals by which a person, a terminal, systemd or Docker ends a process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def take(handler: Callable[[int, FrameType | None], None]) -> None:
    """Have them come to a handler; but a closed terminal stays ignored where it is, as nohup has it."""
    for number in ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)
