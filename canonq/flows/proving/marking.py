"""What a tier puts into an app and finds again: marks, counts, hooks of a person, generic tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from canonq.adapters.processes.stopping import check_stop
from canonq.core.errors import EnrolmentProblem, HostProblem, RecipeProblem
from canonq.core.ladder import TierName, TierResult
from canonq.core.stack.census import Census, lost, nearly
from canonq.core.stack.databases import REDIS, without_marker
from canonq.core.stack.ledger import LedgerMark, named, wanted
from canonq.core.stack.witness import Files
from canonq.core.text import shown
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.stages import Deployment, Running
from canonq.flows.proving.counting import marks_of_sqlite, take_census
from canonq.flows.proving.hooks import HOOKS, READ_MARKER, WRITE_MARKER, call_hook
from canonq.flows.proving.inuse import names_before, names_seen, paths_in_volumes
from canonq.flows.proving.run import BASE, FRESH, Run
from canonq.flows.proving.tiers import facts_of, run_generic
from canonq.flows.proving.witnesses import lost_of, witness
from canonq.tiers import ledger
from canonq.tiers import markers as marks
from canonq.tiers.facts import BackupFacts, Marker, TierFacts

_MAY_GO = "what may go, or is made again when the app starts, is declared under [data] volatile in recipe.toml."

_RECOUNT = (1.0, 2.0, 0.0)  #: seconds after a count that shows a loss, until it is counted again


def kept_in(run: Run, tier: TierName, of: Deployment) -> Path:
    """Where the files of a tier are kept: apart for the stack that is not the one the tier is about."""
    if run.is_fresh(of):
        return run.folder / tier if tier == "install" else run.folder / FRESH / tier
    return run.folder / BASE if tier == "install" and of.identity.version != run.target.version else run.folder / tier


def generic_tier(
    run: Run,
    tier: TierName,
    running: Running,
    *,
    base: str | None = None,
    markers: tuple[Marker, ...] = (),
    of: BackupFacts | None = None,
) -> TierResult:
    lost = missing_marks(run, tier, running, markers) if markers and tier != "backup" else ()
    facts = facts_for(run, tier, running).model_copy(update={"base": base, "markers": markers, "backup": of, "lost": lost})
    return run_generic(tier, facts, run.folder, run.deadline, run.masks)


def facts_for(run: Run, tier: TierName, of: Deployment | Running) -> TierFacts:
    app = of.deployment if isinstance(of, Running) else of
    return facts_of(run.world, of, tier, fresh=_is_new(run, app))


def _is_new(run: Run, app: Deployment) -> bool:
    """Whether what is deployed began on empty volumes at this version."""
    return run.is_fresh(app) or (run.findings.base.version is None and run.target.data is None)


def leave_marks(run: Run, tier: TierName, running: Running, earlier: tuple[Marker, ...] = ()) -> tuple[Marker, ...]:
    """Write the markers of this run into all that is there by now; what the recipe's own hook has written stays."""
    run.findings.phase = "markers"
    may_go = run.enrolment.data.volatile
    images = {service: image for service, image in running.stack.images.items() if service not in may_go}
    token = f"canonq-{run.id}"
    kinds = {service: kind for service, kind in run.servers(running).items() if service not in may_go}
    data = run.world.data
    leave = {running.stack.volumes.get(name, name) for name in may_go}
    live = {name for use in (run.findings.use, run.findings.base_use) if use is not None for name in use.sqlite}
    made = marks.write(
        data, running.stack.stack, images, token, patience_of(run), kinds=kinds, leave=leave, live=live - {*may_go}
    )
    run.findings.marked |= set(marks_of_sqlite(data, running, made))
    missed = {service: kind for service, kind in kinds.items() if kind != REDIS}  # what need not be kept is no gap
    run.findings.unmarked = without_marker(missed, {marker.place for marker in made if marker.kind == "database"})
    beside = {service: found for service, found in run.servers_of(running).beside.items() if service not in may_go}
    further = [{service: kind} for service, found in beside.items() for kind in found if kind != REDIS]
    run.findings.unmarked += tuple(told for one in further for told in without_marker(one, ()))
    own = [marker for marker in earlier if marker.kind == "own"]
    if {WRITE_MARKER, READ_MARKER} <= run.hooks and not own:
        call_in_tier(run, tier, running, WRITE_MARKER, token)
        own = [Marker(kind="own", place=HOOKS, text=token)]
    return (*made, *own)


def missing_marks(run: Run, tier: TierName, running: Running, markers: tuple[Marker, ...]) -> tuple[str, ...]:
    """A phrase for each marker that is not there now. RecipeProblem when a database does not answer."""
    told = call_in_tier(run, tier, running, READ_MARKER) if any(marker.kind == "own" for marker in markers) else None
    run.findings.phase = "markers"
    own = None if told is None else str(told)
    patience, images = patience_of(run), running.stack.images
    return tuple(
        marks.missing(
            run.world.data,
            running.stack.stack,
            markers,
            own,
            images,
            patience,
            kinds=run.servers(running),
            in_place=tier == "restore",
        )
    )


