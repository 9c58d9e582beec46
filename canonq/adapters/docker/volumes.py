"""Volumes, and where their data lies on this host."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from canonq.adapters.docker.client import NAMESPACE, DockerClient, has_labels, translated
from canonq.adapters.lazily import docker
from canonq.core.deployable import LABEL_INSTANCE, LABEL_OWNER
from canonq.core.errors import HostProblem


class DockerVolumes(DockerClient):
    """See ports.Volumes."""

    def make_volume(self, name: str, labels: Mapping[str, str], stack: str) -> Path:
        """See ports.Volumes.make_volume."""
        with translated(f"make the volume {name}"):
            # Docker hands back the one that is there, whoever made it.
            with contextlib.suppress(docker.errors.NotFound):
                there = self._labels_of(name)
                owner = {key: labels.get(key, "") for key in (LABEL_INSTANCE, LABEL_OWNER)}
                if not has_labels(there, owner):
                    raise HostProblem(
                        f"Docker has a volume '{name}' that is not of this run; it was left as it is.",
                        mend="remove it if it is a leftover of yours, or give it another name.",
                        code="name-taken",
                    )
            made = self._api.create_volume(name, labels={**labels, NAMESPACE: stack})
        return Path(made["Mountpoint"])

    def volume_path(self, name: str) -> Path | None:
        """See ports.Volumes.volume_path."""
        with translated("look at a volume"):
            try:
                return Path(self._api.inspect_volume(name)["Mountpoint"])
            except docker.errors.NotFound:
                return None

    def volume_label(self, name: str, label: str) -> str | None:
        """See ports.Volumes.volume_label."""
        with translated("look at a volume"):
            try:
                return self._labels_of(name).get(label)
            except docker.errors.NotFound:
                return None

    def volumes_of(self, stack: str) -> list[str]:
        """See ports.Volumes.volumes_of."""
        return sorted(self.volumes_owned({NAMESPACE: stack}))

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        """See ports.Volumes.volumes_in_use."""
        with translated("list services"):
            listed = self._api.services(filters={"label": f"{NAMESPACE}={stack}"})
        mounts = [mount for one in listed for mount in one["Spec"]["TaskTemplate"]["ContainerSpec"].get("Mounts") or []]
        named = {mount.get("Source") for mount in mounts if mount["Type"] == "volume"}
        return {name: folder for name, folder in sorted(self.volumes_owned({NAMESPACE: stack}).items()) if name in named}

    def volumes_owned(self, labels: Mapping[str, str]) -> dict[str, Path]:
        """See ports.Ownership.volumes_owned."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with translated("list volumes"):
            found = self._api.volumes(filters=wanted)["Volumes"] or []
        return {volume["Name"]: Path(volume["Mountpoint"]) for volume in found}

    def remove_volume(self, name: str) -> None:
        """See ports.Volumes.remove_volume. Retried while an ending container still uses it."""
        self._gone(lambda: self._api.remove_volume(name), f"volume {name}", timeout=30)

    def _labels_of(self, volume: str) -> dict[str, str]:
        return dict(self._api.inspect_volume(volume).get("Labels") or {})

    def _gone(self, remove: Callable[[], Any], what: str, timeout: float) -> None:
        ends = time.monotonic() + timeout
        while True:
            try:
                with translated(f"remove the {what}"):
                    remove()
                return
            except docker.errors.NotFound:
                return
            except HostProblem:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)  # still in use by a task that is ending
