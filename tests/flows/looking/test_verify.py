"""verify beside those who are at work: what is replaced while it reads is no damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from canonq.adapters.state.locks import redis_client
from canonq.core.records import Snapshot
from canonq.flows.looking import verify as verify_flow
from canonq.flows.looking.verify import verify
from tests.faults.scenario import RECIPE, Scenario

pytestmark = pytest.mark.long


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Scenario:
    """Two canonicals, and a release that waits to be promoted."""
    redis_client(redis_url).flushall()
    made = Scenario(tmp_path, redis_url).prepare(releases=4)
    for _ in range(2):
        made.prove()
        assert made.promote().outcome == "promoted"
    made.prove()
    return made


def test_a_canonical_that_was_replaced_while_it_was_looked_at_is_looked_at_again(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, told = verify_flow._damage_of, list[str]()

    def meanwhile(kept: Snapshot) -> verify_flow._Problem | None:
        if not told:
            told.append("promoted")
            assert scenario.promote().outcome == "promoted"
        return reads(kept)

    monkeypatch.setattr(verify_flow, "_damage_of", meanwhile)
    (row,) = verify(scenario.world(), tell=told.append)
    now = scenario.canonical()
    assert now is not None
    assert (row["state"], row["problems"], row["version"]) == ("ok", [], now.version)
    assert told[1:] == [f"{RECIPE}: its canonical has changed meanwhile; looking again ..."]


def test_a_recipe_that_went_to_another_host_while_it_was_looked_at_has_no_row(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, warm = verify_flow._damage_of, scenario.state / "warm" / RECIPE

    def meanwhile(kept: Snapshot) -> verify_flow._Problem | None:
        shutil.rmtree(warm)
        warm.mkdir()
        return reads(kept)

    monkeypatch.setattr(verify_flow, "_damage_of", meanwhile)
    assert verify(scenario.world()) == []


def test_what_is_broken_and_has_not_changed_is_read_once(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    record = scenario.canonical()
    assert record is not None
    assert record.snapshot is not None
    shutil.rmtree(Path(record.snapshot.path).parent)
    told = list[str]()
    (row,) = verify(scenario.world(), RECIPE, told.append)
    assert (row["state"], row["reason"], told) == ("broken", "snapshot-damaged", [])
