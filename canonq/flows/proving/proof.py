"""One proof: a run from its first look to its verdict, tried again or compared where that tells more; torn down always."""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from canonq.adapters.files import remove_tree
from canonq.adapters.logs import about
from canonq.adapters.state.budget import Reservation
from canonq.adapters.state.work_folders import alive, asked_to_stop
from canonq.core.bases import Base
from canonq.core.deployable import Identity
from canonq.core.enrolment import LONGEST_RUN, Enrolment
from canonq.core.errors import Busy, CanonqError, HostProblem, NoRoom, RecipeProblem
from canonq.core.judging import (
    Course,
    Judged,
    is_compared,
    is_tried_again,
    judge_run,
    regression,
    stands,
    wants_control,
    whole_problem,
)
from canonq.core.ladder import TierResult, gaps, level, rungs, stale
from canonq.core.names import cold_stack
from canonq.core.peaks import whole_peaks
from canonq.core.records import Verdict
from canonq.core.seeing import voided
from canonq.core.stack.census import uncounted, unknown, unmarked_sqlite
from canonq.core.stack.staying import counted
from canonq.flows.deploying.appetite import memory_held
from canonq.flows.deploying.deployment import tear_down
from canonq.flows.deploying.pulling import let_go_of_images
from canonq.flows.deploying.secrecy import mask, masked_verdict, unsaid
from canonq.flows.deploying.stages import Account, Deployment
from canonq.flows.keeping.floor import floor_held
from canonq.flows.keeping.janitor import clean
from canonq.flows.keeping.kept import KeptEnvironment, keep, stays_until
from canonq.flows.keeping.places import place_for
from canonq.flows.keeping.room import drop_cut_pulls, make_room, need_of_next, room_for
from canonq.flows.keeping.window import late, must_end_in_time
from canonq.flows.proving.ahead import run_lint
from canonq.flows.proving.climb import climb
from canonq.flows.proving.evidence import keep_beside, keep_logs, tail
from canonq.flows.proving.hooks import KNOWN_HOOKS, hook_names
from canonq.flows.proving.intier import stacks_gone
from canonq.flows.proving.inuse import held_last, names_before, names_seen, other_names
from canonq.flows.proving.pictures import await_pictures
from canonq.flows.proving.run import FRESH, Findings, Run, Target, Trees, measure, took
from canonq.flows.proving.sight import Sight, seeing
from canonq.flows.world import World

log = logging.getLogger("canonq")

_MOST_NAMES = 500  #: of volumes and tables in a verdict


@dataclass(frozen=True)
class Order:
    """Who asked for a run."""

    sweep: str | None = None
    named: bool = True
    keep_on_red: float | None = None  #: seconds that the environment of a red run stays up


# -- one run ------------------------------------------------------------------------------------------------


def prove(world: World, enrolment: Enrolment, target: Target, order: Order) -> Verdict:
    """One run of one version: exactly one verdict, kept in the run's folder; nothing left in Docker.

    A red seen while the host was loaded is tried once more, alone; both are kept and the second decides.
    Busy when another run of the recipe is under way.
    """
    with _turn_of(world, enrolment, target, f"test {target.version}"):
        return _compared(world, enrolment, order, _tried(world, enrolment, target, order))


def _tried(world: World, enrolment: Enrolment, target: Target, order: Order) -> Verdict:
    """The verdict of one run, or of the second one where the first may have been red for the host's load."""
    with world.host.shared():
        # Asked again: for its turn on this host it may have waited for long.
        must_end_in_time(world, order.sweep, enrolment.recipe, f"The test of {enrolment.recipe} {target.version}")
        loads = list[float]()  # when it fails, and when all is removed, which may take minutes in which a neighbour ends
        first = _once(world, enrolment, target, order, climbed=lambda: loads.append(world.host.load()))
        load = max(*loads, world.host.load())
    limit = LONGEST_RUN - 2 * enrolment.limits.run
    if order.keep_on_red is not None:
        return first  # somebody wants to look at it, and what stays up is in the way of a second try
    if not is_tried_again(first, load, world.settings.loaded_above) or limit < 0:
        return first
    log.info(
        "%s: red once (%s) on a loaded host; it waits to be tried again alone, after the run %s",
        enrolment.recipe, first.reason, first.run,
    )  # fmt: skip
    with world.host.alone(limit) as alone:
        if not alone:
            return _told(world, first, "It was not tried again alone: the host was not free of other runs in time.")
        if why := late(world, order.sweep, enrolment.recipe):
            return _told(world, first, f"It was not tried again alone: {why}.")
        second: Verdict | NoRoom
        try:
            second = _once(world, enrolment, target, order, first=first)
        except NoRoom as error:
            second = error
    decided, note = stands(first, second)
    if isinstance(second, Verdict) and decided is second:
        world.runs.record(first.model_copy(update={"superseded_by": second.run}))
        return second
    return _told(world, first, note)


