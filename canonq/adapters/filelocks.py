"""Locks on files, which end with whoever holds them, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.files import told

_LOOKS, _BETWEEN_LOOKS = 10, 0.05  #: seconds


def is_held(lock: Path) -> bool:
    """Whether a living process holds this lock file, or folder; one that is not there is held by nobody.

    Who looks need not be allowed to write. Where even looking is not allowed it may be held, and is taken to be.
    """
    try:
        handle = os.open(lock, os.O_RDONLY)
    except PermissionError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file for the block, made with its folder where it is not there; whoever has it is waited for.

    It ends with the process, however that ends. HostProblem where it cannot be made.
    """
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(handle: int) -> bool:
    """Take a file lock, unless somebody has it. Who only looks has it for an instant, so one refusal says nothing."""
    for attempt in range(_LOOKS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_BETWEEN_LOOKS if attempt + 1 < _LOOKS else 0)
        else:
            return True
    return False
