"""What all tests share: who commits in their repositories, how they are dealt out, and the options of the fault suites."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from canonq.adapters.processes.preloaded import keep_shared
from canonq.adapters.redis_server import embedded_redis
from tests import memory, support
from tests.dealing import Mixed

# Looking for garbage after every few hundred objects is a seventh of what the quick tests cost.
gc.set_threshold(100_000, 50, 50)

# A fresh machine has told git nobody's name.
for role in ("AUTHOR", "COMMITTER"):
    os.environ.setdefault(f"GIT_{role}_NAME", "Tests")
    os.environ.setdefault(f"GIT_{role}_EMAIL", "tests@localhost")


# Nobody needs what the repositories of tests would still have if the power failed now, nor the dozen examples of hooks in each.
os.environ["GIT_TEMPLATE_DIR"] = ""
_settings = {"core.fsync": "none", "gc.auto": "0", "maintenance.auto": "false"}
os.environ["GIT_CONFIG_COUNT"] = str(len(_settings))
for number, (name, value) in enumerate(_settings.items()):
    os.environ[f"GIT_CONFIG_KEY_{number}"], os.environ[f"GIT_CONFIG_VALUE_{number}"] = name, value


# How long an example takes says how busy the machine is.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
#: For the loop of every change; all examples are tried where all crash points are.
settings.register_profile("few", settings.get_profile("any-machine"), max_examples=25)

_FAILED = pytest.StashKey[bool]()

#: What takes longest is begun first, or one process works on when all others are through. A file goes to one process whole,
#: for the sake of its fixtures.
LONGEST_FIRST = (
    "real/test_demo.py", "real/test_upgrades.py", "faults/test_crash_points.py", "real/test_going_back.py",
    "deploy/test_compose_deployment.py", "real/test_disk.py", "real/test_killed_workers.py", "real/test_data_and_refs.py",
    "real/test_ingress.py", "real/test_random_kills.py", "real/test_tiers.py", "cli/test_celery_words.py",
    "search/test_search.py", "real/test_interrupts.py", "hosts/test_cut_links.py", "real/test_beats.py", "real/test_staying.py",
    "demo/test_demo_deploys.py", "real/test_workers.py", "faults/test_whose_fault.py", "real/test_forge_and_webhook.py",
    "real/test_databases.py", "adapters/git/test_clones.py", "hosts/test_moves.py", "flows/test_sync.py",
    "faults/test_succession.py", "flows/proving/test_parts.py", "real/test_registries.py", "hosts/test_several_hosts.py",
    "real/test_containment.py", "flows/test_sync_crashes.py", "workers/test_up.py", "flows/proving/test_witnesses.py",
    "flows/upstream/test_discovery.py", "real/test_small_disk.py", "workers/test_web.py", "test_collection.py",
    "workers/test_one_worker.py", "flows/proving/test_data_that_is_kept.py", "flows/upstream/test_bad_upstreams.py",
    "adapters/data/test_archives.py", "flows/sweeps/test_damage.py", "faults/test_broken_bases.py",
    "flows/proving/test_own_code.py", "real/test_states_of_swarm.py", "hosts/test_a_night.py", "real/test_engine_contract.py",
    "test_the_current_folder.py",
)  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    """Where few crash points are tried, few examples are."""
    if config.getoption("crash_stride") != "1":
        settings.load_profile("few")
    if not hasattr(config, "workerinput"):  # once, before there are any
        memory.remove_left()


def pytest_unconfigure() -> None:
    """What a process of several leaves; it ends without a word to `atexit`."""
    support.forget_made()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Mixed | None:
    """With `--dist loadfile`, as `make test` deals."""
    return Mixed(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """In a fresh clone, compile the tests once, before several processes do it side by side."""
    folder = Path(__file__).parent
    files = sorted(map(str, folder.rglob("test_*.py")))
    if len(list(folder.rglob("__pycache__/test_*-pytest-*.pyc"))) < len(files):
        collect = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
        with contextlib.ExitStack() as both:
            for half in (files[::2], files[1::2]):
                both.enter_context(
                    subprocess.Popen([*collect, *half], cwd=config.rootpath, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest first."""
    places = {f"tests/{name}": at for at, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


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
    group.addoption("--kills", default="16", help="how many real processes are killed (default: 16)")
    group.addoption("--rounds", default="2", help="how often hosts are cut off while they sweep (default: 2)")
    group.addoption("--dockers", default="0", help="the same, with a Docker on each of them (default: not at all)")
    group.addoption("--seed", default="1", help="what decides which, and when (default: 1)")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a failed test leaves is kept."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of the test's own; for all but real tests it is in memory, where there is room."""
    real = request.node.get_closest_marker("real") is not None
    folder = tmp_path_factory.mktemp("disk") if real or not memory.has_room() else memory.new_folder(request.function.__name__)
    yield folder
    if not request.node.stash.get(_FAILED, False):
        memory.remove(folder)


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    """A Redis for the tests of a module."""
    with embedded_redis() as url:
        yield url
