"""Folders in memory, for tests that need no real disk: nearly all that canonq writes is made durable at once, and most of it is
removed soon after."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PLACE = Path("/dev/shm")
_ROOM = 4 << 30  #: bytes that have to be free there
_NAME = "canonq-tests-{pid}-"
_OURS = re.compile(r"canonq-tests-(\d+)-")


def has_room() -> bool:
    """Whether there is a place in memory, with room for what tests write."""
    return os.access(PLACE, os.W_OK) and shutil.disk_usage(PLACE).free > _ROOM


def place() -> Path | None:
    """Where temporary folders are to be made: there, or as `tempfile` takes it, wherever they always are."""
    return PLACE if has_room() else None


def new_folder(what: str) -> Path:
    """A new folder there; `what` shows in its name."""
    return Path(tempfile.mkdtemp(prefix=f"{_NAME.format(pid=os.getpid())}{what[:40]}-", dir=PLACE)).resolve()


def remove_left() -> None:
    """Remove what processes of tests left that have ended: of failed tests, for as long as the next run has not begun."""
    for pid, folder in _left():
        if not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


def _left() -> Iterator[tuple[str, Path]]:
    with contextlib.suppress(OSError):
        for path in PLACE.iterdir():
            if found := _OURS.match(path.name):
                yield found[1], path
