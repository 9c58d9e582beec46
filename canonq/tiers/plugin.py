"""The pytest plugin that gives a tier's tests the deployed app."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.programs import begun
from canonq.tiers.app import DeployedApp
from canonq.tiers.facts import read_facts


def pytest_load_initial_conftests() -> None:
    """The recipe's code is read from here on: canonq's own start is over."""
    begun()


@pytest.fixture(scope="session")
def app() -> Iterator[DeployedApp]:
    """The app under test."""
    made = DeployedApp(read_facts(), SwarmEngine())
    yield made
    made.close()


@pytest.fixture
def steadily() -> Callable[[Callable[[], object]], None]:
    """Repeat a check on several looks in a row, so that a passing state is not taken for the lasting one."""

    def repeat(check: Callable[[], object]) -> None:
        for look in range(3):
            if look:
                time.sleep(0.15)
            check()

    return repeat


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each rule of the lint tier."""
    if "rule" in metafunc.fixturenames:
        metafunc.parametrize("rule", sorted(read_facts().lint))
