"""Which reds count against a release."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.reds import Red, count, noted
from tests.core.test_gate import verdict

THIS, OTHER, TAG = "b" * 40, "c" * 40, "1.1.0+1.1"
RED: dict[str, Any] = {"verdict": "red", "commit": THIS, "enrolment": "now"}


@pytest.mark.parametrize(
    ("runs", "counted"),
    [
        ([], 0),
        ([RED], 1),
        ([RED, RED], 2),
        ([{**RED, "verdict": "green"}], 0),
        ([{**RED, "verdict": "error", "reason": "base-not-healthy", "fault": "recipe"}], 0),
        ([{**RED, "ref": "main"}], 0),
        ([{**RED, "quick": True}], 0),
        ([{**RED, "superseded_by": "another"}], 0),
        ([{**RED, "commit": OTHER}], 0),
        ([{**RED, "enrolment": "before"}], 0),
        ([{**RED, "version": "1.0.9+1.1"}], 0),
        ([{**RED, "commit": None}], 0),
        ([RED, {**RED, "fault": "enrolment"}, {**RED, "verdict": "green"}], 2),
    ],
)
def test_only_reds_of_this_commit_with_this_enrolment_count_and_none_that_was_repeated(
    runs: list[dict[str, Any]], counted: int
) -> None:
    reds: tuple[Red, ...] = ()
    for number, run in enumerate(runs):
        reds = noted(reds, verdict(**{"run": f"run-{number}", **run}))
    assert count(reds, TAG, THIS, "now") == counted


def test_a_run_that_is_written_again_as_repeated_takes_its_red_back() -> None:
    first = verdict(**{"run": "first", **RED})
    reds = noted(noted((), first), first)
    assert count(reds, TAG, THIS, "now") == 1
    assert count(noted(reds, first.model_copy(update={"superseded_by": "second"})), TAG, THIS, "now") == 0


def test_a_red_of_an_older_canonq_counts_for_whatever_tag_its_commit_has() -> None:
    assert count([Red.model_validate({"run": "old", "commit": THIS, "enrolment": "now"})], TAG, THIS, "now") == 1


def test_of_very_many_the_oldest_go_first() -> None:
    reds: tuple[Red, ...] = ()
    for number in range(600):
        reds = noted(reds, verdict(**{"run": f"run-{number}", **RED}))
    assert (len(reds), reds[-1].run) == (500, "run-599")
