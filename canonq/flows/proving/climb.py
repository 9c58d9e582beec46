"""The climb of one run: one deployment, from the upgrade base up through the tiers in place (docs/rules.md 2 and 3)."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from canonq.adapters.processes.stopping import check_stop
from canonq.core.backup import backup_plan
from canonq.core.bases import Base, Broken, Moved, after_broken, nothing_to_begin_from
from canonq.core.blame import CERTAIN
from canonq.core.budget import Need
from canonq.core.enrol.misnamed import misnamed
from canonq.core.errors import CanonqError, EnrolmentProblem, Fault, HostProblem, NoRoom, RecipeProblem
from canonq.core.ladder import TierName, TierResult, skipped, with_fresh, with_upgraded
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.recipe.envfile import secret_rules
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.records import Canonical
from canonq.core.stack.beside import why_apart
from canonq.core.stack.census import Census, lost
from canonq.core.stack.databases import REDIS, without_marker
from canonq.core.stack.ledger import LedgerMark, named, wanted
from canonq.core.stack.lint import LintFacts, lint, not_bumped
from canonq.core.stack.staying import counted
from canonq.core.text import ended, shown
from canonq.core.versions import read_tags
from canonq.flows.deploying.answering import ASKED_ELSEWHERE, NotHealthy, await_answer, ingress_problem, stack_gone
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.deployment import come_up, start
from canonq.flows.deploying.filling import INSTALL_STEPS, SecretMissing, look_ahead, read_files
from canonq.flows.deploying.pulling import have_ahead
from canonq.flows.deploying.secrecy import mask
from canonq.flows.deploying.stages import Deployment, Filled, Running, Started
from canonq.flows.keeping.data import copy_canonical
from canonq.flows.proving import backup
from canonq.flows.proving.access import still_written, uses
from canonq.flows.proving.counting import take_census
from canonq.flows.proving.dependencies import beside, bring_up_dependency, plan_dependencies
from canonq.flows.proving.evidence import keep_deployment, keep_logs
from canonq.flows.proving.hooks import HOOKS, READ_MARKER, WRITE_MARKER, call_hook, hooks_told
from canonq.flows.proving.inuse import (
    files_in,
    first_start_of_base,
    in_use,
    is_looked_at,
    look_at_fresh,
    look_into_containers,
    names_are_known,
)
from canonq.flows.proving.pictures import keep_pictures
from canonq.flows.proving.redeploying import Redeployed, await_back, begun_again, found_again, not_looked_at, redeploy
from canonq.flows.proving.run import Run, took
from canonq.flows.proving.tiers import TIERS, facts_of, no_proof, run_generic, run_own
from canonq.tiers import ledger
from canonq.tiers import markers as marks
from canonq.tiers.facts import BackupFacts, Marker, TierFacts

#: Codes of an app that does not come up.
_NOT_UP = ("not-healthy", "not-answering", "crash-loop", "exited", "not-restarted")
_MAY_GO = "what may go, or is made anew when the app starts, is declared under [data] volatile in recipe.toml."
_REPEATABLE = ("backup", "restore", "functional")  #: tiers that are done again as a whole where a restart interrupts them
_RECOUNT = (1.0, 2.0, 0.0)  #: seconds after a count that shows a loss, until it is counted again
BASE, FRESH = "base", "fresh"  #: folders of a run: of what it is upgraded from, of the fresh install beside it


def climb(run: Run) -> None:
    """Go up as far as the recipe gets: RecipeProblem at the first tier that fails, with its result on record."""
    target, tiers = run.target, run.findings.tiers
    run.account.notes += [f"misnamed-file: {told}" for told in misnamed(path.name for path in run.own.iterdir())]
    run.account.notes += hooks_told(run.hooks, there=(run.own / HOOKS).is_file())
    dependencies = _plan_dependencies(run)
    app = beside(run.app, dependencies)
    ahead, references = (None, ()) if target.quick else _look_ahead(run, app)
    # Not before: what the files say already is said though Docker be away, and before anything that takes time.
    run.world.engine.preflight()
    if ahead is not None:
        _ask_for_shared_volumes(run, ahead)
    TIERS.prepare()
    if references:
        run.findings.phase = "images"
        have_ahead(run.world, app, references, run.deadline)
    _bring_up_dependencies(run, app, dependencies)
    fresh = beside(run.account.begins(run.fresh), dependencies) if target.base.version is not None else app
    if target.data is not None:
        app = replace(app, secrets=copy_canonical(run.world, app, target.data))
    if target.quick:
        for tier in ("upgrade", "backup", "restore"):
            tiers[tier] = TierResult(status="unverified", reason="not part of a quick run")
        running = _install(run, app)
        _has_its_marks(run, running)
        _functional(run, running)
        return
    markers: tuple[Marker, ...] = ()
    up_since = time.time()
    if target.base.version is None:
        run.findings.fresh = "the stack that went through all tiers"
        running, beside_it, again = _install(run, app), None, None
        run.findings.first_start = in_use(run, running)
        _is_back_again(run, _once_more(run, running))
        up_since = time.time()
        tiers["upgrade"] = skipped("upgrade", target.base.why, run.enrolment.expected_na)
    else:
        begun: list[_Below] = []
        try:
            again = _install_fresh(run, fresh, app, begun)
        except RecipeProblem as error:
            _see_whether_the_canonical_does(run, app, begun, error)
            raise
        beside_it = again.running if again is not None else None
        running, markers = _from_a_base(run, app, begun[0] if begun else None, beside_it, ahead)
        if again is not None and running is beside_it:  # nothing to upgrade from came up: it goes up itself
            _is_back_again(run, again)
            again = None
    _backup_and_restore(run, running, markers)
    _functional(run, running)
    if again is not None:
        _is_back_again(run, again)
    if beside_it is not None and beside_it is not running:
        _use_fresh(run, beside_it, again)
    _stays_up(run, running)
    if run.findings.base.version is None:
        look_at_fresh(run, running)
        look_into_containers(run, running, up_since)
    is_looked_at(run)
    names_are_known(run)
    stacks = {"upgraded" if target.base.version else "fresh": running}
    keep_pictures(run, stacks if beside_it is None else {**stacks, "fresh": beside_it})


@dataclass(frozen=True)
class _Below:
    """What the run is upgraded from, once it was begun: it is coming up, or could not be deployed."""

    started: Started | None = None
    problem: CanonqError | None = None


def _install_fresh(run: Run, fresh: Deployment, app: Deployment, begun: list[_Below]) -> Redeployed | None:
    """Install the version under test on empty volumes: beside the base, which is begun meanwhile, or before it.

    What runs of it still, being deployed once more; what was begun of the base goes to `begun`, also where the install fails.
    """
    base = run.target.base
    if (why := _why_apart(run, fresh, app)) is None:
        run.findings.fresh = f"a stack of its own, beside the upgrade from {base.version}"
        running = _install(run, fresh, lambda: begun.append(_begin_below(run, app, base)))
        run.findings.first_start = in_use(run, running)
        return _once_more(run, running)
    run.findings.fresh = f"a stack of its own, before the upgrade from {base.version}: {why}"
    running = _install(run, fresh)
    run.findings.first_start = in_use(run, running)
    again = _once_more(run, running)
    _is_back_again(run, again)
    _stays_up(run, running)
    _use_fresh(run, running, again)
    keep_logs(run.world, fresh.identity.stack, run.folder / FRESH / "logs", run.masks)
    _remove(run, fresh)
    return None


def _once_more(run: Run, running: Running) -> Redeployed:
    """Write into the fresh install, and have it deployed once more; nothing is waited for."""
    with _of_the_install(run, running):
        again = redeploy(run, running, _mark(run, "install", running))
        run.findings.not_looked_at = not_looked_at(run, again)
        return again


def _is_back_again(run: Run, it: Redeployed) -> None:
    """Wait until it is, and see whether it has what was written to it."""
    with _of_the_install(run, it.running):
        await_back(run, it)

        def look() -> None:
            found_again(run, it, _missing(run, "install", it.running, it.markers))

        run.vigil(it.running.deployment).undisturbed(
            "what it had before it was deployed once more", it.running, look, run.deadline
        )


def _use_fresh(run: Run, running: Running, again: Redeployed | None) -> None:
    """Use the fresh install by the recipe's own tests, and look where it keeps what it has come by."""
    up_since = time.time()
    look_at_fresh(run, running)
    _functional(run, running)
    _stays_up(run, running)
    if again is not None:
        _has_not_begun_again(run, again)  # what it makes only when somebody uses it
    look_into_containers(run, running, up_since)


