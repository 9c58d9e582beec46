"""test: one cold run. Deploys the upgrade base once, goes up in place, and tears down always (SPEC section 2)."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from canonq.core.decide import upgrade_base
from canonq.core.deployable import Identity
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, Fault, RecipeProblem, WrongUse
from canonq.core.ladder import PROVEN_TIERS, TierName, TierResult, is_green, level, rungs
from canonq.core.names import cold_stack, ref_name, shown
from canonq.core.records import Decision, Verdict
from canonq.core.versions import read_tags
from canonq.flows.deployment import App, bring_up, left, tear_down
from canonq.flows.janitor import alive, clean
from canonq.flows.tiers import run_tier
from canonq.flows.world import World
from canonq.tiers.plugin import TierFacts


@dataclass(frozen=True)
class Target:
    """What is to be proven, and from where."""

    version: str
    commit: str
    base: str | None
    base_commit: str | None
    base_why: str


@dataclass
class Run:
    """A run under way."""

    world: World
    enrolment: Enrolment
    target: Target
    id: str
    folder: Path
    app: App
    deadline: float  #: monotonic
    tiers: dict[TierName, TierResult] = field(default_factory=dict)
    deployments: int = 0
    disk_bytes: int = 0
    images: dict[str, str] = field(default_factory=dict)


def test_decided(world: World, decision: Decision) -> Verdict:
    """Prove what `decide` chose."""
    if decision.action != "run" or decision.version is None or decision.commit is None:
        raise WrongUse(f"There is nothing to test for {decision.recipe}: {decision.detail}", code="nothing-to-test")
    enrolment = world.checkout.enrolment(decision.recipe)
    why = (
        f"upgraded from {decision.base} ({decision.base_from})" if decision.base else "there is no older release to upgrade from"
    )
    target = Target(decision.version, decision.commit, decision.base, decision.base_commit, why)
    return prove(world, enrolment, target, sweep=decision.sweep, named=decision.named)


def test_tag(world: World, recipe: object, tag: str | None) -> Verdict:
    """Prove a release by its exact tag, the newest one when `tag` is None. WrongUse when it is not released."""
    enrolment = world.checkout.enrolment(recipe)
    releases, refused = read_tags(world.repos.tags(enrolment.recipe), prereleases=enrolment.prereleases)
    wanted = releases[-1].tag if tag is None and releases else ref_name(tag or "?")
    found = next((release for release in releases if release.tag == wanted), None)
    if found is None:
        why = next((no.reason for no in refused if no.tag == wanted), "there is no such tag")
        listed = ", ".join(release.tag for release in releases[-5:]) or "none"
        raise WrongUse(
            f"{shown(tag or 'The newest tag')} is not a release of {enrolment.recipe}: {why}.",
            mend=f"the newest releases are: {listed}.",
            code="not-a-release",
        )
    base = upgrade_base(enrolment.upgrade.base, world.registry.read(enrolment.recipe), releases, found.tag)
    if base.problem:
        raise WrongUse(base.problem, code="base-unusable")
    target = Target(found.tag, found.commit, base.version, base.commit, base.why)
    return prove(world, enrolment, target, sweep=None, named=True)


def prove(world: World, enrolment: Enrolment, target: Target, *, sweep: str | None, named: bool) -> Verdict:
    """One cold run of one version: exactly one verdict, kept in the run's folder; nothing left in Docker.

    Busy when another run of the recipe is under way.
    """
    with world.locks.hold(enrolment.recipe, f"test {target.version}", lane="run") as held:
        if held is None:
            raise Busy(f"Another run of {enrolment.recipe} is under way: {world.locks.holder(enrolment.recipe)}.")
        clean(world, recipe=enrolment.recipe)
        return _prove(world, enrolment, target, sweep=sweep, named=named)


def _prove(world: World, enrolment: Enrolment, target: Target, *, sweep: str | None, named: bool) -> Verdict:
    began, stamp = time.monotonic(), world.stamp()
    run = _begin(world, enrolment, target, began)
    problem: CanonqError | None = None
    with alive(world.work / run.id):
        try:
            _climb(run)
        except CanonqError as error:
            problem = error
        finally:
            problem = _end(run) or problem
    kind, reason, detail, fault = _judge(run, problem)
    climbed = rungs(run.tiers)
    verdict = Verdict(
        recipe=enrolment.recipe,
        sweep=sweep,
        named=named,
        run=run.id,
        verdict=kind,
        reason=reason,
        detail=detail,
        fault=fault,
        version=target.version,
        commit=target.commit,
        base=target.base,
        base_commit=target.base_commit,
        enrolment=world.checkout.digest(enrolment.recipe),
        tiers=run.tiers,
        rungs=climbed,
        level=level(climbed),
        deployments=run.deployments,
        images=run.images,
        domain=run.app.identity.domain,
        routing_tested=world.ingress is not None and enrolment.health.kind == "http",
        ts=stamp,
        seconds=round(time.monotonic() - began, 2),
        timings=run.app.timings,
        disk_bytes=run.disk_bytes,
        directory=str(run.folder),
    )
    world.runs.record(verdict)
    world.runs.retain(enrolment.recipe, world.settings.keep_runs)
    return verdict


def _begin(world: World, enrolment: Enrolment, target: Target, began: float) -> Run:
    run_id = world.new_id(enrolment.recipe)
    folder = world.runs.make(enrolment.recipe, run_id)
    token = run_id[-6:]
    stack = cold_stack(enrolment.recipe, token)
    work = world.work / run_id
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
    app = App(identity, enrolment, tree=work / "tree", work=work / "app")
    return Run(world, enrolment, target, run_id, folder, app, began + enrolment.limits.run)


def _climb(run: Run) -> None:
    world, target = run.world, run.target
    world.engine.preflight()
    if target.base is not None and target.base_commit is not None:
        _deploy(run, "install", target.base, target.base_commit)
        _tier(run, "install", target.base)
        markers = dict.fromkeys(world.engine.mark_volumes(run.app.identity.stack, run.id), run.id)
        _deploy(run, "upgrade", target.version, target.commit)
        _tier(run, "upgrade", target.version, base=target.base, markers=markers)
    else:
        _deploy(run, "install", target.version, target.commit)
        _tier(run, "install", target.version)
        run.tiers["upgrade"] = TierResult(status="skip", reason="there is no older release to upgrade from")


def _deploy(run: Run, tier: TierName, version: str, commit: str) -> None:
    """Bring a version up; a recipe that does not come up fails the tier."""
    world, app = run.world, run.app
    app.tree = world.work / run.id / f"tree-{tier}"
    world.repos.checkout(run.enrolment.recipe, commit, app.tree)
    app.work.mkdir(parents=True, exist_ok=True, mode=0o700)
    app.identity = replace(app.identity, version=version, commit=commit)
    if run.deployments == 0 and world.engine.observe(app.identity.stack)[0]:
        raise CanonqError(f"The stack {app.identity.stack} is there already.", code="leftovers")
    run.deployments = max(run.deployments, 1)
    began = time.monotonic()
    try:
        bring_up(world, app, tier, run.deadline)
    except RecipeProblem as error:
        of_base = "(the upgrade base, not the release under test) " if version != run.target.version else ""
        run.tiers[tier] = TierResult(status="fail", reason=of_base + str(error), seconds=round(time.monotonic() - began, 3))
        raise
    finally:
        run.images = dict(app.images)
        _keep_evidence(run, tier)


def _tier(run: Run, tier: TierName, version: str, *, base: str | None = None, markers: dict[str, str] | None = None) -> None:
    facts = TierFacts(
        recipe=run.enrolment.recipe,
        stack=run.app.identity.stack,
        domain=run.app.identity.domain,
        version=version,
        base=base,
        health=run.enrolment.health,
        ingress=run.world.settings.ingress,
        markers=markers or {},
    )
    run.tiers[tier] = result = run_tier(tier, facts, run.folder, left(run.deadline))
    run.app.timings[f"{tier}.tests"] = result.seconds
    if result.status == "fail":
        raise RecipeProblem(f"The {tier} tier failed: {result.reason}.", code=f"{tier}-failed")


def _keep_evidence(run: Run, tier: TierName) -> None:
    """What was deployed, with secrets' values nowhere in it (they are files in Docker, never in the compose file)."""
    kept = run.folder / tier
    kept.mkdir(parents=True, exist_ok=True)
    for name in ("resolved.json", "deploy.log", "install_steps.log"):
        if (run.app.work / name).is_file():
            shutil.copyfile(run.app.work / name, kept / name)
    (kept / "images.json").write_text(json.dumps(run.app.images, indent=1))


