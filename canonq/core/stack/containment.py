"""What a deployment may take of the host, put into what is deployed (docs/rules.md 3, containment). Pure.

A ref's services get all of it, whatever they say; a release's keep what they say as far as it is less.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canonq.core.enrolment import Enrolment
from canonq.core.errors import Fault
from canonq.core.stack.lengths import seconds, size
from canonq.core.stack.policy import among_others
from canonq.core.stack.resolved import Service, Stack, stack_of
from canonq.core.stack.routes import resolvers
from canonq.core.text import shown

_GIB = 2**30
#: By the recipe's weight, where [resources] does not say: bytes of memory, processors.
_DEFAULTS = {"light": (4 * _GIB, 2.0), "heavy": (8 * _GIB, 4.0)}
_KEPT_FILES = 2  #: of a container's log
_CAPPED = ("json-file", "local")  #: drivers that keep a log on this host and can be told how much of it
_LONGEST_LABEL = 63  #: characters of a name between two dots
#: What Swarm fills in of a task's names, each of which begins with the stack's; and what it may fill in beside them.
_SWARMS_OWN = re.compile(r"\{\{-?[ \t]*\.(?:Service|Task)\.Name[ \t]*-?\}\}")
_SMALL_PARTS = re.compile(r"\{\{-?[ \t]*\.(?:Service\.ID|Task\.(?:ID|Slot)|Node\.(?:ID|Hostname))[ \t]*-?\}\}")
_LEAST_VERSION = (3, 9)  #: of the format that knows a limit of processes


@dataclass(frozen=True)
class Allotment:
    """What each container of a deployment may take."""

    memory: int  #: bytes
    cpus: float
    pids: int
    log: int  #: bytes
    replicas: int  #: of one service


def allotment(enrolment: Enrolment, processors: int) -> Allotment:
    """What the enrolment allots, or its weight; Docker refuses more processors than there are."""
    memory, cpus = _DEFAULTS[enrolment.weight]
    said = enrolment.resources
    cpus = min(cpus if said.cpus is None else said.cpus, max(1, processors))
    return Allotment(memory if said.memory is None else said.memory, cpus, said.pids, said.log, said.replicas)


def contained(
    stack: Stack, of: Allotment, *, trusted: bool, name: str, allow: Collection[str] = ()
) -> tuple[Stack, tuple[str, ...]]:
    """The stack within its limits; and a sentence for each thing that was said to be more.

    `name`: the stack's; `allow`: what the enrolment lets untrusted code have, by name.
    """
    made, notes = stack.written(), list[str]()
    made["version"] = _version(stack.version)
    made["services"] = {key: _service(service, of, notes, trusted=trusted) for key, service in stack.services.items()}
    if not trusted:
        for key, service in stack.services.items():
            _without_certificates(made["services"][key], service, notes, allow)
            if among_others(stack, service):
                _named(made["services"][key], service, notes, name, allow)
    return stack_of(made), tuple(notes)


def _named(body: dict[str, Any], service: Service, notes: list[str], stack: str, allow: Collection[str]) -> None:
    """Put a hostname of its own in the place of one that may be another app's: Docker makes it one of its names there."""
    said = str(body.get("hostname") or "")
    if not said or f"hostname:{said}" in allow or _is_own(said, stack):
        return
    body["hostname"] = f"{stack}-{service.name}"[:_LONGEST_LABEL]
    notes.append(
        f"hostname-replaced: {service.name} calls itself {shown(said)}, which may be another app's name in the network of all, "
        f"and is called {body['hostname']}: [refs] allow = {json.dumps([f'hostname:{said}'])[:200]}"
    )


def _without_certificates(body: dict[str, Any], service: Service, notes: list[str], allow: Collection[str]) -> None:
    """Take out what has the ingress order certificates: they count for its operator's account, and for the whole domain."""
    for of, labels in ((body["deploy"], service.labels), (body, service.container_labels)):
        asked = {label: by for label, by in resolvers(labels).items() if f"certresolver:{by}" not in allow}
        if asked:
            of["labels"] = {**of["labels"], **dict.fromkeys(asked, "")}
            by = sorted(set(asked.values()))[0]
            notes.append(
                f"certificate-not-ordered: {service.name} would have the ingress order certificates by {shown(by)}, as a live "
                f"app does, and has its default one: [refs] allow = {json.dumps([f'certresolver:{by}'])[:200]}"
            )


def _is_own(hostname: str, stack: str) -> bool:
    """Whether nobody else can have this name: it has the stack's own in it, whatever Swarm fills in."""
    made = _SWARMS_OWN.sub(f"{stack}_", hostname)
    return stack.lower() in made.lower() and "{{" not in _SMALL_PARTS.sub("", made)


