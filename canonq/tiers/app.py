"""The deployed app, as a recipe's own tests and hooks see it (docs/enrolment.md, "Own tests").

What is public here is a promise to every test_*.py and hooks.py: it is only ever added to.
"""

from __future__ import annotations

import errno
import functools
import io
import json
import posixpath
import socket
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from canonq.adapters.network import netns
from canonq.adapters.network.asking import ask
from canonq.adapters.network.exchange import exchange
from canonq.adapters.network.forward import Forwarder
from canonq.adapters.network.ingress import MOST_BODY, HttpIngress
from canonq.core.deployable import LABEL_COMMIT, version_label
from canonq.core.errors import RecipeProblem
from canonq.core.jsontext import json_of
from canonq.core.stack.convergence import Convergence, Service, Task, judge
from canonq.ports import Answer, Ended, Engine
from canonq.tiers.facts import TierFacts

_EXEC_TIMEOUT = 120.0  #: seconds

_ANSWER = 60.0  #: seconds for one answer of an app that has answered before: a busy host is slow to start a command


@dataclass(frozen=True)
class Response:
    """An answer to a request; redirects are not followed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body read as JSON; ValueError when it is none."""
        return json_of(self.body)


class Http:
    """Requests to the app under its own domain: through the ingress when there is one, else inside its network."""

    def __init__(self, app: DeployedApp) -> None:
        self._app = app

    def get(self, path: str = "/", **more: Any) -> Response:
        """GET `path`; see request."""
        return self.request("GET", path, **more)

    def post(self, path: str = "/", **more: Any) -> Response:
        """POST to `path`; see request."""
        return self.request("POST", path, **more)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str | None = None,
        form: Mapping[str, str] | None = None,
        json: Any = None,
        timeout: float = 30,
    ) -> Response:
        """One request with a body, a form or a JSON value. OSError when nothing answers within `timeout` seconds."""
        whole = dict(headers or {})
        sent = body.encode() if isinstance(body, str) else body
        if form is not None:
            sent = urlencode(form).encode()
            whole.setdefault("Content-Type", "application/x-www-form-urlencoded")
        if json is not None:
            sent = _dumps(json)
            whole.setdefault("Content-Type", "application/json")
        facts = self._app.facts
        if facts.ingress is not None:
            return Response(
                *HttpIngress(facts.ingress).request(method, facts.domain, path, headers=whole, body=sent, timeout=timeout)
            )
        pid = self._app.engine.process_of(facts.stack, facts.health.service)
        asked = {"Host": facts.domain, "X-Forwarded-Proto": "https", **whole}
        port = facts.health.port
        return netns.inside(pid, lambda: _request(netns.way_in(pid, port, timeout), port, method, path, asked, sent, timeout))


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def _request(
    address: str, port: int, method: str, path: str, headers: Mapping[str, str], body: bytes | None, timeout: float
) -> Response:
    try:
        with socket.create_connection((address, port), timeout=timeout) as there:
            status, said, got = exchange(there, method, path, headers=headers, body=body, seconds=timeout, largest=MOST_BODY)
    except OSError as error:
        raise OSError(f"port {port}: {error}") from error
    return Response(status, said, got)


@dataclass(frozen=True)
class Look:
    """What was seen of the app at one moment: what runs, and what it answered."""

    tasks: Sequence[Task]
    convergence: Convergence
    answered: Answer | Exception  #: the error where it could not even be asked

    @property
    def answer(self) -> Answer:
        """What it answered. The error where it could not be asked."""
        if isinstance(self.answered, Exception):
            raise self.answered
        return self.answered

    @property
    def is_good(self) -> bool:
        """Whether all runs and it answered as it has to."""
        return self.convergence.state == "converged" and isinstance(self.answered, Answer) and self.answered.ok


@dataclass(frozen=True)
class Volume:
    """A volume of the app, read and written through a container that mounts it."""

    app: DeployedApp
    service: str
    path: str  #: where it is mounted

    def read(self, name: str) -> bytes:
        """One file of it. FileNotFoundError when it is not there."""
        found = self.app.read_file(self.service, posixpath.join(self.path, name))
        if found is None:
            raise FileNotFoundError(name)
        return found

    def write(self, name: str, content: bytes | str, *, mode: int = 0o644) -> None:
        """Write one file of it; the folders above it must be there."""
        folder, _, base = posixpath.join(self.path, name).rpartition("/")
        self.app.write_file(self.service, folder, base, content.encode() if isinstance(content, str) else content, mode)