def _compared(world: World, enrolment: Enrolment, order: Order, verdict: Verdict) -> Verdict:
    """A red, with the word of a control run: whether the canonical's version goes through what it failed at, here and today."""
    record = world.registry.read(enrolment.recipe)
    if record is None or not is_compared(verdict, record.version):
        return verdict
    if order.keep_on_red is not None or not wants_control(verdict):  # what is kept is in its way, or the release's for certain
        world.runs.record(told := verdict.model_copy(update={"regression": "unknown"}))
        return told
    control, note = None, "there is no time left for another run"
    spent = _controls(world, order.sweep)
    if spent + verdict.seconds > world.settings.control_seconds:
        note = f"the control runs of this sweep may take {world.settings.control_seconds} s together"
    elif why := late(world, order.sweep, enrolment.recipe):
        note = why
    elif 3 * enrolment.limits.run <= LONGEST_RUN:
        target = Target(record.version, record.commit, Base(None, None, "none", f"control run of {verdict.run}"))
        try:
            with world.host.shared():
                control = _once(world, enrolment, target, order, within=Path(verdict.directory) / "control")
        except CanonqError as error:
            note = error.what
    if control is not None:
        note = f"its canonical {record.version} is {control.verdict} ({control.reason}) on the same host: {control.detail}"
    said = regression(verdict, control)
    timings = {**verdict.timings, **({"control": control.seconds} if control is not None else {})}
    notes = (*verdict.notes, f"control-run: regression {said}; {note}")
    told = verdict.model_copy(update={"regression": said, "notes": notes, "timings": timings})
    world.runs.record(told)
    return told


def prove_beside(world: World, enrolment: Enrolment, target: Target, order: Order, folder: Path) -> Verdict:
    """One run that is kept in another recipe's run, and is none of the recipe's own: a consumer with what it depends on.

    Busy when a run of the recipe is under way, or there is no place for it.
    """
    with _turn_of(world, enrolment, target, f"test {target.version} beside another"), world.host.shared():
        return _once(world, enrolment, target, order, within=folder)


@contextlib.contextmanager
def _turn_of(world: World, enrolment: Enrolment, target: Target, holder: str) -> Iterator[None]:
    """In the block, nobody else runs the recipe, nothing of a dead run of it is left, and the host has a place for it."""
    recipe = enrolment.recipe
    with world.locks.hold(recipe, holder, lane="run") as held:
        if held is None:
            raise Busy(f"Another run of {recipe} is under way: {world.held_by(recipe)}.")
        clean(world, recipe=recipe)
        with place_for(world, enrolment, f"the test of {recipe} {target.version}"):
            yield


def _controls(world: World, sweep: str | None) -> float:
    """Seconds that the control runs of a sweep have taken by now."""
    if sweep is None:
        return 0.0
    runs = (one for name in world.runs.recipes() for one in world.runs.newest_first(name) if one.sweep == sweep)
    return sum(one.timings.get("control", 0.0) for one in runs)


def _told(world: World, verdict: Verdict, note: str) -> Verdict:
    """The verdict with one more note, on record too."""
    noted = verdict.model_copy(update={"notes": (*verdict.notes, note)})
    world.runs.record(noted)
    return noted


def _once(
    world: World,
    enrolment: Enrolment,
    target: Target,
    order: Order,
    *,
    first: Verdict | None = None,
    within: Path | None = None,
    climbed: Callable[[], None] = lambda: None,
) -> Verdict:
    """One run. One that is kept `within` another one's folder is no run of the recipe's by itself.

    `climbed` is called when its tiers are over, before anything is removed.
    """
    need = need_of_next(world, enrolment.recipe)
    with room_for(world, f"the test of {enrolment.recipe} {target.version}", need, otherwise=make_room) as room:
        return _within(world, enrolment, target, order, first, within, room, climbed)


