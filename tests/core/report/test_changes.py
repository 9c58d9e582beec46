"""What changed from sweep to sweep."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.outcomes import Outcome
from canonq.core.report.changes import changes, state_of


def outcome(kind: Any, reason: str = "x", **more: Any) -> Outcome:
    return Outcome(recipe="site", outcome=kind, reason=reason, version="1.1.0+1.1", **more)


@pytest.mark.parametrize(
    ("came", "state"),
    [
        (outcome("red", "rolled-back"), "red"),
        (outcome("skipped", "held-red"), "red"),
        (outcome("error", "secret-missing", fault="enrolment"), "red"),
        (outcome("error", "docker-unreachable", fault="host"), None),
        (outcome("deferred", "disk-below-budget"), None),
        (outcome("skipped", "never-released"), None),
        (outcome("skipped", "no-new-version"), "green"),
        (outcome("promoted", "seed"), "green"),
    ],
    ids=lambda value: value.reason if isinstance(value, Outcome) else str(value),
)
def test_the_machines_fault_and_what_was_put_off_say_neither_good_nor_bad_of_a_recipe(came: Outcome, state: str | None) -> None:
    assert state_of(came) == state


def night(day: int, *outcomes: Outcome) -> dict[str, Any]:
    return {"sweep": f"202606{day}T030000Z-abcdef", "outcomes": [one.model_dump(mode="json") for one in outcomes]}


def test_a_red_is_told_when_it_begins_and_when_it_ends_and_never_in_between() -> None:
    nights = [
        night(10, outcome("promoted", "seed", level=4)),
        night(11, outcome("red", "rolled-back", detail="it exits")),
        night(12, outcome("error", "docker-unreachable", fault="host")),
        night(13, outcome("red", "rolled-back")),
        night(14, outcome("skipped", "no-new-version")),
        night(15, outcome("skipped", "no-new-version")),
    ]
    found = [(one.kind, one.sweep[6:8], one.text) for one in changes(nights)]
    assert found == [("green", "14", "no-new-version"), ("red", "11", "it exits"), ("promoted", "10", "seed (level 4)")]


def test_where_the_first_report_is_not_the_first_that_was_it_says_how_things_stood() -> None:
    assert changes([night(11, outcome("red"))], whole=False) == []
    assert [one.kind for one in changes([night(11, outcome("red")), night(12, outcome("promoted"))], whole=False)] == [
        "green",
        "promoted",
    ]
