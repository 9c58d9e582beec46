"""Real applications with real databases, each in two versions with the migrations between them: releases that are well, and the
ways in which they are not. The table below is swept at once, side by side as on a real night."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from tests.apps import images
from tests.apps.images import FOLDER, IHATEMONEY, MINIFLUX, NODERED, POSTGRES, PREFIX
from tests.apps.recipes import (
    DECLARED,
    FILES,
    HOOKS,
    NEW,
    NOBODY_BUT_US,
    OLD,
    OVERLAY,
    SEALED,
    SHARED,
    TESTS,
    TOML,
    ihatemoney,
    maria_labels,
    miniflux,
    nodered,
    pg_labels,
)
from tests.real.conftest import installed
from tests.support import Installation, make_recipe, release

pytestmark = [pytest.mark.real, pytest.mark.apps]

#: Names of images that are moved from one night to the next: to one that works, and to one in which the program is not there.
WORKS, BREAKS = f"{PREFIX}/miniflux:moves", f"{PREFIX}/miniflux:breaks"
SESSIONS, OWN_SESSIONS = "db.sessions", "db.miniflux.sessions"
ANOTHER, OVER = pg_labels("postgres", "postgres"), pg_labels(over=True)
EMPTIES, DIES = "DELETE FROM categories", "exec timeout 25 miniflux"
#: Into a new installation; with a password that anybody can guess.
_GUEST = (
    "INSERT INTO users (username, password, is_admin) SELECT 'guest', "
    "'$2b$10$8J6qBWB..mZaxppvRebQNe324utGCRetArF8m570vftmA1F624moq', true WHERE NOT EXISTS (SELECT FROM users)"
)
LETS_A_GUEST_IN = f'miniflux -migrate; until psql -qX "$$DATABASE_URL" -c "{_GUEST}"; do sleep 1; done; exec miniflux'.replace(
    "$2b$10$", r"\$$2b\$$10\$$"
)
RESTARTS = (
    'if psql -qX "$$DATABASE_URL" -c "CREATE TABLE restarted (a int)" > /dev/null 2>&1; then timeout 15 miniflux; exit 1; fi; '
    "exec miniflux"
)
IN_ANOTHER = (
    'psql -qX "$$DATABASE_URL" -c "CREATE DATABASE reader" > /dev/null 2>&1; '
    'export DATABASE_URL="$$DATABASE_URL dbname=reader"; exec miniflux'
)
#: What the server of a major before finds in its folder; a new one is its own.
OF_ANOTHER_MAJOR = (
    "cd /var/lib/postgresql/data; if [ -s pgdata/PG_VERSION ] && [ ! -e mine ]; then echo 16 > pgdata/PG_VERSION; fi; touch mine"
)
ONLY_OLD = 'psql -qX "$$DATABASE_URL" -c "SELECT FROM users" || export RUN_MIGRATIONS=0; exec miniflux'


@dataclass(frozen=True)
class Row:
    """A release, by what it does; and what is to be said of it."""

    it: str
    new: FILES
    reasons: tuple[str, ...] = ()  #: any of these and red; none: green
    told: tuple[str, ...] = ()  #: words of the verdict's detail
    old: FILES | None = None  #: the release before it, where that is not the application's usual one
    seeded: bool = False  #: that one is promoted in the night before
    soak: int = 0
    drops: str = ""  #: the table that its migrations drop, as its enrolment declares it
    looks: bool = True  #: whether its enrolment has tests that would see what canonq has to see by itself
    hooks: str | None = ""  #: what its enrolment's hooks do beside filling the app; None: it has none
    asks: str = ""  #: further tests of its enrolment

    @property
    def app(self) -> str:
        """Which application it is of."""
        return self.it.partition("-")[0]


def reader(**more: Any) -> FILES:
    return miniflux(NEW["miniflux"], MINIFLUX[1], **more)


def money(**more: Any) -> FILES:
    return ihatemoney(NEW["ihatemoney"], IHATEMONEY[1], **more)


def flows(**more: Any) -> FILES:
    return nodered(NEW["nodered"], NODERED[1], **more)


def reader_with(statement: str) -> FILES:
    return reader(start=f'psql -qX "$$DATABASE_URL" -c "{statement}"; exec miniflux')


def reader_of(image: str) -> FILES:
    """The first release, with its image by another name."""
    return miniflux(OLD["miniflux"], "", image=image)


OWN = miniflux(OLD["miniflux"], MINIFLUX[0], makes=True)
IN_A_FILE = ihatemoney(OLD["ihatemoney"], IHATEMONEY[0], host="DATABASE_HOST=")
ANEW = money(key="os.urandom(24).hex()", settings="v2")
AWAY = ("data-abandoned", "data-outside-volumes")
ONLY_SETTINGS = ("backupbot.backup.volumes.data.path=settings.js",)
OPEN, OF_SERVER = ("functional-failed",), ("update-paused", "crash-loop", "dies-later", "rolled-back")
NOT_SAVED = ("not-backed-up", "backup-failed")
NOT_BACK = (*NOT_SAVED, "restore-failed", "data-lost")
TABLE = [
    Row("miniflux-is-well", reader(), seeded=True, drops=SESSIONS),
    Row("ihatemoney-is-well", money(), seeded=True),
    Row("miniflux-has-a-name-that-moved", reader(), (), ("image-moved: ", WORKS), old=reader_of(WORKS), seeded=True),
    Row("miniflux-empties-a-table", reader_with(EMPTIES), ("data-lost",), ("categories of db", "4 rows"), drops=SESSIONS),
    Row("miniflux-dumps-another-database", reader(labels=pg_labels("postgres")), NOT_BACK, ("db",), drops=SESSIONS),
    Row("miniflux-migrates-only-what-is-there", reader(start=ONLY_OLD), ("install-failed",), ("app",), drops=SESSIONS),
    Row("miniflux-dies-late", reader(start=DIES), ("dies-later", "crash-loop"), ("app",), soak=40, drops=SESSIONS),
    Row("ihatemoney-falls-back-to-sqlite", money(host="DB_HOST=db"), ("data-abandoned",), ("db",), looks=False),
]  # fmt: skip
#: Further ways, for which CI has no time.
FURTHER = [
    Row("miniflux-has-a-broken-name", reader(), ("base-not-healthy",), (BREAKS,), old=reader_of(BREAKS), seeded=True),
    Row("miniflux-makes-its-database-itself", reader(makes=True), old=OWN, drops=OWN_SESSIONS),
    Row("miniflux-saves-not-its-own", reader(makes=True, labels=ANOTHER), NOT_SAVED, ("db",), old=OWN, drops=OWN_SESSIONS),
    Row("miniflux-drops-what-is-not-declared", reader(), ("data-lost",), ("the table sessions of db is gone; it had",)),
    Row("miniflux-saves-and-restores-another", reader(labels=ANOTHER), NOT_BACK, ("db",), drops=SESSIONS),
    Row("miniflux-loads-its-dump-over-rows", reader(labels=OVER), NOT_BACK, ("db",), drops=SESSIONS),
    Row("ihatemoney-empties-a-table", money(statement="DELETE FROM billowers"), ("data-lost",), ("billowers of db", "3 rows")),
    Row("ihatemoney-restores-nothing", money(labels=maria_labels("")), NOT_BACK, ("db",)),
    Row("ihatemoney-moves-to-a-server", money(carries=True), (), ("data-moved: ",), old=IN_A_FILE),
    Row("ihatemoney-leaves-its-rows-behind", money(), ("data-abandoned",), ("files",), old=IN_A_FILE, looks=False),
    Row("nodered-is-well", flows(), seeded=True),
    Row("nodered-keeps-its-data-elsewhere", flows(folder="/srv/flows"), AWAY, ("data",), looks=False),
    Row("nodered-saves-its-settings-alone", flows(labels=ONLY_SETTINGS), NOT_SAVED, ("flows.json",), looks=False),
    Row("nodered-begins-empty", flows(before="rm -rf /data/* /data/.config*"), ("data-lost",), ("data",), looks=False),
    Row("nodered-has-no-flows", flows(before="rm -f /data/flows.json"), ("data-lost",), ("flows.json",), looks=False),
    Row("nodered-is-named-after-its-host", flows(folder="/data/$$(hostname)"), ("lost-on-redeploy",), ("data",), looks=False),
    Row("ihatemoney-saves-no-database", money(labels=[]), ("not-backed-up",), ("db",)),
    Row("miniflux-lets-a-guest-in", reader(start=LETS_A_GUEST_IN), OPEN, ("guest",), drops=SESSIONS, asks=NOBODY_BUT_US),
    Row("miniflux-restarts-once", reader(start=RESTARTS), (), ("died: 'app'",), drops=SESSIONS, soak=20),
    Row("miniflux-has-data-of-another-major", reader(database=OF_ANOTHER_MAJOR), OF_SERVER, ("not compatible",), drops=SESSIONS),
    Row("miniflux-begins-in-another-database", reader(start=IN_ANOTHER), ("data-abandoned",), ("db",), looks=False, hooks=None),
    Row("nodered-keeps-its-data-in-memory", flows(folder="/dev/shm/flows"), AWAY, ("data",), looks=False),
    Row("ihatemoney-makes-a-key-at-each-start", ANEW, ("lost-on-redeploy", "upgrade-failed"), ("401",), hooks=SEALED),
]  # fmt: skip


@pytest.fixture(scope="module")
def swept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """Two nights, of the rows that are asked for; row -> the verdict of its newest release."""
    if FOLDER not in os.environ:
        pytest.skip(
            f"NOT TRIED on real applications: {FOLDER} names none. `make test-apps` builds them; it needs Go, Debian and PyPI"
        )
    images.have()
    rows = [
        row
        for row in TABLE + FURTHER
        if any(row.it in item.name or ("is-well" in row.it and "[" not in item.name) for item in request.session.items)
    ]
    with installed(SwarmEngine(), tmp_path_factory.mktemp("apps")) as made:
        made.settings |= {"CANONQ_LIGHT_WORKERS": "4", "CANONQ_CONTROL_SECONDS": "0"}
        shared = made.checkout / "tests" / "_shared"
        shared.mkdir(parents=True)
        for name, text in SHARED.items():
            (shared / name).write_text(text)
        moved(WORKS, MINIFLUX[0])
        moved(BREAKS, MINIFLUX[0])
        seeds = [row for row in rows if row.seeded]
        for row in rows:
            make_recipe(made.root / row.it, {OLD[row.app]: row.old or usual(row.app)})
            enrol(made, row)
        if seeds:
            first = made.canonq("sweep", *(row.it for row in seeds), "--wait", "--json").json["outcomes"]
            assert {one["recipe"]: one["outcome"] for one in first} == {row.it: "promoted" for row in seeds}, first
        moved(WORKS, MINIFLUX[1])
        moved(BREAKS, "")
        for row in rows:
            release(Repo(made.root / row.it), NEW[row.app], row.new)
        made.canonq("sweep", *(row.it for row in rows), "--wait", "--json")
        yield {row.it: newest(made, row.it) for row in rows}


def moved(name: str, to: str) -> None:
    """Give the name to that version of Miniflux; none: to what does not start."""
    client = docker.from_env(timeout=120)
    try:
        assert client.images.get(f"{PREFIX}/miniflux:{to}" if to else POSTGRES).tag(name)
    finally:
        client.close()


def usual(app: str) -> FILES:
    """An application's first release."""
    match app:
        case "miniflux":
            return miniflux(OLD[app], MINIFLUX[0])
        case "ihatemoney":
            return ihatemoney(OLD[app], IHATEMONEY[0])
        case _:
            return nodered(OLD[app], NODERED[0])


