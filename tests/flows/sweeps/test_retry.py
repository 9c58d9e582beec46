"""A machine's fault in a sweep: the recipe waits, is tried again when its pause is over, and every try stays on record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from canonq.core.errors import CanonqError, HostProblem, RecipeProblem
from canonq.core.records import Verdict
from canonq.core.sweeps.again import MOST_TRIES
from canonq.flows.sweeps.again import retry_deferred
from canonq.flows.sweeps.closing import finish, give_up
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import settle, settle_error
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World
from tests.flows.conftest import FIRST, Place

DOWN = HostProblem("The registry is down.", code="registry-unavailable", outside="ghcr.io")


class Clock:
    """The time, which goes on when a test says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 6, 17, 3, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def later(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(place: Place, clock: Clock) -> World:
    place.recipe("site")
    return replace(place.world, now=clock)


def verdict(world: World, sweep: str, run: str, kind: str = "error", **more: object) -> Verdict:
    plain = {
        "recipe": "site", "sweep": sweep, "run": run, "verdict": kind, "reason": "registry-unavailable",
        "detail": f"{run} failed", "fault": "host", "version": FIRST, "commit": "a" * 40, "enrolment": "", "ts": world.stamp(),
    }  # fmt: skip
    return Verdict.model_validate({**plain, **more})


def started(world: World, sweep: str) -> list[str]:
    return retry_deferred(world, sweep, lambda enrolment: None)


def test_a_machines_fault_is_tried_again_after_its_pause_and_the_first_try_is_told(world: World, clock: Clock) -> None:
    sweep = open_sweep(world).sweep
    world.sweeps.journal(sweep).finish("site", "test", {"kept": True})
    settle(world, verdict(world, sweep, "one"))
    assert finish(world, sweep) is None, "a sweep with a recipe that waits is not over"
    assert (summary(world, sweep)["pending"], list(summary(world, sweep)["waiting"])) == ([], ["site"])
    assert started(world, sweep) == []
    clock.later(61)
    assert started(world, sweep) == ["site"]
    assert started(world, sweep) == [], "one try at a time"
    assert world.sweeps.journal(sweep).result("site", "test") is None, "the step is done again, not read from its record"

    settle(world, verdict(world, sweep, "two", kind="red", reason="not-healthy", fault="recipe"))
    (outcome,) = finish(world, sweep)["outcomes"]  # type: ignore[index]
    assert (outcome["outcome"], outcome["reason"], outcome["retry_at"]) == ("red", "not-healthy", None)
    (first,) = outcome["tries"]
    assert (first["outcome"], first["reason"], first["run"], first["detail"], first["step"]) == (
        "error", "registry-unavailable", "one", "one failed", "test",
    )  # fmt: skip


def test_an_outage_of_a_whole_night_ends_as_an_error_with_every_try(world: World, clock: Clock) -> None:
    sweep = open_sweep(world).sweep
    for _ in range(MOST_TRIES):
        settle_error(world, sweep, "site", "sync", DOWN)
        clock.later(3600)
        assert started(world, sweep) == ["site"]
    settle_error(world, sweep, "site", "sync", DOWN)
    (outcome,) = finish(world, sweep)["outcomes"]  # type: ignore[index]
    assert (outcome["outcome"], outcome["fault"], len(outcome["tries"])) == ("error", "host", MOST_TRIES)


@pytest.mark.parametrize("error", [RecipeProblem("It is broken."), CanonqError("It broke.")])
def test_what_is_no_machines_fault_ends_the_sweep_at_once(world: World, error: CanonqError) -> None:
    sweep = open_sweep(world).sweep
    settle_error(world, sweep, "site", "test", error)
    assert finish(world, sweep) is not None


def test_a_sweep_that_is_given_up_keeps_what_waits_as_it_is(world: World, clock: Clock) -> None:
    sweep = open_sweep(world).sweep
    settle_error(world, sweep, "site", "sync", DOWN)
    give_up(world, sweep, "it took too long")
    assert summary(world, sweep)["state"] == "done"
    (outcome,) = summary(world, sweep)["outcomes"]
    assert (outcome["reason"], outcome["retry_at"]) == ("registry-unavailable", None)
    clock.later(7200)
    assert started(world, sweep) == []


def test_many_recipes_that_one_outage_stopped_are_told_as_one_cause(place: Place, world: World) -> None:
    place.recipe("blog")
    sweep = open_sweep(world).sweep
    for recipe in ("site", "blog"):
        settle_error(world, sweep, recipe, "test", DOWN)
    (trouble,) = summary(world, sweep)["troubles"]
    assert (trouble["reason"], trouble["outside"], trouble["recipes"]) == ("registry-unavailable", "ghcr.io", ["blog", "site"])
