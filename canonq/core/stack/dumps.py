"""Whether a dump is whole, told from its beginning and its end. Pure.

A hook that exits with 0 proves nothing about what it wrote: the usual formats all say at their end that it is the end.
"""

from __future__ import annotations

from collections.abc import Sequence

from canonq.core.text import shown

#: Bytes of the beginning and of the end that the rules below need at most.
ENDS = 4096

#: (what stands at the beginning, what must then stand near the end, name of the format)
_TEXTS: tuple[tuple[bytes, tuple[bytes, ...], str], ...] = (
    (b"-- PostgreSQL database dump", (b"-- PostgreSQL database dump complete",), "pg_dump"),
    (b"-- PostgreSQL database cluster dump", (b"-- PostgreSQL database cluster dump complete",), "pg_dumpall"),
    (b"-- MySQL dump", (b"-- Dump completed",), "mysqldump"),
    (b"-- MariaDB dump", (b"-- Dump completed",), "mariadb-dump"),
    (b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;", (b"COMMIT;",), "sqlite3 .dump"),
)
_ZIP, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"
_SQLITE = b"SQLite format 3\x00"
_UTF8, _EMPTY = b"\0\0\0\x01", bytes(4)  #: how the texts of an SQLite file are written, in its head
#: What is packed, sealed or coded in a way that canonq does not look into: how it begins, and what it is.
_CLOSED: tuple[tuple[bytes, str], ...] = (
    (b"PGDMP", "a dump in pg_dump's custom format"),
    (b"PGCOPY\n", "a table in PostgreSQL's binary format"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"\xfd7zXZ\x00", "packed with xz"),
    (b"BZh", "packed with bzip2"),
    (b"\x04\x22\x4d\x18", "packed with lz4"),
    (b"\x1f\x9d", "packed with compress"),
    (b"\x89LZO\x00", "packed with lzop"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (_ZIP, "a zip archive"),
    (b"-----BEGIN PGP MESSAGE", "sealed with PGP"),
    (b"age-encryption.org/", "sealed with age"),
    (b"-----BEGIN AGE ENCRYPTED FILE", "sealed with age"),
    (b"Salted__", "sealed with openssl"),
)
_NAMES = (".sql", ".dump", ".dmp", ".pgdump", ".bak", ".archive", ".gz", ".zst", ".xz", ".bz2", ".zip", ".tar", ".tgz")


def closed_to_us(head: bytes) -> str | None:
    """What a file is that text cannot be looked for in, told from its beginning (unpacked, if it was gzip's); else None."""
    for begins, what in _CLOSED:
        if head.startswith(begins):
            return what
    if b"\0" in head:
        return "no text"
    # A character may be cut in two where the beginning ends.
    return None if head[:-4].decode(errors="replace").count("\ufffd") * 10 <= len(head) else "no text"


def may_hold_rows(head: bytes, *, by_a_hook: bool) -> bool:
    """Whether what is closed to us may be where a database is saved: a dump's own form, or what a pre-hook has just written.

    Whatever else lies beside it is the app's: pictures, archives that people bring. In a copy of an SQLite file rows can be seen.
    """
    if head.startswith((b"PGDMP", b"PGCOPY\n")):
        return True
    return by_a_hook and not (head.startswith(_SQLITE) and head[56:60] in (_UTF8, _EMPTY))


def is_a_dump(name: str, size: int, *, alone: bool, by_a_hook: bool) -> bool:
    """Whether a file of a backup is to be judged as a database's dump.

    `alone`: the label names this very file. `by_a_hook`: it was written while a pre-hook ran. Whatever else lies in a folder is
    what the app or its users put there: an empty file or half an archive says nothing about the backup.
    """
    return alone or (by_a_hook and (size > 0 or name.lower().endswith(_NAMES)))


def is_text_of_a_dump(head: bytes) -> bool:
    """Whether a file, unpacked if it was packed, begins as the text of a database's dump does."""
    return any(begins in head[:512] for begins, _, _ in _TEXTS)


def where_expected(found: Sequence[bool], closed: Sequence[bool]) -> list[bool]:
    """In which of the parts that a service backs up what is in its database must be, one answer for each part.

    `found`: whether it is there; `closed`: whether something in the part cannot be looked into. One of the parts is enough:
    beside a dump there may be configuration. Where it may be in what cannot be looked into, only the restore can tell.
    """
    if any(found):
        return list(found)
    return [not any(closed)] * len(found)


def dump_problem(head: bytes, tail: bytes, size: int) -> str | None:
    """Why a dump of `size` bytes cannot be whole; None when nothing speaks against it.

    `head` and `tail` are its first and last bytes, up to ENDS each, unpacked if it was packed.
    """
    if size == 0:
        return "is empty"
    for begins, ends, name in _TEXTS:
        if begins in head[:512] and not any(end in tail for end in ends):
            return f"is a {name} dump that breaks off: its last line is {shown(_last_line(tail), 82)}"
    if head.startswith(_ZIP) and _ZIP_END not in tail:
        return "is a zip archive without its directory: it breaks off"
    if head[257:262] == b"ustar" and size % 512:
        return "is a tar archive that breaks off in the middle of a block"
    if head.startswith(_SQLITE) and len(head) >= 32:
        page = int.from_bytes(head[16:18], "big") or 1
        page = 65536 if page == 1 else page
        pages = int.from_bytes(head[28:32], "big")
        if pages and size < page * pages:
            return f"is an SQLite database of {page * pages} bytes of which {size} are there"
    return None


def _last_line(tail: bytes) -> str:
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:80] if lines else ""
