"""From what is to be deployed to what runs: values that follow from each other, each made once by the step before it.

Deployment -> Filled -> Prepared -> Started -> Running, and from what runs to the next Deployment in its place. A step takes
the value it needs and gives the one it made, so one piece of work may have several stacks. What has to be known also when a
step breaks, or beside it while it goes on, is in the work's `Account`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from canonq.adapters.host import Claims
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, Deployable, Identity
from canonq.core.enrolment import Enrolment
from canonq.core.ladder import TierName
from canonq.core.peaks import Peak
from canonq.core.recipe.foreign import Others
from canonq.core.stack.resolved import Stack
from canonq.flows.deploying.secrecy import SECRETS, Secrecy
from canonq.ports import Answer


@dataclass(frozen=True)
class Deployment:
    """One version that is to be deployed as one stack: whose it is, where its files are, and what it is given."""

    identity: Identity
    enrolment: Enrolment
    tree: Path  #: worktree of the version
    work: Path  #: scratch folder, readable by canonq alone
    account: Account  #: of the work that it is deployed for
    volume_suffix: str = ""  #: tells the volumes of one promotion from those of another
    allow: tuple[str, ...] | None = None  #: for code that is not trusted: what it may ask of this host; None: trusted
    given: tuple[str, ...] | None = None  #: which of the enrolment's [secrets] it gets, the others are made up; None: all
    sweep: str | None = None  #: the sweep it is deployed in, whose recipes tell each other which registries are down
    beside: Mapping[str, str] = field(default_factory=dict)  #: DEP_<NAME>_DOMAIN and _STACK of what runs beside it
    secrets: Mapping[str, str] = field(default_factory=dict)  #: name in the recipe -> value, of those that are there already
    like: Mapping[str, str] = field(default_factory=dict)  #: secrets of another stack, for those that it might make itself
    answered: bool = False  #: whether it has been healthy once, at an earlier version in the same place

    @property
    def is_trusted(self) -> bool:
        """Whether it is a release, and no branch or pull request."""
        return self.allow is None

    @property
    def secrets_file(self) -> Path:
        """Where this deployment's secrets are for those who may read them; gone with its scratch folder."""
        return self.work / SECRETS

    def of(self, version: str, commit: str) -> Deployment:
        """Another version in the same place."""
        return replace(self, identity=replace(self.identity, version=version, commit=commit))

    def volume_name(self, key: str) -> str:
        """The name in Docker of the recipe's volume `key`."""
        suffix = f".{self.volume_suffix}" if self.volume_suffix else ""
        return f"{self.identity.stack}_{key}{suffix}"


@dataclass(frozen=True)
class Filled:
    """The files of one version, read, merged and filled in for a deployment."""

    identity: Identity
    sample: str  #: text of .env.sample
    env: Mapping[str, str]
    exports: Mapping[str, str]  #: of the recipe's abra.sh
    resolved: Stack
    hashes: Mapping[str, str]  #: path in the recipe -> SHA-256 of each file that becomes a config or secret of the stack
    unset: tuple[str, ...] = ()  #: variables that its compose files take and nothing sets, as sentences
    overlay: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  #: what the enrolment's overlay says of services
    windows: tuple[str, ...] = ()  #: files of code among them whose lines end as in Windows
    typed: tuple[tuple[str, str], ...] = ()  #: (place, what) of numbers, durations and the like that come from variables
    lost: tuple[tuple[str, str], ...] = ()  #: (place, what) of what Docker loses when it lays the files over each other
    needs: Mapping[str, str] = field(default_factory=dict)  #: variable that the compose files take without a default -> where
    shared: tuple[str, ...] = ()  #: names of the volumes among these that another stack has to have made
    replaced: tuple[str, ...] = ()  #: mounts of what is somebody else's, for which it has plain volumes of its own


@dataclass(frozen=True)
class Prepared:
    """All that Docker is to be given."""

    deployment: Deployment
    filled: Filled
    stack: Deployable
    secrets: Mapping[str, str]  #: name in the recipe -> value
    asks: tuple[Others, ...] | None = None  #: what the release expected others to have made before install steps; None: none ran


