"""Which nights were swept and which were not."""

from __future__ import annotations

import pytest

from canonq.core.sweeps.nights import Night, nights

DONE = Night("20260610T030000Z", "sweep", "done")
OPEN = Night("20260611T030000Z", "sweep", "open")
DIED = Night("20260611T030000Z")
DUE = "20260612T030000Z"


@pytest.mark.parametrize(
    ("taken", "due", "last", "missed"),
    [
        ([], [], None, ()),
        ([], [DUE], None, (DUE,)),
        ([DONE], [], DONE, ()),
        ([DONE, OPEN], [], DONE, ()),
        ([DIED, DONE], [DUE], DONE, (DIED.due, DUE)),
        ([Night("20260609T030000Z"), DONE], [], DONE, ()),
        ([DONE, Night("20260611T030000Z", "sweep", "failed")], [], Night("20260611T030000Z", "sweep", "failed"), ()),
    ],
    ids=["none", "never", "done", "under-way", "worker-died", "before-the-last", "failed-is-told-by-its-report"],
)
def test_a_night_is_missed_that_was_due_since_the_last_report_and_is_not_under_way(
    taken: list[Night], due: list[str], last: Night | None, missed: tuple[str, ...]
) -> None:
    found = nights(taken, due)
    assert (found.last, found.missed) == (last, missed)
    assert (found.told is None) is not bool(missed)


def test_the_sentence_names_the_nights_and_the_last_report() -> None:
    told = nights([DONE], [DUE, "20260613T030000Z"]).told
    assert told is not None
    assert told.startswith(
        f"No sweep ran on the nights of {DUE}, 20260613T030000Z; the last one with a report is that of {DONE.due}."
    )
    assert "none has left a report yet" in (nights([], [DUE]).told or "")
