"""Registries are asked within the limit that they grant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from canonq.core.pulls import Limit, mirrored, pause_before, within

TEN = Limit(10, 1000.0)


def test_most_of_a_limit_is_used_as_it_comes_and_the_rest_is_spread() -> None:
    assert pause_before([], TEN, 0.0) == 0
    assert pause_before([0.0] * 7, TEN, 0.0) == 0
    assert pause_before([0.0] * 8, TEN, 0.0) == 100.0
    assert pause_before([0.0] * 8, TEN, 100.0) == 0
    assert pause_before([0.0] * 9, TEN, 40.0) == 60.0


def test_at_the_limit_nothing_is_pulled_until_the_oldest_one_counts_no_more() -> None:
    assert pause_before([10.0] + [500.0] * 9, TEN, 600.0) == 410.0
    assert pause_before([10.0] * 5 + [500.0] * 7, TEN, 600.0) == 410.0, "two more than were granted, as by an older limit"


@given(some.lists(some.floats(0, 3000), max_size=60), some.integers(1, 20))
def test_a_limit_is_never_passed_whenever_recipes_ask(asks: list[float], pulls: int) -> None:
    limit, made = Limit(pulls, 1000.0), list[float]()
    for now in sorted(asks):
        if pause_before(made, limit, now) <= 0:
            made.append(now)
        assert len(within(made, 1000.0, now)) <= pulls


def test_pulls_that_a_wrong_clock_has_put_into_the_future_do_not_count() -> None:
    assert pause_before([9e9] * 10, TEN, 0.0) == 0


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("nginx", "mirror.example:5000/library/nginx:latest"),
        ("grafana/grafana:11.1", "mirror.example:5000/grafana/grafana:11.1"),
        ("docker.io/library/nginx:1", "mirror.example:5000/library/nginx:1"),
        ("quay.io/a/b:1", None),
        (f"nginx:1@sha256:{'0' * 64}", None),
    ],
)
def test_an_image_has_its_name_in_the_mirror_of_its_registry(reference: str, name: str | None) -> None:
    assert mirrored(reference, {"docker.io": "mirror.example:5000/"}) == name
