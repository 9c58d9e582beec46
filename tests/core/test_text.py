"""Words of others, as they are shown and read."""

from __future__ import annotations

import json

import pytest

from canonq.core.text import escaped, whole_number


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("0", 0), ("007", 7), ("65535", 65535), (80, 80), ("65536", None), ("9" * 5000, None), ("0" * 5000 + "1", 1), ("", None),
        ("-1", None), ("1.0", None), ("²", None), ("٣", None), (None, None), (True, None), ("1 ", None),
    ],
)  # fmt: skip
def test_a_number_of_others_is_one_of_plain_digits_within_its_limit(said: object, number: int | None) -> None:
    assert whole_number(said, 65535) == number


def test_json_for_a_terminal_has_nothing_that_acts_on_one_and_says_the_same() -> None:
    value = {"a": "\x9b31m \u202eevil\u2028 \x7f ü \n", "b": ["\x1b[31m"]}
    told = escaped(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(told) == value
    assert told.replace("\n", "").isprintable()
    assert "ü" in told
