"""How long an app has to stay up, and what the deaths of its services come to."""

from __future__ import annotations

import pytest

from canonq.core.stack.staying import Death, fallen, stays_until


@pytest.mark.parametrize(
    ("since", "begun", "lasted", "until"),
    [
        (100, 100, 0, 151),  # it was just deployed
        (120, 100, 0, 151),  # and its data put back after that
        (140, 100, 0, 170),  # later than that: its soak is what counts
        (200, 200, 16, 251),  # it has restarted itself
        (200, 200, 45, 257),  # when it was older: it has to get older than that
        (200, 200, 600, 290),  # and not for ever
    ],
)
def test_what_has_come_up_is_watched_for_its_soak_and_for_longer_than_it_lasted(
    since: float, begun: float, lasted: float, until: float
) -> None:
    assert stays_until(since, begun, lasted, 30) == pytest.approx(until)


def test_without_a_soak_nothing_is_waited_for() -> None:
    assert stays_until(100, 90, 0, 0) == stays_until(100, 90, 8, 0) == 100


def test_one_death_is_a_restart_and_two_of_one_service_are_a_loop() -> None:
    once, again, other = Death("app", 1, "a"), Death("app", 1, "b"), Death("db", 1, "c")
    assert fallen([once]) is fallen([once, other]) is None
    assert (found := fallen([once, other, again])) is not None
    assert (found.code, found.service) == ("crash-loop", "app")
    assert (starved := fallen([Death("db", 1, "d", out_of_memory=True)])) is not None
    assert starved.code == "out-of-memory"
