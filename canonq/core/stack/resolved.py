"""The resolved stack: what is deployed, and the one shape of it that every rule reads. Pure.

What compose files say in a short form is brought into the long one here and nowhere else (`long_form`), before files are
merged, and in the long form it is given to Docker: no second reader of the short one could see something else in it.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from canonq.core.text import did_you_mean, shown, whole_number

SECTIONS = ("services", "networks", "volumes", "secrets", "configs")
_MAPS = ("environment", "labels", "sysctls")  #: written as a list or as a mapping
_TEXTS = ("env_file", "dns", "dns_search", "tmpfs")  #: written as a text or as a list
_KINDS = ("volume", "bind", "tmpfs", "npipe", "cluster")  #: of mounts
#: Keys of an entry in its long form, by section.
_KEYS = {
    "volumes": ("type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs", "cluster"),
    "ports": ("target", "published", "protocol", "mode"),
    "configs": ("source", "target", "uid", "gid", "mode"),
    "secrets": ("source", "target", "uid", "gid", "mode"),
}
_OPTIONS = ("bind", "volume", "tmpfs")  #: that a mount of the same kind may have
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_PORT = re.compile(r"(?P<first>[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?")
HIGHEST_PORT = 65535
_MOST_OF_ONE = 20_000  #: ports of one service, ranges written out
_PROTOCOLS = ("tcp", "udp", "sctp")


class Unreadable(ValueError):
    """An entry of a service that Docker cannot read either."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


@dataclass(frozen=True)
class Mount:
    """One entry of a service's `volumes`."""

    kind: str  #: volume, bind, tmpfs, npipe, cluster, ...
    source: str  #: a volume's key, or a path of the host; empty: an anonymous one
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Port:
    """One port of a service."""

    target: Any
    published: Any  #: port of the host, or None where Docker may choose one
    mode: str
    protocol: str = "tcp"


@dataclass(frozen=True)
class Service:
    """One service, in the long form."""

    name: str
    image: str  #: empty where it has none
    labels: Mapping[str, str | None]  #: under deploy, which is where Co-op Cloud's tools look
    container_labels: Mapping[str, str | None]
    mounts: tuple[Mount, ...]
    ports: tuple[Port, ...]
    networks: Mapping[str, Any]
    configs: tuple[str, ...]  #: keys
    secrets: tuple[str, ...]  #: keys
    depends_on: tuple[str, ...]
    healthcheck: Mapping[str, Any]
    deploy: Mapping[str, Any]
    body: Mapping[str, Any] = field(repr=False)  #: all of it, as Docker is given it

    @property
    def volumes(self) -> frozenset[str]:
        """Keys of the volumes that it mounts."""
        return frozenset(one.source for one in self.mounts if one.kind == "volume" and one.source)

    def policy(self, key: str) -> Mapping[str, Any]:
        """One of its policies under deploy: update_config, rollback_config, restart_policy."""
        return _mapping(self.deploy.get(key))


@dataclass(frozen=True)
class Declared:
    """A network, volume, config or secret that a stack declares."""

    key: str
    external: bool  #: made elsewhere
    name: str  #: the name it is said to have in Docker, or its key
    driver: str
    options: Mapping[str, Any]  #: of its driver
    file: str | None  #: of the recipe, from which it is made
    labels: Mapping[str, Any]
    body: Mapping[str, Any] = field(repr=False)  #: all of it


@dataclass(frozen=True)
class Stack:
    """All of it."""

    version: str
    services: Mapping[str, Service]
    networks: Mapping[str, Declared]
    volumes: Mapping[str, Declared]
    secrets: Mapping[str, Declared]
    configs: Mapping[str, Declared]

    @property
    def images(self) -> dict[str, str]:
        """Service -> image reference."""
        return {name: service.image for name, service in self.services.items()}

    def declared(self, section: str) -> Mapping[str, Declared]:
        """What a section other than `services` declares."""
        found: Mapping[str, Declared] = getattr(self, section)
        return found

    def written(self) -> dict[str, Any]:
        """The stack as one compose file, in the long form."""
        sections = {section: {key: one.body for key, one in getattr(self, section).items()} for section in SECTIONS}
        return {"version": self.version, **sections}