def _has_not_begun_again(run: Run, it: Redeployed) -> None:
    with _of_the_install(run, it.running):
        found_again(run, it, begun_again(run, it))


@contextlib.contextmanager
def _of_the_install(run: Run, running: Running) -> Iterator[None]:
    """What goes wrong with it is on record with the install, which had passed."""
    try:
        with _about(running.identity.version):
            yield
    except RecipeProblem as error:
        where = "on the fresh install: " if run.is_fresh(running.deployment) else ""
        found = run.findings.tiers.get("install", TierResult(status="fail"))
        run.findings.tiers["install"] = found.model_copy(update={"status": "fail", "reason": where + run.masks.text(str(error))})
        run.findings.failed_on = running.identity.stack
        raise


def _see_whether_the_canonical_does(run: Run, app: Deployment, begun: list[_Below], error: RecipeProblem) -> None:
    """Where the fresh install fails and the canonical does not come up here either, that is no word about the release.

    The error of the base then, which is coming up meanwhile anyhow; nothing where it does come up, or was never begun.
    """
    base, result = run.target.base, run.findings.tiers.get("install")
    if not begun or error.certain or error.code in CERTAIN or error.fault is not Fault.RECIPE:
        return
    try:
        _base(run, app.of(str(base.version), str(base.commit)), begun[0])
    except _BaseFailed as failed:
        run.findings.tiers.pop("upgrade", None)
        if base.source != "canonical":
            return
        if result is not None:
            reason = f"its base does not come up either, so this says nothing: {result.reason}"
            run.findings.tiers["install"] = result.model_copy(update={"status": "unverified", "reason": reason})
        _begin_elsewhere(run, base, [failed.broken])
    except EnrolmentProblem as told:
        if result is not None:
            run.findings.tiers["install"] = result.model_copy(update={"reason": run.masks.text(str(told))})
        run.findings.tiers.pop("upgrade", None)
        raise
    except CanonqError:  # what is wrong on the way to it is told where the run needs it
        return
    run.findings.tiers.pop("upgrade", None)


def _why_apart(run: Run, fresh: Deployment, app: Deployment) -> str | None:
    """Why the fresh install cannot be up beside the base; None when it can, as far as their files tell."""
    base = run.target.base
    try:
        one = read_files(run.world, run.trees.look_at(fresh), run.deadline).resolved
        other = read_files(run.world, run.trees.look_at(app.of(str(base.version), str(base.commit))), run.deadline).resolved
    except CanonqError:
        return None  # what is wrong with either is said when it is deployed
    return why_apart(one, other, run.world.host.free_memory()) or None