def _within(
    world: World,
    enrolment: Enrolment,
    target: Target,
    order: Order,
    first: Verdict | None,
    within: Path | None,
    room: Reservation,
    climbed: Callable[[], None],
) -> Verdict:
    began, stamp = time.monotonic(), world.stamp()
    # As it is now, and no later: what somebody mends while this runs was not what it ran with.
    enrolled, manifest = world.checkout.digest(enrolment.recipe), customisations(world, enrolment)
    problem: CanonqError | None = None
    logs: dict[str, str] = {}
    with world.host.claiming() as claims:
        account = Account(claims)
        run = _begin(world, enrolment, target, order, room, began + enrolment.limits.run, within, account)
        with alive(run.work), about(run=run.id):
            try:
                run.app.work.mkdir(parents=True, exist_ok=True, mode=0o700)
                problem = _climb_above_the_floor(run)
            finally:
                climbed()
                logs, left_over = _end(run, _to_keep(run, order, problem))
                problem, noted = whole_problem(problem, left_over)
                run.account.notes += noted
                if isinstance(problem, NoRoom):
                    let_go_of_images(world, run.account)
                    with contextlib.suppress(CanonqError):  # the janitor does it
                        drop_cut_pulls(world, room)
    keep_beside(run.folder, "customisations.json", manifest)
    ended = Ended(problem, logs, stamp, _lasted(run, began), enrolled, manifest, first)
    verdict = masked_verdict(_verdict(run, order, ended), run.masks)
    if within is not None:
        keep_beside(run.folder, "verdict.json", verdict.model_dump(mode="json"))
        return verdict
    world.runs.record(verdict)
    _retain(world, verdict)
    return verdict


def _lasted(run: Run, began: float) -> float:
    """Seconds that it took, but for those in which it waited for others."""
    return round(max(0.0, time.monotonic() - began - run.account.timings.get("turn", 0.0)), 2)


@dataclass(frozen=True)
class Ended:
    """How a run ended, and what it was made with."""

    problem: CanonqError | None
    logs: Mapping[str, str]  #: service -> the end of its log
    stamp: str  #: when it began
    seconds: float
    enrolled: str  #: digest of the enrolment
    manifest: dict[str, Any]  #: what of the enrolment changes how the recipe is tested
    first: Verdict | None  #: the red that it repeats


def _verdict(run: Run, order: Order, ended: Ended) -> Verdict:
    """The one verdict of a run, from what was to be proven, what was found and how it ended."""
    enrolment, target, found, account = run.enrolment, run.target, run.findings, run.account
    problem, first = ended.problem, ended.first
    judged = _judge(run, problem)
    service = problem.service or (enrolment.health.service if judged.kind == "red" else "") if problem else ""
    climbed, declared = rungs(found.tiers, ended=problem is not None), dict(enrolment.expected_na)
    stack = run.app.identity.stack
    filled = account.filled(stack, target.commit) or account.filled(stack, found.base.commit)
    return Verdict(
        recipe=enrolment.recipe,
        sweep=order.sweep,
        named=order.named,
        run=run.id,
        verdict=judged.kind,
        reason=judged.reason,
        detail=judged.detail + (f" (again, alone on the host, after the red run {first.run})" if first else ""),
        cause=(problem.cause or None) if problem else None,
        fault=judged.fault,
        certain=problem is not None and problem.certain,
        outside=(problem.outside or None) if problem else None,
        retry_after=problem.retry_after if problem else None,
        version=target.version,
        commit=target.commit,
        ref=target.ref,
        quick=target.quick,
        base=found.base.version,
        base_commit=found.base.commit,
        base_from=found.base.source,
        fence=target.fence,
        notes=(*target.base.notes, *(filled.replaced if filled else ()), *account.notes),
        enrolment=ended.enrolled,
        data=f"a copy of the data of the canonical {target.data.version}" if target.data else "empty volumes",
        customisations=ended.manifest,
        gaps=()
        if target.quick
        else (
            *gaps(found.tiers, declared),
            *found.unmarked,
            *found.not_looked_at,
            *uncounted(found.census),
            *unmarked_sqlite(found.census, found.marked, enrolment.data.volatile),
        ),
        stale=(*stale(found.tiers, declared), *_stale_data(run)),
        first_start=dict(found.first_start),
        census=dict(list(held_last(run).items())[:_MOST_NAMES]),
        known_names=tuple(other_names(run)[:_MOST_NAMES]),
        deaths=counted(death for vigil in run.vigils.values() for death in vigil.deaths),
        service=service or None,
        log_tail=tuple(tail(ended.logs.get(service, ""))),
        first_run=first.run if first else None,
        tiers=found.tiers,
        rungs=climbed,
        level=level(climbed),
        deployments=found.deployments,
        fresh=found.fresh,
        images=account.images(run.fresh.identity.stack) or account.images(stack),
        domain=run.app.identity.domain,
        routing_tested=run.world.ingress is not None and enrolment.health.kind == "http",
        ts=ended.stamp,
        seconds=ended.seconds,
        timings=account.timings,
        disk_bytes=found.disk_bytes + found.artifact_bytes + account.pulled_bytes,
        volume_bytes=found.disk_bytes,
        image_bytes=account.pulled_bytes,
        peaks=whole_peaks(account.peaks, found.disk_of_tier),
        lowest_free=found.lowest_free,
        directory=str(run.folder),
    )


