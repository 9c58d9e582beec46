"""The values that flow and that are kept: Synced -> Decision -> Verdict -> Promotion, and the canonical.

All are small JSON objects that a person can read in Flower. None holds a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from canonq.core.enrolment import HostName, RecipeName
from canonq.core.ladder import RungName, RungResult, TierName, TierResult
from canonq.core.names import COMMIT, SWEEP_ID
from canonq.core.peaks import Peak
from canonq.core.stack.ledger import LedgerMark

Commit = Annotated[str, StringConstraints(pattern=f"^{COMMIT.pattern}$")]
SweepId = Annotated[str, StringConstraints(pattern=f"^{SWEEP_ID.pattern}$")]
Stamp = Annotated[str, StringConstraints(pattern=r"^[0-9]{8}T[0-9]{6}Z$")]  #: UTC, 20260617T050314Z
Queue = Literal["light", "heavy"]
BaseFrom = Literal["pinned", "canonical", "older-release", "none"]

VerdictFault = Literal["recipe", "enrolment", "host", "canonq"]

STAMP_FORMAT = "%Y%m%dT%H%M%SZ"


def stamp_of(seconds: float) -> str:
    """The stamp of a moment, in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime(STAMP_FORMAT)


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: RecipeName
    sweep: SweepId | None = None  #: the sweep this belongs to; None when called by hand
    named: bool = False  #: a person named this recipe, which releases a held red


class Synced(_Value):
    """What `sync` found. The tags themselves stay in the recipe's bare clone."""

    branch: str  #: upstream's default branch
    head: Commit | None  #: its commit; None in an empty repository
    tags: int
    latest: str | None  #: the newest release
    changed: bool  #: whether anything was fetched
    pushed: int = 0  #: refs of the mirror that were changed
    notes: tuple[str, ...] = ()  #: what a person should know: deleted tags, a mirror that had diverged, closed pull requests
    seconds: float = 0.0


class Decision(_Value):
    """What is to be done with a recipe, and why (docs/rules.md 2, decide)."""

    action: Literal["run", "promote", "skip", "defer", "error"]  #: promote: it is proven already
    reason: str  #: stable code, such as no-new-version
    detail: str  #: a sentence
    latest: str | None = None
    canonical: str | None = None
    version: str | None = None
    commit: Commit | None = None
    base: str | None = None
    base_commit: Commit | None = None
    base_from: BaseFrom = "none"
    fence: int | None = None  #: of the record that was in force; 0 without one
    run: str | None = None  #: the run that has proven it already
    queue: Queue = "light"
    notes: tuple[str, ...] = ()


class Verdict(_Value):
    """What a run proved. Exactly one for each run."""

    run: str
    verdict: Literal["green", "red", "error"]
    reason: str
    detail: str
    cause: str | None = None  #: a finer code below the reason, where there is one
    fault: VerdictFault | None = None
    #: Of a red with a canonical: whether the release has brought it, since the canonical's version is well on the same host.
    regression: Literal["yes", "no", "unknown"] | None = None
    certain: bool = False  #: no load of the host can have caused it, so it is not tried again alone
    outside: str | None = None  #: what of the outside failed, such as a registry's address
    retry_after: float | None = None  #: seconds that it asked to be left alone
    version: str | None
    commit: Commit | None
    ref: str | None = None  #: set when a head was tested instead of a release
    quick: bool = False
    base: str | None = None
    base_commit: Commit | None = None
    base_from: BaseFrom = "none"
    fence: int | None = None  #: of the record that was in force when this was decided; None in one of an older canonq
    enrolment: str  #: digest of the enrolment folder that was in force
    data: str = "empty volumes"  #: what the run began with
    customisations: dict[str, Any] = {}  #: which of the enrolment's files and keys were in force
    notes: tuple[str, ...] = ()  #: what else happened that a person should know
    gaps: tuple[str, ...] = ()  #: tiers that were skipped and are not declared under [expected_na]
    stale: tuple[str, ...] = ()  #: declarations under [expected_na] that no longer hold
    first_start: dict[str, int] = {}  #: what its fresh install filled: volume -> files, database -> tables
    census: dict[str, int] = {}  #: what the upgraded stack held last: volume -> files, database or table -> rows
    known_names: tuple[str, ...] = ()  #: further names that [data] may have: of what is gone, or of the fresh install alone
    deaths: dict[str, int] = {}  #: service -> how often it died after it had come up, on both stacks
    service: str | None = None  #: the service that a red or an error is about
    log_tail: tuple[str, ...] = ()  #: its last log lines
    first_run: str | None = None  #: the red run that this one repeats, alone on the host
    superseded_by: str | None = None  #: the run that repeated this one, and decides in its place
    tiers: dict[TierName, TierResult] = {}
    rungs: dict[RungName, RungResult] = {}
    level: int = 0
    deployments: int = 0
    fresh: str = ""  #: where it was installed on empty volumes, and why there
    images: dict[str, str] = {}  #: service -> digest
    domain: str | None = None
    routing_tested: bool = False  #: whether the probes went through an ingress
    ts: Stamp
    seconds: float = 0.0
    timings: dict[str, float] = {}  #: phase -> seconds
    disk_bytes: int = 0  #: what the run took at its peak: volumes, the backup's artifact, images that were not there
    volume_bytes: int | None = None  #: the volumes of it; None in a verdict of an older canonq
    image_bytes: int = 0  #: the images of it
    peaks: dict[TierName, Peak] = {}  #: what its containers were seen to take together while each tier went on
    lowest_free: dict[str, int] = {}  #: folder on each disk it wrote to -> bytes that were free when least were
    directory: str = ""  #: where its evidence is: of one that is read from disk, the folder where it was found