def _begin_below(run: Run, app: Deployment, base: Base) -> _Below:
    """Have Docker bring the base up while something else is waited for. What is wrong with it is the base's, and told later."""
    try:
        return _Below(started=_start_base(run, app.of(str(base.version), str(base.commit))))
    except CanonqError as error:
        return _Below(problem=error)


def _start_base(run: Run, app: Deployment) -> Started:
    with _about(app.identity.version):
        _hook(run, "before", "install", app)
        run.findings.phase = "base"
        return _explained(run, app, lambda: _start(run, "base", app, new=True))


def _from_a_base(
    run: Run, app: Deployment, below: _Below | None, fresh: Running | None, ahead: Filled | None
) -> tuple[Running, tuple[Marker, ...]]:
    """Begin from a base that comes up and upgrade it; what runs, and its markers. Where none does and that is declared: the
    fresh install goes up itself."""
    base, broken = run.target.base, list[Broken]()
    while base.version is not None and base.commit is not None:
        try:
            running = _base(run, app.of(base.version, base.commit), below)
            return _upgrade(run, base.version, running)
        except _BaseFailed as failed:
            broken.append(failed.broken)
            base, below = _begin_elsewhere(run, base, broken), None
            if ahead is not None:
                _ask_for_bumps(run, app, base, ahead)
    run.findings.tiers["upgrade"] = skipped("upgrade", base.why, run.enrolment.expected_na)
    return fresh if fresh is not None else _install(run, replace(app, secrets={})), ()


def _base(run: Run, app: Deployment, below: _Below | None) -> Running:
    """The base, up and answering. _BaseFailed when it does not come up."""
    began, version = time.monotonic(), app.identity.version
    try:
        if below is not None and below.problem is not None:
            raise below.problem
        started = below.started if below is not None else None
        with _about(version):
            started = _start_base(run, app) if started is None else started
            run.findings.phase = "base"
            running = _explained(run, app, lambda: _come_up(run, "base", started))
            _tell_of_moved_images(run)
            _hook(run, "after", "install", running)
    except RecipeProblem as error:
        why, seconds = run.masks.text(str(error)), round(time.monotonic() - began, 3)
        _if_of_the_base(run, "upgrade", error, why, seconds)
        run.findings.tiers["upgrade"] = TierResult(status="fail", reason=why, seconds=seconds)
        raise
    finally:
        run.account.timings["base.whole"] = round(time.monotonic() - began, 3)
        mask(run.folder / BASE, run.masks)
    return running


class _BaseFailed(Exception):
    """What was deployed to begin from did not come up."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken)
        self.broken = broken


def _begin_elsewhere(run: Run, base: Base, broken: list[Broken]) -> Base:
    """Take down a base that did not come up; from where the run begins instead. The error when there is nothing left."""
    world, last, stack = run.world, broken[-1], run.app.identity.stack
    releases, _ = read_tags(world.repos.tags(run.enrolment.recipe), prereleases=run.enrolment.prereleases)
    found = after_broken(base.source, broken, releases, run.enrolment.expected_na.get("upgrade"))
    if found is None:
        record = world.registry.read(run.enrolment.recipe) if base.source == "canonical" else None
        moved = _moved_images(run, base, record) if record else []
        raise nothing_to_begin_from(run.enrolment.recipe, base.source, broken, record, moved)
    run.findings.phase = f"step back from {last.version}"
    kept = run.folder / f"base-{len(broken)}"
    keep_logs(world, stack, kept / "logs", run.masks)
    for part in (BASE, "upgrade"):
        if (run.folder / part).is_dir():
            (run.folder / part).rename(kept / part)
    _remove(run, run.app)
    run.findings.begin_again(found)
    run.account.notes.append(f"base-passed-over: {last.version} did not come up ({last.why}); {found.why}")
    return found


def _tell_of_moved_images(run: Run) -> None:
    """Note the images of the canonical that are others by now under the same name: what was proven is not what runs."""
    base = run.findings.base
    record = run.world.registry.read(run.enrolment.recipe) if base.source == "canonical" else None
    for moved in _moved_images(run, base, record) if record else ():
        run.account.notes.append(f"image-moved: {moved}, since the canonical {base.version} was proven")


def _moved_images(run: Run, base: Base, record: Canonical) -> list[Moved]:
    """Images of the base that are others than those on the canonical's record."""
    stack, was = run.app.identity.stack, record.images
    filled = run.account.filled(stack, base.commit)
    references = filled.resolved.images if filled else {}
    return [
        Moved(service, references[service], was[service], now)
        for service, now in run.account.images(stack).items()
        if service in was and service in references and not run.world.images.is_image(references[service], was[service])
    ]


def _look_ahead(run: Run, app: Deployment) -> tuple[Filled | None, tuple[str, ...]]:
    """Read the target's files before anything is done; its images. RecipeProblem for what they say already."""
    run.findings.phase = "files"
    with run.account.timed("ahead.files"):
        try:
            found = look_ahead(run.world, run.trees.look_at(app), run.deadline)
        except SecretMissing as error:
            _ask_whose_secret(run, app, error)
            raise
        if found is None:
            return None, ()
        _ask_for_bumps(run, app, run.target.base, found[0])
        return found


def _ask_for_shared_volumes(run: Run, ahead: Filled) -> None:
    """RecipeProblem where the release needs a volume of another stack, and there is none: nobody could deploy it here."""
    gone = [name for name in ahead.shared if run.world.volumes.volume_path(name) is None]
    if gone:
        raise RecipeProblem(
            f"{run.target.version} needs the volume {' and '.join(map(shown, gone))} of another stack (external), and this host "
            "has none of that name.",
            mend="the recipe should have a volume of its own; where it shares one on purpose, make it here with "
            f"`docker volume create {shlex.quote(gone[0])}`, or give it another in {TEST_OVERLAY}.",
            code="volume-missing",
            certain=True,
        )


