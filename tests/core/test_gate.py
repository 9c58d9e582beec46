"""The promotion gate: the one row of docs/rules.md 2 that promotes, and every other row refused by name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from canonq.core.gate import Again, gate
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.records import Canonical, RolledBack, Verdict
from tests.core.test_decide import canonical

COMMIT = "b" * 40
TAGS = {"1.0.0+1.0": "a" * 40, "1.1.0+1.1": COMMIT, "1.1.0-rc.1+1": "d" * 40}


def verdict(**changes: Any) -> Verdict:
    passed: dict[str, Any] = {"status": "pass"}
    plain: dict[str, Any] = {
        "recipe": "site", "run": "20260617T050314Z-site-aaaaaa", "verdict": "green", "reason": "proven", "detail": "",
        "version": "1.1.0+1.1", "commit": COMMIT, "base": "1.0.0+1.0", "base_commit": "a" * 40, "base_from": "canonical",
        "fence": 3, "enrolment": "", "tiers": dict.fromkeys(PROVEN_TIERS, passed),
        "ts": "20260617T050314Z",
    }  # fmt: skip
    return Verdict.model_validate({**plain, **changes})


def codes(
    *, enrolled: bool = True, record: Canonical | None = None, tags: dict[str, str] | None = None, **changes: Any
) -> list[str]:
    refusals = gate(enrolled=enrolled, verdict=verdict(**changes), tags=TAGS if tags is None else tags, canonical=record)
    assert all(refusal.why for refusal in refusals)
    return [refusal.code for refusal in refusals]


@pytest.mark.parametrize(
    "broken",
    [broken for count in range(7) for broken in itertools.combinations(
        ["not-enrolled", "not-green", "not-cold", "is-a-ref", "tag-moved", "not-newer"], count)],
)  # fmt: skip
def test_it_promotes_only_when_nothing_is_wrong_and_names_everything_that_is(broken: tuple[str, ...]) -> None:
    changes: dict[str, Any] = {}
    if "not-green" in broken:
        changes["verdict"] = "red"
    if "not-cold" in broken:
        changes["quick"] = True
    if "is-a-ref" in broken:
        changes["ref"] = "main"
    if "tag-moved" in broken:
        changes["commit"] = "e" * 40
    record = canonical()
    if "not-newer" in broken:
        record = canonical("1.1.0+1.1", COMMIT)
        changes |= {"base": "1.1.0+1.1", "base_commit": COMMIT}
    assert sorted(codes(enrolled="not-enrolled" not in broken, record=record, **changes)) == sorted(broken)


def test_no_verdict_is_refused_as_such() -> None:
    refusals = gate(enrolled=True, verdict=None, tags=TAGS, canonical=None)
    assert [refusal.code for refusal in refusals] == ["no-verdict"]


@pytest.mark.parametrize("version", ["1.1.0", "1.1.0+1.1.0", "1.1.0+1", "main"])
def test_released_means_an_exact_tag_never_a_prefix_or_an_order(version: str) -> None:
    """Known failure 7."""
    assert codes(version=version) == ["not-a-release"]


def test_a_run_over_a_subset_of_the_tiers_is_not_enough() -> None:
    passed = {"status": "pass"}
    for left_out in PROVEN_TIERS:
        assert codes(tiers={tier: passed for tier in PROVEN_TIERS if tier != left_out}) == ["not-all-tiers"]


def test_an_error_is_not_green_either() -> None:
    assert codes(verdict="error") == ["not-green"]


def test_a_pre_release_needs_the_enrolment_to_ask_for_it() -> None:
    assert codes(version="1.1.0-rc.1+1", commit="d" * 40) == ["is-a-prerelease"]
    asked = gate(
        enrolled=True, verdict=verdict(version="1.1.0-rc.1+1", commit="d" * 40), tags=TAGS, canonical=None, prereleases=True
    )
    assert asked == ()


def test_where_no_clone_says_what_is_released_that_is_told_and_nothing_is_called_unreleased() -> None:
    refused = gate(enrolled=True, verdict=verdict(), tags=None, canonical=canonical())
    assert [one.code for one in refused] == ["clone-missing"]


def test_an_older_version_never_replaces_a_newer_canonical() -> None:
    assert codes(record=canonical("2.0.0+1", COMMIT), base="2.0.0+1", base_commit=COMMIT) == ["not-newer"]


def left(fence: int, version: str = "1.1.0+1.1") -> dict[str, Any]:
    return {"by": "ada", "at": "20260617T050314Z", "reason": "it lost mail", "version": version, "commit": COMMIT, "fence": fence}


@pytest.mark.parametrize(
    ("asked", "back", "refused"), [(3, 4, True), (4, 4, False), (5, 4, False), (None, 4, True), (None, 0, True)]
)
def test_what_was_rolled_back_since_its_run_was_asked_for_is_held(asked: int | None, back: int, refused: bool) -> None:
    record = canonical().model_copy(update={"rolled_back": [RolledBack(**left(9, "1.4.0+4")), RolledBack(**left(back))]})
    assert codes(record=record, fence=asked) == (["held-rollback"] if refused else [])


def test_a_rollback_to_the_present_version_holds_nothing_of_it() -> None:
    record = canonical("1.1.0+1.1", COMMIT).model_copy(update={"rolled_back": [RolledBack(**left(4))]})
    assert codes(record=record, base="1.1.0+1.1", base_commit=COMMIT) == ["not-newer"]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, False),
        ({"base": "0.9.0+1.0", "base_from": "older-release"}, True),
        ({"base_from": "older-release"}, True),  # a release that became the canonical since: its data was not there yet
        ({"base": None, "base_commit": None, "base_from": "none"}, True),
        ({"base_commit": "f" * 40}, True),
        ({"base": "0.9.0+1.0", "base_from": "pinned"}, False),
        ({"base": "0.9.0+1.0", "base_from": "pinned", "fence": 2}, True),
    ],
)
def test_its_base_is_still_the_canonical_or_a_pin_that_was_chosen_beside_this_one(changes: dict[str, Any], refused: bool) -> None:
    record = canonical().model_copy(update={"fence": 3})
    assert codes(record=record, **changes) == (["base-changed"] if refused else [])


def test_the_base_may_have_the_commit_of_its_tag_where_the_record_of_an_older_server_names_another() -> None:
    assert codes(record=canonical(commit="9" * 40)) == []


def test_a_tag_that_named_another_commit_when_it_was_fetched_first_has_moved() -> None:
    refusals = gate(enrolled=True, verdict=verdict(), tags=TAGS, canonical=canonical(), seen={"1.1.0+1.1": "9" * 40})
    assert [refusal.code for refusal in refusals] == ["tag-moved"]


def test_where_canonicals_are_kept_and_their_record_is_gone_nothing_is_promoted() -> None:
    refusals = gate(enrolled=True, verdict=verdict(base=None, base_commit=None), tags=TAGS, canonical=None, lost="it is gone")
    assert [(refusal.code, refusal.why) for refusal in refusals] == [("record-missing", "it is gone")]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, []),
        ({"version": "1.0.0+1.0", "commit": "a" * 40}, ["not-its-version"]),
        ({"fence": 2}, ["not-a-new-run"]),
        ({"fence": None}, ["not-a-new-run"]),
        ({"run": "20260601T000000Z-site-bbbbbb"}, ["not-a-new-run"]),
        ({"verdict": "red"}, ["not-green"]),
        ({"quick": True}, ["not-cold"]),
    ],
)
def test_a_canonical_is_made_anew_from_a_new_green_cold_run_of_its_own_version(
    changes: dict[str, Any], refused: list[str]
) -> None:
    record = canonical("1.1.0+1.1", COMMIT).model_copy(update={"fence": 3, "run": "20260601T000000Z-site-bbbbbb"})
    again = Again("ada", "its data went bad")
    refusals = gate(enrolled=True, verdict=verdict(**changes), tags=TAGS, canonical=record, again=again)
    assert [refusal.code for refusal in refusals] == refused


def test_without_a_canonical_there_is_none_to_be_made_anew() -> None:
    refusals = gate(enrolled=True, verdict=verdict(), tags=TAGS, canonical=None, again=Again("ada", "x"))
    assert [refusal.code for refusal in refusals] == ["no-canonical"]
