"""The fresh install of the version under test: on its own or beside what is upgraded, used, and deployed once more."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import replace

from canonq.core.blame import CERTAIN
from canonq.core.errors import CanonqError, EnrolmentProblem, Fault, RecipeProblem
from canonq.core.ladder import TierResult
from canonq.core.stack.beside import why_apart
from canonq.flows.deploying.filling import read_files
from canonq.flows.deploying.stages import Deployment, Running, Started
from canonq.flows.proving.evidence import keep_logs
from canonq.flows.proving.frombase import Below, base_below, begin_below, begin_elsewhere
from canonq.flows.proving.inplace import functional_tier, stays_up
from canonq.flows.proving.installing import install_tier
from canonq.flows.proving.intier import BaseFailed, about_version, remove_stack
from canonq.flows.proving.inuse import (
    in_use,
    is_looked_at,
    look_at_fresh,
    look_into_containers,
)
from canonq.flows.proving.marking import leave_marks, missing_marks
from canonq.flows.proving.pictures import await_pictures, begin_picture
from canonq.flows.proving.redeploying import (
    Redeployed,
    await_back,
    files_gone,
    found_again,
    goes_on,
    not_looked_at,
    redeploy,
)
from canonq.flows.proving.run import FRESH, Run
from canonq.flows.proving.using import look_again


def install_fresh(run: Run, fresh: Deployment, app: Deployment, begun: list[Below]) -> Redeployed | None:
    """Install the version under test on empty volumes: beside the base, which is begun meanwhile, or before it.

    What runs of it still, being deployed once more; what was begun of the base goes to `begun`, also where the install fails.
    """
    base = run.target.base
    if (why := _why_apart(run, fresh, app)) is None:
        run.findings.fresh = f"a stack of its own, beside the upgrade from {base.version}"
        running = install_tier(run, fresh, lambda started: begun.append(begin_below(run, _like(app, started), base)))
        run.findings.first_start = in_use(run, running)
        return once_more(run, running)
    run.findings.fresh = f"a stack of its own, before the upgrade from {base.version}: {why}"
    running = install_tier(run, fresh)
    run.findings.first_start = in_use(run, running)
    again = once_more(run, running)
    is_back_again(run, again)
    stays_up(run, running)
    use_fresh(run, running, again)
    begin_picture(run, "fresh", running)
    await_pictures(run)
    keep_logs(run.world, fresh.identity.stack, run.folder / FRESH / "logs", run.masks)
    remove_stack(run, fresh)
    return None


def _like(app: Deployment, fresh: Started) -> Deployment:
    """The app with the secrets of the fresh install, where it makes its own: its backup can be restored there then."""
    return replace(app, like=fresh.prepared.secrets)


def once_more(run: Run, running: Running) -> Redeployed:
    """Write into the fresh install, and have it deployed once more; nothing is waited for."""
    with _of_the_install(run, running):
        again = redeploy(run, running, lambda: leave_marks(run, "install", running))
        run.findings.not_looked_at = (*run.findings.not_looked_at, *not_looked_at(run, again))
        return again


def is_back_again(run: Run, it: Redeployed) -> None:
    """Wait until it is, and see whether it has what was written to it."""
    with _of_the_install(run, it.running):
        await_back(run, it)

        def look() -> None:
            found_again(run, it, [*missing_marks(run, "install", it.running, it.markers), *files_gone(run, it)])

        run.vigil(it.running.deployment).undisturbed(
            "what it had before it was deployed once more", it.running, look, run.deadline
        )


def why_it_fails(run: Run, again: Redeployed | None, up_since: float) -> None:
    """See whether the recipe's own tests fail because the app looks for its data somewhere else: RecipeProblem that says so."""
    if again is not None:
        with contextlib.suppress(CanonqError):
            await_back(run, again)
            look_at_fresh(run, again.running)
            look_into_containers(run, again.running, up_since)
    is_looked_at(run)


