"""The canonical's data for somebody else to work on: always a copy, the retained volumes themselves are mounted by nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from canonq.adapters.data.archives import copy_tree
from canonq.core.deployable import LABEL_INSTANCE, LABEL_VOLUME
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.records import Canonical
from canonq.flows.stages import Deployment
from canonq.flows.world import World


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
    for name in record.volumes:
        source, key = world.volumes.volume_path(name), world.volumes.volume_label(name, LABEL_VOLUME)
        if source is None or key is None:
            raise CanonqError(
                f"The retained volume {name} of the canonical {record.version} is gone.",
                mend=_unpack_again(record),
                code="canonical-data-missing",
            )
        labels = {**app.identity.labels, LABEL_VOLUME: key}
        copy_tree(source, world.volumes.make_volume(app.volume_name(key), labels, app.identity.stack))
    return secrets


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
        there = set(world.ownership.owned({LABEL_INSTANCE: world.instance})["volumes"])
    except HostProblem:  # that is told elsewhere
        return []
    found = []
    for record in records:
        if gone := [name for name in record.volumes if name not in there]:
            what = f"The retained volume {' and '.join(gone)} of the canonical {record.version} of {record.recipe} is gone."
            found.append(f"{what} Mend: {_unpack_again(record)}")
    return found


def _readable(world: World, recipe: str) -> Canonical | None:
    try:
        return world.registry.read(recipe)
    except CanonqError:  # the recipe's own, in its own place
        return None


def _unpack_again(record: Canonical) -> str:
    return f"`canonq rollback {record.recipe} --to '{record.version}' --reason ...` unpacks its snapshot again."


def how_to_remake(record: Canonical) -> str:
    """What makes a canonical again at its own version, with its data and a new snapshot."""
    return f"`canonq test {record.recipe} --tag '{record.version}'`, then `canonq promote {record.recipe} --again --reason ...`"
