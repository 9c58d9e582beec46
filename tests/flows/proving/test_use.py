"""An app that keeps what people write where nobody looks, beside a database that is whole and that nobody fills any more."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canonq.core.deployable import Deployable
from canonq.flows.promote import promote
from canonq.flows.proving import marking
from canonq.flows.sync import sync
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from canonq.tiers.facts import TierFacts
from tests.flows.sites import BASE, TARGET, Docker, Site, files, is_fresh

pytestmark = pytest.mark.long


def tables(engine: Docker, stack: str) -> Path:
    return engine.place(stack, "db", "/var/lib/postgresql/tables.json")


def migrates(engine: Docker, stack: Deployable) -> None:
    """What each release does at its start: a database that is new gets its tables."""
    if not (kept := tables(engine, stack.stack)).exists():
        kept.write_text(json.dumps({"posts": 0, "users": 1, "settings": 4}))


def written_by(
    site: Site, monkeypatch: pytest.MonkeyPatch, to: Callable[[TierFacts], str], *, meanwhile: int = 0, **prepared: Any
) -> None:
    """Enrol it with a hook that writes three posts; `to`: the table in which an app of these facts keeps them, or none.
    `meanwhile`: how many stages its worker has made by then."""

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        kept = tables(site.engine, facts.stack)
        if function == "after_install" and (table := to(facts)):
            held = json.loads(kept.read_text())
            kept.write_text(json.dumps({**held, table: held.get(table, 0) + 3}))
        if function == "after_install" and meanwhile:
            kept.write_text(json.dumps({**json.loads(kept.read_text()), "stages": meanwhile}))

    site.engine.starts = dict.fromkeys((BASE, TARGET), migrates)
    site.prepare(own=None, **prepared)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)


def in_memory(facts: TierFacts) -> str:
    return "posts" if facts.version == BASE else ""


@pytest.mark.parametrize("from_canonical", [False, True])
def test_what_is_kept_in_memory_beside_a_whole_database_is_red(
    site: Site, monkeypatch: pytest.MonkeyPatch, from_canonical: bool
) -> None:
    written_by(site, monkeypatch, in_memory)
    if from_canonical:
        assert prove_tag(site.world, "site", BASE).verdict == "green"
        assert promote(site.world, "site").outcome == "promoted"
        sync(site.world, "site")
    verdict = prove_tag(site.world, "site", TARGET)
    assert (verdict.base_from == "canonical") == from_canonical
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-abandoned", "recipe"), verdict.detail
    assert "the same use leaves 3 rows in db.posts there, and none here" in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"


def edited(site: Site) -> None:
    """Somebody changes a word of the enrolment: what earlier runs have seen was by another one."""
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"# {toml.read_text()[:9]!r}\n{toml.read_text()}")


def test_what_nobody_knows_of_a_canonicals_first_start_is_seen_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written_by(site, monkeypatch, in_memory)
    assert prove_tag(site.world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    edited(site)
    for installs in (1, 0):
        site.engine.deployed.clear()
        verdict = prove_tag(site.world, "site", TARGET)
        assert (verdict.verdict, verdict.reason) == ("red", "data-abandoned"), verdict.detail
        assert "the same use leaves 3 rows in db.posts there, and none here" in verdict.detail
        assert sum(note.startswith("first-start: 1.0.0+1.0 was installed") for note in verdict.notes) == installs
        assert site.engine.deployed.count(BASE) == 1 + installs
    assert not any(stack for stack in site.left().get("stacks", ()) if "warm" not in stack)


def test_what_a_pull_request_has_seen_of_a_first_start_says_nothing_to_a_release(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has other names, and secrets that were made up."""
    written_by(site, monkeypatch, lambda facts: "posts")
    assert prove_tag(site.world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"{toml.read_text()}[refs]\ndata = true\n")
    for release in (False, True):
        verdict = prove_tag(site.world, "site", TARGET) if release else prove_ref(site.world, "site", "main")
        assert verdict.base_from == "canonical", verdict.detail
        assert [note for note in verdict.notes if note.startswith("first-start: 1.0.0+1.0 was installed")], verdict.notes
    again = prove_tag(site.world, "site", TARGET)
    assert not [note for note in again.notes if note.startswith("first-start: ")]


def test_a_canonical_that_cannot_be_installed_anew_any_more_is_told(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    written_by(site, monkeypatch, lambda facts: "posts")
    assert prove_tag(site.world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    edited(site)

    def only_on_its_data(engine: Docker, stack: Deployable) -> None:
        migrates(engine, stack)
        if is_fresh(stack.stack):
            engine.broken.add(stack.stack)

    def works(engine: Docker, stack: Deployable) -> None:
        migrates(engine, stack)
        engine.broken.discard(stack.stack)

    site.engine.starts = {BASE: only_on_its_data, TARGET: works}
    verdict = prove_tag(site.world, "site", TARGET)
    assert verdict.verdict == "green", verdict.detail
    (gap,) = (gap for gap in verdict.gaps if gap.startswith("in-use-unproven: "))
    assert "what 1.0.0+1.0 fills where it is installed anew is not known" in gap


@pytest.mark.parametrize("table", ["posts", "articles"])
def test_what_is_kept_in_its_table_or_in_another_is_green(site: Site, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    written_by(site, monkeypatch, lambda facts: table if facts.version == TARGET else "posts", target=files(TARGET))
    assert prove_tag(site.world, "site", None).verdict == "green"


@pytest.mark.parametrize("kept_in", ["posts", ""])
def test_what_a_worker_fills_beside_the_use_of_the_base_is_not_missed_and_what_is_somebodys_is(
    site: Site, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> None:
    def starts(stages: int) -> Callable[[Docker, Deployable], None]:
        def filled(engine: Docker, stack: Deployable) -> None:
            if not (kept := tables(engine, stack.stack)).exists():
                kept.write_text(json.dumps({"posts": 1, "stages": stages}))

        return filled

    written_by(site, monkeypatch, lambda facts: "posts" if facts.version == BASE else kept_in, meanwhile=60)
    site.engine.starts = {BASE: starts(0), TARGET: starts(60)}
    verdict = prove_tag(site.world, "site", None)
    assert verdict.reason == ("proven" if kept_in else "data-abandoned"), verdict.detail
    assert kept_in or "the same use leaves 3 rows in db.posts there, and none here" in verdict.detail
