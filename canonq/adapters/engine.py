"""The Docker Engine of this host: all of its ports together, and what it is itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from canonq.adapters.docker.client import NAMESPACE, pause_until, translated
from canonq.adapters.docker.containers import SwarmContainers
from canonq.adapters.docker.images import DockerImages
from canonq.adapters.docker.ownership import DockerOwnership
from canonq.adapters.docker.target import chosen
from canonq.adapters.files import is_read_only, read_only
from canonq.adapters.processes.programs import plain_environment, read
from canonq.core.dockerinfo import (
    GATEWAY,
    Speaks,
    Unled,
    cannot_speak,
    firewall_trouble,
    nodes_of,
    nodes_trouble,
    refused_version,
    swarm_trouble,
)
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.jsontext import json_of
from canonq.ports import Versions

__all__ = ["NAMESPACE", "SwarmEngine", "pause_until"]

_MEND_VERSIONS = "install a `docker` command of the age of the Engine, first on PATH; `docker version` must answer."

#: Commands and Engines that speak with each other, and when this process asked them.
_MEET: dict[tuple[object, ...], float] = {}
_UNKNOWN = "0"  #: the version of a command that did not say it
_MEET_FOR = 600.0  #: seconds for which that is believed: a command may be a script that begins another one


def _docker_command() -> tuple[object, ...]:
    """Which file the `docker` command is, and as of when; nothing where it is not there."""
    with contextlib.suppress(OSError):
        if found := shutil.which("docker", path=plain_environment()["PATH"]):
            file = os.stat(found)
            return found, file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns
    return ()


def _json_in(text: str) -> dict[str, Any]:
    try:
        found = json_of(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class SwarmEngine(DockerImages, SwarmContainers, DockerOwnership):
    """See ports.Engine: a single-node Swarm manager."""

    def preflight(self) -> None:
        """See ports.Engine.preflight."""
        with translated("answer"):
            info = self._info(age=1.0)
        if why := self._why_not_meet(str(info.get("ServerVersion"))):
            raise HostProblem(why, mend=_MEND_VERSIONS, code="docker-api")
        if trouble := swarm_trouble(info):
            raise HostProblem(trouble[0], mend=trouble[1], code="no-swarm")
        # Below it canonq writes itself, also where it is in a container: the rest may be mounted read-only there.
        if is_read_only(volumes := Path(info["DockerRootDir"]) / "volumes"):
            raise read_only(volumes)
        with translated("list its nodes"):
            nodes = self._api.nodes()
        if wrong := nodes_trouble(nodes_of(nodes), str(info["Swarm"].get("NodeID") or "")):
            code, what, mend = wrong
            raise HostProblem(what, mend=mend, code=code)
        if (rules := self._nat_rules(info)) is not None and (gone := firewall_trouble(rules)) is not None and gone.sure:
            raise HostProblem(f"{gone.what}.", mend=gone.mend, code="firewall-flushed")

    def _why_not_meet(self, version: str) -> str | None:
        """Why the `docker` command cannot speak with the Engine of this version. Two that can are not asked again so soon."""
        both, now = (_docker_command(), tuple(chosen().variables.items()), version), time.monotonic()
        if now - _MEET.get(both, -_MEET_FOR) < _MEET_FOR:
            return None
        found = self.versions()
        if found.do_not_meet is None and found.command.most != _UNKNOWN:
            _MEET[both] = now
        return found.do_not_meet

    def firewall(self) -> Unled | None:
        """See ports.Engine.firewall. A port may come or go between the looks at it and at the rules, so it is looked at twice."""
        with translated("tell about its firewall"):
            info = self._info()
        found = None
        for look in range(2):
            published = self._published()
            if (rules := self._nat_rules(info)) is None:
                return None
            found = firewall_trouble(rules, published)
            if found is None or firewall_trouble(rules) is not None:
                return found
            time.sleep(1 - look)
        return found

    def _nat_rules(self, info: Mapping[str, Any]) -> str | None:
        """The host's rules for addresses; None where they cannot be seen, or Docker does not make them with iptables."""
        if GATEWAY not in (name for _, name in socket.if_nameindex()):  # canonq is in a container, or there is no swarm
            return None
        if str((info.get("FirewallBackend") or {}).get("Driver") or "").startswith("nftables"):
            return None
        with contextlib.suppress(CanonqError):  # no iptables, or it hangs
            asked = read(["iptables", "-w", "5", "-t", "nat", "-S"], timeout=20, env=plain_environment(), harmless=True)
            return asked.output if asked.status == 0 else None
        return None

    def _published(self) -> set[int]:
        """Ports of this host, of IPv4, that containers have. Of a service's own there is a rule only while it has a task here."""
        with translated("tell which ports are published"):
            ports = [port for one in self._api.containers() for port in one.get("Ports") or () if ":" not in port.get("IP", ":")]
        return {int(port["PublicPort"]) for port in ports if port.get("PublicPort")}

    def ping(self) -> None:
        """See ports.Engine.ping."""
        with translated("answer"):
            self._api.ping()

    def data_root(self) -> Path:
        """See ports.Engine.data_root."""
        return self.roots().docker

    def asked_at(self) -> str:
        """See ports.Engine.asked_at."""
        try:
            return f"{chosen().host} ({chosen().why})"
        except HostProblem as error:
            return error.what

    def versions(self) -> Versions:
        """See ports.Engine.versions."""
        with translated("tell its version"):
            spoken = str(self._api.api_version)
        asked = read(["docker", "version", "--format", "{{json .}}"], timeout=30, env=plain_environment(), harmless=True)
        told = _json_in(asked.output)
        client, said = (one if isinstance(one, dict) else {} for one in (told.get("Client"), told.get("Server")))
        if "ApiVersion" not in said:  # they do not meet, or the command is another's, so it is asked without it
            with translated("tell its version"):
                said = self._api.version()
        engine = Speaks(
            f"the Engine {said.get('Version')}", str(said.get("MinAPIVersion") or "1.12"), str(said.get("ApiVersion"))
        )
        command = Speaks(
            f"The `docker` command {client.get('Version', '')}".strip(),
            "0",
            str(client.get("DefaultAPIVersion") or client.get("ApiVersion") or _UNKNOWN),
        )
        trouble = cannot_speak(engine, command) if client else None
        if asked.status != 0:
            trouble = refused_version(asked.output + asked.errors) or trouble
        return Versions(str(said.get("Version")), engine, command, spoken, trouble)
