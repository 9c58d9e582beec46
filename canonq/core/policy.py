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

from canonq.core.compose import as_map, external_name, is_external

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


def refusals(resolved: Mapping[str, Any], *, allow: Sequence[str] = (), stack: str, domain: str) -> tuple[Denied, ...]:
    """Everything in a resolved stack that untrusted code may not have and `allow` does not name."""
    found = [denied for denied in _all(resolved, stack, domain) if denied.what not in allow]
    return tuple(dict.fromkeys(found))


def _all(resolved: Mapping[str, Any], stack: str, domain: str) -> Iterator[Denied]:
    for name, body in (resolved.get("services") or {}).items():
        where = f"services.{name}"
        if not isinstance(body, Mapping):
            yield _unreadable(where)
            continue
        for key, value in body.items():
            yield from _service_key(f"{where}.{key}", str(key), value)
        yield from _routes(f"{where}.deploy.labels", body.get("deploy"), stack, domain)
    for section in ("networks", "volumes", "configs", "secrets"):
        for key, body in (resolved.get(section) or {}).items():
            yield from _declared(section, str(key), body, stack)


def _service_key(where: str, key: str, value: Any) -> Iterator[Denied]:
    if key == "volumes":
        for item in _items(value):
            yield from _mount(where, item)
    elif key == "ports":
        for item in _items(value):
            yield from _port(where, item)
    elif key == "logging":
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


def _routes(where: str, deploy: Any, stack: str, domain: str) -> Iterator[Denied]:
    """Routers, services and middlewares are global in traefik: a label could take over another app's address."""
    labels = as_map(deploy.get("labels")) if isinstance(deploy, Mapping) else {}
    for label, value in labels.items():
        parts = str(label).split(".")
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


def _mount(where: str, item: Any) -> Iterator[Denied]:
    if isinstance(item, str):
        parts = item.split(":")
        source = parts[0] if len(parts) > 1 else ""
        if len(parts) == 1 and item.startswith("/"):
            return  # an anonymous volume
        kind = "bind" if source[:1] in ("/", ".", "~", "\\", "$") or "/" in source else "volume"
    elif isinstance(item, Mapping):
        kind, source = str(item.get("type", "volume")), str(item.get("source") or "")
    else:
        yield _unreadable(where)
        return
    if kind in ("volume", "tmpfs") and "/" not in source:
        return
    path = posixpath.normpath(source) if source else source
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    yield Denied(f"bind:{path}", where, f"mounts {path} of the host ({'bind' if kind == 'volume' else kind}:{path})")
    if posixpath.basename(path) == _SOCKET or path in _SOCKET_FOLDERS:
        yield Denied("docker-socket", where, "reaches the Docker socket (docker-socket), which is as good as root")


def _port(where: str, item: Any) -> Iterator[Denied]:
    if isinstance(item, Mapping):
        published = item.get("published")
        if published is not None:
            yield Denied(f"port:{published}", where, f"takes the port {published} of the host")
    elif isinstance(item, str | int):
        parts = str(item).split(":")
        if len(parts) > 1:
            yield Denied(f"port:{parts[-2]}", where, f"takes the port {parts[-2]} of the host")
    else:
        yield _unreadable(where)


def _declared(section: str, key: str, body: Any, stack: str) -> Iterator[Denied]:
    where, kind = f"{section}.{key}", section.removesuffix("s")
    if not isinstance(body, Mapping):
        if body is not None:
            yield _unreadable(where)
        return
    if is_external(body):
        name = external_name(key, body)
        own = section in ("configs", "secrets") and name.startswith(f"{stack}_")
        if not own and not (section == "networks" and name == SHARED_NETWORK):
            yield Denied(f"{kind}:{name}", where, f"asks for the {kind} {name}, which is not its own")
        return
    driver = str(body.get("driver") or "")
    if section == "volumes":
        if driver not in ("", "local"):
            yield Denied(f"driver:{driver}", where, f"asks for the volume driver {driver}")
        options = body.get("driver_opts") or {}
        if options:
            device = str(options.get("device", "")) if isinstance(options, Mapping) else ""
            yield Denied(f"bind:{device or key}", where, f"mounts {device or 'something'} by options of the driver")
    elif section == "networks" and driver not in ("", "overlay"):
        yield Denied(f"network:{driver}", where, f"asks for the network driver {driver}")


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(item: Any) -> str:
    return str(item.get("source", item)) if isinstance(item, Mapping) else str(item)


def _unreadable(where: str) -> Denied:
    return Denied("unreadable", where, "cannot be understood")