def stack_of(merged: Mapping[str, Any]) -> Stack:
    """Give a merged compose file its type. Unreadable for an entry that Docker cannot read either."""
    declared = {
        section: {str(key): _declared(str(key), _mapping(body)) for key, body in _mapping(merged.get(section)).items()}
        for section in SECTIONS[1:]
    }
    services = {str(name): _service(str(name), _mapping(body)) for name, body in _mapping(merged.get("services")).items()}
    return Stack(str(merged.get("version", "3.8")), services, **declared)


def _service(name: str, said: Mapping[str, Any]) -> Service:
    body = long_form(said)
    deploy = _mapping(body.get("deploy"))
    image = body.get("image")
    return Service(
        name=name,
        image=image if isinstance(image, str) else "",
        labels=_texts(deploy.get("labels")),
        container_labels=_texts(body.get("labels")),
        mounts=tuple(_mount(item) for item in _list(body.get("volumes"))),
        ports=tuple(
            Port(
                item.get("target"),
                item.get("published"),
                str(item.get("mode") or "ingress"),
                str(item.get("protocol") or "tcp"),
            )
            for item in _list(body.get("ports"))
        ),
        networks=_mapping(body.get("networks")),
        configs=tuple(str(item.get("source")) for item in _list(body.get("configs"))),
        secrets=tuple(str(item.get("source")) for item in _list(body.get("secrets"))),
        depends_on=tuple(map(str, body.get("depends_on") or ())),
        healthcheck=_mapping(body.get("healthcheck")),
        deploy=deploy,
        body=body,
    )


def _declared(key: str, body: Mapping[str, Any]) -> Declared:
    external = body.get("external")
    old = external.get("name") if isinstance(external, Mapping) else None  # a form of old files
    file = body.get("file")
    return Declared(
        key=key,
        external=bool(external),
        name=str(body.get("name") or old or key),
        driver=str(body.get("driver") or ""),
        options=_mapping(body.get("driver_opts")),
        file=None if file is None else str(file),
        labels=as_map(body.get("labels")),
        body={**body, "labels": as_map(body["labels"])} if "labels" in body else body,
    )


def _mount(item: Mapping[str, Any]) -> Mount:
    read_only = item.get("read_only") in (True, "true")
    return Mount(str(item.get("type") or "volume"), str(item.get("source") or ""), str(item.get("target") or ""), read_only)


# -- the long form ------------------------------------------------------------------------------------------


def long_form(body: Mapping[str, Any]) -> dict[str, Any]:
    """A service with all that has a short form in its long one. Unreadable for what Docker cannot read either."""
    made = {str(key): value for key, value in body.items()}
    for key in _MAPS:
        if key in made:
            made[key] = as_map(made[key])
    if isinstance(made.get("networks"), list):
        made["networks"] = {str(name): None for name in made["networks"]}
    if isinstance(deploy := made.get("deploy"), Mapping) and "labels" in deploy:
        made["deploy"] = {**deploy, "labels": as_map(deploy["labels"])}
    if "volumes" in made:
        made["volumes"] = [_long_mount(item) for item in _items(made["volumes"], "volumes")]
    if "ports" in made:
        made["ports"] = _all_ports(_items(made["ports"], "ports"))
    for key in ("configs", "secrets"):
        if key in made:
            made[key] = [_long_reference(item, key) for item in _items(made[key], key)]
    for key in _TEXTS:
        if isinstance(made.get(key), str):
            made[key] = [made[key]]
    if isinstance(hosts := made.get("extra_hosts"), Mapping):
        made["extra_hosts"] = [f"{host}:{address}" for host, address in hosts.items()]
    return made


