"""stop: a run, a promotion or a restore ends where it waits, cleans up after itself, and says who stopped it."""

from __future__ import annotations

from collections.abc import Callable

from canonq.adapters.state.work_folders import ask_to_stop, at_work, is_alive, is_stoppable
from canonq.core.errors import StoppedByPerson, WrongUse
from canonq.core.names import RUN_ID, identifier
from canonq.core.text import did_you_mean, ended
from canonq.flows.keeping.janitor import clean
from canonq.flows.world import World


def ask(world: World, run: str, *, by: str, reason: str) -> None:
    """Ask whoever works on a run, a promotion or a restore to end. WrongUse, naming those under way, when nobody does, and for
    what goes through."""
    identifier(run, RUN_ID, "run")
    living = [path.name for path in at_work(world.work) if is_alive(path)]
    if run not in living:
        raise WrongUse(
            ended(f"The run {run} is not under way{did_you_mean(run, living)}"),
            mend=f"under way are: {', '.join(living) or 'none'}.",
            code="not-under-way",
        )
    if not is_stoppable(world.work / run):
        raise WrongUse(
            f"{run} is a rollback, or data on its way to its place: it goes through, or leaves all as it was.",
            mend="wait until it ends; `canonq status` shows it.",
            code="not-stoppable",
        )
    why = f": {reason}" if reason else ""
    ask_to_stop(world.work / run, StoppedByPerson(f"{by} stopped it{why}."))


def await_end(world: World, run: str, pause: Callable[[], bool]) -> bool:
    """Wait until nobody works on it any more, as long as `pause`, which waits a moment, says so; whether it ended."""
    while is_alive(world.work / run):
        if not pause():
            return False
    return True


def left_of(world: World, run: str) -> list[str]:
    """What is left of it all the same, as sentences."""
    left = [line.removeprefix("would remove ") for line in clean(world, dry_run=True) if run in line]
    # Whoever could not remove all that it had made keeps its folder for that; of a promotion the janitor names it otherwise.
    if not left and (world.work / run).exists():
        left = [f"what it had made in Docker, in part; `canonq janitor` goes on with it (folder {world.work / run})"]
    return left
