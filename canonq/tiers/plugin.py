"""The pytest plugin that gives a tier's tests the deployed app."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.processes.programs import begun
from canonq.tiers.app import DeployedApp, Look
from canonq.tiers.facts import PROGRESS, read_facts
from canonq.tiers.hanging import tell_where_it_hangs

_LOOKS = 3
_APART = 0.15  #: seconds from one look to the next
COLLECTED, BEGINS, ENDED = "collected", "begins", "ended"
_limit: list[float] = []  #: seconds from when the recipe's code is read until it is killed
_folder: list[Path] = []  #: the tier's; tests may go elsewhere


def ends_after(seconds: float) -> None:
    """Say when the process will be killed, so that it can tell before that where it hangs."""
    _limit[:] = [seconds]


def pytest_load_initial_conftests() -> None:
    """The recipe's code is read from here on: canonq's own start is over."""
    _folder.append(Path.cwd())
    for limit in _limit:
        tell_where_it_hangs(limit)
    begun()


def _tell(word: str, test: str) -> None:
    with (_folder[0] / PROGRESS).open("a") as file:
        file.write(f"{word} {time.time():.1f} {test!r}\n")


def pytest_itemcollected(item: pytest.Item) -> None:
    """All that there is to run, before anything can take it away again."""
    _tell(COLLECTED, item.nodeid)


def pytest_runtest_logstart(nodeid: str) -> None:
    """A test begins."""
    _tell(BEGINS, nodeid)


def pytest_runtest_logfinish(nodeid: str) -> None:
    """A test has ended, its fixtures too; one that ended everything has not."""
    _tell(ENDED, nodeid)


@pytest.fixture(scope="session")
def app() -> Iterator[DeployedApp]:
    """The app under test."""
    made = DeployedApp(read_facts(), SwarmEngine())
    yield made
    made.close()


@pytest.fixture(scope="session")
def looks(app: DeployedApp) -> list[Look]:
    """Several looks in a row, for whatever has to be so at each of them: a passing state is not taken for the lasting one.

    The first that is not good is the last.
    """
    taken = [app.look()]
    while len(taken) < _LOOKS and taken[-1].is_good:
        time.sleep(_APART)
        taken.append(app.look())
    return taken


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each rule of the lint tier."""
    if "rule" in metafunc.fixturenames:
        metafunc.parametrize("rule", sorted(read_facts().lint))
