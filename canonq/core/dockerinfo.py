"""What Docker says about itself: versions, and where it keeps images (`docker info`, `docker version`). Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from canonq.core.text import readable

ImageStore: TypeAlias = Literal["containerd", "graph driver"]

#: Engines that canonq's own tests have run on: major version, or year of the older ones.
PROVEN = ("20.10", "28", "29")
DEFAULT_CONTAINERD_ROOT = "/var/lib/containerd"
DEFAULT_CONTAINERD_CONFIG = "/etc/containerd/config.toml"
DEFAULT_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
_VERSION = re.compile(r"([0-9]+)\.([0-9]+)")


def image_store(info: Mapping[str, Any]) -> ImageStore:
    """Who keeps images and containers' layers: containerd, in a root folder of its own, or a graph driver, in Docker's."""
    pairs = [pair for pair in info.get("DriverStatus") or () if isinstance(pair, list | tuple) and len(pair) == 2]
    return "containerd" if any(str(value) == _SNAPSHOTTER for _, value in pairs) else "graph driver"


def containerd_socket(info: Mapping[str, Any]) -> str:
    """The socket at which the Engine's containerd listens; older Engines do not tell."""
    return str((info.get("Containerd") or {}).get("Address") or DEFAULT_CONTAINERD_SOCKET)


def containerd_of_engine(docker_root: str) -> str:
    """Where a containerd keeps its files that the Engine started for itself."""
    return f"{docker_root.rstrip('/')}/containerd/daemon"


def is_of_engine(address: str) -> bool:
    """Whether this is the socket of a containerd that the Engine started for itself (in its exec root)."""
    hosts = (DEFAULT_CONTAINERD_SOCKET, f"/var{DEFAULT_CONTAINERD_SOCKET}")
    return address.endswith("/containerd/containerd.sock") and address not in hosts


def options_of(command: Sequence[str]) -> tuple[str | None, str]:
    """Of a containerd's command line: its root, if it is told there, and its configuration file."""
    return _option(command, ("--root", "-root")), _option(command, ("--config", "-config", "-c")) or DEFAULT_CONTAINERD_CONFIG


def _option(command: Sequence[str], names: Sequence[str]) -> str | None:
    found = None
    for at, word in enumerate(command):
        name, given, value = word.partition("=")
        if name in names:
            found = value if given else next(iter(command[at + 1 : at + 2]), None)
    return found or None


def root_in_config(text: str) -> str | None:
    """The root folder that a containerd's configuration names."""
    try:
        root = tomllib.loads(text).get("root")
    except tomllib.TOMLDecodeError:
        return None
    return root if isinstance(root, str) and root.startswith("/") else None


def shared_source(mountinfo: str, path: str) -> str | None:
    """What a path shares its room with where a device number does not tell: file systems of btrfs and ZFS are of one pool.

    `mountinfo` is /proc/self/mountinfo. None for all other kinds of file systems.
    """
    best: tuple[int, str, str] | None = None
    for point, kind, source, _ in _mounts(mountinfo):
        if (path == point or path.startswith(point.rstrip("/") + "/")) and (best is None or len(point) >= best[0]):
            best = (len(point), kind, source)
    if best is None or best[1] not in ("btrfs", "zfs"):
        return None
    return f"{best[1]} {best[2].partition('/')[0] if best[1] == 'zfs' else best[2]}"


def upper_folder(mountinfo: str) -> str | None:
    """The folder that an overlay writes to which is the root of these mounts, /proc/PID/mountinfo; None for any other root."""
    roots = [(kind, options) for point, kind, _, options in _mounts(mountinfo) if point == "/"]
    if not roots or roots[-1][0] != "overlay":
        return None
    said = (option.partition("=") for option in re.split(r"(?<!\\),", roots[-1][1]))
    return next((_unescaped(value) for key, _, value in said if key == "upperdir"), None)


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, str, str]]:
    """Where each is mounted, of what kind, what, and the options of its file system."""
    for line in mountinfo.split("\n"):
        before, found, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if found and len(fields) > 4 and len(rest) > 1:
            yield _unescaped(fields[4]), rest[0], rest[1], rest[2] if len(rest) > 2 else ""


