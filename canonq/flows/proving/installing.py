"""The tier install, and why an install does not come up: the version, its overlay, or where its health was asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from canonq.core.errors import EnrolmentProblem, HostProblem, RecipeProblem
from canonq.core.ladder import TierResult
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.recipe.overlay import suspects
from canonq.core.stack.convergence import FAILED_CHECK
from canonq.flows.deploying.answering import ASKED_ELSEWHERE, NotHealthy
from canonq.flows.deploying.stages import Deployment, Running, Started
from canonq.flows.proving.intier import about_version, comes_up, in_tier, start_of
from canonq.flows.proving.marking import generic_tier
from canonq.flows.proving.run import Run
from canonq.flows.proving.using import before_use
from canonq.flows.proving.witnesses import note_first_files

#: Codes of an app that does not come up.
_NOT_UP = ("not-healthy", "not-answering", "crash-loop", "exited", "not-restarted")

_Made = TypeVar("_Made")


def install_tier(run: Run, app: Deployment, meanwhile: Callable[[Started], object] = lambda _: None) -> Running:
    """The install tier: bring the version up on what is there, which is nothing but for a quick run; `meanwhile` it comes up."""

    def deploy() -> tuple[Running, None]:
        with about_version(app.identity.version), _as_an_install(run, app):
            started = explained(run, app, lambda: start_of(run, "install", app, new=True))
        meanwhile(started)
        run.findings.phase = "install"
        with about_version(app.identity.version), _as_an_install(run, app):
            return explained(run, app, lambda: comes_up(run, "install", started)), None

    def prove(running: Running, _: None) -> TierResult:
        result = generic_tier(run, "install", running)
        if not run.target.quick:
            note_first_files(run, running)  # before the hook, which may use it
            run.findings.before_use = before_use(run, running)
        return result

    return in_tier(run, "install", app, deploy, prove)[0]


@contextlib.contextmanager
def _as_an_install(run: Run, app: Deployment) -> Iterator[None]:
    """What does not come up on empty volumes, beside an upgrade, is `install-failed`, and why is the finer cause."""
    try:
        yield
    except NotHealthy as error:
        if run.is_fresh(app) and error.code in _NOT_UP:
            what = f"On empty volumes, as somebody new installs it, {error.what}"
            raise NotHealthy(
                what,
                mend=error.mend,
                code="install-failed",
                cause=error.code,
                service=error.service,
                certain=error.certain,
                fault=error.fault,
            ) from error
        raise


def explained(run: Run, app: Deployment, act: Callable[[], _Made]) -> _Made:
    """Do it; what of its failing is the enrolment's is raised as that."""
    try:
        return act()
    except (RecipeProblem, HostProblem) as error:
        if laid_over := _of_the_overlay(run, app, error):
            raise EnrolmentProblem(
                f"{error.what} {TEST_OVERLAY} sets {' and '.join(laid_over)}, and with this enrolment nothing was ever green.",
                mend=f"correct {TEST_OVERLAY} in tests/{run.enrolment.recipe}, or leave it out once to see what comes of it.",
                code=error.code,
                service=error.service,
                certain=error.certain or error.code not in _NOT_UP,
            ) from error
        if isinstance(error, HostProblem):
            raise
        if (why := _why_health_is_wrong(run, error, app.identity.version, app.identity.commit)) is None:
            raise
        raise EnrolmentProblem(
            f"{error.what} {why}",
            mend=f"look at [health] in tests/{run.enrolment.recipe}/recipe.toml (path, status), and at what was changed.",
            code="health-wrong",
            service=error.service,
        ) from error


def _of_the_overlay(run: Run, app: Deployment, error: RecipeProblem | HostProblem) -> list[str]:
    """What the enrolment's overlay sets that may be behind the trouble, where none was green with it so far."""
    filled = run.account.filled(app.identity.stack, app.identity.commit)
    check_failed = error.code in _NOT_UP and FAILED_CHECK in error.what
    found = [
        f"services.{name}.{key}"
        for name, said in (filled.overlay.items() if filled is not None else ())
        if name == error.service or f"{app.identity.stack}_{name}" in error.what
        for key in suspects(said, error.code, check_failed=check_failed)
    ]
    if not found:
        return []
    digest = run.world.checkout.digest(run.enrolment.recipe)
    proven = any(one.verdict == "green" and one.enrolment == digest for one in run.world.runs.verdicts(run.enrolment.recipe))
    return [] if proven else found


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
