"""Docker Engine and Swarm: the real `Engine` (see ports). The SDK for looking, the CLI for `stack deploy`."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canonq.adapters import netns, registries
from canonq.adapters.disks import roots
from canonq.adapters.dockertarget import chosen
from canonq.adapters.lazily import lazily
from canonq.adapters.programs import plain_environment, read, run
from canonq.adapters.stopping import check_stop
from canonq.core.blame import deploy_problem
from canonq.core.convergence import Service, Task, failing_check, same_spec
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, Deployable
from canonq.core.dockerinfo import Speaks, cannot_speak, refused_version
from canonq.core.enrolment import Health
from canonq.core.errors import HostProblem, RecipeProblem, TimedOut
from canonq.core.images import digest_of, image_name, is_known_as
from canonq.core.pulling import WORTH_ASKING, meaning
from canonq.core.text import ending
from canonq.ports import Answer, Ended, Roots, Versions

if TYPE_CHECKING:
    import docker
    import docker.errors
    import docker.types
    import requests
else:
    docker, requests = lazily("docker"), lazily("requests")

NAMESPACE = "com.docker.stack.namespace"
_NOBODY = "nobody-at-all"
_STOP_GRACE = 10  #: seconds Docker gives a container when the recipe says nothing
_TCP_IN_A_ROW = 3
_LONGEST_PULL = 1800.0  #: seconds for one image
_OF_A_REGISTRY = frozenset({
    "pull-failed", "registry-certificate", "registry-rate-limit", "registry-refused", "registry-unavailable",
    "registry-unreachable",
})  # fmt: skip
_SAID_OF_A_NODE = {"drain": "drained", "pause": "paused"}
_KILLED = 128 + signal.SIGKILL  #: exit status of a process that was killed


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    try:
        yield
    except docker.errors.NotFound:
        raise
    except docker.errors.APIError as error:
        raise HostProblem(f"Docker refused to {what}: {error.explanation or error}.", code="docker-refused") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise _no_engine(error) from error


@contextlib.contextmanager
def _in_container(what: str) -> Iterator[None]:
    """As _translated, for a container of the app's that may end at any time: then it is the app's fault."""
    try:
        with _translated(what):
            yield
    except docker.errors.NotFound as error:
        raise RecipeProblem(f"A container ended while canonq was about to {what}.", code="not-running") from error


def _no_engine(error: Exception) -> HostProblem:
    return HostProblem(
        f"The Docker Engine does not answer: {str(error)[:200]}.",
        mend="start Docker (`systemctl start docker`, or `dockerd`), and let this user use its socket.",
        code="docker-unreachable",
        outside="Docker",
    )


_MEND_VERSIONS = "install a `docker` command of the age of the Engine, first on PATH; `docker version` must answer."


def _json_in(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class SwarmEngine:
    """The Docker Engine of this host, a single-node Swarm manager."""

    def __init__(self, containerd_root: Path | None = None) -> None:
        """`containerd_root`: where its containerd keeps images, if that is not to be asked."""
        self._client: docker.DockerClient | None = None
        self._containerd_root = containerd_root
        self._roots: Roots | None = None

    @property
    def _api(self) -> Any:
        if self._client is None:
            try:
                variables = dict(chosen().variables)
                version = variables.pop("DOCKER_API_VERSION", None)
                self._client = docker.from_env(version=version, timeout=60, environment=variables, use_context=False)
            except docker.errors.DockerException as error:
                raise _no_engine(error) from error
        return self._client.api

    def preflight(self) -> None:
        """See ports.Engine.preflight."""
        with _translated("answer"):
            info = self._api.info()
        if why := self.versions().do_not_meet:
            raise HostProblem(why, mend=_MEND_VERSIONS, code="docker-api")
        swarm = info.get("Swarm", {})
        if swarm.get("LocalNodeState") != "active" or not swarm.get("ControlAvailable"):
            raise HostProblem(
                "Docker is not a Swarm manager.",
                mend="run `docker swarm init` (add `--advertise-addr 127.0.0.1` on a single host).",
                code="no-swarm",
            )
        if away := self._nodes_away():
            raise HostProblem(
                f"No node of this swarm takes new tasks: {away}.",
                mend="`docker node update --availability active NODE` when whoever drained it is done.",
                code="node-unavailable",
            )

    def _nodes_away(self) -> str:
        """What keeps every node from taking tasks; nothing where one takes them."""
        with _translated("list its nodes"):
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
        with _translated("tell its root folder"):
            return Path(self._api.info()["DockerRootDir"])

    def asked_at(self) -> str:
        """See ports.Engine.asked_at."""
        try:
            return f"{chosen().host} ({chosen().why})"
        except HostProblem as error:
            return error.what

    def versions(self) -> Versions:
        """See ports.Engine.versions."""
        with _translated("tell its version"):
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

    def roots(self) -> Roots:
        """See ports.Engine.roots. Asked once: they change with another Engine only."""
        if self._roots is None:
            with _translated("tell where it keeps its data"):
                info = self._api.info()
            self._roots = roots(info, self._containerd_root)
        return self._roots

    # -- before a deploy -------------------------------------------------------------------------------

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        """See ports.Images.ensure_images. RecipeProblem for an image that cannot be had."""
        ends = time.monotonic() + timeout
        found: dict[str, str] = {}
        for reference in dict.fromkeys(references):
            image = self._image(reference)
            if image is None:
                self._pull(reference, max(1.0, ends - time.monotonic()))
                image = self._image(reference)
            if image is None:
                raise HostProblem(
                    f"The image {reference} is not there after its pull.",
                    mend="something on this host removes images while canonq works, such as a nightly `docker system prune`.",
                    code="image-gone",
                )
            found[reference] = digest_of(reference, image)
        return found

    def is_image(self, reference: str, digest: str) -> bool:
        """See ports.Images.is_image."""
        image = self._image(reference)
        return image is not None and is_known_as(reference, digest, image)

    def _image(self, reference: str) -> dict[str, Any] | None:
        image_name(reference)
        with _translated("look at an image"):
            try:
                return dict(self._api.inspect_image(reference))
            except docker.errors.ImageNotFound:
                return None

    def _pull(self, reference: str, timeout: float) -> None:
        name = image_name(reference)
        try:
            ended = run(["docker", "pull", "--quiet", reference], timeout=min(timeout, _LONGEST_PULL), env=plain_environment())
        except TimedOut as error:
            raise HostProblem(
                f"The pull of {reference} did not finish within {min(timeout, _LONGEST_PULL):.0f} s.",
                mend="look at the network and at the registry.",
                code="registry-unreachable",
                outside=name.registry,
            ) from error
        if ended.status == 0:
            return
        problem = deploy_problem(ended.tail, f"The pull of {reference}", default="pull-failed")
        if problem.code in WORTH_ASKING:
            asked = registries.ask(name, self._insecure())
            problem = meaning(problem, asked, registry=name.registry, logged_in=registries.has_login(name.registry))
        if problem.code in _OF_A_REGISTRY:
            problem.outside = name.registry
        raise problem

    def _insecure(self) -> list[str]:
        """The networks and addresses of registries that Docker asks without TLS too."""
        with _translated("tell its registries"):
            config = self._api.info().get("RegistryConfig") or {}
        named = [name for name, one in (config.get("IndexConfigs") or {}).items() if not one.get("Secure", True)]
        return [*(config.get("InsecureRegistryCIDRs") or []), *named]

    def image_sizes(self, references: Sequence[str]) -> dict[str, int]:
        """See ports.Images.image_sizes."""
        found = {reference: self._image(reference) for reference in references}
        return {reference: int(image.get("Size") or 0) for reference, image in found.items() if image is not None}

    def drop_image(self, reference: str) -> bool:
        """See ports.Images.drop_image. Never by force: Docker itself knows which containers need it."""
        with _translated(f"remove the image {reference}"):
            try:
                self._api.remove_image(reference)
            except docker.errors.ImageNotFound:
                return True
            except docker.errors.APIError as error:
                if error.status_code == 409:
                    return False
                raise
        return True

    def drop_unfinished_pulls(self) -> None:
        """See ports.Images.drop_unfinished_pulls. With containerd's store they stay for hours, or until a prune."""
        if self.roots().store == "containerd":
            with _translated("give back what pulls have left"):
                # The filter is what no image has: of pruning, only this part is wanted.
                self._api.prune_images(filters={"dangling": True, "label": f"{LABEL_OWNER}={_NOBODY}"})

    def ensure_network(self, name: str) -> None:
        """See ports.Stacks.ensure_network."""
        with _translated(f"make the network {name}"):
            if self._has_network(name):
                return
            try:
                self._api.create_network(
                    name, driver="overlay", attachable=True, check_duplicate=True, labels={LABEL_KIND: "infrastructure"}
                )
            except docker.errors.APIError:
                # Another run may have made it at the same moment; Swarm tells that in several ways, so it is looked for.
                if not self._has_network(name):
                    raise

    def _has_network(self, name: str) -> bool:
        """Whether the network is there. HostProblem when it is one of this host alone, which no stack can use."""
        found = [network for network in self._api.networks(names=[name]) if network["Name"] == name]
        if found and all(network.get("Scope") != "swarm" for network in found):
            raise HostProblem(
                f"The network {name} is there, but for this host alone; Swarm needs one of its own.",
                mend=f"`docker network rm {name}`, then `docker network create -d overlay --attachable {name}`.",
                code="network-scope",
            )
        return bool(found)

    def put_secret(self, name: str, value: str, labels: Mapping[str, str]) -> None:
        """See ports.Stacks.put_secret."""
        with _translated(f"keep the secret {name}"):
            for old in self._api.secrets(filters={"name": name}):
                if old["Spec"]["Name"] == name:
                    if any(old["Spec"].get("Labels", {}).get(key) != text for key, text in labels.items()):
                        raise HostProblem(
                            f"Docker has a secret '{name}' that is not of this run.",
                            mend="remove it if it is a leftover.",
                            code="foreign-secret",
                        )
                    return
            self._api.create_secret(name, value.encode(), labels=dict(labels))

    # -- deploy and look -------------------------------------------------------------------------------

    def strangers(self, stack: Deployable, labels: Mapping[str, str]) -> list[str]:
        """See ports.Stacks.strangers."""
        own = {section: _names(stack, section) for section in ("networks", "configs", "secrets", "volumes")}
        services = {f"{stack.stack}_{name}" for name in stack.file["services"]}
        with _translated("look whose names are in use"):
            specs = [
                (kind, names, item["Spec"])
                for kind, names, listed in (
                    ("service", services, self._api.services()),
                    ("config", own["configs"], self._api.configs()),
                    ("secret", own["secrets"] | set(stack.secrets), self._api.secrets()),
                )
                for item in listed
            ]
            specs += [("network", own["networks"], item) for item in self._api.networks()]
            specs += [("volume", own["volumes"], item) for item in self._api.volumes()["Volumes"] or []]
        found = []
        for kind, names, spec in specs:
            carried = spec.get("Labels") or {}
            # A volume may well outlive its stack; whatever else says that it is of this stack would be removed with it.
            of_stack = kind != "volume" and carried.get(NAMESPACE) == stack.stack
            if (spec["Name"] in names or of_stack) and not _has(carried, labels):
                found.append(f"a {kind} '{spec['Name']}'")
        return sorted(found)

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        """See ports.Stacks.deploy. The resolved file is JSON, which every YAML reader reads alike."""
        path = folder / f"{stack.stack}.resolved.json"
        path.write_text(json.dumps(stack.file, indent=1))
        path.chmod(0o600)
        command = ["docker", "stack", "deploy", "--resolve-image", "never", "--prune", "-c", str(path), stack.stack]
        ended = run(command, timeout=timeout, env=plain_environment(), cwd=folder, log=folder / "deploy.log")
        if ended.status != 0:
            raise deploy_problem(ended.tail, f"`docker stack deploy` of {stack.stack}")

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        """See ports.Stacks.observe."""
        with _translated("list services"):
            listed = self._api.services(filters={"label": f"{NAMESPACE}={stack}"})
            running = self._api.tasks(filters={"label": f"{NAMESPACE}={stack}"}) if listed else []
        names = {service["ID"]: service["Spec"]["Name"].removeprefix(f"{stack}_") for service in listed}
        by_id = {service["ID"]: service for service in listed}
        services = [_service(service, names[service["ID"]]) for service in listed]
        tasks = [
            _task(task, names[task["ServiceID"]], by_id[task["ServiceID"]]) for task in running if task.get("ServiceID") in names
        ]
        return services, tasks

    @contextlib.contextmanager
    def changes(self, stack: str) -> Iterator[Callable[[float], bool]]:
        """See ports.Stacks.changes. Docker's own events; when their stream breaks, waiting is all that is left."""
        happened = threading.Event()
        with _translated("tell its events"):
            stream = self._api.events(filters={"label": f"{NAMESPACE}={stack}"})

        def listen() -> None:
            with contextlib.suppress(Exception):  # closed below, or the Engine is gone: the next look tells
                for _ in stream:
                    happened.set()

        def wait(seconds: float) -> bool:
            found = happened.wait(seconds)
            happened.clear()
            return found

        threading.Thread(target=listen, daemon=True, name=f"events-{stack}").start()
        try:
            yield wait
        finally:
            with contextlib.suppress(Exception):
                stream.close()

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
        with _in_container("look at its process"):
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
    def _exec(container: str, command: Sequence[str], timeout: float) -> Ended:
        # Docker's command and not its API: it can be ended, and its time limited.
        return run(["docker", "exec", container, *command], timeout=timeout, env=plain_environment(), apart=True)

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        """See ports.Containers.execute."""
        return self._exec(self._running_container(stack, service), command, timeout)

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        """See ports.Containers.read_archive."""
        container = self._holding_container(stack, service)
        with _translated(f"read {path} of '{service}'"):
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
        with _translated(f"write into {folder} of '{service}'"):
            try:
                with self._writable(container, folder) as into:
                    self._api.put_archive(into, folder, archive)
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

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        """See ports.Stacks.logs. Never follows; a service without logs gives an empty text."""
        found = {}
        services, _ = self.observe(stack)
        for service in services:
            command = ["docker", "service", "logs", "--no-trunc", "--raw", "--tail", str(lines), f"{stack}_{service.name}"]
            try:
                found[service.name] = run(command, timeout=20, env=plain_environment()).output
            except TimedOut as error:
                found[service.name] = f"(no logs: {error.what})"
        return found

    def failing_checks(self, stack: str) -> dict[str, str]:
        """See ports.Stacks.failing_checks. Docker keeps the last five answers of a container, also when it is over."""
        said: dict[str, str] = {}
        _, tasks = self.observe(stack)
        for task in sorted((task for task in tasks if task.container), key=lambda task: task.created, reverse=True):
            if task.service in said:
                continue  # what a newer one says counts, also when that is nothing bad
            with _translated("look at a health check"), contextlib.suppress(docker.errors.NotFound):
                if (answer := failing_check(self._api.inspect_container(task.container))) is not None:
                    said[task.service] = answer
        return {service: text for service, text in said.items() if text}

    def listening(self, stack: str, service: str) -> list[int]:
        """See ports.Containers.listening."""
        return netns.listening(self.process_of(stack, service))

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        """See ports.Volumes.volumes_in_use."""
        with _translated("list services"):
            listed = self._api.services(filters={"label": f"{NAMESPACE}={stack}"})
        mounts = [mount for one in listed for mount in one["Spec"]["TaskTemplate"]["ContainerSpec"].get("Mounts") or []]
        named = {mount.get("Source") for mount in mounts if mount["Type"] == "volume"}
        folders = {name: self.volume_path(name) for name in self.volumes_of(stack) if name in named}
        return {name: folder for name, folder in folders.items() if folder is not None}

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        """See ports.Containers.mounted. Each volume once."""
        services = {container: task.service for container, task in self._running_tasks(stack)}
        return [(volume, services[container], target) for volume, container, target in self._mounted(stack)]

    def _running_tasks(self, stack: str) -> list[tuple[str, Task]]:
        _, tasks = self.observe(stack)
        return [
            (task.container, task)
            for task in tasks
            if task.state == "running" and task.desired == "running" and task.current and task.container
        ]

    def _mounted(self, stack: str) -> list[tuple[str, str, str]]:
        """(volume, container, target) of each named writable volume of the running stack, each volume once."""
        seen: dict[str, tuple[str, str, str]] = {}
        for container, _ in self._running_tasks(stack):
            with _in_container("look at its mounts"):
                mounts = self._api.inspect_container(container)["Mounts"]
            for mount in mounts:
                if mount["Type"] != "volume" or not mount.get("RW") or mount["Name"] in seen:
                    continue
                if self._labels_of(mount["Name"]).get(NAMESPACE) == stack:
                    seen[mount["Name"]] = (mount["Name"], container, mount["Destination"])
        return list(seen.values())

    def _labels_of(self, volume: str) -> dict[str, str]:
        return dict(self._api.inspect_volume(volume).get("Labels") or {})

    # -- removal ---------------------------------------------------------------------------------------

    def undeploy(self, stack: str, timeout: float) -> tuple[str, ...]:
        """See ports.Stacks.undeploy. `stack rm` returns at once and sometimes fails half way: go on until all is gone."""
        ends, began = time.monotonic() + timeout, time.time()
        graces = self._stop_graces(stack)
        while left := self._parts(stack):
            if time.monotonic() > ends:
                raise TimedOut(
                    f"The stack {stack} was not gone after {timeout:.0f} s; left are {', '.join(left[:5])}.",
                    mend=f"run `docker stack rm {stack}` and look at the Engine's log.",
                )
            run(["docker", "stack", "rm", stack], timeout=60, env=plain_environment())
            self._stop_containers(stack, graces)
            if not pause_until(lambda: not self._parts(stack), min(4.0, max(0.1, ends - time.monotonic()))):
                self._remove_orphans(stack)
        return self._killed(stack, began)

    def _killed(self, stack: str, since: float) -> tuple[str, ...]:
        """Services of which a container has died by SIGKILL since then; the containers themselves are gone by now."""
        wanted = {"type": "container", "event": "die", "label": f"{NAMESPACE}={stack}"}
        with _translated("tell its events"):
            listed = list(self._api.events(since=f"{since:.6f}", until=f"{time.time():.6f}", filters=wanted, decode=True))
        died = [event["Actor"]["Attributes"] for event in listed]
        killed = {one.get("com.docker.swarm.service.name", "") for one in died if one.get("exitCode") == str(_KILLED)}
        return tuple(sorted(name.removeprefix(f"{stack}_") for name in killed if name))

    def _parts(self, stack: str) -> list[str]:
        label = {"label": f"{NAMESPACE}={stack}"}
        with _translated("list what is left of a stack"):
            return (
                [f"service {s['Spec']['Name']}" for s in self._api.services(filters=label)]
                + [f"container {c['Names'][0].lstrip('/')}" for c in self._api.containers(all=True, filters=label) if c["Names"]]
                + [f"network {n['Name']}" for n in self._api.networks(filters=label)]
                + [f"config {c['Spec']['Name']}" for c in self._api.configs(filters=label)]
            )

    def _stop_graces(self, stack: str) -> dict[str, int]:
        with _translated("list services"):
            listed = self._api.services(filters={"label": f"{NAMESPACE}={stack}"})
        return {
            service["ID"]: max(
                1, int(service["Spec"]["TaskTemplate"]["ContainerSpec"].get("StopGracePeriod", _STOP_GRACE * 10**9) / 1e9)
            )
            for service in listed
        }

    def _stop_containers(self, stack: str, graces: Mapping[str, int]) -> None:
        """Ask the containers to stop now, each with its own grace, rather than when Swarm gets round to it."""
        with _translated("list containers"):
            listed = self._api.containers(filters={"label": f"{NAMESPACE}={stack}"})
        for container in listed:
            grace = graces.get(container["Labels"].get("com.docker.swarm.service.id", ""), _STOP_GRACE)
            with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
                self._api.stop(container["Id"], timeout=grace)

    def _remove_orphans(self, stack: str) -> None:
        """Containers whose service is gone: after a crash of the Engine, Swarm may have forgotten them."""
        label = {"label": f"{NAMESPACE}={stack}"}
        with _translated("remove containers that Swarm has forgotten"):
            if self._api.services(filters=label):
                return
            for container in self._api.containers(all=True, filters=label):
                with contextlib.suppress(docker.errors.APIError):  # going already
                    self._api.remove_container(container["Id"], force=True, v=True)  # with its unnamed volumes

    def owned(self, labels: Mapping[str, str]) -> dict[str, list[str]]:
        """See ports.Ownership.owned."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with _translated("list what canonq owns"):
            stacks = {s["Spec"]["Labels"].get(NAMESPACE, "") for s in self._api.services(filters=wanted)}
            stacks |= {n.get("Labels", {}).get(NAMESPACE, "") for n in self._api.networks(filters=wanted)}
            stacks |= {c.get("Labels", {}).get(NAMESPACE, "") for c in self._api.containers(all=True, filters=wanted)}
            return {
                "stacks": sorted(stacks - {""}),
                "containers": [c["Id"][:12] for c in self._api.containers(all=True, filters=wanted)],
                "networks": [n["Name"] for n in self._api.networks(filters=wanted)],
                "configs": [c["Spec"]["Name"] for c in self._api.configs(filters=wanted)],
                "secrets": [s["Spec"]["Name"] for s in self._api.secrets(filters=wanted)],
                "volumes": [v["Name"] for v in self._api.volumes(filters=wanted)["Volumes"] or []],
            }

    def owners(self, labels: Mapping[str, str]) -> list[str]:
        """See ports.Ownership.owners."""
        wanted = {"label": [f"{key}={value}" for key, value in labels.items()]}
        with _translated("list what canonq owns"):
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
        for stack in removed["stacks"]:
            self.undeploy(stack, timeout)
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

    def _gone(self, remove: Callable[[], Any], what: str, timeout: float) -> None:
        ends = time.monotonic() + timeout
        while True:
            try:
                with _translated(f"remove the {what}"):
                    remove()
                return
            except docker.errors.NotFound:
                return
            except HostProblem:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)  # still in use by a task that is ending

    # -- volumes ---------------------------------------------------------------------------------------

    def make_volume(self, name: str, labels: Mapping[str, str], stack: str) -> Path:
        """See ports.Volumes.make_volume."""
        with _translated(f"make the volume {name}"):
            # Docker hands back the one that is there, whoever made it.
            with contextlib.suppress(docker.errors.NotFound):
                there = self._labels_of(name)
                owner = {key: labels.get(key, "") for key in (LABEL_INSTANCE, LABEL_OWNER)}
                if not _has(there, owner):
                    raise HostProblem(
                        f"Docker has a volume '{name}' that is not of this run; it was left as it is.",
                        mend="remove it if it is a leftover of yours, or give it another name.",
                        code="name-taken",
                    )
            made = self._api.create_volume(name, labels={**labels, NAMESPACE: stack})
        return Path(made["Mountpoint"])

    def volume_path(self, name: str) -> Path | None:
        """See ports.Volumes.volume_path."""
        with _translated("look at a volume"):
            try:
                return Path(self._api.inspect_volume(name)["Mountpoint"])
            except docker.errors.NotFound:
                return None

    def volume_label(self, name: str, label: str) -> str | None:
        """See ports.Volumes.volume_label."""
        with _translated("look at a volume"):
            try:
                return self._labels_of(name).get(label)
            except docker.errors.NotFound:
                return None

    def volumes_of(self, stack: str) -> list[str]:
        """See ports.Volumes.volumes_of."""
        with _translated("list volumes"):
            found = self._api.volumes(filters={"label": f"{NAMESPACE}={stack}"})["Volumes"] or []
        return sorted(volume["Name"] for volume in found)

    def remove_secrets(self, labels: Mapping[str, str]) -> None:
        """See ports.Ownership.remove_secrets."""
        for name in self.owned(labels)["secrets"]:
            self._gone(lambda name=name: self._api.remove_secret(name), f"secret {name}", timeout=30)  # type: ignore[misc]

    def remove_volume(self, name: str) -> None:
        """See ports.Volumes.remove_volume. Retried while an ending container still uses it."""
        self._gone(lambda: self._api.remove_volume(name), f"volume {name}", timeout=30)


def _has(carried: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(carried.get(key) == text for key, text in labels.items())


def _names(stack: Deployable, section: str) -> set[str]:
    """Names in Docker of what a stack makes itself."""
    declared = stack.file.get(section) or {}
    return {str(body["name"]).replace("$$", "$") for body in declared.values() if not body.get("external")}


def pause_until(done: Callable[[], bool], timeout: float, step: float = 0.1) -> bool:
    """Look every `step` seconds until `done` or `timeout` seconds are over; whether it was done."""
    ends = time.monotonic() + timeout
    while not done():
        if time.monotonic() > ends:
            return False
        time.sleep(step)
    return True


def _service(service: Mapping[str, Any], name: str) -> Service:
    spec = service["Spec"]
    mode = spec.get("Mode", {})
    job = next((kind for kind in ("ReplicatedJob", "GlobalJob") if kind in mode), None)
    restart = spec["TaskTemplate"].get("RestartPolicy", {}).get("Condition", "on-failure" if job else "any")
    update = service.get("UpdateStatus") or {}
    container = spec["TaskTemplate"].get("ContainerSpec", {})
    return Service(
        name=name,
        replicas=_wanted(mode),
        update=update.get("State"),
        update_message=update.get("Message", ""),
        one_shot=job is not None or restart in ("none", "on-failure"),
        restarts=restart != "none",
        job=job is not None,
        labels=spec.get("Labels", {}),
        image=container.get("Image", ""),
        healthcheck=bool((container.get("Healthcheck") or {}).get("Test")),
    )


def _wanted(mode: Mapping[str, Any]) -> int | None:
    """How many tasks a service's mode wants; None for one on each node."""
    if "Global" in mode or "GlobalJob" in mode:
        return None
    if "ReplicatedJob" in mode:
        job = mode["ReplicatedJob"] or {}
        return int(job.get("TotalCompletions") or job.get("MaxConcurrent") or 1)
    return int((mode.get("Replicated") or {}).get("Replicas", 1))


def _task(task: Mapping[str, Any], name: str, service: Mapping[str, Any]) -> Task:
    status = task.get("Status", {})
    container = status.get("ContainerStatus") or {}
    # A job that is deployed again begins anew, with the same spec perhaps: its tasks say which time they are of.
    time_of_job = ((service.get("JobStatus") or {}).get("JobIteration") or {}).get("Index")
    of_now = time_of_job is None or (task.get("JobIteration") or {}).get("Index") == time_of_job
    return Task(
        id=task.get("ID", ""),
        service=name,
        state=status.get("State", "new"),
        desired=task.get("DesiredState", ""),
        current=of_now and same_spec(service["Spec"]["TaskTemplate"], task.get("Spec", {})),
        slot=int(task.get("Slot", 0)),
        error=status.get("Err", ""),
        exit_code=int(container.get("ExitCode") or 0),
        container=container.get("ContainerID", ""),
        created=task.get("CreatedAt", ""),
        node=task.get("NodeID", ""),
    )
