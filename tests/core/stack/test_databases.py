"""Databases told by their images, and what asking one for a row has told: there, gone, or neither."""

from __future__ import annotations

import pytest

from canonq.core.stack.databases import (
    Reading,
    asked_for,
    database_kind,
    is_broken,
    postgres_services,
    reading,
    seen,
    unmarked_in,
    way_into_redis,
    without_marker,
)

LIKE = "LOCATION:  parserOpenTable, parse_relation.c:1449"
WARNING = 'WARNING:  01000: database "app" has a collation version mismatch\nHINT:  Rebuild all objects.\n'


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        ("postgres", "postgres"),
        ("postgres:15.14", "postgres"),
        ("localhost:5000/library/postgres@sha256:" + "0" * 64, "postgres"),
        ("docker.io/timescale/timescaledb-ha:pg17", "postgres"),
        ("ghcr.io/immich-app/vchord-postgres:1", "postgres"),
        ("bitnami/PostgreSQL:1", "postgres"),
        ("mariadb:11", "mariadb"),
        ("percona/percona-server:8", "mysql"),
        ("mongo:7", "mongodb"),
        ("prometheuscommunity/postgres-exporter:1", None),
        ("nginx:1", None),
    ],
)
def test_a_database_is_known_by_the_last_word_of_its_image(image: str, kind: str | None) -> None:
    assert database_kind(image) == kind


IMAGES = {"app": "nginx:1", "db": "postgres:15", "more": "timescaledb-ha:1", "old": "mariadb:11"}


def test_every_database_without_a_marker_is_named() -> None:
    assert postgres_services(IMAGES) == ["db", "more"]
    kinds = {service: kind for service, image in IMAGES.items() if (kind := database_kind(image))}
    told = without_marker(kinds, {"db"})
    assert told == ("no-marker: more (postgres)", "no-marker: old (mariadb)")
    assert unmarked_in((*told, "no-marker: app:a.db (sqlite)", "redeploy-unproven: x")) == {"more": "postgres", "old": "mariadb"}


@pytest.mark.parametrize(
    ("started", "given"),
    [
        (["docker-entrypoint.sh", "redis-server", "--requirepass", "a b$c"], {"GIVEN_WORD": "'a b$c'"}),
        (["redis-server", "--requirepass"], {}),
        (["redis-server", "--maxmemory", "1gb"], {}),
        (["sh", "-c", "exec redis-server --requirepass $PASS --save 60"], {"GIVEN_WORD": "$PASS"}),
        (["sh", "-c", 'redis-server --requirepass "$(cat "/run/x y")" &'], {"GIVEN_WORD": '"$(cat "/run/x y")"'}),
        (["sh", "-c", "redis-server --requirepass 'a b'; true"], {"GIVEN_WORD": "'a b'"}),
        (["redis-server", "/etc/redis.conf", "--requirepass", "x"], {"GIVEN_CONF": "/etc/redis.conf", "GIVEN_WORD": "x"}),
        (["sh", "-c", "redis-server /etc/redis.conf;"], {"GIVEN_CONF": "/etc/redis.conf"}),
        (["redis-server", "/etc/redis.config"], {}),
    ],
)
def test_the_words_that_a_redis_was_started_with_say_where_its_password_is(started: list[str], given: dict[str, str]) -> None:
    assert way_into_redis(started) == given


@pytest.mark.parametrize(
    ("status", "errors", "state"),
    [
        (0, "", "answered"),
        (0, WARNING, "answered"),
        (1, f'ERROR:  42P01: relation "canonq_marker" does not exist\nLINE 1: SELECT\n{LIKE}', "absent"),
        (1, f'{WARNING}ERROR:  42P01: relation "canonq_marker" does not exist\n{LIKE}', "absent"),
        (1, "FEHLER:  42P01: Relation »canonq_marker« existiert nicht", "absent"),
        (3, 'ERROR:  42P01: relation "canonq_marker" does not exist', "absent"),
        (1, "ERROR:  42501: permission denied for table canonq_marker", "refused"),
        (1, "ERROR:  25006: cannot execute CREATE TABLE in a read-only transaction", "refused"),
        (1, "ERROR:  XX001: invalid page in block 0 of relation base/5/16384", "refused"),
        (1, "ERROR:  57014: canceling statement due to statement timeout", "not-yet"),
        (2, "FATAL:  57P01: terminating connection due to administrator command", "not-yet"),
        (75, "psql: error: FATAL:  the database system is starting up", "not-yet"),
        (2, 'psql: error: FATAL:  password authentication failed for user "app"', "refused"),
        (1, "Error response from daemon: container 1234 is not running", "not-yet"),
        (127, "sh: psql: not found", "refused"),
        (126, "OCI runtime exec failed: exec failed: no such file or directory", "refused"),
        (137, "", "not-yet"),
    ],
)
def test_how_psql_ended_tells_whether_the_database_has_answered(status: int, errors: str, state: str) -> None:
    found = reading(status, "the-row\n", errors)
    assert found.state == state
    assert found.lines == (("the-row", "") if state == "answered" else ())
    assert bool(found.why) == (state != "answered")


HAS, OTHER, ABSENT = Reading("answered", ("row", "")), Reading("answered", ("row2", "")), Reading("absent")
LATER, REFUSED = Reading("not-yet"), Reading("refused")


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        ([HAS], "there"), ([ABSENT, HAS], "there"), ([LATER, HAS], "there"),
        ([ABSENT], "gone"), ([OTHER], "gone"), ([OTHER, ABSENT], "gone"), ([], "gone"),
        ([LATER], "unasked"), ([REFUSED], "unasked"), ([ABSENT, LATER], "unasked"), ([OTHER, REFUSED], "unasked"),
    ],
)  # fmt: skip
def test_a_row_that_could_not_be_asked_for_is_neither_there_nor_gone(readings: list[Reading], expected: str) -> None:
    assert seen("row", readings) == expected


@pytest.mark.parametrize(
    ("place", "images", "asked"),
    [
        ("db", IMAGES, ["db", "more"]),
        ("postgres", IMAGES, ["db", "more"]),  # it has another name now
        ("db", {"db": "my/own:1"}, ["db"]),  # its image is none that is known
        ("db", {"app": "nginx:1"}, []),  # there is no database any more: what was in it is gone
        ("db", {}, ["db"]),
    ],
)
def test_a_row_is_asked_for_in_every_postgresql_that_is_deployed_now(
    place: str, images: dict[str, str], asked: list[str]
) -> None:
    assert asked_for(place, images) == asked


@pytest.mark.parametrize(
    ("why", "broken"),
    [
        ("ERROR:  XX001: invalid page in block 0 of relation base/5/16384", True),
        ("FEHLER:  58P01: konnte Datei nicht öffnen", True),
        ("ERROR 1932 (42S02) at line 3: Table 'wp.posts' doesn't exist in engine", True),
        ("ERROR:  42501: permission denied for table posts", False),
        ("ERROR 1146 (42S02) at line 3: Table 'wp.posts' doesn't exist", False),
        ("FATAL:  57P01: terminating connection due to administrator command", False),
    ],
)
def test_a_table_that_cannot_be_read_is_told_from_one_that_nobody_may_read(why: str, broken: bool) -> None:
    assert is_broken(why) is broken
