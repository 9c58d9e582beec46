"""The shared network: made once, also by two runs at the same moment, and never mistaken for one that no stack can use."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.core.errors import HostProblem

PROXY = {"Name": "proxy", "Scope": "swarm"}


class Api:
    """As much of Docker's API as networks take; `refusal` is how it refuses to make one."""

    def __init__(self, there: list[dict[str, str]], refusal: str = "", *, made_meanwhile: bool = False) -> None:
        self.there, self.refusal, self.made_meanwhile = there, refusal, made_meanwhile
        self.made: list[str] = []

    def networks(self, names: list[str]) -> list[dict[str, str]]:
        return [network for network in self.there if network["Name"].startswith(names[0])]

    def create_network(self, name: str, **options: Any) -> None:
        assert options["driver"] == "overlay"
        if self.made_meanwhile:
            self.there.append(PROXY)
        if self.refusal:
            raise docker.errors.APIError(self.refusal)
        self.made.append(name)


def ensured(api: Api) -> Api:
    engine = SwarmEngine()
    engine._client = SimpleNamespace(api=api)  # type: ignore[assignment]
    engine.ensure_network("proxy")
    return api


def test_the_network_is_made_when_it_is_missing_and_only_then() -> None:
    assert ensured(Api([])).made == ["proxy"]
    assert ensured(Api([{"Name": "proxy-2", "Scope": "swarm"}])).made == ["proxy"]
    assert ensured(Api([PROXY])).made == []


@pytest.mark.parametrize(
    "refusal",
    ["network with name proxy already exists", "rpc error: code = Unknown desc = name conflicts with an existing object"],
)
def test_a_network_that_another_run_made_at_the_same_moment_is_there_in_whatever_words_it_is_told(refusal: str) -> None:
    ensured(Api([], refusal, made_meanwhile=True))


def test_a_network_that_docker_does_not_make_is_told() -> None:
    with pytest.raises(HostProblem) as told:
        ensured(Api([], "could not find an available, non-overlapping IPv4 address pool"))
    assert told.value.code == "addresses-used-up"
    assert "default-address-pools" in told.value.mend
    with pytest.raises(HostProblem) as told:
        ensured(Api([], "something new"))
    assert told.value.code == "docker-refused"


def test_a_network_of_this_host_alone_is_not_taken_for_the_one_that_is_needed() -> None:
    with pytest.raises(HostProblem, match="for this host alone") as told:
        ensured(Api([{"Name": "proxy", "Scope": "local"}]))
    assert told.value.code == "network-scope"


def test_who_only_looks_finds_the_same_and_makes_nothing() -> None:
    api = Api([{"Name": "proxy", "Scope": "local"}])
    engine = SwarmEngine()
    engine._client = SimpleNamespace(api=api)  # type: ignore[assignment]
    with pytest.raises(HostProblem, match="for this host alone"):
        engine.check_network("proxy")
    api.there = []
    engine.check_network("proxy")
    assert api.made == []