def use_fresh(run: Run, running: Running, again: Redeployed | None) -> None:
    """Use the fresh install by the recipe's own tests, and look where it keeps what it has come by."""
    up_since = time.time()
    look_at_fresh(run, running)
    functional_tier(run, running)
    stays_up(run, running)
    if again is not None:
        has_not_begun_again(run, again)  # what it makes only when somebody uses it
    look_again(run, running)
    look_into_containers(run, running, up_since)


def has_not_begun_again(run: Run, it: Redeployed) -> None:
    """See, when it has been used since, that it went on with what it had: some folders are made by use alone."""
    with _of_the_install(run, it.running):
        goes_on(run, it)


@contextlib.contextmanager
def _of_the_install(run: Run, running: Running) -> Iterator[None]:
    """What goes wrong with it is on record with the install, which had passed."""
    try:
        with about_version(running.identity.version):
            yield
    except RecipeProblem as error:
        where = "on the fresh install: " if run.is_fresh(running.deployment) else ""
        found = run.findings.tiers.get("install", TierResult(status="fail"))
        run.findings.tiers["install"] = found.model_copy(update={"status": "fail", "reason": where + run.masks.text(str(error))})
        run.findings.failed_on = running.identity.stack
        raise


def see_whether_the_canonical_does(run: Run, app: Deployment, begun: list[Below], error: RecipeProblem) -> None:
    """Where the fresh install fails and the canonical does not come up here either, that is no word about the release.

    The error of the base then, which is coming up meanwhile anyhow; nothing where it does come up, or was never begun. A hook
    that fails on the fresh install and does what it should on the base is not at fault: the release is.
    """
    base, result = run.target.base, run.findings.tiers.get("install")
    by_hook = error.code == "hook-failed"
    if not begun or error.certain or error.code in CERTAIN or (error.fault is not Fault.RECIPE and not by_hook):
        return
    try:
        base_below(run, app.of(str(base.version), str(base.commit)), begun[0])
    except BaseFailed as failed:
        run.findings.tiers.pop("upgrade", None)
        if base.source != "canonical":
            return
        if result is not None:
            reason = f"its base does not come up either, so this says nothing: {result.reason}"
            run.findings.tiers["install"] = result.model_copy(update={"status": "unverified", "reason": reason})
        begin_elsewhere(run, base, [failed.broken])
    except EnrolmentProblem as told:
        if by_hook:
            run.findings.tiers.pop("upgrade", None)
            return
        if result is not None:
            run.findings.tiers["install"] = result.model_copy(update={"reason": run.masks.text(str(told))})
        run.findings.tiers.pop("upgrade", None)
        raise
    except CanonqError:  # what is wrong on the way to it is told where the run needs it
        return
    run.findings.tiers.pop("upgrade", None)
    if by_hook:
        raise _of_no_use(run, error) from error


def _of_no_use(run: Run, error: RecipeProblem) -> RecipeProblem:
    """The problem of a new install that comes up and that the enrolment's hook cannot use, on record with the tier."""
    found = RecipeProblem(
        f"On empty volumes, as somebody new installs it, {run.target.version} comes up, and what works on "
        f"{run.target.base.version} does not on it: {error.what}",
        mend="look at what a new install of the release lacks; where it is the release that is right, the hook has to follow it.",
        code="install-failed",
        cause=error.code,
    )
    result = run.findings.tiers.get("install", TierResult(status="fail"))
    run.findings.tiers["install"] = result.model_copy(update={"reason": run.masks.text(str(found))})
    return found


def _why_apart(run: Run, fresh: Deployment, app: Deployment) -> str | None:
    """Why the fresh install cannot be up beside the base; None when it can, as far as their files tell."""
    base = run.target.base
    try:
        one = read_files(run.world, run.trees.look_at(fresh), run.deadline).resolved
        other = read_files(run.world, run.trees.look_at(app.of(str(base.version), str(base.commit))), run.deadline).resolved
    except CanonqError:
        return None  # what is wrong with either is said when it is deployed
    return why_apart(one, other, run.world.host.free_memory()) or None