def _check_keys(item: Mapping[Any, Any], section: str) -> None:
    """Unreadable for a key that an entry in its long form does not have."""
    for key in map(str, item):
        if key not in _KEYS[section]:
            near = did_you_mean(key, _KEYS[section])
            raise Unreadable(section, f"{shown(key)} is not a key of an entry of {shown(section)}{near}")


def as_map(value: Any) -> dict[str, Any]:
    """Turn `["A=b", "C"]` into `{"A": "b", "C": None}`; a mapping stays as it is."""
    if isinstance(value, Mapping):
        return {str(key): inner for key, inner in value.items()}
    pairs = (str(item).partition("=") for item in value or []) if isinstance(value, list | tuple) else ()
    return {key: text if equals else None for key, equals, text in pairs}


def _long_mount(item: Any) -> dict[str, Any]:
    if isinstance(item, Mapping):
        return _mapped_mount(item)
    if not isinstance(item, str) or not item:
        raise Unreadable("volumes", f"{shown(str(item))} is no mount")
    parts = [item] if len(item) < 3 else list(_parts(item))
    if "" in parts:
        raise Unreadable("volumes", f"the mount {shown(item)} has an empty part between its colons")
    if len(parts) > 3:
        raise Unreadable("volumes", f"the mount {shown(item)} has too many colons")
    source, target = parts[:2] if len(parts) > 1 else ("", parts[0])
    _check_target(target, item)
    made: dict[str, Any] = {"type": "bind" if _is_a_path(source) else "volume"}
    made |= {"source": source, "target": target} if source else {"target": target}
    for option in parts[2].split(",") if len(parts) > 2 else ():
        if option in ("ro", "rw"):
            made["read_only"] = option == "ro"
        elif option == "nocopy":
            made["volume"] = {"nocopy": True}
        elif option in _PROPAGATIONS:
            made["bind"] = {"propagation": option}  # what else there is, Docker does not look at
    return made


def _mapped_mount(item: Mapping[Any, Any]) -> dict[str, Any]:
    """A mount that is written in the long form already. Unreadable for what Docker says no to when the rest is deployed."""
    _check_keys(item, "volumes")
    made = {"type": "volume", **{str(key): value for key, value in item.items()}}
    kind, source, target = str(made["type"]), made.get("source"), made.get("target")
    of = shown(str(source or target))
    if not target:
        raise Unreadable("volumes", f"the mount of {of} has no target")
    _check_target(str(target), str(source or target))
    if kind not in _KINDS:
        raise Unreadable(
            "volumes", f"the mount of {of} is of the type {shown(kind)}, which there is not{did_you_mean(kind, _KINDS)}"
        )
    if kind == "bind" and not source:
        raise Unreadable("volumes", f"the mount at {shown(str(target))} is a bind, and names no source")
    if kind == "tmpfs" and source:
        raise Unreadable(
            "volumes", f"the mount at {shown(str(target))} is a tmpfs, which has no source, and names {shown(str(source))}"
        )
    for other in _OPTIONS:
        if other != kind and made.get(other) is not None:
            raise Unreadable("volumes", f"the mount of {of} is of the type {shown(kind)}, and has options under '{other}'")
    return made


def _check_target(target: str, of: str) -> None:
    """Unreadable for a place where nothing can be mounted. Docker takes the service in, and starts none of its tasks."""
    if not target.startswith("/"):
        drive = ": Docker takes one letter for a drive" if target[1:2] == ":" else ""
        raise Unreadable("volumes", f"the mount {shown(of)} has the target {shown(target)}, which is no absolute path{drive}")
    if not posixpath.normpath(target).strip("/"):
        raise Unreadable("volumes", f"the mount {shown(of)} has the target {shown(target)}, the container's whole file system")


