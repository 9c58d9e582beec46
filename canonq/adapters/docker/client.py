"""The connection to the Docker Engine of this host, and what its failures mean."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from canonq.adapters.docker.disks import roots
from canonq.adapters.docker.target import chosen
from canonq.adapters.lazily import docker, requests
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.ports import Roots

NAMESPACE = "com.docker.stack.namespace"


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    try:
        yield
    except docker.errors.NotFound:
        raise
    except docker.errors.APIError as error:
        raise HostProblem(f"Docker refused to {what}: {error.explanation or error}.", code="docker-refused") from error
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise no_engine(error) from error


@contextlib.contextmanager
def in_container(what: str) -> Iterator[None]:
    """As _translated, for a container of the app's that may end at any time: then it is the app's fault."""
    try:
        with translated(what):
            yield
    except docker.errors.NotFound as error:
        raise RecipeProblem(f"A container ended while canonq was about to {what}.", code="not-running") from error


def no_engine(error: Exception) -> HostProblem:
    return HostProblem(
        f"The Docker Engine does not answer: {str(error)[:200]}.",
        mend="start Docker (`systemctl start docker`, or `dockerd`), and let this user use its socket.",
        code="docker-unreachable",
        outside="Docker",
    )


class DockerClient:
    """One connection, made when it is first needed."""

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
                raise no_engine(error) from error
        return self._client.api

    def roots(self) -> Roots:
        """See ports.Engine.roots. Asked once: they change with another Engine only."""
        if self._roots is None:
            with translated("tell where it keeps its data"):
                info = self._api.info()
            self._roots = roots(info, self._containerd_root)
        return self._roots


def has_labels(carried: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(carried.get(key) == text for key, text in labels.items())


def pause_until(done: Callable[[], bool], timeout: float, step: float = 0.1) -> bool:
    """Look every `step` seconds until `done` or `timeout` seconds are over; whether it was done."""
    ends = time.monotonic() + timeout
    while not done():
        if time.monotonic() > ends:
            return False
        time.sleep(step)
    return True
