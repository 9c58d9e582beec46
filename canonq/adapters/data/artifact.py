"""The artifact of a backup: tar files as Docker streams them, kept with a checksum and looked through, never unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from canonq.adapters.data.counting import SMALL, database, digest_of
from canonq.adapters.files import told
from canonq.core.stack.dumps import ENDS, closed_to_us, dump_problem, is_a_dump, is_text_of_a_dump, may_hold_rows
from canonq.core.stack.engines import BOLT, HEAD, SQLITE, of_file
from canonq.core.stack.witness import File

_CHUNK = 1 << 20
_ZEROS = bytes(64 << 10)  #: a piece of a file that has nothing in it
_GZIP = b"\x1f\x8b"
_END_OF_TAR = 1024  #: bytes
#: Ends of names of files that have others in them.
_ARCHIVES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".borg", ".age", ".gpg")
_MOST_CLOSED = 5  #: a folder may hold a million pictures


@dataclass
class Contents:
    """What a look through one tar file found."""

    files: int = 0
    bytes: int = 0  #: of the files' contents, as they lie in the archive
    found: set[str] = field(default_factory=set)  #: the marks that were in it
    problems: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)  #: what could not be looked into, and why; the first few
    rows_in: str = ""  #: the first of those, and why, in which a database may be saved

    def close(self, what: str, *, may_hold_rows: bool) -> None:
        """Note one that could not be looked into."""
        if len(self.closed) < _MOST_CLOSED:
            self.closed.append(what)
        if may_hold_rows and not self.rows_in:
            self.rows_in = what


def keep(stream: Iterable[bytes], path: Path) -> str:
    """Write a stream to `path`, durably; its sha256 as hex.

    Where the stream is nothing but zeros, the file has a hole: a sparse file of an app takes no more room here than there.
    """
    summed = hashlib.sha256()
    with told(path), path.open("xb") as file:
        for chunk in stream:
            summed.update(chunk)
            for piece in _pieces(chunk):
                if piece == _ZEROS[: len(piece)]:
                    file.seek(len(piece), os.SEEK_CUR)
                else:
                    file.write(piece)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    return summed.hexdigest()


def _pieces(chunk: bytes) -> Iterator[memoryview]:
    whole = memoryview(chunk)
    return (whole[start : start + len(_ZEROS)] for start in range(0, len(whole), len(_ZEROS)))


def without_top(path: Path) -> Iterator[bytes]:
    """A tar whose members lie in one folder, as a stream in which they lie at the top, hard links too."""
    made = _Taken()
    with (
        tarfile.open(path, mode="r:", encoding="utf-8", errors="surrogateescape") as given,
        tarfile.open(fileobj=made, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape") as out,
    ):
        for member in _each(given):
            member.name = member.name.partition("/")[2] or "."
            if member.islnk():
                member.linkname = member.linkname.partition("/")[2]
            # These would win over the names above.
            member.pax_headers = {key: text for key, text in member.pax_headers.items() if key not in ("path", "linkpath")}
            out.addfile(member, given.extractfile(member) if member.isreg() else None)
            yield made.take()
    yield made.take()


def _each(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a tar, none of which is kept: of a million empty files they would take gigabytes."""
    for member in archive:
        archive.members = []  # type: ignore[attr-defined]
        yield member