def _parts(text: str) -> Iterator[str]:
    """A mount's parts between colons; one after a single letter belongs to the drive that Docker takes it for."""
    part = ""
    for letter in text:
        if letter == ":" and not (len(part) == 1 and part.isalpha()):
            yield part
            part = ""
        else:
            part += letter
    yield part


def _is_a_path(source: str) -> bool:
    return source.startswith((".", "/", "~", "\\\\")) or (source[:1].isalpha() and source[1:2] == ":")


def _all_ports(items: list[Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        found += _long_ports(item)
        if len(found) > _MOST_OF_ONE:
            raise Unreadable("ports", f"one service has more than {_MOST_OF_ONE} ports")
    return found


def _long_ports(item: Any) -> list[dict[str, Any]]:
    """One entry of `ports` may be a range of them, which the long form has not."""
    if isinstance(item, Mapping):
        _check_keys(item, "ports")
        if item.get("target") is None:
            raise Unreadable("ports", f"the port that is published as {shown(str(item.get('published')))} has no target")
        for key in ("target", "published"):
            said = str(item.get(key) or 0)
            if whole_number(said, HIGHEST_PORT) is None:
                last = f"; the last one is {HIGHEST_PORT}" if said.isdecimal() else ""
                raise Unreadable("ports", f"{shown(str(item[key]))} is no port{last}")
        return [dict(item)]
    if isinstance(item, bool) or not isinstance(item, str | int):
        raise Unreadable("ports", f"{shown(str(item))} is no port")
    text, _, protocol = str(item).partition("/")
    protocol = protocol.lower() or "tcp"
    *host, inside = text.rsplit(":", 2)
    targets = _range(inside)
    published = _range(host[-1]) if host and host[-1] else None
    if protocol not in _PROTOCOLS:
        what = f"the port {shown(str(item))} has the protocol {shown(protocol)}, and there are {', '.join(_PROTOCOLS)}"
        raise Unreadable("ports", what)
    if not targets or published == [] or not _is_an_address(host[:-1]):
        raise Unreadable("ports", f"{shown(str(item))} is no port")
    if published is None:
        return [{"target": target, "protocol": protocol} for target in targets]
    if len(targets) == 1:
        targets *= len(published)
    if len(targets) != len(published):
        raise Unreadable("ports", f"the two ranges of the port {shown(str(item))} differ in length")
    return [{"target": inner, "published": outer, "protocol": protocol} for inner, outer in zip(targets, published, strict=True)]


def _range(text: str) -> list[int]:
    """The ports of `80` or `80-89`; none where that is no port."""
    found = _PORT.fullmatch(text)
    if found is None:
        return []
    first, last = int(found["first"]), int(found["last"] or found["first"])
    return list(range(first, last + 1)) if 0 < first <= last <= HIGHEST_PORT else []


def _is_an_address(host: list[str]) -> bool:
    """Whether what stands before the port of the host is an address, or nothing. Swarm listens on all of them anyway."""
    try:
        return not host or not host[0] or bool(ipaddress.ip_address(host[0].strip("[]")))
    except ValueError:
        return False


def _long_reference(item: Any, section: str) -> dict[str, Any]:
    if isinstance(item, Mapping):
        _check_keys(item, section)
    if isinstance(item, Mapping) and item.get("source"):
        if not str(item.get("mode") or 0).isdecimal():
            raise Unreadable(
                section, f"the mode of {shown(str(item['source']))} must be a number, and is {shown(str(item['mode']))}"
            )
        return dict(item)
    if isinstance(item, str) and item:
        return {"source": item}
    raise Unreadable(section, f"an entry names no {section.removesuffix('s')}")


def _items(value: Any, key: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise Unreadable(key, f"{shown(key)} is not a list")
    return list(value)


def _mapping(value: Any) -> dict[str, Any]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> dict[str, str | None]:
    return {key: None if inner is None else str(inner) for key, inner in as_map(value).items()}


#: What is declared for services that name no network.
DEFAULT_NETWORK = _declared("default", {})