class Promotion(_Value):
    """What `promote` did."""

    outcome: Literal["promoted", "already", "refused", "failed", "busy"]
    reason: str
    detail: str
    reasons: tuple[str, ...] = ()  #: every condition of the gate that failed
    notes: tuple[str, ...] = ()  #: what a person should know of how it went
    fault: str | None = None  #: whose fault a failed promotion is
    cause: str | None = None  #: the finer code below promote-failed
    outside: str | None = None  #: as a verdict's
    retry_after: float | None = None  #: as a verdict's
    version: str | None = None
    commit: Commit | None = None
    base: str | None = None
    run: str | None = None
    #: What the canonical's data is: "carried from 1.12.0+1.30.0", "a clean install", "empty volumes"; the last two may be
    #: followed by ", filled by populate of hooks.py".
    data: str | None = None
    level: int = 0
    seconds: float = 0.0


#: The steps of a chain in their order, and what each gives.
STEP_VALUES: dict[str, type[Synced] | type[Decision] | type[Verdict] | type[Promotion]] = {
    "sync": Synced,
    "decide": Decision,
    "test": Verdict,
    "promote": Promotion,
}


class Snapshot(BaseModel):
    """The snapshot a canonical names."""

    model_config = ConfigDict(extra="allow", frozen=True)

    path: str  #: absolute in memory; in the file relative to the state folder, so that this can be moved
    bytes: Annotated[int, Field(ge=0)]
    checksum: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
    kind: Literal["archive", "tree"] = "archive"  #: a tree where the file system shares blocks
    manifest: str | None = None  #: checksum of the manifest beside it; None in one of an older canonq
    content_bytes: int | None = None  #: what the files in it take, unpacked; None in one of an older canonq

    @property
    def unpacked(self) -> int:
        """Bytes that its files take, where that is known, else those of the snapshot itself."""
        return self.content_bytes or self.bytes


class Passed(BaseModel):
    """A canonical between the one that was left and the one that was gone back to."""

    model_config = ConfigDict(extra="allow", frozen=True)

    version: str
    commit: Commit


class RolledBack(BaseModel):
    """Who went back to this canonical, and from what."""

    model_config = ConfigDict(extra="allow", frozen=True)

    by: str
    at: Stamp
    reason: str
    version: str  #: the canonical it replaced; where that one is canonical again, the first of those that are held still
    commit: Commit
    fence: int = 0  #: of the rollback; what was decided under an older one was decided before it
    left: int = 0  #: fence of the record it replaced, which tells that one from others of its version; 0 where it is not known
    past: tuple[Passed, ...] = ()  #: canonicals that it went past on its way; they are held like the one that it left

    def holds(self, version: str, commit: str) -> bool:
        """Whether it went back from this release, or past it."""
        return (version, commit) in [(self.version, self.commit), *((one.version, one.commit) for one in self.past)]