def _ask_whose_secret(run: Run, app: Deployment, missing: SecretMissing) -> None:
    """RecipeProblem where the base's .env.sample makes the secret and the version's own does not: nobody can install it anew."""
    base = run.target.base
    if base.version is None or base.commit is None:
        return
    try:
        below = read_files(run.world, run.trees.look_at(app.of(base.version, base.commit)), run.deadline)
        rule = secret_rules(below.sample, below.env).get(missing.secret)
    except CanonqError:
        return
    if rule is None or not rule.generate:
        return
    what = (
        f"The secret '{missing.secret}' of {run.target.version} is made by the .env.sample of {base.version}, and not by its "
        "own: who has the app already keeps it, who installs it anew has none."
    )
    run.findings.tiers["install"] = TierResult(status="fail", reason=what)
    raise RecipeProblem(
        what, mend="the maintainer has to put it back into .env.sample.", code="install-failed", cause=missing.code, certain=True
    ) from missing


def _ask_for_bumps(run: Run, app: Deployment, base: Base, ahead: Filled) -> None:
    """RecipeProblem for a config or secret that is another than the base's under the same name: Docker refuses that always."""
    if base.version is None or base.commit is None or (run.own / INSTALL_STEPS).is_file():
        return  # install steps may still change the files
    try:
        below = read_files(run.world, run.trees.look_at(app.of(base.version, base.commit)), run.deadline)
    except CanonqError:
        return  # the install tier says what is wrong with the base
    for where, what in not_bumped(below.resolved, below.hashes, ahead.resolved, ahead.hashes, app.identity.stack):
        near = [told for told in ahead.unset if f" {where}." in told]  # then it may well have been raised, under another name
        raise RecipeProblem(
            " ".join([f"{where}: {what}", *near]),
            mend=f"the base is {base.version}; the recipe has to tag again.",
            code="config-not-bumped",
        )


# -- the tiers ----------------------------------------------------------------------------------------------


def _plan_dependencies(run: Run) -> list[Deployment]:
    planned: list[Deployment] = []
    plans = plan_dependencies(run.world, run.app)
    for name in run.enrolment.deps:
        run.findings.phase = f"dependency {name}"
        planned.append(next(plans))
    return planned


def _bring_up_dependencies(run: Run, app: Deployment, dependencies: list[Deployment]) -> None:
    for dependency in dependencies:
        name = dependency.identity.recipe
        run.findings.phase = f"dependency {name}"
        try:
            bring_up_dependency(run.world, app, dependency, run.deadline)
        finally:
            keep_deployment(dependency.work, run.folder / f"dependency-{name}", run.masks)


def _install(run: Run, app: Deployment, meanwhile: Callable[[], object] = lambda: None) -> Running:
    """The install tier: bring the version up on what is there, which is nothing but for a quick run; `meanwhile` it comes up."""

    def deploy() -> tuple[Running, None]:
        with _about(app.identity.version), _as_an_install(run, app):
            started = _explained(run, app, lambda: _start(run, "install", app, new=True))
        meanwhile()
        run.findings.phase = "install"
        with _about(app.identity.version), _as_an_install(run, app):
            return _explained(run, app, lambda: _come_up(run, "install", started)), None

    return in_tier(run, "install", app, deploy, lambda running, _: _generic(run, "install", running))[0]


@contextlib.contextmanager
def _as_an_install(run: Run, app: Deployment) -> Iterator[None]:
    """What does not come up on empty volumes, beside an upgrade, is `install-failed`, and why is the finer cause."""
    try:
        yield
    except NotHealthy as error:
        if run.is_fresh(app) and error.code in _NOT_UP:
            what = f"On empty volumes, as somebody new installs it, {error.what}"
            raise NotHealthy(
                what, mend=error.mend, code="install-failed", cause=error.code, service=error.service, certain=error.certain
            ) from error
        raise


def _explained(run: Run, app: Deployment, act: Callable[[], _Made]) -> _Made:
    """Do it; what of its failing is the enrolment's is raised as that."""
    try:
        return act()
    except RecipeProblem as error:
        if _is_the_overlays(run, app, error):
            raise EnrolmentProblem(
                f"{error.what} {TEST_OVERLAY} changes that service, and with this enrolment nothing was ever deployed.",
                mend=f"correct {TEST_OVERLAY} in tests/{run.enrolment.recipe}, or leave it out once to see what Docker says.",
                code=error.code,
                certain=True,
            ) from error
        if (why := _why_health_is_wrong(run, error, app.identity.version, app.identity.commit)) is None:
            raise
        raise EnrolmentProblem(
            f"{error.what} {why}",
            mend=f"look at [health] in tests/{run.enrolment.recipe}/recipe.toml (path, status), and at what was changed.",
            code="health-wrong",
            service=error.service,
        ) from error


def _is_the_overlays(run: Run, app: Deployment, error: RecipeProblem) -> bool:
    """Whether what Docker refuses is of a service that the enrolment's overlay changes, with which none was green so far."""
    overlay = run.own / TEST_OVERLAY
    if error.code != "deploy-refused" or not overlay.is_file():
        return False
    changed = load_yaml(overlay.read_text(errors="replace"), where=TEST_OVERLAY).get("services") or {}
    digest = run.world.checkout.digest(run.enrolment.recipe)
    proven = any(one.verdict == "green" and one.enrolment == digest for one in run.world.runs.verdicts(run.enrolment.recipe))
    return not proven and any(f"{app.identity.stack}_{name}" in error.what for name in changed)


