"""`canonq` and `python -m canonq`: a signal that comes before the command itself can answer for it (cli/interrupts.py)."""

from __future__ import annotations

import json
import os
import sys
from types import FrameType

from canonq.adapters.processes import signals
from canonq.core.errors import ExitStatus, interrupted


def main() -> None:
    """Entry point. All that the command needs is imported below it, which takes a good part of a second."""
    signals.take(_end)
    from canonq.cli import main as command

    command()


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing has been begun yet, and half of the modules may be there: say it, and go."""
    if "--json" in sys.argv[1:]:
        os.write(1, f"{json.dumps(interrupted().for_programs, indent=2)}\n".encode())
    os.write(2, b"Stopped.\n")
    os._exit(ExitStatus.MACHINERY)


if __name__ == "__main__":
    main()