def still_held(rolled_back: Iterable[RolledBack], freed: Collection[tuple[str, str]]) -> list[RolledBack]:
    """The rollbacks that go on holding something when these releases, as (version, commit), are canonical again.

    What one went past it goes on holding where what it left is free: under the first of them, as if it had left that one.
    """
    held = []
    for back in rolled_back:
        releases = (Passed(version=back.version, commit=back.commit), *back.past)
        left = [one for one in releases if (one.version, one.commit) not in freed]
        if left:
            held.append(back.model_copy(update={"version": left[0].version, "commit": left[0].commit, "past": tuple(left[1:])}))
    return held


class Remade(BaseModel):
    """Who had this canonical made anew at its own version, and why."""

    model_config = ConfigDict(extra="allow", frozen=True)

    by: str
    at: Stamp
    reason: str
    damaged: str | None = None  #: the generation that it took the place of, where the snapshot of that one was not whole


class Healed(BaseModel):
    """Retained volumes of this canonical that were gone, and when its snapshot was unpacked in their place."""

    model_config = ConfigDict(extra="allow", frozen=True)

    at: Stamp
    volumes: list[str]  #: the names in Docker of those that were gone


class Elsewhere(BaseModel):
    """A canonical of this host that is on its way to another, or has gone there: it is in force here no more."""

    model_config = ConfigDict(extra="allow", frozen=True)

    recipe: RecipeName
    state: Literal["leaving", "gone"]
    to: HostName
    move: str  #: id of the move
    by: str
    at: Stamp
    fence: int  #: of the record that goes; a record here with a higher one came back
    parts: list[str] = []  #: what goes with it, below the state folder
    give_up: bool = False  #: nothing is transferred: what `to` has stays
    taken_back: bool = False  #: somebody wants it to stay, and `to` is asked to refuse it


class Arrived(BaseModel):
    """Where a canonical was moved from."""

    model_config = ConfigDict(extra="allow", frozen=True)

    move: str
    came_from: HostName
    at: Stamp
    fence: int  #: that its record had there


class Canonical(BaseModel):
    """The registry's record, `canonical.json` (docs/rules.md 4). Unknown keys survive a rewrite."""

    model_config = ConfigDict(extra="allow", frozen=True)

    recipe: RecipeName
    version: str
    commit: Commit
    status: str
    ts: Stamp  #: restamped by any status write
    schema_: Annotated[int, Field(alias="schema", serialization_alias="schema")] = 1
    promoted_at: Stamp | None = None  #: None in a record of an older server
    run: str | None = None
    level: int | None = None
    images: dict[str, str] = {}
    volumes: list[str] = []
    snapshot: Snapshot | None = None
    ledger: list[LedgerMark] = []  #: marks that promotions left in this data; none in a record of an older canonq
    #: The version at whose promotion `populate` filled this data; None where nobody did, and in a record of an older canonq.
    populated: str | None = None
    #: Digest of hooks and tests when these were last seen to find what `populate` made; None where nobody has seen it.
    populated_for: str | None = None
    fence: int = 0
    previous: dict[str, object] | None = None
    #: What people went back from, newest last: held until it is promoted by name or gone back to. A newer release ends no hold:
    #: it goes past it, and there it is again once that one is rolled back as well.
    rolled_back: list[RolledBack] = []
    remade: Remade | None = None  #: set when somebody had it made anew
    arrived: Arrived | None = None  #: the last time that it came from another host
    healed: Healed | None = None  #: the last time that volumes of it were unpacked again

    @field_validator("rolled_back", mode="before")
    @classmethod
    def _of_the_first_schema(cls, value: object) -> object:
        """The first schema had one of them, or null."""
        if value is None:
            return []
        return [value] if isinstance(value, dict) else value

    @property
    def has_data(self) -> bool:
        """Whether there is data of it; a record of an older server names none."""
        return bool(self.volumes) or self.snapshot is not None

    def held(self, version: str, commit: str) -> RolledBack | None:
        """The rollback by which a release is held, or None. One that left the present version holds nothing."""
        return next((back for back in self.rolled_back if back.holds(version, commit) and version != self.version), None)


SCHEMA = 2  #: 1 had absolute paths, and room for one rollback
