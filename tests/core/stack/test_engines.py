"""Databases by the looks of their files."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from canonq.core.stack.engines import HEAD, is_index, is_of_server, of_file, of_folder

NOISE = bytes(range(120, 152))


def test_a_file_that_sqlite_writes_is_known_whatever_its_name(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "murmur.store").executescript("CREATE TABLE t (a)")
    content = (tmp_path / "murmur.store").read_bytes()
    assert of_file("murmur.store", content[:HEAD], len(content)) == "sqlite"


@pytest.mark.parametrize(
    ("name", "head", "size", "expected"),
    [
        ("data.mdb", bytes(16) + b"\xde\xc0\xef\xbe" + bytes(12), 32768, "lmdb"),
        ("vault", bytes(16) + b"\xed\xda\x0c\xed" + bytes(12), 32768, "bolt"),
        ("app.mv.db", b"H:2,block:3,blockSize:1000", 8192, "h2"),
        ("secrets.db", NOISE, 4096, "encrypted file"),
        ("secrets.db", NOISE, 4097, ""),
        ("photo.jpg", NOISE, 4096, ""),
        ("notes.db", b"[config]\nname = something or other"[:HEAD], 4096, ""),
        ("empty.db", b"", 0, ""),
    ],
)
def test_a_file_is_told_by_its_first_bytes(name: str, head: bytes, size: int, expected: str) -> None:
    assert of_file(name, head, size) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["schema.DAT", "LATEST.LOG", "user.DCD"], "mnesia"),
        (["CURRENT", "MANIFEST-000004", "000005.ldb", "LOCK"], "leveldb"),
        (["CURRENT", "MANIFEST-000004", "OPTIONS-000007", "000005.sst"], "rocksdb"),
        (["KEYREGISTRY", "000000.vlog", "MANIFEST"], "badger"),
        (["CURRENT", "notes.txt"], ""),
        ([], ""),
    ],
)
def test_a_folder_is_told_by_the_names_in_it(names: list[str], expected: str) -> None:
    assert of_folder(names) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["root.bolt", "00000000000a.zap", "00000000000b.zap"], True),
        (["root.bolt"], True),
        (["segments_2", "_0.cfs", "_0.cfe", "_0.si", "write.lock"], True),
        (["iamglass", "postlist.glass", "docdata.glass"], True),
        (["root.bolt", "vault.bolt"], False),
        (["segments_2", "notes.txt"], False),
        ([], False),
    ],
)
def test_a_full_text_index_is_told_by_the_names_in_it(names: list[str], expected: bool) -> None:
    assert is_index(names) == expected


def test_the_folder_of_a_server_is_told_by_what_is_in_it() -> None:
    assert is_of_server(["base", "global", "pg_wal"], ["PG_VERSION", "postgresql.conf"])
    assert is_of_server(["mysql", "sys"], ["ibdata1", "ib_logfile0"])
    assert not is_of_server(["pictures"], ["PG_VERSION", "dump.rdb"])
