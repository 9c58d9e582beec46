"""What a compose file may say: the keys that `docker stack deploy` knows and how each is written. Pure.

Docker says no to the rest when half is deployed already, with neither file nor line, and has no word for what was meant.
Deliberately no more than Docker: what stands here only as `ANY` it reads by rules of its own, and tells itself.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from canonq.core.stack.lengths import seconds
from canonq.core.stack.resolved import Service, Stack
from canonq.core.text import did_you_mean, shown

#: How a value is written. Numbers and booleans may be texts here: they are filled in from variables.
ANY, TEXT, NUMBER, BOOL, DURATION, SIZE = (
    "anything",
    "a text",
    "a number",
    "true or false",
    "a duration such as 30s",
    "a size such as 512M",
)
LIST, MAPPING, LIST_OR_MAPPING, TEXT_OR_LIST = "a list", "a mapping", "a list or a mapping", "a text or a list of texts"
TEXTS, WORDS, OPTIONS = "a list of texts", "a list of texts, or a mapping of texts and numbers", "a mapping of texts and numbers"
LIMITS, COUNT = "a mapping of limits", "a whole number"
Form = str | Mapping[str, "Form"]

_UPDATE: Form = {
    "parallelism": COUNT, "delay": DURATION, "failure_action": TEXT, "monitor": DURATION, "max_failure_ratio": NUMBER,
    "order": TEXT,
}  # fmt: skip
_SERVICE: Form = {
    **dict.fromkeys(("cgroup_parent", "cgroupns_mode", "container_name", "domainname", "hostname", "image", "ipc", "isolation",
                     "mac_address", "network_mode", "restart", "stop_signal", "user", "userns_mode", "working_dir"), TEXT),
    **dict.fromkeys(("init", "privileged", "read_only", "stdin_open", "tty"), BOOL),
    **dict.fromkeys(("configs", "expose", "ports", "secrets", "volumes"), LIST),
    **dict.fromkeys(("cap_add", "cap_drop", "devices", "depends_on", "external_links", "links", "security_opt"), TEXTS),
    **dict.fromkeys(("environment", "extra_hosts", "labels", "sysctls"), WORDS),
    "networks": LIST_OR_MAPPING,
    **dict.fromkeys(("command", "dns", "dns_search", "entrypoint", "env_file", "tmpfs"), TEXT_OR_LIST),
    "build": ANY, "oom_score_adj": NUMBER, "pid": ANY, "shm_size": ANY, "stop_grace_period": DURATION, "ulimits": LIMITS,
    "credential_spec": {"config": TEXT, "file": TEXT, "registry": TEXT},
    "healthcheck": {
        "disable": BOOL, "interval": DURATION, "retries": COUNT, "test": TEXT_OR_LIST, "timeout": DURATION,
        "start_period": DURATION, "start_interval": DURATION,
    },
    "logging": {"driver": TEXT, "options": OPTIONS},
    "deploy": {
        "mode": TEXT, "endpoint_mode": TEXT, "replicas": COUNT, "labels": WORDS, "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "resources": {
            "limits": {"cpus": TEXT, "memory": SIZE, "pids": NUMBER},
            "reservations": {"cpus": TEXT, "memory": SIZE, "generic_resources": LIST},
        },
        "restart_policy": {"condition": TEXT, "delay": DURATION, "max_attempts": COUNT, "window": DURATION},
        "placement": {"constraints": TEXTS, "preferences": LIST, "max_replicas_per_node": COUNT},
    },
}  # fmt: skip
_LABELLED = {"name": TEXT, "external": ANY, "labels": WORDS}
_ENTRIES: dict[str, Form] = {
    "services": _SERVICE,
    "networks": {**_LABELLED, "driver": TEXT, "driver_opts": OPTIONS, "ipam": MAPPING, "internal": BOOL, "attachable": BOOL},
    "volumes": {**_LABELLED, "driver": TEXT, "driver_opts": OPTIONS},
    "secrets": {**_LABELLED, "file": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "template_driver": TEXT},
    "configs": {**_LABELLED, "file": TEXT, "template_driver": TEXT},
}
#: Keys that `docker-compose` took once and Swarm never: Docker refuses them by name.
FORBIDDEN = frozenset({
    "extends", "volume_driver", "volumes_from", "cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit",
})  # fmt: skip
#: Lists of one file that Docker takes nothing twice in.
_ONCE = frozenset({
    "cap_add", "cap_drop", "devices", "dns", "dns_search", "env_file", "environment", "expose", "extra_hosts", "labels", "links",
    "networks", "ports", "security_opt", "sysctls", "tmpfs",
})  # fmt: skip
#: Where keys that begin with `x-` are nobody's business.
_OPEN = frozenset({"services", *_ENTRIES})
_DURATION = re.compile(r"[-+]?(?:0|(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_SIZE = re.compile(r"[0-9]+(?:\.[0-9]+)* ?(?:[kmgtp]i?b?|b)?", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[-+]?[0-9]+)?", re.IGNORECASE)
_BOOLS = ("true", "false", "yes", "no", "y", "n", "on", "off")  #: as Docker reads a text that is to be one
#: What may stand where Docker knows few words, by the last keys that lead there.
_WORDS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("deploy", "mode"): ("replicated", "global", "replicated-job", "global-job"),
    ("deploy", "endpoint_mode"): ("vip", "dnsrr"),
    ("update_config", "order"): ("start-first", "stop-first"),
    ("rollback_config", "order"): ("start-first", "stop-first"),
    ("update_config", "failure_action"): ("continue", "pause", "rollback"),
    ("rollback_config", "failure_action"): ("continue", "pause"),
    ("restart_policy", "condition"): ("none", "on-failure", "any"),
}
_LOCAL = ("bridge", "host", "none", "null", "macvlan", "ipvlan")  #: drivers of networks that no service can be in
#: Drivers that each Docker has; of any other name, somebody has to install a plugin.
_NETWORKS = ("overlay", *_LOCAL)
_LOGS = ("json-file", "local", "none", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "gcplogs")
_RESTARTS = re.compile(r"no|always|unless-stopped|on-failure(?::[0-9]+)?")  #: what Docker reads where no restart_policy stands
_SIGNAL = re.compile(r"(?:SIG)?(?:RTMIN(?:\+(?:[0-9]|1[0-5]))?|RTMAX(?:-(?:[0-9]|1[0-4]))?)")
_SIGNALS = frozenset({*(one.name.removeprefix("SIG") for one in signal.Signals), "IOT", "CLD", "POLL", "STKFLT"})
_LONGEST_HOSTNAME = 64  #: bytes, to the kernel
_SHORTEST_CHECK = 0.001  #: seconds
_CHECKS = ("NONE", "CMD", "CMD-SHELL")  #: how the list of a health check's test begins
#: What a constraint of Swarm's may ask of a node; of any other, no node fulfils it.
_ATTRIBUTES = ("node.id", "node.hostname", "node.ip", "node.role", "node.platform.os", "node.platform.arch")
_OPEN_ATTRIBUTES = ("node.labels.", "engine.labels.")


@dataclass(frozen=True)
class Misshapen:
    """One thing that Docker would refuse."""

    path: tuple[str, ...]  #: where in the file
    what: str


def misshapen(stack: Mapping[str, Any]) -> Iterator[Misshapen]:
    """All that is written in a way that Docker refuses, of a file whose sections are mappings of mappings."""
    for section, form in _ENTRIES.items():
        for name, body in (stack.get(section) or {}).items():
            if body is not None:
                yield from _within(body, form, (section, str(name)))


def _within(value: Any, form: Form, path: tuple[str, ...]) -> Iterator[Misshapen]:
    if isinstance(form, str):
        if why := _unlike(value, form, path):
            yield Misshapen(path, why)
        return
    if not isinstance(value, dict):
        if not (value is None and path[-1] == "deploy"):
            yield Misshapen(path, f"{shown(path[-1])} must be a mapping, and is {_said(value)}")
        return
    for key, inner in value.items():
        if key in form:
            yield from _within(inner, form[key], (*path, key))
        elif key in FORBIDDEN and len(path) == 2:
            yield Misshapen((*path, key), f"{shown(key)} is not in Swarm; Docker refuses it")
        elif not (key.startswith("x-") and len(path) == 2):
            yield Misshapen((*path, key), f"{shown(key)} is not a key of {_of(path)}{did_you_mean(key, form)}")


def _unlike(value: Any, form: str, path: tuple[str, ...]) -> str:
    """Why a value is not written like its form, or nothing."""
    key = path[-1]
    match form:
        case "a text":
            fits = isinstance(value, str)
        case "a number":
            fits = not isinstance(value, bool) and _NUMBER.fullmatch(str(value)) is not None
        case "a whole number":
            fits = not isinstance(value, bool) and re.fullmatch("[0-9]+", str(value)) is not None
        case "true or false":
            fits = isinstance(value, bool) or str(value).lower() in _BOOLS
        case "a list":
            fits = isinstance(value, list)
        case "a mapping":
            fits = isinstance(value, dict)
        case "a list or a mapping":
            fits = isinstance(value, dict) or _are_texts(value)
        case "a text or a list of texts":
            fits = isinstance(value, str) or _are_texts(value)
        case "a list of texts":
            fits = _are_texts(value)
        case "a list of texts, or a mapping of texts and numbers":
            fits = _are_plain(value) or _are_texts(value)
        case "a mapping of texts and numbers":
            fits = _are_plain(value)
        case "a mapping of limits":
            fits = isinstance(value, dict) and all(map(_is_a_limit, value.values()))
        case "a duration such as 30s":
            fits = isinstance(value, str) and _DURATION.fullmatch(value) is not None
        case "a size such as 512M":
            fits = isinstance(value, str) and _SIZE.fullmatch(value) is not None
        case _:
            fits = True
    if not fits and form == LIMITS and isinstance(value, dict):
        name = next(str(name) for name, one in value.items() if not _is_a_limit(one))
        return f"{shown(key)} must give {shown(name)} as a number, or as a mapping of 'soft' and 'hard'"
    if not fits and _is_of(form, value) and (odd := _odd_in(value)):
        return f"{shown(key)} must be {form}, and has {odd} in it"
    if not fits:
        return f"{shown(key)} must be {form}, and is {_said(value)}"
    if why := _unlike_any(path, value):
        return why
    if key == "cpus" and not _NUMBER.fullmatch(value):
        return f"'cpus' must be a number such as '0.5', and is {shown(value)}"
    if (words := _WORDS.get(path[-2:])) and value not in words:
        return f"{shown(key)} must be one of {', '.join(words)}, and is {shown(value)}{did_you_mean(str(value), words)}"
    if path[-2:] == ("healthcheck", "test") and isinstance(value, list) and value and value[0] not in _CHECKS:
        begins = f"{', '.join(_CHECKS[:-1])} or {_CHECKS[-1]} where it is a list, and begins with {_said(value[0])}"
        return f"'test' must begin with {begins}"
    if isinstance(value, list) and key in _ONCE and (twice := _twice(value)):
        return f"{shown(key)} has {twice} twice"
    return ""


def _unlike_any(path: tuple[str, ...], value: Any) -> str:
    """Why no container can be made of a value of the right form, or nothing. What Swarm itself fills in, nobody knows yet."""
    if not isinstance(value, str) or "{{" in value or path[0] != "services":
        return ""
    match path[2:]:
        case ("command" | "entrypoint" as key,) if not _is_a_command(value):
            return f"{shown(key)} is no line that Docker can take apart, as a quote in it is not closed: {shown(value)}"
        case ("stop_signal",) if not _is_a_signal(value):
            return f"'stop_signal' is {shown(value)}, which is no signal{did_you_mean(value.upper(), _named_signals())}"
        case ("working_dir",) if value and not value.startswith("/"):
            return f"'working_dir' must be an absolute path, and is {shown(value)}"
        case ("hostname",) if len(value.encode(errors="surrogateescape")) > _LONGEST_HOSTNAME:
            return f"'hostname' has {len(value)} characters; the kernel takes {_LONGEST_HOSTNAME}: {shown(value)}"
        case ("healthcheck", "interval" | "timeout" | "start_period" | "start_interval" as key):
            if 0 < (seconds(value) or 0) < _SHORTEST_CHECK:
                return f"{shown(key)} must be 1ms or more, and is {shown(value)}"
    return ""


#: A command of one text as Docker takes it apart: what is not closed is left over. A `#` that begins a word begins a note.
_WORDS_OF_A_LINE = re.compile(
    r"""(?: \s+ | \#[^\n]*
    | (?: [^\s"'\\\#] | \\. | "(?:[^"\\]|\\.)*" | '[^']*' )
      (?: [^\s"'\\] | \\. | "(?:[^"\\]|\\.)*" | '[^']*' )*+ )*+""",
    re.VERBOSE | re.DOTALL,
)


def _is_a_command(text: str) -> bool:
    """Whether Docker can take a command apart that is one text."""
    return _WORDS_OF_A_LINE.fullmatch(text) is not None


def _is_a_signal(text: str) -> bool:
    upper = text.upper()
    known = upper.removeprefix("SIG") in _SIGNALS or _SIGNAL.fullmatch(upper) is not None
    return known or (text.isascii() and text.isdecimal() and text.strip("0") != "")


def _named_signals() -> list[str]:
    return sorted(f"SIG{name}" for name in _SIGNALS)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_plain(value: Any) -> bool:
    return isinstance(value, dict) and not any(isinstance(one, bool | dict | list) for one in value.values())


def _is_of(form: str, value: Any) -> bool:
    """Whether it is a list or mapping where a form has one, and something in it is wrong."""
    return (isinstance(value, list) and "list" in form) or (isinstance(value, dict) and "mapping" in form)


def _odd_in(value: list[Any] | dict[str, Any]) -> str:
    """What is no text in a list, or neither text nor number in a mapping."""
    listed = isinstance(value, list)
    said = value if isinstance(value, list) else value.values()
    odd = [one for one in said if (not isinstance(one, str) if listed else isinstance(one, bool | dict | list))]
    return f"{_said(odd[0])}{', which needs quotes' if isinstance(odd[0], bool | int | float) else ''}" if odd else ""


def _twice(value: list[Any]) -> str:
    seen: list[Any] = []
    for one in value:
        if one in seen:
            return _said(one)
        seen.append(one)
    return ""


def _is_a_limit(value: Any) -> bool:
    both = [value.get("soft"), value.get("hard")] if isinstance(value, dict) else [value]
    return all(not isinstance(one, bool) and re.fullmatch(r"-?[0-9]+", str(one)) is not None for one in both)


def undeclared(stack: Stack) -> Iterator[Misshapen]:
    """What services of the whole stack name and nothing declares."""
    for service in stack.services.values():
        named = {"networks": service.networks, "configs": service.configs, "secrets": service.secrets, "volumes": service.volumes}
        for section, names in named.items():
            there = stack.declared(section)
            for name in sorted(names):
                if name not in there and not (section == "networks" and name == "default"):
                    kind = section.removesuffix("s")
                    what = (
                        f"the service {shown(service.name)} names the {kind} {shown(name)}, "
                        f"which nothing declares under '{section}'"
                    )
                    yield Misshapen(("services", service.name, section), what + did_you_mean(name, there))


def contrary(stack: Stack) -> Iterator[Misshapen]:
    """What is right in each file and, of the whole stack, not to be had together."""
    for network in stack.networks.values():
        if network.driver in _LOCAL and not network.external:
            what = f"a network of the driver {shown(network.driver)} is of one host alone, and Swarm's services cannot be in it"
            yield Misshapen(("networks", network.key, "driver"), what)
        if (near := _nearly(network.driver, _NETWORKS)) and not network.external:
            yield Misshapen(("networks", network.key, "driver"), f"there is no driver {shown(network.driver)} of networks{near}")
        for subnet in _subnets(network.body.get("ipam")):
            if not _is_a_subnet(subnet):
                yield Misshapen(("networks", network.key, "ipam"), f"{shown(subnet)} is no subnet; one is 10.1.0.0/16")
    yield from _overlapping(stack)
    for service in stack.services.values():
        check = service.healthcheck
        if check.get("disable") in (True, "true") and check.get("test"):
            what = f'the health check of {shown(service.name)} is switched off and has a test; `test: ["NONE"]` switches one off'
            yield Misshapen(("services", service.name, "healthcheck", "disable"), what)
        yield from _at_one_place(service)
        yield from _never_started(service)
        placement = service.deploy.get("placement")
        constraints = placement.get("constraints") if isinstance(placement, Mapping) else None
        for one in constraints if isinstance(constraints, list) else ():
            asked = re.split(r"==|!=", str(one))[0].strip().lower()
            if not asked.startswith(_OPEN_ATTRIBUTES) and asked not in _ATTRIBUTES:
                near = did_you_mean(asked, [*_ATTRIBUTES, *_OPEN_ATTRIBUTES])
                what = f"{shown(str(one))} asks for what no node has: {shown(asked)}{near}"
                yield Misshapen(("services", service.name, "deploy", "placement", "constraints"), what)


def _overlapping(stack: Stack) -> Iterator[Misshapen]:
    """Networks of one stack that ask for the same addresses: Docker gives them to one, and no task of the other ever begins."""
    taken: list[tuple[str, ipaddress.IPv4Network | ipaddress.IPv6Network]] = []
    for network in stack.networks.values():
        for subnet in _subnets(network.body.get("ipam")) if not network.external else ():
            if not _is_a_subnet(subnet):
                continue
            asked = ipaddress.ip_network(subnet, strict=False)
            if other := next((name for name, there in taken if there.version == asked.version and there.overlaps(asked)), None):
                what = f"the networks {shown(other)} and {shown(network.key)} ask for the same addresses: {shown(subnet)}"
                yield Misshapen(("networks", network.key, "ipam"), what)
            taken.append((network.key, asked))


def _never_started(service: Service) -> Iterator[Misshapen]:
    """What Docker says no to when it makes a service or its container, though each word for itself is right."""
    where = ("services", service.name)
    mode = str(service.deploy.get("mode") or "replicated")
    if mode.startswith("global") and service.deploy.get("replicas") is not None:
        what = f"'replicas' says how many of {shown(service.name)} there are, and its mode {shown(mode)} one on each node"
        yield Misshapen((*where, "deploy", "replicas"), what)
    restart = service.body.get("restart")
    if restart and not service.policy("restart_policy") and not _RESTARTS.fullmatch(str(restart)):
        near = did_you_mean(str(restart), ("always", "unless-stopped", "on-failure", "no"))
        what = f"'restart' must be no, always, unless-stopped or on-failure, and is {shown(str(restart))}{near}"
        yield Misshapen((*where, "restart"), what)
    limits = service.body.get("ulimits")
    for name, one in limits.items() if isinstance(limits, Mapping) else ():
        soft, hard = (int(one[key]) if isinstance(one, Mapping) and key in one else 0 for key in ("soft", "hard"))
        if soft > hard >= 0 or (soft == -1 and hard > 0):
            what = f"the soft limit of {shown(str(name))} ({soft}) is above its hard one ({hard}), which no kernel takes"
            yield Misshapen((*where, "ulimits", str(name)), what)
    driver = str((service.body.get("logging") or {}).get("driver") or "")
    if near := _nearly(driver, _LOGS):
        yield Misshapen((*where, "logging", "driver"), f"there is no driver {shown(driver)} of logs{near}")
    for section in ("configs", "secrets"):
        for item in service.body.get(section) or ():
            for key in ("uid", "gid"):
                said = item.get(key)
                if said is not None and not (isinstance(said, str) and said.isascii() and said.isdecimal()):
                    what = f"the {key} of {shown(str(item['source']))} must be a number in quotes, and is {shown(str(said))}"
                    yield Misshapen((*where, section), what)


def _nearly(driver: str, known: tuple[str, ...]) -> str:
    """The end of a sentence about a driver that is misspelt; empty for one that is there, or may be a plugin's."""
    return did_you_mean(driver, known) if driver and driver not in known else ""


def _subnets(ipam: Any) -> Iterator[str]:
    config = ipam.get("config") if isinstance(ipam, Mapping) else None
    for pool in config if isinstance(config, list) else ():
        if isinstance(pool, Mapping) and pool.get("subnet"):
            yield str(pool["subnet"])


def _is_a_subnet(text: str) -> bool:
    try:
        return "/" in text and bool(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return False


def _at_one_place(service: Service) -> Iterator[Misshapen]:
    """Places in a container that a service gives to two mounts, or to two configs or secrets: Docker refuses each."""
    asked = {"volumes": [(posixpath.normpath(mount.target), mount.source or mount.kind) for mount in service.mounts]}
    for section in ("configs", "secrets"):
        items = service.body.get(section) or ()
        asked[section] = [(str(item.get("target") or item["source"]), str(item["source"])) for item in items]
    for section, places in asked.items():
        taken: dict[str, str] = {}
        for target, source in places:
            if target in taken:
                both = f"{shown(taken[target])} and {shown(source)}"
                what = f"two {section} of the service {shown(service.name)} have the target {shown(target)}: {both}"
                yield Misshapen(("services", service.name, section), what)
            taken[target] = source


def _of(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _said(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return shown(value)
