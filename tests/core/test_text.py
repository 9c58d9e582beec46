"""Words of others, as they are shown and read."""

from __future__ import annotations

import pytest

from canonq.core.text import whole_number


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("0", 0), ("007", 7), ("65535", 65535), (80, 80), ("65536", None), ("9" * 5000, None), ("0" * 5000 + "1", 1), ("", None),
        ("-1", None), ("1.0", None), ("²", None), ("٣", None), (None, None), (True, None), ("1 ", None),
    ],
)  # fmt: skip
def test_a_number_of_others_is_one_of_plain_digits_within_its_limit(said: object, number: int | None) -> None:
    assert whole_number(said, 65535) == number
