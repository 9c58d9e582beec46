"""What earlier runs say of the next one."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.budget import Need
from canonq.core.history import expected_disk, expected_of_promotion, expected_of_step, expected_seconds, newest_proof, tries_of
from canonq.core.records import Verdict
from tests.core.test_gate import verdict

MIB = 2**20
THIS, OTHER, TAG = "b" * 40, "c" * 40, "1.1.0+1.1"


def run(**more: Any) -> Verdict:
    return verdict(commit=THIS, enrolment="now", **more)


@pytest.mark.parametrize(
    ("verdicts", "proven"),
    [
        ([], False),
        ([run()], True),
        ([run(), run(verdict="red")], False),
        ([run(verdict="red"), run()], True),
        ([run(), verdict(commit=OTHER, enrolment="now", verdict="red")], True),
        ([run(), verdict(commit=THIS, enrolment="before", verdict="red")], True),
        ([run(), run(ref="main", verdict="red"), run(quick=True, verdict="red")], True),
        ([run(ref="main")], False),
        ([run(quick=True)], False),
        ([verdict(commit=THIS, enrolment="before")], False),
        ([run(), run(verdict="error")], False),
        ([run(version="1.0.9+1.1")], False),
        ([run(), run(version="1.0.9+1.1", verdict="red")], True),
    ],
)
def test_what_is_proven_is_this_tag_at_this_commit_with_this_enrolment_from_a_cold_start_and_last(
    verdicts: list[Verdict], proven: bool
) -> None:
    assert (newest_proof(verdicts, TAG, THIS, "now") is not None) is proven


@pytest.mark.parametrize(
    ("failures", "tries"),
    [
        ([], 0),
        ([{"sweep": "a"}, {"sweep": "a"}], 1),
        ([{"sweep": "a"}, {"sweep": "b"}], 2),
        ([{}, {}], 2),
        ([{"sweep": "a"}, {}], 2),
    ],
)
def test_all_tries_of_one_sweep_are_one_and_each_call_by_hand_is_one(failures: list[dict[str, Any]], tries: int) -> None:
    assert tries_of(failures) == tries


@pytest.mark.parametrize(
    ("seconds", "expected"), [([], None), ([0.0], None), ([10.0], 10.0), ([1000.0, 10.0, 20.0, 30.0, 40.0, 50.0], 30.0)]
)
def test_the_next_run_takes_as_long_as_the_middle_one_of_the_last_five(seconds: list[float], expected: float | None) -> None:
    assert expected_seconds([run(seconds=one) for one in seconds]) == expected


def test_a_run_takes_what_the_largest_of_the_last_took_by_what_it_is_and_without_history_what_is_set() -> None:
    assert expected_disk([], 7).total == 7
    small, large = (
        run(disk_bytes=100 * MIB, volume_bytes=50 * MIB, image_bytes=10 * MIB),
        run(disk_bytes=1000 * MIB, volume_bytes=500 * MIB, image_bytes=300 * MIB),
    )
    assert expected_disk([large, small], 7) == Need(state=250 * MIB, volumes=625 * MIB, images=375 * MIB)
    assert expected_disk([run(disk_bytes=1000 * MIB, volume_bytes=None)], 7) == Need(anywhere=1250 * MIB), "of an older canonq"


def test_a_promotion_takes_its_volumes_twice_and_no_image() -> None:
    needed = expected_of_promotion(run(disk_bytes=5000 * MIB, volume_bytes=400 * MIB, image_bytes=4000 * MIB), 7)
    assert (needed.total, needed.images) == (1000 * MIB, 0)


def test_a_promotion_that_was_put_off_asks_for_what_the_proven_run_took_whatever_ran_since() -> None:
    proven = run(disk_bytes=500 * MIB, volume_bytes=400 * MIB)
    since = run(ref="main", disk_bytes=5000 * MIB, volume_bytes=4000 * MIB)
    assert expected_of_step([proven, since], "promote", 7) == expected_of_promotion(proven, 7)
    assert expected_of_step([proven, since], "test", 7) == expected_disk([proven, since], 7)
    assert expected_of_step([], "promote", 7).total == 7
