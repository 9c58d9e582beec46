"""What an upgrade begins from: the base comes up below the version under test, or another one where it is broken."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from canonq.core.bases import Base, Broken, Moved, after_broken, nothing_to_begin_from
from canonq.core.errors import CanonqError, RecipeProblem
from canonq.core.ladder import TierResult, skipped
from canonq.core.records import Canonical
from canonq.core.versions import read_tags
from canonq.flows.deploying.secrecy import mask
from canonq.flows.deploying.stages import Deployment, Filled, Running, Started
from canonq.flows.proving.ahead import ask_for_bumps
from canonq.flows.proving.evidence import keep_logs
from canonq.flows.proving.inplace import upgrade_tier
from canonq.flows.proving.installing import explained, install_tier
from canonq.flows.proving.intier import BaseFailed, about_version, comes_up, if_of_the_base, remove_stack, start_of
from canonq.flows.proving.marking import hook_of_tier
from canonq.flows.proving.run import BASE, Run
from canonq.flows.proving.using import before_use, note_use_of_base
from canonq.flows.proving.witnesses import files_of
from canonq.tiers.facts import Marker


@dataclass(frozen=True)
class Below:
    """What the run is upgraded from, once it was begun: it is coming up, or could not be deployed."""

    started: Started | None = None
    problem: CanonqError | None = None


def begin_below(run: Run, app: Deployment, base: Base) -> Below:
    """Have Docker bring the base up while something else is waited for. What is wrong with it is the base's, and told later."""
    try:
        return Below(started=_start_base(run, app.of(str(base.version), str(base.commit))))
    except CanonqError as error:
        return Below(problem=error)


def _start_base(run: Run, app: Deployment) -> Started:
    with about_version(app.identity.version):
        hook_of_tier(run, "before", "install", app)
        run.findings.phase = "base"
        return explained(run, app, lambda: start_of(run, "base", app, new=True))


def from_a_base(
    run: Run, app: Deployment, below: Below | None, fresh: Running | None, ahead: Filled | None
) -> tuple[Running, tuple[Marker, ...]]:
    """Begin from a base that comes up and upgrade it; what runs, and its markers. Where none does and that is declared: the
    fresh install goes up itself."""
    base, broken = run.target.base, list[Broken]()
    while base.version is not None and base.commit is not None:
        try:
            running = base_below(run, app.of(base.version, base.commit), below)
            return upgrade_tier(run, base.version, running)
        except BaseFailed as failed:
            broken.append(failed.broken)
            base, below = begin_elsewhere(run, base, broken), None
            if ahead is not None:
                ask_for_bumps(run, app, base, ahead)
    run.findings.tiers["upgrade"] = skipped("upgrade", base.why, run.enrolment.expected_na)
    return fresh if fresh is not None else install_tier(run, replace(app, secrets={})), ()


def base_below(run: Run, app: Deployment, below: Below | None) -> Running:
    """The base, up and answering. BaseFailed when it does not come up."""
    began, version = time.monotonic(), app.identity.version
    try:
        if below is not None and below.problem is not None:
            raise below.problem
        started = below.started if below is not None else None
        with about_version(version):
            started = _start_base(run, app) if started is None else started
            run.findings.phase = "base"
            running = explained(run, app, lambda: comes_up(run, "base", started))
            _tell_of_moved_images(run)
            if run.target.data is None:
                run.findings.base_first_files = files_of(run, running)  # before somebody uses it
            elif run.target.data.version != version:
                run.findings.forget_first_start()  # that of the canonical
            before = before_use(run, running) if run.target.data is None else None
            hook_of_tier(run, "after", "install", running)
            note_use_of_base(run, running, before)
    except RecipeProblem as error:
        why, seconds = run.masks.text(str(error)), round(time.monotonic() - began, 3)
        if_of_the_base(run, "upgrade", error, why, seconds)
        run.findings.tiers["upgrade"] = TierResult(status="fail", reason=why, seconds=seconds)
        raise
    finally:
        run.account.timings["base.whole"] = round(time.monotonic() - began, 3)
        mask(run.folder / BASE, run.masks)
    return running


def begin_elsewhere(run: Run, base: Base, broken: list[Broken]) -> Base:
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
    remove_stack(run, run.app)
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
