"""What carries canonq's labels, whatever it is: found, and removed."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path

from canonq.adapters.docker.client import NAMESPACE, translated
from canonq.adapters.docker.groups import TAKEN, Group, group_of
from canonq.adapters.docker.layers import layer_of, unnamed_volumes
from canonq.adapters.docker.stacks import SwarmStacks
from canonq.adapters.docker.volumes import DockerVolumes
from canonq.adapters.lazily import docker
from canonq.core.deployable import LABEL_OWNER
from canonq.core.peaks import Taking
from canonq.ports import Beside

_ENDED = (errno.ENOENT, errno.ESRCH, errno.ENODEV)  #: what reading the files of a group gives that is gone, or goes meanwhile
_AT_ONCE = 4  #: stacks that are removed side by side
_MOST_GROUPS = 500  #: containers whose groups are remembered


class DockerOwnership(SwarmStacks, DockerVolumes):
    """See ports.Ownership."""

    def __init__(self, containerd_root: Path | None = None) -> None:
        """As that of a DockerClient."""
        super().__init__(containerd_root)
        self._groups: dict[str, Group | None] = {}

    def owned(self, labels: Mapping[str, str]) -> dict[str, list[str]]:
        """See ports.Ownership.owned."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with translated("list what canonq owns"):
            services, networks = self._api.services(filters=wanted), self._api.networks(filters=wanted)
            containers = self._api.containers(all=True, filters=wanted)
            stacks = {s["Spec"]["Labels"].get(NAMESPACE, "") for s in services}
            stacks |= {it.get("Labels", {}).get(NAMESPACE, "") for it in (*networks, *containers)}
            return {
                "stacks": sorted(stacks - {""}),
                "containers": [c["Id"][:12] for c in containers],
                "networks": [n["Name"] for n in networks],
                "configs": [c["Spec"]["Name"] for c in self._api.configs(filters=wanted)],
                "secrets": [s["Spec"]["Name"] for s in self._api.secrets(filters=wanted)],
                "volumes": [v["Name"] for v in self._api.volumes(filters=wanted)["Volumes"] or []],
            }

    def owners(self, labels: Mapping[str, str]) -> list[str]:
        """See ports.Ownership.owners."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with translated("list what canonq owns"):
            found = [
                item["Spec"]
                for kind in (self._api.services, self._api.configs, self._api.secrets)
                for item in kind(filters=wanted)
            ]
            found += self._api.networks(filters=wanted) + self._api.containers(all=True, filters=wanted)
            found += self._api.volumes(filters=wanted)["Volumes"] or []
        return sorted({(item.get("Labels") or {}).get(LABEL_OWNER, "") for item in found} - {""})

    def remove_owned(self, labels: Mapping[str, str], timeout: float) -> dict[str, list[str]]:
        """See ports.Ownership.remove_owned."""
        removed = self.owned(labels)
        # Swarm takes its time with each: they go side by side, and the first that does not is told when all were tried.
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="undeploy") as going:
            begun = [going.submit(copy_context().run, self.undeploy, stack, timeout) for stack in removed["stacks"]]
        for one in begun:
            one.result()
        left = self.owned(labels)
        for kind, remove in (
            ("configs", self._api.remove_config),
            ("secrets", self._api.remove_secret),
            ("networks", self._api.remove_network),
        ):
            for name in left[kind]:
                self._gone(lambda name=name, remove=remove: remove(name), f"{kind[:-1]} {name}", timeout)  # type: ignore[misc]
        for name in left["volumes"]:
            self.remove_volume(name)
        return {kind: names for kind, names in removed.items() if names}

    def takings(self, labels: Mapping[str, str]) -> dict[str, Taking]:
        """See ports.Ownership.takings. Copies of files, which the kernel gives back, do not count."""
        taken: dict[str, Taking] = {}
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with translated("ask what its containers take"):
            for container in self._api.containers(filters=wanted):
                with contextlib.suppress(docker.errors.NotFound):  # gone meanwhile
                    if (found := self._taking(container["Id"])) is not None:
                        taken[container["Id"]] = found
        return taken

    def written_beside(self, labels: Mapping[str, str]) -> Beside:
        """See ports.Ownership.written_beside."""
        layers, unnamed = list[Path](), dict[Path, None]()
        wanted, images = {"label": [f"{key}={value}" for key, value in labels.items()]}, self.roots().images
        with translated("look where its containers write"):
            for container in self._api.containers(all=True, filters=wanted):
                with contextlib.suppress(docker.errors.NotFound):  # gone meanwhile
                    looked = self._api.inspect_container(container["Id"])
                    layers += [layer] if (layer := layer_of(looked, images)) is not None else []
                    unnamed |= dict.fromkeys(unnamed_volumes(looked).values())
        return Beside(tuple(layers), tuple(unnamed))

    def _taking(self, container: str) -> Taking | None:
        """By the files of its control group, or as Docker tells it where they cannot be read; None for one that has ended."""
        if (group := self._group(container)) is not None:
            try:
                return group.taking()
            except OSError as error:
                if error.errno in _ENDED:
                    return None
            except (ValueError, KeyError):
                self._groups[container] = None
        said = self._api.stats(container, stream=False, one_shot=True)
        counted = (said.get("memory_stats") or {}).get("stats") or {}
        spent = ((said.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage") or 0  # nanoseconds
        return Taking(sum(int(counted.get(key) or 0) for keys in TAKEN for key in keys), int(spent) / 1e9)

    def _group(self, container: str) -> Group | None:
        if container in (known := self._groups):
            return known[container]
        if not (process := int(self._api.inspect_container(container)["State"]["Pid"])):
            return None  # it is about to begin
        found = group_of(container, process)
        self._groups = {**dict(list(known.items())[-_MOST_GROUPS:]), container: found}
        return found

    def remove_secrets(self, labels: Mapping[str, str]) -> None:
        """See ports.Ownership.remove_secrets."""
        for name in self.owned(labels)["secrets"]:
            self._gone(lambda name=name: self._api.remove_secret(name), f"secret {name}", timeout=30)  # type: ignore[misc]
