"""verify: whether records, snapshots, secrets and retained volumes are there and whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from canonq.core.budget import gib, is_long
from canonq.core.errors import CanonqError, Fault, HostProblem, NotReadable, RecordUnreadable, WrongUse
from canonq.core.records import Canonical, Snapshot
from canonq.core.retention import Generation
from canonq.flows.keeping.leftovers import lost_record
from canonq.flows.world import Tell, World, untold

_MOST_LOOKS = 3  #: at a recipe that changes meanwhile


def verify(world: World, recipe: str | None = None, tell: Tell = untold) -> list[dict[str, Any]]:
    """Check records, snapshots and retained volumes; one row for each recipe that has a record, or has lost it.

    `tell`: what takes long, as it begins.

    `state`: ok; broken; unknown where all that is wrong is that it could not be looked at: `fault` is then the user's, who may
    not, or the host's, whose Docker does not answer; empty where a record of an older server names no data, so that there is
    nothing to be broken. `reason`: the code of the first problem; empty where there is none.
    WrongUse where the recipe that was named has none: nothing of it is broken.
    """
    if recipe is not None and recipe not in world.registry.recipes():
        what = f"{recipe} has no canonical, so there is nothing to verify."
        raise WrongUse(what, mend=f"`canonq sweep {recipe}` makes one.", code="no-canonical")
    rows = []
    for name in [recipe] if recipe else world.registry.recipes():
        if is_long(size := _size(world, name)):
            tell(f"{name}: reading its snapshots, {gib(size)} ...")
        if (row := _verified(world, name, tell)) is not None:
            rows.append(row)
    return rows


def _size(world: World, name: str) -> int:
    """Bytes of all snapshots of a recipe; 0 where that is not known."""
    try:
        return sum(one.record.snapshot.bytes for one in world.registry.kept(name) if one.record and one.record.snapshot)
    except CanonqError:  # that is found and told when it is looked at
        return 0


@dataclass(frozen=True)
class _Problem:
    code: str  #: its heading in the runbook
    told: str


@dataclass
class _Seen:
    """What was found out about one recipe."""

    broken: list[_Problem] = field(default_factory=list)
    hidden: list[_Problem] = field(default_factory=list)  #: what this user may not look at
    unasked: list[_Problem] = field(default_factory=list)  #: what the host did not answer
    empty: list[_Problem] = field(default_factory=list)  #: that there is no data of it

    @property
    def state(self) -> str:
        return "broken" if self.broken else "unknown" if self.hidden or self.unasked else "empty" if self.empty else "ok"

    @property
    def fault(self) -> Fault | None:
        """Why something is unknown: what the host does not answer comes before what another user could see."""
        return Fault.HOST if self.unasked else Fault.USER if self.hidden else None

    @property
    def problems(self) -> list[_Problem]:
        return [*self.broken, *dict.fromkeys([*self.hidden, *self.unasked]), *self.empty]

    def ask(self, check: Callable[[], _Problem | None], of: str = "") -> None:
        """Ask for one problem. What could not be looked at is not known, and no problem of the canonical."""
        try:
            if problem := check():
                self.broken.append(_Problem(problem.code, f"{of}{problem.told}"))
        except NotReadable as error:
            self.hidden.append(_Problem(error.code, f"{of}{error.what}"))
        except HostProblem as error:
            self.unasked.append(_Problem(error.code, f"{of}it could not be asked: {error.what}"))
        except CanonqError as error:
            self.broken.append(_Problem(error.code, f"{of}{error}"))


def _verified(world: World, name: str, tell: Tell) -> dict[str, Any] | None:
    """A recipe's row; None where all of it has gone to another host meanwhile. What is broken is looked at again where somebody
    has promoted, gone back or healed meanwhile: what was read was let go of then, and is no damage."""
    for look in range(_MOST_LOOKS):
        before = _what_is_there(world, name)
        row = _looked_at(world, name)
        now = _what_is_there(world, name)
        if row["state"] != "broken" or now == before:
            return row
        if not world.registry.has_any(name):
            return None
        if look + 1 < _MOST_LOOKS:
            tell(f"{name}: its canonical has changed meanwhile; looking again ...")
    return row


def _what_is_there(world: World, name: str) -> tuple[object, ...]:
    """What is read by who verifies a recipe: its record and which canonicals are kept. What cannot be read is told as it is."""
    try:
        return world.registry.read(name), *(one.name for one in world.registry.kept(name))
    except CanonqError as error:
        return (str(error),)


def _looked_at(world: World, name: str) -> dict[str, Any]:
    seen = _Seen()
    record = None
    try:
        record = world.registry.read(name)
        if record is not None and not record.has_data:
            why = "no snapshot is named: its record is an older server's, so it has empty volumes and no way back"
            seen.empty.append(_Problem("no-data-kept", why))
        else:
            for check in _checks(world, record) if record else [partial(_no_record, world, name)]:
                seen.ask(check)
        for one in world.registry.kept(name):
            if one.name == world.registry.name_of(record):
                continue
            of = f"kept {one.record.version if one.record else one.name}: "
            if one.hidden:
                seen.hidden.append(_Problem(NotReadable.code, f"{of}{one.problem}"))
            else:
                seen.ask(partial(_problem_of, one), of)
    except NotReadable as error:
        seen.hidden.append(_Problem(error.code, error.what))
    except CanonqError as error:
        seen.broken.append(_Problem(error.code, str(error)))
    problems = seen.problems
    return {
        "recipe": name,
        "version": record.version if record else None,
        "state": seen.state,
        "ok": seen.state == "ok",
        "fault": seen.fault,
        "reason": problems[0].code if problems else "",
        "problems": [problem.told for problem in problems],
    }


def _no_record(world: World, name: str) -> _Problem:
    lost = lost_record(world, name)
    return _Problem("record-missing", lost) if lost else _Problem("no-canonical", "there is no canonical")


def _problem_of(kept: Generation) -> _Problem | None:
    if kept.problem:
        return _Problem(RecordUnreadable.code, kept.problem)
    return _damage_of(kept.record.snapshot) if kept.record is not None and kept.record.snapshot is not None else None


def _damage_of(kept: Snapshot) -> _Problem | None:
    from canonq.adapters.data import snapshots  # with archives, which only who verifies needs

    problem = snapshots.problem_of(kept)
    return _Problem("snapshot-damaged", problem) if problem else None


def _checks(world: World, record: Canonical) -> list[Callable[[], _Problem | None]]:
    """What is asked of the present canonical."""
    kept = record.snapshot
    return [
        lambda: _damage_of(kept) if kept else _Problem("no-data-kept", "no snapshot is named"),
        *(partial(_lost_volume, world, volume) for volume in record.volumes),
        partial(_lost_secrets, world, record),
    ]


def _lost_secrets(world: World, record: Canonical) -> None:
    """Without them its data is of no use; RecordUnreadable says what is wrong with them."""
    world.registry.secrets(record)


def _lost_volume(world: World, volume: str) -> _Problem | None:
    gone = world.volumes.volume_path(volume) is None
    return _Problem("volume-gone", f"the volume {volume} is gone") if gone else None
