"""Recipes on the Swarm that is there, by `docker stack deploy` alone: a second opinion that does not ask canonq."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container
from git import Repo

_NAMESPACE = "com.docker.stack.namespace"
_SECRET = re.compile(r"^SECRET_(\w+)_VERSION=(v\d+) +# length=(\d+)", re.MULTILINE)


class DeployRefused(Exception):
    """`docker stack deploy` ended with another status than 0; the text is what it printed."""


class Stack:
    """One stack, with the volumes and secrets that `docker stack rm` leaves behind."""

    def __init__(self, engine: docker.DockerClient, folder: Path) -> None:
        """`folder` takes the checkouts; it outlives the stack."""
        self.name = f"zz-demo-{secrets.token_hex(3)}"
        self._engine = engine
        self._folder = folder

    def deploy(self, upstream: Path, ref: str, overlay: Path | None = None) -> None:
        """Deploy a tag or branch of a repository, in place when the stack is there.

        `overlay` is a compose file on top of the recipe's. DeployRefused when Docker says no.
        """
        tree = self._folder / secrets.token_hex(4)
        with Repo.clone_from(str(upstream), tree, no_checkout=True) as repo:
            repo.git.checkout("--quiet", "--detach", ref)
        self._make_secrets((tree / ".env.sample").read_text())
        # The shell reads both files the way a maintainer means them; canonq's own reader is not asked.
        script = f"""
        set -eu
        set -a
        STACK_NAME={self.name}
        . ./.env.sample
        . ./abra.sh
        set +a
        set -- docker stack deploy --resolve-image never --detach=true
        IFS=:
        for file in $COMPOSE_FILE; do set -- "$@" -c "$file"; done
        exec "$@" {f"-c {shlex.quote(str(overlay))}" if overlay else ""} "$STACK_NAME"
        """
        ended = _run("sh", "-c", script, cwd=tree)
        if ended.returncode != 0:
            raise DeployRefused(ended.stdout)

    def await_running(self, version: str, timeout_s: float = 600) -> None:
        """Wait until `version` is what the label says, no update is on its way, and every service has a healthy task."""
        label = f"coop-cloud.{self.name}.version"
        self.await_(
            f"{version} running",
            lambda: (
                self.service("app").attrs["Spec"]["Labels"][label] == version
                and all(self._settled(service) for service in self._services())
            ),
            timeout_s,
        )

    def await_(self, what: str, done: Callable[[], object], timeout_s: float = 600) -> None:
        """Wait until `done()` holds; AssertionError with the tasks' states when it does not in time."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: no {what} after {timeout_s:.0f} s: {self.states()}")
            time.sleep(0.3)

    def service(self, name: str) -> Any:
        """One of its services, as it is now: docker's Service, which has no types."""
        services: Any = self._engine.services
        return services.get(f"{self.name}_{name}")

    def update_state(self, name: str = "app") -> str | None:
        """How the last update of a service went, as Docker spells it; None before the first."""
        state: str | None = (self.service(name).attrs.get("UpdateStatus") or {}).get("State")
        return state

    def states(self, name: str | None = None) -> list[str]:
        """`<image>: <state>: <error>` of every task there is still a record of."""
        services = [self.service(name)] if name else self._services()
        return [
            f"{task['Spec']['ContainerSpec']['Image']}: {task['Status']['State']}: {task['Status'].get('Err', '')}"
            for service in services
            for task in service.tasks()
        ]

    def container(self, name: str = "app") -> Container:
        """The container of a service's only running task."""
        (task,) = _running(self.service(name))
        return self._engine.containers.get(task["Status"]["ContainerStatus"]["ContainerID"])

    def fetch(self, path: str = "/", post: str | None = None) -> tuple[bool, str]:
        """Ask the app from inside its network; return whether it answered with a 2xx, and the body or the error."""
        pid = str(self.container().attrs["State"]["Pid"])
        form = [] if post is None else ["--post-data", post]
        url = f"http://127.0.0.1:80{path}"
        # Not wget's own -T: Debian's static busybox 1.35 crashes on it.
        ended = _run("nsenter", "-t", pid, "-n", "timeout", "120", "busybox", "wget", "-q", "-O", "-", *form, url)
        return ended.returncode == 0, ended.stdout

    def await_answer(self, path: str) -> None:
        """Wait until the app answers a path with a 2xx."""
        deadline = time.monotonic() + 600
        while not (answer := self.fetch(path))[0]:
            assert time.monotonic() < deadline, f"{path} is not answered: {answer[1]}"
            time.sleep(0.3)

    def execute(self, name: str, *command: str) -> str:
        """Run a command in a service's container; return its output. AssertionError unless it ends with 0."""
        ended = self.container(name).exec_run(list(command))
        assert isinstance(ended.output, bytes)
        assert ended.exit_code == 0, ended.output.decode()
        return ended.output.decode()

    def remove(self) -> None:
        """Remove all of it; nothing happens when nothing is there."""
        _run("docker", "stack", "rm", "--detach=true", self.name)
        mine: dict[str, str | list[str] | bool] = {"label": f"{_NAMESPACE}={self.name}"}
        deadline = time.monotonic() + 600
        while self._engine.containers.list(all=True, ignore_removed=True, filters=mine) or self._engine.networks.list(
            filters=mine
        ):
            assert time.monotonic() < deadline, f"{self.name} does not go away"
            time.sleep(0.3)
        for volume in self._engine.volumes.list(filters=mine):
            volume.remove()
        for secret in self._engine.secrets.list(filters={"label": f"zz-demo={self.name}"}):
            secret.remove()

    def _services(self) -> list[Any]:
        services: Any = self._engine.services
        return list(services.list(filters={"label": f"{_NAMESPACE}={self.name}"}))

    def _make_secrets(self, sample: str) -> None:
        there = {secret.name for secret in self._engine.secrets.list(filters={"label": f"zz-demo={self.name}"})}
        for name, version, length in _SECRET.findall(sample):
            full = f"{self.name}_{name.lower()}_{version}"
            if full not in there:
                value = secrets.token_hex(int(length))[: int(length)]
                self._engine.secrets.create(name=full, data=value.encode(), labels={"zz-demo": self.name})

    @staticmethod
    def _settled(service: Any) -> bool:
        status = (service.attrs.get("UpdateStatus") or {}).get("State", "completed")
        return status == "completed" and len(_running(service)) == 1


def _running(service: Any) -> list[dict[str, Any]]:
    # Swarm says "running" of a task with a healthcheck only once that has passed.
    return [
        task
        for task in service.tasks({"desired-state": "running"})
        if task["Status"]["State"] == "running"
        and task["Spec"]["ContainerSpec"]["Image"] == service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
    ]


def _run(*command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
