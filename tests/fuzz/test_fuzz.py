"""A little of it with every change; `make fuzz` goes on for as long as one likes (tests/fuzz/play.py)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.play import ask
from tests.fuzz.targets import TARGETS

CASES = 40  #: of each target, always the same ones

_BROKE = [
    pytest.param(name, case, id=f"{name} {number}") for name, one in TARGETS.items() for number, case in enumerate(one.broke)
]


@pytest.mark.parametrize(("name", "case"), _BROKE)
def test_what_broke_once_is_answered_or_refused_soon(name: str, case: Any) -> None:
    ask(TARGETS[name], case)


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_comes_from_outside_is_answered_or_refused_soon(name: str) -> None:
    @settings(max_examples=CASES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TARGETS[name].made)
    def play(case: Any) -> None:
        ask(TARGETS[name], case)

    play()
