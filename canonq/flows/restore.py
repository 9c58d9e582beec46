"""restore: a canonical's data as a live stack under another name, for a person to look at."""

from __future__ import annotations

import re
import shutil
import time

from canonq.adapters import snapshots
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE, LABEL_STACK, LABEL_VOLUME, Identity
from canonq.core.errors import WrongUse
from canonq.core.names import shown, volume_key
from canonq.core.records import Canonical
from canonq.flows.data import copy_canonical
from canonq.flows.deployment import App, bring_up
from canonq.flows.janitor import alive
from canonq.flows.rollback import choose
from canonq.flows.world import World

KIND = "restored"
_STACK = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def restore(world: World, recipe: str, stack: str, *, to: str | None = None) -> dict[str, str]:
    """Deploy the canonical, or a kept one, on a copy of its data as `stack`, and leave it running."""
    enrolment = world.checkout.enrolment(recipe)
    record = world.registry.read(enrolment.recipe)
    if record is None:
        raise WrongUse(f"{enrolment.recipe} has no canonical, so there is nothing to restore.", code="no-canonical")
    name = _stack_name(stack)
    world.engine.preflight()
    if world.engine.observe(name)[0] or world.engine.volumes_of(name):
        raise WrongUse(f"There is something called '{name}' in Docker already.", mend="choose another name.", code="stack-taken")
    chosen = record if to in (None, record.version) else choose(world, record, to)
    owner = world.new_id(enrolment.recipe)
    identity = Identity(
        instance=world.instance,
        kind=KIND,
        recipe=enrolment.recipe,
        owner=owner,
        stack=name,
        domain=f"{name}.{world.settings.zone}",
        version=chosen.version,
        commit=chosen.commit,
    )
    app = App(identity, enrolment, tree=world.work / owner / "tree", work=world.work / owner / "app")
    with alive(world.work / owner):
        try:
            app.work.mkdir(mode=0o700)
            _data(world, app, chosen, present=chosen is record)
            world.repos.checkout(enrolment.recipe, chosen.commit, app.tree, enrolment.tree)
            bring_up(world, app, "restore", time.monotonic() + enrolment.limits.run)
        except BaseException:
            world.engine.remove_owned(identity.labels, world.settings.teardown_timeout)
            raise
        finally:
            world.repos.drop_checkout(enrolment.recipe, app.tree)
            shutil.rmtree(world.work / owner, ignore_errors=True)
    return {"recipe": enrolment.recipe, "version": chosen.version, "stack": name, "domain": identity.domain}


def remove(world: World, recipe: str, stack: str) -> dict[str, list[str]]:
    """Remove a restored stack with its copy of the data; what was removed. WrongUse when there is none."""
    mine = {LABEL_INSTANCE: world.instance, LABEL_KIND: KIND, LABEL_RECIPE: world.checkout.enrolment(recipe).recipe}
    found = world.engine.remove_owned({**mine, LABEL_STACK: _stack_name(stack)}, world.settings.teardown_timeout)
    if not found:
        raise WrongUse(f"No restored stack of {recipe} is called {shown(stack)}.", code="not-restored")
    return found


def _stack_name(text: str) -> str:
    if not _STACK.fullmatch(text) or text.startswith("warm-"):
        raise WrongUse(
            f"{shown(text)} cannot be the name of a restored stack.",
            mend="use lower-case letters, digits and '-', at most 40, not beginning with warm-.",
            code="bad-stack-name",
        )
    return text


def _data(world: World, app: App, record: Canonical, *, present: bool) -> None:
    """The present canonical's data is in its retained volumes, an older one's in its snapshot."""
    if present:
        copy_canonical(world, app, record)
        return
    assert record.snapshot is not None  # kept ones have one
    app.secrets.update(world.registry.secrets(record))
    folders = {}
    for key in (volume_key(record.recipe, name) for name in record.volumes):
        labels = {**app.identity.labels, LABEL_VOLUME: key}
        folders[key] = world.engine.make_volume(app.volume_name(key), labels, app.identity.stack)
    snapshots.unpack(record.snapshot, folders)