def _stale_data(run: Run) -> list[str]:
    """Names under [data] that were nothing in a run that has counted all there is."""
    rules, seen = run.enrolment.data, names_seen(run)
    if "restore" not in run.findings.tiers or not seen:
        return []
    earlier = names_before(run)
    return [*unknown(rules.volatile, seen, "volatile", earlier), *unknown(rules.shrink, seen, "shrink", earlier)]


def _retain(world: World, verdict: Verdict) -> None:
    """Let old run folders go. The verdict is on record by now: a trouble with these is for the log, and for the next run."""
    try:
        record = world.registry.read(verdict.recipe)
        always = {verdict.run} | ({record.run} if record and record.run else set())
        world.runs.retain(verdict.recipe, world.settings.keep_runs, always)
    except (CanonqError, OSError) as error:
        log.warning("%s: old runs were not removed: %s", verdict.recipe, error)


def _climb_above_the_floor(run: Run) -> CanonqError | None:
    """Climb as long as every disk keeps its floor; what failed for want of room is the host's, whatever it looked like."""
    what = f"The test of {run.enrolment.recipe} {run.target.version}"
    stopped = partial(asked_to_stop, run.world.work / run.id)
    floor = floor_held(run.world.budget, run.room, what, lambda: measure(run), stopped)
    appetite = memory_held(run.world.ownership, run.account, lambda: run.findings.phase)
    with floor as watch, appetite, seeing(run.world.engine.ping) as sight:
        problem = _climb(run)
        problem = _as_seen(run, problem, sight)
    run.findings.lowest_free = dict(watch.lowest)
    return watch.ended if problem is not None and watch.ended is not None else problem


def _as_seen(run: Run, problem: CanonqError | None, sight: Sight) -> CanonqError | None:
    """The problem, or another in its place where what it is about was not seen as it was, or was taken away by others."""
    if problem is None or not isinstance(problem, RecipeProblem):
        return problem
    found: CanonqError | None
    try:
        found = stacks_gone(run)
    except CanonqError as error:  # Docker is away now
        found = None if problem.certain else error
    found = found or voided(problem, sight.blinds, run.findings.since)
    if found is None:
        return problem
    run.account.notes.append(f"not-judged: {run.masks.text(problem.what)}")
    for name, tier in run.findings.tiers.items():
        if tier.status == "fail":
            told = f"not judged: {run.masks.text(found.what)}"
            run.findings.tiers[name] = tier.model_copy(update={"status": "unverified", "reason": told})
    return found


def _climb(run: Run) -> CanonqError | None:
    """Climb, then lint beside it, also beside a red one. Lint has no say: a trouble of it is told and changes nothing."""
    problem = _problem_of(climb, run)
    if problem is None or isinstance(problem, RecipeProblem):
        phase = run.findings.phase
        if (trouble := _problem_of(run_lint, run)) is not None:
            run.findings.tiers["lint"] = TierResult(status="unverified", reason=f"lint could not be run: {trouble}")
        run.findings.phase = phase
    await_pictures(run)
    return problem


def _problem_of(action: Callable[[Run], None], run: Run) -> CanonqError | None:
    """Every run ends in a verdict, so whatever stops it becomes a problem that can be told."""
    try:
        with unsaid(run.account.secrecy):
            action(run)
    except CanonqError as error:
        return error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _unforeseen(run, error)
        return HostProblem(f"A disk is full, in '{run.findings.phase}': {error}.", mend="free some disk.", code="disk-full")
    except Exception as error:  # noqa: BLE001 - every run ends in a verdict
        return _unforeseen(run, error)
    return None


def _unforeseen(run: Run, error: Exception) -> CanonqError:
    log.exception("%s: the run %s broke in '%s'", run.enrolment.recipe, run.id, run.findings.phase)
    return CanonqError(f"{type(error).__name__} in '{run.findings.phase}': {error}", mend="report it with the worker's log.")


