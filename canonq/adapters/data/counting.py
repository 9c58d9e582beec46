"""What lies in a volume, counted on the host: files and bytes, and the SQLite files that are among them.

What lies there is the app's doing: no link is followed, and SQLite files are opened by a process that sees the volume alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from canonq.adapters.data import boltfile, inside, sqlitefile
from canonq.adapters.data.markerfile import OWN
from canonq.adapters.processes.programs import plain_environment, run
from canonq.core.errors import CanonqError, TimedOut
from canonq.core.jsontext import table_of
from canonq.core.stack.engines import BOLT, HEAD, SQLITE, is_index, is_of_server, of_file, of_folder
from canonq.core.stack.witness import File

_PASSING = (".pid", ".lock", ".sock", ".tmp", ".swp")  #: of what runs, and gone with it
#: Ends of names that are not looked into: an app's own code and pictures are most of many volumes.
_NO_DATABASES = (
    ".php", ".js", ".mjs", ".ts", ".css", ".scss", ".html", ".htm", ".map", ".json", ".xml", ".svg", ".png", ".jpg", ".jpeg",
    ".gif", ".webp", ".ico", ".woff", ".woff2", ".ttf", ".otf", ".py", ".pyc", ".rb", ".pl", ".go", ".java", ".class", ".jar",
    ".so", ".md", ".txt", ".rst", ".yml", ".yaml", ".toml", ".ini", ".conf", ".cfg", ".mo", ".po", ".sh", ".gz", ".zip", ".xz",
    ".zst", ".bz2", ".tar", ".pdf", ".mp3", ".mp4", ".ogg", ".wav", ".webm", ".eml", ".ics", ".vcf", ".sql", ".log", ".pem",
)  # fmt: skip
_BESIDE = ("-wal", "-shm", "-journal")
_MOST_SQLITE = 50  #: files of one volume; an app with more keeps its users' files
_MOST_PATHS = 50_000  #: of one volume that are looked at by their names
SMALL, _MOST_READ = 256 << 10, 64 << 20  #: bytes of a file that is read whole; of all of a volume's that are read at once
_TIMEOUT = 60.0  #: seconds for all SQLite files of a volume


@dataclass(frozen=True)
class InVolume:
    """What is in one volume."""

    files: int
    bytes: int
    sqlite: tuple[str, ...]  #: paths below its root
    engines: tuple[str, ...] = ()  #: kinds of other databases that lie in it


def count(folder: Path) -> InVolume:
    """Count a volume's plain files, but for SQLite's, those of servers that canonq asks, and canonq's own."""
    files = size = 0
    found: list[str] = []
    engines: set[str] = set()
    for below, _, names, handle in _walk(folder):
        engines.add(of_folder(names))
        of_an_index = is_index(names)
        beside = {name.removesuffix(end) for name in names for end in _BESIDE if name.endswith(end)}
        for name in names:
            if name.startswith(OWN) or name.endswith(_PASSING):
                continue
            try:
                about = os.stat(name, dir_fd=handle, follow_symlinks=False)
            except OSError:  # gone meanwhile
                continue
            if not stat.S_ISREG(about.st_mode) or any(name == f"{one}{end}" for one in beside for end in _BESIDE):
                continue
            kind = of_file(name, _head(name, handle), about.st_size) if _may_be(name) and about.st_size >= 512 else ""
            if kind == SQLITE:
                found.append(os.path.join(below, name))
                continue
            engines.add(kind if not of_an_index else "")
            files, size = files + 1, size + about.st_size
    return InVolume(files, size, tuple(sorted(found)[:_MOST_SQLITE]), tuple(sorted(engines - {""})))


def _walk(folder: Path) -> Iterator[tuple[str, list[str], list[str], int]]:
    """A volume's folders, but for those of servers: what is in them is counted by its tables."""
    for below, folders, names, handle in inside.walk(folder):
        if is_of_server(folders, names):
            folders.clear()
        else:
            yield below, folders, names, handle


