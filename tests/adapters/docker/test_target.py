"""Which Docker is meant: as Docker's own command decides it, and the same for the SDK and for every program."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from canonq.adapters.docker import target as dockertarget
from canonq.adapters.docker.target import target
from canonq.adapters.processes.programs import plain_environment
from canonq.core.errors import HostProblem


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A HOME whose Docker configuration has a context `other`, over TLS, and one `near`."""
    contexts = tmp_path / ".docker" / "contexts"
    for name, host in (("other", "tcp://docker.example.org:2376"), ("near", "unix:///srv/other.sock")):
        known = hashlib.sha256(name.encode()).hexdigest()
        (contexts / "meta" / known).mkdir(parents=True)
        endpoint = {"Host": host, "SkipTLSVerify": False}
        (contexts / "meta" / known / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": endpoint}}))
    (contexts / "tls" / hashlib.sha256(b"other").hexdigest() / "docker").mkdir(parents=True)
    return tmp_path


def test_without_a_word_it_is_the_default_socket(tmp_path: Path) -> None:
    found = target({"HOME": str(tmp_path)})
    assert (found.host, found.why, found.variables) == ("unix:///var/run/docker.sock", "the default", {})


def test_docker_host_outranks_every_context(home: Path) -> None:
    (home / ".docker" / "config.json").write_text('{"currentContext": "near"}')
    found = target({"HOME": str(home), "DOCKER_HOST": "unix:///x.sock", "DOCKER_CONTEXT": "other"})
    assert (found.host, found.variables) == ("unix:///x.sock", {"DOCKER_HOST": "unix:///x.sock"})


def test_docker_context_outranks_the_configuration(home: Path) -> None:
    (home / ".docker" / "config.json").write_text('{"currentContext": "other"}')
    found = target({"HOME": str(home), "DOCKER_CONTEXT": "near"})
    assert found.variables == {"DOCKER_HOST": "unix:///srv/other.sock"}
    assert found.why == "the context near of DOCKER_CONTEXT"


def test_the_configurations_context_counts_with_its_certificates(home: Path) -> None:
    (home / ".docker" / "config.json").write_text('{"currentContext": "other"}')
    found = target({"HOME": str(home)}).variables
    assert (found["DOCKER_HOST"], found["DOCKER_TLS_VERIFY"]) == ("tcp://docker.example.org:2376", "1")
    assert found["DOCKER_CERT_PATH"].endswith("/docker")


def test_another_folder_of_configuration_is_read_and_handed_on(home: Path, tmp_path: Path) -> None:
    (home / ".docker" / "config.json").write_text('{"currentContext": "near"}')
    found = target({"HOME": "/nowhere", "DOCKER_CONFIG": str(home / ".docker"), "DOCKER_API_VERSION": "1.41"}).variables
    assert found == {
        "DOCKER_HOST": "unix:///srv/other.sock",
        "DOCKER_CONFIG": str(home / ".docker"),
        "DOCKER_API_VERSION": "1.41",
    }


@pytest.mark.parametrize("named", ["gone", "../../etc", "\x1b[31m"])
def test_a_context_that_is_not_there_is_an_error_and_never_another_docker(home: Path, named: str) -> None:
    with pytest.raises(HostProblem, match="DOCKER_CONTEXT names") as caught:
        target({"HOME": str(home), "DOCKER_CONTEXT": named})
    assert caught.value.code == "docker-context"
    assert "\x1b" not in caught.value.what


@pytest.mark.parametrize("text", ["", "[]", '{"currentContext": 7}', "\x00", '{"currentContext": "default"}'])
def test_a_configuration_that_names_no_context_is_the_default(tmp_path: Path, text: str) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(text)
    if "7" in text:
        with pytest.raises(HostProblem):
            target({"HOME": str(tmp_path)})
    else:
        assert target({"HOME": str(tmp_path)}).why == "the default"


def test_every_program_is_told_the_decision_and_not_the_question(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in dockertarget.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DOCKER_CONTEXT", "near")
    dockertarget.chosen.cache_clear()
    try:
        told = plain_environment()
        monkeypatch.setenv("DOCKER_CONTEXT", "other")  # somebody changes it while a run is under way
        assert plain_environment() == told
    finally:
        dockertarget.chosen.cache_clear()
    assert told["DOCKER_HOST"] == "unix:///srv/other.sock"
    assert "DOCKER_CONTEXT" not in told
