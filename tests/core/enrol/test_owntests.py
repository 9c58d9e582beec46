"""Tests that look like tests and are never run."""

from __future__ import annotations

import pytest

from canonq.core.enrol.owntests import prove_nothing


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def test_a(): pass\ndef test_b(): pass\n", []),
        ("def test_a(): pass\nx = 1\ndef test_a(): pass\n", [(1, "test_a is never run: line 3 takes its name")]),
        (
            "class TestLogin:\n    def __init__(self): pass\n    def test_a(self): pass\n",
            [(1, "no test of TestLogin is run, as it has __init__; use a fixture, or setup_method")],
        ),
        (
            "class TestLogin:\n    def test_a(self): pass\n    def test_a(self): pass\n",
            [(2, "TestLogin.test_a is never run: line 3 takes its name")],
        ),
        ("async def test_a(): pass\n", [(1, "test_a is an async function, which nothing here runs")]),
        ("def test_a(app): return app.ok\n", [(1, "test_a returns its answer, which pytest passes over; assert it")]),
        ("def test_a(app):\n    if app: return None\n    assert app.ok\n", []),
        (
            "import pytest\n@pytest.fixture(name='app')\ndef fake(): return 1\n",
            [(3, "the fixture `app` is one of its own: tests that take it do not ask what is deployed")],
        ),
        ("import pytest\n@pytest.fixture\ndef page(app): return 1\n", []),
        ("def helper(): pass\ndef helper(): pass\nclass Login:\n    def __init__(self): pass\n", []),
        ("", []),
    ],
)
def test_what_pytest_passes_over_is_told_with_its_line(text: str, told: list[tuple[int, str]]) -> None:
    assert list(prove_nothing(text)) == told
