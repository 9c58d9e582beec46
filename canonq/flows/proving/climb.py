"""The climb of one run: one deployment, from the upgrade base up through the tiers in place (docs/rules.md 2 and 3)."""

from __future__ import annotations

import time
from dataclasses import replace

from canonq.core.enrol.misnamed import misnamed
from canonq.core.errors import RecipeProblem
from canonq.core.ladder import TierResult, skipped
from canonq.flows.deploying.pulling import have_ahead
from canonq.flows.deploying.stages import Deployment
from canonq.flows.keeping.data import copy_canonical
from canonq.flows.proving.ahead import ask_ahead, ask_for_others, ask_for_shared_volumes, has_its_turn
from canonq.flows.proving.dependencies import beside, bring_up_dependency, plan_dependencies
from canonq.flows.proving.evidence import keep_deployment
from canonq.flows.proving.firststart import recall_first_start, see_first_start
from canonq.flows.proving.fresh import (
    has_not_begun_again,
    install_fresh,
    is_back_again,
    once_more,
    see_whether_the_canonical_does,
    use_fresh,
    why_it_fails,
)
from canonq.flows.proving.frombase import Below, from_a_base
from canonq.flows.proving.hooks import HOOKS, hooks_told
from canonq.flows.proving.inplace import backup_and_restore_tiers, functional_tier, stays_up
from canonq.flows.proving.installing import install_tier
from canonq.flows.proving.inuse import (
    in_use,
    is_looked_at,
    look_at_fresh,
    look_into_containers,
    names_are_known,
)
from canonq.flows.proving.marking import has_its_marks
from canonq.flows.proving.pictures import await_pictures, begin_picture
from canonq.flows.proving.porting import begin_elsewhere, comes_back_beside, comes_back_elsewhere
from canonq.flows.proving.redeploying import Redeployed
from canonq.flows.proving.run import Run
from canonq.flows.proving.tiers import TIERS
from canonq.tiers.facts import Marker


def climb(run: Run) -> None:
    """Go up as far as the recipe gets: RecipeProblem at the first tier that fails, with its result on record."""
    target, tiers = run.target, run.findings.tiers
    run.account.notes += [f"misnamed-file: {told}" for told in misnamed(path.name for path in run.own.iterdir())]
    run.account.notes += hooks_told(run.hooks, there=(run.own / HOOKS).is_file())
    dependencies = _plan_dependencies(run)
    app = beside(run.app, dependencies)
    ahead, references = (None, ()) if target.quick else ask_ahead(run, app)
    # Not before: what the files say already is said though Docker be away, and before anything that takes time.
    run.world.engine.preflight()
    if ahead is not None:
        ask_for_shared_volumes(run, ahead)
        ask_for_others(run, app, ahead)
        run = has_its_turn(run, ahead)
    TIERS.prepare()
    if references:
        run.findings.phase = "images"
        have_ahead(run.world, app, references, run.deadline)
    _bring_up_dependencies(run, app, dependencies)
    fresh = beside(run.account.begins(run.fresh), dependencies) if target.base.version is not None else app
    if target.data is not None:
        app = replace(app, secrets=copy_canonical(run.world, app, target.data))
        fresh = replace(fresh, like=app.secrets)
    if target.quick:
        for tier in ("upgrade", "backup", "restore"):
            tiers[tier] = TierResult(status="unverified", reason="not part of a quick run")
        running = install_tier(run, app)
        has_its_marks(run, running)
        functional_tier(run, running)
        return
    markers: tuple[Marker, ...] = ()
    up_since = time.time()
    alone: Redeployed | None = None  #: the fresh install, where it goes up itself
    if target.base.version is None:
        run.findings.fresh = "the stack that went through all tiers"
        running, beside_it, again = install_tier(run, app), None, None
        run.findings.first_start = in_use(run, running)
        alone = once_more(run, running)
        is_back_again(run, alone)
        up_since = time.time()
        tiers["upgrade"] = skipped("upgrade", target.base.why, run.enrolment.expected_na)
    else:
        begun: list[Below] = []
        if target.data is not None and not recall_first_start(run):
            see_first_start(run, fresh)
        try:
            again = install_fresh(run, fresh, app, begun)
        except RecipeProblem as error:
            see_whether_the_canonical_does(run, app, begun, error)
            raise
        beside_it = again.running if again is not None else None
        running, markers = from_a_base(run, app, begun[0] if begun else None, beside_it, ahead)
        if again is not None and running is beside_it:  # nothing to upgrade from came up: it goes up itself
            is_back_again(run, again)
            alone, again = again, None
    saved = backup_and_restore_tiers(run, running, markers)
    if saved is not None and "elsewhere" in run.enrolment.expected_na:
        run.account.note(f"restored-elsewhere: not tried (declared: {run.enrolment.expected_na['elsewhere']})")
        saved = None
    try:
        functional_tier(run, running)
    except RecipeProblem:
        why_it_fails(run, again, up_since)
        raise
    if alone is not None:
        has_not_begun_again(run, alone)
    if again is not None:
        is_back_again(run, again)
    if beside_it is not None and beside_it is not running:
        use_fresh(run, beside_it, again)
        begin_picture(run, "fresh", beside_it)
        if saved is not None:
            await_pictures(run)
            if comes_back_beside(run, saved, running, beside_it):  # the other one soaks meanwhile
                saved = None
    coming = begin_elsewhere(run, running) if saved is not None and beside_it is None else None
    stays_up(run, running)
    if run.findings.base.version is None:
        look_at_fresh(run, running)
        look_into_containers(run, running, up_since)
    is_looked_at(run)
    names_are_known(run)
    begin_picture(run, "upgraded" if target.base.version else "fresh", running)
    if saved is not None:
        if coming is None:  # what is looked at goes for it
            await_pictures(run)
        comes_back_elsewhere(run, saved, running, coming)


# -- the tiers ----------------------------------------------------------------------------------------------


def _plan_dependencies(run: Run) -> list[Deployment]:
    planned: list[Deployment] = []
    plans = plan_dependencies(run.world, run.app, run.target.instead)
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
