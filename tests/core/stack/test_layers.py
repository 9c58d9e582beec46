"""What an app keeps in its containers: what of that is told, and what of it was in a volume before."""

from __future__ import annotations

import pytest

from canonq.core.stack.census import Census, DatabaseCount, unmade
from canonq.core.stack.layers import InContainer, may_be_data, moved_out, told

UP = 1000.0


def kept(path: str, *, written: float = 0.0, engine: str = "", tables: tuple[str, ...] = ()) -> InContainer:
    return InContainer("app", path, 10, written, engine, tables)


@pytest.mark.parametrize(
    "path",
    ["/tmp/a.db", "/run/app.pid", "/etc/app/config.ini", "/var/log/a", "/usr/lib/python3/a.pyc", "/app/cache/a",
     "/root/.cache/a/b", "/app/__pycache__/a.pyc", "/app/tmp/sess_1", "/app/server.log", "/var/lib/nginx/tmp/a"],
)  # fmt: skip
def test_what_the_system_or_the_moment_has_is_no_data(path: str) -> None:
    assert not may_be_data(path)


@pytest.mark.parametrize("path", ["/app/notes.db", "/data/a", "/var/lib/app/a", "/srv/etc/a", "/root/notes"])
def test_whatever_else_may_be_data(path: str) -> None:
    assert may_be_data(path)


def test_databases_keys_and_what_was_written_while_it_was_up_are_told_and_what_an_entrypoint_made_is_not() -> None:
    there = [
        kept("/app/config.js"),
        kept("/app/upload/a.jpg", written=UP + 1),
        kept("/app/notes.db", engine="sqlite"),
        kept("/app/secret.key"),
    ]
    (note,) = told(there, UP)
    assert note == (
        "data-outside-volumes: 'app' keeps '/app/notes.db' (sqlite, 10 bytes), '/app/secret.key' (10 bytes), '/app/upload/a.jpg' "
        "(10 bytes) in its container, which is gone with it"
    )
    assert not list(told([kept("/app/config.js"), kept("/app/keyboard.json")], UP))


def test_files_of_a_volume_most_of_which_are_in_the_container_now_have_moved_out() -> None:
    base = {"data": {"config.ini", "notes/a", "notes/b"}}
    inside = [kept("/app/notes/a"), kept("/app/notes/b")]
    (what,) = moved_out(base, {}, {"data": {"config.ini"}}, [], inside)
    assert what.startswith("2 of 3 files of the volume 'data' are in 'app' itself, as '/app/notes/a'")
    assert moved_out(base, {}, {"data": {"config.ini", "notes/a", "notes/b"}}, [], inside) == [], "a copy"
    assert moved_out(base, {}, {"data": {"notes/a", "notes/b"}}, [], [kept("/etc2/config.ini")]) == [], (
        "a setting is made elsewhere"
    )
    assert moved_out(base, {}, {"data": set()}, [], []) == [], "it is nowhere, which is told as abandoned"


def test_an_sqlite_file_is_known_by_its_tables_wherever_it_is_and_whatever_its_name() -> None:
    base = {"app:forgejo.db": ("users", "repos", "keys")}
    inside = [kept("/app/gitea.sqlite", engine="sqlite", tables=("users", "repos", "more"))]
    (what,) = moved_out({}, base, {}, [], inside)
    assert what == "what app:forgejo.db is in a volume of the base is '/app/gitea.sqlite' (sqlite, 10 bytes) of 'app'"
    assert moved_out({}, base, {}, [("users", "repos", "keys")], inside) == [], (
        "the volume has it too: this one is something else"
    )
    assert moved_out({}, base, {}, [], [kept("/app/geo.sqlite", engine="sqlite", tables=("cities",))]) == []


def test_of_several_sqlite_files_with_a_table_in_common_each_is_known_by_all_of_its_tables_and_then_by_its_name() -> None:
    both = {"data.db": ("_migrations", "users", "posts"), "logs.db": ("_migrations", "_logs")}
    inside = [kept(f"/app/moved/{name}", engine="sqlite", tables=tables) for name, tables in both.items()]
    said = moved_out({}, {f"app:{name}": tables for name, tables in both.items()}, {}, [], inside)
    assert [("app:data.db" in one, "moved/data.db" in one, "moved/logs.db" in one) for one in said] == [
        (True, True, False),
        (False, False, True),
    ]
    same = [kept(f"/app/moved/{name}", engine="sqlite", tables=("notes",)) for name in ("a.db", "b.db")]
    (what,) = moved_out({}, {"app:files/b.db": ("notes",)}, {}, [], same)
    assert "'/app/moved/b.db'" in what


def tables(*names: str, kind: str = "postgres") -> Census:
    return Census(databases={"db": DatabaseCount(kind=kind, tables=dict.fromkeys(names, 1))})


@pytest.mark.parametrize(
    ("base", "upgraded", "fresh", "expected"),
    [
        (tables("a", "b"), tables("a", "b", "init"), tables("init"), ["'db' (without 2 of 2 tables, such as a)"]),
        (tables("a", "b", "c"), tables("a", "b", "c"), tables("a", "b"), []),
        (tables("a", "b"), tables("x", "y"), tables("x", "y"), []),
        (tables("a", "b"), tables("a", "b"), tables(), []),
        (tables("a", kind="sqlite"), tables("a", kind="sqlite"), tables("b", kind="sqlite"), []),
    ],
    ids=["an init script still fills it", "one is made when needed", "all are renamed", "empty is told elsewhere", "a file"],
)  # fmt: skip
def test_a_server_that_only_somebody_else_uses_still_is_abandoned(
    base: Census, upgraded: Census, fresh: Census, expected: list[str]
) -> None:
    assert unmade(base, upgraded, fresh, {}) == expected
    assert unmade(base, upgraded, fresh, {"db": "moved"}) == []
