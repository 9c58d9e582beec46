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

from canonq.core.stack.mounts import host_path
from canonq.core.stack.resolved import Declared, Mount, Service, Stack

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
_HOSTS = re.compile(r"[`\"']([^`\"']+)[`\"']")
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


def refusals(stack: Stack, *, allow: Sequence[str] = (), name: str, domain: str) -> tuple[Denied, ...]:
    """Everything in a resolved stack that untrusted code may not have and `allow` does not name."""
    allowed = {*allow, *(port for word in allow for port in _each_port(word))}
    return tuple(dict.fromkeys(denied for denied in _all(stack, name, domain) if denied.what not in allowed))


def _each_port(word: str) -> Iterator[str]:
    """The words for each port of a range of them."""
    if found := _RANGE.fullmatch(word):
        yield from (f"port:{port}" for port in range(int(found[1]), int(found[2]) + 1))


def _all(stack: Stack, name: str, domain: str) -> Iterator[Denied]:
    for service in stack.services.values():
        where = f"services.{service.name}"
        for mount in service.mounts:
            yield from _mount(f"{where}.volumes", mount, stack)
        for port in service.ports:
            if port.published is not None:
                yield Denied(f"port:{port.published}", f"{where}.ports", f"takes the port {port.published} of the host")
        for key, value in service.body.items():
            yield from _service_key(f"{where}.{key}", key, value)
        yield from _routes(f"{where}.deploy.labels", service, name, domain)
    for section in ("networks", "volumes", "configs", "secrets"):
        for declared in stack.declared(section).values():
            yield from _declared(section, declared, name)


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


def _routes(where: str, service: Service, stack: str, domain: str) -> Iterator[Denied]:
    """Routers, services and middlewares are global in traefik: a label could take over another app's address."""
    for label, value in service.labels.items():
        parts = label.split(".")
        if len(parts) < 4 or parts[0] != "traefik":
            continue
        if stack not in parts[3]:
            yield Denied(f"{parts[2]}:{parts[3]}", where, f"takes the name {parts[3]} among all routes ({parts[2]}:{parts[3]})")
        if parts[-1] == "rule":
            hosts = _HOSTS.findall(str(value))
            foreign = [host for host in hosts if host != domain and not host.endswith(f".{domain}")]
            if foreign or not hosts or "HostRegexp" in str(value) or "HostSNI" in str(value):
                host = foreign[0] if foreign else "*"
                yield Denied(f"route:{host}", where, f"takes requests for {host} (route:{host})")


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
    elif section == "networks" and declared.driver not in ("", "overlay"):
        yield Denied(f"network:{declared.driver}", where, f"asks for the network driver {declared.driver}")


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(item: Any) -> str:
    return str(item.get("source", item)) if isinstance(item, Mapping) else str(item)