def _unescaped(text: str) -> str:
    """As the kernel writes blanks and the like there."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


# -- the swarm ----------------------------------------------------------------------------------------------


def swarm_trouble(info: Mapping[str, Any]) -> tuple[str, str] | None:
    """Why this Engine (its `docker info`) can deploy no stack, and the way out; None where it is a manager at work."""
    swarm = info.get("Swarm") or {}
    state, said = str(swarm.get("LocalNodeState") or "inactive"), str(swarm.get("Error") or "").strip().rstrip(".")
    if state == "active" and swarm.get("ControlAvailable"):
        return None
    match state:
        case "locked":
            return (
                "The swarm of this host is locked: Docker was restarted, and its swarm asks for a key.",
                "`docker swarm unlock`, with the key that `docker swarm unlock-key` has shown; "
                "`docker swarm update --autolock=false` lets it start by itself.",
            )
        case "error":
            return (
                f"The swarm of this host does not start: {said or 'Docker does not say why'}.",
                "look at Docker's log (`journalctl -u docker`): an address that the host has no more, and certificates that ran "
                "out, are usual. `docker swarm init --force-new-cluster --advertise-addr ADDRESS` makes it again, and keeps "
                "its stacks.",
            )
        case "pending":
            why = f": {said}" if said else ""
            return (f"This host is only about to join its swarm{why}.", "wait, or look at the swarm's other managers.")
        case "active":
            return (
                "This host is a worker of a swarm that others manage.",
                "run canonq on a manager, or `docker node promote` this node there.",
            )
    return (
        "Docker is not a Swarm manager.",
        "run `docker swarm init` (add `--advertise-addr 127.0.0.1` on a single host).",
    )


@dataclass(frozen=True)
class Node:
    """One node of a swarm, as `docker node ls` shows it."""

    id: str
    name: str  #: its host's; what Docker takes for it, so its id where the name is none's or two have it
    state: str  #: "ready", "down", ...
    availability: str  #: "active", or what a person has made of it

    @property
    def takes_tasks(self) -> bool:
        """Whether Swarm gives it new tasks."""
        return (self.state, self.availability) == ("ready", "active")

    def __str__(self) -> str:
        said = {"drain": "drained", "pause": "paused"}.get(self.availability, self.availability)
        parts = [self.state] * (self.state != "ready") + [said] * (self.availability != "active")
        return f"{self.name} is {' and '.join(parts) or 'ready'}"


def nodes_of(said: Sequence[Mapping[str, Any]]) -> list[Node]:
    """The nodes of a swarm, as its manager lists them."""
    names = [str((one.get("Description") or {}).get("Hostname") or "") for one in said]
    return [
        Node(
            str(one.get("ID") or ""),
            readable(name) if name and names.count(name) == 1 else str(one.get("ID") or ""),
            str((one.get("Status") or {}).get("State") or "unknown"),
            str((one.get("Spec") or {}).get("Availability") or "active"),
        )
        for one, name in zip(said, names, strict=True)
    ]


def nodes_trouble(nodes: Sequence[Node], own: str) -> tuple[str, str, str] | None:
    """Why what is deployed would not come up on this host: a code, what is so, and the way out; None where it would.

    `own`: the id of this host's node. Data and networks of stacks are seen on it alone.
    """
    here = next((node for node in nodes if node.id == own), None)
    if here is not None and here.takes_tasks:
        others = [node.name for node in nodes if node.takes_tasks and node is not here]
        if not others:
            return None
        return (
            "several-nodes",
            f"Other nodes of this swarm take tasks too ({', '.join(others)}), and canonq sees only what runs on this host: "
            "parts of a stack may come up where nobody can look at them.",
            f"`docker node update --availability drain {others[0]}`, or a swarm of its own for canonq.",
        )
    taking = any(node.takes_tasks for node in nodes)
    away = [here] if here is not None and taking else list(nodes)
    what = f"{'This host' if taking else 'No node of this swarm'} takes {'no ' if taking else ''}new tasks: "
    what += f"{', '.join(map(str, away)) or 'it has none'}."
    held = sorted((node for node in away if node.state == "ready"), key=lambda node: node is not here)
    if held:
        mend = f"`docker node update --availability active {held[0].name}` when whoever did that is done."
    else:
        mend = "`docker node ls` shows it; look at Docker's log on the one that is down."
    return "node-unavailable", what, mend


# -- the firewall ---------------------------------------------------------------------------------------------


#: The network through which containers of stacks reach out, and ports that are published on this host come in.
GATEWAY = "docker_gwbridge"
_MADE = (
    "`systemctl restart docker` makes them again; let whoever removed them (`iptables -F`, firewalld, ufw) leave Docker's alone."
)


@dataclass(frozen=True)
class Unled:
    """Rules of the firewall that Docker makes, and that are not there."""

    sure: bool  #: some of them are there, so Docker makes them: somebody has removed the others
    what: str
    mend: str


def firewall_trouble(rules: str, published: Collection[int] = ()) -> Unled | None:
    """What of Docker's is missing among the rules for addresses (`iptables -t nat -S`). `published`: ports of this host that
    containers have now."""
    lines = rules.splitlines()
    is_known = any(line == "-N DOCKER" for line in lines)
    leads_there = any(line.startswith("-A PREROUTING ") and line.endswith(" -j DOCKER") for line in lines)
    lets_out = any(
        line.startswith("-A POSTROUTING ") and f"! -o {GATEWAY} " in line and line.endswith(" -j MASQUERADE") for line in lines
    )
    missing = sorted(set(published) - {int(found) for found in re.findall(r" --dport ([0-9]+) .*-j DNAT", rules)})
    if not is_known and not leads_there:
        return Unled(
            False,
            "None of the firewall rules that Docker makes are there: no published port is reached, and containers reach nobody",
            f"unless Docker is told to make none (`iptables: false`) and somebody else makes them: {_MADE}",
        )
    if not leads_there:
        return Unled(True, "Firewall rules that Docker made are gone: no published port leads to its container any more", _MADE)
    if not lets_out:
        return Unled(True, f"The firewall rule is gone by which containers reach what is outside ({GATEWAY})", _MADE)
    if missing:
        ports = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if missing[5:] else "")
        return Unled(True, f"The firewall rule is gone that leads to the container for the published port {ports}", _MADE)
    return None


# -- names ----------------------------------------------------------------------------------------------------


def dns_trouble(resolv: str, of_systemd: str | None) -> tuple[str, str] | None:
    """What is wrong with the name servers that Docker hands on to containers, and the way out; None where nothing is.

    `resolv`: the host's resolv.conf; `of_systemd`: the one that systemd-resolved keeps, which Docker reads in its place.
    """
    servers = _servers(resolv)
    if servers == ["127.0.0.53"] and of_systemd is not None:
        servers = _servers(of_systemd)
    if "127.0.0.11" in servers:  # canonq is in a container itself: what the host has is not seen from here
        return None
    if not servers:
        return "resolv.conf names no name server", 'name one there, or `"dns": ["ADDRESS"]` in Docker\'s daemon.json.'
    if all(server.startswith("127.") or server == "::1" for server in servers):
        return (
            f"resolv.conf names {', '.join(servers)} only, which is every container's own: Docker may have containers ask "
            "8.8.8.8 in its place, which is no help where a firewall is in the way",
            'unless names are found in containers: set `"dns": ["ADDRESS"]` in Docker\'s daemon.json, and start it anew.',
        )
    return None


def _servers(resolv: str) -> list[str]:
    words = (line.split() for line in resolv.splitlines())
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


# -- versions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speaks:
    """Versions of Docker's API that one side knows: from `least` to `most`."""

    who: str  #: for people
    least: str
    most: str


