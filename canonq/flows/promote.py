"""promote: the gate, then the proven version at the warm domain, snapshot, record (SPEC sections 2, 4 and 5).

New data is built beside the old, under names of its own; the switch is the one durable write of canonical.json.
Until then the old canonical is whole, after it the new one is.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from canonq.adapters.files import write_json
from canonq.adapters.volumes import snapshot, sync_tree
from canonq.core.budget import need_of_promotion
from canonq.core.deployable import LABEL_OWNER, Identity
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, WrongUse
from canonq.core.gate import Refusal, gate
from canonq.core.names import recipe_name, warm_stack
from canonq.core.records import Canonical, Promotion, Verdict
from canonq.flows.data import copy_canonical
from canonq.flows.deployment import App, bring_up, tear_down
from canonq.flows.janitor import alive, reclaim
from canonq.flows.neighbours import bring_up_neighbour, plan_neighbour
from canonq.flows.room import room_for
from canonq.flows.world import World
from canonq.ports import Held


def promote(world: World, proven: Verdict | str) -> Promotion:
    """Promote a verdict, or a recipe's newest one when called by hand. Refusals name every condition."""
    began = time.monotonic()
    recipe = recipe_name(proven if isinstance(proven, str) else proven.recipe)
    verdict = _by_hand(world.runs.newest(recipe)) if isinstance(proven, str) else proven
    enrolment = _enrolment(world, recipe)
    refusals = _ask_gate(world, recipe, enrolment, verdict)
    if verdict is not None and _is_canonical(world, verdict):
        return _answer(verdict, "already", "already-promoted", f"{verdict.version} is the canonical.")
    if enrolment is None or verdict is None or refusals:
        return _refused(recipe, verdict, refusals)
    with world.locks.hold(recipe, f"promote {verdict.run}") as held:
        if held is None:
            return _answer(verdict, "busy", "busy", f"{recipe} is held: {world.locks.holder(recipe) or 'by another process'}.")
        if _is_canonical(world, verdict):
            return _answer(verdict, "already", "already-promoted", f"{verdict.version} is the canonical.")
        # Asked again under the lock: the record may have changed since.
        if refusals := _ask_gate(world, recipe, enrolment, verdict):
            return _refused(recipe, verdict, refusals)
        seed = world.registry.read(recipe) is None
        owner = world.new_id(recipe)
        try:
            need = need_of_promotion(verdict.disk_bytes, world.settings.disk_need)
            what = f"the promotion of {recipe} {verdict.version}"
            with room_for(world, what, need), world.host.shared(), alive(world.work / owner):
                detail = _transaction(world, enrolment, verdict, held, owner)
        except Busy as error:
            return _answer(verdict, "busy", error.code, str(error))
        except CanonqError as error:
            detail = f"{recipe} {verdict.version} was proven, but its promotion failed: {error} The old canonical is untouched."
            return _answer(verdict, "failed", "promote-failed", detail, began)
    return _answer(verdict, "promoted", "seed" if seed else "new-version", detail, began)


def _by_hand(verdict: Verdict | None) -> Verdict | None:
    """A verdict looked up by hand is no part of the sweep it came from."""
    return verdict.model_copy(update={"sweep": None}) if verdict else None


def _enrolment(world: World, recipe: str) -> Enrolment | None:
    try:
        return world.checkout.enrolment(recipe)
    except WrongUse:
        return None


def _ask_gate(world: World, recipe: str, enrolment: Enrolment | None, verdict: Verdict | None) -> tuple[Refusal, ...]:
    return gate(
        enrolled=enrolment is not None and enrolment.enrolled,
        verdict=verdict,
        tags=world.repos.tags(recipe),
        canonical=world.registry.read(recipe),
        prereleases=enrolment is not None and enrolment.prereleases,
    )


def _is_recorded(world: World, verdict: Verdict) -> bool:
    record = world.registry.read(verdict.recipe)
    return record is not None and (record.run, record.version, record.commit) == (verdict.run, verdict.version, verdict.commit)


def _is_canonical(world: World, verdict: Verdict) -> bool:
    """Whether the tested version, at the tested commit, is the canonical already (by this run or another)."""
    record = world.registry.read(verdict.recipe)
    return (
        verdict.verdict == "green" and record is not None and (record.version, record.commit) == (verdict.version, verdict.commit)
    )


def _refused(recipe: str, verdict: Verdict | None, refusals: tuple[Refusal, ...]) -> Promotion:
    return Promotion(
        recipe=recipe,
        sweep=verdict.sweep if verdict else None,
        outcome="refused",
        reason=refusals[0].code if refusals else "not-enrolled",
        detail="; ".join(refusal.why for refusal in refusals),
        reasons=tuple(f"{refusal.code}: {refusal.why}" for refusal in refusals),
        version=verdict.version if verdict else None,
        commit=verdict.commit if verdict else None,
        run=verdict.run if verdict else None,
    )


def _answer(verdict: Verdict, outcome: Any, reason: str, detail: str, began: float | None = None) -> Promotion:
    return Promotion(
        recipe=verdict.recipe,
        sweep=verdict.sweep,
        named=verdict.named,
        outcome=outcome,
        reason=reason,
        detail=detail,
        version=verdict.version,
        commit=verdict.commit,
        base=verdict.base,
        run=verdict.run,
        level=verdict.level,
        seconds=round(verdict.seconds + (time.monotonic() - began if began else 0.0), 2),
    )


