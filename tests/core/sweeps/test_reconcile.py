"""A chain that lives or waits is left alone, one that is silent is sent again from where it stopped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.sweeps.reconcile import GRACE, MOST_RESENDS, STEPS, Chain, mend

DECIDED = {"recipe": "site", "action": "run", "reason": "seed", "detail": ""}
PROVEN = {
    "recipe": "site", "run": "run", "verdict": "green", "reason": "proven", "detail": "", "version": "1.0.0+1",
    "commit": "a" * 40, "enrolment": "", "ts": "20260617T050314Z",
}  # fmt: skip
GOES_ON: dict[str, dict[str, Any]] = {
    "sync": {"recipe": "site", "branch": "main", "head": None, "tags": 1, "latest": "1.0.0+1", "changed": False},
    "decide": DECIDED,
    "test": PROVEN,
}
ENDED: list[tuple[str, dict[str, Any]]] = [
    ("decide", {**DECIDED, "action": "skip", "reason": "no-new-version"}),
    ("decide", {**DECIDED, "action": "defer", "reason": "disk-below-budget"}),
    ("decide", {**DECIDED, "action": "error", "reason": "tag-moved"}),
    ("test", {**PROVEN, "verdict": "red", "reason": "not-healthy"}),
    ("test", {**PROVEN, "verdict": "error", "reason": "host-problem"}),
    ("promote", {"recipe": "site", "outcome": "promoted", "reason": "seed", "detail": ""}),
]


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
    done = {step: {"attempts": 1, "result": GOES_ON[step]} for step in STEPS[:number]}
    begun = {STEPS[number]: {"attempts": 1, "started": "x"}}
    for steps in (done, {**done, **begun}):
        found = mend(chain(steps))
        assert (found.action, found.step, found.given) == ("resend", STEPS[number], GOES_ON[STEPS[number - 1]])


@pytest.mark.parametrize(("step", "value"), ENDED, ids=lambda value: value if isinstance(value, str) else "")
def test_a_chain_that_has_ended_without_an_outcome_is_settled_and_not_sent_on(step: str, value: dict[str, Any]) -> None:
    done = {name: {"result": GOES_ON[name]} for name in STEPS[: STEPS.index(step)]}
    found = mend(chain({**done, step: {"result": value}}, resent=MOST_RESENDS))
    assert (found.action, found.step, found.given) == ("settle", step, value)
    assert mend(chain({**done, step: {"result": value}}, queued=True)) == found, "a RabbitMQ tells of no message"


def test_a_result_that_cannot_be_read_is_done_again() -> None:
    done = {"sync": {"result": GOES_ON["sync"]}, "decide": {"result": {"of": "another canonq"}}}
    found = mend(chain(done))
    assert (found.action, found.step, found.given) == ("resend", "decide", GOES_ON["sync"])


def test_a_last_sign_of_life_from_the_future_is_none() -> None:
    assert mend(chain(idle=-400 * 86400.0)).action == "resend"
    assert mend(chain(idle=-1.0)).action == "leave"


def test_a_chain_that_is_lost_time_and_again_is_given_up() -> None:
    assert mend(chain(resent=MOST_RESENDS)).action == "lost"


@given(st.booleans(), st.booleans(), st.floats(0, 1e6), st.integers(0, 9))
def test_nothing_is_sent_twice_while_it_lives(executing: bool, queued: bool, idle: float, resent: int) -> None:
    found = mend(chain(executing=executing, queued=queued, idle=idle, resent=resent))
    assert found.action == "leave" or not (executing or queued)
