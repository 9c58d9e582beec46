"""The tiers on what runs already: upgrade, backup, restore, functional, and whether it stays up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from canonq.core.backup import backup_plan
from canonq.core.budget import Need
from canonq.core.errors import NoRoom, RecipeProblem
from canonq.core.ladder import TierName, TierResult, skipped, with_fresh, with_upgraded
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.stack.census import Census
from canonq.core.stack.convergence import stopped_updates
from canonq.core.stack.databases import are_alone, put_elsewhere
from canonq.core.stack.staying import counted
from canonq.core.stack.witness import Files
from canonq.flows.deploying.answering import NotHealthy, await_answer
from canonq.flows.deploying.stages import Running
from canonq.flows.proving import backup
from canonq.flows.proving.access import still_written, uses
from canonq.flows.proving.hooks import WRITE_MARKER
from canonq.flows.proving.intier import about_version, comes_up, in_tier, start_of
from canonq.flows.proving.inuse import (
    files_in,
    in_use,
)
from canonq.flows.proving.marking import (
    call_in_tier,
    census_of,
    facts_for,
    generic_tier,
    has_its_marks,
    kept_in,
    leave_marks,
    missing_marks,
    none_lost,
    patience_of,
)
from canonq.flows.proving.run import Run, took
from canonq.flows.proving.tiers import no_proof, run_own
from canonq.flows.proving.witnesses import files_of, made_by_somebody, own_names
from canonq.tiers import markers as marks
from canonq.tiers.facts import BackupFacts, Marker


def upgrade_tier(run: Run, version: str, base: Running) -> tuple[Running, tuple[Marker, ...]]:
    target = run.target

    def over_the_base() -> tuple[Running, tuple[tuple[Marker, ...], Census]]:
        with about_version(version):
            used = uses(run.world, base)
            has_its_marks(run, base)
            if run.target.data is None:
                run.findings.base_first_start = in_use(run, base)  # before anything is written to it
            run.findings.base_files = files_in(run, base)
            markers = leave_marks(run, "upgrade", base)
            run.findings.base_census = held = census_of(run, base)
            run.findings.base_used_files = files_of(run, base)
            run.vigil(base.deployment).goes_down(another=True)
        with about_version(target.version):
            started = start_of(run, "upgrade", base.over(target.version, target.commit), new=False)
            running = comes_up(run, "upgrade", started)
            run.account.notes += still_written(used, uses(run.world, running), version)
            run.account.notes += stopped_updates(run.world.stacks.observe(running.identity.stack)[0])
            return running, (markers, held)

    def prove(running: Running, made: tuple[tuple[Marker, ...], Census]) -> TierResult:
        markers, held = made
        return none_lost(
            run,
            running,
            (held, run.findings.base_used_files),
            lambda: generic_tier(run, "upgrade", running, base=version, markers=markers),
        )

    running, (markers, _) = in_tier(run, "upgrade", base, over_the_base, prove)
    run.findings.held_files = files_of(run, running)
    return running, markers


def backup_and_restore_tiers(run: Run, running: Running, earlier: tuple[Marker, ...]) -> backup.Saved | None:
    """Both tiers, on what runs; the backup, where there is one to be had."""
    plan = backup_plan(running.prepared.filled.resolved)
    if not plan.capable:
        for tier in ("backup", "restore"):
            run.findings.tiers[tier] = skipped(tier, plan.why_not + _overlaid(run), run.enrolment.expected_na)
        return None
    taken = backup.Backup(
        run.world.data,
        running.stack.stack,
        plan,
        running.stack.volumes,
        running.deployment.work / "backup",
        run.enrolment.limits.hook,
        run.deadline,
        {
            name: frozenset(one.source for one in service.mounts if one.kind == "volume")
            for name, service in running.prepared.filled.resolved.services.items()
        },
        run.enrolment.data.volatile,
    )
    made = _take_backup(run, running, taken, earlier)
    return backup.Saved(taken, _restore(run, running, taken, made), made.held)


def _overlaid(run: Run) -> str:
    """The end of a sentence about a backup that is off, where the enrolment's overlay has a say in it."""
    overlay = run.own / TEST_OVERLAY
    said = overlay.read_text(errors="replace") if overlay.is_file() else ""
    return f"; {TEST_OVERLAY} of the enrolment has backup labels of its own" if "backupbot." in said else ""


