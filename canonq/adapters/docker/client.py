"""The connection to the Docker Engine of this host, and what its failures mean."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from canonq.adapters.docker.disks import roots
from canonq.adapters.docker.target import chosen
from canonq.adapters.lazily import docker, requests
from canonq.core.blame import known
from canonq.core.errors import NOT_ALLOWED, HostProblem, RecipeProblem
from canonq.ports import Roots

NAMESPACE = "com.docker.stack.namespace"
_SOCKET = "unix://"
_REFUSED = (errno.EACCES, errno.EPERM)
_PATIENCE = 60  #: seconds that the Engine gets for an answer


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    try:
        yield
    except docker.errors.NotFound:
        raise
    except docker.errors.APIError as error:
        raise _refused(what, str(error.explanation or error).rstrip(".")) from error
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


#: What the host lacks, whatever was asked of Docker: then its table has the better mend.
_OF_HOST = frozenset({
    "no-swarm", "disk-broken", "disk-full", "disk-read-only", "host-exhausted", "addresses-used-up", "firewall-flushed",
    "network-broken", "runtime-broken", "docker-damaged", "layer-not-unpacked",
})  # fmt: skip


def _refused(what: str, said: str) -> HostProblem:
    found = known(said)
    if found is not None and found.code in _OF_HOST:
        return HostProblem(f"Docker refused to {what}: {said}.", mend=found.mend, code=found.code)
    return HostProblem(f"Docker refused to {what}: {said}.", code="docker-refused")


def no_engine(error: Exception) -> HostProblem:
    """The error for an Engine that was asked and gave no answer: it hangs, is not there, or does not let this user in."""
    what, mend = _silence(error)
    cause = NOT_ALLOWED if _errno(error) in _REFUSED else ""
    return HostProblem(what, mend=mend, code="docker-unreachable", cause=cause, outside="Docker")


def _errno(error: Exception) -> int | None:
    return next((cause.errno for cause in _causes(error) if isinstance(cause, OSError) and cause.errno), None)


def _silence(error: Exception) -> tuple[str, str]:
    causes, said = list(_causes(error)), str(error)[:200]
    if any(isinstance(cause, (requests.exceptions.Timeout, TimeoutError)) for cause in causes):
        return (
            f"The Docker Engine is there and hangs: it took the question, and gave no answer within {_PATIENCE} s.",
            "look at its log (`journalctl -u docker`), and for a disk or network file system that hangs; `systemctl restart "
            "docker` where nothing else helps.",
        )
    refused = _errno(error)
    if refused in _REFUSED:
        return (
            f"The Docker Engine's socket may not be used by this user (uid {os.geteuid()}).",
            "run it as root or as the user that runs canonq, or put this one into the group `docker` and log in again.",
        )
    start = "start Docker: `systemctl start docker`, or `dockerd`; `journalctl -u docker` says why it ended."
    if refused == errno.ENOENT:
        return "The Docker Engine does not answer: its socket is not there.", start
    if refused == errno.ECONNREFUSED:
        return "The Docker Engine does not answer: nobody listens at its socket.", start
    if any(isinstance(cause, (requests.exceptions.SSLError, docker.errors.TLSParameterError)) for cause in causes):
        return (
            f"The Docker Engine is asked over TLS, and that fails: {said}.",
            "look at DOCKER_CERT_PATH and the certificates there.",
        )
    return f"The Docker Engine does not answer: {said}.", "start Docker (`systemctl start docker`, or `dockerd`)."


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and all that are in it or have led to it: each library wraps the one below."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [part for part in (*one.args, one.__cause__, one.__context__, getattr(one, "reason", None))
                     if isinstance(part, BaseException)]  # fmt: skip


class DockerClient:
    """One connection, made when it is first needed."""

    def __init__(self, containerd_root: Path | None = None) -> None:
        """`containerd_root`: where its containerd keeps images, if that is not to be asked."""
        self._client: docker.DockerClient | None = None
        self._containerd_root = containerd_root
        self._roots: Roots | None = None
        self._told: tuple[float, Mapping[str, Any]] | None = None

    @property
    def _api(self) -> Any:
        if self._client is None:
            try:
                variables = dict(chosen().variables)
                version = variables.pop("DOCKER_API_VERSION", None) or _spoken(variables)
                self._client = _client(version, variables)
            except docker.errors.DockerException as error:
                raise no_engine(error) from error
        return self._client.api

    def _info(self, age: float = 0.0) -> Mapping[str, Any]:
        """What it says of itself, `age` seconds ago at most: it runs two programs for each answer."""
        now = time.monotonic()
        if self._told is None or now - self._told[0] > age:
            before, self._told = self._told, (now, self._api.info())
            if before is not None and any(before[1].get(key) != self._told[1].get(key) for key in ("ID", "DockerRootDir")):
                self._roots = None
        return self._told[1]

    def roots(self) -> Roots:
        """See ports.Engine.roots. Asked once: they change with another Engine only."""
        if self._roots is None:
            with translated("tell where it keeps its data"):
                info = self._info(age=float("inf"))
            self._roots = roots(info, self._containerd_root)
        return self._roots


def _client(version: str | None, variables: Mapping[str, str]) -> docker.DockerClient:
    client = docker.from_env(version=version, timeout=_PATIENCE, environment=variables, use_context=False)
    if variables.get("DOCKER_HOST", _SOCKET).startswith(_SOCKET):
        # No proxy stands before a socket, and looking for one in all of the environment is a fifth of what a question costs.
        client.api.trust_env = False
    return client


def _spoken(variables: Mapping[str, str]) -> str | None:
    """Which version of its API an Engine speaks, by the head of its answer to a ping.

    Asked for its version, as docker-py does where this gives None, it runs two programs first. What is wrong with one that gives
    no answer docker-py says then.
    """
    from docker.constants import MINIMUM_DOCKER_API_VERSION

    try:
        with contextlib.closing(_client(MINIMUM_DOCKER_API_VERSION, variables)) as asking:
            said = asking.api.get(f"{asking.api.base_url}/_ping", timeout=_PATIENCE).headers.get("Api-Version") or ""
    except requests.exceptions.Timeout as error:  # nor would it answer the next question
        raise no_engine(error) from error
    except Exception:  # noqa: BLE001 - libraries below raise what they like for an address that is none
        return None
    return said if re.fullmatch(r"[0-9]+\.[0-9]+", said) else None


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
