"""A registry that is down in a sweep: the next recipe does not ask it, nothing is red, and nothing is ever held for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.records import Verdict
from canonq.flows.decide import decide_recipe
from canonq.flows.promote import promote
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import settle
from canonq.flows.world import World
from tests.fakes import FakeEngine
from tests.faults.scenario import RECIPE, Scenario

DOWN = HostProblem("The pull failed: 503.", code="registry-rate-limit", outside="docker.io", retry_after=1234)


class WithoutImages(FakeEngine):
    """Has no image yet, and a registry that is down until it is told otherwise."""

    down: Exception | None = DOWN
    asked = 0

    def image_sizes(self, references: Sequence[str]) -> dict[str, int]:
        return {}

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        self.asked += 1
        if self.down:
            raise self.down
        return super().ensure_images(references, timeout)


@pytest.fixture
def scenario(tmp_path: Path, redis_url: str) -> Scenario:
    return Scenario(tmp_path, redis_url).prepare()


def proven(scenario: Scenario, engine: WithoutImages) -> tuple[World, str, Verdict]:
    """A release that was proven in a sweep, and is to be promoted in it."""
    scenario.prove()
    world = replace(scenario.world(), engine=engine)
    sweep = open_sweep(world).sweep
    newest = world.runs.newest(RECIPE)
    assert newest
    return world, sweep, newest.model_copy(update={"sweep": sweep})


@pytest.mark.long
def test_a_registry_that_is_down_is_not_asked_by_the_next_and_its_recipes_wait_for_it(scenario: Scenario) -> None:
    engine = WithoutImages(scenario.root / "docker")
    world, sweep, verdict = proven(scenario, engine)
    for asked in (1, 1):  # the second try, as another recipe's, is answered by what the first one found
        outcome = settle(world, promote(world, verdict))
        assert engine.asked == asked
        assert outcome
        assert (outcome.outcome, outcome.reason, outcome.cause) == ("error", "promote-failed", "registry-rate-limit")
        assert (outcome.fault, outcome.outside) == ("host", "docker.io")
        assert outcome.retry_at is not None
        assert 1200 < outcome.retry_at - world.now().timestamp() < 1300
    assert world.sweeps.outages(sweep).of("docker.io")

    engine.down = None
    by_hand = verdict.model_copy(update={"sweep": None})
    assert promote(world, by_hand).outcome == "promoted", "who asks by hand is not kept from asking"


def test_what_is_had_again_ends_the_outage(scenario: Scenario) -> None:
    engine = WithoutImages(scenario.root / "docker")
    world, sweep, verdict = proven(scenario, engine)
    world.sweeps.outages(sweep).note(DOWN, "other:1", world.now().timestamp() - 9999, 60)
    engine.down = None
    assert promote(world, verdict).outcome == "promoted"
    assert world.sweeps.outages(sweep).of("docker.io") is None


def test_an_image_that_is_there_for_nobody_is_no_outage(scenario: Scenario) -> None:
    engine = WithoutImages(scenario.root / "docker")
    engine.down = RecipeProblem("There is no such image.", code="image-unavailable")
    world, sweep, verdict = proven(scenario, engine)
    outcome = settle(world, promote(world, verdict))
    assert outcome
    assert (outcome.fault, outcome.retry_at) == ("recipe", None)
    assert world.sweeps.outages(sweep).of("docker.io") is None


def test_nights_of_a_registry_that_is_down_hold_nothing(scenario: Scenario) -> None:
    world = scenario.world()
    scenario.released = 2
    (release, commit) = max(world.repos.tags(RECIPE).items(), key=lambda item: int(item[0].split(".")[1]))
    for _ in range(5):
        run = world.new_id(RECIPE)
        world.runs.make(RECIPE, run)
        down = Verdict(
            recipe=RECIPE, run=run, verdict="error", reason="registry-unavailable", detail="", fault="host", version=release,
            commit=commit, enrolment=world.checkout.digest(RECIPE), ts=world.stamp(),
        )  # fmt: skip
        world.runs.record(down)
    decision = decide_recipe(world, RECIPE)
    assert (decision.action, decision.version) == ("run", release)
