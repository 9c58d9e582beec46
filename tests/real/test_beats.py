"""Real beats and real workers: whose night it is, and nights that nobody saw."""

from __future__ import annotations

import shelve
import time
from datetime import timedelta

import pytest

from tests.real.conftest import Processes, record_of, until
from tests.support import Installation

pytestmark = pytest.mark.real


def test_two_beats_start_one_sweep(small: Installation, workers: Processes) -> None:
    for _ in range(2):
        small.celery("call", "canonq.sweep", "--kwargs", '{"nightly": true}')
    until("the second", lambda: "Another beat" in workers.log("light") + workers.log("heavy"), workers)
    until("the promotion", lambda: record_of(small), workers)
    assert len(list((small.state / "sweeps").glob("*/sweep.json"))) == 1


def test_beat_starts_the_sweep(small: Installation, workers: Processes) -> None:
    small.settings["CANONQ_NIGHTLY"] = "* * * * *"
    workers.celery("beat", "beat", "--pidfile", str(small.root / "beat.pid"), "--loglevel=INFO")
    until("the promotion", lambda: record_of(small), workers)
    assert "Sending due task nightly-sweep" in workers.log("beat")


def test_nights_that_were_missed_are_caught_up_once(small: Installation, workers: Processes) -> None:
    in_half_a_day = (time.gmtime().tm_hour + 12) % 24
    small.settings["CANONQ_NIGHTLY"] = f"0 {in_half_a_day} * * *"
    first = workers.celery("beat", "beat", "--pidfile=", "--loglevel=INFO")
    schedule = small.state / "beat-schedule"
    until("beat's schedule", lambda: list(small.state.glob("beat-schedule*")) and "beat: Starting" in workers.log("beat"))
    time.sleep(1)
    first.terminate()
    first.wait(300)
    with shelve.open(str(schedule)) as kept:
        entries = kept["entries"]
        entries["nightly-sweep"].last_run_at -= timedelta(days=3)
        kept["entries"] = entries
    assert "Sending due task" not in workers.log("beat")
    workers.celery("late", "beat", "--pidfile=", "--loglevel=INFO")
    until("the sweep", lambda: "Sending due task nightly-sweep" in workers.log("late"), workers)
    until("the promotion", lambda: record_of(small), workers)
    assert workers.log("late").count("Sending due task") == 1
    assert len(list((small.state / "sweeps").glob("*/sweep.json"))) == 1
