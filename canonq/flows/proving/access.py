"""Whether an app may still write to where its data is, seen from its processes and the folders of its volumes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from canonq.adapters.data.access import processes_below, use_of
from canonq.core.errors import CanonqError, RecipeProblem
from canonq.core.stack.access import Process, Use, locked_out
from canonq.flows.deploying.stages import Running
from canonq.flows.world import World


def uses(world: World, running: Running) -> dict[str, Use]:
    """How each volume that something running may write to is used; those of which nothing can be seen are left out."""
    by_name = {name: key for key, name in running.stack.volumes.items()}
    processes: dict[str, list[Process]] = defaultdict(list)
    mounted = [(volume, service) for volume, service, _ in world.containers.mounted(running.stack.stack)]
    of_services = {service: _processes(world, running, service) for service in {service for _, service in mounted}}
    for volume, service in mounted:
        processes[volume] += of_services[service]
    found = {}
    for volume, seen in processes.items():
        folder = world.volumes.volume_path(volume)
        if folder is not None and seen and volume in by_name:
            found[by_name[volume]] = use_of(folder, seen)
    return found


def _processes(world: World, running: Running, service: str) -> list[Process]:
    try:
        return processes_below(world.containers.process_of(running.stack.stack, service))
    except CanonqError:  # it has ended, as one-shots do
        return []


def still_written(before: Mapping[str, Use], after: Mapping[str, Use], was: str) -> list[str]:
    """What to note of volumes that nobody may write to any more. RecipeProblem where the version `was`, before it, did."""
    noted = []
    for lost in locked_out(before, after):
        if lost.before.does:
            raise RecipeProblem(
                f"{str(lost).capitalize()}; {was} wrote there as user {' and '.join(map(str, lost.before.users))}.",
                mend="the release has to give the data to its new user when it starts, or to run as the one before.",
                code="data-not-writable",
            )
        noted.append(f"not-writable: {lost}; {was} could, and was not seen to")
    return noted
