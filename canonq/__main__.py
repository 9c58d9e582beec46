"""`canonq` and `python -m canonq`: a signal that comes before the command itself can answer for it (cli/interrupts.py)."""

from __future__ import annotations

import json
import os
import signal
import sys
from types import FrameType

from canonq.core.errors import ExitStatus, Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> None:
    """Entry point. All that the command needs is imported below it, which takes a good part of a second."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, _end)
    from canonq.cli import main as command

    command()


def _end(number: int, frame: FrameType | None) -> None:
    """Nothing has been begun yet, and half of the modules may be there: say it, and go."""
    if "--json" in sys.argv[1:]:
        error = Interrupted("Stopped by Ctrl-C or a signal.")
        told = {"code": error.code, "fault": error.fault, "what": error.what, "mend": error.mend}
        os.write(1, f"{json.dumps({'error': told}, indent=2)}\n".encode())
    os.write(2, b"Stopped.\n")
    os._exit(ExitStatus.MACHINERY)


if __name__ == "__main__":
    main()
