"""What counts as lost between two counts of an app's data."""

from __future__ import annotations

import pytest

from canonq.core.stack.census import (
    MOST_ROWS,
    Census,
    DatabaseCount,
    SqliteFile,
    VolumeCount,
    abandoned,
    begun_beside,
    begun_empty,
    carried_over,
    filled,
    lost,
    put_aside,
    uncounted,
    unknown,
    users_of,
)


def volumes(**files: int) -> Census:
    return Census(volumes={key: VolumeCount(files=count, bytes=count * 10) for key, count in files.items()})


def tables(service: str = "db", kind: str = "mariadb", **rows: int) -> Census:
    return Census(databases={service: DatabaseCount(kind=kind, tables=rows)})


SAME = tables(posts=10, users=2)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (volumes(a=4), volumes(a=4), []),
        (volumes(a=4), volumes(a=2), []),
        (volumes(a=4), volumes(a=1), ["the volume a has 1 file with 10 bytes; it had 4 files with 40 bytes"]),
        (volumes(a=4), volumes(a=0), ["the volume a is empty; it had 4 files with 40 bytes"]),
        (volumes(a=4), volumes(), ["the volume a is used no more; it had 4 files with 40 bytes"]),
        (volumes(a=0), volumes(), []),
        (SAME, SAME, []),
        (SAME, tables(posts=5, users=2, more=1), []),
        (SAME, tables(posts=4, users=2), ["the table posts of db has 4 rows; it had 10 rows"]),
        (SAME, tables(posts=0, users=2), ["the table posts of db is empty; it had 10 rows"]),
        (SAME, tables(users=2), ["the table posts of db is gone; it had 10 rows"]),
        (SAME, tables(), ["the mariadb of db has none of its 2 tables with data (posts: 10 rows, users: 2 rows)"]),
        (SAME, Census(), ["the mariadb of db has none of its 2 tables with data (posts: 10 rows, users: 2 rows)"]),
        (
            tables("app:a.db", "sqlite", notes=3), Census(),
            ["the SQLite file app:a.db is gone; it had 1 table with data (notes: 3 rows)"],
        ),
        (tables(notes=3), tables(), ["the mariadb of db has lost its only table with data (notes: 3 rows)"]),
        (SAME, tables("database", "mysql", posts=10, users=2), []),
        (tables(old=0, posts=1), tables(posts=1), []),
        (tables(log=MOST_ROWS), tables(log=MOST_ROWS), []),
        (tables(log=MOST_ROWS), tables(log=9), [f"the table log of db has 9 rows; it had at least {MOST_ROWS} rows"]),
    ],
)  # fmt: skip
def test_what_is_gone_empty_or_less_than_half_is_lost(before: Census, after: Census, expected: list[str]) -> None:
    assert lost(before, after, {}, {}) == expected


def test_what_could_not_be_asked_is_not_lost_and_told() -> None:
    away = Census(databases={"db": DatabaseCount(kind="mariadb", why_not="ERROR 1045")})
    assert lost(SAME, away, {}, {}) == lost(away, SAME, {}, {}) == []
    assert uncounted(away) == ("no-census: db (mariadb): ERROR 1045",)


def test_the_volume_of_a_database_is_judged_by_its_tables() -> None:
    logs = Census(volumes={"rows": VolumeCount(files=50, bytes=10**9, service="db")})
    assert lost(logs, Census(volumes={"rows": VolumeCount(files=9, bytes=10, service="db")}), {}, {}) == []


@pytest.mark.parametrize("named", ["db", "db.posts"])
def test_what_is_volatile_may_go_and_what_may_shrink_may_not(named: str) -> None:
    assert lost(SAME, tables(users=2), {named: "why"}, {}) == []
    assert lost(SAME, tables(posts=1, users=2), {}, {named: "why"}) == []
    assert lost(SAME, tables(users=2), {}, {named: "why"}) == ["the table posts of db is gone; it had 10 rows"]


