"""A promotion as a list of steps (docs/rules.md 5.1): killed before, in or after any of them, it is begun again from the first.

New data is built beside the old, under names of its own; the switch is the one durable write of canonical.json.
Until then the old canonical is whole, after it the new one is. The first step removes what a killed promotion
built, so that doing all of them again is the same as doing them once.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from canonq.adapters import snapshots
from canonq.adapters.budget import Reservation
from canonq.adapters.disks import bytes_below
from canonq.adapters.files import write_durably, write_json
from canonq.adapters.stopping import check_stop
from canonq.adapters.volumes import has_files, sync_tree
from canonq.core.budget import Need
from canonq.core.deployable import LABEL_INSTANCE, LABEL_OWNER, Identity
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError
from canonq.core.gate import Again
from canonq.core.mounts import mount
from canonq.core.names import warm_stack
from canonq.core.records import SCHEMA, Canonical, Verdict
from canonq.core.records import Snapshot as Kept
from canonq.core.versions import is_newer
from canonq.flows.data import copy_canonical
from canonq.flows.deployment import App, bring_up, images_taken, tear_down
from canonq.flows.evidence import volume_bytes
from canonq.flows.floor import floor_held
from canonq.flows.janitor import JOURNAL, clean, is_in_force, reclaim, retire
from canonq.flows.neighbours import bring_up_neighbour, plan_neighbour
from canonq.flows.secrecy import unsaid
from canonq.flows.world import World
from canonq.ports import Held

log = logging.getLogger("canonq")

_FOR_GOOD = "switch"  #: the step from which on a promotion goes through: what is left of it takes no room
_TELL_EVERY = 10.0  #: seconds between two words about a long snapshot


@dataclass
class Transaction:
    """One promotion of one proven version, under way."""

    world: World
    enrolment: Enrolment
    verdict: Verdict  #: has passed the gate
    held: Held
    owner: str
    room: Reservation  #: what is kept of the disk for it
    again: Again | None = None  #: a person wants the canonical anew, at its own version
    old: Canonical | None = None
    neighbours: list[App] = field(default_factory=list)
    kept: Kept | None = None
    record: Canonical | None = None
    notes: list[str] = field(default_factory=list)  #: what a person should know

    def __post_init__(self) -> None:
        """Plan the app at the warm domain; nothing is made yet but its scratch folder."""
        recipe, version, commit = self.enrolment.recipe, self.verdict.version, self.verdict.commit
        assert version and commit  # the gate has asked
        self.old = self.world.registry.read(recipe)
        stack = warm_stack(recipe)
        identity = Identity(
            instance=self.world.instance,
            kind="warm",
            recipe=recipe,
            owner=self.owner,
            stack=stack,
            domain=f"{stack}.{self.world.settings.zone}",
            version=version,
            commit=commit,
        )
        work, suffix = self.world.work / self.owner, self.owner.rpartition("-")[2]
        self.app = App(identity, self.enrolment, tree=work / "tree", work=work / "app", volume_suffix=suffix)
        self.app.sweep = self.verdict.sweep
        self.folder = self.world.registry.generation(recipe, self.owner)

    @property
    def apps(self) -> tuple[App, ...]:
        """All that is deployed for it."""
        return (self.app, *self.neighbours)

    @property
    def carries(self) -> bool:
        """Whether the new version starts on a copy of the canonical's data."""
        return self.old is not None and self.old.has_data and self.enrolment.promote.data == "carry"

    @property
    def data(self) -> str:
        """What the new canonical's data is."""
        if self.old is not None and self.carries:
            return f"carried from {self.old.version}"
        return "a clean install" if self.old is None or self.enrolment.promote.data == "fresh" else "empty volumes"


def carry_out(tx: Transaction) -> None:
    """Do all steps. Whatever stops it before the switch, the old canonical is whole and nothing runs.

    From the switch on it is the canonical, also when something raises: ask `is_in_force`.
    """
    with unsaid(lambda: tx.apps):
        _carry_out(tx)


def _carry_out(tx: Transaction) -> None:
    world, recipe = tx.world, tx.enrolment.recipe
    world.engine.preflight()
    try:
        what = f"The promotion of {recipe} {tx.verdict.version}"
        with floor_held(world.budget, tx.room, what, lambda: _measure(tx)) as watch:
            for name, act in STEPS:
                if name == _FOR_GOOD:
                    watch.end()
                check_stop()
                write_json(world.work / tx.owner / JOURNAL, {"recipe": recipe, "version": tx.verdict.version, "step": name})
                act(tx)
    except BaseException:
        # Whatever ends us, a time limit too: an idle canonical has no running service. But what the record
        # names by now is not ours to remove, even if the write was reported as failed.
        if not is_in_force(world, recipe, tx.held):
            with contextlib.suppress(CanonqError):
                world.engine.remove_owned(_mine(tx), world.settings.teardown_timeout)
                shutil.rmtree(tx.folder, ignore_errors=True)
        raise
    finally:
        _clear(tx)


