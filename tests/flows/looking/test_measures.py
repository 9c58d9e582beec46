"""What monitoring is told."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from canonq.core.outcomes import Outcome, Tried
from canonq.flows.looking import report
from tests.flows.conftest import FIRST
from tests.flows.mornings import COMMIT, HOSTILE, MORNING, Mornings, idle, promoted, red, stamp


@pytest.fixture
def mornings(tmp_path: Path) -> Mornings:
    return Mornings(tmp_path)


def told(mornings: Mornings, **queues: int) -> dict[tuple[str, ...], float]:
    """name and labels -> value, as Prometheus reads them."""
    world = mornings.world
    known = report.seen(world)
    text = report.metrics(world, report.report(world, known=known), known, lambda: queues)
    return {
        (one.name, *one.labels.values()): one.value for family in text_string_to_metric_families(text) for one in family.samples
    }


def test_a_night_in_numbers(mornings: Mornings) -> None:
    mornings.enrol("site", "other", "third")
    mornings.place.promote("site", FIRST, COMMIT)
    tried = Tried(ts=stamp(MORNING), outcome="error", reason="docker-unreachable")
    busy = Tried(ts=stamp(MORNING), outcome="deferred", reason="busy")
    mornings.night(1, idle("site"), idle("other"), idle("third"))
    mornings.night(0, promoted("site", tries=(tried, busy)), red("other", tries=(tried,)), idle("third"))
    found = told(mornings, light=4, heavy=0)
    ended = (MORNING - timedelta(hours=4) + timedelta(minutes=41)).timestamp()
    for key, value in {
        ("canonq_enrolled_recipes",): 3, ("canonq_recipes_for_a_person",): 1, ("canonq_recipes", "red"): 1,
        ("canonq_sweep_outcomes", "promoted"): 1, ("canonq_sweep_outcomes", "skipped"): 1, ("canonq_sweep_outcomes", "red"): 1,
        ("canonq_sweep_retries",): 3, ("canonq_sweep_first_attempt_failures",): 2, ("canonq_sweep_lock_waits",): 1,
        ("canonq_sweep_exit_status",): 1, ("canonq_sweep_seconds",): 2460, ("canonq_last_sweep_timestamp_seconds",): ended,
        ("canonq_last_good_sweep_timestamp_seconds",): ended - 86400, ("canonq_queue_length", "light"): 4,
        ("canonq_slots", "heavy"): 1, ("canonq_hollow",): 0, ("canonq_missed_nights",): 0, ("canonq_sweeps", "done"): 2,
    }.items():  # fmt: skip
        assert found[key] == value, key


def test_a_canonical_is_behind_since_the_first_sweep_in_a_row_that_did_not_promote_the_newer_release(mornings: Mornings) -> None:
    mornings.enrol("site", "other", "lost")
    for night in (5, 4, 3, 2, 1, 0):
        site = idle("site") if night > 3 else red("site") if night else Outcome(
            recipe="site", outcome="skipped", reason="held-red", version="1.1.0+1.1")  # fmt: skip
        lost = Outcome(recipe="lost", outcome="error", reason="sync-failed")
        mornings.night(night, site, red("other") if night else idle("other"), lost)
    behind = {key[1]: value for key, value in told(mornings).items() if key[0].startswith("canonq_canonical_behind")}
    assert behind == {"site": (MORNING - timedelta(days=3, hours=4)).timestamp()}


def test_what_is_not_known_is_left_out_and_a_hollow_checkout_is_told(mornings: Mornings) -> None:
    found = told(mornings)
    assert found["canonq_hollow",] == 1
    assert not [key for key in found if key[0] in ("canonq_last_sweep_timestamp_seconds", "canonq_queue_length")]


def test_hostile_words_break_no_line_of_it(mornings: Mornings) -> None:
    mornings.enrol("site")
    mornings.run("site", MORNING, lowest_free={HOSTILE + '"}\n evil 1': 7})
    mornings.night(0, *(Outcome(recipe=name, outcome="error", reason="x", outside=HOSTILE, fault="host") for name in ("a", "b")))
    found = told(mornings)
    assert "evil" not in {key[0] for key in found}
    (shared,) = [key for key in found if key[0] == "canonq_shared_trouble_recipes"]
    assert found[shared] == 2
    assert not re.search("[\x00-\x1f\u202e]", "".join(shared))


def test_a_file_for_node_exporter_is_written_with_the_report(tmp_path: Path) -> None:
    mornings = Mornings(tmp_path, report={"metrics_file": tmp_path / "canonq.prom"})
    mornings.enrol("site")
    report.write(mornings.world)
    assert "canonq_enrolled_recipes 1.0" in (tmp_path / "canonq.prom").read_text()