@dataclass
class DeployedApp:
    """The running app."""

    facts: TierFacts
    engine: Engine
    _forwarders: list[Forwarder] = field(default_factory=list)

    # -- for recipes -----------------------------------------------------------------------------------

    @property
    def domain(self) -> str:
        """The domain it was deployed with."""
        return self.facts.domain

    @property
    def version(self) -> str:
        """The release that is deployed now."""
        return self.facts.version

    @property
    def fresh(self) -> bool:
        """Whether it was installed on empty volumes at this very version; False where it was upgraded, or has older data."""
        return self.facts.fresh

    @functools.cached_property
    def url(self) -> str:
        """Where a client on this host reaches it, without a slash at the end.

        With an ingress it is the app's own address; without one, a port on 127.0.0.1 that leads into its network.
        """
        if self.facts.ingress is not None:
            return f"{self.facts.ingress.scheme}://{self.facts.domain}"
        forwarder = Forwarder(lambda: self.engine.process_of(self.facts.stack, self.facts.health.service), self.facts.health.port)
        self._forwarders.append(forwarder)
        return f"http://127.0.0.1:{forwarder.port}"

    @functools.cached_property
    def http(self) -> Http:
        """Requests to it under its own domain."""
        return Http(self)

    def exec(self, service: str, *command: str, timeout: float = _EXEC_TIMEOUT) -> Ended:
        """Run a command in a service's container; status and output. TimedOut after `timeout` seconds."""
        return self.engine.execute(self.facts.stack, service, command, timeout)

    def volume(self, key: str) -> Volume:
        """The volume that the recipe's compose file calls `key`. KeyError when nothing running mounts it."""
        name = self.facts.volumes[key]
        for mounted, service, target in self.engine.mounted(self.facts.stack):
            if mounted == name:
                return Volume(self, service, target)
        raise KeyError(f"no running service mounts the volume {key}")

    def secret(self, name: str) -> str:
        """The value of a secret, by its name in the recipe. It is masked in everything that is kept."""
        return str(json_of(Path(self.facts.secrets_file).read_text())[name])

    @property
    def env(self) -> dict[str, str]:
        """All of the app's env: `.env.sample`, `[env]`, what install steps have added. Empty before it is deployed."""
        from canonq.core.recipe.envfile import parse_env

        path = Path(self.facts.env_file)
        return dict(parse_env(path.read_text(), where=str(path))) if path.is_file() else {}

    def logs(self, service: str, lines: int = 100) -> str:
        """The last log lines of a service."""
        return self.engine.logs(self.facts.stack, lines).get(service, "")

    # -- for the generic tests -------------------------------------------------------------------------

    def observe(self) -> tuple[list[Service], list[Task]]:
        """Services and tasks as they are now."""
        return self.engine.observe(self.facts.stack)

    def look(self) -> Look:
        """Look once at what runs, and ask it."""
        services, tasks = self.observe()
        convergence = judge(services, tasks, answering=self.facts.health.service)
        try:
            return Look(tasks, convergence, self.answer())
        except Exception as error:  # noqa: BLE001 - for whoever wants the answer
            return Look(tasks, convergence, error)

    def deployed_version(self) -> str | None:
        """The version that the app service's label names."""
        return self._label(version_label(self.facts.stack))

    def deployed_commit(self) -> str | None:
        """The commit that the app service's label names."""
        return self._label(LABEL_COMMIT)

    def _label(self, name: str) -> str | None:
        services, _ = self.observe()
        app = next((service for service in services if service.name == "app"), None)
        return (app.labels or {}).get(name) if app else None

    def answer(self) -> Answer:
        """Ask the app as the enrolment says."""
        ingress = HttpIngress(self.facts.ingress) if self.facts.ingress else None
        return ask(self.engine, ingress, self.facts.stack, self.facts.health, self.facts.domain, _ANSWER)

    def read_file(self, service: str, path: str) -> bytes | None:
        """One file of a service's container; None when it is not there. OSError for one of more than 64 MiB."""
        try:
            packed = io.BytesIO()
            for chunk in self.engine.read_archive(self.facts.stack, service, path):
                if packed.tell() > MOST_BODY:
                    raise OSError(errno.EFBIG, f"it is larger than {MOST_BODY >> 20} MiB", path)
                packed.write(chunk)
        except RecipeProblem:
            return None
        packed.seek(0)
        with tarfile.open(fileobj=packed) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None and member.isreg() else None
            return file.read() if file else None

    def write_file(self, service: str, folder: str, name: str, content: bytes, mode: int) -> None:
        """Write one file into a folder of a service's container."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
        packed.seek(0)
        self.engine.write_archive(self.facts.stack, service, folder, packed)

    def close(self) -> None:
        """Let go of what was opened for it."""
        for forwarder in self._forwarders:
            forwarder.close()
