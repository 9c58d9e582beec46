"""The fresh install deployed once more: what does not find its data again is red, and what only tidies up is not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from canonq.core.deployable import Deployable, version_label
from canonq.flows.proving import marking
from canonq.flows.test import test_tag as prove_tag
from canonq.tiers.facts import TierFacts
from tests.flows.sites import BASE, TARGET, Docker, Site, is_fresh

App = Callable[[Docker, Deployable], object]
OPEN: list[sqlite3.Connection] = []


class Restarting(Docker):
    """The Engine of files, whose apps start again when they are deployed once more."""

    again: list[str]
    gone: set[tuple[str, str]]

    def redeploy(self, stack: str) -> None:
        super().redeploy(stack)
        self.again = [*getattr(self, "again", ()), stack]
        version = self._services(stack)["app"]["labels"][version_label(stack)]
        if version in self.starts:
            self.starts[version](self, cast("Deployable", SimpleNamespace(stack=stack)))


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, redis_url, Restarting(tmp_path / "docker"), monkeypatch)


def keeps(path: str, *, also: str = "") -> App:
    """An app that has files at paths of its volume, made at its start where they are not there; {name}: of its container."""

    def starts(engine: Docker, stack: Deployable) -> None:
        name = engine.container_name(stack.stack, "app")
        for one in filter(None, (path, also)):
            place = engine.place(stack.stack, "app", f"/srv/files/{one.format(name=name)}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.exists() or place.write_text("[]")

    return starts


def keeps_sqlite(engine: Docker, stack: Deployable) -> None:
    """An app that hashes its host's name into that of its database."""
    name = hashlib.sha256(engine.container_name(stack.stack, "app").encode()).hexdigest()
    with contextlib.closing(sqlite3.connect(engine.place(stack.stack, "app", f"/srv/files/{name}.db"))) as file:
        file.execute("CREATE TABLE IF NOT EXISTS notes (text)")


def begins_anew(engine: Docker, stack: Deployable) -> None:
    """What a database does at its start whose files lie where no volume is, but where its setting had another name before."""
    if BASE in engine.deployed[:1] or is_fresh(stack.stack):
        engine.place(stack.stack, "db", "/var/lib/postgresql/rows").unlink(missing_ok=True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("app", "said"),
    [
        (keeps("{name}/notes.json"), "in the volume files, "),
        (keeps("spool/notes-{name}.json"), "'spool/notes-"),
        (keeps_sqlite, "it has begun a new one with the same tables"),
        (begins_anew, "canonq's row in the database of the service db"),
    ],
    ids=[
        "below the container's name",
        "in a file of its name",
        "in a database of a name made of it",
        "a database in the container",
    ],
)
@pytest.mark.parametrize("version", [BASE, TARGET], ids=["as first release", "beside an upgrade"])
def test_what_begins_anew_with_each_deploy_is_red(site: Site, app: App, said: str, version: str) -> None:
    world = site.prepare(own=None)
    site.engine.starts = {version: app}
    verdict = prove_tag(world, "site", version)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "lost-on-redeploy", "recipe"), verdict.detail
    assert said in verdict.detail
    assert verdict.tiers["install"].status == "fail", "a new install has it, whatever the upgrade does"
    assert site.left() == {}


WRITES = """
def test_a_note_can_be_written(app):
    name = app.engine.container_name(app.facts.stack, "app")
    place = app.engine.place(app.facts.stack, "app", f"/srv/files/{name}/notes.json")
    place.parent.mkdir(exist_ok=True)
    place.write_text("[]")
"""


