"""Whether a dump is whole, told from its beginning and its end. Pure.

A hook that exits with 0 proves nothing about what it wrote: the usual formats all say at their end that it is the end.
"""

from __future__ import annotations

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
