"""What the code of a branch or pull request may ask of this host. Pure.

Such code is not trusted (docs/rules.md 3). What is known to be harmless passes; everything else is refused, also what
this file has never heard of, unless the enrolment allows it by name under `[refs] allow`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canonq.core.errors import RecipeProblem
from canonq.core.stack.images import image_name, is_inside
from canonq.core.stack.lengths import seconds
from canonq.core.stack.mounts import host_path
from canonq.core.stack.resolved import Declared, Mount, Service, Stack
from canonq.core.stack.routes import MOST_HOSTS, MOST_ROUTERS, routed, strange_labels

SHARED_NETWORK = "proxy"
_SOCKET = "docker.sock"
_SOCKET_FOLDERS = ("/", "/var", "/var/run", "/run")
_HARMLESS = frozenset({
    "build", "cap_drop", "command", "configs", "container_name", "depends_on", "deploy", "dns", "dns_opt", "dns_search",
    "domainname", "entrypoint", "env_file", "environment", "expose", "extra_hosts", "healthcheck", "hostname", "image", "init",
    "labels", "links", "networks", "oom_score_adj", "platform", "ports", "read_only", "restart", "secrets", "shm_size",
    "stdin_open", "stop_grace_period", "stop_signal", "tmpfs", "tty", "ulimits", "user", "volumes", "working_dir",
})  # fmt: skip
_LOGGING = ("json-file", "local", "none", "journald")
_RANGE = re.compile(r"port:([0-9]{1,5})-([0-9]{1,5})")
LONGEST_GRACE = 300  #: seconds
#: Limits of what a process takes itself, and others do without. Not among them: `rtprio` and `nice`, by which it goes before the
#: processes of others whatever the limit of its processors is, and `core`, which the host keeps.
_OWN_LIMITS = frozenset({
    "as", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nofile", "nproc", "rss", "sigpending", "stack",
})  # fmt: skip
#: Each takes its place in Swarm's store, in the kernel or among addresses, whatever its services are limited to.
_MOST = {"services": 40, "networks": 20, "volumes": 100, "secrets": 100, "configs": 200}
_NAMESPACES = {"network_mode": "network", "pid": "pid", "ipc": "ipc", "userns_mode": "userns", "uts": "uts", "cgroup": "cgroup"}
_LISTS = {
    "cap_add": "cap",
    "devices": "device",
    "security_opt": "security-opt",
    "sysctls": "sysctl",
    "volumes_from": "volumes-from",
}


@dataclass(frozen=True)
class Denied:
    """One thing that is refused."""

    what: str  #: the word that would allow it under [refs] allow
    where: str
    why: str


def refusals(stack: Stack, *, allow: Sequence[str] = (), name: str, domain: str, front: str = "app") -> tuple[Denied, ...]:
    """Everything in a resolved stack that untrusted code may not have and `allow` does not name.

    `front`: the service that is asked whether the app answers, and alone may be where the ingress reaches it.
    """
    allowed = {*allow, *(port for word in allow for port in _each_port(word))}
    return tuple(dict.fromkeys(denied for denied in _all(stack, name, domain, front) if denied.what not in allowed))


def _each_port(word: str) -> Iterator[str]:
    """The words for each port of a range of them."""
    if found := _RANGE.fullmatch(word):
        yield from (f"port:{port}" for port in range(int(found[1]), int(found[2]) + 1))


def _all(stack: Stack, name: str, domain: str, front: str) -> Iterator[Denied]:
    for service in stack.services.values():
        where = f"services.{service.name}"
        for mount in service.mounts:
            yield from _mount(f"{where}.volumes", mount, stack)
        for port in service.ports:
            if port.published is not None:
                yield Denied(f"port:{port.published}", f"{where}.ports", f"takes the port {port.published} of the host")
        for key, value in service.body.items():
            yield from _service_key(f"{where}.{key}", key, value)
        yield from _labels(f"{where}.deploy.labels", service.labels, name, domain)
        yield from _labels(f"{where}.labels", service.container_labels, name, domain)
        yield from _networks(stack, service, front)
        yield from _registry(f"{where}.image", service.image)
        yield from _taking(service)
    for section, most in _MOST.items():
        if (count := len(getattr(stack, section))) > most:
            yield Denied(f"many-{section}", section, f"there are {count} {section}; {most} are the most")
    yield from _routes(stack)
    for section in ("networks", "volumes", "configs", "secrets"):
        for declared in stack.declared(section).values():
            yield from _declared(section, declared, name)
            labels = {str(label): None if value is None else str(value) for label, value in declared.labels.items()}
            yield from _labels(f"{section}.{declared.key}.labels", labels, name, domain)


def among_others(stack: Stack, service: Service) -> bool:
    """Whether a service is in a network that its stack does not make, so that its names there are among those of other apps."""
    return any(
        (declared := stack.networks.get(key)) is not None and declared.external for key in service.networks or ("default",)
    )


def _service_key(where: str, key: str, value: Any) -> Iterator[Denied]:
    if key == "logging":
        driver = value.get("driver", "json-file") if isinstance(value, Mapping) else value
        if driver not in _LOGGING:
            yield Denied(f"logging:{driver}", where, f"has the Engine itself send its logs elsewhere ({driver})")
    elif key == "privileged":
        if value not in (False, None, "false"):
            yield Denied("privileged", where, "asks for all the rights of the host")
    elif key in _NAMESPACES:
        if value is not None:
            yield Denied(f"{_NAMESPACES[key]}:{value}", where, f"asks for {value!s} as its {_NAMESPACES[key]} namespace")
    elif key in _LISTS:
        names = value if isinstance(value, Mapping) else [_text(item) for item in _items(value)]
        for name in names:
            yield Denied(f"{_LISTS[key]}:{name}", where, f"asks for {name}")
    elif not key.startswith("x-") and key not in _HARMLESS:
        yield Denied(key.replace("_", "-"), where, "is nothing that is known to be harmless")


def _labels(where: str, labels: Mapping[str, str | None], stack: str, domain: str) -> Iterator[Denied]:
    for strange in strange_labels(labels, stack=stack, domain=domain, network=SHARED_NETWORK):
        yield Denied(strange.word, where, strange.why)


def _routes(stack: Stack) -> Iterator[Denied]:
    """The ingress keeps each for all apps, whatever it is for."""
    routers, hosts = set[str](), set[str]()
    for service in stack.services.values():
        for labels in (service.labels, service.container_labels):
            own, asked = routed(labels)
            routers, hosts = routers | own, hosts | asked
    for kind, count, most in (("routers", len(routers), MOST_ROUTERS), ("hosts", len(hosts), MOST_HOSTS)):
        if count > most:
            yield Denied(f"many-{kind}", "labels", f"the ingress is told of {count} {kind}; {most} are the most")


def _networks(stack: Stack, service: Service, front: str) -> Iterator[Denied]:
    """Docker's names for a service hold in every network that it is in: in the shared one, for everybody's apps."""
    where = f"services.{service.name}.networks"
    named = service.networks or ({} if service.body.get("network_mode") else {"default": None})
    for key, said in named.items():
        declared = stack.networks.get(key)
        shared = declared is not None and declared.external and declared.name == SHARED_NETWORK
        if shared and service.name != front:
            word = f"{SHARED_NETWORK}:{service.name}"
            yield Denied(
                word, where, f"is in the network of all apps, under the name {service.name}, and not the one asked ({word})"
            )
        for option in said if isinstance(said, Mapping) else ():
            if shared or option not in ("aliases", "priority"):
                word = f"network-{option.replace('_', '-')}:{key}"
                yield Denied(word, f"{where}.{key}", f"asks for {option} there ({word})")


def _registry(where: str, image: str) -> Iterator[Denied]:
    """Docker asks whatever registry a name has, from the host itself and on its loopback address without TLS."""
    try:
        registry = image_name(image).registry
    except RecipeProblem:
        return  # that it is no name is told of releases too
    if is_inside(registry):
        yield Denied(
            f"registry:{registry}",
            where,
            f"would have Docker ask {registry}, which is not a public registry (registry:{registry})",
        )


def _taking(service: Service) -> Iterator[Denied]:
    """What would outlast every limit, or keep from others what a limit does not count."""
    where, body = f"services.{service.name}", service.body
    grace = seconds(body.get("stop_grace_period"))
    if grace is None or grace > LONGEST_GRACE:
        yield Denied("stop-grace-period", f"{where}.stop_grace_period", f"wants more than {LONGEST_GRACE} s to stop in")
    if "oom_score_adj" in body and not str(body["oom_score_adj"]).isdecimal():
        yield Denied("oom-score-adj", f"{where}.oom_score_adj", "would have others killed before it when memory is short")
    for limit in limits if isinstance(limits := body.get("ulimits"), Mapping) else ():
        if limit not in _OWN_LIMITS:
            yield Denied(
                f"ulimit:{limit}", f"{where}.ulimits", f"asks for {limit}, which is not of itself alone (ulimit:{limit})"
            )
    resources = service.deploy.get("resources")
    reserved = resources.get("reservations") if isinstance(resources, Mapping) else None
    for item in _items(reserved.get("generic_resources")) if isinstance(reserved, Mapping) else ():
        yield Denied("generic-resources", f"{where}.deploy.resources", f"reserves {_text(item)[:60]} for itself")


def _mount(where: str, mount: Mount, stack: Stack) -> Iterator[Denied]:
    if mount.kind in ("volume", "tmpfs") and (not mount.source or mount.source in stack.volumes):
        return
    path = host_path(mount.source)
    yield Denied(f"bind:{path}", where, f"mounts {path} of the host ({'bind' if mount.kind == 'volume' else mount.kind}:{path})")
    if posixpath.basename(path) == _SOCKET or path in _SOCKET_FOLDERS:
        yield Denied("docker-socket", where, "reaches the Docker socket (docker-socket), which is as good as root")


def _declared(section: str, declared: Declared, stack: str) -> Iterator[Denied]:
    where, kind = f"{section}.{declared.key}", section.removesuffix("s")
    if declared.external:
        own = section in ("configs", "secrets") and declared.name.startswith(f"{stack}_")
        if not own and not (section == "networks" and declared.name == SHARED_NETWORK):
            yield Denied(f"{kind}:{declared.name}", where, f"asks for the {kind} {declared.name}, which is not its own")
        return
    if section == "volumes":
        if declared.driver not in ("", "local"):
            yield Denied(f"driver:{declared.driver}", where, f"asks for the volume driver {declared.driver}")
        if declared.options:
            device = str(declared.options.get("device", ""))
            yield Denied(f"bind:{device or declared.key}", where, f"mounts {device or 'something'} by options of the driver")
    elif section == "networks":
        if declared.driver not in ("", "overlay"):
            yield Denied(f"network:{declared.driver}", where, f"asks for the network driver {declared.driver}")
        if declared.body.get("ipam"):
            yield Denied("network-ipam", where, "chooses its own addresses, which may be those of others")
        for option in declared.options:
            if option != "encrypted":
                yield Denied(f"network-option:{option}", where, f"gives its driver the option {option}")
    elif declared.driver:
        yield Denied(f"driver:{declared.driver}", where, f"asks for the {kind} driver {declared.driver}")


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(item: Any) -> str:
    return str(item.get("source", item)) if isinstance(item, Mapping) else str(item)