def test_a_name_that_is_nothing_is_told_with_the_nearest_ones() -> None:
    (gone,) = unknown({"db.old": "why"}, SAME.names, "volatile", earlier={"db.old", "db.users"})
    assert gone == "[data] volatile names 'db.old', which is gone: earlier releases had it, and nothing in this run did"
    (told,) = unknown({"db.post": "why", "db.users": "why"}, SAME.names, "shrink")
    assert told == "[data] shrink names 'db.post', which nothing in this run was; is it db.posts?"


def test_what_the_base_filled_at_its_first_start_and_the_fresh_install_leaves_empty_is_abandoned() -> None:
    census = Census(
        volumes={"data": VolumeCount(files=0, bytes=0, sqlite=1), "rows": VolumeCount(files=90, bytes=9, service="db")},
        databases={
            "db": DatabaseCount(kind="mariadb", tables={"posts": 0, "users": 1}),
            "cache": DatabaseCount(kind="redis", tables={"a": 1}),
            "app:notes.db": DatabaseCount(kind="sqlite", tables={"notes": 3}),
        },
    )
    assert filled(census) == {"data": 1, "db": 2}, "neither files of a server nor what a cache holds for a while"
    assert abandoned(filled(census), {"data": 0, "db": 0}, {}) == ["data", "db"]
    assert abandoned(filled(census), {"data": 0, "db": 2}, {"data": "moved"}) == []
    assert abandoned({"data": 1, "gone": 1, "empty": 0}, {"data": 5, "empty": 0}, {}) == [], "what is gone is told as that"


def sqlite(**files: tuple[str, ...]) -> Census:
    return Census(
        databases={
            f"app:{name}.db": DatabaseCount(kind="sqlite", tables=dict.fromkeys(there, 1)) for name, there in files.items()
        }
    )


def test_a_new_file_with_the_tables_of_one_that_was_there_is_an_app_that_has_begun_anew() -> None:
    was = sqlite(a=("notes", "people"))
    (told,) = begun_beside(was, sqlite(a=("notes", "people"), b=("notes", "people")), {}, {}, {})
    assert told == "beside the SQLite file app:a.db it has begun a new one with the same tables, app:b.db"
    assert begun_beside(was, sqlite(a=("notes", "people"), b=("jobs",)), {}, {}, {}) == [], "something else"
    assert begun_beside(was, sqlite(a=("notes", "people"), b=()), {}, {}, {}) == []
    assert (
        begun_beside(was, sqlite(a=("notes", "people"), b=("notes", "people")), {"app:b.db": "one for each start"}, {}, {}) == []
    )


def seen_file(*marks: str, is_open: bool = False) -> SqliteFile:
    return SqliteFile(marks=frozenset(marks), open=is_open)


OURS, NEITHER = seen_file("mark of a"), seen_file()
WAS, BOTH = sqlite(a=("notes",)), sqlite(a=("notes",), b=("notes",))


@pytest.mark.parametrize(
    ("what", "after", "marks", "a", "b", "is_told"),
    [
        ("a copy made at the start", BOTH, {"app:a.db": "mark of a"}, seen_file("mark of a", is_open=True), OURS, False),
        ("a copy, and the app that asks only now and then", BOTH, {"app:a.db": "mark of a"}, OURS, OURS, False),
        ("it goes on in the copy", BOTH, {"app:a.db": "mark of a"}, OURS, seen_file("mark of a", is_open=True), False),
        ("a copy of some time ago", BOTH, {"app:a.db": "mark of a"}, seen_file("mark of a", is_open=True), NEITHER, False),
        ("a copy of a file that took no mark", BOTH, {}, seen_file(is_open=True), NEITHER, False),
        ("the same data under another name", sqlite(b=("notes",)), {"app:a.db": "mark of a"}, NEITHER, OURS, False),
        ("begun anew under another name", BOTH, {"app:a.db": "mark of a"}, OURS, seen_file(is_open=True), True),
        ("begun anew, and it asks only now and then", BOTH, {"app:a.db": "mark of a"}, OURS, NEITHER, True),
        ("begun anew without any mark", BOTH, {}, NEITHER, NEITHER, True),
        ("both are open", BOTH, {"app:a.db": "mark of a"}, seen_file("mark of a", is_open=True), seen_file(is_open=True), True),
        ("put away at the start, and begun anew", BOTH, {"app:a.db": "mark of a"}, seen_file(is_open=True), OURS, True),
        ("the mark of another run", BOTH, {"app:a.db": "mark of a"}, OURS, seen_file("other"), True),
    ],
)  # fmt: skip
def test_a_copy_of_a_file_is_not_a_new_beginning(
    what: str, after: Census, marks: dict[str, str], a: SqliteFile, b: SqliteFile, is_told: bool
) -> None:
    told = begun_beside(WAS, after, {}, marks, {"app:a.db": a, "app:b.db": b})
    assert bool(told) == is_told, what