def enrol(made: Installation, row: Row) -> None:
    toml = TOML[row.app] + (DECLARED.format(table=row.drops) if row.drops else "")
    toml = toml.replace("[health]\n", f"[health]\nsoak = {row.soak}\n")
    folder = made.enrol(row.it, f'upstream = "{made.root}/{row.it}"\n{toml}')
    if row.app != "nodered":
        (folder / "compose.canonq.yml").write_text(OVERLAY)
    if row.hooks is not None:
        (folder / "hooks.py").write_text(HOOKS[row.app] + row.hooks)
    if row.looks:
        (folder / "test_app.py").write_text(TESTS[row.app] + row.asks)


def newest(made: Installation, recipe: str) -> dict[str, Any]:
    """The last verdict of a recipe, and what the record of its canonical says."""
    verdicts = [dict(json.loads(path.read_text())) for path in (made.state / "runs" / recipe).glob("*/run.json")]
    record = made.state / "warm" / recipe / "canonical.json"
    last = max(verdicts, key=lambda verdict: str(verdict["ts"]))
    return last | {"canonical": json.loads(record.read_text())["version"] if record.is_file() else ""}


def each() -> list[Any]:
    """The rows, each by its name."""
    return [pytest.param(row, id=row.it, marks=[pytest.mark.further] if row in FURTHER else []) for row in TABLE + FURTHER]


