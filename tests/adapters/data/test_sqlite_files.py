"""SQLite files as a hostile app may make them: they are opened on the host, where none of the app's limits count."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from canonq.adapters.data.counting import ask_sqlite

NAME = "app.sqlite"
NESTED = "hex(zeroblob(1000000))"


@pytest.fixture
def volume(tmp_path: Path) -> Callable[..., Path]:
    def made(*statements: str) -> Path:
        with closing(sqlite3.connect(tmp_path / NAME)) as file, file:
            for statement in statements:
                file.execute(statement)
        return tmp_path

    return made


def rows_of(volume: Path, table: str) -> int:
    with closing(sqlite3.connect(volume / NAME)) as file:
        return int(file.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.parametrize(
    ("what", "table", "written"),
    [
        ("write", "canonq_marker", 1),  # the table is made anew, and the trigger goes with the old one
        ("enter", "canonq_ledger", 0),
    ],
)
def test_a_trigger_on_a_table_that_is_written_to_does_nothing(
    volume: Callable[..., Path], what: str, table: str, written: int
) -> None:
    folder = volume(
        f"CREATE TABLE {table} (text TEXT)",
        "CREATE TABLE taken (text TEXT)",
        f"CREATE TRIGGER more AFTER INSERT ON {table} BEGIN INSERT INTO taken VALUES ({NESTED}); END",
    )
    assert ("why" not in ask_sqlite(folder, what, [NAME], "a mark")[NAME]) == bool(written)
    assert (rows_of(folder, "taken"), rows_of(folder, table)) == (0, written)


def test_a_view_in_the_place_of_the_marker_does_nothing(volume: Callable[..., Path]) -> None:
    folder = volume(
        "CREATE TABLE taken (text TEXT)",
        f"CREATE VIEW canonq_marker AS SELECT {NESTED} AS text",
        "CREATE TRIGGER more INSTEAD OF INSERT ON canonq_marker BEGIN INSERT INTO taken VALUES ('x'); END",
    )
    assert "why" in ask_sqlite(folder, "write", [NAME], "a mark")[NAME]
    assert rows_of(folder, "taken") == 0
    assert ask_sqlite(folder, "read", [NAME]) == {NAME: {"texts": []}}


def test_a_marker_without_end_is_not_read_whole(volume: Callable[..., Path]) -> None:
    folder = volume(
        "CREATE TABLE canonq_marker (text TEXT)",
        "INSERT INTO canonq_marker VALUES (CAST(zeroblob(50000000) AS TEXT))",
    )
    assert "why" in ask_sqlite(folder, "read", [NAME])[NAME]


def test_what_a_file_says_has_an_end_and_the_next_file_is_heard(volume: Callable[..., Path]) -> None:
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) SELECT printf('%.1000c', 'x') FROM n"
    folder = volume("CREATE TABLE canonq_ledger (text TEXT)", f"INSERT INTO canonq_ledger {rows}")
    with closing(sqlite3.connect(folder / "other.sqlite")) as file, file:
        file.execute("CREATE TABLE canonq_ledger (text TEXT)")
        file.execute("INSERT INTO canonq_ledger VALUES ('a mark')")
    found = ask_sqlite(folder, "entered", [NAME, "other.sqlite"])
    assert "why" in found[NAME]
    assert found["other.sqlite"] == {"texts": ["a mark"]}


def test_large_rows_of_an_app_are_counted_and_marked_all_the_same(volume: Callable[..., Path]) -> None:
    folder = volume("CREATE TABLE photos (it BLOB)", "INSERT INTO photos VALUES (zeroblob(9000000))")
    assert ask_sqlite(folder, "count", [NAME]) == {NAME: {"tables": {"photos": 1}}}
    assert ask_sqlite(folder, "write", [NAME], "a mark") == {NAME: {"done": True}}
    assert ask_sqlite(folder, "read", [NAME]) == {NAME: {"texts": ["a mark"]}}
