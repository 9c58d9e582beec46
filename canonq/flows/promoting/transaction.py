"""A promotion as a list of steps (docs/rules.md 5.1): killed before, in or after any of them, it is begun again from the first.

New data is built beside the old, under names of its own; the switch is the one durable write of canonical.json.
Until then the old canonical is whole, after it the new one is. The first step removes what a killed promotion
built, so that doing all of them again is the same as doing them once.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from canonq.adapters.data import snapshots
from canonq.adapters.data.archives import has_files, sync_tree
from canonq.adapters.docker.disks import bytes_below
from canonq.adapters.files import entries, remove_tree, write_durably, write_json
from canonq.adapters.processes.stopping import check_stop
from canonq.adapters.state.budget import Reservation
from canonq.adapters.state.work_folders import JOURNAL, asked_to_stop
from canonq.core.budget import Need
from canonq.core.deployable import LABEL_INSTANCE, LABEL_OWNER, Identity
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem
from canonq.core.gate import Again
from canonq.core.names import warm_stack
from canonq.core.records import SCHEMA, Canonical, Verdict, still_held
from canonq.core.records import Snapshot as Kept
from canonq.core.seeing import voided
from canonq.flows.deploying.appetite import memory_held
from canonq.flows.deploying.deployment import RESOLVED, bring_up, tear_down
from canonq.flows.deploying.pulling import images_taken
from canonq.flows.deploying.secrecy import unsaid
from canonq.flows.deploying.stages import Account, Deployment, Running
from canonq.flows.keeping.data import copy_canonical, how_to_remake
from canonq.flows.keeping.floor import Watch, floor_held
from canonq.flows.keeping.janitor import clean
from canonq.flows.keeping.leftovers import is_in_force, reclaim, retire
from canonq.flows.promoting.warming import Promoted, Warmed, warmed
from canonq.flows.proving.dependencies import beside, bring_up_dependency, plan_dependencies
from canonq.flows.proving.evidence import beside_bytes, volume_bytes
from canonq.flows.proving.hooks import POPULATE, hook_names
from canonq.flows.proving.sight import seeing
from canonq.flows.world import World
from canonq.ports import Held

log = logging.getLogger("canonq")

_TELL_EVERY = 10.0  #: seconds between two words about a long snapshot


#: The steps, in order; what each needs and makes shows in `_steps`.
STEPS = ("reclaim", "carry", "deploy", "warm", "stop", "keep", "record", "switch", "retire")


@dataclass(frozen=True)
class Transaction:
    """One promotion of one proven version: what is to be done, and on what."""

    world: World
    enrolment: Enrolment
    verdict: Verdict  #: has passed the gate
    held: Held
    owner: str
    room: Reservation  #: what is kept of the disk for it
    again: Again | None  #: a person wants the canonical anew, at its own version
    old: Canonical | None
    app: Deployment  #: at the warm domain
    account: Account

    @property
    def recipe(self) -> str:
        """The recipe."""
        return self.enrolment.recipe

    @property
    def folder(self) -> Path:
        """Where the new canonical is kept."""
        return self.world.registry.generation(self.recipe, self.owner)

    @property
    def carried(self) -> Canonical | None:
        """The canonical on a copy of whose data the new version starts, if it does."""
        return self.old if self.old is not None and self.old.has_data and self.enrolment.promote.data == "carry" else None

    @property
    def data(self) -> str:
        """What the new canonical's data is."""
        if self.carried is not None:
            return f"carried from {self.carried.version}"
        clean = "a clean install" if self.old is None or self.enrolment.promote.data == "fresh" else "empty volumes"
        return f"{clean}, filled by {POPULATE} of hooks.py" if self.populates else clean

    @property
    def populates(self) -> bool:
        """Whether the enrolment's hooks fill it with content, before it is stopped."""
        return self.carried is None and POPULATE in hook_names(self.world.checkout.folder(self.recipe))


def plan(
    world: World, enrolment: Enrolment, verdict: Verdict, held: Held, owner: str, room: Reservation, again: Again | None = None
) -> Transaction:
    """The promotion of a verdict that has passed the gate; nothing is made yet."""
    recipe = enrolment.recipe
    if verdict.version is None or verdict.commit is None:
        raise CanonqError(f"The verdict of run {verdict.run} of {recipe} names no version.", mend="report it.")
    stack = warm_stack(recipe)
    identity = Identity(
        instance=world.instance,
        kind="warm",
        recipe=recipe,
        owner=owner,
        stack=stack,
        domain=f"{stack}.{world.settings.zone}",
        version=verdict.version,
        commit=verdict.commit,
        state=world.place,
    )
    account, work, suffix = Account(), world.work / owner, owner.rpartition("-")[2]
    app = Deployment(identity, enrolment, work / "tree", work / "app", account, volume_suffix=suffix, sweep=verdict.sweep)
    old = world.registry.read(recipe)
    return Transaction(world, enrolment, verdict, held, owner, room, again, old, account.begins(app), account)