@pytest.mark.parametrize("version", [BASE, TARGET], ids=["as first release", "beside an upgrade"])
def test_what_begins_anew_only_when_somebody_uses_it_is_red(site: Site, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        if facts.version == version:
            keeps("{name}/notes.json")(site.engine, cast("Deployable", SimpleNamespace(stack=facts.stack)))

    world = site.prepare(own=WRITES)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", version)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "lost-on-redeploy", "recipe"), verdict.detail
    assert "in the volume files, " in verdict.detail


def locks_up(engine: Docker, stack: Deployable) -> None:
    """An app that its own lock keeps from starting a second time."""
    lock = engine.place(stack.stack, "app", "/srv/files/app.lock")
    if lock.exists() and is_fresh(stack.stack):
        engine.broken.add(stack.stack)
    lock.touch()


@pytest.mark.long
def test_what_does_not_come_up_a_second_time_is_red(site: Site) -> None:
    site.engine.starts = {TARGET: locks_up}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.cause) == ("red", "not-redeployed", "not-answering"), verdict.detail
    assert verdict.detail.startswith("site 1.1.0+1.1, install: on the fresh install: It came up once, and not again")


def tidies_up(engine: Docker, stack: Deployable) -> None:
    """A good app: it has a lock, a log, a cache and sessions of each container, clears a table when it starts, and copies its
    SQLite file beside it."""
    file = engine.place(stack.stack, "app", "/srv/files/app.db")
    if file.exists():
        file.with_name("app.db.1").write_bytes(file.read_bytes())
    OPEN.append(sqlite3.connect(file, check_same_thread=False))
    OPEN[-1].executescript("CREATE TABLE IF NOT EXISTS notes (text)")
    keeps("notes.json", also="logs/{name}.txt")(engine, stack)
    keeps("{name}.pid", also="cache/{name}/thumbnail")(engine, stack)
    keeps("sessions/{name}")(engine, stack)
    tables = engine.place(stack.stack, "db", "/var/lib/postgresql/tables.json")
    old = json.loads(tables.read_text()) if tables.exists() else {"posts": 3, "present": 2}
    tables.write_text(json.dumps({**old, "present": 0 if tables.exists() else 2}))


@pytest.mark.long
def test_what_tidies_up_at_each_start_is_green_and_deployed_once_more_while_the_other_climbs(site: Site) -> None:
    site.engine.starts = dict.fromkeys((BASE, TARGET), tidies_up)
    toml = "[data]\nvolatile = {'db.present' = 'who is there now'}\n"
    verdict = prove_tag(site.prepare(toml=toml), "site", None)
    assert verdict.verdict == "green", verdict.detail
    (again,) = cast("Restarting", site.engine).again
    assert is_fresh(again)
    assert {"redeploy.begin", "redeploy.healthy", "redeploy.look"} <= set(verdict.timings)
    assert [gap for gap in verdict.gaps if gap.startswith("redeploy-unproven: ")], "nobody has asked the app itself"


@pytest.mark.long
def test_a_cache_of_each_container_is_green_where_that_is_declared(site: Site) -> None:
    site.engine.starts = dict.fromkeys((BASE, TARGET), keeps("{name}/thumbnail.png"))
    toml = "[data]\nvolatile = {files = 'made anew'}\n"
    verdict = prove_tag(site.prepare(toml=toml, own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail


@pytest.mark.parametrize("stays", [True, False], ids=["kept in a secret", "made at each start"])
def test_a_key_that_is_made_at_each_start_is_seen_by_the_apps_own_marker(
    site: Site, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    kept: dict[str, tuple[str, str]] = {}

    def hook(folder: Path, function: str, facts: TierFacts, *rest: Any) -> object:
        key = "k" if stays else site.engine.container_name(facts.stack, "app")
        if function == "write_marker":
            kept[facts.stack] = (key, rest[-1])
            return None
        sealed, text = kept[facts.stack]
        return text if sealed == key else "InvalidToken: it was sealed with another key"

    world = site.prepare(own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text(
        "def write_marker(app, text): ...\ndef read_marker(app): ...\n"
    )
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", BASE)
    if stays:
        assert verdict.reason == "restore-failed", (
            "what the hook keeps is in no volume, so that the restore does not bring it back"
        )
        assert not [gap for gap in verdict.gaps if gap.startswith("redeploy-unproven: ")]
    else:
        assert (verdict.verdict, verdict.reason) == ("red", "lost-on-redeploy"), verdict.detail
        assert "InvalidToken: it was sealed with another key" in verdict.detail
