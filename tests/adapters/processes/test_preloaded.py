"""Processes that are kept ready: each call is a fork, ends with all that it left, and harms no other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.processes.preloaded import Preloaded
from canonq.adapters.processes.programs import Program, plain_environment
from canonq.adapters.processes.stopping import stoppable
from canonq.core.errors import CanonqError, TimedOut
from canonq.ports import Ended
from tests.adapters.processes.test_programs import dies

CALLS = "tests.adapters.processes.preloaded_calls"
LONG = 600.0  #: seconds


@pytest.fixture
def ready() -> Iterator[Preloaded]:
    made = Preloaded(CALLS)
    yield made
    while made._idle:
        made._idle.pop().close()


@pytest.fixture
def call(ready: Preloaded, tmp_path: Path) -> Callable[..., Ended]:
    def ask(name: str, limit: float = LONG, **arguments: Any) -> Ended:
        env = plain_environment(SAID="by the caller")
        return ready.start(name, arguments, env=env, cwd=tmp_path, until=time.monotonic() + LONG).finish(timeout=limit)

    return ask


def number(path: Path, which: int = 0) -> int:
    ends = time.monotonic() + LONG
    while not path.is_file() or not path.read_text():
        assert time.monotonic() < ends
        time.sleep(0.02)
    return int(path.read_text().split()[which])


def test_a_call_has_its_own_words_status_environment_and_folder_and_the_next_is_a_fork_of_the_same_process(
    call: Callable[..., Ended], ready: Preloaded, tmp_path: Path
) -> None:
    first = call("says", words="one", status=3)
    assert first.status == 3
    assert first.output.splitlines() == ["one", f"by the caller {os.environ['HOME']} {tmp_path}"]
    (kept,) = ready._idle
    assert call("says", words="two", status=0).output.startswith("two\n")
    assert ready._idle == [kept]


def test_a_call_that_hangs_is_killed_at_its_limit_with_its_group_and_the_next_works(
    call: Callable[..., Ended], tmp_path: Path
) -> None:
    with pytest.raises(TimedOut, match="did not end within 1 s"):
        call("hangs", limit=1, pid=str(tmp_path / "pid"))
    assert dies(number(tmp_path / "pid"))
    assert call("says", words="x", status=0).status == 0


def test_a_daemon_without_a_name_a_parent_or_a_session_is_hunted_down(call: Callable[..., Ended], tmp_path: Path) -> None:
    assert call("leaves", pid=str(tmp_path / "pid")).status == 0
    assert dies(number(tmp_path / "pid"))


@pytest.mark.long
def test_its_own_start_takes_none_of_its_time(call: Callable[..., Ended]) -> None:
    assert call("slow_start", limit=15, seconds=17).status == 7


@pytest.mark.long
def test_a_process_that_is_killed_costs_its_own_call_and_no_other(call: Callable[..., Ended]) -> None:
    assert call("dies").status == -signal.SIGKILL
    assert call("says", words="x", status=0).status == 0


@pytest.mark.long
def test_one_that_died_while_it_was_kept_is_replaced(call: Callable[..., Ended], ready: Preloaded) -> None:
    call("says", words="x", status=0)
    ready._idle[0]._process.kill()
    assert call("says", words="y", status=0).output.startswith("y\n")


def test_one_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(CanonqError, match=r"process of tests\.no_such_module died"):
        Preloaded("tests.no_such_module").start("x", {}, env={}, cwd=tmp_path, until=time.monotonic() + LONG)


def test_whoever_asks_may_be_stopped_while_it_starts(ready: Preloaded, tmp_path: Path) -> None:
    with stoppable() as stop:
        stop.ask(CanonqError("Enough.", code="x"))
        with pytest.raises(CanonqError, match="Enough"):
            ready.start("says", {"words": "", "status": 0}, env={}, cwd=tmp_path, until=time.monotonic() + LONG)
    with pytest.raises(TimedOut):
        ready.start("says", {"words": "", "status": 0}, env={}, cwd=tmp_path, until=time.monotonic())


@pytest.mark.long
def test_without_whoever_asked_nothing_lives_on(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from canonq.adapters.processes.preloaded import Preloaded\n"
        f"Preloaded({CALLS!r}).start('hangs', {{'pid': sys.argv[1]}}, env={{}}, cwd=Path('/'),"
        " until=time.monotonic() + 600).finish(timeout=600)"
    )
    parent = Program([sys.executable, "-c", code, str(tmp_path / "pid")])
    call, server = number(tmp_path / "pid"), number(tmp_path / "pid", 1)
    os.kill(parent._process.pid, signal.SIGKILL)
    assert dies(call)
    assert dies(server)
    parent.end()


def test_a_fork_of_whoever_asks_starts_one_of_its_own(call: Callable[..., Ended], ready: Preloaded) -> None:
    call("says", words="x", status=0)
    kept = ready._idle[0]
    pid = os.fork()
    if pid == 0:
        os._exit(0 if ready._idle == [] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert call("says", words="y", status=0).status == 0
    assert ready._idle == [kept]
