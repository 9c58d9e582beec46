"""A recipe's story: what it ends with, and the one next step that is told for it."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.outcomes import Outcome
from canonq.core.records import Canonical, Decision, Promotion
from canonq.core.story import Facts, tell, without_mend
from tests.core.test_decide import canonical
from tests.core.test_gate import verdict

NIGHT, LATER = "20260617T030000Z", "20260617T070000Z"


def outcome(kind: str, reason: str, **more: Any) -> Outcome:
    return Outcome.model_validate({"recipe": "site", "outcome": kind, "reason": reason, "step": "test", **more})


def facts(**more: Any) -> Facts:
    return Facts(
        **{
            "recipe": "site",
            "canonical": canonical(),
            "sweep": "20260617T030000Z-aaaaaa",
            "sweep_started": NIGHT,
            "hold_reds": 3,
            **more,
        }
    )


RED = verdict(
    verdict="red", reason="rolled-back", detail="It exits with 1.", fault="recipe", ts="20260617T030500Z",
    sweep="20260617T030000Z-aaaaaa",
    tiers={"install": {"status": "pass"}, "upgrade": {"status": "fail"}, "backup": {"status": "not-reached"}},
)  # fmt: skip


def test_a_red_says_where_whose_fault_what_stays_and_how_often_it_is_tried_again() -> None:
    told = tell(facts(outcome=outcome("red", "rolled-back", fault="recipe", detail="It exits with 1."), verdict=RED, reds=1))
    assert (told.ends, told.reason, told.fault, told.tier) == ("red", "rolled-back", "recipe", "upgrade")
    assert told.next.who == "recipe"
    assert "1.0.0+1.0 stays the canonical" in told.next.text
    assert "in 2 more sweeps" in told.next.text
    assert any("red at upgrade (rolled-back)" in event.text for event in told.events)
    last = tell(facts(outcome=outcome("red", "rolled-back", fault="recipe"), verdict=RED, reds=3))
    assert "not tried again by itself" in last.next.text


@pytest.mark.parametrize(
    ("fault", "who", "command"),
    [
        ("recipe", "recipe", "canonq logs site"),
        ("enrolment", "you", "canonq test site"),
        ("user", "you", "canonq test site"),
        ("host", "host", "canonq doctor"),
        ("canonq", "canonq", "canonq logs site"),
    ],
)
def test_whose_fault_it_is_says_who_is_to_act_and_the_mend_is_the_step(fault: str, who: str, command: str) -> None:
    found = outcome("error", "x-y", fault=fault, detail="It broke. Mend: turn it off and on.")
    step = tell(facts(outcome=found, verdict=RED)).next
    assert (step.who, step.command) == (who, command)
    assert step.text.startswith("Turn it off and on.")


def test_what_somebody_changed_here_since_the_last_proof_is_looked_at_first() -> None:
    red = outcome("red", "functional-failed", fault="recipe")
    assert "Report it to the recipe." in tell(facts(outcome=red, verdict=RED)).next.text
    assert "was changed since the canonical was proven" in tell(facts(outcome=red, verdict=RED, changed=True)).next.text


def test_what_a_run_has_not_done_is_no_step() -> None:
    red = outcome("red", "compose-invalid", fault="recipe", detail="Odd. Mend: correct it. Nothing of it was deployed.")
    assert tell(facts(outcome=red, verdict=RED, hold_reds=0)).next.text == "Correct it. 1.0.0+1.0 stays the canonical."


@pytest.mark.parametrize(
    ("reason", "command"),
    [("held-red", "canonq sweep site"), ("held-rollback", "canonq sweep site"), ("held-promotion", "canonq promote site")],
)
def test_what_is_held_names_the_command_that_releases_it(reason: str, command: str) -> None:
    assert tell(facts(outcome=outcome("skipped", reason, step="decide"))).next.command == command


def test_where_nothing_is_new_or_all_went_well_there_is_nothing_to_do() -> None:
    for found in (outcome("skipped", "no-new-version", step="decide"), outcome("promoted", "new-version", step="promote")):
        assert tell(facts(outcome=found)).next.who == "nobody"
    assert tell(facts(outcome=outcome("skipped", "never-released", step="decide"))).next.who == "recipe"


def test_of_a_green_run_what_it_left_unproven_and_what_keeps_its_level_down_is_told() -> None:
    gap = "functional was skipped and recipe.toml does not say why under [expected_na]: it has no tests of its own"
    green = verdict(
        level=3,
        gaps=(gap, "no-marker: db (mariadb)"),
        stale=("[expected_na] backup = 'none' no longer holds: the tier applies and was run",),
        notes=("pin-passed-over: the pinned upgrade base 2.0.0 is not older than 1.1.0+1.1",),
        rungs={
            "install": {"status": "pass"}, "upgrade": {"status": "skip", "reason": "there is no older release"},
            "backup-restore": {"status": "pass"}, "functional": {"status": "skip", "reason": "it has no tests of its own"},
            "lint": {"status": "fail", "reason": "tag-not-annotated"},
        },
    )  # fmt: skip
    decision = Decision(
        recipe="site", action="run", reason="new-version", detail="x.", notes=("stale-pin: remove it", "tag x is not a release")
    )
    assert tell(facts(outcome=outcome("promoted", "new-version"), verdict=green, decided=(NIGHT, decision))).remarks == (
        "upgrade: skip, there is no older release",
        "lint: fail, tag-not-annotated",
        f"gap: {gap}",
        "gap: no-marker: db (mariadb)",
        "stale: [expected_na] backup = 'none' no longer holds: the tier applies and was run",
        "note: pin-passed-over: the pinned upgrade base 2.0.0 is not older than 1.1.0+1.1",
        "note: stale-pin: remove it",
    )
    assert tell(facts(outcome=outcome("red", "rolled-back"), verdict=RED)).remarks == (), "the tiers of a red have their own line"


def test_a_run_by_hand_after_the_sweep_is_what_the_story_ends_with() -> None:
    red = outcome("red", "rolled-back", fault="recipe", run="20260617T030500Z-site-bbbbbb")
    by_hand = verdict(ts=LATER, run="20260617T070000Z-site-cccccc", sweep=None)
    waits = Decision(recipe="site", action="promote", reason="not-promoted-yet", detail="It waits.", run=by_hand.run)
    told = tell(facts(outcome=red, verdict=by_hand, tonight=waits))
    assert told.ends == "green"
    assert told.next.command == "canonq promote site"


def test_a_promotion_by_hand_that_failed_is_what_the_story_ends_with() -> None:
    failed = Promotion(recipe="site", outcome="failed", reason="promote-failed", detail="No room. Mend: make room.", fault="host")
    told = tell(facts(outcome=outcome("red", "rolled-back"), verdict=verdict(), promotion=(LATER, failed)))
    assert (told.ends, told.reason, told.next.text, told.next.command) == (
        "error",
        "promote-failed",
        "Make room.",
        "canonq doctor",
    )


def test_what_is_under_way_or_cannot_be_read_comes_before_all_else() -> None:
    red = outcome("red", "rolled-back", fault="recipe")
    assert tell(facts(outcome=red, under_way=("test", NIGHT))).next.text == "Wait: test is under way."
    assert tell(facts(outcome=red, problem="It is empty. Mend: write it.")).next.text == "Write it."


def test_events_are_in_the_order_of_their_times_and_rollbacks_are_among_them() -> None:
    back = {"by": "sam", "at": "20260616T100000Z", "reason": "it lost mail", "version": "1.1.0+1.1", "commit": "b" * 40}
    record = Canonical.model_validate({**canonical().model_dump(by_alias=True), "ts": "20260601T030000Z", "rolled_back": [back]})
    decision = Decision(recipe="site", action="run", reason="new-version", detail="Prove it.")
    told = tell(
        facts(canonical=record, decided=("20260617T030100Z", decision), verdict=RED, outcome=outcome("red", "rolled-back"))
    )
    assert [event.what for event in told.events] == ["promoted", "rolled-back", "decided", "proven"]
    assert "sam rolled 1.1.0+1.1 back: it lost mail" in told.events[1].text
    assert told.events[0].at is None, "the record does not say when, and its `ts` is of any write"


def test_what_a_person_went_back_from_waits_for_nobody_also_before_the_next_sweep_says_so() -> None:
    back = {"by": "sam", "at": LATER, "reason": "it lost mail", "version": "1.1.0+1.1", "commit": "b" * 40}
    record = Canonical.model_validate({**canonical().model_dump(by_alias=True), "rolled_back": [back]})
    promoted = outcome("promoted", "new-version", step="promote", version="1.1.0+1.1")
    step = tell(facts(canonical=record, outcome=promoted)).next
    assert (step.who, step.command) == ("nobody", "canonq sweep site")
    assert "rolled back" in step.text
    held = tell(facts(canonical=record, outcome=outcome("skipped", "held-rollback", step="decide"))).next
    assert (held.who, held.text) == (step.who, step.text)
    again = outcome("promoted", "new-version", step="promote", version=record.version)
    assert tell(facts(canonical=record, outcome=again)).next.who == "nobody"


def test_of_a_recipe_with_which_nothing_was_done_that_is_told() -> None:
    told = tell(Facts("site"))
    assert (told.ends, told.events, told.next.command) == (None, (), "canonq test site")


@pytest.mark.parametrize(
    ("detail", "said", "left"),
    [
        ("It broke. Mend: turn it off.", "Turn it off. It is tried in 2 more sweeps.", "It broke."),
        ("It broke. Mend: turn it off. Nothing of it was deployed.", "Turn it off.", "It broke. Nothing of it was deployed."),
        ("It broke. Mend: turn it off.", "Report it to the recipe.", "It broke. Mend: turn it off."),
        ("It broke. Mend: turn it off.", "", "It broke. Mend: turn it off."),
        ("It broke.", "It broke.", "It broke."),
    ],
)
def test_what_is_to_be_done_is_said_once(detail: str, said: str, left: str) -> None:
    assert without_mend(detail, said) == left
