"""A backup restored where it was not taken (docs/decisions/0039-restored-elsewhere.md): on a stack of another name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from canonq.core.backup import backup_plan
from canonq.core.errors import RecipeProblem
from canonq.core.stack.beside import why_apart
from canonq.core.stack.witness import phrase
from canonq.flows.deploying.filling import read_files
from canonq.flows.deploying.stages import Deployment, Running, Started
from canonq.flows.proving import backup
from canonq.flows.proving.backup import Saved
from canonq.flows.proving.counting import take_census
from canonq.flows.proving.evidence import keep_logs
from canonq.flows.proving.hooks import WRITE_MARKER
from canonq.flows.proving.inplace import comes_back
from canonq.flows.proving.intier import about_version, comes_up, remove_stack, start_of
from canonq.flows.proving.marking import call_in_tier, hook_of_tier, less_than, missing_marks, patience_of
from canonq.flows.proving.run import ELSEWHERE, FRESH, Run
from canonq.flows.proving.witnesses import files_of, made_by_somebody
from canonq.tiers import markers as marks
from canonq.tiers.facts import Marker

_BESIDE = 30.0  #: seconds for the fresh install to answer with the data of another address; one that does not is no loss yet
_TRIES = 2  #: of a restore into a stack that has just come up, and may be at its first start still


def comes_back_beside(run: Run, saved: Saved, running: Running, fresh: Running) -> bool:
    """Whether the backup of what runs comes back on the fresh install, which is used for nothing after that.

    That it does not decides nothing: its address is another one, which an app may rightly refuse its data for.
    """
    if not _same_secrets(running, fresh):
        return False
    with run.account.timed("restore.elsewhere"):
        try:
            why = _why_not(run, saved, fresh, min(run.enrolment.health.timeout, _BESIDE))
        except RecipeProblem as error:
            why = error.what
    if why:
        run.account.note(f"restored-beside: not on the fresh install, whose address is another: {run.masks.text(why)}")
    return not why


def begin_elsewhere(run: Run, running: Running) -> Started | None:
    """Have the stack of another name come up while what runs has to stay up; None where it has to make room for that first.

    Behind an ingress the two would share an address.
    """
    place = _elsewhere(run, running)
    if run.world.ingress is not None or place.identity.stack in run.findings.standing:
        return None
    there = read_files(run.world, run.trees.look_at(place), run.deadline).resolved
    if why_apart(running.prepared.filled.resolved, there, run.world.host.free_memory()):
        return None
    with run.account.timed("restore.elsewhere.begin"):
        try:
            return _begin(run, place)
        except RecipeProblem:  # it is tried again when the other has gone
            remove_stack(run, place)
            return None


def _begin(run: Run, place: Deployment) -> Started:
    run.findings.phase = "a stack to restore into"
    place = run.account.begins(place)
    hook_of_tier(run, "before", "install", place)
    return start_of(run, ELSEWHERE, place, new=True)


def comes_back_elsewhere(run: Run, saved: Saved, running: Running, begun: Started | None) -> None:
    """Restore the backup into a stack of another name, with address and secrets of what runs, which goes for it unless that one
    has `begun` beside it.

    RecipeProblem, on record with the restore, where what it has to bring back is not there then.
    """
    place = _elsewhere(run, running)
    for stack, folder in ((run.fresh, run.folder / FRESH / "logs"), (run.app, run.folder / "logs")):
        if begun is None and stack.identity.stack in run.findings.standing:
            keep_logs(run.world, stack.identity.stack, folder, run.masks)
            remove_stack(run, stack)
    run.vigils.pop(place.identity.stack, None)
    with run.account.timed("restore.elsewhere"), about_version(running.identity.version):
        try:
            why = _on_a_new_stack(run, saved, begun or _begin(run, place))
        except RecipeProblem as error:
            why = error.what
    if not why:
        return
    what = f"The backup comes back where it was taken, and not on a new stack with the same address and secrets: {why}"
    result = run.findings.tiers["restore"]
    run.findings.tiers["restore"] = result.model_copy(update={"status": "fail", "reason": run.masks.text(what)})
    run.findings.failed_on = place.identity.stack
    raise RecipeProblem(
        f"{what}.",
        mend="look what of the data, the configuration or the names is not in the backup, and was made by the first start.",
        code="restore-not-portable",
    )


def _elsewhere(run: Run, running: Running) -> Deployment:
    """What runs, under the other name that the run has."""
    other = run.app if run.is_fresh(running.deployment) else run.fresh
    identity = replace(other.identity, domain=running.identity.domain)
    return replace(other, identity=identity, secrets=running.prepared.secrets, beside=running.deployment.beside)


def _on_a_new_stack(run: Run, saved: Saved, begun: Started) -> str:
    run.findings.phase = "a stack to restore into"
    begun = replace(begun, health_ends=time.monotonic() + run.enrolment.health.timeout)  # what it had to wait for is not its own
    up, why = comes_up(run, ELSEWHERE, begun), ""
    for number in range(_TRIES):
        try:
            if number:  # it may have died of what was put below it
                comes_back(run, up, run.enrolment.health.timeout)
            why = _why_not(run, saved, up, run.enrolment.health.timeout)
        except RecipeProblem as error:
            why = error.what
        if not why:
            break
    return why


def _why_not(run: Run, saved: Saved, place: Running, patience: float) -> str:
    """Restore it there; why what it has to bring back is not there then, or nothing."""
    run.findings.phase = "restore elsewhere"
    to_come = _as_named_there(saved, place)
    if any(marker.kind == "own" for marker in to_come):
        call_in_tier(run, "restore", place, WRITE_MARKER, marks.DESTROYED)
    if still := marks.destroy(run.world.data, place.stack.stack, to_come, patience_of(run)):
        return f"canonq's mark in {still[0].place} could not be destroyed there before"
    run.vigil(place.deployment).goes_down()
    plan = backup_plan(place.prepared.filled.resolved)  # its hooks may have the name of the stack
    there = replace(saved.taken, stack=place.stack.stack, volumes=place.stack.volumes, plan=plan)
    if failed := [hook for hook in backup.restore(there) if hook.status != 0]:
        return "; ".join(f"{one.label} of '{one.service}' exited with {one.status}: {one.output}" for one in failed)
    comes_back(run, place, patience)
    if missing := missing_marks(run, "restore", place, to_come):
        return f"missing is {', '.join(missing)}"
    gone = less_than(run, saved.covered, lambda: take_census(run.world.data, place, run.servers(place)))
    return "; ".join([*gone, *_not_back(run, saved, place)][:10])


def _not_back(run: Run, saved: Saved, place: Running) -> list[str]:
    """A phrase for each volume some of whose files, of those that somebody has made and the backup holds, are not there."""
    held = run.findings.held_files
    covered, now = backup.covered_files(saved.taken, held), files_of(run, place)
    missed = {
        key: [path for path in paths if path in covered[key] and path not in now.get(key, {})]
        for key, paths in made_by_somebody(run, held).items()
    }
    return [phrase(key, paths, held) for key, paths in sorted(missed.items()) if paths]


def _same_secrets(one: Running, other: Running) -> bool:
    return all(other.prepared.secrets.get(name) == one.prepared.secrets[name] for name in set(one.stack.secrets.values()))


def _as_named_there(saved: Saved, place: Running) -> tuple[Marker, ...]:
    """The marks as they are named there: a volume has another name in Docker."""
    names: Mapping[str, str] = {name: place.stack.volumes.get(key, name) for key, name in saved.taken.volumes.items()}

    def named(marker: Marker) -> Marker:
        volume, slash, path = marker.place.partition("/")
        in_volume = marker.kind in ("file", "part", "sqlite")
        return marker.model_copy(update={"place": f"{names.get(volume, volume)}{slash}{path}"}) if in_volume else marker

    return tuple(map(named, saved.markers))