def _why_health_is_wrong(run: Run, error: RecipeProblem, version: str, commit: str) -> str | None:
    """Why it is the enrolment's that an app which runs did not answer as [health] wants; None where it may be the app's."""
    if error.code != "not-answering":
        return None
    digest = run.world.checkout.digest(run.enrolment.recipe)
    green = [one for one in run.world.runs.verdicts(run.enrolment.recipe) if one.verdict == "green"]
    same = [one.enrolment for one in green if (one.version, one.commit) == (version, commit)]
    if same and digest not in same:
        return f"{version} was proven; its enrolment was changed since."
    if error.cause == ASKED_ELSEWHERE and digest not in [one.enrolment for one in green]:
        return "Something answers, and with this enrolment no version ever answered as [health] wants it."
    return None


def _upgrade(run: Run, version: str, base: Running) -> tuple[Running, tuple[Marker, ...]]:
    target = run.target

    def over_the_base() -> tuple[Running, tuple[tuple[Marker, ...], Census]]:
        with _about(version):
            used = uses(run.world, base)
            _has_its_marks(run, base)
            run.findings.base_first_start = first_start_of_base(run, base)
            run.findings.base_files = files_in(run, base)
            markers = _mark(run, "upgrade", base)
            run.findings.base_census = held = _census(run, base)
            run.vigil(base.deployment).goes_down(another=True)
        with _about(target.version):
            started = _start(run, "upgrade", base.over(target.version, target.commit), new=False)
            running = _come_up(run, "upgrade", started)
            run.account.notes += still_written(used, uses(run.world, running), version)
            return running, (markers, held)

    def prove(running: Running, made: tuple[tuple[Marker, ...], Census]) -> TierResult:
        markers, held = made
        return _none_lost(run, running, held, lambda: _generic(run, "upgrade", running, base=version, markers=markers))

    running, (markers, _) = in_tier(run, "upgrade", base, over_the_base, prove)
    return running, markers


def _backup_and_restore(run: Run, running: Running, earlier: tuple[Marker, ...]) -> None:
    plan = backup_plan(running.prepared.filled.resolved)
    if not plan.capable:
        for tier in ("backup", "restore"):
            run.findings.tiers[tier] = skipped(tier, plan.why_not + _overlaid(run), run.enrolment.expected_na)
        return
    taken = backup.Backup(
        run.world.data,
        running.stack.stack,
        plan,
        running.stack.volumes,
        running.deployment.work / "backup",
        run.enrolment.limits.hook,
        run.deadline,
    )
    markers, held = _take_backup(run, running, taken, earlier)
    _restore(run, running, taken, markers, held)


def _overlaid(run: Run) -> str:
    """The end of a sentence about a backup that is off, where the enrolment's overlay has a say in it."""
    overlay = run.own / TEST_OVERLAY
    said = overlay.read_text(errors="replace") if overlay.is_file() else ""
    return f"; {TEST_OVERLAY} of the enrolment has backup labels of its own" if "backupbot." in said else ""


def _take_backup(
    run: Run, running: Running, taken: backup.Backup, earlier: tuple[Marker, ...]
) -> tuple[tuple[Marker, ...], Census]:
    def with_a_marker() -> tuple[Running, tuple[tuple[Marker, ...], BackupFacts, Census]]:
        _room_for(run)
        markers = _mark(run, "backup", running, earlier)  # also what the upgrade has added
        markers += tuple(backup.mark_parts(taken, f"canonq-{run.id}", run.servers(running)))
        held = _census(run, running)
        run.findings.phase = "backup"
        facts = backup.take(taken, markers)
        run.account.notes += backup.left_to_the_restore(facts, markers)
        run.account.notes += backup.left_out(running.prepared.filled.resolved, taken.plan)
        if missed := backup.not_backed_up(taken, facts, markers, run.enrolment.data.volatile):
            raise RecipeProblem(
                f"No backup has the data of {' and '.join(missed)}.",
                mend="the maintainer has to label it; a database that need not be kept is declared under [data] volatile.",
                code="not-backed-up",
                service=missed[0],
            )
        if gap := backup.unproven(facts, markers):
            run.findings.unmarked += (gap,)
        run.findings.unmarked += tuple(backup.partly(taken, facts, held, markers, run.enrolment.data.volatile))
        return running, (markers, facts, held)

    _, (markers, _, held) = in_tier(
        run,
        "backup",
        running,
        with_a_marker,
        lambda running, made: _generic(run, "backup", running, markers=made[0], of=made[1]),
    )
    return markers, held


def _restore(run: Run, running: Running, taken: backup.Backup, markers: tuple[Marker, ...], held: Census) -> None:
    def from_destroyed() -> tuple[Running, BackupFacts]:
        covered, still, kept = backup.destroy(taken, markers, _patience(run))
        run.account.notes += kept
        own = tuple(marker for marker in markers if marker.kind == "own")
        if own:
            _call(run, "restore", running, WRITE_MARKER, "destroyed")
        run.vigil(running.deployment).goes_down()
        run.findings.phase = "restore"
        hooks = backup.restore(taken)
        if all(hook.status == 0 for hook in hooks):
            _is_back(run, running)
        return running, BackupFacts(hooks=hooks, destroyed=(*covered, *own), still_there=still)

    in_tier(
        run,
        "restore",
        running,
        from_destroyed,
        lambda running, facts: _none_lost(
            run,
            running,
            held,
            lambda: _generic(run, "restore", running, markers=facts.destroyed, of=facts),
            restored=True,
        ),
    )


