"""The canonical's data for somebody else to work on: always a copy, the retained volumes themselves are mounted by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from canonq.adapters.data import snapshots
from canonq.adapters.data.archives import copy_tree, sync_tree
from canonq.adapters.docker.disks import bytes_below
from canonq.adapters.files import remove_tree
from canonq.adapters.state.budget import Reservation
from canonq.adapters.state.work_folders import alive
from canonq.core.budget import Need
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE, LABEL_STATE, LABEL_VOLUME
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.names import kept_volume, volume_key, warm_stack
from canonq.core.records import Canonical, Healed, Snapshot
from canonq.flows.deploying.stages import Deployment
from canonq.flows.keeping.floor import floor_held
from canonq.flows.world import World
from canonq.ports import Held


class CanonicalMoved(CanonqError):
    """Another canonical was promoted while the data of the one before was copied."""

    code = "canonical-moved"


def copy_canonical(world: World, app: Deployment, record: Canonical) -> dict[str, str]:
    """Make a copy of a canonical's volumes for `app`, before it is deployed; the secrets that belong to that data.

    CanonicalMoved when a promotion let go of them meanwhile: nothing is wrong, and the next try has the new one's.
    """
    try:
        secrets = _copy(world, app, record)
    except CanonqError as error:
        if _is_present(world, record):
            raise
        raise _moved(record) from error
    # What was let go of while it was copied may have been copied in part.
    if not _is_present(world, record):
        raise _moved(record)
    return secrets


def _is_present(world: World, record: Canonical) -> bool:
    now = world.registry.read(record.recipe)
    return now is not None and now.volumes == record.volumes


def _moved(record: Canonical) -> CanonicalMoved:
    return CanonicalMoved(
        f"The canonical {record.version} of {record.recipe} was replaced while its data was copied.",
        mend="try again; the new canonical's data will be taken.",
    )


def _copy(world: World, app: Deployment, record: Canonical) -> dict[str, str]:
    secrets = world.registry.secrets(record)
    app.account.secrecy.secrets(secrets)
    sources = {name: source for name in record.volumes if (source := _source(world, record, name)) is not None}
    gone = [name for name in record.volumes if name not in sources]
    if gone and _problem(record):
        raise CanonqError(
            f"The retained volume {' and '.join(gone)} of the canonical {record.version} is gone.",
            mend=_unpack_again(record),
            code="canonical-data-missing",
        )
    folders = {}
    for key in (volume_key(record.recipe, name) for name in record.volumes):
        labels = {**app.identity.volume_labels, LABEL_VOLUME: key}
        folders[key] = world.volumes.make_volume(app.volume_name(key), labels, app.identity.stack)
    if gone and record.snapshot is not None:  # all of it: data of two moments is no data
        snapshots.unpack(record.snapshot, folders)
        app.account.notes.append(
            f"data-from-snapshot: the retained volume {' and '.join(gone)} of the canonical {record.version} is gone; "
            "the data was taken from its snapshot"
        )
        return secrets
    for name, source in sources.items():
        copy_tree(source, folders[volume_key(record.recipe, name)])
    return secrets


def _source(world: World, record: Canonical, name: str) -> Path | None:
    """Where a retained volume is; None where it is gone, or one of that name that is another's stands in its place."""
    ours = {LABEL_VOLUME: volume_key(record.recipe, name), LABEL_INSTANCE: world.instance}
    is_ours = all(world.volumes.volume_label(name, label) == value for label, value in ours.items())
    return world.volumes.volume_path(name) if is_ours else None


def unpack_retained(world: World, record: Canonical, kept: Snapshot, owner: str, room: Reservation, what: str) -> list[str]:
    """Make retained volumes of a canonical anew from its snapshot; their names, which are `owner`'s. Durable when it returns.

    `room` is kept for them, by `what`. NoRoom where a disk was below its floor, and this was the work to end.
    """
    stack = warm_stack(record.recipe)
    labels = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: record.recipe, LABEL_OWNER: owner,
              LABEL_STATE: world.place}  # fmt: skip
    names = {key: kept_volume(record.recipe, key, owner) for key in (volume_key(record.recipe, name) for name in record.volumes)}

    def measure() -> None:
        mine = world.ownership.volumes_owned({LABEL_INSTANCE: world.instance, LABEL_OWNER: owner})
        room.took(Need(volumes=sum(map(bytes_below, mine.values()))))

    with floor_held(world.budget, room, what, measure):
        folders = {key: world.volumes.make_volume(name, {**labels, LABEL_VOLUME: key}, stack) for key, name in names.items()}
        snapshots.unpack(kept, folders)
        for folder in folders.values():
            sync_tree(folder)
    return sorted(names.values())


