"""What `canonq why` tells of what is on record: sweeps, runs and calls by hand, also where much is missing or damaged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from git.repo import Repo

from canonq.cli.commands import canonq
from canonq.core.errors import WrongUse
from canonq.core.outcomes import Outcome
from canonq.core.records import Decision, Promotion, Synced, Verdict
from canonq.core.steering import What
from canonq.flows.decide import decide_recipe
from canonq.flows.looking.status import status
from canonq.flows.looking.story import story
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import settle
from canonq.flows.sync import sync
from canonq.flows.upstream.steering import say as said
from tests.core.test_gate import verdict
from tests.flows.conftest import FIRST, Place
from tests.support import release


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


# -- what is told to come is what the next sweep decides ------------------------------------------------------


def upstream(place: Place, *versions: str) -> Repo:
    """Its recipe has these releases, and a clone knows them."""
    repo = Repo(place.folder / "upstreams" / "site")
    for version in versions:
        release(repo, version, {"compose.yml": f"services: {{}}\n# {version}\n"})
    sync(place.world, "site")
    return repo


def proven(place: Place, version: str, **more: Any) -> Verdict:
    """A run of a release is on record."""
    world = place.world
    run = world.new_id("site")
    made = verdict(
        **{
            "run": run, "version": version, "commit": world.repos.tags("site")[version], "sweep": None, "base": None,
            "base_commit": None, "enrolment": world.checkout.digest("site"), "ts": world.stamp(),
            "directory": str(world.runs.make("site", run)), **more,
        }
    )  # fmt: skip
    world.runs.record(made)
    return made


def goes_on(place: Place) -> tuple[str, str, str | None, str]:
    """What the next sweep decides; who is to act, and with which command; and what waits, as `status` has it."""
    world = place.world
    decided = decide_recipe(world, Synced(recipe="site", branch="main", head=None, tags=1, latest=None, changed=False))
    step = story(world, "site").next
    waits = status(world, "site")["recipes"][0]["proven"]
    return decided.reason, step.who, step.command, "nothing" if waits is None else "held" if waits["held"] else "waits"


def opened(place: Place) -> str:
    """A sweep, an hour after the one before: ids sort by the second."""
    world = place.world
    ahead = timedelta(hours=1 + len(list(world.sweeps.newest_first())))
    return open_sweep(replace(world, now=lambda: datetime.now(UTC) + ahead), ()).sweep


def night(place: Place, reason: str, outcome: str = "skipped", **more: Any) -> None:
    """A sweep came to that."""
    sweep = opened(place)
    found = Outcome.model_validate({"recipe": "site", "outcome": outcome, "reason": reason, "step": "decide", **more})
    place.world.sweeps.settle_all(sweep, [found])
    finish(place.world, sweep)


def say(place: Place, what: What, version: str) -> None:
    said(place.world, "site", version, what, by="ada", reason="so")


NEXT, LAST, MAJOR = "1.1.0+1.1", "1.2.0+1.2", "2.0.0+2.0"


def test_a_release_that_waits_is_promoted_by_the_command_that_takes_it(place: Place) -> None:
    upstream(place, NEXT)
    proven(place, NEXT)
    assert goes_on(place) == ("not-promoted-yet", "nobody", "canonq promote site", "waits")
    proven(place, FIRST, quick=True)
    assert goes_on(place) == ("not-promoted-yet", "nobody", "canonq sweep site", "waits"), "promoted is the newest run's"


def test_a_promotion_that_failed_too_often_is_told_as_held(place: Place) -> None:
    upstream(place, NEXT)
    proof = proven(place, NEXT)
    for number in range(3):
        place.world.runs.note_failure("site", proof.run, {"cause": "not-healthy", "sweep": f"s{number}"})
    night(place, "promote-failed", "error", detail="It has no room. Mend: make room.", version=NEXT)
    assert goes_on(place) == ("held-promotion", "you", "canonq promote site", "held")
    assert story(place.world, "site").next.text == "Make room. Then promote it: that is not tried again by itself."
    night(place, "held-promotion", version=NEXT)
    assert goes_on(place)[1:] == ("you", "canonq promote site", "held")


def test_a_sweep_that_was_stopped_takes_back_nothing_that_was_told_before(place: Place) -> None:
    upstream(place, NEXT)
    for _ in range(3):
        proven(place, NEXT, verdict="red", reason="rolled-back", fault="recipe", detail="It exits with 1.")
    night(place, "held-red", version=NEXT)
    assert goes_on(place) == ("held-red", "you", "canonq sweep site", "nothing")
    typed("stop", opened(place))
    assert goes_on(place) == ("held-red", "you", "canonq sweep site", "nothing")
    assert "(sweep-stopped)" in story(place.world, "site").events[-1].text
    night(place, "sync-failed", "error", fault="recipe", detail="It is gone.")
    opened(place)
    assert story(place.world, "site").ends == "error", "the open one has not come to it yet"


def test_what_waits_for_a_persons_word_says_so_also_where_no_sweep_has(place: Place) -> None:
    toml = place.folder / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"{toml.read_text()}[promote]\napproval = 'ask'\n")
    commit = upstream(place, MAJOR).commit("main~1").hexsha
    place.promote("site", FIRST, commit)
    proven(place, MAJOR, base=FIRST, base_commit=commit, base_from="canonical")
    approve = f"canonq approve site '{MAJOR}' --reason TEXT"
    assert goes_on(place) == ("needs-approval", "you", approve, "held")
    assert typed("why", "site").return_value == 1
    say(place, "approve", MAJOR)
    assert goes_on(place)[:2] == ("not-promoted-yet", "nobody")
    night(place, "needs-approval", version=MAJOR)
    say(place, "block", MAJOR)
    unblock = f"canonq unblock site '{MAJOR}' --reason TEXT"
    assert goes_on(place) == ("blocked", "nobody", unblock, "held")
    assert typed("why", "site").return_value == 0
    upstream(place, "2.1.0+2.1")
    assert goes_on(place) == ("new-version", "nobody", "canonq sweep site", "nothing")


def test_of_a_red_only_what_is_tried_again_is_told_to_be(place: Place) -> None:
    upstream(place, NEXT)
    proven(place, NEXT, verdict="red", reason="rolled-back", fault="recipe", detail="It exits with 1.")
    assert "It is tried in 2 more sweeps." in story(place.world, "site").next.text
    say(place, "block", NEXT)
    assert goes_on(place)[0] == "blocked"
    assert "is tried" not in story(place.world, "site").next.text
    say(place, "unblock", NEXT)
    proven(place, FIRST, verdict="red", reason="rolled-back", fault="recipe", detail="It exits with 1.")
    assert f"The next sweep proves {NEXT}." in story(place.world, "site").next.text


@pytest.mark.parametrize("becomes", ["deleted", "passed"])
def test_a_proven_release_that_is_the_newest_no_more_does_not_wait(place: Place, becomes: str) -> None:
    repo = upstream(place, NEXT)
    place.promote("site", FIRST, repo.commit("main~1").hexsha)
    proven(place, NEXT, base=FIRST, base_commit=repo.commit("main~1").hexsha, base_from="canonical")
    assert goes_on(place)[3] == "waits"
    if becomes == "deleted":
        repo.git.tag("-d", NEXT)
        sync(place.world, "site")
        assert goes_on(place) == ("no-new-version", "nobody", None, "nothing")
    else:
        upstream(place, LAST)
        assert goes_on(place) == ("new-version", "nobody", "canonq sweep site", "nothing")


def test_what_a_stopped_sweep_found_is_not_forgotten_and_what_is_new_is_told(place: Place) -> None:
    repo = upstream(place)
    place.promote("site", FIRST, repo.commit("main").hexsha)
    night(place, "no-new-version")
    assert goes_on(place) == ("no-new-version", "nobody", None, "nothing")
    upstream(place, NEXT)
    stopped = opened(place)
    typed("stop", stopped)
    assert goes_on(place) == ("new-version", "nobody", "canonq sweep site", "nothing")
    ts = (datetime.now(UTC) + timedelta(hours=9)).strftime("%Y%m%dT%H%M%SZ")
    proven(place, NEXT, verdict="red", reason="rolled-back", fault="recipe", detail="It exits with 1.", sweep=stopped, ts=ts)
    found = story(place.world, "site")
    assert (found.ends, found.fault, found.next.who) == ("red", "recipe", "recipe")


def test_a_red_of_another_release_hides_no_hold(place: Place) -> None:
    upstream(place, NEXT)
    for _ in range(3):
        proven(place, NEXT, verdict="red", reason="rolled-back", fault="recipe", detail="It exits with 1.")
    proven(place, FIRST, verdict="red", reason="rolled-back", fault="recipe", detail="It exits with 1.")
    assert goes_on(place) == ("held-red", "you", "canonq sweep site", "nothing")


def test_a_word_about_a_release_that_has_just_come_out_or_of_a_recipe_that_is_off_is_told_as_it_is(place: Place) -> None:
    repo = upstream(place)
    place.promote("site", FIRST, repo.commit("main").hexsha)
    release(repo, NEXT, {"compose.yml": "services: {}\n# new\n"})
    assert "The next sweep proves it" in typed("hurry", "site", NEXT, "--reason", "x").output
    toml = place.folder / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"enrolled = false\n{toml.read_text()}")
    assert "No sweep is at the recipe while it has `enrolled = false`." in typed("hurry", "site", NEXT, "--reason", "x").output


def test_a_word_about_a_release_that_no_sweep_is_at_promises_nothing(place: Place) -> None:
    repo = upstream(place, NEXT)
    place.promote("site", FIRST, repo.commit("main~1").hexsha)
    assert "the next sweep promotes it" in typed("approve", "site", NEXT, "--reason", "read").output
    assert "As things are, the next sweep is at 1.1.0+1.1 instead." in typed("hurry", "site", FIRST, "--reason", "x").output
    say(place, "block", NEXT)
    assert "leaves the recipe as it is (blocked): " in typed("hurry", "site", NEXT, "--reason", "x").output