def announce(tx: Transaction) -> None:
    """Have it on disk that a canonical is about to be made here."""
    _note(tx, STEPS[0])


def give_way(tx: Transaction) -> None:
    """Nothing is made after all."""
    _clear(tx, keep_journal=False)


def carry_out(tx: Transaction) -> None:
    """Do all steps. Whatever stops it before the switch, the old canonical is whole and nothing runs.

    From the switch on it is the canonical, also when something raises: ask `is_in_force`.
    """
    with unsaid(tx.account.secrecy):
        _carry_out(tx)


def _carry_out(tx: Transaction) -> None:
    world, recipe, left = tx.world, tx.recipe, False
    world.engine.preflight()
    try:
        what = f"The promotion of {recipe} {tx.verdict.version}"
        stopped = partial(asked_to_stop, world.work / tx.owner)
        floor = floor_held(world.budget, tx.room, what, lambda: _measure(tx), stopped)
        began = time.monotonic()
        with floor as watch, memory_held(world.ownership, tx.account), seeing(world.engine.ping) as sight:
            try:
                _steps(tx, watch)
            except RecipeProblem as error:
                if (instead := voided(error, sight.blinds, began)) is not None:
                    raise instead from error
                raise
    except BaseException:
        # Whatever ends us, a time limit too: an idle canonical has no running service. But what the record
        # names by now is not ours to remove, even if the write was reported as failed.
        if not is_in_force(world, recipe, tx.held):
            left = True
            with contextlib.suppress(CanonqError):
                world.ownership.remove_owned(_mine(tx), world.settings.teardown_timeout)
                remove_tree(tx.folder)
                left = False
        raise
    finally:
        _clear(tx, keep_journal=left)


def _steps(tx: Transaction, watch: Watch) -> None:
    """The promotion itself: each step takes what those before it have made."""
    with step(tx, "reclaim"):
        _reclaim(tx)
        damaged = _see_that_there_is_a_way_back(tx)
    with step(tx, "carry"):
        app = _carry(tx)
    with step(tx, "deploy"):
        running = _deploy(tx, app)
    with step(tx, "warm"):
        warm = _warm(tx, running)
    with step(tx, "stop"):
        _stop(tx, running)
    with step(tx, "keep"):
        kept = _keep(tx, running)
    with step(tx, "record"):
        record = _record(tx, running, kept, warm, damaged)
    watch.end()  # from the switch on it goes through: what is left of it takes no room
    with step(tx, "switch"):
        tx.world.registry.write(record, tx.held)  # the one write that makes it the canonical
    with step(tx, "retire"):
        _retire(tx, record)


@contextlib.contextmanager
def step(tx: Transaction, name: str) -> Iterator[None]:
    """One step, noted in the promotion's journal as it begins."""
    check_stop()
    _note(tx, name)
    yield


def _note(tx: Transaction, name: str) -> None:
    write_json(tx.world.work / tx.owner / JOURNAL, {"recipe": tx.recipe, "version": tx.verdict.version, "step": name})


def _clear(tx: Transaction, *, keep_journal: bool) -> None:
    """Remove what the promotion needed besides; what cannot be removed now, the janitor takes.

    `keep_journal`: volumes of its own may be left, and are to be known as those of a promotion that failed.
    """
    world = tx.world
    for each in tx.account.begun:
        if each.identity.stack != tx.app.identity.stack:
            with contextlib.suppress(CanonqError, OSError):
                tear_down(world, each.identity)
    for each in tx.account.begun:
        with contextlib.suppress(CanonqError, OSError):
            world.repos.drop_checkout(each.identity.recipe, each.tree)
    if not keep_journal:
        remove_tree(world.work / tx.owner)
        return
    for path in entries(world.work / tx.owner):
        if path.is_dir():  # trees and secrets
            remove_tree(path)


def _measure(tx: Transaction) -> None:
    """Say to its reservation what the promotion takes while it goes on; called beside it."""
    images = images_taken(tx.world, tx.account)
    own = Need(volumes=volume_bytes(tx.world, tx.app.identity), images=images, state=bytes_below(tx.folder))
    tx.room.took(own + beside_bytes(tx.world, tx.app.identity))


def _mine(tx: Transaction) -> dict[str, str]:
    return {LABEL_INSTANCE: tx.world.instance, LABEL_OWNER: tx.owner}


