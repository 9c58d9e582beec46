"""Locks on files, which end with whoever holds them, however that ends. All of canonq's are taken here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from canonq.adapters.files import told
from canonq.adapters.processes.stopping import check_stop

_LOOKS, _BETWEEN_LOOKS = 10, 0.05  #: seconds
_LOOK_EVERY = 0.2  #: seconds


def opened_lock(path: Path) -> IO[str]:
    """The file of a lock, opened; made with its folder where it is not there. HostProblem where it cannot be made."""
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file for the block, made where it is not there; whoever has it is waited for."""
    with opened_lock(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # noqa: TID251 - the one place
        yield


@contextlib.contextmanager
def locked_to_read(path: Path) -> Iterator[None]:
    """Hold a lock file beside others who read what it guards. FileNotFoundError where there is none."""
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # noqa: TID251 - the one place
        yield


def try_lock(file: IO[str] | int) -> bool:
    """Take a lock, unless somebody has it. Who only looks has it for an instant, so one refusal says nothing."""
    for attempt in range(_LOOKS):
        if _taken(file, shared=False):
            return True
        time.sleep(_BETWEEN_LOOKS if attempt + 1 < _LOOKS else 0)
    return False


def lock_until(file: IO[str], ends: float, *, shared: bool = False) -> bool:
    """Take a lock, alone or beside others who share it; False when it was not to be had until then, by the monotonic clock.

    Work that is to end ends here.
    """
    while not _taken(file, shared):
        if time.monotonic() > ends:
            return False
        check_stop()
        time.sleep(_LOOK_EVERY)
    return True


def let_go(file: IO[str]) -> None:
    """Give a lock back before its file is closed."""
    fcntl.flock(file, fcntl.LOCK_UN)  # noqa: TID251 - the one place


def is_held(path: Path) -> bool:
    """Whether a living process holds this lock file, or folder; one that is not there is held by nobody.

    Who looks need not be allowed to write. Where even looking is not allowed it may be held, and is taken to be.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _taken(handle, shared=True)
    finally:
        os.close(handle)


def _taken(file: IO[str] | int, shared: bool) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)  # noqa: TID251 - the one place
    except BlockingIOError:
        return False
    return True
