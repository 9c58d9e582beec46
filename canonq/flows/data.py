"""The canonical's data for somebody else to work on: always a copy, the retained volumes themselves are mounted by nobody."""

from __future__ import annotations

from canonq.adapters.volumes import copy_tree
from canonq.core.deployable import LABEL_VOLUME
from canonq.core.errors import CanonqError
from canonq.core.records import Canonical
from canonq.flows.deployment import App
from canonq.flows.world import World


def copy_canonical(world: World, app: App, record: Canonical) -> None:
    """Give `app` a copy of a canonical's volumes and its secrets, before it is deployed."""
    app.secrets.update(world.registry.secrets(record))
    for name in record.volumes:
        source, key = world.engine.volume_path(name), world.engine.volume_label(name, LABEL_VOLUME)
        if source is None or key is None:
            raise CanonqError(
                f"The retained volume {name} of the canonical {record.version} is gone.",
                mend=f"`canonq rollback {record.recipe} --to '{record.version}' --reason ...` unpacks its snapshot again.",
                code="canonical-data-missing",
            )
        labels = {**app.identity.labels, LABEL_VOLUME: key}
        copy_tree(source, world.engine.make_volume(app.volume_name(key), labels, app.identity.stack))
