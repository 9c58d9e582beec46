"""The promotion gate: the one row of SPEC section 2 that promotes, and every other row refused by name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from canonq.core.gate import gate
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.records import Canonical, Verdict
from tests.core.test_decide import canonical

COMMIT = "b" * 40
TAGS = {"1.0.0+1.0": "a" * 40, "1.1.0+1.1": COMMIT, "1.1.0-rc.1+1": "d" * 40}


def verdict(**changes: Any) -> Verdict:
    passed: dict[str, Any] = {"status": "pass"}
    plain: dict[str, Any] = {
        "recipe": "site", "run": "20260617T050314Z-site-aaaaaa", "verdict": "green", "reason": "proven", "detail": "",
        "version": "1.1.0+1.1", "commit": COMMIT, "enrolment": "", "tiers": dict.fromkeys(PROVEN_TIERS, passed),
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
    record = canonical("1.1.0+1.1", COMMIT) if "not-newer" in broken else canonical()
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


def test_an_older_version_never_replaces_a_newer_canonical() -> None:
    assert codes(record=canonical("2.0.0+1", COMMIT)) == ["not-newer"]