def version_key(version: str) -> tuple[int, int]:
    """1.41 -> (1, 41); what is no version comes first."""
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def cannot_speak(engine: Speaks, client: Speaks) -> str | None:
    """One sentence why a client and an Engine have no API version in common, or None."""
    if version_key(client.most) < version_key(engine.least):
        return _too_old(client.who, client.most, engine.who, engine.least)
    if version_key(client.least) > version_key(engine.most):
        return _too_new(client.who, client.least, engine.who, engine.most)
    return None


def _too_old(client: str, most: str, engine: str, least: str) -> str:
    return f"{client} is too old for {engine}: it speaks Docker's API up to {most}, the Engine asks for {least} at least."


def _too_new(client: str, least: str, engine: str, most: str) -> str:
    return f"{client} is too new for {engine}: it asks for Docker's API {least} at least, the Engine speaks up to {most}."


_COMMAND = "The `docker` command"
_REFUSED_AS_OLD = re.compile(r"client version ([0-9.]+) is too old\. Minimum supported API version is ([0-9]+\.[0-9]+)", re.I)
_REFUSED_AS_NEW = re.compile(
    r"client (?:version|is newer)\D*([0-9.]+).*?(?:maximum supported API version is|server API version:?) ([0-9]+\.[0-9]+)", re.I
)


def refused_version(said: str) -> str | None:
    """One sentence, if this is an Engine's word to Docker's command that their API versions do not meet."""
    if found := _REFUSED_AS_OLD.search(said):
        return _too_old(_COMMAND, found[1], "this Engine", found[2])
    if found := _REFUSED_AS_NEW.search(said):
        return _too_new(_COMMAND, found[1].rstrip("."), "this Engine", found[2])
    return None


def known_engine(version: str) -> str:
    """What canonq knows of an Engine of this version, as words."""
    major, minor = version_key(version)
    name = f"{major}.{minor:02d}" if major in (18, 19, 20) else str(major)
    if name in PROVEN:
        return f"canonq is proven on {name}"
    key = version_key
    if (major, minor) > key(f"{PROVEN[-1]}.0"):
        return f"newer than any that canonq is proven on (the newest is {PROVEN[-1]}): unknown"
    if (major, minor) < key(PROVEN[0]):
        return f"older than any that canonq is proven on (the oldest is {PROVEN[0]}): unknown"
    return f"not one that canonq is proven on ({', '.join(PROVEN)}): unknown"
