"""What `canonq why` tells of what is on record: sweeps, runs and calls by hand, also where much is missing or damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canonq.cli.commands import canonq
from canonq.core.errors import WrongUse
from canonq.core.outcomes import Outcome
from canonq.core.records import Decision, Promotion
from canonq.flows.looking.story import story
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import settle
from tests.core.test_gate import verdict
from tests.flows.conftest import FIRST, Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    place.recipe("site")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://127.0.0.1:1/0")
    return place


def red_night(place: Place, **more: Any) -> str:
    """A sweep that proved a release and found it red."""
    world = place.world
    sweep = open_sweep(world, ()).sweep
    decision = Decision(recipe="site", action="run", reason="new-version", detail="Prove it.", version="1.1.0+1.1", sweep=sweep)
    journal = world.sweeps.journal(sweep)
    journal.begin("site", "decide", world.stamp())
    journal.finish("site", "decide", decision.model_dump(mode="json"))
    run = world.new_id("site")
    found = verdict(
        **{
            "run": run, "sweep": sweep, "verdict": "red", "reason": "rolled-back", "fault": "recipe",
            "detail": "It exits with 1.", "ts": world.stamp(),
            "service": "app", "log_tail": ("FATAL: no such file",), "enrolment": world.checkout.digest("site"),
            "directory": str(world.runs.make("site", run)), **more,
        }
    )  # fmt: skip
    world.runs.record(found)
    settle(world, found)
    finish(world, sweep)
    return sweep


def typed(*words: str) -> Any:
    return CliRunner().invoke(canonq, list(words), standalone_mode=False)


def test_why_tells_a_red_night_with_its_last_words_and_what_to_do(place: Place) -> None:
    place.promote("site", FIRST, "a" * 40)
    sweep = red_night(place)
    ended = typed("why", "site")
    for words in ("to be proven (new-version)", "red", "It exits with 1.", "app: FATAL: no such file", "Fault: recipe.",
                  "rolled-back, a heading", "Report it to the recipe", f"{FIRST} stays the canonical"):  # fmt: skip
        assert words in ended.output
    assert ended.return_value == 1
    told = json.loads(typed("why", "site", "--json").output)
    assert (told["sweep"], told["outcome"]["outcome"], told["next"]["who"]) == (sweep, "red", "recipe")


def test_an_idle_recipe_has_the_decision_of_the_listing(place: Place) -> None:
    world = place.world
    sweep = open_sweep(world, ()).sweep
    idle = Outcome(recipe="site", outcome="skipped", reason="no-new-version", detail="Nothing newer.", step="decide")
    world.sweeps.settle_all(sweep, [idle])
    found = story(place.world, "site")
    assert [event.what for event in found.events] == ["decided"]
    assert found.next.who == "nobody"


def test_a_promotion_that_was_typed_is_found_among_the_calls(place: Place) -> None:
    red_night(place)
    journal = place.world.sweeps.calls.journal("0b9a9b7e-0000-4000-8000-000000000000")
    refused = Promotion(recipe="site", outcome="refused", reason="not-green", detail="The run is red.")
    journal.begin("site", "promote", "29990101T000000Z")
    journal.finish("site", "promote", refused.model_dump(mode="json"))
    found = story(place.world, "site")
    assert "its promotion was refused (not-green)" in found.events[-1].text
    assert (found.ends, found.reason) == ("red", "rolled-back"), "a refusal changes nothing"
    failed = refused.model_copy(update={"outcome": "failed", "reason": "promote-failed"})
    journal.finish("site", "promote", failed.model_dump(mode="json"))
    assert story(place.world, "site").reason == "promote-failed"


def test_a_step_under_way_is_told(place: Place) -> None:
    sweep = red_night(place)
    journal = place.world.sweeps.journal(sweep)
    journal.begin("site", "test", place.world.stamp())
    with journal.executing("site"):
        assert story(place.world, "site").next.text == "Wait: test is under way."


def test_why_needs_no_state_folder_and_leaves_none(place: Place) -> None:
    shutil.rmtree(place.folder / "state", ignore_errors=True)
    ended = typed("why", "site")
    assert "Nothing is on record of it." in ended.output
    assert ended.return_value == 0
    assert not (place.folder / "state").exists()


def test_a_broken_enrolment_and_damaged_records_are_told_and_end_nothing(place: Place) -> None:
    sweep = red_night(place)
    for path in (place.world.sweeps.folder(sweep) / "steps").glob("*.json"):
        path.write_text("{")
    (place.folder / "checkout" / "tests" / "site" / "recipe.toml").write_text("weight = 3\n")
    found = story(place.world, "site")
    assert (found.next.who, found.verdict is not None) == ("you", True)
    assert "upstream: is required" in found.events[-1].text
    with pytest.raises(WrongUse):
        story(place.world, "../../etc")


def test_a_record_that_cannot_be_read_is_not_told_as_no_canonical(place: Place) -> None:
    place.promote("site", FIRST, "a" * 40)
    (place.folder / "state" / "warm" / "site" / "canonical.json").write_text("{")
    ended = typed("why", "site")
    assert "site: its record cannot be used, so nobody knows its canonical" in ended.output
    assert "no canonical yet" not in ended.output
    assert json.loads(typed("why", "site", "--json").output)["record_lost"] is True
    place.promote("site", FIRST, "a" * 40)
    assert json.loads(typed("why", "site", "--json").output)["record_lost"] is False


def test_a_recipe_that_a_stopped_sweep_left_was_at_no_step(place: Place) -> None:
    sweep = open_sweep(place.world, ()).sweep
    typed("stop", sweep)
    told = typed("why", "site").output
    assert "the sweep ended for it as deferred (sweep-stopped): " in told
    assert "None" not in told


def test_what_an_app_logged_acts_on_no_terminal(place: Place) -> None:
    red_night(place, log_tail=("\x1b[2J\x1b]0;mine\x07[red]gone[/red]",), detail="\x1b[31mred\x1b[0m")
    told = typed("why", "site").output
    assert "\x1b" not in told
    assert "[red]gone[/red]" in told