class _Taken(io.RawIOBase):
    """What is written into it can be taken out, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def look_through(
    path: Path,
    marks: Sequence[str],
    *,
    dumps: bool,
    hooks_since: float | None = None,
    in_time: Callable[[], object] = lambda: None,
) -> Contents:
    """Look for `marks` in the files of a tar; with `dumps`, judge those that are database dumps too, without it those alone which
    hooks have written and which begin as a text of one does: what an app writes meanwhile is not done yet.

    `hooks_since`: when the hooks began that write dumps, in seconds since 1970. `in_time` is asked at every mebibyte and raises
    when there is no more time: a packed file may be a thousand times as large as it looks.
    """
    contents = Contents()
    if not _has_its_end(path):
        contents.problems.append("the archive breaks off: its end is missing")
    try:
        with tarfile.open(path, mode="r:") as archive:
            for member in _each(archive):
                if member.isreg():
                    contents.files += 1
                    contents.bytes += member.size
                    file = archive.extractfile(member)
                    assert file is not None  # a regular file
                    by_a_hook = hooks_since is not None and int(member.mtime) >= int(hooks_since)
                    judged = is_a_dump(member.name, member.size, alone="/" not in member.name, by_a_hook=by_a_hook)
                    judges = partial(_is_judged, asked=judged if dumps else None, by_a_hook=by_a_hook)
                    _look(member.name, file, marks, contents, judges, by_a_hook, in_time)
    except (tarfile.TarError, OSError, EOFError) as error:
        contents.problems.append(f"the archive cannot be read to its end: {error}")
    return contents


def _is_judged(head: bytes, *, asked: bool | None, by_a_hook: bool) -> bool:
    """Whether a file has to be a whole dump; `asked`: None where that is told by its beginning."""
    return by_a_hook and is_text_of_a_dump(head) if asked is None else asked


@dataclass
class Members:
    """What is in the files of a tar."""

    files: set[File] = field(default_factory=set)
    by_hooks: set[File] = field(default_factory=set)  #: of those, what was not there before, or was written since the hooks began
    packed: str = ""  #: of one which hooks have made that may have others in it: an archive, a database that canonq cannot read


def members(
    path: Path, names: Sequence[str], hooks_since: float | None = None, was_there: Callable[[str], bool] = lambda _: False
) -> Members:
    """What is in the files of a tar, as far as that can be read. No list of their names is kept: there may be millions.

    `names`: see `counting.contents`; `hooks_since`: when they began, seconds since 1970; `was_there`: whether a file of that
    name, without the tar's top, was there before.
    """
    found = Members()
    with contextlib.suppress(tarfile.TarError, OSError, EOFError), tarfile.open(path, mode="r:") as archive:
        for member in _each(archive):
            if not member.isreg():
                continue
            file = archive.extractfile(member)
            assert file is not None  # a regular file
            text = file.read(SMALL)
            kind = of_file(member.name.rpartition("/")[2], text[:HEAD], member.size)
            new = hooks_since is not None and int(member.mtime) >= int(hooks_since)
            if new:
                has_others = member.name.lower().endswith(_ARCHIVES) and not _is_one_packed(text)
                found.packed = found.packed or (member.name if has_others or kind not in ("", SQLITE) else "")
            if kind == BOLT:
                one = database(kind, member.size, partial(_at, file))
            else:
                one = File(member.size, digest_of(text, names) if member.size <= SMALL else "")
            found.files.add(one)
            if new or not was_there(member.name.removeprefix("./").partition("/")[2]):
                found.by_hooks.add(one)
    return found


def _is_one_packed(text: bytes) -> bool:
    """Whether what is packed with gzip is one file, such as a dump, and no tar of many."""
    if not text.startswith(_GZIP):
        return False
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj(wbits=31).decompress(text, 512)[257:262] != b"ustar"
    return False


def _at(file: IO[bytes], size: int, at: int) -> bytes:
    file.seek(at)
    return file.read(size)


def _has_its_end(path: Path) -> bool:
    """Whether a tar ends as tars do, with two empty blocks; a reader takes a cut-off header for the end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END_OF_TAR))
        return size % 512 == 0 and file.read() == bytes(_END_OF_TAR)


def _look(
    name: str,
    file: IO[bytes],
    marks: Sequence[str],
    contents: Contents,
    judges: Callable[[bytes], bool],
    by_a_hook: bool,
    in_time: Callable[[], object],
) -> None:
    head, tail, size, last = b"", b"", 0, b""
    wanted = [mark.encode() for mark in marks if mark not in contents.found]
    longest = max((len(mark) for mark in wanted), default=1)
    try:
        for chunk in _unpacked(file):
            in_time()
            size += len(chunk)
            head = head if len(head) >= ENDS else (head + chunk)[:ENDS]
            tail = (tail + chunk)[-ENDS:]
            window = last + chunk
            contents.found |= {mark.decode() for mark in wanted if mark in window}
            last = window[-longest:]
    except (zlib.error, EOFError) as error:
        if judges(head):
            contents.problems.append(f"{name} is packed and breaks off: {error}")
        else:
            contents.close(f"{name} is packed and breaks off", may_hold_rows=by_a_hook)
        return
    if closed := closed_to_us(head):
        contents.close(f"{name} is {closed}", may_hold_rows=may_hold_rows(head, by_a_hook=by_a_hook))
    if judges(head) and (problem := dump_problem(head, tail, size)):
        contents.problems.append(f"{name} {problem}")


def _unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """The file's bytes, gzip taken off. EOFError when the gzip stream has no end."""
    first = file.read(_CHUNK)
    if not first.startswith(_GZIP):
        while first:
            yield first
            first = file.read(_CHUNK)
        return
    unpacker = zlib.decompressobj(wbits=31)
    while first:
        data = first
        while data:
            yield unpacker.decompress(data, _CHUNK)
            data = unpacker.unconsumed_tail or b""
            if unpacker.eof:
                data = unpacker.unused_data
                if not data.startswith(_GZIP):
                    break
                unpacker = zlib.decompressobj(wbits=31)  # gzip files may be strung together
        first = file.read(_CHUNK)
    if not unpacker.eof:
        raise EOFError("its gzip stream is cut off")
