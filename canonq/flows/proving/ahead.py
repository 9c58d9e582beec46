"""What is asked of a version before anything of it runs: lint, secrets, volumes, what a rule of its own wants of people."""

from __future__ import annotations

import contextlib
import shlex
import time
from dataclasses import replace

from canonq.adapters.host import MOST_WAIT
from canonq.core.bases import Base
from canonq.core.errors import CanonqError, Fault, RecipeProblem
from canonq.core.ladder import TierResult
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.recipe.envfile import secret_rules
from canonq.core.recipe.foreign import Others, missing, of_others
from canonq.core.stack.lint import LintFacts, lint, not_bumped
from canonq.core.text import shown
from canonq.flows.deploying.deployment import have_to_itself, lacking
from canonq.flows.deploying.filling import INSTALL_STEPS, SecretMissing, asked_alone, look_ahead, read_files
from canonq.flows.deploying.stages import Deployment, Filled
from canonq.flows.proving.marking import facts_for
from canonq.flows.proving.run import Run
from canonq.flows.proving.tiers import run_generic


def ask_ahead(run: Run, app: Deployment) -> tuple[Filled | None, tuple[str, ...]]:
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
        ask_for_bumps(run, app, run.target.base, found[0])
        return found


def ask_for_shared_volumes(run: Run, ahead: Filled) -> None:
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


def ask_for_others(run: Run, app: Deployment, ahead: Filled) -> None:
    """Say that the release takes a network or config which nobody has made here, before anything is pulled or deployed.

    What the enrolment's install steps may still make is looked for when they were run.
    """
    world, base = run.world, run.target.base
    gone = next(lacking(world, ahead.resolved), None)
    if gone is None:
        return
    before: tuple[Others, ...] = ()
    if base.version is not None and base.commit is not None:
        with contextlib.suppress(CanonqError):  # the install tier says what is wrong with the base
            below = read_files(world, run.trees.look_at(app.of(base.version, base.commit)), run.deadline)
            before = of_others(below.resolved)
    own = asked_alone(run.trees.look_at(app), ahead.sample, run.deadline)
    one, there = gone
    error = missing(
        one, run.target.version, alone=own is None or one in own, before=before, there=there, stack=app.identity.stack
    )
    if error.fault is Fault.RECIPE or not (run.own / INSTALL_STEPS).is_file():
        raise error


def has_its_turn(run: Run, ahead: Filled) -> Run:
    """The run, once no other one on this host has a port or volume that the release needs; its time begins then."""
    began = time.monotonic()
    run.findings.phase = "turn"
    with run.account.timed("turn"):
        have_to_itself(ahead, run.account, MOST_WAIT)
    return replace(run, deadline=run.deadline + time.monotonic() - began)


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
        "own: who has the app already keeps it, a new install has none."
    )
    run.findings.tiers["install"] = TierResult(status="fail", reason=what)
    raise RecipeProblem(
        what, mend="the maintainer has to put it back into .env.sample.", code="install-failed", cause=missing.code, certain=True
    ) from missing


def ask_for_bumps(run: Run, app: Deployment, base: Base, ahead: Filled) -> None:
    """RecipeProblem for a config or secret that is another than the base's under the same name: Docker refuses that always.

    What its files need and only its own sample sets is noted for lint.
    """
    if base.version is None or base.commit is None or (run.own / INSTALL_STEPS).is_file():
        return  # install steps may still change the files
    try:
        below = read_files(run.world, run.trees.look_at(app.of(base.version, base.commit)), run.deadline)
    except CanonqError:
        return  # the install tier says what is wrong with the base
    run.findings.not_in_base = {
        name: where
        for name, where in ahead.needs.items()
        if name not in below.env and name in ahead.env and name not in ahead.exports
    }
    for where, what in not_bumped(below.resolved, below.hashes, ahead.resolved, ahead.hashes, app.identity.stack):
        near = [told for told in ahead.unset if f" {where}." in told]  # then it may well have been raised, under another name
        raise RecipeProblem(
            " ".join([f"{where}: {what}", *near]),
            mend=f"the base is {base.version}; the recipe has to tag again.",
            code="config-not-bumped",
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
            windows=filled.windows,
            typed=filled.typed,
            lost=filled.lost,
            not_in_base=run.findings.not_in_base,
        )
    )
    told = {rule: tuple(f"{finding.where}: {finding.what}" for finding in findings) for rule, findings in found.items()}
    facts = facts_for(run, "lint", run.app).model_copy(update={"lint": told})
    run.findings.tiers["lint"] = run_generic("lint", facts, run.folder, run.deadline, run.masks)
