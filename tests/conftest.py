"""What all tests share: who commits in their repositories, how they are dealt out, and the options of the fault suites."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, settings

from canonq.adapters.processes.preloaded import keep_shared
from canonq.adapters.redis_server import embedded_redis

# Looking for garbage after every few hundred objects is a seventh of what the quick tests cost.
gc.set_threshold(100_000, 50, 50)

# A fresh machine has told git nobody's name.
for role in ("AUTHOR", "COMMITTER"):
    os.environ.setdefault(f"GIT_{role}_NAME", "Tests")
    os.environ.setdefault(f"GIT_{role}_EMAIL", "tests@localhost")


# How long an example takes says how busy the machine is.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")

#: What takes longest is begun first, or one process works on when all others are through. A file goes to one process whole,
#: for the sake of its fixtures.
LONGEST_FIRST = (
    "deploy/test_compose_deployment.py", "real/test_workers.py", "faults/test_crash_points.py", "real/test_upgrades.py",
    "real/test_forge_and_webhook.py", "real/test_disk.py", "real/test_demo.py", "demo/test_demo_deploys.py",
    "real/test_ingress.py", "real/test_going_back.py", "real/test_data_and_refs.py", "real/test_tiers.py",
    "real/test_random_kills.py", "real/test_interrupts.py", "flows/test_sync_crashes.py", "faults/test_succession.py",
    "real/test_small_disk.py", "search/test_search.py", "real/test_registries.py", "real/test_states_of_swarm.py",
    "real/test_databases.py", "cli/test_celery_words.py", "adapters/test_git_and_refs.py", "faults/test_whose_fault.py",
    "cli/test_bad_input.py", "cli/test_sync_and_enrol.py",
)  # fmt: skip


def _place(names: Sequence[str], item: pytest.Item) -> int:
    return next((at for at, name in enumerate(names) if item.path.as_posix().endswith(f"tests/{name}")), len(names))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    items.sort(key=lambda item: _place(LONGEST_FIRST, item))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end, also for the forks of tests."""
    keep_shared()


def pytest_addoption(parser: pytest.Parser) -> None:
    """How thorough the fault suites are; the defaults are for every change, more is for a night."""
    group = parser.getgroup("canonq")
    group.addoption("--crash-stride", default="1", help="try every n-th crash point (default: each)")
    group.addoption(
        "--interrupts", default="some", choices=("some", "all"), help="at which steps Ctrl-C is typed (default: some)"
    )
    group.addoption("--kills", default="25", help="how many real processes are killed (default: 25)")
    group.addoption("--seed", default="1", help="what decides which, and when (default: 1)")


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis for the tests of a module."""
    with embedded_redis() as url:
        yield url
