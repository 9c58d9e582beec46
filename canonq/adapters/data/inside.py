"""The folders of a volume, gone through by their handles.

What lies there is an app's doing, which may go on with it meanwhile: each folder is opened from the one above it, no link is
followed, and nothing is called within itself for each level.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

DEEPEST = 100  #: folders in one another; what lies deeper is passed over: each takes a handle, of which a process has a thousand
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass
class _Level:
    below: str
    handle: int
    left: list[str] | None = field(default=None)  #: folders in it that are still to be gone into, the last one first


def walk(root: Path) -> Iterator[tuple[str, list[str], list[str], int]]:
    """Top down: a folder's path below `root` (empty for itself), the folders in it, what else is in it, and its handle.

    A folder that the caller takes out of the list is not gone into. What goes away meanwhile is passed over.
    """
    way = [_Level("", os.open(root, _FLAGS))]
    try:
        while way:
            level = way[-1]
            if level.left is None:
                folders, names = _in(level.handle)
                yield level.below, folders, names, level.handle
                level.left = folders[::-1] if len(way) <= DEEPEST else []
            elif level.left:
                name = level.left.pop()
                with contextlib.suppress(OSError):
                    handle = os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=level.handle)
                    way.append(_Level(f"{level.below}/{name}" if level.below else name, handle))
            else:
                os.close(way.pop().handle)
    finally:
        for level in way:
            os.close(level.handle)


@contextlib.contextmanager
def folder(root: Path, below: str) -> Iterator[int]:
    """The handle of a folder below `root`, or of itself. OSError where one on the way is none, or is a link."""
    at = [os.open(root, _FLAGS)]
    try:
        for name in below.split("/") if below else ():
            if name in ("", ".", ".."):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
            at.append(os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=at[-1]))
        yield at[-1]
    finally:
        for handle in at:
            os.close(handle)


def _in(handle: int) -> tuple[list[str], list[str]]:
    folders: list[str] = []
    names: list[str] = []
    with contextlib.suppress(OSError), os.scandir(handle) as found:
        for entry in found:
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            (folders if is_folder else names).append(entry.name)
    return folders, names
