"""Whether two stacks of a recipe can be up on one host at the same time. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from canonq.core.stack.lengths import size
from canonq.core.stack.resolved import Service, Stack

#: Bytes that a service which says nothing is counted with, and that are to be left on the host for all else.
_USUAL, _LEFT = 128 * 2**20, 256 * 2**20
_MOST_NAMED = 5


def asked_memory(service: Service) -> int:
    """Bytes that a service reserves or is limited to, whichever is more; 0 where it says nothing."""
    resources = service.deploy.get("resources") or {}
    asked = [(resources.get(kind) or {}).get("memory") for kind in ("reservations", "limits")]
    return int(max(size(value) or 0 for value in asked))


def why_apart(one: Stack, other: Stack, free: int | None) -> str:
    """Why two stacks of a recipe cannot be up at the same time; empty when they can.

    `free`: bytes of memory that the host has to give; None where that is not known.
    """
    if shared := sorted(_published(one) & _published(other)):
        return f"both publish the port {shared[0]} of this host"
    if kept := sorted(_of_the_host(one) & _of_the_host(other)):
        return f"both write to {kept[0]}, which is this host's"
    if common := sorted(_subnets(one) & _subnets(other)):
        return f"both have a network with the fixed subnet {common[0]}"
    if routed := sorted(_routes(one) & _routes(other)):
        return f"both have the label {routed[0]}, which says nothing of which of them it is"
    need = _needed(one) + _needed(other)
    if free is not None and need + _LEFT > free:
        return f"together they may need {need >> 20} MiB of memory, and the host has {free >> 20} MiB to give"
    return ""


def clash(stack: Stack) -> str | None:
    """What is wrong with a stack that publishes one port of the host twice: Docker gives it to one of them alone."""
    taken: dict[tuple[str, str], str] = {}
    for service in stack.services.values():
        tasks = _tasks(service)
        for port in service.ports:
            if port.published is None or (port.mode == "host" and not tasks):
                continue
            key = str(port.published), port.protocol
            if (other := taken.setdefault(key, service.name)) != service.name:
                return f"the services '{other}' and '{service.name}' both publish the port {key[0]}/{key[1]} of the host"
            if port.mode == "host" and tasks > 1:
                return (
                    f"each of the {tasks} replicas of '{service.name}' publishes the port {key[0]}/{key[1]} of the host itself "
                    "(mode: host)"
                )
    return None


def more_than_a_node_takes(stack: Stack) -> str:
    """For people: a service that asks for more tasks than one node may have of it; empty where none does."""
    for service in stack.services.values():
        placement = service.deploy.get("placement")
        most = placement.get("max_replicas_per_node") if isinstance(placement, dict) else None
        if most and (asked := _tasks(service)) > int(most):
            return (
                f"services.{service.name}.deploy asks for {asked} replicas, and for {most} on each node at the most "
                "(max_replicas_per_node)"
            )
    return ""


def in_its_own_way(service: Service) -> str | None:
    """Why a new task of a service never gets the port that the old one, which it is to replace, still has; None where it does."""
    held = sorted(str(port.published) for port in service.ports if port.published is not None and port.mode == "host")
    if not held or service.policy("update_config").get("order") != "start-first":
        return None
    return (
        f"'{service.name}' publishes the port {held[0]} itself (mode: host), and its new task is to start before the old one ends"
    )


def _tasks(service: Service) -> int:
    """How many tasks of a service there are on one node."""
    said = service.deploy.get("replicas")
    if str(service.deploy.get("mode") or "replicated").startswith("global") or said is None or isinstance(said, bool):
        return 1
    try:
        return max(0, int(said))
    except (TypeError, ValueError):
        return 1


def of_the_host(stack: Stack) -> frozenset[str]:
    """What a stack has of its host that no other can have meanwhile: ports, subnets, volumes of others that it writes to."""
    volumes = {
        f"the volume {named.name}"
        for service in stack.services.values()
        for mount in service.mounts
        if not mount.read_only and (named := stack.volumes.get(mount.source)) is not None and named.external
    }
    subnets = {f"the subnet {subnet}" for subnet in _subnets(stack)}
    return frozenset(volumes | subnets | {f"the port {port}" for port in _published(stack)})


def fixed_subnets(stack: Stack) -> str:
    """For people: networks of a stack that ask for a subnet of their own choice; empty where none does."""
    found = [f"'{name}' asks for the subnet {subnet}" for name, subnet in _fixed(stack)]
    return ", ".join(found[:_MOST_NAMED])


def _subnets(stack: Stack) -> set[str]:
    return {subnet for _, subnet in _fixed(stack)}


def _fixed(stack: Stack) -> Iterator[tuple[str, str]]:
    for network in stack.networks.values():
        ipam = network.body.get("ipam")
        pools = ipam.get("config") if isinstance(ipam, dict) and not network.external else None
        for pool in pools if isinstance(pools, list) else ():
            if isinstance(pool, dict) and pool.get("subnet"):
                yield network.key, str(pool["subnet"])


def _published(stack: Stack) -> set[str]:
    return {str(port.published) for service in stack.services.values() for port in service.ports if port.published is not None}


def _of_the_host(stack: Stack) -> set[str]:
    """Paths and volumes that are not the stack's own, of those that it writes to."""
    return set(_written(stack))


def _written(stack: Stack) -> Iterator[str]:
    for service in stack.services.values():
        for mount in service.mounts:
            named = stack.volumes.get(mount.source)
            if not mount.read_only and (mount.kind == "bind" or (named is not None and named.external)):
                yield named.name if named is not None else mount.source


def _routes(stack: Stack) -> set[str]:
    """Traefik's rules for hosts that carry no name of the stack's: of two that share one, Traefik takes neither."""
    return {
        label
        for service in stack.services.values()
        for label in service.labels
        if label.startswith("traefik.http.routers.") and label.endswith(".rule")
    }


def _needed(stack: Stack) -> int:
    total = 0
    for service in stack.services.values():
        replicas = service.deploy.get("replicas")
        count = replicas if isinstance(replicas, int) and not isinstance(replicas, bool) else 1
        total += max(0, count) * (asked_memory(service) or _USUAL)
    return total
