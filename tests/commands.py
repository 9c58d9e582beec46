"""The commands `canonq` and `celery`, kept ready: tests type hundreds of them, and most of each would be its imports.

Each is a process of its own all the same, with its own environment and folder, from its first line to its exit status. That the
installed programs start is seen where tests and the demo keep them running.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

import celery.__main__  # noqa: F401 - both are imported for the forks

import canonq.cli  # noqa: F401
from canonq.adapters.preloaded import serve
from canonq.adapters.programs import begun


def typed(module: str, arguments: Sequence[str], errors: str) -> int:
    """What `python -m MODULE ...` does; standard error goes to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = [module, *arguments]
    begun()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(serve({"typed": typed}))