@dataclass(frozen=True)
class _Made:
    """A backup that was taken."""

    markers: tuple[Marker, ...]  #: what was written before
    facts: BackupFacts
    held: Census  #: what the app held then
    unseen: backup.Unseen
    copied: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: volume -> files that a hook has copied


def _take_backup(run: Run, running: Running, taken: backup.Backup, earlier: tuple[Marker, ...]) -> _Made:
    before_hooks: list[Files] = []

    def with_a_marker() -> tuple[Running, _Made]:
        _room_for(run)
        markers = leave_marks(run, "backup", running, earlier)  # also what the upgrade has added
        markers += tuple(backup.mark_parts(taken, f"canonq-{run.id}", are_alone(run.servers(running), running.stack.images)))
        held = census_of(run, running)
        run.findings.held_files = files = files_of(run, running)
        before_hooks.append(files)  # of all tries the first: what hooks have copied since is no file of the app's
        run.findings.phase = "backup"
        facts = backup.take(taken, markers)
        unseen = backup.only_closed(taken, facts, markers, held, run.enrolment.data.volatile)
        run.account.notes += [*backup.left_to_the_restore(facts, markers), *unseen.told()]
        run.account.notes += backup.left_out(running.prepared.filled.resolved, taken.plan)
        run.account.notes += backup.told_beside(taken, facts, held, markers)
        if any(hook.status for hook in facts.hooks):
            return running, _Made(markers, facts, held, unseen)  # what a hook had to make is not there: its own words say why
        if missed := backup.not_backed_up(taken, facts, markers, held, run.enrolment.data.volatile):
            raise RecipeProblem(
                f"No backup has the data of {' and '.join(missed)}.",
                mend="the maintainer has to label it; a database that need not be kept is declared under [data] volatile.",
                code="not-backed-up",
                service=missed[0].partition(":")[0],
            )
        made = made_by_somebody(run, files)
        rest = backup.in_no_part(taken, facts, files, before_hooks[0], made, own_names(running))
        if rest.missed:
            raise RecipeProblem(
                f"No backup has what was put into the app: {'; '.join(rest.missed)}.",
                mend="the maintainer has to label it; what is made anew by itself is declared under [data] volatile, a volume or "
                "a path in it (`data/thumbs`).",
                code="not-backed-up",
                service=run.enrolment.health.service,
            )
        run.findings.unmarked += rest.gaps
        if gap := backup.unproven(facts, markers):
            run.findings.unmarked += (gap,)
        run.findings.unmarked += tuple(backup.keys_unproven(facts, markers))
        run.findings.unmarked += tuple(backup.partly(taken, facts, held, markers, run.enrolment.data.volatile))
        return running, _Made(markers, facts, held, unseen, rest.copied)

    _, made = in_tier(
        run,
        "backup",
        running,
        with_a_marker,
        lambda running, made: generic_tier(run, "backup", running, markers=made.markers, of=made.facts),
    )
    return made


