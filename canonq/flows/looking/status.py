"""status: canonicals, last verdicts, and what is running; computed from what is on disk, not stored beside it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from canonq.adapters.checkout import Enrolled
from canonq.adapters.state.work_folders import at_work, is_alive, promotion_in
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, ExitStatus, Fault, HostProblem, NotReadable, WrongUse
from canonq.core.gate import awaiting_promotion
from canonq.core.names import RECIPE_NAME, recipe_in
from canonq.core.records import Canonical, Snapshot, Verdict
from canonq.core.retention import Generation
from canonq.flows import hosts as hosts_flow
from canonq.flows.keeping.leftovers import lost_record
from canonq.flows.sweeps.nights import DueSince, look_at_nights, none_due
from canonq.flows.upstream.asked import recipe_asked
from canonq.flows.upstream.steering import hindrance
from canonq.flows.world import World

_LOOKED_THROUGH = 20  #: newest sweeps, for what came of a recipe last


def status(
    world: World, recipe: str | None = None, due_since: DueSince = none_due, enrolled: Enrolled | None = None
) -> dict[str, Any]:
    """All enrolled recipes, or one with its runs; and the nights. HollowSweep or WrongUse when there is none such.

    `enrolled`: what the checkout says, where it was read just now.
    """
    enrolled = enrolled or world.checkout.enrolled()
    names = [recipe_asked(world, recipe)] if recipe is not None else enrolled.names
    running = [path.name for path in at_work(world.work) if is_alive(path)]
    elsewhere = hosts_flow.rows_elsewhere(world)
    rows = [
        _row_elsewhere(world, enrolled, name, elsewhere[name], everything=recipe is not None)
        if name in elsewhere
        else _row(world, enrolled, name, running, everything=recipe is not None)
        for name in names
    ]
    newest = world.sweeps.newest()
    closed = world.sweeps.closed(newest) if newest else None
    failed = closed.why if closed and closed.state != "done" else None
    nights = look_at_nights(world, due_since)
    attention = failed or nights.missed or any(row["problem"] for row in rows)
    return {
        "recipes": rows,
        "newest_sweep": newest,
        "newest_sweep_failed": failed,
        "open_sweeps": world.sweeps.open_sweeps(),
        "running": running,
        "last_night": asdict(nights.last) if nights.last else None,
        "missed_nights": list(nights.missed),
        "nights_told": nights.told,
        "exit_status": int(ExitStatus.ATTENTION if attention else ExitStatus.DONE),
    }


def tell_now(world: World, recipe: str) -> None:
    """Tell the other hosts what this one has of a recipe now; without Redis, upkeep does it later."""
    if not world.hosts.are_several():
        return
    with contextlib.suppress(CanonqError):
        hosts_flow.tell_of(world, recipe)
        world.hosts.tell_rows(rows_here(world, [recipe]), whole=False)


def rows_here(world: World, only: Sequence[str] | None = None) -> dict[str, Any]:
    """How the recipes stand of which this host has anything, for others to show."""
    running = [path.name for path in at_work(world.work) if is_alive(path)]
    enrolled = world.checkout.enrolled() if only is None else _enrolled_of(world, only)
    found = hosts_flow.claims(world) if only is None else {name: hosts_flow.claim(world, name) for name in only}
    names = {name for name, claim in found.items() if claim.version or claim.last_run}
    return {
        name: {**_row(world, enrolled, name, running, everything=False), "outcome": _last_outcome(world, name)}
        for name in sorted(names & {*enrolled.names})
    }


def _enrolled_of(world: World, names: Sequence[str]) -> Enrolled:
    """What the checkout says of a few recipes, without a look at the others."""
    recipes: dict[str, Enrolment] = {}
    broken: dict[str, CanonqError] = {}
    for name in names:
        try:
            enrolment = world.checkout.enrolment(name)
        except CanonqError as error:
            if error.code != "not-enrolled":
                broken[name] = error
            continue
        if enrolment.enrolled:
            recipes[name] = enrolment
    return Enrolled(recipes, broken)


def _last_outcome(world: World, name: str) -> dict[str, Any] | None:
    """What came of a recipe in the last sweep here that was at it."""
    for sweep in itertools.islice(world.sweeps.newest_first(), _LOOKED_THROUGH):
        with contextlib.suppress(CanonqError):
            if (outcome := world.sweeps.outcome(sweep, name)) is not None:
                return outcome.model_dump(mode="json")
    return None


def _row_elsewhere(world: World, enrolled: Enrolled, name: str, told: hosts_flow.Told, *, everything: bool) -> dict[str, Any]:
    """A row as another host has told it. What it has of it is there alone: its runs and kept canonicals are not listed."""
    row = {
        **_row(world, enrolled, name, [], everything=False),
        **told.row.model_dump(mode="json", by_alias=True, exclude={"outcome"}),
    }
    row["host"] = told.host
    if name in enrolled.broken:
        row["problem"] = str(enrolled.broken[name])
    elif told.away:
        row["problem"] = f"Its host {told.host} has not been heard of for longer than its lease; this is how it was then."
    return {**row, "runs": [], "kept": []} if everything else row


def _row(world: World, enrolled: Enrolled, name: str, running: list[str], *, everything: bool) -> dict[str, Any]:
    """What is on record of a recipe, also where its enrolment cannot be read: that is its problem, and hides nothing."""
    enrolment, broken = enrolled.recipes.get(name), enrolled.broken.get(name)
    if enrolment is None and broken is None:
        with contextlib.suppress(CanonqError):  # it is enrolled no more
            enrolment = world.checkout.enrolment(name)
    row: dict[str, Any] = {
        "recipe": name,
        "weight": enrolment.weight if enrolment else None,
        "host": world.hosts.own,
        "canonical": None,
        "last_run": None,
        "proven": None,
        "held_by": None,
        "running": [],
        "promoting": None,
        "problem": str(broken) if broken else None,
    }
    if not RECIPE_NAME.fullmatch(name):  # nothing was ever done with such a folder
        return row
    read = world.runs.verdicts if everything else partial(_last_verdicts, world)
    verdicts: list[Verdict] = []
    try:
        record = world.registry.read(name)
        row["canonical"] = record.model_dump(mode="json", by_alias=True) if record else None
        row["problem"] = row["problem"] or lost_record(world, name)
        verdicts = read(name)
        whole = enrolment is not None and row["problem"] is None
        green = awaiting_promotion(verdicts, world.checkout.digest(name), record) if whole else None
        if enrolment is not None and green is not None:
            asked = hindrance(world, enrolment, record, green.version or "", green.commit or "")
            row["proven"] = {
                "version": green.version,
                "run": green.run,
                "failures": len(world.runs.failures(name, green.run)),
                "held": asked.why if asked else None,
            }
    except CanonqError as error:
        row["problem"] = row["problem"] or str(error)
        with contextlib.suppress(CanonqError):
            verdicts = read(name)
    if verdicts:
        keys = {"run", "verdict", "version", "level", "reason", "detail", "ts", "seconds", "base", "fault", "directory"}
        last = verdicts[-1].model_dump(mode="json", include=keys)
        row["last_run"] = {"id": last.pop("run"), **last}
    if any(world.locks.is_held(name, lane) for lane in ("registry", "run")):
        with contextlib.suppress(HostProblem):  # Redis is away, and who it is is not known
            row["held_by"] = world.locks.holder(name)
    row["running"] = [run for run in running if recipe_in(run) == name]
    steps = [journal["step"] for run in row["running"] if (journal := promotion_in(world.work / run)).get("recipe") == name]
    row["promoting"] = steps[0] if steps else None
    if everything:
        row["runs"] = [verdict.model_dump(mode="json") for verdict in verdicts]
        with contextlib.suppress(CanonqError):
            row["kept"] = [record.version for record in world.registry.generations(name)]
    return row


def _last_verdicts(world: World, name: str) -> list[Verdict]:
    """The newest ones, back to the newest proof of a release: no more of them is asked for where many recipes are shown."""
    found: list[Verdict] = []
    for one in world.runs.newest_first(name):
        found.insert(0, one)
        if one.ref is None and not one.quick:
            break
    return found


def verify(world: World, recipe: str | None = None) -> list[dict[str, Any]]:
    """Check records, snapshots and retained volumes; one row for each recipe that has a record, or has lost it.

    `state`: ok, broken, or unknown where all that is wrong is that it could not be looked at: `fault` is then the user's, who may
    not, or the host's, whose Docker does not answer. WrongUse where the recipe that was named has none: nothing of it is broken.
    """
    if recipe is not None and recipe not in world.registry.recipes():
        raise WrongUse(f"{recipe} has no canonical, so there is nothing to verify.", code="no-canonical")
    return [_verified(world, name) for name in ([recipe] if recipe else world.registry.recipes())]


@dataclass
class _Seen:
    """What was found out about one recipe."""

    broken: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  #: what this user may not look at
    unasked: list[str] = field(default_factory=list)  #: what the host did not answer

    @property
    def state(self) -> str:
        return "broken" if self.broken else "unknown" if self.hidden or self.unasked else "ok"

    @property
    def fault(self) -> Fault | None:
        """Why something is unknown: what the host does not answer comes before what another user could see."""
        return Fault.HOST if self.unasked else Fault.USER if self.hidden else None

    def ask(self, check: Callable[[], str | None], told: str = "") -> None:
        """Ask for one problem. What could not be looked at is not known, and no problem of the canonical."""
        try:
            self.broken += [f"{told}{problem}" for problem in [check()] if problem]
        except NotReadable as error:
            self.hidden.append(f"{told}{error.what}")
        except HostProblem as error:
            self.unasked.append(f"{told}it could not be asked: {error.what}")
        except CanonqError as error:
            self.broken.append(f"{told}{error}")


def _verified(world: World, name: str) -> dict[str, Any]:
    seen = _Seen()
    record = None
    try:
        record = world.registry.read(name)
        for check in _checks(world, record) if record else [lambda: lost_record(world, name) or "there is no canonical"]:
            seen.ask(check)
        kept = [one for one in world.registry.kept(name) if one.name != world.registry.name_of(record)]
        for one in kept:
            told = f"kept {one.record.version if one.record else one.name}: "
            if one.hidden:
                seen.hidden.append(f"{told}{one.problem}")
            else:
                seen.ask(partial(_problem_of, one), told)
    except NotReadable as error:
        seen.hidden.append(error.what)
    except CanonqError as error:
        seen.broken.append(str(error))
    return {
        "recipe": name,
        "version": record.version if record else None,
        "state": seen.state,
        "ok": seen.state == "ok",
        "fault": seen.fault,
        "problems": [*seen.broken, *dict.fromkeys([*seen.hidden, *seen.unasked])],
    }


def _problem_of(kept: Generation) -> str | None:
    if kept.problem or kept.record is None or kept.record.snapshot is None:
        return kept.problem or None
    return _snapshot_problem(kept.record.snapshot)


def _snapshot_problem(kept: Snapshot) -> str | None:
    from canonq.adapters.data import snapshots  # with archives, which only who verifies needs

    return snapshots.problem_of(kept)


def _checks(world: World, record: Canonical) -> list[Callable[[], str | None]]:
    """What is asked of the present canonical."""
    if not record.has_data:
        why = "no snapshot is named: its record is an older server's, so it has empty volumes and no way back"
        return [lambda: why]
    kept = record.snapshot
    return [
        lambda: _snapshot_problem(kept) if kept else "no snapshot is named",
        *(partial(_lost_volume, world, volume) for volume in record.volumes),
        partial(_lost_secrets, world, record),
    ]


def _lost_secrets(world: World, record: Canonical) -> str | None:
    """Without them its data is of no use; RecordUnreadable says what is wrong with them."""
    world.registry.secrets(record)
    return None


def _lost_volume(world: World, volume: str) -> str | None:
    return f"the volume {volume} is gone" if world.volumes.volume_path(volume) is None else None
