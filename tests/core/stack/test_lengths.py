"""Durations and sizes as compose files write them."""

from __future__ import annotations

import pytest

from canonq.core.stack.lengths import seconds, size


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, 0),
        (0, 0),
        ("-0", 0),
        ("1m30s", 90),
        ("1.5h", 5400),
        (".5s", 0.5),
        ("+2s", 2),
        ("200ms", 0.2),
        ("1µs", 1e-6),
        ("30", None),
        (30, None),
        ("s", None),
        ("1 s", None),
        ("-1s", None),
        ("1d", None),
        ("", None),
    ],
)
def test_a_duration_has_its_units_as_docker_reads_them(said: object, found: float | None) -> None:
    assert seconds(said) == (None if found is None else pytest.approx(found))


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (None, None),
        (512, 512),
        ("512M", 512 * 2**20),
        ("1.5 GiB", 1.5 * 2**30),
        ("20kb", 20 * 2**10),
        ("2T", 2**41),
        ("a lot", None),
        ("-1M", None),
        ("", None),
    ],
)
def test_a_size_is_in_powers_of_1024_whatever_its_spelling(said: object, found: float | None) -> None:
    assert size(said) == found