def short_of_memory(service: Service | None, enrolment: Enrolment, overlay: str = "") -> tuple[Fault, str]:
    """Whose it is that a container was killed for want of memory, by whose limit that was; and what to do.

    `overlay`: the enrolment's file that sets the service's limit, where one does.
    """
    limits = _mapping(_mapping(service.deploy.get("resources")).get("limits")) if service is not None else {}
    own, most = size(limits.get("memory")), allotment(enrolment, 1).memory
    if own is not None and own <= most and overlay:
        return Fault.ENROLMENT, (
            f"{overlay} sets its limit of {own / 2**20:.0f} MiB: raise it there, or leave it to [resources] memory "
            "in recipe.toml."
        )
    if own is not None and own <= most:
        return Fault.RECIPE, "the release sets the limit; the maintainer has to raise it, or mend what takes the memory."
    asked = f", and {overlay or 'the release'} asks for {own / 2**20:.0f} MiB" if own is not None else ""
    if own is not None or enrolment.resources.memory is not None:
        by = "" if enrolment.resources.memory is not None else ", as recipe.toml does not say"
        return Fault.ENROLMENT, (
            f"it may have {most / 2**20:.0f} MiB{by}{asked}: raise [resources] memory in recipe.toml; where that is enough for "
            "the app, the maintainer has to mend what takes it."
        )
    return Fault.RECIPE, (
        f"it may have {most / 2**20:.0f} MiB, which is canonq's limit and not the release's: if it needs more, "
        "say so in recipe.toml, [resources] memory; else the maintainer has to mend what takes it."
    )


def _service(service: Service, of: Allotment, notes: list[str], *, trusted: bool) -> dict[str, Any]:
    deploy = dict(service.deploy)
    deploy["resources"] = _resources(service, of, notes, trusted=trusted)
    if (asked := _number(deploy.get("replicas"))) is not None and asked > of.replicas:
        notes.append(
            f"resources-capped: {service.name} asks for {asked:.0f} replicas, and has {of.replicas}: [resources] replicas"
        )
        deploy["replicas"] = of.replicas
    if not trusted:
        deploy |= _slowly(deploy, "restart_policy", ("delay",))
    body = {**service.body, "deploy": deploy, "logging": _logging(service.body.get("logging"), of, trusted=trusted)}
    if "ports" in body and not trusted:
        # Without a port of the host, Swarm would take one of its own choice, on every address.
        body["ports"] = [port for port in body["ports"] if port.get("published") is not None]
    if not trusted:
        body |= _slowly(body, "healthcheck", ("interval", "start_interval"))
    return {key: value for key, value in body.items() if value is not None}


def _slowly(body: Mapping[str, Any], key: str, times: Sequence[str]) -> dict[str, Any]:
    """What Docker itself does again and again, not more often than each second: its own work has no limit."""
    said = _mapping(body.get(key))
    often = [time for time in times if time in said and 0 <= (seconds(said[time]) or 0) < 1]
    return {key: {**said, **dict.fromkeys(often, "1s")}} if often else {}


def _resources(service: Service, of: Allotment, notes: list[str], *, trusted: bool) -> dict[str, Any]:
    said = _mapping(service.deploy.get("resources"))
    limits, reserved = _mapping(said.get("limits")), _mapping(said.get("reservations"))
    for key, asked, most in (
        ("memory", size(limits.get("memory")), of.memory),
        ("cpus", _number(limits.get("cpus")), of.cpus),
        ("pids", _number(limits.get("pids")), of.pids),
    ):
        if asked is not None and asked > most:
            notes.append(f"resources-capped: {service.name} asks for more {key} than {most:g}: [resources] {key}")
        if asked is None or asked > most or asked <= 0:
            limits[key] = f"{most:g}" if key == "cpus" else most if key == "pids" else str(most)
    if not trusted:
        return {"limits": limits}  # what it would reserve, nobody else could have
    if (memory := size(reserved.get("memory"))) is not None and memory > of.memory:
        reserved["memory"] = str(of.memory)
    if (cpus := _number(reserved.get("cpus"))) is not None and cpus > of.cpus:
        reserved["cpus"] = f"{of.cpus:g}"
    return {"limits": limits, **({"reservations": reserved} if reserved else {})}


def _logging(said: Any, of: Allotment, *, trusted: bool) -> dict[str, Any]:
    asked = _mapping(said)
    driver = str(asked.get("driver") or "json-file")
    size = {"max-size": f"{max(1, of.log // _KEPT_FILES // 1024)}k", "max-file": str(_KEPT_FILES)}
    if not trusted:
        return {"driver": "json-file", "options": size}
    if driver not in _CAPPED:
        return asked
    return {"driver": driver, "options": {**_mapping(asked.get("options")), **size}}


def _version(said: str) -> str:
    parts = said.split(".")
    numbers = tuple(int(part) for part in parts) if all(part.isdecimal() and len(part) < 4 for part in parts) else _LEAST_VERSION
    return ".".join(map(str, max(numbers, _LEAST_VERSION)))


def _number(said: Any) -> float | None:
    """A number of a compose file; None where none is said, or one that Docker refuses."""
    try:
        found = None if said is None or isinstance(said, bool) else float(str(said)[:30])
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None


def _mapping(said: Any) -> dict[str, Any]:
    return dict(said) if isinstance(said, Mapping) else {}
