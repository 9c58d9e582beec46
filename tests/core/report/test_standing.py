"""Where each recipe stands, in one word."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.outcomes import Outcome
from canonq.core.report.standing import STANDINGS, excerpt, headline, is_overtaken, needs_person, ordered, standing, sums


def outcome(kind: Any, reason: str = "x", **more: Any) -> Outcome:
    return Outcome(recipe="site", outcome=kind, reason=reason, **more)


@pytest.mark.parametrize(
    ("came", "problem", "proven", "canonical", "where"),
    [
        (outcome("promoted"), "recipe.toml is not TOML", True, True, "broken"),
        (None, None, True, True, "waiting"),
        (None, None, False, True, "current"),
        (None, None, False, False, "new"),
        (outcome("skipped", "held-red"), None, False, True, "held"),
        (outcome("skipped", "releases-gone"), None, False, True, "held"),
        (outcome("skipped", "no-new-version"), None, False, True, "current"),
        (outcome("skipped", "never-released"), None, False, False, "new"),
        (outcome("promoted", "seed"), None, True, True, "promoted"),
        (outcome("red"), None, False, True, "red"),
        (outcome("error"), None, False, True, "error"),
        (outcome("deferred"), None, False, True, "deferred"),
    ],
)
def test_a_recipe_stands_where_the_worst_says_that_is_true_of_it(
    came: Outcome | None, problem: str | None, proven: bool, canonical: bool, where: str
) -> None:
    assert standing(came, problem, proven, canonical) == where


def test_of_errors_those_are_for_a_person_that_no_machine_mends() -> None:
    assert needs_person("error", outcome("error", "secret-missing", fault="enrolment"))
    assert not needs_person("error", outcome("error", "docker-unreachable", fault="host"))
    assert needs_person("red", outcome("red"))
    assert not needs_person("deferred", outcome("deferred"))


def test_the_sums_name_every_standing_and_add_up() -> None:
    found = sums(["red", "red", "current"])
    assert list(found) == list(STANDINGS)
    assert sum(found.values()) == 3


def test_what_needs_a_person_stands_first_then_by_standing_and_name() -> None:
    cards = [
        {"recipe": "b", "standing": "promoted", "needs_person": False},
        {"recipe": "z", "standing": "error", "needs_person": True},
        {"recipe": "y", "standing": "red", "needs_person": True},
        {"recipe": "a", "standing": "promoted", "needs_person": False},
    ]
    assert [card["recipe"] for card in ordered(cards)] == ["y", "z", "a", "b"]


NIGHT: dict[str, Any] = {"state": "done", "failed": None, "enrolled": 3, "pending": [], "counts": {"promoted": 1}}


@pytest.mark.parametrize(
    ("newest", "standings", "persons", "said"),
    [
        (None, {}, 0, "No sweep has run yet. `canonq sweep` starts one."),
        ({**NIGHT, "state": "open", "pending": ["a"]}, {}, 0, "A sweep is under way: 2 of 3 recipes have an outcome."),
        ({**NIGHT, "state": "failed", "failed": "no Redis."}, {}, 0, "The newest sweep was not done (failed): no Redis."),
        (NIGHT, {"red": 1}, 1, "1 recipe needs a person. The newest sweep promoted 1 of 3."),
        (NIGHT, {"red": 2}, 2, "2 recipes need a person. The newest sweep promoted 1 of 3."),
        (NIGHT, {}, 0, "Nothing needs a person. The newest sweep promoted 1 of 3."),
        (
            NIGHT,
            {"error": 1},
            0,
            "Nothing needs a person; 1 could not be done or were put off. The newest sweep promoted 1 of 3.",
        ),
    ],
)
def test_the_page_begins_with_one_sentence(newest: Any, standings: dict[str, int], persons: int, said: str) -> None:
    assert headline(newest, {**dict.fromkeys(STANDINGS, 0), **standings}, persons) == said


def test_of_a_log_as_much_is_shown_as_fits_a_page() -> None:
    found = excerpt([*(f"line {number}" for number in range(30)), "x" * 1000])
    assert (len(found), found[0]) == (20, "line 11")
    assert found[-1] == f"{'x' * 240} ..."


@pytest.mark.parametrize(
    ("came", "version", "promoted_at", "overtaken"),
    [
        (outcome("red", version="1.1.0+1.0"), "1.1.0+1.0", "20260617T080000Z", True),
        (outcome("red", version="1.1.0+1.0"), "1.2.0+1.0", "20260617T080000Z", True),
        (outcome("red", version="1.1.0+1.0"), "1.0.0+1.0", "20260617T080000Z", False),
        (outcome("red", version="1.1.0+1.0"), "1.1.0+1.0", "20260617T020000Z", False),
        (outcome("skipped", "needs-approval", version="2.0.0+1.0"), "2.0.0+1.0", "20260617T080000Z", True),
        (outcome("error", "sync-failed"), "1.1.0+1.0", "20260617T080000Z", True),
        (outcome("promoted", version="1.1.0+1.0"), "1.1.0+1.0", "20260617T080000Z", False),
        (outcome("red", version="1.1.0+1.0"), "1.1.0+1.0", None, False),
    ],
)
def test_what_a_person_has_promoted_since_needs_nobody_any_more(
    came: Outcome, version: str, promoted_at: str | None, overtaken: bool
) -> None:
    canonical = {"version": version, "promoted_at": promoted_at}
    assert is_overtaken(came, "20260617T030000Z", canonical) is overtaken
    assert not is_overtaken(came, "20260617T030000Z", None)