def heal(world: World, record: Canonical, held: Held) -> str | None:
    """Unpack the present canonical's snapshot again where somebody removed a retained volume; a sentence on what was done.

    Nothing is done where the snapshot is no longer whole. The canonical stays what it was, with its fence: who was proven from
    it may still be promoted. NoRoom where the disk has none for its data.
    """
    gone, recipe = _to_unpack(world, record), record.recipe
    if not gone or record.snapshot is None:
        return None
    owner, what = world.new_id(recipe), f"The healing of {recipe} {record.version}"
    need = Need(volumes=record.snapshot.unpacked)
    with world.budget.reserve(what, need) as room, alive(world.work / owner, stoppable=False):
        try:
            volumes = unpack_retained(world, record, record.snapshot, owner, room, what)
            healed = Healed(at=world.stamp(), volumes=gone)
            world.registry.write(record.model_copy(update={"volumes": volumes, "healed": healed, "ts": world.stamp()}), held)
        except BaseException:
            # Where the record was written all the same, they are the canonical's.
            if (now := _readable(world, recipe)) is not None and now.volumes == record.volumes:
                world.ownership.remove_owned({LABEL_OWNER: owner}, world.settings.teardown_timeout)
            raise
        finally:
            remove_tree(world.work / owner)
    return (
        f"{recipe}: the retained volume {' and '.join(gone)} of the canonical {record.version} was gone; "
        "its snapshot was unpacked again"
    )


def what_to_heal(world: World, record: Canonical) -> str | None:
    """What `heal` would do, as a sentence."""
    gone = _to_unpack(world, record)
    what = f"{record.recipe}: would unpack the snapshot of the canonical {record.version} again: {' and '.join(gone)} is gone"
    return what if gone else None


def _to_unpack(world: World, record: Canonical) -> list[str]:
    """Retained volumes that are gone, where a whole snapshot can take their place. HostProblem without Docker."""
    if all(_source(world, record, name) is not None for name in record.volumes):
        return []
    there = set(world.ownership.owned({LABEL_INSTANCE: world.instance})["volumes"])  # asked again, as much follows from it
    gone = [name for name in record.volumes if name not in there]
    return [] if gone and _problem(record) else gone


def _problem(record: Canonical) -> str | None:
    return "no snapshot is named" if record.snapshot is None else snapshots.problem_of(record.snapshot)


def lost_data(world: World) -> list[str]:
    """A sentence for each canonical of which somebody removed a retained volume or the snapshot, with the way back.

    Of volumes nothing where Docker is away.
    """
    records = [record for name in world.registry.recipes() if (record := _readable(world, name)) is not None and record.volumes]
    return [*_lost_volumes(world, records), *(told for record in records if (told := _lost_snapshot(record)))]


def _lost_snapshot(record: Canonical) -> str | None:
    if record.snapshot is None or Path(record.snapshot.path).exists():
        return None
    return (
        f"The snapshot of the canonical {record.version} of {record.recipe} is gone: {record.snapshot.path}. Mend: "
        f"{how_to_remake(record)}."
    )


def _lost_volumes(world: World, records: Sequence[Canonical]) -> list[str]:
    if not records:
        return []
    try:
        # With all else: an Engine that lost its swarm, as on a disk that is not mounted, is no witness.
        there = set(world.ownership.owned({LABEL_INSTANCE: world.instance})["volumes"])
    except HostProblem:  # that is told elsewhere
        return []
    found = []
    for record in records:
        gone = [name for name in record.volumes if name not in there]
        if other := next((label for name in gone if (label := _others(world, record, name))), None):
            found.append(_of_another(world, record, gone, other))
        elif gone:
            what = f"The retained volume {' and '.join(gone)} of the canonical {record.version} of {record.recipe} is gone."
            found.append(f"{what} Mend: {_unpack_again(record)}")
    return found


def _others(world: World, record: Canonical, name: str) -> str | None:
    """The id of the installation that a retained volume is of, where it is there all the same and is of another one."""
    if world.volumes.volume_label(name, LABEL_VOLUME) != volume_key(record.recipe, name):
        return None
    return world.volumes.volume_label(name, LABEL_INSTANCE)


def _of_another(world: World, record: Canonical, names: Sequence[str], other: str) -> str:
    return (
        f"The retained volume {' and '.join(names)} of the canonical {record.version} of {record.recipe} is there, and is of "
        f"another installation: its label {LABEL_INSTANCE} says {other}, and this one is {world.instance}. Mend: where this is "
        f"the same one, and only its id was lost, write {other} into {world.settings.state / 'instance'}; else "
        f"{_unpack_again(record)}"
    )


def _readable(world: World, recipe: str) -> Canonical | None:
    try:
        mark = world.registry.elsewhere(recipe)
        return None if mark is not None and mark.state == "gone" else world.registry.read(recipe)
    except CanonqError:  # the recipe's own, in its own place
        return None


def _unpack_again(record: Canonical) -> str:
    return f"`canonq rollback {record.recipe} --to '{record.version}' --reason ...` unpacks its snapshot again."


def how_to_remake(record: Canonical) -> str:
    """What makes a canonical again at its own version, with its data and a new snapshot."""
    return f"`canonq test {record.recipe} --tag '{record.version}'`, then `canonq promote {record.recipe} --again --reason ...`"
