"""Work beside other work: waited for, and stopped with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from canonq.adapters.processes.programs import run
from canonq.adapters.processes.stopping import meanwhile, stoppable
from canonq.core.errors import HostProblem, Interrupted, RecipeProblem


def sleeper(ends: list[BaseException]) -> Callable[[], None]:
    """Work that would take ten minutes, and says with what it was ended."""

    def act() -> None:
        try:
            run(["sleep", "600"], timeout=700)
        except BaseException as error:
            ends.append(error)
            raise

    return act


def test_what_is_done_meanwhile_is_over_when_the_block_is() -> None:
    done, goes_on = list[str](), threading.Event()

    def act() -> None:
        goes_on.wait(60)
        time.sleep(0.2)
        done.append("act")

    with meanwhile("test", act):
        done.append("block")
        goes_on.set()
    assert done == ["block", "act"]


def test_its_own_error_is_raised_after_a_block_that_went_well_and_not_beside_the_blocks() -> None:
    def act() -> None:
        raise HostProblem("no picture")

    with pytest.raises(HostProblem, match="no picture"), meanwhile("test", act):
        pass
    with pytest.raises(RecipeProblem, match="red"), meanwhile("test", act):
        raise RecipeProblem("red")


@pytest.mark.parametrize("error", [RecipeProblem("red"), KeyboardInterrupt()])
def test_a_block_that_fails_has_it_stopped(error: BaseException) -> None:
    ends = list[BaseException]()
    with pytest.raises(type(error)), meanwhile("test", sleeper(ends)):
        raise error
    (ended,) = ends
    assert ended is error or isinstance(ended, Interrupted)


def test_whoever_stops_the_work_stops_what_is_waited_for() -> None:
    ends = list[BaseException]()
    with stoppable() as stop:
        threading.Timer(0.2, stop.ask, [HostProblem("away")]).start()
        with pytest.raises(HostProblem, match="away"), meanwhile("test", sleeper(ends)):
            pass
    assert [str(error) for error in ends] == ["away"]
