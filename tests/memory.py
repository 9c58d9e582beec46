"""Folders in memory, for tests that need no real disk: nearly all that canonq writes is made durable at once, and most of it is
removed soon after."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PLACE = Path("/dev/shm")
_ROOM = 4 << 30  #: bytes that have to be free there
_LOOKED_AT = 3600.0  #: seconds
_NAME = "canonq-tests-{pid}-"
_OURS = re.compile(r"canonq-tests-(\d+)-")


def has_room() -> bool:
    """Whether there is a place in memory, with room for what tests write."""
    return _is_like_a_disk() and shutil.disk_usage(PLACE).free > _ROOM


@functools.cache
def _is_like_a_disk() -> bool:
    """Whether programs there can be run, and files have attributes: not in every container, nor with every kernel."""
    try:
        with tempfile.NamedTemporaryFile(dir=PLACE) as file:
            os.setxattr(file.name, "user.canonq", b"1")
        return not os.statvfs(PLACE).f_flag & os.ST_NOEXEC
    except OSError:
        return False


def place() -> Path | None:
    """Where temporary folders are to be made: there, or as `tempfile` takes it, wherever they always are."""
    return PLACE if has_room() else None


def new_folder(what: str) -> Path:
    """A new folder there; `what` shows in its name."""
    return Path(tempfile.mkdtemp(prefix=f"{_NAME.format(pid=os.getpid())}{what[:40]}-", dir=PLACE)).resolve()


def remove_left() -> None:
    """Remove what processes of tests left that have ended some time ago: what a failed test has left is there until then."""
    for pid, folder in _left():
        with contextlib.suppress(OSError):  # what cannot be removed is no reason to run no test
            if not Path(f"/proc/{pid}").exists() and folder.stat().st_mtime < time.time() - _LOOKED_AT:
                remove(folder)


def remove(folder: Path) -> None:
    """Remove it, also where a test has taken rights to it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    folder.chmod(0o700)
    for above, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(path := os.path.join(above, name)):
                os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def open_to_others(folder: Path) -> None:
    """Let other users into a temporary folder, and those above it that are of tests alone."""
    for above in (folder, *folder.parents):
        ours = any(above != place and above.is_relative_to(place) for place in (PLACE, Path(tempfile.gettempdir())))
        if not ours or above.stat().st_uid != os.geteuid():
            break
        above.chmod(above.stat().st_mode | 0o055)


def _left() -> Iterator[tuple[str, Path]]:
    with contextlib.suppress(OSError):
        for path in PLACE.iterdir():
            told = path.lstat()  # others may put there what they like, links too
            if (found := _OURS.match(path.name)) and stat.S_ISDIR(told.st_mode) and told.st_uid == os.geteuid():
                yield found[1], path
