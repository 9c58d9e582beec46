"""What a tier's process is told, handed over as one file. No secret is in it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from canonq.core.enrolment import Health
from canonq.settings import IngressSettings

VARIABLE = "CANONQ_TIER"  #: names the file
#: The module whose processes run tests and hooks (its imports are theirs alone), and what they are asked for.
RUNNER, TIER, HOOK = "canonq.tiers.runner", "pytest", "hook"
BROKE = 70  #: exit status of a process whose pytest broke, before any test had a say in it
#: What such a process leaves in the tier's folder: each test as it is collected, begins and ends, and where a test hangs.
PROGRESS, STACK = "progress.log", "hanging.log"


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True)


class Marker(_Fact):
    """Something written into the app's data, to be found again later."""

    #: In a volume, in a folder of one that is backed up by itself, in a database's table, in a store that may be a cache, in an
    #: SQLite file, by the recipe's own hooks.py.
    kind: Literal["file", "part", "database", "key", "sqlite", "own"]
    place: str  #: the volume, the service, volume/path, or hooks.py
    text: str
    server: str = "postgres"  #: of a database or store, its kind

    def __str__(self) -> str:
        match self.kind:
            case "file":
                return f"canonq's file in the volume {self.place}"
            case "part":
                return f"canonq's file in the folder {self.place}, which the backup names"
            case "database":
                return f"canonq's row in the database of the service {self.place}"
            case "key":
                return f"canonq's key in the {self.server} of the service {self.place}"
            case "sqlite":
                return f"canonq's row in the SQLite file {self.place}"
            case _:
                return f"what write_marker of {self.place} wrote"


class HookRan(_Fact):
    """A hook of a backup label that was run."""

    label: str
    service: str
    status: int
    output: str  #: its last lines


class Captured(_Fact):
    """One part of a backup that was captured."""

    service: str
    path: str
    volume: str | None
    whole: bool
    file: str  #: in the artifact's folder
    checksum: str
    archive_bytes: int
    files: int
    bytes: int
    marks: tuple[str, ...]  #: the marks found in it
    expected_marks: tuple[str, ...]
    problems: tuple[str, ...]
    closed: tuple[str, ...] = ()  #: files of it that could not be looked into, and why
    rows_in: str = ""  #: the first of those in which a database may be saved
    may_be_empty: bool = False  #: as the enrolment says of it that it may go


class BackupFacts(_Fact):
    """How a backup, or a restore, went."""

    problems: tuple[str, ...] = ()  #: of the labels
    hooks: tuple[HookRan, ...] = ()
    captured: tuple[Captured, ...] = ()
    destroyed: tuple[Marker, ...] = ()
    still_there: tuple[Marker, ...] = ()  #: what was to be destroyed and was not
    hooks_since: float | None = None  #: when the hooks began that may write something to be captured, in seconds since 1970


class TierFacts(_Fact):
    """What a tier's tests are told."""

    recipe: str
    tier: str
    stack: str
    domain: str
    version: str  #: the version that is deployed now
    commit: str
    base: str | None = None  #: the version that was deployed before it, in the upgrade tier
    health: Health
    ingress: IngressSettings | None = None
    images: dict[str, str] = {}  #: service -> reference in the resolved compose of this version
    volumes: dict[str, str] = {}  #: key in the recipe -> name in Docker
    markers: tuple[Marker, ...] = ()  #: what was written before
    lost: tuple[str, ...] | None = None  #: phrases for those of them that are not there now; None: they were not looked for
    backup: BackupFacts | None = None
    secrets_file: str = ""  #: readable by canonq alone, gone with the run
    env_file: str = ""  #: the same
    own: str = ""  #: the enrolment's folder
    fresh: bool = False  #: whether the app began on empty volumes at this version
    lint: dict[str, tuple[str, ...]] = {}  #: rule -> findings


def read_facts() -> TierFacts:
    """The facts of this process's tier."""
    return TierFacts.model_validate_json(Path(os.environ[VARIABLE]).read_text())


def write_facts(path: Path, facts: TierFacts) -> None:
    """Hand facts to a tier's process."""
    path.write_text(json.dumps(facts.model_dump(mode="json"), indent=1))
