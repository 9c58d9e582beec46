"""The climb of one run: one deployment, from the upgrade base up through the tiers in place (docs/rules.md 2 and 3)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from canonq.core.backup import backup_plan
from canonq.core.bases import Base, Broken, Moved, after_broken, nothing_to_begin_from
from canonq.core.blame import CERTAIN
from canonq.core.budget import Need
from canonq.core.enrol.misnamed import misnamed
from canonq.core.errors import CanonqError, EnrolmentProblem, Fault, NoRoom, RecipeProblem
from canonq.core.ladder import TierName, TierResult, skipped
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.records import Canonical
from canonq.core.stack.databases import without_marker
from canonq.core.stack.lint import LintFacts, lint, not_bumped
from canonq.core.versions import read_tags
from canonq.flows import backup
from canonq.flows.answering import ASKED_ELSEWHERE, ingress_problem, stack_gone
from canonq.flows.data import copy_canonical
from canonq.flows.deadline import left
from canonq.flows.dependencies import beside, bring_up_dependency, plan_dependencies
from canonq.flows.deployment import bring_up
from canonq.flows.evidence import keep_deployment, keep_logs
from canonq.flows.filling import INSTALL_STEPS, look_ahead, read_files
from canonq.flows.hooks import HOOKS, READ_MARKER, WRITE_MARKER, call_hook, hooks_told
from canonq.flows.pulling import have_ahead
from canonq.flows.run import Run, took
from canonq.flows.secrecy import mask
from canonq.flows.stages import Deployment, Filled, Running
from canonq.flows.tiers import TIERS, no_proof, run_generic, run_own
from canonq.tiers import markers as marks
from canonq.tiers.facts import BackupFacts, Marker, TierFacts


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
    TIERS.prepare()
    if references:
        run.findings.phase = "images"
        have_ahead(run.world, app, references, run.deadline)
    _bring_up_dependencies(run, app, dependencies)
    if target.data is not None:
        app = replace(app, secrets=copy_canonical(run.world, app, target.data))
    if target.quick:
        for tier in ("upgrade", "backup", "restore"):
            tiers[tier] = TierResult(status="unverified", reason="not part of a quick run")
        _functional(run, _install(run, app))
        return
    running, markers = _from_a_base(run, app, ahead)
    _backup_and_restore(run, running, markers)
    _functional(run, running)


def _from_a_base(run: Run, app: Deployment, ahead: Filled | None) -> tuple[Running, tuple[Marker, ...]]:
    """Begin from a base that comes up and upgrade it, or from nothing where the run has none; what runs, and its markers."""
    base, broken = run.target.base, list[Broken]()
    while base.version is not None and base.commit is not None:
        try:
            return _upgrade(run, base.version, _install(run, app.of(base.version, base.commit)))
        except _BaseFailed as failed:
            broken.append(failed.broken)
            base = _begin_elsewhere(run, base, broken)
            if ahead is not None:
                _ask_for_bumps(run, app, base, ahead)
    running = _install(run, app)
    run.findings.tiers["upgrade"] = skipped("upgrade", base.why, run.enrolment.expected_na)
    return running, ()


class _BaseFailed(Exception):
    """What was deployed to begin from did not come up."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken)
        self.broken = broken


def _begin_elsewhere(run: Run, base: Base, broken: list[Broken]) -> Base:
    """Take down a base that did not come up; from where the run begins instead. The error when there is nothing left."""
    world, last, identity = run.world, broken[-1], run.app.identity
    releases, _ = read_tags(world.repos.tags(run.enrolment.recipe), prereleases=run.enrolment.prereleases)
    found = after_broken(base.source, broken, releases, run.enrolment.expected_na.get("upgrade"))
    if found is None:
        record = world.registry.read(run.enrolment.recipe) if base.source == "canonical" else None
        moved = _moved_images(run, base, record) if record else []
        raise nothing_to_begin_from(run.enrolment.recipe, base.source, broken, record, moved)
    run.findings.phase = f"step back from {last.version}"
    kept = run.folder / f"base-{len(broken)}"
    keep_logs(world, identity.stack, kept / "logs", run.masks)
    for tier in ("install", "upgrade"):
        if (run.folder / tier).is_dir():
            (run.folder / tier).rename(kept / tier)
    world.ownership.remove_owned(identity.labels, world.settings.teardown_timeout)
    run.findings.begin_again(found)
    run.account.notes.append(f"base-passed-over: {last.version} did not come up ({last.why}); {found.why}")
    return found


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
        found = look_ahead(run.world, run.trees.look_at(app))
        if found is None:
            return None, ()
        _ask_for_bumps(run, app, run.target.base, found[0])
        return found