# -- the steps ----------------------------------------------------------------------------------------------


def _reclaim(tx: Transaction) -> None:
    """Remove what a killed promotion left, and see that nobody else's stack has the name."""
    world, recipe = tx.world, tx.recipe
    clean(world, recipe=recipe)
    left = reclaim(world, recipe, tx.old)
    if any(left.values()):
        log.info("%s: removed what an interrupted promotion had left: %s", recipe, ", ".join(kind for kind in left if left[kind]))
    services, _ = world.stacks.observe(tx.app.identity.stack)
    if services:
        raise CanonqError(
            f"A stack '{tx.app.identity.stack}' runs that is not canonq's own.",
            mend="give that stack another name.",
            code="foreign-stack",
        )


def _see_that_there_is_a_way_back(tx: Transaction) -> bool:
    """HostProblem when the old canonical's volumes, which are let go of at the end, are all that is left of its data.

    Whoever makes it again at its own version has been told, and carries that data on: True, so that the old one, which cannot be
    gone back to, takes nobody's place.
    """
    if tx.old is None or tx.old.snapshot is None or (why := snapshots.problem_of(tx.old.snapshot)) is None:
        return False
    if tx.again is not None and tx.carried is not None:
        return True
    first = "" if tx.carried is not None else 'as `[promote] data = "fresh"` would let go of it, take that out first: '
    raise HostProblem(
        f"The snapshot of the canonical {tx.old.version} is not whole ({why}): its volumes are the last copy of its data, and "
        "would be let go of.",
        mend=f"{first}{how_to_remake(tx.old)} makes its snapshot again; find out what became of the old one.",
        code="snapshot-lost",
    )


def _carry(tx: Transaction) -> Deployment:
    """Copy the canonical's volumes, for the new version to start on."""
    tx.app.work.mkdir(mode=0o700)
    return replace(tx.app, secrets=copy_canonical(tx.world, tx.app, tx.carried)) if tx.carried is not None else tx.app


def _deploy(tx: Transaction, app: Deployment) -> Running:
    """Bring it up at the warm domain, with what it depends on beside it, until it answers."""
    tx.world.repos.checkout(tx.recipe, app.identity.commit, app.tree, tx.enrolment.tree)
    deadline = time.monotonic() + tx.enrolment.limits.run
    dependencies = list(plan_dependencies(tx.world, app))
    for dependency in dependencies:
        bring_up_dependency(tx.world, app, dependency, deadline)
    running = bring_up(tx.world, beside(app, dependencies), "promote", deadline)
    moved = [service for service, digest in running.images.items() if _has_moved(tx, running, service, digest)]
    if moved:
        raise CanonqError(
            f"The image of '{moved[0]}' is not the one that was tested (a moving tag?).",
            mend="test again; ask the recipe to name a fixed image.",
            code="image-moved",
        )
    tx.held.check()
    return running


def _has_moved(tx: Transaction, running: Running, service: str, digest: str) -> bool:
    """Whether a service's image is not the one that was tested. An image may have several digests, and its id is another
    once the Engine keeps its images in another way."""
    tested = tx.verdict.images.get(service)
    return tested != digest and not (tested and tx.world.images.is_image(running.stack.images[service], tested))


def _warm(tx: Transaction, running: Running) -> Warmed:
    """Prove and mark it where it is to stay."""
    deadline = time.monotonic() + tx.enrolment.limits.run
    kept = next(iter(tx.world.runs.kept_of(tx.verdict.run)), tx.world.work / tx.owner)
    warm = warmed(Promoted(tx.world, running, tx.carried, kept / "promotion", f"canonq-{tx.owner}", deadline))
    tx.held.check()
    return warm


def _stop(tx: Transaction, running: Running) -> None:
    """Take it down again: an idle canonical runs nothing, and stopped data is consistent."""
    volumes = _volumes(tx, running)
    filled = {key: has_files(path) for key, path in volumes.items()}
    if mounted := [key for key, path in volumes.items() if path.is_mount()]:
        raise _not_in_the_snapshot(tx, mounted, "is mounted from elsewhere, and is empty once nobody uses it")
    killed = tx.world.stacks.undeploy(running.stack.stack, tx.world.settings.teardown_timeout)
    tx.account.notes += _ended_badly(running, killed)
    stopped = _volumes(tx, running)
    if lost := [key for key, had in filled.items() if had and not (key in stopped and has_files(stopped[key]))]:
        raise _not_in_the_snapshot(tx, lost, "had files while the app ran and has none now that it is stopped")