def test_a_file_that_lost_rows_is_not_whole_beside_a_new_one() -> None:
    fewer = Census(databases={**BOTH.databases, "app:a.db": DatabaseCount(kind="sqlite", tables={"notes": 0})})
    assert begun_beside(WAS, fewer, {}, {}, {"app:a.db": seen_file(is_open=True)})


def kept(where: str, kind: str = "sqlite", **rows: int) -> dict[str, DatabaseCount]:
    return {where: DatabaseCount(kind=kind, tables=rows)}


BEFORE = kept("app:app.db", users=3, posts=8, jobs=0)


@pytest.mark.parametrize(
    ("what", "upgraded", "fresh", "expected"),
    [
        ("all rows", kept("db", "postgres", users=3, posts=8), kept("db", "postgres", users=1, posts=0), True),
        ("the old file is there still", {**BEFORE, **kept("db", "postgres", users=3, posts=8)},
         kept("db", "postgres", users=1, posts=0), True),
        ("none", kept("db", "postgres", users=1, posts=0), kept("db", "postgres", users=1, posts=0), False),
        ("not all rows", kept("db", "postgres", users=3, posts=7), kept("db", "postgres", users=1, posts=0), False),
        ("not all tables", kept("db", "postgres", users=3), kept("db", "postgres", users=1), False),
        ("as a new one", kept("db", "postgres", users=3, posts=8), kept("db", "postgres", users=3, posts=8), False),
        ("what no new one asks for", kept("db", "postgres", users=3, posts=8), {}, False),
        ("a cache", kept("db", "redis", users=3, posts=8), kept("db", "redis", users=1, posts=0), False),
        ("another file", kept("app:new.db", users=3, posts=8), kept("app:new.db", users=1, posts=0), False),
    ],
)  # fmt: skip
def test_rows_that_a_release_carried_from_a_file_into_a_server_are_not_abandoned(
    what: str, upgraded: dict[str, DatabaseCount], fresh: dict[str, DatabaseCount], expected: bool
) -> None:
    assert carried_over(Census(databases=BEFORE), Census(databases=upgraded), Census(databases=fresh), {}) == expected, what


def test_a_server_that_had_these_tables_already_is_no_new_place() -> None:
    base = Census(databases={**BEFORE, **kept("db", "postgres", users=3)})
    upgraded, fresh = kept("db", "postgres", users=3, posts=8), kept("db", "postgres", users=1, posts=0)
    assert not carried_over(base, Census(databases=upgraded), Census(databases=fresh), {})
    assert not carried_over(Census(), Census(databases=upgraded), Census(databases=fresh), {}), "nothing was there"


def test_a_table_that_is_cleared_at_each_start_is_no_loss_and_a_whole_database_is() -> None:
    assert begun_empty(tables(posts=2, present=3), tables(posts=2, present=0), {}) == []
    (told,) = begun_empty(tables(posts=2), tables(posts=0), {})
    assert told == "the mariadb of db has nothing in any of its tables that were filled (posts: 2 rows)"
    assert begun_empty(tables(posts=2), tables(posts=0), {"db": "a queue"}) == []
    (told,) = begun_empty(volumes(a=2), volumes(a=0), {})
    assert told.startswith("the volume a is empty")


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("servers", "where", "user"),
    [
        ((), "/var/lib/postgresql/data", "app"),
        (("mirror",), "/var/lib/postgresql/data", "mirror"),
        (("mirror",), "/import", "app"),  # a server that only reads from a folder of the app's
    ],
)
def test_a_volume_that_several_services_have_is_always_said_to_be_of_the_same_one(
    order: int, servers: tuple[str, ...], where: str, user: str
) -> None:
    mounted = [("data", "worker", "/data"), ("data", "app", "/data"), ("data", "mirror", where), ("queue", "worker", "/q")]
    assert users_of(mounted[::order], servers) == {"data": user, "queue": "worker"}


