"""A night of a fleet, small here and large in `make bench`: beat, Redis, workers and Flower are real, the Engine is of files."""

from __future__ import annotations

import pytest

from bench import load

pytestmark = pytest.mark.long

_COUNT = 16


def test_beat_has_a_fleet_swept_an_idle_heavy_slot_takes_light_work_and_flower_has_all_of_it() -> None:
    seen = load.new_releases(_COUNT)
    assert seen.counts == {"promoted": _COUNT, "skipped": 0, "red": 0, "error": 0, "deferred": 0}
    steps = ("sync", "decide", "test", "promote")
    assert seen.flower == seen.executed == {"canonq.sweep": 1} | {f"canonq.{step}": _COUNT for step in steps}
    assert seen.first_test is not None
    assert sum(seen.tests.values()) == _COUNT
    assert seen.tests["heavy"] > 0, "nothing is heavy, and it waits for nobody"
