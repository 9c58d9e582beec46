"""The marker in a volume, and its ledger of promotions: files in its root, written and read on the host.

A volume may be mounted read-only, or only by a service that has run and ended, and its image may have no shell. What lies in a
volume is the app's doing: links are not followed, and folders are gone into by their handles.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.data import inside
from canonq.core.errors import HostProblem

OWN = ".canonq-"  #: how canonq's own files in a volume begin
MARKER, LEDGER = f"{OWN}marker", f"{OWN}ledger"
_MOST = 65536
_NOT_OURS = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  #: it is not there, or the way to it is a link's


def write(folder: Path, text: str, name: str = MARKER, *, below: str = "") -> None:
    """Write a volume's marker, or that of a folder `below` its root, in the place of one that is there.

    It belongs to whoever that folder belongs to.
    """
    with _told(folder, "written to"), inside.folder(folder, below) as at:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}.new", dir_fd=at)
        handle = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444, dir_fd=at)
        with os.fdopen(handle, "wb") as file:
            root = os.fstat(at)
            with contextlib.suppress(PermissionError):  # only root may give files away
                os.fchown(file.fileno(), root.st_uid, root.st_gid)
            os.fchmod(file.fileno(), 0o444)
            file.write(text.encode())
        os.replace(f"{name}.new", name, src_dir_fd=at, dst_dir_fd=at)


def is_folder(root: Path, path: str) -> bool:
    """Whether a path below a volume's root is a folder, no link being followed on the way."""
    try:
        with inside.folder(root, path):
            return bool(path)
    except OSError:
        return False


def remove(folder: Path, below: str = "") -> None:
    """Remove a volume's marker, or that of a folder `below` its root; not an error when there is none."""
    with _told(folder, "written to"), contextlib.suppress(FileNotFoundError), inside.folder(folder, below) as at:
        os.unlink(MARKER, dir_fd=at)


def enter(folder: Path, line: str) -> None:
    """Add a line to a volume's ledger; of a long one the oldest lines go."""
    kept = "".join(f"{one}\n" for one in (*entered(folder), line))
    write(folder, kept if len(kept) <= _MOST else kept[-_MOST:].partition("\n")[2], LEDGER)


def entered(folder: Path) -> list[str]:
    """The lines of a volume's ledger."""
    return (read(folder, LEDGER) or "").splitlines()


def read(folder: Path, name: str = MARKER, *, below: str = "") -> str | None:
    """What a volume's marker says, or that of a folder `below` its root; None when there is none.

    HostProblem when that cannot be told.
    """
    with _told(folder, "read"):
        try:
            with inside.folder(folder, below) as at:
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        except OSError as error:
            if error.errno in _NOT_OURS:
                return None
            raise
        try:
            return os.read(handle, _MOST).decode(errors="replace") if stat.S_ISREG(os.fstat(handle).st_mode) else None
        finally:
            os.close(handle)


@contextlib.contextmanager
def _told(folder: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostProblem(
            f"The volume at {folder} cannot be {done} on this host: {error.strerror or error}.",
            mend="let the user that runs canonq work below Docker's root, and look at the disk.",
        ) from error
