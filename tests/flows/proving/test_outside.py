"""What a new install keeps in its containers: red where the base had it in a volume, told where nobody ever had."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from canonq.core.deployable import Deployable
from canonq.flows.test import test_tag as prove_tag
from tests.flows.proving.test_redeploy import Restarting
from tests.flows.sites import BASE, TARGET, Docker, Site, is_fresh

App = Callable[[Docker, Deployable], object]


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, redis_url, Restarting(tmp_path / "docker"), monkeypatch)


def keeps(*paths: str, sqlite: str = "") -> App:
    """An app that makes these files at its first start; `sqlite`: and this database."""

    def starts(engine: Docker, stack: Deployable) -> None:
        for path in paths:
            place = engine.place(stack.stack, "app", path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.exists() or place.write_text("x")
        if sqlite:
            place = engine.place(stack.stack, "app", sqlite)
            place.parent.mkdir(parents=True, exist_ok=True)
            with sqlite3.connect(place) as file:
                file.execute("CREATE TABLE IF NOT EXISTS notes (text)")
                file.execute("CREATE TABLE IF NOT EXISTS people (name)")
                file.execute("INSERT INTO people VALUES ('admin')")
            file.close()

    return starts


SETTINGS = "/srv/files/settings"


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            keeps(SETTINGS, sqlite="/srv/files/app.db"),
            keeps(SETTINGS, sqlite="/app/data.sqlite3"),
            "what app:app.db is in a volume of the base is '/app/data.sqlite3' (sqlite, ",
        ),
        (
            keeps(SETTINGS, "/srv/files/mail/a", "/srv/files/mail/b", "/srv/files/mail/c"),
            keeps(SETTINGS, "/app/mail/a", "/app/mail/b", "/app/mail/c"),
            "3 of 5 files of the volume 'files' are in 'app' itself, as '/app/mail/",
        ),
    ],
    ids=["an SQLite file", "a folder"],
)
def test_data_that_was_in_a_volume_and_is_in_the_container_is_red_though_the_volume_is_in_use(
    site: Site, before: App, after: App, said: str
) -> None:
    site.engine.starts = {BASE: before, TARGET: after}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-outside-volumes", "recipe"), verdict.detail
    assert said in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"
    assert site.left() == {}


@pytest.mark.long
def test_a_database_that_always_was_in_the_container_is_told_and_what_is_of_the_moment_is_not(site: Site) -> None:
    moment = ("/app/cache/a", "/run/app.pid", "/tmp/a", "/app/server.log", "/etc/app.ini", "/app/config.js")
    site.engine.starts = dict.fromkeys((BASE, TARGET), keeps(SETTINGS, *moment, sqlite="/app/queue.db"))
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail
    (note,) = [note for note in verdict.notes if note.startswith("data-outside-volumes: ")]
    assert "'app' keeps '/app/queue.db' (sqlite, " in note
    assert "config.js" not in note


def test_a_server_that_only_its_init_script_fills_is_abandoned(site: Site) -> None:
    def starts(engine: Docker, stack: Deployable) -> None:
        place = engine.place(stack.stack, "db", "/var/lib/postgresql/tables.json")
        place.exists() or place.write_text(
            json.dumps({"init": 1} if is_fresh(stack.stack) else {"init": 1, "posts": 2, "users": 1})
        )

    site.engine.starts = dict.fromkeys((BASE, TARGET), starts)
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-abandoned"), verdict.detail
    assert "leaves 'db' (without 2 of 3 tables, such as posts) empty" in verdict.detail


def test_a_database_that_canonq_cannot_read_is_a_gap_with_its_name(site: Site) -> None:
    site.engine.starts = {BASE: keeps("/srv/files/mnesia/schema.DAT"), TARGET: keeps("/srv/files/mnesia/schema.DAT")}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert "no-marker: app (mnesia)" in verdict.gaps