def _not_in_the_snapshot(tx: Transaction, keys: list[str], why: str) -> CanonqError:
    listed = ", ".join(f"'{key}'" for key in keys)
    return CanonqError(
        f"The volume {listed} of {tx.recipe} {why}: a snapshot would lack what was there.",
        mend="look at what the app or its volume driver does when the app stops.",
        code="snapshot-lacks-data",
    )


def _ended_badly(running: Running, killed: tuple[str, ...]) -> list[str]:
    """What a person should know of services with data that were killed, as they had not ended within their grace."""
    found = []
    for service in killed:
        of = running.prepared.filled.resolved.services.get(service)
        if of is not None and any(mount.kind == "volume" and not mount.read_only for mount in of.mounts):
            grace = of.body.get("stop_grace_period") or "10s, Docker's own"
            found.append(
                f"{service} was killed, as it had not ended {grace} after it was told to stop: what it had not written down "
                "by then is not in the snapshot; give it a longer stop_grace_period"
            )
    return found


def _keep(tx: Transaction, running: Running) -> Kept:
    """Make the volumes durable, and keep snapshot, secrets and resolved stack beside the old canonical."""
    volumes = _volumes(tx, running)
    for path in volumes.values():
        sync_tree(path)
    tx.folder.mkdir(parents=True, mode=0o700)
    kept = snapshots.take(volumes, tx.folder, _progress(tx))
    tx.world.registry.keep_secrets(tx.folder, dict(running.prepared.secrets))
    write_durably(tx.folder / RESOLVED, (running.deployment.work / RESOLVED).read_bytes())
    return snapshots.seal(kept, tx.folder)


def _record(tx: Transaction, running: Running, kept: Kept, warm: Warmed, damaged: bool) -> Canonical:
    """Write the new canonical's record beside its snapshot; it is whole now, and not in force yet. `damaged`: whether the old
    one's snapshot is."""
    stamp, names = tx.world.stamp(), running.stack.volumes
    lost = tx.world.registry.name_of(tx.old) if damaged else None
    holds = still_held(tx.old.rolled_back if tx.old else [], [(str(tx.verdict.version), str(tx.verdict.commit))])
    record = Canonical(
        **{
            **(dict(tx.old.model_extra or {}) if tx.old else {}),  # what others have written beside our keys
            "recipe": tx.recipe,
            "version": tx.verdict.version,
            "commit": tx.verdict.commit,
            "status": "idle",
            "ts": stamp,
            "schema": SCHEMA,
            "promoted_at": stamp,
            "run": tx.verdict.run,
            "level": tx.verdict.level,
            "images": dict(running.images),
            "volumes": sorted(names[key] for key in _volumes(tx, running)),
            "snapshot": kept,
            "ledger": [mark.model_dump(mode="json") for mark in warm.ledger],
            "populated": tx.verdict.version if tx.populates else tx.carried.populated if tx.carried else None,
            "populated_for": warm.fits or (tx.carried.populated_for if tx.carried else None),
            "fence": tx.held.fence,
            "previous": tx.old.model_dump(mode="json", by_alias=True, exclude={"previous"}) if tx.old else None,
            # Those of older releases too: once this one is rolled back itself, a late run of theirs must not pass the gate.
            "rolled_back": [back.model_dump(mode="json") for back in holds],
            "arrived": tx.old.arrived.model_dump(mode="json") if tx.old and tx.old.arrived else None,
            "remade": {"by": tx.again.by, "at": stamp, "reason": tx.again.reason, "damaged": lost} if tx.again else None,
        }
    )  # fmt: skip
    tx.world.registry.write_own(record, tx.owner)
    return record


def _retire(tx: Transaction, record: Canonical) -> None:
    """Let go of the old canonical's volumes, and of canonicals beyond `keep`: the new one is durable."""
    try:
        reclaim(tx.world, tx.recipe, record)
        for line in retire(tx.world, tx.recipe, record):
            log.info("%s: %s", tx.recipe, line)
    except (CanonqError, OSError) as error:  # it is the canonical all the same
        log.info("%s: the janitor will remove what the old canonical has left: %s", tx.recipe, error)


def _volumes(tx: Transaction, running: Running) -> dict[str, Path]:
    found = {key: tx.world.volumes.volume_path(name) for key, name in running.stack.volumes.items()}
    return {key: path for key, path in found.items() if path is not None}


def _progress(tx: Transaction) -> Callable[[int], None]:
    told = time.monotonic()

    def tell(count: int) -> None:
        nonlocal told
        check_stop()
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            log.info("%s: snapshot of %s, %d MiB read", tx.recipe, tx.verdict.version, count >> 20)

    return tell