def census_of(run: Run, running: Running) -> Census:
    """Count what the app holds, for the verdict too."""
    run.findings.phase = "census"
    began = time.monotonic()
    run.findings.census = found = take_census(run.world.data, running, run.servers(running))
    spent = run.account.timings.get("census", 0.0)
    run.account.timings["census"] = round(spent + time.monotonic() - began, 3)
    return found


def none_lost(
    run: Run, running: Running, before: tuple[Census, Files], prove: Callable[[], TierResult], *, restored: bool = False
) -> TierResult:
    """What a tier's tests give, and RecipeProblem (`data-lost`) where the app holds less than `before`, or not what earlier
    promotions left in it.

    Tables tell more than a missing mark, so they are told first; a volume that has lost its mark is told as that.
    """
    held, files = before
    result = prove()  # which waits for a database that is not up yet
    gone = less_than(run, held, lambda: census_of(run, running))
    if result.status == "pass" and not gone:
        gone = lost_of(run, running, witness(run), files, held, lambda: run.findings.census)
    tables = [told for told in gone if not told.startswith("the volume ")]
    if tables or (gone and result.status == "pass"):
        _is_not_declared(run, running, held, tables or gone)
        raise RecipeProblem(
            f"Less is there than before: {'; '.join((tables or gone)[:10])}.",
            mend="look at what the release does to its data; what may go or get smaller is declared under [data] in recipe.toml.",
            code="data-lost",
        )
    if result.status == "pass" and (missing := _not_in_ledger(run, running, restored=restored)):
        raise RecipeProblem(f"What was there for longer is gone: {named(missing)}.", mend=_MAY_GO, code="data-lost")
    return result


def _is_not_declared(run: Run, running: Running, held: Census, gone: list[str]) -> None:
    """EnrolmentProblem where [data] has a name that nothing is or was, and that is much like one which the app had: it may be
    what is missed, and a release is not held for a slip of the pen."""
    declared = [*run.enrolment.data.volatile, *run.enrolment.data.shrink]
    if not declared:
        return
    known = names_before(run) | names_seen(run) | paths_in_volumes(run) | set(census_of(run, running).names)
    if slips := nearly(declared, held.names, known):
        named = " and ".join(f"{shown(name)}, which nothing is or was; is it {shown(near)}?" for name, near in slips)
        raise EnrolmentProblem(
            f"[data] names {named} Less is there than before: {'; '.join(gone[:10])}.",
            mend=f"correct it in tests/{run.enrolment.recipe}/recipe.toml; if that is not what is missed, the release loses it.",
            code="data-name-unknown",
        )


def less_than(run: Run, held: Census, count: Callable[[], Census]) -> list[str]:
    """What is less than was `held`, also when it is counted again: the app may be at work on it."""
    rules, gone = run.enrolment.data, list[str]()
    for pause in _RECOUNT:
        gone = lost(held, count(), rules.volatile, rules.shrink)
        if not gone:
            break
        check_stop()
        time.sleep(min(pause, left(run.deadline)))
    return gone


def has_its_marks(run: Run, running: Running) -> None:
    """See that what runs first on the canonical's data finds what promotions left: HostProblem where the canonical itself has
    it no more, and RecipeProblem below a version that may have lost it."""
    record, version = run.target.data, running.identity.version
    if record is None or not (missing := _not_in_ledger(run, running)):
        return
    if version != record.version:
        what = f"On a copy of the data of the canonical {record.version}, {version} has lost {named(missing)}."
        raise RecipeProblem(what, mend=_MAY_GO, code="data-lost")
    raise HostProblem(
        f"The data of the canonical {version} lacks {named(missing)}: it was changed since its promotion, or goes when the app "
        "starts.",
        mend=f"`canonq rollback {run.enrolment.recipe} --to '{version}' --reason ...` unpacks its snapshot again; {_MAY_GO}",
        code="data-lost",
    )


def _not_in_ledger(run: Run, running: Running, *, restored: bool = False) -> list[LedgerMark]:
    """The marks of earlier promotions that are not in what runs on a copy of the canonical's data."""
    if run.target.data is None:
        return []
    run.findings.phase = "ledger"
    there = wanted(run.target.data.ledger, run.enrolment.data.volatile, restored=restored)
    return ledger.missing(run.world.data, running.stack.stack, there, run.servers(running), patience_of(run))


def patience_of(run: Run) -> marks.Patience:
    return marks.Patience(min(run.enrolment.health.timeout, left(run.deadline)))


def hook_of_tier(run: Run, when: str, tier: TierName, of: Deployment | Running) -> None:
    name = f"{when}_{tier}"
    if name not in run.hooks:
        return
    if isinstance(of, Running):
        run.vigil(of.deployment).undisturbed(name, of, lambda: call_in_tier(run, tier, of, name), run.deadline)
    else:
        call_in_tier(run, tier, of, name)


def call_in_tier(run: Run, tier: TierName, of: Deployment | Running, function: str, *arguments: str) -> object:
    run.findings.phase = function
    limit = run.enrolment.limits.hook
    app = of.deployment if isinstance(of, Running) else of
    return call_hook(
        run.own, function, facts_for(run, tier, of), kept_in(run, tier, app), limit, run.deadline, run.masks, *arguments
    )
