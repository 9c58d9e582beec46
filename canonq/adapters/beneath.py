"""Files of a recipe's tree, opened so that nothing outside it can be: what counts is where a file lies when it is opened.

Each folder and each link on the way is opened by itself, from the folder before it, and never followed by the kernel; a link
that lies in the tree and stays in it is gone along by hand. Links are judged before, too, when the tree is written out
(adapters/git/tree.py); this is the second fence, also against what was put there since.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.text import shown

_MOST_LINKS = 40  #: the kernel's own limit
#: There is no such file: nobody's fault here, whoever asked says what that means.
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO)


def read_beneath(root: Path, path: str, most: int) -> bytes | None:
    """The bytes of a plain file below `root`; None when there is none.

    RecipeProblem when the way to it leaves `root`, and for one of more than `most` bytes. HostProblem when it cannot be read.
    """
    try:
        with _opened(root, path) as handle:
            if handle is None or not stat.S_ISREG(os.fstat(handle).st_mode):
                return None
            return _read(handle, path, most)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise HostProblem(f"{shown(path)} below {root} cannot be read: {error.strerror}.") from error


def _read(handle: int, path: str, most: int) -> bytes:
    # Opened anew by its own handle: what it was opened by only points at it.
    with open(f"/proc/self/fd/{handle}", "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise RecipeProblem(
            f"The recipe's file {shown(path)} has more than {most} bytes.",
            mend="a recipe is configuration: keep data out of it.",
            code="file-too-large",
        )
    return content


@contextlib.contextmanager
def _opened(root: Path, path: str) -> Iterator[int | None]:
    """A handle that points at what `path` leads to below `root`; None when that is no path."""
    if "\0" in path:
        yield None
        return
    folders = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]  # from the root to where the way has come
    found: int | None = None
    try:
        left, links = _steps(path), 0
        while left:
            step = left.pop(0)
            if step == ".":
                continue
            if step == "..":
                if len(folders) == 1:
                    raise _outside(path)
                os.close(folders.pop())
                continue
            at = os.open(step, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folders[-1])
            kind = os.fstat(at).st_mode
            if stat.S_ISLNK(kind):
                target = _target(at)
                if target.startswith("/"):
                    raise _outside(path)
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ENOENT, "too many links")
                left[:0] = _steps(target)
            elif stat.S_ISDIR(kind):
                folders.append(at)
            elif left:
                os.close(at)
                raise OSError(errno.ENOTDIR, "not a folder")
            else:
                found = at
        yield found
    finally:
        for handle in (*folders, *([] if found is None else [found])):
            os.close(handle)


def _target(link: int) -> str:
    try:
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _steps(path: str) -> list[str]:
    if path.startswith("/"):
        raise _outside(path)
    steps = [step for step in path.split("/") if step not in ("", ".")]
    return [*steps, "."] if path.endswith(("/", "/.")) else steps  # that asks for a folder


def _outside(path: str) -> RecipeProblem:
    return RecipeProblem(
        f"{shown(path)} leads out of the recipe.",
        mend="keep the recipe's files inside its repository.",
        code="path-outside-recipe",
    )