def _ask_for_bumps(run: Run, app: Deployment, base: Base, ahead: Filled) -> None:
    """RecipeProblem for a config or secret that is another than the base's under the same name: Docker refuses that always."""
    if base.version is None or base.commit is None or (run.own / INSTALL_STEPS).is_file():
        return  # install steps may still change the files
    try:
        below = read_files(run.world, run.trees.look_at(app.of(base.version, base.commit)))
    except CanonqError:
        return  # the install tier says what is wrong with the base
    for where, what in not_bumped(below.resolved, below.hashes, ahead.resolved, ahead.hashes, app.identity.stack):
        raise RecipeProblem(
            f"{where}: {what}", mend=f"the base is {base.version}; the recipe has to tag again.", code="config-not-bumped"
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


def _install(run: Run, app: Deployment) -> Running:
    version, commit = app.identity.version, app.identity.commit

    def deploy() -> tuple[Running, None]:
        try:
            return _deploy(run, "install", app, fresh=True), None
        except RecipeProblem as error:
            if _is_the_overlays(run, error):
                raise EnrolmentProblem(
                    f"{error.what} {TEST_OVERLAY} changes that service, and with this enrolment nothing was ever deployed.",
                    mend=f"correct {TEST_OVERLAY} in tests/{run.enrolment.recipe}, or leave it out once to see what Docker says.",
                    code=error.code,
                    certain=True,
                ) from error
            if (why := _why_health_is_wrong(run, error, version, commit)) is None:
                raise
            raise EnrolmentProblem(
                f"{error.what} {why}",
                mend=f"look at [health] in tests/{run.enrolment.recipe}/recipe.toml (path, status), and at what was changed.",
                code="health-wrong",
                service=error.service,
            ) from error

    def about_it() -> tuple[Running, None]:
        with _about(version):
            return deploy()

    running, _ = in_tier(run, "install", run.app, about_it, lambda running, _: _generic(run, "install", running))
    return running


def _is_the_overlays(run: Run, error: RecipeProblem) -> bool:
    """Whether what Docker refuses is of a service that the enrolment's overlay changes, with which none was green so far."""
    overlay = run.own / TEST_OVERLAY
    if error.code != "deploy-refused" or not overlay.is_file():
        return False
    changed = load_yaml(overlay.read_text(errors="replace"), where=TEST_OVERLAY).get("services") or {}
    digest = run.world.checkout.digest(run.enrolment.recipe)
    proven = any(one.verdict == "green" and one.enrolment == digest for one in run.world.runs.verdicts(run.enrolment.recipe))
    return not proven and any(f"{run.app.identity.stack}_{name}" in error.what for name in changed)


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

    def over_the_base() -> tuple[Running, tuple[Marker, ...]]:
        with _about(version):
            markers = _mark(run, "upgrade", base)
        return _deploy(run, "upgrade", base.over(target.version, target.commit), fresh=False), markers

    return in_tier(
        run,
        "upgrade",
        base,
        over_the_base,
        lambda running, markers: _generic(run, "upgrade", running, base=version, markers=markers),
    )


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
    markers = _take_backup(run, running, taken, earlier)
    _restore(run, running, taken, markers)


def _overlaid(run: Run) -> str:
    """The end of a sentence about a backup that is off, where the enrolment's overlay has a say in it."""
    overlay = run.own / TEST_OVERLAY
    said = overlay.read_text(errors="replace") if overlay.is_file() else ""
    return f"; {TEST_OVERLAY} of the enrolment has backup labels of its own" if "backupbot." in said else ""


def _take_backup(run: Run, running: Running, taken: backup.Backup, earlier: tuple[Marker, ...]) -> tuple[Marker, ...]:
    def with_a_marker() -> tuple[Running, tuple[tuple[Marker, ...], BackupFacts]]:
        _room_for(run)
        markers = _mark(run, "backup", running, earlier)  # also what the upgrade has added
        facts = backup.take(taken, markers)
        run.account.notes += backup.left_to_the_restore(facts, markers)
        run.account.notes += backup.left_out(running.prepared.filled.resolved, taken.plan)
        if gap := backup.unproven(facts, markers):
            run.findings.unmarked += (gap,)
        return running, (markers, facts)

    _, (markers, _) = in_tier(
        run,
        "backup",
        running,
        with_a_marker,
        lambda running, made: _generic(run, "backup", running, markers=made[0], of=made[1]),
    )
    return markers


def _restore(run: Run, running: Running, taken: backup.Backup, markers: tuple[Marker, ...]) -> None:
    def from_destroyed() -> tuple[Running, BackupFacts]:
        covered, still, kept = backup.destroy(taken, markers, _patience(run))
        run.account.notes += kept
        own = tuple(marker for marker in markers if marker.kind == "own")
        if own:
            _call(run, "restore", running, WRITE_MARKER, "destroyed")
        hooks = backup.restore(taken)
        return running, BackupFacts(hooks=hooks, destroyed=(*covered, *own), still_there=still)

    in_tier(
        run,
        "restore",
        running,
        from_destroyed,
        lambda running, facts: _generic(run, "restore", running, markers=facts.destroyed, of=facts),
    )


def _room_for(run: Run) -> None:
    """NoRoom when the artifact, which may be as large as the volumes, would eat what is retained."""
    run.findings.artifact_bytes = took(run)
    kept = run.room.left
    wanted = Need(state=max(0, run.findings.artifact_bytes - kept.state - kept.anywhere))
    room = run.world.budget.disk(wanted)
    if room.short > 0:
        raise NoRoom(f"There is no room for the backup's artifact: {room.why_short}", mend="free some disk.")


def _functional(run: Run, running: Running) -> None:
    files = run.own_tests()
    run.account.notes += [f"own-tests: {told}" for told in no_proof(run.own, files)]
    if not files:
        why = "the recipe has no tests of its own"
        run.findings.tiers["functional"] = skipped("functional", why, run.enrolment.expected_na)
        return
    limit = run.enrolment.limits.tests
    in_tier(
        run,
        "functional",
        running,
        lambda: (running, None),
        lambda running, _: run_own(_facts(run, "functional", running), run.folder, files, limit, run.deadline),
    )


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
    run.findings.tiers["lint"] = run_generic("lint", facts, run.folder, run.deadline)


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
    result: TierResult | None = None
    try:
        _hook(run, "before", tier, before)
        findings.phase = tier
        running, made = act()
        with _about(running.identity.version):
            findings.phase = f"{tier} tests"
            result = prove(running, made)
            if result.status == "fail" and tier in ("backup", "restore"):
                labels = [told for told in running.prepared.filled.unset if ".labels" in told]
                result = result.model_copy(update={"reason": "; ".join([result.reason, *labels])})
            result = result.model_copy(update={"reason": run.masks.text(result.reason)})
            findings.tiers[tier] = result
            run.account.timings[f"{tier}.tests"] = result.seconds
            if result.status == "fail":
                if problem := ingress_problem(run.world, running.deployment) or stack_gone(run.world, running.stack.stack):
                    raise problem
                raise RecipeProblem(f"The {tier} tier failed: {result.reason}.", code=f"{tier}-failed")
            _hook(run, "after", tier, running)
    except RecipeProblem as error:
        tests = result.tests if result else ()
        why = result.reason if result and result.status == "fail" else run.masks.text(str(error))
        seconds = round(time.monotonic() - began, 3)
        # What only a file of the base lacks says nothing of the release either, whoever would have to give it.
        of_files = error.code in CERTAIN and error.code not in ("health-service-unknown", "deploy-refused")
        if (version := error.version or run.target.version) != run.target.version and (error.fault is Fault.RECIPE or of_files):
            certain = error.certain or error.code in CERTAIN
            reason = f"the upgrade base {version} did not come up: {why}"
            findings.tiers[tier] = TierResult(status="not-reached", reason=reason, seconds=seconds, tests=tests)
            raise _BaseFailed(Broken(version, why, error.code, certain, error.service)) from error
        findings.tiers[tier] = TierResult(status="fail", reason=why, seconds=seconds, tests=tests)
        raise
    finally:
        run.account.timings[f"{tier}.whole"] = round(time.monotonic() - began, 3)
        mask(run.folder / tier, run.masks)
    return running, made


@contextlib.contextmanager
def _about(version: str) -> Iterator[None]:
    """What goes wrong within is about this version: the base or the target."""
    try:
        yield
    except RecipeProblem as error:
        error.version = error.version or version
        raise


# -- parts of a tier ----------------------------------------------------------------------------------------


def _deploy(run: Run, tier: TierName, app: Deployment, *, fresh: bool) -> Running:
    """Bring a version up: as a stack that is not there yet, or over the one that runs."""
    with _about(app.identity.version):
        return _deployed(run, tier, run.trees.take(app), fresh=fresh)


def _deployed(run: Run, tier: TierName, app: Deployment, *, fresh: bool) -> Running:
    world, stack = run.world, app.identity.stack
    app.work.mkdir(parents=True, exist_ok=True, mode=0o700)
    if fresh:
        if world.stacks.observe(stack)[0]:
            raise CanonqError(f"The stack {stack} is there already.", code="leftovers")
        run.findings.deployments += 1
    try:
        running = bring_up(world, app, tier, run.deadline)
    finally:
        keep_deployment(app.work, run.folder / tier, run.masks)
    took(run)
    return running


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
    return run_generic(tier, facts, run.folder, run.deadline)


def _facts(run: Run, tier: TierName, of: Deployment | Running) -> TierFacts:
    app, stack = (of.deployment, of.stack) if isinstance(of, Running) else (of, None)
    return TierFacts(
        recipe=run.enrolment.recipe,
        tier=tier,
        stack=app.identity.stack,
        domain=app.identity.domain,
        version=app.identity.version,
        commit=app.identity.commit,
        health=run.enrolment.health,
        ingress=run.world.settings.ingress,
        images=stack.images if stack else {},
        volumes=stack.volumes if stack else {},
        secrets_file=str(app.secrets_file),
        own=str(run.own),
    )


def _mark(run: Run, tier: TierName, running: Running, earlier: tuple[Marker, ...] = ()) -> tuple[Marker, ...]:
    """Write the markers of this run into all that is there by now; what the recipe's own hook has written stays."""
    run.findings.phase = "markers"
    images = running.stack.images
    token = f"canonq-{run.id}"
    made = marks.write(run.world.data, running.stack.stack, images, token, _patience(run))
    run.findings.unmarked = without_marker(images, {marker.place for marker in made if marker.kind == "database"})
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
    return tuple(marks.missing(run.world.data, running.stack.stack, markers, own, running.stack.images, _patience(run)))


def _patience(run: Run) -> marks.Patience:
    return marks.Patience(min(run.enrolment.health.timeout, left(run.deadline)))


def _hook(run: Run, when: str, tier: TierName, of: Deployment | Running) -> None:
    if f"{when}_{tier}" in run.hooks:
        _call(run, tier, of, f"{when}_{tier}")


def _call(run: Run, tier: TierName, of: Deployment | Running, function: str, *arguments: str) -> object:
    run.findings.phase = function
    limit = run.enrolment.limits.hook
    return call_hook(run.own, function, _facts(run, tier, of), run.folder / tier, limit, run.deadline, *arguments)
