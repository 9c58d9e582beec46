"""Sweeps whose own process died before they ended (killed, power gone): closed, with everybody in them accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from canonq.adapters.host import UPKEEP
from canonq.core.names import RECIPE_NAME
from canonq.core.sweeps.reconcile import ended_at, read_value
from canonq.flows.sweeps.closing import stop
from canonq.flows.sweeps.settling import outcome_of
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World


def nobody_works(world: World) -> bool:
    """Whether no worker is there that would go on with what is open. Asked before a command starts workers of its own."""
    return world.settings.broker_url() is None and not world.host.is_done(UPKEEP)


def end_broken_off(world: World, *, alone: bool = False) -> list[str]:
    """Close each open sweep that nobody goes on with; a sentence for each.

    A sweep of a command with workers of its own is over when that command is: whoever started it was there, and begins another.
    All others are gone on with by the workers of their host, so they are over only where nobody is (`alone`).
    """
    told = []
    for sweep in world.sweeps.open_sweeps():
        if is_broken_off(world, sweep, alone=alone):
            told += _end(world, sweep)
    return told


def is_broken_off(world: World, sweep: str, *, alone: bool = False) -> bool:
    """Whether nobody goes on with an open sweep. `alone`: there is no worker here but what the caller starts."""
    bound = bool(world.sweeps.read(sweep).get("bound"))
    if world.sweeps.is_attended(sweep) or not (bound or alone) or world.sweeps.shares.opener(sweep):
        return False
    return not any(world.sweeps.journal(sweep).is_executing(name) for name in _names(world, sweep))


def _end(world: World, sweep: str) -> list[str]:
    for name in _names(world, sweep):
        if (ended := ended_at(world.sweeps.journal(sweep).steps(name))) is not None:
            settle_ended(world, sweep, name, *ended)
    why = (
        "The process that was at it has ended before its time: it was killed, or the host went down. Nothing more of it starts, "
        "and the next sweep looks at what has no outcome here."
    )
    if (found := stop(world, sweep, why)) is None:
        return []
    left = [outcome["recipe"] for outcome in found["outcomes"] if outcome["reason"] == "sweep-stopped"]
    told = (
        f"The sweep {sweep}, begun at {found['started']}, was broken off (killed, or the host went down) and is closed now: "
        f"{found['enrolled'] - len(left)} of {found['enrolled']} had an outcome"
        + (f"; put off to this one or the next: {', '.join(left)}." if left else ".")
    )
    return [told]


def settle_ended(world: World, sweep: str, recipe: str, step: str, result: Mapping[str, Any] | None) -> None:
    """Settle a recipe whose chain has ended at `step`, with what that came to then."""
    outcome = world.sweeps.journal(sweep).outcome(recipe, step)
    if outcome is None and (value := read_value(step, result)):
        outcome = outcome_of(world, value)
    if outcome is not None:
        world.sweeps.settle(sweep, outcome)


def _names(world: World, sweep: str) -> list[str]:
    return [name for name in summary(world, sweep)["pending"] if RECIPE_NAME.fullmatch(name)]