def test_an_sqlite_file_that_another_of_its_services_is_seen_with_has_not_begun_anew() -> None:
    def of(service: str, rows: int) -> Census:
        return Census(databases={f"{service}:data/x.db": DatabaseCount(kind="sqlite", tables={"users": rows})})

    assert begun_empty(of("app", 3), of("worker", 3), {}) == []
    assert len(begun_empty(of("app", 3), of("worker", 0), {})) == 1
    assert len(begun_empty(of("app", 3), Census(), {})) == 1


def rows(**files: dict[str, int]) -> Census:
    databases = {
        f"app:{name.replace('__', '/')}.db": DatabaseCount(kind="sqlite", tables=tables) for name, tables in files.items()
    }
    return Census(databases=databases)


@pytest.mark.parametrize(
    ("upgraded", "fresh", "expected", "what"),
    [
        (rows(mealie={"meals": 3}, db__mealie={"meals": 0}), rows(db__mealie={"meals": 0}), "begun", "another place"),
        (rows(mealie={"meals": 3}, db__mealie={"meals": 3}), rows(db__mealie={"meals": 0}), "", "copied there"),
        (rows(db__mealie={"meals": 3}), rows(db__mealie={"meals": 0}), "", "moved there"),
        (rows(mealie={"meals": 3}), rows(mealie={"meals": 0}), "", "as it was"),
        (rows(mealie={"meals": 3}), rows(), "alone", "in memory, or nowhere"),
        (rows(mealie={"meals": 3}), rows(other={"meals": 1}), "", "one for each user"),
        (
            rows(mealie={"meals": 3}, other={"users": 1}),
            rows(other={"users": 1}),
            "alone",
            "made by use, or begun anew with other tables",
        ),
        (rows(mealie={"meals": 3}, admin={"meals": 1}), rows(admin={"meals": 1}), "begun", "another that was not there"),
    ],
)
def test_an_sqlite_file_beside_which_another_is_begun_is_put_aside(
    upgraded: Census, fresh: Census, expected: str, what: str
) -> None:
    begun, alone = put_aside(rows(mealie={"meals": 3, "log": 0}), upgraded, fresh, {})
    assert (bool(begun), bool(alone)) == (expected == "begun", expected == "alone"), what
    if begun:
        assert begun == [f"app:mealie.db (meals: 3 rows), beside which it has begun {next(iter(fresh.databases))}"]
    assert put_aside(rows(mealie={"meals": 3}), upgraded, fresh, {"app:mealie.db": "moved"}) == ([], [])


def test_files_of_other_users_and_copies_that_were_there_before_are_none_that_were_begun_beside() -> None:
    users = rows(users__ada={"entry": 30, "feed": 2}, users__admin={"entry": 10, "feed": 1})
    assert put_aside(users, users, rows(users__admin={"entry": 10, "feed": 1}), {}) == ([], [])
    kept = rows(backup={"notes": 5, "sessions": 3}, document={"notes": 5, "sessions": 1})
    assert put_aside(kept, kept, rows(document={"notes": 1, "sessions": 0}), {}) == ([], [])


def test_rows_of_the_moment_put_no_file_aside() -> None:
    upgraded = rows(old={"notes": 3, "sessions": 4}, new={"notes": 3, "sessions": 1})
    assert put_aside(rows(old={"notes": 3, "sessions": 4}), upgraded, rows(new={"notes": 0, "sessions": 0}), {}) == ([], [])