def _transaction(world: World, enrolment: Enrolment, verdict: Verdict, held: Held, owner: str) -> str:
    recipe, old = enrolment.recipe, world.registry.read(enrolment.recipe)
    world.engine.preflight()
    reclaim(world, recipe, old)
    _refuse_foreign(world, recipe)
    app = _warm_app(world, enrolment, verdict, owner)
    folder = world.registry.generation(recipe, owner)
    neighbours: list[App] = []
    try:
        carried = _carry(world, app, old, enrolment)
        world.repos.checkout(recipe, app.identity.commit, app.tree)
        deadline = time.monotonic() + enrolment.limits.run
        for name in enrolment.deps:
            neighbours.append(plan_neighbour(world, app, name))
            bring_up_neighbour(world, app, neighbours[-1], deadline)
        bring_up(world, app, "promote", deadline)
        _same_images(app, verdict)
        held.check()
        world.engine.undeploy(app.identity.stack, world.settings.teardown_timeout)
        record = _keep(world, app, verdict, old, folder, held)
        world.registry.write(record, held)
    except BaseException:
        # Whatever ends us, a time limit too: an idle canonical has no running service. But what the record
        # names by now is not ours to remove, even if the write was reported as failed.
        with contextlib.suppress(CanonqError):
            if not _is_recorded(world, verdict):
                world.engine.remove_owned({LABEL_OWNER: owner}, world.settings.teardown_timeout)
                shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        for neighbour in neighbours:
            with contextlib.suppress(CanonqError):  # what cannot be removed now, the janitor takes
                tear_down(world, neighbour)
        for each in (app, *neighbours):
            world.repos.drop_checkout(each.identity.recipe, each.tree)
        shutil.rmtree(world.work / owner, ignore_errors=True)
    _retire(world, recipe, record)
    return f"{verdict.version} is the canonical; its data is {'carried from ' + carried if carried else 'a clean install'}."


def _refuse_foreign(world: World, recipe: str) -> None:
    stack = warm_stack(recipe)
    services, _ = world.engine.observe(stack)
    if services:
        raise CanonqError(
            f"A stack '{stack}' runs that is not canonq's own.", mend="give that stack another name.", code="foreign-stack"
        )


def _warm_app(world: World, enrolment: Enrolment, verdict: Verdict, owner: str) -> App:
    recipe = enrolment.recipe
    assert verdict.version and verdict.commit  # the gate has asked
    identity = Identity(
        instance=world.instance,
        kind="warm",
        recipe=recipe,
        owner=owner,
        stack=warm_stack(recipe),
        domain=f"{warm_stack(recipe)}.{world.settings.zone}",
        version=verdict.version,
        commit=verdict.commit,
    )
    suffix = owner.rpartition("-")[2]
    app = App(identity, enrolment, tree=world.work / owner / "tree", work=world.work / owner / "app", volume_suffix=suffix)
    app.work.mkdir(mode=0o700)
    return app


def _carry(world: World, app: App, old: Canonical | None, enrolment: Enrolment) -> str | None:
    """Let the new version start on a copy of the canonical's data; the version whose data it is."""
    if old is None or enrolment.promote.data == "fresh":
        return None
    copy_canonical(world, app, old)
    return old.version


def _same_images(app: App, verdict: Verdict) -> None:
    moved = [service for service, digest in app.images.items() if verdict.images.get(service) != digest]
    if moved:
        raise CanonqError(
            f"The image of '{moved[0]}' is not the one that was tested (a moving tag?).",
            mend="test again; ask the recipe to name a fixed image.",
            code="image-moved",
        )


def _keep(world: World, app: App, verdict: Verdict, old: Canonical | None, folder: Path, held: Held) -> Canonical:
    """Snapshot the stopped app and build the whole new canonical beside the old one."""
    assert app.deployed is not None and verdict.version and verdict.commit  # bring_up has set it, the gate has asked
    volumes = {key: world.engine.volume_path(name) for key, name in app.deployed.volumes.items()}
    there = {key: path for key, path in volumes.items() if path is not None}
    for path in there.values():
        sync_tree(path)
    folder.mkdir(parents=True, mode=0o700)
    kept = snapshot(there, folder / "volumes.tar.zst")
    world.registry.keep_secrets(folder, app.secrets)
    shutil.copyfile(app.work / "resolved.json", folder / "resolved.json")
    stamp = world.stamp()
    extras = dict(old.model_extra or {}) if old else {}  # what others have written beside our keys
    record = Canonical(
        **{
            **extras,
            "recipe": verdict.recipe,
            "version": verdict.version,
            "commit": verdict.commit,
            "status": "idle",
            "ts": stamp,
            "schema": 1,
            "promoted_at": stamp,
            "run": verdict.run,
            "level": verdict.level,
            "images": app.images,
            "volumes": sorted(app.deployed.volumes[key] for key in there),
            "snapshot": kept,
            "fence": held.fence,
            "previous": old.model_dump(mode="json", by_alias=True, exclude={"previous"}) if old else None,
        }
    )
    write_json(folder / "record.json", record.model_dump(mode="json", by_alias=True))
    return record


def _retire(world: World, recipe: str, record: Canonical) -> None:
    """The new canonical is durable: let go of the old one's volumes, and of canonicals beyond `keep`."""
    reclaim(world, recipe, record)
    generations = world.registry.generations(recipe)
    for old in generations[: -world.settings.keep]:
        if old.snapshot is not None and old.run != record.run:
            world.registry.drop_generation(recipe, Path(old.snapshot.path).parent.name)
