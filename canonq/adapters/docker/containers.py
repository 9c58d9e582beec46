"""The way into what runs: probes, commands, files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from canonq.adapters.docker.client import NAMESPACE, in_container, translated
from canonq.adapters.docker.layers import layer_of, unnamed_volumes, written_into
from canonq.adapters.docker.stacks import SwarmStacks
from canonq.adapters.docker.volumes import DockerVolumes
from canonq.adapters.lazily import docker, requests
from canonq.adapters.network import netns
from canonq.adapters.processes.programs import plain_environment, run
from canonq.adapters.processes.stopping import check_stop
from canonq.core.enrolment import Health
from canonq.core.errors import CanonqError, RecipeProblem, TimedOut
from canonq.core.jsontext import json_of
from canonq.core.stack.convergence import Task
from canonq.core.text import ending
from canonq.ports import Answer, Ended, Outside

_TCP_IN_A_ROW = 3
_REMOVED = 2  #: kind of a change in a layer
_LONGEST_LIST = 16 << 20  #: bytes of Docker's list of changes in one layer
_MOST_CHANGES = 20_000  #: in one layer that are looked at
_SHORT_ID = 12  #: characters of a container's id that Docker makes its host name of


class SwarmContainers(SwarmStacks, DockerVolumes):
    """See ports.Containers."""

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        """See ports.Containers.probe."""
        container = self._container(stack, health.service)
        if container is None:
            return Answer(False, f"the service '{health.service}' has no running container", reached=False)
        if health.kind == "exec":
            return self._probe_exec(container, health, timeout)
        pid = self._pid(container)
        if health.kind == "tcp":
            return netns.probe_tcp(pid, health.port, timeout, times=_TCP_IN_A_ROW)
        return netns.probe_http(pid, health, domain, timeout)

    def _pid(self, container: str) -> int:
        with in_container("look at its process"):
            return int(self._api.inspect_container(container)["State"]["Pid"])

    def process_of(self, stack: str, service: str) -> int:
        """See ports.Containers.process_of."""
        return self._pid(self._running_container(stack, service))

    def _probe_exec(self, container: str, health: Health, timeout: float) -> Answer:
        try:
            ended = self._exec(container, health.command, timeout)
        except TimedOut as error:
            return Answer(False, error.what)
        return Answer(ended.status == 0, f"`{health.command[0]}` exited with {ended.status}: {ending(ended.output, 300)}")

    @staticmethod
    def _exec(container: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None) -> Ended:
        # Docker's command and not its API: it can be ended, and its time limited. It takes a variable's value from its own.
        given = env or {}
        words = ["docker", "exec", *(f"--env={name}" for name in given), container, *command]
        return run(words, timeout=timeout, env=plain_environment(**given), apart=True)

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        """See ports.Containers.execute."""
        return self._exec(self._running_container(stack, service), command, timeout, env)

    def started_as(self, stack: str, service: str) -> Sequence[str]:
        """See ports.Containers.started_as."""
        container = self._running_container(stack, service)
        with in_container("look at its command"):
            looked = self._api.inspect_container(container)
        return [str(looked["Path"]), *map(str, looked["Args"] or ())]

    def listening(self, stack: str, service: str) -> list[int]:
        """See ports.Containers.listening."""
        return netns.listening(self.process_of(stack, service))

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        """See ports.Containers.read_archive."""
        container = self._holding_container(stack, service)
        with translated(f"read {path} of '{service}'"):
            try:
                stream, _ = self._api.get_archive(container, path, chunk_size=1 << 20)
            except docker.errors.NotFound as error:
                raise RecipeProblem(f"'{service}' has no {path}.", code="path-missing") from error
            for chunk in stream:
                check_stop()
                yield chunk

    def write_archive(self, stack: str, service: str, folder: str, archive: Iterable[bytes]) -> None:
        """See ports.Containers.write_archive."""
        container = self._holding_container(stack, service)
        with translated(f"write into {folder} of '{service}'"):
            try:
                with self._writable(container, folder) as into:
                    # To the client a list is a form that is filled in; whatever else gives bytes is a stream.
                    self._api.put_archive(into, folder, iter(archive) if isinstance(archive, list) else archive)
            except docker.errors.NotFound as error:
                raise RecipeProblem(f"'{service}' has no folder {folder}.", code="path-missing") from error

    @contextlib.contextmanager
    def _writable(self, container: str, folder: str) -> Iterator[str]:
        """The container; where it may only read the volume that holds the folder, one that may write, and is never started."""
        looked = self._api.inspect_container(container)
        within = [mount for mount in looked["Mounts"] if f"{folder}/".startswith(f"{mount['Destination'].rstrip('/')}/")]
        deepest = max(within, key=lambda mount: len(mount["Destination"]), default=None)
        if deepest is None or deepest["RW"] or deepest["Type"] != "volume":
            yield container
            return
        # With the stack's labels, so that whoever removes the stack removes it too.
        labels = {key: text for key, text in looked["Config"]["Labels"].items() if not key.startswith("com.docker.swarm.")}
        mount = docker.types.Mount(deepest["Destination"], deepest["Name"], type="volume", no_copy=True)
        made = self._api.create_container(
            looked["Image"], command=["true"], labels=labels, network_disabled=True,
            host_config=self._api.create_host_config(mounts=[mount], network_mode="none"),
        )["Id"]  # fmt: skip
        try:
            yield made
        finally:
            with contextlib.suppress(docker.errors.APIError):
                self._api.remove_container(made, force=True, v=True)

    def _holding_container(self, stack: str, service: str) -> str:
        """The service's running container; of one that has run and ended, the last: its volumes can be had through that."""
        if running := self._container(stack, service):
            return running
        _, tasks = self.observe(stack)
        ended = [task for task in tasks if task.service == service and task.container]
        for task in sorted(ended, key=lambda task: (task.current, task.created), reverse=True):
            with contextlib.suppress(docker.errors.NotFound):
                return str(self._api.inspect_container(task.container)["Id"])
        raise RecipeProblem(f"The service '{service}' has no container.", code="not-running")

    def _running_container(self, stack: str, service: str) -> str:
        container = self._container(stack, service)
        if container is None:
            raise RecipeProblem(f"The service '{service}' has no running container.", code="not-running")
        return container

    def _container(self, stack: str, service: str) -> str | None:
        _, tasks = self.observe(stack)
        running = [t for t in tasks if t.service == service and t.state == "running" and t.desired == "running"]
        newest = max(running, key=lambda task: (task.current, task.created), default=None)
        return newest.container if newest and newest.container else None

    def outside_volumes(self, stack: str) -> list[Outside]:
        """See ports.Containers.outside_volumes. Where a layer lies cannot always be told: then Docker lists it."""
        found, images = {}, self.roots().images
        for container, task in self._running_tasks(stack):
            if task.service in found:
                continue
            try:
                with in_container("look what it has written"):
                    looked = self._api.inspect_container(container)
                    paths = self._changed(container) if (layer := layer_of(looked, images)) is None else ()
                if layer is not None:
                    paths = written_into(layer)
            except (CanonqError, OSError, ValueError) as error:
                found[task.service] = Outside(task.service, why_not=error.what if isinstance(error, CanonqError) else str(error))
                continue
            found[task.service] = Outside(task.service, int(looked["State"]["Pid"]), paths, unnamed_volumes(looked))
        return list(found.values())

    def _changed(self, container: str) -> tuple[str, ...]:
        """The same as Docker lists it. RecipeProblem where the list is longer than is read: a file may be named by kilobytes."""
        address = f"{self._api.base_url}/v{self._api.api_version}/containers/{container}/changes"
        with contextlib.closing(self._api.get(address, stream=True, timeout=self._api.timeout)) as answer:
            try:
                answer.raise_for_status()
            except requests.exceptions.HTTPError as error:
                raise docker.errors.create_api_error_from_http_exception(error) from error
            listed = bytearray()
            for piece in answer.iter_content(1 << 16):
                listed += piece
                if len(listed) > _LONGEST_LIST:
                    raise RecipeProblem(
                        f"it has changed so much that Docker's list of it has more than {_LONGEST_LIST >> 20} MiB"
                    )
        changes = json_of(bytes(listed)) or []
        return tuple(str(one["Path"]) for one in changes if one["Kind"] != _REMOVED)[:_MOST_CHANGES]

    def container_names(self, stack: str) -> frozenset[str]:
        """See ports.Containers.container_names."""
        found = set()
        for container, task in self._running_tasks(stack):
            with in_container("ask for its name"):
                hostname = str(self._api.inspect_container(container)["Config"].get("Hostname") or "")
            found |= {container[:_SHORT_ID], task.id, hostname}
        return frozenset(found - {""})

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        """See ports.Containers.mounted."""
        found: dict[tuple[str, str], str] = {}
        for container, task in self._running_tasks(stack):
            with in_container("look at its mounts"):
                mounts = self._api.inspect_container(container)["Mounts"]
            for mount in mounts:
                if mount["Type"] != "volume" or not mount.get("RW") or (mount["Name"], task.service) in found:
                    continue
                if self._labels_of(mount["Name"]).get(NAMESPACE) == stack:
                    found[mount["Name"], task.service] = mount["Destination"]
        return [(volume, service, target) for (volume, service), target in found.items()]

    def _running_tasks(self, stack: str) -> list[tuple[str, Task]]:
        _, tasks = self.observe(stack)
        return [
            (task.container, task)
            for task in tasks
            if task.state == "running" and task.desired == "running" and task.current and task.container
        ]
