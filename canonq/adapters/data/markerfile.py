"""The marker in a volume, and its ledger of promotions: files in its root, written and read on the host.

A volume may be mounted read-only, or only by a service that has run and ended, and its image may have no shell. What lies in a
volume is the app's doing: links are not followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from canonq.core.errors import HostProblem

OWN = ".canonq-"  #: how canonq's own files in a volume begin
MARKER, LEDGER = f"{OWN}marker", f"{OWN}ledger"
_MOST = 65536


def write(folder: Path, text: str, name: str = MARKER) -> None:
    """Write a volume's marker, in the place of one that is there. It belongs to whoever the volume's root belongs to."""
    new = folder / f"{name}.new"
    with _told(folder, "written to"):
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o444)
        with os.fdopen(handle, "wb") as file:
            root = folder.stat()
            with contextlib.suppress(PermissionError):  # only root may give files away
                os.fchown(file.fileno(), root.st_uid, root.st_gid)
            os.fchmod(file.fileno(), 0o444)
            file.write(text.encode())
        os.replace(new, folder / name)


def is_folder(root: Path, path: str) -> bool:
    """Whether a path below a volume's root is a folder, no link being followed on the way."""
    at = root
    for name in path.split("/"):
        at = at / name
        try:
            if name in ("", ".", "..") or not stat.S_ISDIR(at.lstat().st_mode):
                return False
        except OSError:
            return False
    return True


def remove(folder: Path) -> None:
    """Remove a volume's marker; not an error when there is none."""
    with _told(folder, "written to"):
        (folder / MARKER).unlink(missing_ok=True)


def enter(folder: Path, line: str) -> None:
    """Add a line to a volume's ledger; of a long one the oldest lines go."""
    kept = "".join(f"{one}\n" for one in (*entered(folder), line))
    write(folder, kept if len(kept) <= _MOST else kept[-_MOST:].partition("\n")[2], LEDGER)


def entered(folder: Path) -> list[str]:
    """The lines of a volume's ledger."""
    return (read(folder, LEDGER) or "").splitlines()


def read(folder: Path, name: str = MARKER) -> str | None:
    """What a volume's marker says; None when there is none. HostProblem when that cannot be told."""
    with _told(folder, "read"):
        try:
            handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link: not canonq's
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
