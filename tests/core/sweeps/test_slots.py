"""How much runs side by side: what is there, and what recipes were seen to take."""

from __future__ import annotations

import pytest

from canonq.core.history import expected_share
from canonq.core.ladder import TierName
from canonq.core.peaks import Look, Peak, Taking, expected_cpus, expected_memory, tier_of, with_look
from canonq.core.sweeps.slots import Share, light_slots, why_waits

GIB = 2**30


@pytest.mark.parametrize(
    ("said", "processors", "memory", "slots"),
    [
        (3, 1, 1, 3),  # a number is a number
        ("auto", 2, 8 * GIB, 4),
        ("auto", 8, 2 * GIB, 4),
        ("auto", 64, 512 * GIB, 16),
        ("auto", 1, 2**20, 1),
        ("auto", 4, None, 8),
    ],
)
def test_light_slots_are_as_many_as_processors_and_memory_are_for(said: int, processors: int, memory: int, slots: int) -> None:
    assert light_slots(said, processors, memory) == slots


def test_what_is_alone_begins_however_much_it_takes() -> None:
    assert why_waits(Share(memory=100 * GIB, cpus=64), [], 1, 0, 0) == ""


def test_two_heavy_ones_are_never_at_work_at_once() -> None:
    assert "one heavy recipe" in why_waits(Share(heavy=True), [Share(), Share(heavy=True)], 8, None, 0)
    assert why_waits(Share(), [Share(heavy=True)], 8, None, 0) == ""
    assert why_waits(Share(heavy=True), [Share()], 8, None, 0) == ""


def test_light_work_waits_for_memory_that_others_were_promised_and_have_not_taken_yet() -> None:
    others = [Share(memory=2 * GIB)]
    assert why_waits(Share(memory=GIB), others, 8, 4 * GIB, 0) == ""
    assert "1.0 GiB of memory" in why_waits(Share(memory=GIB), others, 8, 3 * GIB, 0), "2 GiB of them are promised"
    assert why_waits(Share(memory=GIB), others, 8, 2 * GIB, 2 * GIB) == "", "by now they have what they were promised"
    assert why_waits(Share(memory=GIB), others, 8, GIB, 3 * GIB), "they take more than they were expected to"


def test_light_work_waits_for_processors() -> None:
    assert why_waits(Share(cpus=1.0), [Share(cpus=1.0)], 2, None, 0) == ""
    assert "processors" in why_waits(Share(cpus=1.0), [Share(cpus=1.5)], 2, None, 0)
    assert why_waits(Share(), [Share(cpus=1.5)], 1, None, 0) == "", "a number of slots asks for no processors"


def test_a_peak_is_the_most_that_all_containers_took_at_one_moment() -> None:
    first = Look(0.0, {"a": Taking(100, 1.0), "b": Taking(50, 0.0)})
    second = Look(2.0, {"a": Taking(20, 3.0), "c": Taking(60, 1.0)})
    peak = with_look(with_look(Peak(disk_bytes=7), first, None), second, first)
    assert peak == Peak(memory_bytes=150, cpus=1.5, cpu_seconds=3.0, disk_bytes=7)


@pytest.mark.parametrize(
    ("phase", "tier"),
    [
        ("install", "install"),
        ("functional tests", "functional"),
        ("base", "upgrade"),
        ("step back from 1", "upgrade"),
        ("soak", "restore"),
    ],
)
def test_each_phase_of_a_run_belongs_to_a_tier(phase: str, tier: str) -> None:
    assert tier_of(phase, "restore") == tier


def test_what_the_next_run_takes_is_what_the_last_five_took_and_a_tenth() -> None:
    large: dict[TierName, Peak] = {"install": Peak(memory_bytes=900, cpu_seconds=90)}
    small: dict[TierName, Peak] = {
        "install": Peak(memory_bytes=100, cpu_seconds=5),
        "upgrade": Peak(memory_bytes=200, cpu_seconds=5),
    }
    runs = [large, *[small] * 4]
    assert expected_memory(runs) == 990
    assert expected_memory([*runs, {"install": Peak(memory_bytes=300)}]) == 330
    assert expected_memory([{}, {}]) is None, "runs of an older canonq were not measured"
    assert expected_cpus([(one, 10.0) for one in runs[1:]]) == 1.0
    assert expected_cpus([({}, 10.0), (runs[0], 0.0)]) is None


def test_a_recipe_without_history_takes_what_recipes_take_or_less_where_its_enrolment_says_so() -> None:
    assert expected_share([], heavy=False, said=None) == Share(memory=GIB // 2, cpus=0.5)
    assert expected_share([], heavy=True, said=None) == Share(heavy=True, memory=2 * GIB, cpus=1.0)
    assert expected_share([], heavy=False, said=2**28).memory == 2**28
