"""progress: what is under way, from what is on disk; whoever looks needs neither Redis nor the right to write."""

from __future__ import annotations

import contextlib
import itertools

from canonq.adapters.state.journal import Journal
from canonq.adapters.state.runs import RUN_FILE
from canonq.core.errors import CanonqError
from canonq.core.history import expected_seconds
from canonq.core.ladder import TIERS
from canonq.core.names import RECIPE_NAME, SWEEP_ID
from canonq.core.sweeps.again import waits
from canonq.core.sweeps.progress import Progress, Seen, progress
from canonq.flows.hosts import light_workers
from canonq.flows.sweeps.readings import as_begun
from canonq.flows.world import World

_STAMP = len("20260617T050314Z")
_RUNS_ASKED = 5
_LONGEST_STEP = 86400.0  #: seconds; of the many calls of a year no others are looked into


class Watcher:
    """Looks again and again; what a recipe takes as a rule is asked once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._usual: dict[str, float | None] = {}
        self._queues: dict[str, str | None] = {}
        self._closed: set[str] = set()

    def sweep(self, sweep: str) -> Progress:
        """How far a sweep is."""
        world = self._world
        record, closed = world.sweeps.read(sweep), world.sweeps.closed(sweep)
        outcomes, journal = world.sweeps.outcomes(sweep), world.sweeps.journal(sweep)
        seen = []
        for name in record.get("enrolled", []):
            if (outcome := outcomes.get(name)) is not None:
                seen.append(Seen(name, {}, outcome=outcome, put_off=closed is None and waits(outcome)))
            elif RECIPE_NAME.fullmatch(name):
                seen.append(self._seen(name, journal, self._queue(sweep, name)))
            else:
                seen.append(Seen(name, {}))
        return progress(
            seen, world.now(), sweep=sweep, state=closed.state if closed else "open", started=record.get("started"),
            slots=light_workers(world),
        )  # fmt: skip

    def newest_open(self) -> str | None:
        """The newest sweep that is not closed. What is closed stays so, and is not looked into again."""
        for name in self._world.sweeps.newest_first():
            if name in self._closed or not SWEEP_ID.fullmatch(name):
                continue
            if self._world.sweeps.closed(name) is None:
                return name
            self._closed.add(name)
        return None

    def call(self, task: str, recipe: str) -> Progress:
        """How far a task called by hand is, by the id of its chain's first link."""
        return progress([self._seen(recipe, self._world.sweeps.calls.journal(task), None)], self._world.now())

    def calls(self) -> Progress | None:
        """All tasks called by hand that somebody works on; None when there are none."""
        recent = self._world.now().timestamp() - _LONGEST_STEP
        seen = [
            self._seen(name, journal, None)
            for journal in self._world.sweeps.calls.journals()
            for name in journal.recipes()
            if (journal.touched(name) or 0.0) > recent and journal.is_executing(name)
        ]
        return progress(seen, self._world.now()) if seen else None

    def _seen(self, recipe: str, journal: Journal, queue: str | None) -> Seen:
        steps, executing = journal.steps(recipe), journal.is_executing(recipe)
        tier, again = self._run(recipe, str(steps.get("test", {}).get("started") or "")) if executing else (None, False)
        return Seen(recipe, steps, executing, queue, journal.touched(recipe), tier, again, self._takes(recipe))

    def _run(self, recipe: str, since: str) -> tuple[str | None, bool]:
        """The tier that a step's newest run is at, and whether another of the same step has ended before: folders tell."""
        mine = [folder for folder in self._world.runs.folders(recipe) if since and folder.name[:_STAMP] >= since]
        ended = [folder for folder in mine if (folder / RUN_FILE).is_file()]
        begun = [folder for folder in mine if folder not in ended]
        if not begun:
            return None, bool(ended)
        at: list[tuple[float, str]] = []
        for tier in TIERS:
            with contextlib.suppress(OSError):  # not begun, or set aside just now
                at.append(((begun[-1] / tier).stat().st_mtime, tier))
        return (max(at)[1] if at else None), bool(ended)

    def _takes(self, recipe: str) -> float | None:
        if recipe not in self._usual:
            with contextlib.suppress(CanonqError):
                newest = list(itertools.islice(self._world.runs.newest_first(recipe), _RUNS_ASKED))
                self._usual[recipe] = expected_seconds(newest[::-1])
        return self._usual.get(recipe)

    def _queue(self, sweep: str, recipe: str) -> str | None:
        if recipe not in self._queues:
            with contextlib.suppress(CanonqError):
                self._queues[recipe] = as_begun(self._world, sweep).checkout.enrolment(recipe).queue
        return self._queues.get(recipe)
