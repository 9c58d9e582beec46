"""The Docker Engine of this host: all of its ports together, and what it is itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from canonq.adapters.docker.client import NAMESPACE, pause_until, translated
from canonq.adapters.docker.containers import SwarmContainers
from canonq.adapters.docker.images import DockerImages
from canonq.adapters.docker.ownership import DockerOwnership
from canonq.adapters.docker.target import chosen
from canonq.adapters.files import is_read_only, read_only
from canonq.adapters.processes.programs import plain_environment, read
from canonq.core.dockerinfo import Speaks, cannot_speak, refused_version, swarm_trouble
from canonq.core.errors import HostProblem
from canonq.core.jsontext import json_of
from canonq.ports import Versions

__all__ = ["NAMESPACE", "SwarmEngine", "pause_until"]

_SAID_OF_A_NODE = {"drain": "drained", "pause": "paused"}
_MEND_VERSIONS = "install a `docker` command of the age of the Engine, first on PATH; `docker version` must answer."


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
            info = self._api.info()
        if why := self.versions().do_not_meet:
            raise HostProblem(why, mend=_MEND_VERSIONS, code="docker-api")
        if trouble := swarm_trouble(info):
            raise HostProblem(trouble[0], mend=trouble[1], code="no-swarm")
        # Below it canonq writes itself, also where it is in a container: the rest may be mounted read-only there.
        if is_read_only(volumes := Path(info["DockerRootDir"]) / "volumes"):
            raise read_only(volumes)
        if away := self._nodes_away():
            raise HostProblem(
                f"No node of this swarm takes new tasks: {away}.",
                mend=f"`docker node update --availability active {away.split()[0]}` when whoever drained or paused it is done."
                if "drained" in away or "paused" in away
                else "`docker node ls` shows them; look at Docker's log on the one that is down.",
                code="node-unavailable",
            )

    def ping(self) -> None:
        """See ports.Engine.ping."""
        with translated("answer"):
            self._api.ping()

    def _nodes_away(self) -> str:
        """What keeps every node from taking tasks; nothing where one takes them."""
        with translated("list its nodes"):
            nodes = self._api.nodes()
        told = []
        for node in nodes:
            name, state = node.get("Description", {}).get("Hostname", node["ID"]), node.get("Status", {}).get("State", "unknown")
            availability = node.get("Spec", {}).get("Availability", "active")
            if state == "ready" and availability == "active":
                return ""
            told.append(f"{name} is {_SAID_OF_A_NODE.get(availability, availability) if state == 'ready' else state}")
        return ", ".join(told)

    def data_root(self) -> Path:
        """See ports.Engine.data_root."""
        with translated("tell its root folder"):
            return Path(self._api.info()["DockerRootDir"])

    def asked_at(self) -> str:
        """See ports.Engine.asked_at."""
        try:
            return f"{chosen().host} ({chosen().why})"
        except HostProblem as error:
            return error.what

    def versions(self) -> Versions:
        """See ports.Engine.versions."""
        with translated("tell its version"):
            said = self._api.version()
            spoken = str(self._api.api_version)
        asked = read(["docker", "version", "--format", "{{json .Client}}"], timeout=30, env=plain_environment(), harmless=True)
        client = _json_in(asked.output)
        engine = Speaks(
            f"the Engine {said.get('Version')}", str(said.get("MinAPIVersion") or "1.12"), str(said.get("ApiVersion"))
        )
        command = Speaks(
            f"The `docker` command {client.get('Version', '')}".strip(),
            "0",
            str(client.get("DefaultAPIVersion") or client.get("ApiVersion") or "0"),
        )
        trouble = cannot_speak(engine, command) if client else None
        if asked.status != 0:
            trouble = refused_version(asked.output + asked.errors) or trouble
        return Versions(str(said.get("Version")), engine, command, spoken, trouble)
