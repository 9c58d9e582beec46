"""Whose turn comes first: in a night by what is known of each recipe, and what somebody waits for before all of a night."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from canonq.core.enrolment import Enrolment
from canonq.core.history import LATELY, expected_seconds
from canonq.core.outcomes import Outcome
from canonq.core.steering import in_force
from canonq.core.sweeps.schedule import UNKNOWN, Host, Job, in_order, urgency
from canonq.core.sweeps.window import nights_left_out, read_closing
from canonq.flows.hosts import light_workers
from canonq.flows.world import World

_NIGHTS = 5  #: before this one, of which it counts who was left out


def in_turn(world: World, sweep: str, chains: Sequence[Enrolment]) -> list[Enrolment]:
    """The order in which a sweep's chains are begun."""
    by_name = {one.recipe: one for one in chains}
    nights = list(itertools.islice(_nights_before(world, sweep), _NIGHTS))
    here = Host("here", light_workers(world), heavy=1)
    return [by_name[job.recipe] for job in in_order([_job(world, one, nights) for one in chains], here)]


def is_soon(world: World, sweep: str) -> bool:
    """Whether a sweep's work goes before that of a night: somebody has named its recipes, or has pushed to them."""
    record = world.sweeps.read(sweep)
    return not record.get("whole", True) and (bool(record.get("named")) or record.get("share_of") is None)


def _job(world: World, enrolment: Enrolment, nights: Sequence[Mapping[str, Outcome]]) -> Job:
    """A recipe as far as its turn asks."""
    recipe, verdicts = enrolment.recipe, world.runs.lately(enrolment.recipe, LATELY)
    words = world.steering.words(recipe)
    proven = [one.verdict for one in verdicts if one.ref is None and not one.quick]
    urgent = urgency(
        hurried=any(in_force(words, version, world.stamp(), "hurry") for version in {word.version for word in words}),
        turned_red=proven[-2:] == ["green", "red"],
        left_out=nights_left_out([night.get(recipe) for night in nights]),
    )
    return Job(recipe, expected_seconds(verdicts) or UNKNOWN, enrolment.weight == "heavy", urgency=urgent)


def _nights_before(world: World, sweep: str) -> Iterator[Mapping[str, Outcome]]:
    """What came of each recipe in the nights before this one that had a window, the newest first."""
    for one in world.sweeps.newest_first():
        if one != sweep and read_closing(world.sweeps.read(one).get("closes")) is not None:
            yield world.sweeps.outcomes(one)
