"""What an idle night rests on: nothing may differ from what the last sync saw."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canonq.core.enrolment import Enrolment, Upgrade
from canonq.core.upstream.discovery import Remembered, Seen, idle, remembered
from tests.core.test_decide import OLD, canonical

SITE = Enrolment(recipe="site", upstream="/x")
SEEN = Seen(upstream="/x", digest="d", tags={"1.0.0+1.0": OLD})
KEPT = Remembered(upstream="/x", digest="d", prereleases=False, latest="1.0.0+1.0", latest_commit=OLD, notes=("a tag is gone",))


def test_where_all_is_as_it_was_the_chain_is_spared_and_what_lasts_is_told_again() -> None:
    found = idle(SITE, replace(SEEN, notes=("slow",)), KEPT, canonical())
    assert found is not None
    assert (found.outcome, found.reason, found.notes) == ("skipped", "no-new-version", ("a tag is gone", "slow"))


@pytest.mark.parametrize(
    "differs",
    [
        {"kept": None},
        {"canonical": None},
        {"kept": KEPT.model_copy(update={"latest": None})},
        {"kept": KEPT.model_copy(update={"latest": "1.1.0+1.1"})},
        {"kept": KEPT.model_copy(update={"latest_commit": "e" * 40})},
        {"kept": KEPT.model_copy(update={"prereleases": True})},
        {"seen": replace(SEEN, upstream="/y")},
        {"seen": replace(SEEN, digest="e")},
        {"seen": replace(SEEN, mirror="/m")},
        {"seen": replace(SEEN, mirror_digest="m")},
        {"seen": replace(SEEN, forge="https://forge")},
        {"seen": replace(SEEN, tags={})},
        {"seen": replace(SEEN, tags={"1.0.0+1.0": "e" * 40})},
        {"canonical": canonical("0.9.0+1.0")},
        {"canonical": canonical(commit="e" * 40)},
    ],
    ids="-".join,
)
def test_whatever_differs_has_the_chain_look(differs: dict[str, Any]) -> None:
    given = {"seen": SEEN, "kept": KEPT, "canonical": canonical(), **differs}
    assert idle(SITE, given["seen"], given["kept"], given["canonical"]) is None


def test_a_pin_that_the_canonical_has_reached_is_told_on_idle_nights_too() -> None:
    pinned = SITE.model_copy(update={"upgrade": Upgrade(base="0.9.0+1.0")})
    found = idle(pinned, SEEN, KEPT, canonical())
    assert found is not None
    assert any(note.startswith("stale-pin: ") for note in found.notes)


@pytest.mark.parametrize("value", [{}, {"upstream": "/x"}, {**KEPT.model_dump(), "digest": 7}])
def test_what_was_not_kept_whole_is_not_remembered(value: dict[str, Any]) -> None:
    assert remembered(value) is None


def test_what_was_kept_is_remembered_whatever_else_is_in_it() -> None:
    assert remembered({**KEPT.model_dump(), "of a later canonq": 1}) == KEPT
