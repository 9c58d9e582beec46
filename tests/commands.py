"""The commands `canonq` and `celery`, kept ready: tests type hundreds of them, and most of each would be its imports.

Each is a process of its own all the same, with its own environment and folder, from its first line to its exit status. That the
installed programs start is seen where tests and the demo keep them running.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

import celery.__main__
import celery.bin.celery

from canonq.adapters.processes.preloaded import serve
from canonq.adapters.processes.programs import begun
from canonq.cli import main

_PROGRAMS: dict[str, Callable[[], None]] = {"canonq": main, "celery": celery.__main__.main}


def typed(program: str, arguments: Sequence[str], errors: str) -> int:
    """What typing it does; standard error goes to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = [program, *arguments]
    begun()
    _PROGRAMS[program]()
    return 0


if __name__ == "__main__":
    sys.exit(serve({"typed": typed}))
