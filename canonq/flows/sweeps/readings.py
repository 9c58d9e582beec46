"""The enrolments as a sweep has read them, once, when it began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from canonq.flows.world import World


def keep_reading(world: World, sweep: str, recipe: str) -> None:
    """Read an enrolment, and those it depends on, once for the whole sweep. CanonqError for one that cannot be read."""
    left, seen = [recipe], set()
    while left:
        name = left.pop()
        if name not in seen:
            seen.add(name)
            world.checkout.keep(name, _readings(world, sweep))
            left += as_begun(world, sweep).checkout.enrolment(name).deps


def keep_shared(world: World, sweep: str) -> None:
    """Have what lies beside the enrolments for all of them where they are read from. CanonqError where it cannot be."""
    world.checkout.keep_shared(_readings(world, sweep))


def as_begun(world: World, sweep: str) -> World:
    """The world with the enrolments that the sweep has read: what changes while it goes on is proven the next night."""
    return replace(world, checkout=world.checkout.reading(_readings(world, sweep)))


def _readings(world: World, sweep: str) -> Path:
    return world.sweeps.folder(sweep) / "tests"
