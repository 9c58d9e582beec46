"""What counts as lost between two counts of an app's data."""

from __future__ import annotations

import pytest

from canonq.core.stack.census import (
    MOST_ROWS,
    Census,
    DatabaseCount,
    VolumeCount,
    abandoned,
    begun_beside,
    begun_empty,
    filled,
    lost,
    uncounted,
    unknown,
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
        (SAME, tables(), ["the mariadb of db has none of its 2 tables with data any more (posts: 10 rows, users: 2 rows)"]),
        (SAME, Census(), ["the mariadb of db has none of its 2 tables with data any more (posts: 10 rows, users: 2 rows)"]),
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
    (told,) = begun_beside(was, sqlite(a=("notes", "people"), b=("notes", "people")), {})
    assert told == "beside the SQLite file app:a.db it has begun a new one with the same tables, app:b.db"
    assert begun_beside(was, sqlite(a=("notes", "people"), b=("jobs",)), {}) == [], "something else"
    assert begun_beside(was, sqlite(a=("notes", "people"), b=()), {}) == []
    assert begun_beside(was, sqlite(a=("notes", "people"), b=("notes", "people")), {"app:b.db": "one for each start"}) == []


def test_a_table_that_is_cleared_at_each_start_is_no_loss_and_a_whole_database_is() -> None:
    assert begun_empty(tables(posts=2, present=3), tables(posts=2, present=0), {}) == []
    (told,) = begun_empty(tables(posts=2), tables(posts=0), {})
    assert told == "the mariadb of db has nothing in any of its tables that were filled (posts: 2 rows)"
    assert begun_empty(tables(posts=2), tables(posts=0), {"db": "a queue"}) == []
    (told,) = begun_empty(volumes(a=2), volumes(a=0), {})
    assert told.startswith("the volume a is empty")