@dataclass(frozen=True)
class Started:
    """A stack that Docker has taken in, and that is coming up or not: others may be started meanwhile."""

    prepared: Prepared
    images: Mapping[str, str]  #: service -> digest
    health_ends: float  #: until when it has to have come up, monotonic


@dataclass(frozen=True)
class Up:
    """What was found when a stack had converged and its app answered."""

    answer: Answer
    #: Service and task of those that had died while it came up. Who is dead beside them has died since, however soon.
    dead: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Running:
    """A stack that is up, and whose app has answered."""

    prepared: Prepared
    images: Mapping[str, str]  #: service -> digest
    up: Up

    @property
    def deployment(self) -> Deployment:
        """What was deployed."""
        return self.prepared.deployment

    @property
    def identity(self) -> Identity:
        """Whose it is."""
        return self.prepared.deployment.identity

    @property
    def stack(self) -> Deployable:
        """What Docker was given."""
        return self.prepared.stack

    def over(self, version: str, commit: str) -> Deployment:
        """Another version to be deployed over it, in place: with its secrets, and known to have answered."""
        return replace(self.deployment.of(version, commit), secrets=self.prepared.secrets, answered=True)


@dataclass(frozen=True)
class Brought:
    """An image that was not here before, and the version it was pulled for."""

    reference: str
    recipe: str
    version: str


class Account:
    """What one piece of work has come by: steps add to it, and go on from what they are given, never from this.

    It is read beside them while they go on, and when they have ended or broke: by the masks, the reservation, the record.
    """

    def __init__(self, claims: Claims | None = None) -> None:
        self.claims = claims  #: what it has of the host for itself
        self.secrecy = Secrecy()
        self.timings: dict[str, float] = {}  #: phase -> seconds
        self.notes: list[str] = []  #: what a person should know
        self.brought: list[Brought] = []
        self.peaks: dict[TierName, Peak] = {}  #: what its containers were seen to take
        self.pulled_bytes = 0  #: what the images take that were not here before
        self.free_before_pull: int | None = None  #: on their disk, while a pull is under way
        self.look: Callable[[], None] = lambda: None  #: looks at once at what its containers take, where that is watched
        self._begun: dict[str, Deployment] = {}
        self._filled: dict[tuple[str, str], Filled] = {}
        self._images: dict[str, Mapping[str, str]] = {}

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note how long the block takes, also when it breaks."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.timings[phase] = round(time.monotonic() - began, 3)

    def note(self, told: str) -> None:
        """What a person should know, once."""
        if told not in self.notes:
            self.notes.append(told)

    def begins(self, deployment: Deployment) -> Deployment:
        """A stack is to be made; the same deployment, for whoever goes on with it."""
        self.secrecy.given(deployment.enrolment)
        self.secrecy.secrets(deployment.secrets)
        self._begun[deployment.identity.stack] = deployment
        return deployment

    def fills(self, filled: Filled) -> Filled:
        """The files of a version could be filled in."""
        self._filled[filled.identity.stack, filled.identity.commit] = filled
        return filled

    def has_images(self, stack: str, images: Mapping[str, str]) -> None:
        """All images of a stack are here: service -> digest."""
        self._images[stack] = images

    @property
    def begun(self) -> tuple[Deployment, ...]:
        """What each of its stacks was begun with."""
        return tuple(self._begun.values())

    def filled(self, stack: str, commit: str | None) -> Filled | None:
        """The files of a version as they were last filled in for a stack; None when they could not be, or were not yet."""
        return self._filled.get((stack, commit or ""))

    def images(self, stack: str) -> dict[str, str]:
        """Service -> digest of the images that a stack was last given."""
        return dict(self._images.get(stack, {}))


def owned_by(identity: Identity) -> dict[str, str]:
    """The labels of all that the owner has in Docker, what runs beside its app too."""
    return {key: identity.labels[key] for key in (LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER)}