def _clear(tx: Transaction) -> None:
    """Remove what the promotion needed besides; what cannot be removed now, the janitor takes."""
    world = tx.world
    for neighbour in tx.neighbours:
        with contextlib.suppress(CanonqError, OSError):
            tear_down(world, neighbour)
    for each in (tx.app, *tx.neighbours):
        with contextlib.suppress(CanonqError, OSError):
            world.repos.drop_checkout(each.identity.recipe, each.tree)
    shutil.rmtree(world.work / tx.owner, ignore_errors=True)


def _measure(tx: Transaction) -> None:
    """Say to its reservation what the promotion takes while it goes on; called beside it."""
    images = sum(images_taken(tx.world, app) for app in (tx.app, *tx.neighbours))
    tx.room.took(Need(volumes=volume_bytes(tx.world, tx.app), images=images, state=bytes_below(tx.folder)))


def _mine(tx: Transaction) -> dict[str, str]:
    return {LABEL_INSTANCE: tx.world.instance, LABEL_OWNER: tx.owner}


# -- the steps ----------------------------------------------------------------------------------------------


def _reclaim(tx: Transaction) -> None:
    """Remove what a killed promotion left, and see that nobody else's stack has the name."""
    world, recipe = tx.world, tx.enrolment.recipe
    clean(world, recipe=recipe)
    left = reclaim(world, recipe, tx.old)
    if any(left.values()):
        log.warning("%s: an interrupted promotion had left %s", recipe, ", ".join(kind for kind in left if left[kind]))
    services, _ = world.engine.observe(tx.app.identity.stack)
    if services:
        raise CanonqError(
            f"A stack '{tx.app.identity.stack}' runs that is not canonq's own.",
            mend="give that stack another name.",
            code="foreign-stack",
        )


def _carry(tx: Transaction) -> None:
    """Copy the canonical's volumes, for the new version to start on."""
    tx.app.work.mkdir(mode=0o700)
    if tx.carries and tx.old is not None:
        copy_canonical(tx.world, tx.app, tx.old)


def _deploy(tx: Transaction) -> None:
    """Bring it up at the warm domain, with what it depends on beside it, until it answers."""
    tx.world.repos.checkout(tx.enrolment.recipe, tx.app.identity.commit, tx.app.tree, tx.enrolment.tree)
    deadline = time.monotonic() + tx.enrolment.limits.run
    for name in tx.enrolment.deps:
        tx.neighbours.append(plan_neighbour(tx.world, tx.app, name))
        tx.notes += bring_up_neighbour(tx.world, tx.app, tx.neighbours[-1], deadline)
    bring_up(tx.world, tx.app, "promote", deadline)
    moved = [service for service, digest in tx.app.images.items() if _has_moved(tx, service, digest)]
    if moved:
        raise CanonqError(
            f"The image of '{moved[0]}' is not the one that was tested (a moving tag?).",
            mend="test again; ask the recipe to name a fixed image.",
            code="image-moved",
        )
    tx.held.check()


def _has_moved(tx: Transaction, service: str, digest: str) -> bool:
    """Whether a service's image is not the one that was tested. An image may have several digests, and its id is another
    once the Engine keeps its images in another way."""
    tested = tx.verdict.images.get(service)
    assert tx.app.deployed is not None  # bring_up has set it
    return tested != digest and not (tested and tx.world.engine.is_image(tx.app.deployed.images[service], tested))


def _stop(tx: Transaction) -> None:
    """Take it down again: an idle canonical runs nothing, and stopped data is consistent."""
    running = {key: has_files(path) for key, path in _volumes(tx).items()}
    if mounted := [key for key, path in _volumes(tx).items() if path.is_mount()]:
        raise _not_in_the_snapshot(tx, mounted, "is mounted from elsewhere, and is empty once nobody uses it")
    killed = tx.world.engine.undeploy(tx.app.identity.stack, tx.world.settings.teardown_timeout)
    tx.notes += _ended_badly(tx, killed)
    stopped = _volumes(tx)
    if lost := [key for key, had in running.items() if had and not (key in stopped and has_files(stopped[key]))]:
        raise _not_in_the_snapshot(tx, lost, "had files while the app ran and has none now that it is stopped")