def _is_back(run: Run, running: Running) -> None:
    """Wait until the app answers over the data that was put back: a server whose files are exchanged may well start anew."""
    ends = min(run.deadline, time.monotonic() + run.enrolment.health.timeout)
    try:
        with run.account.timed("restore.healthy"):
            await_answer(run.world, running.prepared, ends, run.deadline)
    except NotHealthy as error:
        raise RecipeProblem(
            f"After the restore the app did not come back: {error.what}",
            mend=error.mend,
            code="restore-failed",
            cause=error.code,
            service=error.service,
        ) from error
    run.vigil(running.deployment).came_up(running)


def _room_for(run: Run) -> None:
    """NoRoom when the artifact, which may be as large as the volumes, would eat what is retained."""
    run.findings.artifact_bytes = took(run)
    kept = run.room.left
    wanted = Need(state=max(0, run.findings.artifact_bytes - kept.state - kept.anywhere))
    room = run.world.budget.disk(wanted)
    if room.short > 0:
        raise NoRoom(f"There is no room for the backup's artifact: {room.why_short}", mend="free some disk.")


def _functional(run: Run, running: Running) -> None:
    """The recipe's own tests, on one of the run's stacks; what they gave on another one before stays beside it."""
    files, earlier = run.own_tests(), run.findings.tiers.get("functional")
    if earlier is None:
        run.account.notes += [f"own-tests: {told}" for told in no_proof(run.own, files)]
    if not files:
        why = "the recipe has no tests of its own"
        run.findings.tiers["functional"] = skipped("functional", why, run.enrolment.expected_na)
        return

    def prove(running: Running, _: None) -> TierResult:
        limit, folder = run.enrolment.limits.tests, _kept(run, "functional", running.deployment).parent
        found = run_own(_facts(run, "functional", running), folder, files, limit, run.deadline, run.masks)
        return with_fresh(earlier, found) if run.is_fresh(running.deployment) else with_upgraded(earlier, found)

    in_tier(run, "functional", running, lambda: (running, None), prove)


def _stays_up(run: Run, running: Running) -> None:
    """Wait out what is left of the soak. RecipeProblem, on record with the tier that brought it up, when it does not stay up."""
    run.findings.phase = "soak"
    fresh = run.is_fresh(running.deployment)
    with run.account.timed("soak.fresh" if fresh else "soak"), _died(run, running):
        run.vigil(running.deployment).soak(run.deadline)
    where = "of the fresh install " if fresh else ""
    for service, times in counted(run.vigil(running.deployment).deaths).items():
        run.account.notes.append(f"died: '{service}' {where}died {'once' if times == 1 else f'{times} times'}, and came back")


@contextlib.contextmanager
def _died(run: Run, running: Running) -> Iterator[None]:
    """Who does not stay up fails the tier that brought it up, whatever was proven since."""
    tier: TierName = "upgrade" if running.identity.stack == run.app.identity.stack and run.findings.base.version else "install"
    try:
        yield
    except NotHealthy as error:
        found = run.findings.tiers.get(tier, TierResult(status="fail"))
        where = "on the fresh install: " if run.is_fresh(running.deployment) else ""
        reason = where + run.masks.text(str(error))
        run.findings.tiers[tier] = found.model_copy(update={"status": "fail", "reason": reason})
        run.findings.failed_on = running.identity.stack
        error.version = error.version or running.identity.version
        raise


def run_lint(run: Run) -> None:
    """The lint tier: rules over the release's files, as far as they were filled in. It never changes the verdict."""
    run.findings.phase = "lint"
    target, stack = run.target, run.app.identity.stack
    if (filled := run.account.filled(stack, target.commit)) is None:
        return  # nothing of the release could be filled in: what stopped the run says why
    base = run.account.filled(stack, run.findings.base.commit)
    found = lint(
        LintFacts(
            version=target.version,
            ref=target.ref is not None,
            resolved=filled.resolved,
            stack=stack,
            env={**filled.env, **filled.exports},
            sample=filled.sample,
            files=filled.hashes,
            base_resolved=base.resolved if base else None,
            base_files=base.hashes if base else {},
            annotated=run.world.repos.is_annotated(run.enrolment.recipe, target.version),
            replaced=filled.replaced,
        )
    )
    told = {rule: tuple(f"{finding.where}: {finding.what}" for finding in findings) for rule, findings in found.items()}
    facts = _facts(run, "lint", run.app).model_copy(update={"lint": told})
    run.findings.tiers["lint"] = run_generic("lint", facts, run.folder, run.deadline, run.masks)


_Made = TypeVar("_Made")


