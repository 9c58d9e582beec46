"""Days, sizes and findings of lint as people say them."""

from __future__ import annotations

import pytest

from canonq.core.report.words import day, findings, size, when


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (None, ""),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (3.2 * 2**30, "3.2 GiB"),
        (5e15, "4547.5 TiB"),
    ],
)
def test_bytes_are_said_in_the_unit_that_fits(count: float | None, said: str) -> None:
    assert size(count) == said


@pytest.mark.parametrize(("stamp", "said"), [("20260617T050314Z", "2026-06-17 05:03 UTC"), ("yesterday", ""), (None, "")])
def test_a_stamp_is_said_as_a_day_and_what_is_none_is_not(stamp: object, said: str) -> None:
    assert day(stamp) == said
    assert (when(stamp) is None) is not bool(said)


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        ("", []),
        ("pytest broke", ["pytest broke"]),
        (
            "test_rule[build]: app has `build`.; test_rule[version-label]: it says; so",
            ["[build] app has `build`.", "[version-label] it says; so."],
        ),
    ],
)
def test_what_the_rules_of_lint_have_found_stands_each_for_itself(reason: str, found: list[str]) -> None:
    assert findings(reason) == found
