"""State folders as they lie there in the morning: sweeps, runs and canonicals on record, without a run of anything."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from canonq.core.outcomes import Closed, Outcome
from canonq.core.records import STAMP_FORMAT, Verdict
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World
from tests.core.test_gate import verdict
from tests.flows.conftest import FIRST, Place

MORNING = datetime(2026, 6, 17, 7, 0, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script> & \"q\" \x1b[31m\u202eevil"
COMMIT = "b" * 40


def stamp(moment: datetime) -> str:
    return moment.strftime(STAMP_FORMAT)


class Mornings:
    """A place with nights behind it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.place = Place(folder)
        self.place.settings = settings
        self.made = 0

    @property
    def world(self) -> World:
        """The world at seven in the morning."""
        return replace(self.place.world, now=lambda: MORNING)

    def enrol(self, *names: str) -> None:
        """Recipes whose upstream nobody will ask."""
        for name in names:
            self.place.enrol(name, f"/upstreams/{name}")

    def run(self, recipe: str, begun: datetime, **more: Any) -> Verdict:
        """Put a run on record."""
        self.made += 1
        name = f"{stamp(begun)}-{recipe}-{self.made:06x}"
        given = {"recipe": recipe, "run": name, "ts": stamp(begun), "version": FIRST, "commit": COMMIT, "base": None,
                 "base_commit": None, "seconds": 42.0, "volume_bytes": self.made << 20, "disk_bytes": 1 << 24,
                 "lowest_free": {"/var/lib/canonq": (900 << 30) - (self.made << 30)}}  # fmt: skip
        found = verdict(**{**given, **more})
        self.world.runs.make(recipe, name)
        self.world.runs.record(found)
        return found

    def night(self, days_ago: int, *outcomes: Outcome, state: str = "done", findings: tuple[str, ...] = ()) -> str:
        """A sweep that ended with these outcomes."""
        begun = MORNING - timedelta(days=days_ago, hours=4)
        self.made += 1
        sweep = f"{stamp(begun)}-{self.made:06x}"
        world = self.world
        enrolled = [outcome.recipe for outcome in outcomes]
        record = {"sweep": sweep, "started": stamp(begun), "enrolled": enrolled, "named": False, "whole": True,
                  "checkout": "/srv/recipes", "revision": "be288dfe07fe", "findings": list(findings)}  # fmt: skip
        world.sweeps.open(sweep, record)
        world.sweeps.settle_all(sweep, outcomes)
        if state != "open":
            closed = Closed(
                state=state, ended=stamp(begun + timedelta(minutes=41)), why="" if state == "done" else "It was stopped."
            )
            assert world.sweeps.close(sweep, closed, lambda closed: summary(world, sweep, closed))
        return sweep


def promoted(recipe: str, version: str = FIRST, **more: Any) -> Outcome:
    return Outcome(recipe=recipe, outcome="promoted", reason="new-version", version=version, level=5, step="promote", **more)


def idle(recipe: str) -> Outcome:
    return Outcome(recipe=recipe, outcome="skipped", reason="no-new-version", detail="1.0.0+1.0 is the newest.", step="discovery")


def red(recipe: str, **more: Any) -> Outcome:
    told = {"reason": "rolled-back", "detail": "Its health check never passed.", "fault": "recipe", "version": "1.1.0+1.1",
            "base": FIRST, "step": "test", "seconds": 22.0}  # fmt: skip
    return Outcome(recipe=recipe, outcome="red", **{**told, **more})