def in_tier(
    run: Run,
    tier: TierName,
    before: Deployment | Running,
    act: Callable[[], tuple[Running, _Made]],
    prove: Callable[[Running, _Made], TierResult],
) -> tuple[Running, _Made]:
    """One tier: before-hook, what it does, its tests, after-hook; what runs after it, and what it made.

    RecipeProblem, and the result on record, when it fails. `before` is what runs, or is to run, when it begins.
    """
    began, findings = time.monotonic(), run.findings
    findings.since = began
    result: TierResult | None = None
    try:
        _hook(run, "before", tier, before)

        def whole() -> tuple[Running, _Made, TierResult]:
            findings.phase = tier
            running, made = act()
            return running, made, proof(running, made)

        def proof(running: Running, made: _Made) -> TierResult:
            findings.phase = f"{tier} tests"
            with _about(running.identity.version):
                return prove(running, made)

        if isinstance(before, Running) and tier in _REPEATABLE:
            vigil, what = run.vigil(before.deployment), f"the {tier} tier"
            running, made, result = vigil.undisturbed(what, before, whole, run.deadline, lambda it: it[2].status == "fail")
        else:  # what deploys is not done again: a death while it comes up is judged there
            findings.phase = tier
            running, made = act()
            vigil, what = run.vigil(running.deployment), f"the tests of the {tier} tier"
            result = vigil.undisturbed(what, running, lambda: proof(running, made), run.deadline, lambda it: it.status == "fail")
        with _about(running.identity.version):
            if result.status == "fail" and tier in ("backup", "restore"):
                labels = [told for told in running.prepared.filled.unset if ".labels" in told]
                result = result.model_copy(update={"reason": "; ".join([result.reason, *labels])})
            if result.status == "fail" and tier == "functional":
                mend = f"see functional/pytest.log; if the release is right, correct the test in tests/{run.enrolment.recipe}."
                result = result.model_copy(update={"reason": f"{ended(result.reason)} Mend: {mend}"})
            result = result.model_copy(update={"reason": run.masks.text(result.reason)})
            findings.tiers[tier] = result
            run.account.timings[f"{tier}.tests"] = result.seconds
            if result.status == "fail":
                if problem := ingress_problem(run.world, running.deployment) or stack_gone(run.world, running.stack.stack):
                    raise problem
                raise RecipeProblem(ended(f"The {tier} tier failed: {result.reason}"), code=f"{tier}-failed")
            _hook(run, "after", tier, running)
            run.vigil(running.deployment).see()
            for vigil in run.vigils.values():
                vigil.notice()
    except RecipeProblem as told:
        error = _dying(run, before) or told
        result = result if error is told else None
        failed, seconds = result is not None and result.status == "fail", round(time.monotonic() - began, 3)
        if result is None or not failed:
            why = run.masks.text(str(error))
            result = TierResult(
                status="fail", reason=why, tests=result.tests if result else (), fresh=result.fresh if result else ()
            )
        _if_of_the_base(run, tier, error, result.reason, seconds, result.tests)
        findings.tiers[tier] = result.model_copy(update={"seconds": seconds})
        findings.failed_on = before.identity.stack
        if error is not told:
            raise error from told
        raise
    finally:
        run.account.timings[f"{tier}.whole"] = round(time.monotonic() - began, 3)
        mask(_kept(run, tier, before.deployment if isinstance(before, Running) else before), run.masks)
    return running, made


def _dying(run: Run, of: Deployment | Running) -> NotHealthy | None:
    """The problem where what went wrong went wrong because a service of the app dies: a hook or a test is not to blame then."""
    try:
        run.vigil(of.deployment if isinstance(of, Running) else of).see()
    except NotHealthy as dying:
        dying.version = dying.version or of.identity.version
        return dying
    except CanonqError:  # then the first problem is all that is known
        return None
    return None


def _if_of_the_base(
    run: Run, tier: TierName, error: RecipeProblem, why: str, seconds: float, tests: tuple[str, ...] = ()
) -> None:
    """_BaseFailed, and the tier is not reached, where what went wrong is about the base and says nothing of the release."""
    # What only a file of the base lacks says nothing of the release either, whoever would have to give it.
    of_files = error.code in CERTAIN and error.code not in ("health-service-unknown", "deploy-refused")
    version = error.version or run.target.version
    if version == run.target.version or not (error.fault is Fault.RECIPE or of_files):
        return
    certain = error.certain or error.code in CERTAIN
    reason = f"the upgrade base {version} did not come up: {why}"
    run.findings.tiers[tier] = TierResult(status="not-reached", reason=reason, seconds=seconds, tests=tests)
    raise _BaseFailed(Broken(version, why, error.code, certain, error.service)) from error


@contextlib.contextmanager
def _about(version: str) -> Iterator[None]:
    """What goes wrong within is about this version: the base or the target."""
    try:
        yield
    except RecipeProblem as error:
        error.version = error.version or version
        raise


# -- parts of a tier ----------------------------------------------------------------------------------------


def _start(run: Run, phase: str, app: Deployment, *, new: bool) -> Started:
    """Have Docker take a version in: as a stack that is not there yet, or over the one that runs."""
    world, taken = run.world, run.trees.take(app)
    app.work.mkdir(parents=True, exist_ok=True, mode=0o700)
    if new:
        if world.stacks.observe(app.identity.stack)[0]:
            raise CanonqError(f"The stack {app.identity.stack} is there already.", code="leftovers")
        run.findings.deployments += 1
    run.findings.standing.pop(app.identity.stack, None)
    try:
        return start(world, taken, phase, run.deadline)
    finally:
        keep_deployment(app.work, run.folder / phase, run.masks)


def _come_up(run: Run, phase: str, started: Started) -> Running:
    """Wait until it is up."""
    running = come_up(run.world, started, phase, run.deadline)
    run.vigil(running.deployment).came_up(running)
    run.findings.standing[running.identity.stack] = frozenset(running.stack.file["services"])
    took(run)
    return running


def _remove(run: Run, app: Deployment) -> None:
    """Take one of the run's stacks down, with its volumes."""
    run.findings.standing.pop(app.identity.stack, None)
    run.world.ownership.remove_owned(app.identity.labels, run.world.settings.teardown_timeout)


def stacks_gone(run: Run) -> HostProblem | None:
    """The problem where one of the run's stacks, or a service of it, is not there any more: no app removes its own services."""
    for stack, services in sorted(run.findings.standing.items()):
        if problem := stack_gone(run.world, stack, services):
            return problem
    return None


