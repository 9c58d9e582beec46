"""All that a step needs of the outside, as one value."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from canonq.adapters.checkout import Checkout
from canonq.adapters.host import Host
from canonq.adapters.state.budget import Budget, PulledImages
from canonq.adapters.state.hosts import Hosts
from canonq.adapters.state.pulls import Pulls
from canonq.adapters.state.registry import Registry
from canonq.adapters.state.runs import Runs
from canonq.adapters.state.steering import Steering
from canonq.adapters.state.sweeps import Sweeps
from canonq.core.ago import duration
from canonq.core.records import STAMP_FORMAT
from canonq.core.sweeps.again import first_pause
from canonq.core.text import readable
from canonq.ports import Containers, Data, Engine, Forge, Images, Ingress, Locks, Mirrors, Ownership, Repos, Stacks, Volumes
from canonq.settings import Settings

#: Takes a line on what is begun, for whoever waits for it.
Tell = Callable[[str], object]


def untold(text: str) -> None:
    """Nobody waits for it."""
    del text


@dataclass(frozen=True)
class World:
    """Real or fake, the flows do not know."""

    settings: Settings
    checkout: Checkout
    repos: Repos
    mirrors: Mirrors
    forge: Forge | None
    engine: Engine
    locks: Locks
    registry: Registry
    runs: Runs
    sweeps: Sweeps
    host: Host
    hosts: Hosts
    instance: str  #: id of this state folder, carried by everything canonq makes in Docker
    ingress: Ingress | None
    budget: Budget
    pulled: PulledImages
    pulls: Pulls
    steering: Steering
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def images(self) -> Images:
        """What Docker has of images."""
        return self.engine

    @property
    def stacks(self) -> Stacks:
        """Stacks that Docker runs."""
        return self.engine

    @property
    def containers(self) -> Containers:
        """The way into what Docker runs."""
        return self.engine

    @property
    def volumes(self) -> Volumes:
        """Volumes of Docker's."""
        return self.engine

    @property
    def data(self) -> Data:
        """The ways to what apps keep."""
        return self.engine

    @property
    def ownership(self) -> Ownership:
        """What Docker has of canonq's."""
        return self.engine

    def stamp(self) -> str:
        """The present as 20260617T050314Z."""
        return self.now().strftime(STAMP_FORMAT)

    def new_id(self, *parts: str) -> str:
        """A new id that sorts by time: stamp, parts, 6 hex digits."""
        return "-".join([self.stamp(), *parts, secrets.token_hex(3)])

    @property
    def place(self) -> str:
        """Where the state folder is, without links: retained volumes carry it."""
        return os.path.realpath(self.settings.state)

    def held_by(self, recipe: str) -> str:
        """Who is at a recipe, and for how long, for a sentence."""
        found = self.locks.holder(recipe) or {}
        since, process = found.get("since"), found.get("pid")
        told = readable(str(found.get("holder", "another process")))
        if isinstance(since, int) and (seconds := self.now().timestamp() - since) >= 0:
            told += f", for {duration(seconds)} by now"
        return told + (f" (process {process})" if isinstance(process, int) else "")

    @property
    def work(self) -> Path:
        """Where worktrees of runs under way live."""
        return self.settings.state / "work"

    def first_pause(self, sweep: str) -> float:
        """Seconds until something that a machine's fault stopped is first tried again in a sweep; 0 means never."""
        return first_pause(self.settings.retry_pause, self.sweeps.is_awaited(sweep))