@pytest.mark.parametrize("row", each())
def test_each_release_gets_its_own_verdict(swept: dict[str, dict[str, Any]], row: Row) -> None:
    verdict = swept[row.it]
    said = (verdict["verdict"], verdict["reason"], verdict["detail"])
    assert verdict["version"] == NEW[row.app]
    if row.reasons:
        assert verdict["verdict"] != "green", said
        assert verdict["reason"] in row.reasons, said
        assert all(word in verdict["detail"] for word in row.told), said
        assert verdict["canonical"] != NEW[row.app]
    else:
        assert verdict["verdict"] == "green", said
        assert verdict["canonical"] == NEW[row.app]
        assert all(any(word in note for note in verdict["notes"]) for word in row.told), verdict["notes"]


def test_what_the_first_canonical_was_filled_with_is_counted_after_the_migrations(swept: dict[str, dict[str, Any]]) -> None:
    reader, money = swept["miniflux-is-well"], swept["ihatemoney-is-well"]
    assert (reader["census"]["db.categories"], money["census"]["db.bill"], money["census"]["db.person"]) == (4, 3, 2)
    assert "db.web_sessions" in reader["census"], "made by a migration"
    assert reader["base_from"] == money["base_from"] == "canonical"
    assert all(one["rungs"][rung]["status"] == "pass" for one in (reader, money) for rung in ("upgrade", "backup-restore"))
