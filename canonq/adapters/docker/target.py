"""Which Docker is meant: one decision, as Docker's own command makes it, for that command and for the SDK alike."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from canonq.adapters.files import table_in
from canonq.core.errors import HostProblem

DEFAULT_HOST = "unix:///var/run/docker.sock"
#: What Docker's command reads of its environment; everything that asks Docker gets the same.
VARIABLES = (
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKER_API_VERSION",
)


@dataclass(frozen=True)
class Target:
    """The Docker that is meant."""

    host: str
    why: str  #: who says so, for people
    variables: Mapping[str, str] = field(default_factory=dict)  #: for the command's environment, and the SDK's


def target(environment: Mapping[str, str]) -> Target:
    """DOCKER_HOST, else the context that DOCKER_CONTEXT or Docker's configuration names, else the default socket.

    HostProblem when that context cannot be read: another Docker than the one that is meant must not be used.
    """
    given = {name: value for name in VARIABLES if (value := environment.get(name))}
    if host := given.get("DOCKER_HOST"):
        given.pop("DOCKER_CONTEXT", None)
        return Target(host, "DOCKER_HOST", given)
    folder = Path(given.get("DOCKER_CONFIG") or Path(environment.get("HOME") or "/") / ".docker")
    context, who = given.pop("DOCKER_CONTEXT", None), "DOCKER_CONTEXT"
    if context is None:
        context, who = table_in(folder / "config.json").get("currentContext"), f"{folder}/config.json"
    if not context or context == "default":
        return Target(DEFAULT_HOST, "the default", given)
    return _of_context(folder / "contexts", str(context), who, given)


def _of_context(contexts: Path, name: str, who: str, given: dict[str, str]) -> Target:
    known = hashlib.sha256(name.encode()).hexdigest()
    endpoint = (table_in(contexts / "meta" / known / "meta.json").get("Endpoints") or {}).get("docker") or {}
    host = endpoint.get("Host")
    if not isinstance(host, str) or not host:
        raise HostProblem(
            f"The Docker context {name!a} that {who} names is not there, or names no host.",
            mend="`docker context ls` shows what there is; correct it, or set DOCKER_HOST.",
            code="docker-context",
        )
    own = {key: value for key, value in given.items() if key in ("DOCKER_CONFIG", "DOCKER_API_VERSION")}
    certificates = contexts / "tls" / known / "docker"
    if certificates.is_dir():
        checked = {"DOCKER_TLS": "1"} if endpoint.get("SkipTLSVerify") else {"DOCKER_TLS_VERIFY": "1"}
        own |= {"DOCKER_CERT_PATH": str(certificates), **checked}
    return Target(host, f"the context {ascii(name)[1:-1]} of {who}", {**own, "DOCKER_HOST": host})


@functools.cache
def chosen() -> Target:
    """The decision of this process; it stays, so that a run that is under way has one Docker from its beginning to its end."""
    return target(os.environ)


def docker_variables() -> dict[str, str]:
    """The same for the environment of programs; where there is no decision, whoever asks Docker is told why."""
    try:
        return dict(chosen().variables)
    except HostProblem:
        return {name: os.environ[name] for name in VARIABLES if name in os.environ}
