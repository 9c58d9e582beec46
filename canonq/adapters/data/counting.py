"""What lies in a volume, counted on the host: files and bytes, and the SQLite files that are among them.

What lies there is the app's doing: no link is followed, and SQLite files are opened by a process that sees the volume alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from canonq.adapters.data import sqlitefile
from canonq.adapters.data.markerfile import OWN
from canonq.adapters.processes.programs import plain_environment, run
from canonq.core.errors import CanonqError, TimedOut
from canonq.core.jsontext import table_of

_MAGIC = b"SQLite format 3\0"
_PASSING = (".pid", ".lock", ".sock", ".tmp", ".swp")  #: of what runs, and gone with it
_BESIDE = ("-wal", "-shm", "-journal")
_MOST_SQLITE = 50  #: files of one volume; an app with more keeps its users' files
_MOST_PATHS = 50_000  #: of one volume that are looked at by their names
_TIMEOUT = 60.0  #: seconds for all SQLite files of a volume


@dataclass(frozen=True)
class InVolume:
    """What is in one volume."""

    files: int
    bytes: int
    sqlite: tuple[str, ...]  #: paths below its root


def count(folder: Path) -> InVolume:
    """Count a volume's plain files, but for SQLite's and canonq's own."""
    files = size = 0
    found: list[str] = []
    for at, _, names, inside in os.fwalk(folder, follow_symlinks=False, onerror=lambda _: None):
        beside = {name.removesuffix(end) for name in names for end in _BESIDE if name.endswith(end)}
        for name in names:
            if name.startswith(OWN) or name.endswith(_PASSING):
                continue
            try:
                about = os.stat(name, dir_fd=inside, follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            if not stat.S_ISREG(about.st_mode) or any(name == f"{one}{end}" for one in beside for end in _BESIDE):
                continue
            if _may_be(name, beside) and about.st_size >= 512 and _is_sqlite(name, inside):
                found.append(os.path.relpath(os.path.join(at, name), folder))
                continue
            files, size = files + 1, size + about.st_size
    return InVolume(files, size, tuple(sorted(found)[:_MOST_SQLITE]))


def paths(folder: Path) -> list[str]:
    """Paths below a volume's root: of its plain files, but for canonq's own, and of its folders with a / at their end."""
    found: list[str] = []
    for at, folders, names, inside in os.fwalk(folder, follow_symlinks=False, onerror=lambda _: None):
        below = os.path.relpath(at, folder)
        of = "" if below == "." else f"{below}/"
        found += [f"{of}{name}/" for name in folders]
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                if not name.startswith(OWN) and stat.S_ISREG(os.stat(name, dir_fd=inside, follow_symlinks=False).st_mode):
                    found.append(f"{of}{name}")
        if len(found) > _MOST_PATHS:
            break
    return found[:_MOST_PATHS]


def _may_be(name: str, beside: set[str]) -> bool:
    return name in beside or any(word in name.lower() for word in ("db", "sql", "data"))


def _is_sqlite(name: str, inside: int) -> bool:
    try:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside)
    except OSError:
        return False
    try:
        return os.read(handle, len(_MAGIC)) == _MAGIC
    finally:
        os.close(handle)


def opened(folder: Path, paths: Sequence[str]) -> list[str]:
    """Those of a volume's files that some process has open now, as far as this one may see that."""
    wanted = {}
    for path in paths:
        with contextlib.suppress(OSError):
            about = os.stat(folder / path, follow_symlinks=False)
            wanted[about.st_dev, about.st_ino] = path
    found = set()
    for fds in Path("/proc").glob("[0-9]*/fd") if wanted else ():
        with contextlib.suppress(OSError):
            for fd in os.scandir(fds):
                with contextlib.suppress(OSError):
                    about = os.stat(fd.path)
                    found.add(wanted.get((about.st_dev, about.st_ino), ""))
    return sorted(found - {""})


def ask_sqlite(folder: Path, what: str, paths: Sequence[str], text: str = "") -> dict[str, dict[str, object]]:
    """Ask each SQLite file of a volume (see `sqlitefile`); path -> its answer, which has `why` where it could not be asked."""
    if not paths:
        return {}
    command = [sys.executable, "-I", "-S", str(Path(sqlitefile.__file__)), str(folder), what, text, *paths]
    try:
        ended = run(command, timeout=_TIMEOUT, env=plain_environment())
    except TimedOut as error:
        return {path: {"why": error.what} for path in paths}
    try:
        return dict(table_of(ended.output))
    except ValueError as error:
        raise CanonqError(f"The SQLite files of {folder} could not be looked at: {ended.tail}") from error
