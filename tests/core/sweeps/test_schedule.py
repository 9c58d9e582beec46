"""Which recipe runs where and when: no slot idle while work waits for it, the longest first, nothing beyond what a host has."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canonq.core.sweeps.schedule import Host, Job, Schedule, in_order, longest_first, lower_bound, schedule

GIB = 2**30
ONE = Host("one", light=2, heavy=1)


def fleet(count: int, seed: int) -> list[Job]:
    """Recipes as they are: most take a minute, some twenty; one in seven is heavy."""
    pick = random.Random(seed)
    return [
        Job(
            f"r{number}",
            min(1500.0, max(15.0, pick.lognormvariate(4.2, 0.8))),
            pick.random() < 0.14,
            pick.randint(1, 16) * GIB // 4,
        )
        for number in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_night_of_21_recipes_takes_hardly_longer_than_it_must(seed: int) -> None:
    made = schedule(fleet(21, seed), [ONE])
    assert len(made.placed) == 21
    assert made.makespan <= 1.05 * made.lower_bound


def test_a_thousand_recipes_on_twenty_hosts_with_little_memory_take_hardly_longer_than_they_must() -> None:
    hosts = [Host(f"h{number}", light=2, heavy=1, memory=8 * GIB) for number in range(20)]
    made = schedule(fleet(1000, 7), hosts)
    assert len(made.placed) == 1000
    assert made.makespan <= 1.10 * made.lower_bound


def test_an_idle_heavy_slot_takes_light_work_and_a_light_one_never_takes_heavy_work() -> None:
    jobs = [Job("big", 100, heavy=True), Job("huge", 200, heavy=True), *(Job(f"small{number}", 50) for number in range(8))]
    made = schedule(jobs, [ONE])
    assert all(one.slot.startswith("heavy") for one in made.placed if one.job.heavy)
    alone = schedule([Job(f"small{number}", 50) for number in range(3)], [ONE])
    assert alone.makespan == 50


def test_what_a_host_cannot_give_is_left_out_with_the_reason_and_the_others_go_on() -> None:
    hosts = [Host("one", light=1, heavy=0, memory=GIB, disk=GIB)]
    jobs = [
        Job("heavy", 1, heavy=True),
        Job("large", 1, memory=2 * GIB),
        Job("far", 1, host="two"),
        Job("long", 99),
        Job("good", 5),
    ]
    made = schedule(jobs, hosts, window=10)
    assert [one.job.recipe for one in made.placed] == ["good"]
    assert {job.recipe: why for job, why in made.left_out} == {
        "heavy": "no host that it may run on has a slot of its weight",
        "large": "it takes more memory or disk than a host has",
        "far": "its host two is not there",
        "long": "it takes longer than the window",
    }


def test_nothing_starts_that_would_not_end_before_the_window_closes() -> None:
    made = schedule([Job(f"r{number}", 40) for number in range(3)], [Host("one", light=1, heavy=0)], window=100)
    assert len(made.placed) == 2
    assert [why for _, why in made.left_out] == ["it would not end before the window closes"]


def test_the_order_is_that_of_length_and_then_of_names() -> None:
    assert [job.recipe for job in longest_first([Job("b", 1), Job("c", 9), Job("a", 1)])] == ["c", "a", "b"]


JOBS = st.lists(
    st.builds(
        Job, recipe=st.text("abc", min_size=1, max_size=3), seconds=st.floats(0.5, 500), heavy=st.booleans(),
        memory=st.integers(0, 6), disk=st.integers(0, 6), host=st.sampled_from([None, None, "h0", "h1", "h9"]),
    ),
    max_size=40,
)  # fmt: skip
HOSTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from([None, 4, 8]), st.sampled_from([None, 4, 8])), max_size=3
).map(lambda found: [Host(f"h{number}", *each) for number, each in enumerate(found)])


@settings(max_examples=150, deadline=None)
@given(jobs=JOBS, hosts=HOSTS, window=st.sampled_from([None, 100.0, 900.0]))
def test_whatever_there_is_each_job_is_placed_once_or_left_out_and_no_host_gives_more_than_it_has(
    jobs: list[Job], hosts: list[Host], window: float | None
) -> None:
    made = schedule(jobs, hosts, window=window)
    assert sorted([one.job for one in made.placed] + [job for job, _ in made.left_out], key=id) == sorted(jobs, key=id)
    assert made.makespan >= made.lower_bound * 0.999999
    _holds(made, {host.name: host for host in hosts}, window)


def _holds(made: Schedule, hosts: dict[str, Host], window: float | None) -> None:
    for one in made.placed:
        host, beside = hosts[one.host], [other for other in made.placed if other.host == one.host]
        assert one.job.host in (None, one.host)
        assert window is None or one.end <= window
        assert not one.job.heavy or one.slot.startswith("heavy")
        then = [other for other in beside if other.start <= one.start < other.end]
        assert len({other.slot for other in then}) == len(then), "a slot does one thing at a time"
        assert host.memory is None or sum(other.job.memory for other in then) <= host.memory
        assert host.disk is None or sum(other.job.disk for other in then) <= host.disk


@pytest.mark.parametrize("seed", range(2))
def test_where_disk_is_scarce_what_is_large_is_not_left_to_the_end(seed: int) -> None:
    pick = random.Random(seed)
    jobs = [replace(job, disk=pick.randint(1, 16) * GIB // 4) for job in fleet(1000, seed)]
    made = schedule(jobs, [Host(f"h{number}", light=2, heavy=1, memory=8 * GIB, disk=6 * GIB) for number in range(20)])
    assert len(made.placed) == 1000
    assert made.makespan <= 1.10 * made.lower_bound


def test_the_lower_bound_counts_what_fits_nowhere_in_twos_and_what_one_host_alone_may_run() -> None:
    hosts = [Host(f"h{number}", light=3, heavy=0, memory=8) for number in range(2)]
    assert lower_bound([Job(f"r{number}", 10, memory=5) for number in range(4)], hosts) == 20
    assert lower_bound([Job(f"r{number}", 10, host="h0") for number in range(6)], hosts) == 20


def test_chains_are_sent_in_the_order_in_which_the_schedule_starts_them() -> None:
    jobs = [Job("a", 50), Job("b", 40), Job("c", 30), Job("big", 90, heavy=True), Job("huge", 95, heavy=True)]
    assert [job.recipe for job in in_order(jobs, ONE)] == ["huge", "a", "b", "c", "big"]


def test_the_lower_bound_counts_the_scarcest_thing() -> None:
    jobs = [Job("a", 10, memory=4), Job("b", 10, memory=4)]
    assert lower_bound(jobs, [Host("one", light=9, heavy=0, memory=4)]) == 20
    assert lower_bound([], [ONE]) == 0