def paths(folder: Path) -> list[str]:
    """Paths below a volume's root: of its plain files, but for canonq's own, and of its folders with a / at their end."""
    found: list[str] = []
    for below, folders, names, handle in _walk(folder):
        found += [os.path.join(below, name, "") for name in folders]
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                if not name.startswith(OWN) and stat.S_ISREG(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    found.append(os.path.join(below, name))
        if len(found) > _MOST_PATHS:
            break
    return found[:_MOST_PATHS]


def contents(folder: Path, known: dict[tuple[int, ...], str], names: Sequence[str]) -> dict[str, File]:
    """Path below a volume's root -> what is in each of its plain files, in time that large volumes allow; and each database that
    canonq cannot read, by its size (`.` where the volume is one), or that of what is in it.

    `known`: digests of files that were not written to since; it is added to. `names`: those that the app has in this place alone,
    the longest first, which are read as if they were the same everywhere.
    """
    found: dict[str, File] = {}
    room = _MOST_READ
    for below, folders, there, handle in _walk(folder):
        if is_index(there):
            continue
        if kind := of_folder(there):
            folders.clear()
            found[below or "."] = File(_size_of(there, handle), "", kind)
            continue
        beside = {name.removesuffix(end) for name in there for end in _BESIDE if name.endswith(end)}
        for name in there:
            if name.startswith(OWN) or any(name == f"{one}{end}" for one in beside for end in _BESIDE):
                continue
            with contextlib.suppress(OSError):  # gone meanwhile
                about = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if not stat.S_ISREG(about.st_mode):
                    continue
                kind = of_file(name, _head(name, handle), about.st_size) if _may_be(name) and about.st_size >= 512 else ""
                if kind:
                    if kind != SQLITE:
                        with _opened(name, handle) as file:
                            found[os.path.join(below, name)] = database(kind, about.st_size, partial(os.pread, file))
                    continue
                digest = ""
                if about.st_size <= min(SMALL, room):
                    mark = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
                    if (digest := known.get(mark, "")) == "":
                        room -= about.st_size
                        known[mark] = digest = _digest(name, handle, names)
                found[os.path.join(below, name)] = File(about.st_size, digest)
        if len(found) > _MOST_PATHS:
            break
    return found


def database(kind: str, size: int, read: boltfile.Read) -> File:
    """A file that is a database of a kind which canonq cannot ask, by what is known of it."""
    found = boltfile.contents(read) if kind == BOLT else None
    return File(*found, kind) if found is not None else File(size, "", kind)


def _size_of(names: Sequence[str], at: int) -> int:
    size = 0
    for name in names:
        with contextlib.suppress(OSError):  # gone meanwhile
            size += os.stat(name, dir_fd=at, follow_symlinks=False).st_size
    return size


def _digest(name: str, at: int, names: Sequence[str]) -> str:
    with _opened(name, at) as handle, os.fdopen(handle, "rb", closefd=False) as file:
        return digest_of(file.read(SMALL), names)


@contextlib.contextmanager
def _opened(name: str, at: int) -> Iterator[int]:
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    try:
        yield handle
    finally:
        os.close(handle)


def digest_of(text: bytes, names: Sequence[str]) -> str:
    """A short digest of what is in a file, as if the app had the same names everywhere."""
    for number, one in enumerate(names):
        text = text.replace(one.encode(), b"\0%d" % number)
    return hashlib.blake2b(text, digest_size=12).hexdigest()


@dataclass(frozen=True)
class About:
    """One plain file."""

    bytes: int
    written: float  #: seconds since 1970
    kind: str  #: of the database that it is, if any


def look(root: Path, path: str) -> About | None:
    """Look at a file below a folder of an app's, no link being followed; None where it is no plain file."""
    *folders, name = path.strip("/").split("/")
    at: list[int] = []
    try:
        at.append(os.open(root, os.O_PATH | os.O_DIRECTORY))
        for folder in folders:
            at.append(os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at[-1]))
        found = os.stat(name, dir_fd=at[-1], follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            return None
        kind = of_file(name, _head(name, at[-1]), found.st_size) if _may_be(name) else ""
        return About(found.st_size, found.st_mtime, kind)
    except OSError:  # gone meanwhile, or its container is
        return None
    finally:
        for handle in at:
            os.close(handle)


def _may_be(name: str) -> bool:
    """Whether a file may be a database: most of a volume is often the app's own code and pictures, which need not be opened."""
    return not name.lower().endswith(_NO_DATABASES)


def _head(name: str, at: int) -> bytes:
    try:
        with _opened(name, at) as handle:
            return os.read(handle, HEAD)
    except OSError:
        return b""


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


def texts_in_sqlite(folder: Path, what: str) -> set[str]:
    """What all SQLite files of a volume have of canonq's: of its markers (`read`), or of its ledger (`entered`)."""
    return {text for said in ask_sqlite(folder, what, count(folder).sqlite).values() for text in texts_of(said)}


def texts_of(said: Mapping[str, object]) -> set[str]:
    """What one file said that it has of canonq's."""
    texts = said.get("texts")
    return set(map(str, texts)) if isinstance(texts, list) else set()
