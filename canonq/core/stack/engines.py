"""Which database a file or folder is of, by what all of its kind begin with or have in them. Pure."""

from __future__ import annotations

from collections.abc import Collection

SQLITE, ENCRYPTED = "sqlite", "encrypted file"
WIREDTIGER = "wiredtiger"  #: MongoDB's own
BOLT = "bolt"  #: how much is in one is known, as a file of it has room beside that
HEAD = 32  #: bytes of a file by which its kind is told

#: Kind -> where its mark is, and what it is.
_MARKS: tuple[tuple[str, int, bytes], ...] = (
    (SQLITE, 0, b"SQLite format 3\0"),
    ("lmdb", 16, b"\xde\xc0\xef\xbe"),
    (BOLT, 16, b"\xed\xda\x0c\xed"),
    ("duckdb", 8, b"DUCK"),
    ("h2", 0, b"H:2,"),
    ("realm", 16, b"T-DB"),
    ("tdb", 0, b"TDB file\n"),
    ("gdbm", 0, b"\xcf\x9a\x57\x13"),
    ("berkeley db", 12, b"\x62\x31\x05\x00"),
    ("berkeley db", 12, b"\x61\x15\x06\x00"),
)  # fmt: skip
_ENCRYPTED_NAMES = (".db", ".db3", ".sqlite", ".sqlite3", ".sqlcipher")
_OF_LUCENE = (".cfs", ".cfe", ".si", ".fnm", ".fdt")
_PAGE, _DISTINCT = 1024, 12


def of_file(name: str, head: bytes, size: int) -> str:
    """The kind of database that a file is, by its first bytes; empty where it is none that is known."""
    found = next((kind for kind, at, mark in _MARKS if head[at : at + len(mark)] == mark), "")
    if found or not name.lower().endswith(_ENCRYPTED_NAMES):
        return found
    # Whole pages, and nothing in them that looks like anything.
    noise = len(set(head[:16])) >= _DISTINCT and any(byte >= 128 for byte in head[:16]) and size >= _PAGE and not size % _PAGE
    return ENCRYPTED if noise else ""


def is_index(names: Collection[str]) -> bool:
    """Whether a folder is one of a full-text index (Bleve's, Lucene's, Xapian's), which is made anew from what it is of."""
    there = set(names)
    if "root.bolt" in there and all(name.endswith(".zap") for name in there - {"root.bolt"}):
        return True
    if any(name.startswith("segments_") for name in there):
        return any(name.endswith(_OF_LUCENE) for name in there)
    return {"postlist.glass", "termlist.glass"} <= there or "iamglass" in there


def of_folder(names: Collection[str]) -> str:
    """The kind of database that a folder is, by the names of its files; empty where it is none that is known."""
    there = set(names)
    if "schema.DAT" in there or {"LATEST.LOG", "DECISION_TAB.LOG"} <= there:
        return "mnesia"
    if "CURRENT" in there and any(name.startswith("MANIFEST-") for name in there):
        return "rocksdb" if any(name.startswith("OPTIONS-") for name in there) else "leveldb"
    if "KEYREGISTRY" in there and any(name.endswith(".vlog") for name in there):
        return "badger"
    if "WiredTiger.wt" in there:
        return WIREDTIGER
    return ""


def is_of_server(folders: Collection[str], names: Collection[str]) -> bool:
    """Whether a folder is the one in which a database server that canonq asks has its data, by what is in it."""
    return ("PG_VERSION" in names and "base" in folders) or ("ibdata1" in names and "mysql" in folders)
