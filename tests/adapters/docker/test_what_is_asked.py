"""What an Engine is asked before a run: it runs two programs for each answer about itself, so it is asked once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

import pytest

from canonq.adapters import engine as engines
from canonq.adapters.docker.target import chosen
from canonq.adapters.engine import SwarmEngine
from canonq.core.errors import HostProblem

_OWN = {"NodeID": "me", "LocalNodeState": "active", "ControlAvailable": True, "Nodes": 1, "Managers": 1}
_NODE = {
    "ID": "me",
    "Spec": {"Role": "manager", "Availability": "active"},
    "Status": {"State": "ready"},
    "ManagerStatus": {"Leader": True, "Reachability": "reachable"},
    "Description": {"Hostname": "here"},
}


@dataclass
class Asked:
    """An Engine that says of itself what it has to, and what it was asked."""

    folder: Path
    version: str = "20.10.24"
    api: str = "1.41"
    root: str = ""
    paths: list[str] = field(default_factory=list)

    @property
    def command_runs(self) -> int:
        """How often the `docker` command was asked."""
        return len((self.folder / "asked").read_text().splitlines()) if (self.folder / "asked").exists() else 0

    def command(self, api: str) -> None:
        """Have a `docker` command that speaks this version of the API and no older one."""
        said = {"Client": {"Version": "20.10.24", "DefaultAPIVersion": api}, "Server": self.about}
        new = self.folder / "bin" / ".docker"
        new.parent.mkdir(exist_ok=True)
        new.write_text(f"#!/bin/sh\necho asked >> {self.folder}/asked\ncat <<'END'\n{json.dumps(said)}\nEND\n")
        new.chmod(0o755)
        new.rename(self.folder / "bin" / "docker")

    @property
    def about(self) -> dict[str, str]:
        """Its versions."""
        return {"Version": self.version, "ApiVersion": "1.41", "MinAPIVersion": "1.24"}

    def answer(self, path: str) -> object:
        """What it says to one question."""
        self.paths.append(path)
        if path.endswith("/version"):
            return self.about
        if path.endswith("/info"):
            return {
                "ServerVersion": self.version,
                "DockerRootDir": self.root or str(self.folder),
                "Driver": "overlay2",
                "Swarm": _OWN,
            }
        return [_NODE] if path.endswith("/nodes") else "OK"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    found = Asked(tmp_path)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = json.dumps(found.answer(self.path)).encode()
            self.send_response(200)
            if found.api and self.path.endswith("/_ping"):
                self.send_header("Api-Version", found.api)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *arguments: object) -> None:
            """Nothing."""

    class Server(ThreadingMixIn, UnixStreamServer):
        daemon_threads = True

        def get_request(self) -> tuple[object, tuple[str, int]]:  # type: ignore[override]
            request, _ = super().get_request()
            return request, ("here", 0)

    found.command("1.41")
    with Server(str(tmp_path / "docker.sock"), Answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
        monkeypatch.setattr(engines, "_MEET", {})
        chosen.cache_clear()
        try:
            yield found
        finally:
            chosen.cache_clear()
            server.shutdown()


def times(asked: Asked, what: str) -> int:
    """How often it was asked for this."""
    return len([path for path in asked.paths if path.endswith(f"/{what}")])


def test_before_a_run_it_is_asked_for_itself_once_and_never_for_its_version(asked: Asked) -> None:
    engine = SwarmEngine()
    assert engine.roots().docker == engine.data_root() == asked.folder
    engine.preflight()
    assert (times(asked, "info"), times(asked, "version"), asked.command_runs) == (1, 0, 1)
    assert [path for path in asked.paths if "/v" in path and "/v1.41/" not in path] == [], "the API that it speaks"


def test_of_a_command_and_an_engine_that_speak_with_each_other_neither_is_asked_again_until_one_is_another(
    asked: Asked,
) -> None:
    for _ in range(2):
        SwarmEngine().preflight()
    assert asked.command_runs == 1
    asked.command("1.41")
    SwarmEngine().preflight()
    assert asked.command_runs == 2, "another file"
    asked.version = "28.0.0"
    SwarmEngine().preflight()
    assert asked.command_runs == 3, "another Engine"


def test_a_command_that_is_too_old_for_the_engine_is_refused_each_time(asked: Asked) -> None:
    asked.command("1.12")
    for _ in range(2):
        with pytest.raises(HostProblem, match="API") as refused:
            SwarmEngine().preflight()
        assert refused.value.code == "docker-api"
    asked.command("1.41")
    SwarmEngine().preflight()


def test_a_command_that_says_nothing_is_asked_again(asked: Asked) -> None:
    (asked.folder / "bin" / "docker").write_text(f"#!/bin/sh\necho asked >> {asked.folder}/asked\nkill -9 $$\n")
    for _ in range(2):
        SwarmEngine().preflight()
    assert asked.command_runs == 2


def test_what_was_asked_long_ago_is_asked_again(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    SwarmEngine().preflight()
    monkeypatch.setattr(engines, "_MEET", {key: asked_at - 3600 for key, asked_at in engines._MEET.items()})
    SwarmEngine().preflight()
    assert asked.command_runs == 2


@pytest.mark.parametrize("api", ["", "abc", "v1.41"])
def test_an_engine_that_does_not_say_which_api_it_speaks_is_asked_for_its_version(asked: Asked, api: str) -> None:
    asked.api = api
    SwarmEngine().ping()
    assert times(asked, "version") == 1


def test_an_engine_whose_data_is_elsewhere_now_is_asked_where(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = SwarmEngine()
    assert engine.data_root() == asked.folder
    asked.root = str(asked.folder / "other")
    monkeypatch.setattr("time.monotonic", lambda now=time.monotonic: now() + 5)
    engine.preflight()
    assert engine.data_root() == asked.folder / "other"


@pytest.mark.parametrize("host", ["tcp://a..b:2375", f"tcp://{'a' * 70}.test:2375", "tcp://127.0.0.1:1"])
def test_an_address_at_which_nobody_can_answer_is_told_as_that(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    chosen.cache_clear()
    try:
        with pytest.raises(HostProblem) as refused:
            SwarmEngine().ping()
        assert refused.value.code == "docker-unreachable"
    finally:
        chosen.cache_clear()
