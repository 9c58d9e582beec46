"""What the tests of preloaded processes ask for: a module as `canonq.tiers.runner` is one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from canonq.adapters.processes.preloaded import serve
from canonq.adapters.processes.programs import begun


def says(words: str, status: int) -> int:
    """Say some words, on both streams, and end with a status."""
    begun()
    sys.stdout.write(f"{words}\n")
    sys.stderr.write(f"{os.environ.get('SAID', '')} {os.environ.get('HOME', '-')} {Path.cwd()}\n")
    return status


def hangs(pid: str) -> int:
    """Leave a number and hang, with a child in the same group."""
    begun()
    subprocess.Popen(["sleep", "3600"])
    Path(pid).write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(3600)
    return 0


def leaves(pid: str) -> int:
    """Leave a daemon behind: of another session, without an environment, whose parent is gone."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(pid).write_text(str(os.getpid()))
            os.execve("/bin/sleep", ["sleep", "3600"], {})
        os._exit(0)
    while not Path(pid).is_file() or not Path(pid).read_text():
        time.sleep(0.01)
    return 0


def slow_start(seconds: float) -> int:
    """Take some time before it begins."""
    time.sleep(seconds)
    begun()
    return 7


def dies() -> int:
    """Take the process above along."""
    os.kill(os.getppid(), 9)
    time.sleep(3600)
    return 0


if __name__ == "__main__":
    sys.exit(serve({"says": says, "hangs": hangs, "leaves": leaves, "slow_start": slow_start, "dies": dies}))
