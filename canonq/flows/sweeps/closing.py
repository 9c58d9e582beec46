"""How a sweep ends: done, failed, refused or stopped; with its report, and for good.

What is closed stays as it is: `Sweeps.closed` is the one place that knows, and settling and trying again ask it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from canonq.core.errors import CanonqError, ExitStatus
from canonq.core.outcomes import Closed, Outcome
from canonq.flows.sweeps.again import waiting
from canonq.flows.sweeps.settling import failed, settle_error
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World


def finish(world: World, sweep: str) -> dict[str, Any] | None:
    """Close a sweep in which every recipe has its last outcome, with its report; None as long as one has not."""
    tally = world.sweeps.tally(sweep)
    if tally is not None and tally.pending > 0:
        return None
    if world.sweeps.closed(sweep) or any(action != "give-up" for _, action in waiting(world, sweep)):
        return None
    return _close(world, sweep, Closed(state="done", ended=world.stamp()))


def stop(world: World, sweep: str, why: str, *, refused: bool = False) -> dict[str, Any] | None:
    """Close a sweep that is to go no further: recipes without an outcome are deferred. None when it was closed before.

    Steps that are under way end by themselves; nothing follows them. `refused`: it was never begun.
    """
    put_off = partial(Outcome, outcome="deferred", detail=why)
    ended, status = world.stamp(), int(ExitStatus.MACHINERY)
    if refused:
        closed = Closed(state="refused", why=why, code="sweep-refused", ended=ended, exit_status=status)
        return _close(world, sweep, closed, lambda name: put_off(recipe=name, reason="sweep-refused"))
    closed = Closed(state="stopped", why=why, code="sweep-stopped", ended=ended, exit_status=status)
    return _close(world, sweep, closed, lambda name: put_off(recipe=name, reason="sweep-stopped"))


def fail(world: World, sweep: str, error: CanonqError, *, share: Sequence[str] = (), opener: str = "") -> dict[str, Any] | None:
    """Close a sweep that could not be begun, so that it is seen in the morning; None when its chains go on without this.

    `share`: the recipes of a share of a sweep that `opener` has opened, each of which has failed by it.

    A sweep whose chains were begun is not failed by a message that comes a second time, whatever is wrong by then.
    """
    if world.sweeps.begun(sweep) or world.sweeps.closed(sweep):
        return None
    if not world.sweeps.read(sweep):
        begun = {"sweep": sweep, "started": world.stamp(), "enrolled": sorted(share)}
        world.sweeps.open(sweep, {**begun, **({"share_of": opener} if opener else {})})
    closed = Closed(state="failed", why=str(error), code=error.code, ended=world.stamp(), exit_status=int(error.exit_status))
    return _close(world, sweep, closed, lambda name: failed(name, error, "sweep"))


def give_up(world: World, sweep: str, why: str, *, only: str | None = None) -> None:
    """Account for recipes (or `only` one) whose chain never ended: an error each. Without `only` the sweep is over by it."""
    for outcome in world.sweeps.outcomes(sweep).values() if only is None else ():
        if outcome.retry_at is not None:  # this was the last try
            world.sweeps.settle(sweep, outcome.model_copy(update={"retry_at": None}))
    for name in summary(world, sweep)["pending"]:
        if only not in (None, name):
            continue
        error = CanonqError(f"{name}: {why}", mend="look at the workers' logs; the next sweep tries again.", code="lost")
        settle_error(world, sweep, name, "chain", error)
    if only is None:
        _close(world, sweep, Closed(state="done", ended=world.stamp()))
    else:
        finish(world, sweep)


def _close(world: World, sweep: str, closed: Closed, instead: Callable[[str], Outcome] | None = None) -> dict[str, Any] | None:
    """Close with a report; `instead` gives an outcome for each recipe that has none. None when it was closed, or goes on."""
    left = [instead(name) for name in summary(world, sweep)["pending"]] if instead else []
    reports: list[dict[str, Any]] = []

    def report(closed: Closed) -> dict[str, Any] | None:
        whole = summary(world, sweep, closed)
        if whole["pending"]:
            return None
        reports.append(whole)
        return whole

    return reports[0] if world.sweeps.close(sweep, closed, report, left) else None
