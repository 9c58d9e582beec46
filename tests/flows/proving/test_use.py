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
from canonq.flows.test import test_tag as prove_tag
from canonq.tiers.facts import TierFacts
from tests.flows.sites import BASE, TARGET, Docker, Site, files

pytestmark = pytest.mark.long


def tables(engine: Docker, stack: str) -> Path:
    return engine.place(stack, "db", "/var/lib/postgresql/tables.json")


def migrates(engine: Docker, stack: Deployable) -> None:
    """What each release does at its start: a database that is new gets its tables."""
    if not (kept := tables(engine, stack.stack)).exists():
        kept.write_text(json.dumps({"posts": 0, "users": 1, "settings": 4}))


def written_by(site: Site, monkeypatch: pytest.MonkeyPatch, to: Callable[[TierFacts], str], **prepared: Any) -> None:
    """Enrol it with a hook that writes three posts; `to`: the table in which an app of these facts keeps them, or none."""

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        kept = tables(site.engine, facts.stack)
        if function == "after_install" and (table := to(facts)):
            held = json.loads(kept.read_text())
            kept.write_text(json.dumps({**held, table: held.get(table, 0) + 3}))

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


@pytest.mark.parametrize("table", ["posts", "articles"])
def test_what_is_kept_in_its_table_or_in_another_is_green(site: Site, monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    written_by(site, monkeypatch, lambda facts: table if facts.version == TARGET else "posts", target=files(TARGET))
    assert prove_tag(site.world, "site", None).verdict == "green"
