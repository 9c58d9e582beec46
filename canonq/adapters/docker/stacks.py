"""Stacks: what they need beside them, their deploy, how they are, and their end."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from canonq.adapters.docker.client import NAMESPACE, DockerClient, has_labels, pause_until, translated
from canonq.adapters.lazily import docker, requests
from canonq.adapters.processes.programs import plain_environment, run
from canonq.core.blame import deploy_problem, names_of_stack
from canonq.core.deployable import LABEL_KIND, Deployable
from canonq.core.errors import HostProblem, TimedOut
from canonq.core.recipe.compose import written
from canonq.core.stack.convergence import Service, Task, failing_check, same_spec

_STOP_GRACE = 10  #: seconds Docker gives a container when the recipe says nothing
_STOPPED_AT_ONCE = 16
_LAST_LINES = 3  #: of a log, that say why its container died
_KILLED = 128 + signal.SIGKILL  #: exit status of a process that was killed


class SwarmStacks(DockerClient):
    """See ports.Stacks."""

    def ensure_network(self, name: str) -> None:
        """See ports.Stacks.ensure_network."""
        with translated(f"make the network {name}"):
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

    def check_network(self, name: str) -> bool:
        """See ports.Stacks.check_network."""
        with translated(f"look at the network {name}"):
            return self._has_network(name)

    def networks(self) -> list[str]:
        """See ports.Stacks.networks."""
        with translated("list networks"):
            return [one["Name"] for one in self._api.networks() if one.get("Scope") == "swarm" and not one.get("Ingress")]

    def configs(self) -> list[str]:
        """See ports.Stacks.configs."""
        with translated("list configs"):
            return [one["Spec"]["Name"] for one in self._api.configs()]

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
        with translated(f"keep the secret {name}"):
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

    def strangers(self, stack: Deployable, labels: Mapping[str, str]) -> list[str]:
        """See ports.Stacks.strangers."""
        own = {section: _names(stack, section) for section in ("networks", "configs", "secrets", "volumes")}
        services = {f"{stack.stack}_{name}" for name in stack.file["services"]}
        with translated("look whose names are in use"):
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
            if (spec["Name"] in names or of_stack) and not has_labels(carried, labels):
                found.append(f"a {kind} '{spec['Name']}'")
        return sorted(found)

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        """See ports.Stacks.deploy. The resolved file is JSON, which every YAML reader reads alike."""
        path = folder / f"{stack.stack}.resolved.json"
        path.write_text(written(stack.file), encoding="utf-8")
        path.chmod(0o600)
        command = ["docker", "stack", "deploy", "--resolve-image", "never", "--prune", "-c", str(path), stack.stack]
        ended = run(command, timeout=timeout, env=plain_environment(), cwd=folder, log=folder / "deploy.log")
        if ended.status == -signal.SIGKILL:
            raise _killed(f"`docker stack deploy` of {stack.stack}")
        if ended.status != 0:
            keys = (key for section in stack.file.values() if isinstance(section, dict) for key in section)
            names = names_of_stack(stack.stack, keys)
            raise deploy_problem(ended.tail, f"`docker stack deploy` of {stack.stack}", names=names)

    def redeploy(self, stack: str) -> None:
        """See ports.Stacks.redeploy. What the recipe says of updates is for updates: there is nothing to go back to here."""
        services, _ = self.observe(stack)
        for service in services:
            command = ["docker", "service", "update", "--quiet", "--force", "--detach", "--no-resolve-image"]
            if not service.job:
                command += [
                    "--update-order", "stop-first", "--update-parallelism", "0", "--update-delay", "0s",
                    "--update-monitor", "100ms", "--update-failure-action", "continue",
                ]  # fmt: skip
            ended = run([*command, f"{stack}_{service.name}"], timeout=60, env=plain_environment())
            if ended.status == -signal.SIGKILL:
                raise _killed(f"`docker service update --force` of {service.name}")
            if ended.status != 0:
                raise deploy_problem(ended.tail, f"`docker service update --force` of {service.name}")

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        """See ports.Stacks.observe."""
        with translated("list services"):
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
        with translated("tell its events"):
            stream = self._api.events(filters={"label": f"{NAMESPACE}={stack}"}, decode=True)

        def listen() -> None:
            with contextlib.suppress(Exception):  # closed below, or the Engine is gone: the next look tells
                for event in stream:
                    # What is run in a container, such as its health check, changes nothing; what the check finds is told apart.
                    if not str(event.get("Action")).startswith("exec_"):
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

    def last_words(self, stack: str, service: str) -> str:
        """See ports.Stacks.last_words."""
        dead = [task for task in self.observe(stack)[1] if task.service == service and task.state in ("failed", "complete")]
        if not dead:
            return ""
        newest = max(dead, key=lambda task: task.created)
        command = ["docker", "service", "logs", "--no-trunc", "--raw", "--tail", str(_LAST_LINES), newest.id]
        try:
            ended = run(command, timeout=20, env=plain_environment())
        except TimedOut:
            return ""
        return "\n".join(line for line in ended.output.splitlines() if line.strip()) if ended.status == 0 else ""

    def failing_checks(self, stack: str) -> dict[str, str]:
        """See ports.Stacks.failing_checks. Docker keeps the last five answers of a container, also when it is over."""
        said: dict[str, str] = {}
        _, tasks = self.observe(stack)
        for task in sorted((task for task in tasks if task.container), key=lambda task: task.created, reverse=True):
            if task.service in said:
                continue  # what a newer one says counts, also when that is nothing bad
            with translated("look at a health check"), contextlib.suppress(docker.errors.NotFound):
                if (answer := failing_check(self._api.inspect_container(task.container))) is not None:
                    said[task.service] = answer
        return {service: text for service, text in said.items() if text}

    def out_of_memory(self, stack: str) -> frozenset[str]:
        """See ports.Stacks.out_of_memory."""
        found = set()
        with translated("look who ran out of memory"):
            for listed in self._api.containers(all=True, filters={"label": f"{NAMESPACE}={stack}"}):
                with contextlib.suppress(docker.errors.NotFound):
                    if self._api.inspect_container(listed["Id"])["State"].get("OOMKilled"):
                        found.add(str(listed["Id"]))
        return frozenset(found)

    # -- removal ---------------------------------------------------------------------------------------

    def undeploy(self, stack: str, timeout: float) -> tuple[str, ...]:
        """See ports.Stacks.undeploy. `stack rm` returns at once and sometimes fails half way: go on until all is gone."""
        ends, began = time.monotonic() + timeout, time.time()
        graces = self._stop_graces(stack)
        while not self._is_gone(stack):
            if time.monotonic() > ends and (left := list(self._parts(stack))):
                raise TimedOut(
                    f"The stack {stack} was not gone after {timeout:.0f} s; left are {', '.join(left[:5])}.",
                    mend=f"run `docker stack rm {stack}` and look at the Engine's log.",
                )
            run(["docker", "stack", "rm", stack], timeout=60, env=plain_environment())
            self._stop_containers(stack, graces, _patience(ends - time.monotonic(), timeout))
            if not pause_until(lambda: self._is_gone(stack), min(4.0, max(0.1, ends - time.monotonic()))):
                self._remove_orphans(stack)
        return self._killed(stack, began)

    def _killed(self, stack: str, since: float) -> tuple[str, ...]:
        """Services of which a container has died by SIGKILL since then; the containers themselves are gone by now."""
        wanted = {"type": "container", "event": "die", "label": f"{NAMESPACE}={stack}"}
        with translated("tell its events"):
            listed = list(self._api.events(since=f"{since:.6f}", until=f"{time.time():.6f}", filters=wanted, decode=True))
        died = [event["Actor"]["Attributes"] for event in listed]
        killed = {one.get("com.docker.swarm.service.name", "") for one in died if one.get("exitCode") == str(_KILLED)}
        return tuple(sorted(name.removeprefix(f"{stack}_") for name in killed if name))

    def _is_gone(self, stack: str) -> bool:
        """Most looks find its containers and are over; services are asked for before them again, as they make new ones."""
        with translated("list what is left of a stack"):
            running = self._api.containers(all=True, filters={"label": f"{NAMESPACE}={stack}"})
        return not running and next(self._parts(stack), None) is None

    def _parts(self, stack: str) -> Iterator[str]:
        label = {"label": f"{NAMESPACE}={stack}"}
        with translated("list what is left of a stack"):
            yield from (f"service {s['Spec']['Name']}" for s in self._api.services(filters=label))
            yield from (
                f"container {c['Names'][0].lstrip('/')}" for c in self._api.containers(all=True, filters=label) if c["Names"]
            )
            yield from (f"network {n['Name']}" for n in self._api.networks(filters=label))
            yield from (f"config {c['Spec']['Name']}" for c in self._api.configs(filters=label))

    def _stop_graces(self, stack: str) -> dict[str, int]:
        with translated("list services"):
            listed = self._api.services(filters={"label": f"{NAMESPACE}={stack}"})
        return {
            service["ID"]: max(
                1, int(service["Spec"]["TaskTemplate"]["ContainerSpec"].get("StopGracePeriod", _STOP_GRACE * 10**9) / 1e9)
            )
            for service in listed
        }

    def _stop_containers(self, stack: str, graces: Mapping[str, int], patience: int) -> None:
        """Ask the containers to stop now, all at once, rather than when Swarm gets round to it.

        Each has its own grace, and none more than `patience`: then it is killed, whatever its service says.
        """
        with translated("list containers"):
            listed = self._api.containers(filters={"label": f"{NAMESPACE}={stack}"})

        def stop(container: Mapping[str, Any]) -> None:
            grace = graces.get(container["Labels"].get("com.docker.swarm.service.id", ""), _STOP_GRACE)
            with contextlib.suppress(docker.errors.APIError, requests.exceptions.RequestException):
                self._api.stop(container["Id"], timeout=min(grace, patience))

        with ThreadPoolExecutor(_STOPPED_AT_ONCE, thread_name_prefix="stop") as stopping:
            for _ in stopping.map(stop, listed):
                pass

    def _remove_orphans(self, stack: str) -> None:
        """Containers whose service is gone: after a crash of the Engine, Swarm may have forgotten them."""
        label = {"label": f"{NAMESPACE}={stack}"}
        with translated("remove containers that Swarm has forgotten"):
            if self._api.services(filters=label):
                return
            for container in self._api.containers(all=True, filters=label):
                with contextlib.suppress(docker.errors.APIError):  # going already
                    self._api.remove_container(container["Id"], force=True, v=True)  # with its unnamed volumes


def _patience(left: float, timeout: float) -> int:
    """Seconds that a container gets to stop in, of those that are left: what is over by then still has to be cleared away."""
    return max(1, int(left - min(15.0, timeout / 4)))


def _killed(what: str) -> HostProblem:
    """The error for a command of Docker's that somebody killed before it had said anything."""
    return HostProblem(
        f"{what} was killed.",
        mend="`dmesg` says whether the kernel did so for want of memory; else somebody ended it.",
        code="host-exhausted",
    )


def _names(stack: Deployable, section: str) -> set[str]:
    """Names in Docker of what a stack makes itself."""
    declared = stack.file.get(section) or {}
    return {str(body["name"]).replace("$$", "$") for body in declared.values() if not body.get("external")}


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