def _not_in_the_snapshot(tx: Transaction, keys: list[str], why: str) -> CanonqError:
    listed = ", ".join(f"'{key}'" for key in keys)
    return CanonqError(
        f"The volume {listed} of {tx.enrolment.recipe} {why}: a snapshot would lack what was there.",
        mend="look at what the app or its volume driver does when the app stops.",
        code="snapshot-lacks-data",
    )


def _ended_badly(tx: Transaction, killed: tuple[str, ...]) -> list[str]:
    """What a person should know of services with data that were killed, as they had not ended within their grace."""
    found = []
    for service in killed:
        body = tx.app.resolved["services"].get(service) or {}
        if any(mount(item).kind == "volume" and not mount(item).read_only for item in body.get("volumes") or []):
            grace = body.get("stop_grace_period") or "10s, Docker's own"
            found.append(
                f"{service} was killed, as it had not ended {grace} after it was told to stop: what it had not written down "
                "by then is not in the snapshot; give it a longer stop_grace_period"
            )
    return found


def _keep(tx: Transaction) -> None:
    """Make the volumes durable, and keep snapshot, secrets and resolved stack beside the old canonical."""
    volumes = _volumes(tx)
    for path in volumes.values():
        sync_tree(path)
    tx.folder.mkdir(parents=True, mode=0o700)
    kept = snapshots.take(volumes, tx.folder, _progress(tx))
    tx.world.registry.keep_secrets(tx.folder, tx.app.secrets)
    write_durably(tx.folder / "resolved.json", (tx.app.work / "resolved.json").read_bytes())
    tx.kept = snapshots.seal(kept, tx.folder)


def _record(tx: Transaction) -> None:
    """Write the new canonical's record beside its snapshot; it is whole now, and not in force yet."""
    assert tx.app.deployed is not None  # _deploy has set it
    stamp = tx.world.stamp()
    names = tx.app.deployed.volumes
    tx.record = Canonical(
        **{
            **(dict(tx.old.model_extra or {}) if tx.old else {}),  # what others have written beside our keys
            "recipe": tx.enrolment.recipe,
            "version": tx.verdict.version,
            "commit": tx.verdict.commit,
            "status": "idle",
            "ts": stamp,
            "schema": SCHEMA,
            "promoted_at": stamp,
            "run": tx.verdict.run,
            "level": tx.verdict.level,
            "images": tx.app.images,
            "volumes": sorted(names[key] for key in _volumes(tx)),
            "snapshot": tx.kept,
            "fence": tx.held.fence,
            "previous": tx.old.model_dump(mode="json", by_alias=True, exclude={"previous"}) if tx.old else None,
            "rolled_back": [back.model_dump(mode="json") for back in (tx.old.rolled_back if tx.old else [])
                            if is_newer(back.version, str(tx.verdict.version))],
            "remade": {"by": tx.again.by, "at": stamp, "reason": tx.again.reason} if tx.again else None,
        }
    )  # fmt: skip
    tx.world.registry.write_own(tx.record, tx.owner)


def _switch(tx: Transaction) -> None:
    """The one write that makes it the canonical."""
    assert tx.record is not None  # _record has made it
    tx.world.registry.write(tx.record, tx.held)


def _retire(tx: Transaction) -> None:
    """Let go of the old canonical's volumes, and of canonicals beyond `keep`: the new one is durable."""
    assert tx.record is not None  # _record has made it
    try:
        reclaim(tx.world, tx.enrolment.recipe, tx.record)
        for line in retire(tx.world, tx.enrolment.recipe, tx.record):
            log.warning("%s: %s", tx.enrolment.recipe, line)
    except (CanonqError, OSError) as error:  # it is the canonical all the same
        log.warning("%s: the janitor will remove what the old canonical has left: %s", tx.enrolment.recipe, error)


STEPS: tuple[tuple[str, Callable[[Transaction], None]], ...] = (
    ("reclaim", _reclaim),
    ("carry", _carry),
    ("deploy", _deploy),
    ("stop", _stop),
    ("keep", _keep),
    ("record", _record),
    ("switch", _switch),
    ("retire", _retire),
)


def _volumes(tx: Transaction) -> dict[str, Path]:
    assert tx.app.deployed is not None  # _deploy has set it
    found = {key: tx.world.engine.volume_path(name) for key, name in tx.app.deployed.volumes.items()}
    return {key: path for key, path in found.items() if path is not None}


def _progress(tx: Transaction) -> Callable[[int], None]:
    told = time.monotonic()

    def tell(count: int) -> None:
        nonlocal told
        check_stop()
        if time.monotonic() - told > _TELL_EVERY:
            told = time.monotonic()
            log.warning("%s: snapshot of %s, %d MiB read", tx.enrolment.recipe, tx.verdict.version, count >> 20)

    return tell
