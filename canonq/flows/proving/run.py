"""One run: what is to be proven, and what is found as it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import Thread

from canonq.adapters.processes.stopping import check_stop
from canonq.adapters.state.budget import Reservation
from canonq.core.bases import Base
from canonq.core.budget import Need
from canonq.core.enrolment import Enrolment
from canonq.core.ladder import TierName, TierResult
from canonq.core.masks import Masks
from canonq.core.peaks import tier_of
from canonq.core.records import Canonical
from canonq.core.stack.census import Census
from canonq.core.stack.layers import InContainer
from canonq.core.stack.use import Use
from canonq.core.stack.witness import Files
from canonq.flows.deploying.pulling import images_taken
from canonq.flows.deploying.stages import Account, Deployment, Running
from canonq.flows.proving.evidence import beside_bytes, volume_bytes
from canonq.flows.proving.hooks import hook_names
from canonq.flows.proving.staying import Vigil
from canonq.flows.world import World
from canonq.ports import Repos
from canonq.tiers.servers import Servers, found_in

BASE, FRESH = "base", "fresh"  #: folders of a run: of what it is upgraded from, of the fresh install beside it
ELSEWHERE = "elsewhere"  #: that of a stack which is there for a restore alone


@dataclass(frozen=True)
class Target:
    """What is to be proven, and from where."""

    version: str
    commit: str
    base: Base  #: from where it is upgraded
    ref: str | None = None  #: a branch, commit or pull request instead of a release: untrusted
    quick: bool = False
    data: Canonical | None = None  #: the canonical whose data the run begins with a copy of
    fence: int = 0  #: of the record that was in force when this was decided; 0 without one
    #: Dependency -> version and commit that runs beside it in place of its canonical, on a copy of that one's data.
    instead: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Findings:
    """What is found as a run goes on, for its verdict; as with its account, no step goes on from what stands here."""

    def __init__(self, target: Target) -> None:
        self.base = target.base  #: from which it began in the end
        self.tiers: dict[TierName, TierResult] = {}
        self.fresh = ""  #: where the version under test was installed on empty volumes, and why there
        self.first_start: Mapping[str, int] = {}  #: what the fresh install had filled once it was up; see `census.filled`
        self.later = Census()  #: what it held when it had been up for a while
        self.fresh_files: Mapping[str, frozenset[str]] = {}  #: paths of what was in its volumes then
        self.in_containers: list[InContainer] = []  #: what it kept in its containers when it had been used
        self.base_first_start: Mapping[str, int] = {}  #: of the base, at its own first start; empty where not known
        self.first_files: Files = {}  #: plain files of the fresh install, before anybody used it
        self.later_files: Files = {}  #: the same after a while, before it was deployed once more
        self.base_first_files: Files | None = None  #: what the base makes by itself; None: not known
        self.base_used_files: Files = {}  #: what was in its volumes before it was upgraded
        self.held_files: Files = {}  #: what was there after the upgrade, and when the backup was taken
        self.before_use: Census | None = None  #: what the fresh install held before anybody used it; None where nobody does
        self.use: Use | None = None  #: what its use has left in it
        self.base_use: Use | None = None  #: what the same use has left in a new install of the base; None: not known
        self.base_census = Census()  #: what the base held before it was upgraded
        self.base_files: Mapping[str, frozenset[str]] = {}  #: paths of what was in its volumes
        self.census = Census()  #: of the upgraded stack, as it was counted last
        self.marked: set[str] = set()  #: SQLite files that took a mark
        self.unmarked: tuple[str, ...] = ()  #: databases whose data is not proven to survive, as no marker could be written
        self.not_looked_at: tuple[str, ...] = ()  #: what nobody has asked of the fresh install, a gap for each
        self.deployments = 0  #: stacks of the recipe that were made, each on empty volumes or on a copy of its data
        self.not_in_base: Mapping[str, str] = {}  #: variable that its compose files need and the base's .env lacks -> where
        self.disk_bytes = 0  #: what its volumes took at their peak
        self.disk_of_tier: dict[TierName, int] = {}  #: the same, while each tier went on
        self.beside = Need()  #: what its containers had written beside its volumes, when that was looked at last
        self.artifact_bytes = 0  #: what the backup's artifact takes at most
        self.lowest_free: dict[str, int] = {}  #: folder on a disk -> bytes free when least were
        self.failed_on: str | None = None  #: the stack that a tier failed on
        self.since = time.monotonic()  #: when the tier that is being proven began, monotonic
        self.standing: dict[str, frozenset[str]] = {}  #: stack that is up -> its services, which nobody else may remove
        self.phase = ""  #: what is being done, for whoever asks why it took so long

    def begin_again(self, base: Base) -> None:
        """What was found of the upgrade stands for nothing: the run begins anew from another base."""
        self.base, self.unmarked = base, ()
        self.tiers.pop("upgrade", None)

    def forget_first_start(self) -> None:
        """Of the version that the run begins from, nothing is known of what it makes of itself where it is installed anew."""
        self.base_first_start, self.base_first_files, self.base_use = {}, None, None


class Trees:
    """The worktrees of a run: one of each commit as git has it, until something was deployed from it and may have changed it."""

    def __init__(self, repos: Repos, enrolment: Enrolment, work: Path) -> None:
        self._repos, self._enrolment, self._work = repos, enrolment, work
        self._used: set[Path] = set()

    def look_at(self, app: Deployment) -> Deployment:
        """The app with its files, to be read."""
        folder = self._work / f"tree-{app.identity.commit}"
        if folder in self._used or not folder.exists():
            try:
                self._repos.checkout(self._enrolment.recipe, app.identity.commit, folder, self._enrolment.tree)
            except BaseException:
                self._repos.drop_checkout(self._enrolment.recipe, folder)
                raise
            self._used.discard(folder)
        return replace(app, tree=folder)

    def take(self, app: Deployment) -> Deployment:
        """The app with its files, to be deployed from them."""
        taken = self.look_at(app)
        self._used.add(taken.tree)
        return taken


@dataclass(frozen=True)
class Run:
    """One run: what is to be proven, as what, and until when."""

    world: World
    enrolment: Enrolment
    target: Target
    id: str
    folder: Path
    app: Deployment  #: the version under test in the place where it is upgraded, as nothing is deployed yet
    deadline: float  #: monotonic
    room: Reservation  #: what is kept of the disk for it
    account: Account
    findings: Findings
    trees: Trees
    databases: dict[tuple[str, str], Servers] = field(default_factory=dict)  #: see `servers`
    known_files: dict[tuple[int, ...], str] = field(default_factory=dict)  #: digests of files that were read once
    vigils: dict[str, Vigil] = field(default_factory=dict)  #: stack -> who watches over it, once it is there
    pictures: list[Thread] = field(default_factory=list)  #: those that are being taken

    def servers(self, running: Running) -> Mapping[str, str]:
        """Service -> kind of the database servers of one version on one of its stacks; looked for once."""
        return self.servers_of(running).kinds

    def servers_of(self, running: Running) -> Servers:
        """The same with those that run beside others."""
        of = (running.identity.stack, running.identity.version)
        if of not in self.databases:
            self.databases[of] = found_in(self.world.data, running.identity.stack, running.stack.images)
        return self.databases[of]

    def vigil(self, of: Deployment) -> Vigil:
        """Who watches over a stack of this run."""
        return self.vigils.setdefault(of.identity.stack, Vigil(self.world))

    @property
    def own(self) -> Path:
        """The enrolment's folder."""
        return self.world.checkout.folder(self.enrolment.recipe)

    @property
    def work(self) -> Path:
        """Its scratch folder."""
        return self.world.work / self.id

    @property
    def fresh(self) -> Deployment:
        """The version under test as somebody new to the recipe installs it: a stack of its own, with secrets of its own."""
        stack = f"{self.app.identity.stack}f"
        domain = f"{stack}.{self.world.settings.zone}"
        return replace(self.app, identity=replace(self.app.identity, stack=stack, domain=domain), work=self.work / "fresh")

    def is_fresh(self, of: Deployment) -> bool:
        """Whether a stack of this run is the fresh install beside the one that is upgraded."""
        return of.identity.stack == self.fresh.identity.stack

    @property
    def masks(self) -> Masks:
        """What must not be said in anything that it leaves."""
        return self.account.secrecy.masks

    @cached_property
    def hooks(self) -> frozenset[str]:
        """The names in the enrolment's hooks.py, read once. WrongConfiguration when it is not Python."""
        return hook_names(self.own)

    def own_tests(self) -> list[Path]:
        """The recipe's own tests."""
        return sorted(self.own.glob("test_*.py"))


def took(run: Run) -> int:
    """Measure what the run takes on disk by now, for its record and its reservation; bytes of its volumes."""
    volumes = _volumes_now(run)
    run.room.took(Need(volumes=volumes, images=run.account.pulled_bytes) + run.findings.beside)
    check_stop()
    return volumes


def measure(run: Run) -> None:
    """Say to its reservation what the run takes while it goes on; called beside it where a disk is short."""
    pulled, volumes = images_taken(run.world, run.account), _volumes_now(run)
    run.findings.beside = beside_bytes(run.world, run.app.identity)
    run.room.took(Need(volumes=volumes, images=pulled, state=run.findings.artifact_bytes) + run.findings.beside)


def _volumes_now(run: Run) -> int:
    volumes = volume_bytes(run.world, run.app.identity)
    run.findings.disk_bytes = max(run.findings.disk_bytes, volumes)
    of_tier, tier = run.findings.disk_of_tier, tier_of(run.findings.phase, "install")
    of_tier[tier] = max(volumes, of_tier.get(tier, 0))
    return volumes
