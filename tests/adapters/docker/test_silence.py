"""An Engine that gives no answer: why, and what to do about it, in each of the ways in which that happens on a host."""

from __future__ import annotations

import socket
from pathlib import Path

import docker
import pytest
import requests

from canonq.adapters.docker.client import no_engine
from canonq.adapters.docker.target import chosen
from canonq.adapters.engine import SwarmEngine


@pytest.mark.parametrize(
    ("how", "said", "mend"),
    [
        ("nothing", "its socket is not there", "start Docker"),
        ("left", "nobody listens at its socket", "start Docker"),
        ("hangs", "is there and hangs", "journalctl -u docker"),
        ("forbidden", "may not be used by this user", "group `docker`"),
    ],
)
def test_why_the_engine_gives_no_answer_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, said: str, mend: str
) -> None:
    path = tmp_path / "docker.sock"
    listener = socket.socket(socket.AF_UNIX)
    if how != "nothing":
        listener.bind(str(path))
    if how == "hangs":
        listener.listen(5)
    if how == "forbidden":

        def refused(*arguments: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("docker.transport.unixconn.UnixHTTPConnection.connect", refused)
    with listener, pytest.raises((docker.errors.DockerException, requests.exceptions.RequestException)) as caught:
        docker.DockerClient(base_url=f"unix://{path}", version="1.41", timeout=1).ping()
    found = no_engine(caught.value)
    assert found.code == "docker-unreachable"
    assert said in found.what
    assert mend in found.mend


def test_an_engine_that_is_asked_where_none_is_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    chosen.cache_clear()  # one decision for a whole process: another test may have made it
    try:
        assert f"{tmp_path}/none.sock" in SwarmEngine().asked_at()
    finally:
        chosen.cache_clear()