def _begin(
    world: World,
    enrolment: Enrolment,
    target: Target,
    order: Order,
    room: Reservation,
    deadline: float,
    within: Path | None,
    account: Account,
) -> Run:
    run_id = world.new_id(enrolment.recipe)
    folder = within or world.runs.make(enrolment.recipe, run_id)
    folder.mkdir(exist_ok=True, parents=True)
    stack = cold_stack(enrolment.recipe, run_id[-6:])
    identity = Identity(
        instance=world.instance,
        kind="run",
        recipe=enrolment.recipe,
        owner=run_id,
        stack=stack,
        domain=f"{stack}.{world.settings.zone}",
        version=target.version,
        commit=target.commit,
    )
    allow = None if target.ref is None else tuple(enrolment.refs.allow)
    given = None if target.ref is None else tuple(enrolment.refs.secrets)
    work = world.work / run_id
    app = Deployment(identity, enrolment, work / "tree", work / "app", account, allow=allow, given=given, sweep=order.sweep)
    findings, trees = Findings(target), Trees(world.repos, enrolment, work)
    return Run(world, enrolment, target, run_id, folder, account.begins(app), deadline, room, account, findings, trees)


def customisations(world: World, enrolment: Enrolment) -> dict[str, Any]:
    """Which of the enrolment's files and keys change how this recipe is tested."""
    folder = world.checkout.folder(enrolment.recipe)
    kept = enrolment.model_dump(mode="json", exclude_defaults=True, exclude={"recipe", "upstream", "env", "secrets"})
    with contextlib.suppress(CanonqError):  # the run itself says what is wrong with it
        kept["hooks.py"] = sorted(hook_names(folder) & KNOWN_HOOKS)
    return {
        **{key: value for key, value in kept.items() if value},
        **({"env": sorted(enrolment.env)} if enrolment.env else {}),
        **({"secrets": sorted(enrolment.secrets)} if enrolment.secrets else {}),
        **{name: True for name in ("install_steps.sh", "compose.canonq.yml") if (folder / name).is_file()},
        **({"tests": tests} if (tests := sorted(path.name for path in folder.glob("test_*.py"))) else {}),
    }


def _to_keep(run: Run, order: Order, problem: CanonqError | None) -> KeptEnvironment | None:
    """What of a red run stays up, where somebody asked for that and there is something to look at."""
    if order.keep_on_red is None or problem is None or (judged := _judge(run, problem)).kind != "red":
        return None
    app = next((one.identity for one in run.account.begun if one.identity.stack == run.findings.failed_on), run.app.identity)
    with contextlib.suppress(CanonqError):
        if run.world.ownership.owned(app.labels)["stacks"]:
            return KeptEnvironment(
                recipe=run.enrolment.recipe, run=run.id, version=run.target.version, reason=judged.reason, stack=app.stack,
                domain=app.domain, service=run.enrolment.health.service, until=stays_until(run.world, order.keep_on_red),
            )  # fmt: skip
    run.account.notes.append("not-kept: nothing of it was up when it ended, so there is nothing to look at")
    return None


def _end(run: Run, stays: KeptEnvironment | None) -> tuple[dict[str, str], CanonqError | None]:
    """Keep the logs, then remove everything of this run, but for what `stays` for a while; the logs, and the problem when
    something may be left.

    What could not be kept of the logs is a note: nothing that was proven depends on it.
    """
    world, began = run.world, time.monotonic()
    problem: CanonqError | None = None
    logs: dict[str, str] = {}
    fresh_failed = run.findings.failed_on == run.fresh.identity.stack
    try:
        for app in run.account.begun:
            own, fresh = app.identity.recipe == run.enrolment.recipe, run.is_fresh(app)
            folder = run.folder / FRESH if fresh else run.folder if own else run.folder / f"dependency-{app.identity.recipe}"
            kept = keep_logs(world, app.identity.stack, folder / "logs", run.masks)
            if own:  # what the stack that failed has said stands in the verdict
                logs = {**logs, **kept} if fresh == fresh_failed else {**kept, **logs}
        took(run)
    except (CanonqError, OSError) as error:
        run.account.notes.append(f"logs-not-kept: the logs could not be kept whole: {getattr(error, 'what', error)}")
    if stays is not None:
        keep(world, stays)
        run.account.notes.append(f"kept: what it deployed stays up until {stays.until}; `canonq kept` shows the way into it")
        return logs, None
    try:
        tear_down(world, run.app.identity)
    except CanonqError as error:
        problem = error
    remove_tree(run.work)
    run.account.timings["teardown"] = round(time.monotonic() - began, 3)
    keep_beside(run.folder, "timings.json", run.account.timings)
    with contextlib.suppress(OSError):  # each tier's files were masked as it ended
        mask(run.folder, run.masks)
    return logs, problem


def _judge(run: Run, problem: CanonqError | None) -> Judged:
    target, found = run.target, run.findings
    course = Course(run.enrolment.recipe, target.version, found.base.why, target.quick, found.tiers, found.phase)
    return judge_run(course, problem)
