"""The commands `canonq` and `celery`, kept ready: tests type hundreds of them, and most of each would be its imports.

Each is a process of its own all the same, with its own environment and folder, from its first line to its exit status. That the
installed programs start is seen where tests and the demo keep them running.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence

import celery.__main__
import celery.bin.celery
import docker
import redis
import requests

import canonq
from canonq.adapters.processes.preloaded import serve
from canonq.adapters.processes.programs import begun
from canonq.cli import main
from workers.tree import OF_A_WORKER

#: What the modules of commands import when they need it.
_LATER = (docker, redis, requests)
_PROGRAMS: dict[str, Callable[[], None]] = {"canonq": main, "celery": celery.__main__.main}


def import_all() -> None:
    """Import all that a command may come to need, but what reads the settings while it is imported: the app is made of them."""
    for module in pkgutil.walk_packages(canonq.__path__, "canonq."):
        if module.name not in ("canonq.__main__", "canonq.celery"):
            importlib.import_module(module.name)
    for name in OF_A_WORKER:
        if name != "workers.upkeep":
            importlib.import_module(name)
    assert "workers.app" not in sys.modules, "a command's own settings would not be read"


def typed(program: str, arguments: Sequence[str], errors: str) -> int:
    """What typing it does; standard error goes to a file."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = [program, *arguments]
    begun()
    _PROGRAMS[program]()
    return 0


if __name__ == "__main__":
    import_all()
    sys.exit(serve({"typed": typed}))