def _kept(run: Run, tier: TierName, of: Deployment) -> Path:
    """Where the files of a tier are kept: apart for the stack that is not the one the tier is about."""
    if run.is_fresh(of):
        return run.folder / tier if tier == "install" else run.folder / FRESH / tier
    return run.folder / BASE if tier == "install" and of.identity.version != run.target.version else run.folder / tier


def _generic(
    run: Run,
    tier: TierName,
    running: Running,
    *,
    base: str | None = None,
    markers: tuple[Marker, ...] = (),
    of: BackupFacts | None = None,
) -> TierResult:
    lost = _missing(run, tier, running, markers) if markers and tier != "backup" else ()
    facts = _facts(run, tier, running).model_copy(update={"base": base, "markers": markers, "backup": of, "lost": lost})
    return run_generic(tier, facts, run.folder, run.deadline, run.masks)


def _facts(run: Run, tier: TierName, of: Deployment | Running) -> TierFacts:
    app = of.deployment if isinstance(of, Running) else of
    return facts_of(run.world, of, tier, fresh=_is_new(run, app))


def _is_new(run: Run, app: Deployment) -> bool:
    """Whether what is deployed began on empty volumes at this version."""
    return run.is_fresh(app) or (run.findings.base.version is None and run.target.data is None)


def _mark(run: Run, tier: TierName, running: Running, earlier: tuple[Marker, ...] = ()) -> tuple[Marker, ...]:
    """Write the markers of this run into all that is there by now; what the recipe's own hook has written stays."""
    run.findings.phase = "markers"
    may_go = run.enrolment.data.volatile
    images = {service: image for service, image in running.stack.images.items() if service not in may_go}
    token = f"canonq-{run.id}"
    kinds = {service: kind for service, kind in run.servers(running).items() if service not in may_go}
    data = run.world.data
    leave = {running.stack.volumes[key] for key in run.enrolment.data.volatile if key in running.stack.volumes}
    made = marks.write(data, running.stack.stack, images, token, _patience(run), kinds=kinds, leave=leave)
    missed = {service: kind for service, kind in kinds.items() if kind != REDIS}  # what need not be kept is no gap
    run.findings.unmarked = without_marker(missed, {marker.place for marker in made if marker.kind == "database"})
    own = [marker for marker in earlier if marker.kind == "own"]
    if {WRITE_MARKER, READ_MARKER} <= run.hooks and not own:
        _call(run, tier, running, WRITE_MARKER, token)
        own = [Marker(kind="own", place=HOOKS, text=token)]
    return (*made, *own)


def _missing(run: Run, tier: TierName, running: Running, markers: tuple[Marker, ...]) -> tuple[str, ...]:
    """A phrase for each marker that is not there now. RecipeProblem when a database does not answer."""
    told = _call(run, tier, running, READ_MARKER) if any(marker.kind == "own" for marker in markers) else None
    run.findings.phase = "markers"
    own = None if told is None else str(told)
    patience, images = _patience(run), running.stack.images
    return tuple(marks.missing(run.world.data, running.stack.stack, markers, own, images, patience, kinds=run.servers(running)))


def _census(run: Run, running: Running) -> Census:
    """Count what the app holds, for the verdict too."""
    run.findings.phase = "census"
    began = time.monotonic()
    run.findings.census = found = take_census(run.world.data, running, run.servers(running))
    spent = run.account.timings.get("census", 0.0)
    run.account.timings["census"] = round(spent + time.monotonic() - began, 3)
    return found


def _none_lost(
    run: Run, running: Running, held: Census, prove: Callable[[], TierResult], *, restored: bool = False
) -> TierResult:
    """What a tier's tests give, and RecipeProblem (`data-lost`) where the app holds less than it `held` before, or not what
    earlier promotions left in it.

    Tables tell more than a missing mark, so they are told first; a volume that has lost its mark is told as that.
    """
    result = prove()  # which waits for a database that is not up yet
    rules, gone = run.enrolment.data, list[str]()
    for pause in _RECOUNT:
        gone = lost(held, _census(run, running), rules.volatile, rules.shrink)
        if not gone:
            break
        check_stop()
        time.sleep(min(pause, left(run.deadline)))  # it may be at work on it
    tables = [told for told in gone if not told.startswith("the volume ")]
    if tables or (gone and result.status == "pass"):
        raise RecipeProblem(
            f"Less is there than before: {'; '.join((tables or gone)[:10])}.",
            mend="look at what the release does to its data; what may go or get smaller is declared under [data] in recipe.toml.",
            code="data-lost",
        )
    if result.status == "pass" and (missing := _not_in_ledger(run, running, restored=restored)):
        raise RecipeProblem(f"What was there for longer is gone: {named(missing)}.", mend=_MAY_GO, code="data-lost")
    return result


def _has_its_marks(run: Run, running: Running) -> None:
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
    return ledger.missing(run.world.data, running.stack.stack, there, run.servers(running), _patience(run))


def _patience(run: Run) -> marks.Patience:
    return marks.Patience(min(run.enrolment.health.timeout, left(run.deadline)))


def _hook(run: Run, when: str, tier: TierName, of: Deployment | Running) -> None:
    name = f"{when}_{tier}"
    if name not in run.hooks:
        return
    if isinstance(of, Running):
        run.vigil(of.deployment).undisturbed(name, of, lambda: _call(run, tier, of, name), run.deadline)
    else:
        _call(run, tier, of, name)


def _call(run: Run, tier: TierName, of: Deployment | Running, function: str, *arguments: str) -> object:
    run.findings.phase = function
    limit = run.enrolment.limits.hook
    app = of.deployment if isinstance(of, Running) else of
    return call_hook(run.own, function, _facts(run, tier, of), _kept(run, tier, app), limit, run.deadline, run.masks, *arguments)
