"""restore: a canonical's data as a live stack under another name, for a person to look at."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from functools import partial

from canonq.adapters.data import snapshots
from canonq.adapters.files import remove_tree
from canonq.adapters.state.work_folders import alive, asked_to_stop
from canonq.core.budget import Need, gib, is_long
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE, LABEL_STACK, LABEL_VOLUME, Identity
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, WrongUse
from canonq.core.names import recipe_name, shown, volume_key
from canonq.core.records import Canonical, Snapshot
from canonq.flows.deploying.deployment import bring_up
from canonq.flows.deploying.pulling import images_taken
from canonq.flows.deploying.secrecy import unsaid
from canonq.flows.deploying.stages import Account, Deployment
from canonq.flows.keeping.data import CanonicalMoved, copy_canonical
from canonq.flows.keeping.floor import floor_held
from canonq.flows.keeping.janitor import RESTORED as KIND
from canonq.flows.keeping.leftovers import must_not_be_lost
from canonq.flows.keeping.room import make_room, room_for
from canonq.flows.promoting.rollback import choose
from canonq.flows.proving.evidence import beside_bytes, volume_bytes
from canonq.flows.world import Tell, World, untold

log = logging.getLogger("canonq")

_MOST_TRIES = 3  #: to copy a canonical that is replaced meanwhile
_STACK = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def restore(world: World, recipe: str, stack: str, *, to: str | None = None, tell: Tell = untold) -> dict[str, str]:
    """Deploy the canonical, or a kept one, on a copy of its data as `stack`, and leave it running. `tell`: what takes long, as it
    begins.
    """
    enrolment = world.checkout.enrolment(recipe)
    record = world.registry.read(enrolment.recipe)
    if record is None:
        must_not_be_lost(world, enrolment.recipe)
        what = f"{enrolment.recipe} has no canonical, so there is nothing to restore."
        raise WrongUse(what, mend=f"`canonq sweep {enrolment.recipe}` makes one.", code="no-canonical")
    name = _stack_name(stack)
    world.engine.preflight()
    for attempt in range(_MOST_TRIES):
        kept = None if to in (None, record.version) else choose(world, record, to)
        chosen = kept.record if kept else record
        if not chosen.has_data:
            raise WrongUse(
                f"The record of the canonical {chosen.version} of {chosen.recipe} names no data, as those of older servers: "
                "the stack would begin with empty volumes, so it was not made.",
                mend=f"`canonq promote {chosen.recipe} --again --reason TEXT` makes the canonical again and keeps its data.",
                code="no-data-kept",
            )
        try:
            return _bring_back(world, enrolment, chosen, kept.snapshot if kept else None, name, tell)
        except CanonicalMoved:
            if attempt + 1 == _MOST_TRIES:
                raise
            record = world.registry.read(enrolment.recipe) or record
    raise AssertionError("the last try gives an answer or an error")


def _is_free(world: World, record: Canonical, stack: str) -> None:
    """WrongUse when something in Docker has the name already; a volume needs no label of Swarm's to be somebody's."""
    volumes = [f"{stack}_{volume_key(record.recipe, name)}" for name in record.volumes]
    taken = world.stacks.observe(stack)[0] or world.volumes.volumes_of(stack)
    if taken or any(world.volumes.volume_path(volume) for volume in volumes):
        raise WrongUse(f"There is something called '{stack}' in Docker already.", mend="choose another name.", code="stack-taken")


def _bring_back(
    world: World, enrolment: Enrolment, chosen: Canonical, kept: Snapshot | None, name: str, tell: Tell
) -> dict[str, str]:
    _is_free(world, chosen, name)
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
    account, work, left = Account(), world.work / owner, False
    app = account.begins(Deployment(identity, enrolment, work / "tree", work / "app", account))
    what = f"The restore of {enrolment.recipe} {chosen.version} as {name}"
    need = _need(world, chosen)
    with room_for(world, what, need, otherwise=make_room) as room, alive(work), unsaid(account.secrecy):

        def measure() -> None:
            own = Need(volumes=volume_bytes(world, identity), images=images_taken(world, account))
            room.took(own + beside_bytes(world, identity))

        try:
            with floor_held(world.budget, room, what, measure, partial(asked_to_stop, work)):
                app.work.mkdir(mode=0o700)
                if is_long(need.volumes):
                    tell(f"{enrolment.recipe}: copying the data of {chosen.version}, {gib(need.volumes)} ...")
                secrets = _data(world, app, chosen, kept)
                world.repos.checkout(enrolment.recipe, chosen.commit, app.tree, enrolment.tree)
                tell(f"{enrolment.recipe}: bringing up {chosen.version} as {name} ...")
                bring_up(world, replace(app, secrets=secrets), "restore", time.monotonic() + enrolment.limits.run)
        except BaseException:
            left = True  # also where a person cuts the removal short
            tell(f"{enrolment.recipe}: it does not come up; removing what was made of {name} ...")
            left = not _is_taken_away(world, identity)
            raise
        finally:
            world.repos.drop_checkout(enrolment.recipe, app.tree)
            if left:  # by its folder the janitor knows that nobody has asked for what is there
                remove_tree(app.work)
            else:
                remove_tree(work)
    return {"recipe": enrolment.recipe, "version": chosen.version, "stack": name, "domain": identity.domain}


def _need(world: World, record: Canonical) -> Need:
    """What a copy of a canonical's data takes."""
    kept = record.snapshot
    return Need(volumes=kept.unpacked if kept is not None else world.settings.disk_need)


def _is_taken_away(world: World, identity: Identity) -> bool:
    """Take away what an unfinished restore has made; False, and the janitor goes on, where that could not be done."""
    try:
        world.ownership.remove_owned(identity.labels, world.settings.teardown_timeout)
    except CanonqError as error:
        log.warning(
            "%s: not all of the unfinished stack %s could be removed; `canonq janitor` goes on with it: %s",
            identity.recipe, identity.stack, error,
        )  # fmt: skip
        return False
    return True


def remove(world: World, recipe: str, stack: str) -> dict[str, list[str]]:
    """Remove a restored stack with its copy of the data; what was removed. WrongUse when there is none."""
    # Also of a recipe that is enrolled no more.
    mine = {LABEL_INSTANCE: world.instance, LABEL_KIND: KIND, LABEL_RECIPE: recipe_name(recipe)}
    found = world.ownership.remove_owned({**mine, LABEL_STACK: _stack_name(stack)}, world.settings.teardown_timeout)
    if not found:
        what = f"No restored stack of {recipe} is called {shown(stack)}."
        raise WrongUse(what, mend="`docker stack ls` has the names of those that run.", code="not-restored")
    return found


def _stack_name(text: str) -> str:
    if not _STACK.fullmatch(text) or text.startswith("warm-"):
        raise WrongUse(
            f"{shown(text)} cannot be the name of a restored stack.",
            mend="use lower-case letters, digits and '-', at most 40, not beginning with warm-.",
            code="bad-stack-name",
        )
    return text


def _data(world: World, app: Deployment, record: Canonical, kept: Snapshot | None) -> dict[str, str]:
    """Give it an older canonical's data from its snapshot `kept`, the present one's from its retained volumes; their secrets."""
    if kept is None:
        return copy_canonical(world, app, record)
    secrets = world.registry.secrets(record)
    app.account.secrecy.secrets(secrets)
    folders = {}
    for key in (volume_key(record.recipe, name) for name in record.volumes):
        labels = {**app.identity.labels, LABEL_VOLUME: key}
        folders[key] = world.volumes.make_volume(app.volume_name(key), labels, app.identity.stack)
    snapshots.unpack(kept, folders)
    return secrets
