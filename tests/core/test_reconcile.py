"""A chain that lives or waits is left alone, one that is silent is sent again from where it stopped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.reconcile import GRACE, MOST_RESENDS, STEPS, Chain, mend


def chain(steps: dict[str, Any] | None = None, **changes: Any) -> Chain:
    plain: dict[str, Any] = {"executing": False, "queued": False, "idle": GRACE + 1, "resent": 0}
    return Chain(steps or {}, **{**plain, **changes})


@pytest.mark.parametrize("sign", [{"executing": True}, {"queued": True}, {"idle": GRACE - 1}])
def test_a_chain_with_any_sign_of_life_is_left_alone_however_often_it_was_lost(sign: dict[str, Any]) -> None:
    assert mend(chain(**sign)).action == "leave"
    assert mend(chain(**sign, resent=MOST_RESENDS)).action == "leave"


def test_a_chain_that_never_began_is_sent_whole() -> None:
    assert (mend(chain()).action, mend(chain()).step, mend(chain()).given) == ("resend", "sync", None)


@pytest.mark.parametrize("number", range(1, len(STEPS)))
def test_a_chain_goes_on_with_the_result_of_its_last_finished_step(number: int) -> None:
    done = {step: {"attempts": 1, "result": {"of": step}} for step in STEPS[:number]}
    begun = {STEPS[number]: {"attempts": 1, "started": "x"}}
    for steps in (done, {**done, **begun}):
        found = mend(chain(steps))
        assert (found.action, found.step, found.given) == ("resend", STEPS[number], {"of": STEPS[number - 1]})


def test_a_finished_chain_without_an_outcome_settles_its_last_step_again() -> None:
    done = {step: {"result": {"of": step}} for step in STEPS}
    assert (mend(chain(done)).step, mend(chain(done)).given) == ("promote", {"of": "test"})


def test_a_chain_that_is_lost_time_and_again_is_given_up() -> None:
    assert mend(chain(resent=MOST_RESENDS)).action == "lost"


@given(st.booleans(), st.booleans(), st.floats(0, 1e6), st.integers(0, 9))
def test_nothing_is_sent_twice_while_it_lives(executing: bool, queued: bool, idle: float, resent: int) -> None:
    found = mend(chain(executing=executing, queued=queued, idle=idle, resent=resent))
    assert found.action == "leave" or not (executing or queued)