def _end(run: Run) -> CanonqError | None:
    """Keep the logs, then remove everything of this run; the problem when that could not be done."""
    world, began = run.world, time.monotonic()
    problem: CanonqError | None = None
    try:
        logs = world.engine.logs(run.app.identity.stack, world.settings.log_lines)
        (run.folder / "logs").mkdir(exist_ok=True)
        for service, text in logs.items():
            (run.folder / "logs" / f"{service}.log").write_text(_without_secrets(text, run.app.secrets))
        run.disk_bytes = _volume_bytes(run)
    except (CanonqError, OSError) as error:
        problem = error if isinstance(error, CanonqError) else CanonqError(f"The logs could not be kept: {error}.")
    try:
        tear_down(world, run.app)
    except CanonqError as error:
        problem = error
    for tier in ("install", "upgrade"):
        with contextlib.suppress(CanonqError, OSError):  # the janitor takes what is left of worktrees
            world.repos.drop_checkout(run.enrolment.recipe, world.work / run.id / f"tree-{tier}")
    shutil.rmtree(world.work / run.id, ignore_errors=True)
    run.app.timings["teardown"] = round(time.monotonic() - began, 3)
    return problem


def _without_secrets(text: str, secrets: dict[str, str]) -> str:
    for name, value in secrets.items():
        if len(value) >= 4:
            text = text.replace(value, f"***{name}***")
    return text


def _volume_bytes(run: Run) -> int:
    total = 0
    for name in run.world.engine.owned(run.app.identity.labels).get("volumes", []):
        folder = run.world.engine.volume_path(name)
        if folder is not None:
            total += sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return total


_Judged = tuple[Literal["green", "red", "error"], str, str, Literal["recipe", "host", "canonq"] | None]


def _judge(run: Run, problem: CanonqError | None) -> _Judged:
    """Red is the recipe's; anything else that stopped the run is an error. Never the other way round."""
    version = run.target.version
    failed = next((tier for tier in PROVEN_TIERS if tier in run.tiers and run.tiers[tier].status == "fail"), None)
    if isinstance(problem, RecipeProblem) or (failed and problem is None):
        where = failed or "install"
        reason = problem.code if problem else f"{where}-failed"
        if where == "install" and run.target.base is not None:
            reason = "base-not-healthy"
        detail = run.tiers[where].reason if failed else str(problem)
        return "red", reason, f"{run.enrolment.recipe} {version}, {where}: {detail}", "recipe"
    if problem is not None:
        fault: Literal["host", "canonq"] = "canonq" if problem.fault is Fault.CANONQ else "host"
        return "error", problem.code, f"{run.enrolment.recipe} {version}: {problem}", fault
    if not is_green(run.tiers):
        return "error", "unverified", f"{version}: not every tier that applies gave a result", "canonq"
    return "green", "proven", f"{version} was proven; {run.target.base_why}", None