def _restore(run: Run, running: Running, taken: backup.Backup, made: _Made) -> tuple[Marker, ...]:
    """Destroy and restore; the marks that came back."""
    markers, of, held, unseen = made.markers, made.facts, made.held, made.unseen
    removed: dict[str, set[str]] = {}  # also by a try that something interrupted

    def from_destroyed() -> tuple[Running, BackupFacts]:
        homes = marks.homes(run.world.data, running.stack.stack, markers)
        covered, still, kept = backup.destroy(taken, markers, of.captured, patience_of(run), unseen.markers)
        run.account.notes += kept
        for key, paths in backup.remove(taken, made.copied).items():
            removed.setdefault(key, set()).update(paths)
        own = tuple(marker for marker in markers if marker.kind == "own")
        if own:
            call_in_tier(run, "restore", running, WRITE_MARKER, marks.DESTROYED)
        run.vigil(running.deployment).goes_down()
        run.findings.phase = "restore"
        hooks = backup.restore(taken)
        if all(hook.status == 0 for hook in hooks):
            comes_back(run, running, run.enrolment.health.timeout)
            for service, told in put_elsewhere(homes, marks.homes(run.world.data, running.stack.stack, covered)).items():
                raise RecipeProblem(
                    f"The restore has put the data of '{service}' {told}.",
                    mend="look at the post-hook of the restore: it has to load the dump into the app's own database.",
                    code="restore-failed",
                    service=service,
                )
            if lost := backup.gone(taken, {key: sorted(paths) for key, paths in removed.items()}, run.findings.held_files):
                raise RecipeProblem(
                    f"The restore did not bring back {'; '.join(lost)}: a hook copies it, and nothing puts it back.",
                    mend="the maintainer has to have it put back by a restore hook, or to label the volume itself.",
                    code="restore-failed",
                    service=run.enrolment.health.service,
                )
            if lacking := [one for one in unseen.markers if missing_marks(run, "restore", running, (one,))]:
                raise unseen.problem(lacking)
        return running, BackupFacts(hooks=hooks, destroyed=(*covered, *own), still_there=still)

    _, facts = in_tier(
        run,
        "restore",
        running,
        from_destroyed,
        lambda running, facts: none_lost(
            run,
            running,
            (held, backup.covered_files(taken, run.findings.held_files)),
            lambda: generic_tier(run, "restore", running, markers=facts.destroyed, of=facts),
            restored=True,
        ),
    )
    return facts.destroyed


def comes_back(run: Run, running: Running, patience: float) -> None:
    """Wait until the app answers over the data that was put back: a server whose files are exchanged may well start anew."""
    ends = min(run.deadline, time.monotonic() + patience)
    try:
        with run.account.timed("restore.healthy"):
            up = await_answer(run.world, running.prepared, ends, run.deadline)
    except NotHealthy as error:
        raise RecipeProblem(
            f"After the restore the app did not come back: {error.what}",
            mend=error.mend,
            code="restore-failed",
            cause=error.code,
            service=error.service,
            fault=error.fault,
        ) from error
    run.vigil(running.deployment).came_up(running, up.dead)


def _room_for(run: Run) -> None:
    """NoRoom when the artifact, which may be as large as the volumes, would eat what is retained."""
    run.findings.artifact_bytes = took(run)
    kept = run.room.left
    wanted = Need(state=max(0, run.findings.artifact_bytes - kept.state - kept.anywhere))
    room = run.world.budget.disk(wanted)
    if room.short > 0:
        raise NoRoom(f"There is no room for the backup's artifact: {room.why_short}", mend="free some disk.")


def functional_tier(run: Run, running: Running) -> None:
    """The recipe's own tests, on one of the run's stacks; what they gave on another one before stays beside it."""
    files, earlier = run.own_tests(), run.findings.tiers.get("functional")
    if earlier is None:
        run.account.notes += [f"own-tests: {told}" for told in no_proof(run.own, files)]
    if not files:
        why = "the recipe has no tests of its own"
        run.findings.tiers["functional"] = skipped("functional", why, run.enrolment.expected_na)
        return

    def prove(running: Running, _: None) -> TierResult:
        limit, folder = run.enrolment.limits.tests, kept_in(run, "functional", running.deployment).parent
        found = run_own(facts_for(run, "functional", running), folder, files, limit, run.deadline, run.masks)
        return with_fresh(earlier, found) if run.is_fresh(running.deployment) else with_upgraded(earlier, found)

    in_tier(run, "functional", running, lambda: (running, None), prove)


def stays_up(run: Run, running: Running) -> None:
    """Wait out what is left of the soak. RecipeProblem, on record with the tier that brought it up, when it does not stay up."""
    run.findings.phase = "soak"
    fresh = run.is_fresh(running.deployment)
    with run.account.timed("soak.fresh" if fresh else "soak"), _died(run, running):
        run.vigil(running.deployment).soak(run.deadline)
    run.account.look()  # on a busy host looks are far apart: what a short run took is seen here
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
