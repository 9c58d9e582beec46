"""A deployment's images: had, counted, and let go of."""

from __future__ import annotations

import contextlib
import time

from canonq.adapters.processes.stopping import check_stop
from canonq.core.ago import duration
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.pulls import Limit, mirrored
from canonq.core.stack.images import image_name
from canonq.core.sweeps.outages import not_asked
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.stages import Account, Brought, Deployment
from canonq.flows.world import World

_MOST_PAUSE = 60.0  #: seconds that a pull waits so that a registry's limit lasts; for more, the recipe makes way
_LEFT_ALONE = 60.0  #: seconds that a registry which is down is left alone, where nothing is tried again


def have_images(world: World, deployment: Deployment, references: list[str], timeout: float) -> dict[str, str]:
    """Have every image, noting which of them canonq brought here: those alone it may remove some day."""
    account, identity = deployment.account, deployment.identity
    there = world.images.image_sizes(references)
    ours = {image.reference for image in world.pulled.all()}
    if noted := [reference for reference in references if reference not in there or reference in ours]:
        world.pulled.add(identity.recipe, identity.version, noted)
    new = [reference for reference in references if reference not in there]
    ends = time.monotonic() + timeout
    account.brought += [Brought(reference, identity.recipe, identity.version) for reference in new]
    account.free_before_pull = _free_for_images(world) if new else None
    try:
        with world.pulled.pulling():
            for reference in new:
                _pull(world, deployment.sweep, reference, left(ends))
        digests = world.images.ensure_images(references, left(ends))
        account.free_before_pull = None
        account.pulled_bytes += sum(world.images.image_sizes(new).values()) if new else 0
    finally:
        # Of a pull that was cut short as well.
        account.pulled_bytes, account.free_before_pull = images_taken(world, account), None
    check_stop()
    return digests


def have_ahead(world: World, deployment: Deployment, references: tuple[str, ...], deadline: float) -> None:
    """Have a release's images before anything is deployed.

    One that is there for nobody, or a registry that is down, need not cost a deployment of the base.
    """
    with deployment.account.timed("ahead.pull"):
        have_images(world, deployment, list(references), left(deadline))


def images_taken(world: World, account: Account) -> int:
    """Bytes that images of this work take; of a pull under way, what is less free since it began."""
    if account.free_before_pull is None:
        return account.pulled_bytes
    return account.pulled_bytes + max(0, account.free_before_pull - _free_for_images(world))


def _free_for_images(world: World) -> int:
    return next((disk.free + disk.reserved for disk in world.budget.disks() if "images" in disk.holds), 0)


def let_go_of_images(world: World, account: Account) -> None:
    """Remove the images that were brought here for this work alone; what anything else needs, Docker keeps."""
    for one in account.brought:
        with contextlib.suppress(CanonqError):
            if world.images.drop_image(one.reference):
                for image in world.pulled.all():
                    if (image.reference, image.recipe, image.version) == (one.reference, one.recipe, one.version):
                        world.pulled.forget(image)


def _pull(world: World, sweep: str | None, reference: str, timeout: float) -> None:
    """Pull one image, unless another recipe of the sweep has found its registry down a moment ago."""
    outages = world.sweeps.outages(sweep) if sweep else None
    registry, now = image_name(reference).registry, world.now().timestamp()
    if outages and (outage := outages.of(registry)) and outage.stops(reference, now):
        raise not_asked(outage, now)
    other = mirrored(reference, world.settings.registries.mirrors)
    if other is not None and world.images.had_from(other, reference, timeout):
        return
    _within_its_limit(world, registry, timeout)
    try:
        world.images.ensure_images([reference], timeout)
    except HostProblem as error:
        if sweep and outages and error.outside:
            outages.note(error, reference, world.now().timestamp(), world.first_pause(sweep) or _LEFT_ALONE)
        raise
    if outages:
        outages.over(registry)


def _within_its_limit(world: World, registry: str, timeout: float) -> None:
    """Count a pull of a registry, and wait before it where its limit would else be used up. HostProblem for a long wait."""
    granted = world.settings.registries.limits.get(registry)
    limit = Limit(granted.pulls, granted.window) if granted is not None else None
    ends = time.monotonic() + min(_MOST_PAUSE, timeout / 2)
    while (wait := world.pulls.take(registry, world.now().timestamp(), limit)) > 0:
        if limit is not None and time.monotonic() + wait > ends:
            raise HostProblem(
                f"{registry} grants {limit.pulls} pulls in {duration(limit.window)}, and so many were made that the next one "
                f"waits for {duration(wait)}.",
                mend="it is tried again by itself; a mirror ([registries] mirrors) spares the limit.",
                code="registry-limit",
                outside=registry,
                retry_after=wait,
            )
        check_stop()
        time.sleep(min(wait, 1.0))
