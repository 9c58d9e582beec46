"""A whole canonq in containers, from docker-compose.yml as it stands, for as long as a test session lasts."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT

from .host import compose_program, must, run

_START_LIMIT = 900.0  #: seconds


@dataclass(frozen=True)
class Images:
    """The images of one session: canonq's own, and the local one in the place of those that would be pulled."""

    canonq: str
    base: str


@dataclass(frozen=True)
class Deployment:
    """A running stack. `checkout` and `state` are the same paths on the host and in the containers."""

    project: str
    environment: dict[str, str]
    checkout: Path
    state: Path
    flower: str  #: http://127.0.0.1:PORT
    login: str  #: user:password
    password: str  #: of Redis

    def compose(self, *words: str, timeout_s: float = 1800) -> subprocess.CompletedProcess[str]:
        """`docker-compose WORDS` on this stack."""
        return run(
            *compose_program(),
            *("--project-name", self.project, "--file", "docker-compose.yml"),
            *words,
            env=self.environment,
            timeout_s=timeout_s,
        )

    def inside(self, service: str, *command: str, timeout_s: float = 1800) -> subprocess.CompletedProcess[str]:
        """Run a command in a service's container, for example `canonq sweep --wait` in `light`."""
        return run("docker", "exec", self.container(service), *command, timeout_s=timeout_s)

    def container(self, service: str) -> str:
        """The id of a service's container. Docker is asked: each start of docker-compose takes a second of a processor."""
        of = {"project": self.project, "service": service}
        labels = [word for key, value in of.items() for word in ("--filter", f"label=com.docker.compose.{key}={value}")]
        return must("docker", "ps", "--all", "--quiet", *labels).strip()

    def await_workers(self) -> None:
        """Wait until both workers answer a ping."""
        ends = time.monotonic() + _START_LIMIT
        said = ""
        while not all(f"{name}@" in said for name in ("light", "heavy")):
            if time.monotonic() > ends:
                logs = self.compose("logs", "--no-color", "--tail=40").stdout
                pytest.fail(f"the workers did not answer within {_START_LIMIT:.0f} s: {said}\n{logs}")
            said = self.inside("light", "celery", "-A", "canonq", "inspect", "ping", "--timeout", "3").stdout


@contextlib.contextmanager
def built_images() -> Iterator[Images]:
    """Build the image from this tree and remove it afterwards. What deploy/local-images makes stays, as it is reused."""
    lines = must("deploy/local-images", timeout_s=3600).splitlines()
    named = dict(line.split("=", 1) for line in lines)
    tag = f"canonq-test:{secrets.token_hex(4)}"
    arguments = (
        *("--build-arg", f"BASE={named['CANONQ_BASE_IMAGE']}"),
        *("--build-arg", f"DOCKER_CLI={named['CANONQ_DOCKER_CLI_IMAGE']}"),
    )
    try:
        must("docker", "build", "--quiet", "--network", "none", *arguments, "--tag", tag, ROOT, timeout_s=3600)
        yield Images(canonq=tag, base=named["CANONQ_REDIS_IMAGE"])
    finally:
        run("docker", "image", "rm", tag)
        left = run("docker", "image", "ls", "-q", "-f", "dangling=true", "-f", "label=canonq.stage=build")
        for image in left.stdout.split():
            run("docker", "image", "rm", image)


@contextlib.contextmanager
def running_stack(images: Images, folder: Path) -> Iterator[Deployment]:
    """Start the stack under a name and a loopback port of its own; stop and remove all of it afterwards."""
    checkout, state, url = folder / "recipes", folder / "state", folder / "redis_url"
    (checkout / "tests").mkdir(parents=True)
    state.mkdir()
    password, login, port = secrets.token_hex(16), f"operator:{secrets.token_hex(8)}", free_port()
    url.touch(mode=0o600)
    url.write_text(f"redis://:{password}@redis:6379/0\n")
    environment = {
        "CANONQ_IMAGE": images.canonq,
        "CANONQ_BASE_IMAGE": images.base,
        "CANONQ_DOCKER_CLI_IMAGE": images.base,
        "CANONQ_REDIS_IMAGE": images.base,
        "CANONQ_REPO": str(checkout),
        "CANONQ_STATE": str(state),
        "CANONQ_REDIS_URL_FILE": str(url),
        "CANONQ_FLOWER_LOGIN": login,
        "CANONQ_FLOWER_PORT": str(port),
        "CANONQ_DOCKER_ROOT": must("docker", "info", "--format", "{{.DockerRootDir}}").strip(),
    }
    deployment = Deployment(
        project=f"canonqtest{secrets.token_hex(4)}",
        environment=environment,
        checkout=checkout,
        state=state,
        flower=f"http://127.0.0.1:{port}",
        login=login,
        password=password,
    )
    try:
        started = deployment.compose("up", "--detach", "--no-build")
        assert started.returncode == 0, started.stderr[-4000:]
        deployment.await_workers()
        yield deployment
    finally:
        deployment.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
