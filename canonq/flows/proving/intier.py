"""What all tiers are done in: limits, hooks, restarts, logs, and whose fault it is where one fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from canonq.core.bases import Broken
from canonq.core.blame import CERTAIN
from canonq.core.errors import CanonqError, Fault, HostProblem, RecipeProblem
from canonq.core.ladder import TierName, TierResult
from canonq.core.text import ended
from canonq.flows.deploying.answering import NotHealthy, ingress_problem, stack_gone
from canonq.flows.deploying.deployment import come_up, start
from canonq.flows.deploying.secrecy import mask
from canonq.flows.deploying.stages import Deployment, Running, Started
from canonq.flows.proving.evidence import keep_deployment
from canonq.flows.proving.marking import hook_of_tier, kept_in
from canonq.flows.proving.run import ELSEWHERE, Run, took

_REPEATABLE = ("backup", "restore", "functional")  #: tiers that are done again as a whole where a restart interrupts them

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
        hook_of_tier(run, "before", tier, before)

        def whole() -> tuple[Running, _Made, TierResult]:
            findings.phase = tier
            running, made = act()
            return running, made, proof(running, made)

        def proof(running: Running, made: _Made) -> TierResult:
            findings.phase = f"{tier} tests"
            with about_version(running.identity.version):
                return prove(running, made)

        if isinstance(before, Running) and tier in _REPEATABLE:
            vigil, what = run.vigil(before.deployment), f"the {tier} tier"
            running, made, result = vigil.undisturbed(what, before, whole, run.deadline, lambda it: it[2].status == "fail")
        else:  # what deploys is not done again: a death while it comes up is judged there
            findings.phase = tier
            running, made = act()
            vigil, what = run.vigil(running.deployment), f"the tests of the {tier} tier"
            result = vigil.undisturbed(what, running, lambda: proof(running, made), run.deadline, lambda it: it.status == "fail")
        with about_version(running.identity.version):
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
            hook_of_tier(run, "after", tier, running)
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
        if_of_the_base(run, tier, error, result.reason, seconds, result.tests)
        findings.tiers[tier] = result.model_copy(update={"seconds": seconds})
        findings.failed_on = before.identity.stack
        if error is not told:
            raise error from told
        raise
    finally:
        run.account.timings[f"{tier}.whole"] = round(time.monotonic() - began, 3)
        mask(kept_in(run, tier, before.deployment if isinstance(before, Running) else before), run.masks)
    return running, made


def _dying(run: Run, of: Deployment | Running) -> NotHealthy | None:
    """The problem where what went wrong went wrong because a service of the app dies: a hook or a test is not to blame then."""
    try:
        vigil = run.vigil(of.deployment if isinstance(of, Running) else of)
        vigil.see()
    except NotHealthy as dying:
        dying.version = dying.version or vigil.version or of.identity.version
        return dying
    except CanonqError:  # then the first problem is all that is known
        return None
    return None


def if_of_the_base(run: Run, tier: TierName, error: RecipeProblem, why: str, seconds: float, tests: tuple[str, ...] = ()) -> None:
    """BaseFailed, and the tier is not reached, where what went wrong is about the base and says nothing of the release."""
    # What only a file of the base lacks says nothing of the release either, whoever would have to give it.
    of_files = error.code in CERTAIN and error.code not in ("health-service-unknown", "deploy-refused")
    version = error.version or run.target.version
    if version == run.target.version or not (error.fault is Fault.RECIPE or of_files):
        return
    certain = error.certain or error.code in CERTAIN
    reason = f"the upgrade base {version} did not come up: {why}"
    run.findings.tiers[tier] = TierResult(status="not-reached", reason=reason, seconds=seconds, tests=tests)
    raise BaseFailed(Broken(version, why, error.code, certain, error.service)) from error


class BaseFailed(Exception):
    """What was deployed to begin from did not come up."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(broken)
        self.broken = broken


@contextlib.contextmanager
def about_version(version: str) -> Iterator[None]:
    """What goes wrong within is about this version: the base or the target."""
    try:
        yield
    except RecipeProblem as error:
        error.version = error.version or version
        raise


# -- parts of a tier ----------------------------------------------------------------------------------------


def start_of(run: Run, phase: str, app: Deployment, *, new: bool) -> Started:
    """Have Docker take a version in: as a stack that is not there yet, or over the one that runs."""
    world, taken = run.world, run.trees.take(app)
    app.work.mkdir(parents=True, exist_ok=True, mode=0o700)
    if new:
        if world.stacks.observe(app.identity.stack)[0]:
            raise CanonqError(f"The stack {app.identity.stack} is there already.", code="leftovers")
        run.findings.deployments += phase != ELSEWHERE
    run.findings.standing.pop(app.identity.stack, None)
    try:
        return start(world, taken, phase, run.deadline)
    finally:
        keep_deployment(app.work, run.folder / phase, run.masks)


def comes_up(run: Run, phase: str, started: Started) -> Running:
    """Wait until it is up."""
    running = come_up(run.world, started, phase, run.deadline)
    run.vigil(running.deployment).came_up(running, running.up.dead)
    run.findings.standing[running.identity.stack] = frozenset(running.stack.file["services"])
    took(run)
    return running


def remove_stack(run: Run, app: Deployment) -> None:
    """Take one of the run's stacks down, with its volumes."""
    run.findings.standing.pop(app.identity.stack, None)
    run.world.ownership.remove_owned(app.identity.labels, run.world.settings.teardown_timeout)


def stacks_gone(run: Run) -> HostProblem | None:
    """The problem where one of the run's stacks, or a service of it, is not there any more: no app removes its own services."""
    for stack, services in sorted(run.findings.standing.items()):
        if problem := stack_gone(run.world, stack, services):
            return problem
    return None
