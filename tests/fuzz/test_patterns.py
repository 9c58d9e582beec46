"""No regular expression takes long over a long text that was written to be in its way.

A pattern is fed with pieces of what it looks for, each again and again, and with an end by which the whole is no match. What it
may take is counted in passes of a pattern that looks at each character once, on the same machine at the same time.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from canonq.core.blame import PATTERNS, known
from tests.support import ROOT

pytestmark = pytest.mark.long

LENGTH = 32_768  #: characters of a text
PASSES = 100  #: of a linear pattern over as long a text
SAMPLES = 8  #: matches of each pattern that are taken apart
PLAIN = re.compile(r"(?:[^~]|~)*")
#: What has to stand around a match, or must not.
AROUND = re.compile(r"\(\?<?[=!](?:\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[^()\\\[]|\((?:\\.|[^()\\])*\))*\)")
ENDS = ("", "~")  #: few patterns take what ends with these

#: What is quadratic where it stands, and is never asked about a long text of somebody else's.
ELSEWHERE = {
    ("canonq.core.blame", "_COMMAND"): "what Docker says is put in short before",
    ("canonq.core.dockerinfo", "_REFUSED_AS_NEW"): "the Engine's own words about its version",
    ("canonq.core.dockerinfo", r" --dport ([0-9]+) .*-j DNAT"): "the host's own firewall",
    ("canonq.core.recipe.interpolate", "_PATTERN"): "whoever looks for variables ends at the first that is not closed",
    ("canonq.core.stack.lengths", "_PART"): "asked only about what _WHOLE has taken",
}
METHODS = ("match", "fullmatch", "search", "findall", "finditer", "sub", "split")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("canonq", "workers")
    for path in (ROOT / folder).rglob("*.py")
    if re.search(r"\bre\.[a-z]+\(", path.read_text())
)


class TooLong(Exception):
    """A pattern was still at it when its time was over."""


@cache
def budget() -> float:
    """Seconds of a processor that one text may take."""
    text = "a" * LENGTH
    began = time.process_time()
    for _ in range(PASSES):
        PLAIN.fullmatch(text)
    return time.process_time() - began


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """TooLong for what takes more of a processor; a pattern that would go on for years is ended, too."""

    def over(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def patterns_in(value: object) -> Iterator[re.Pattern[str]]:
    """All that are in a value of a module's."""
    if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
        yield value
    elif isinstance(value, dict):
        yield from patterns_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from patterns_in(inner)


def asked_in(module: str) -> Iterator[tuple[str, re.Pattern[str], str]]:
    """(name, pattern, method) of all that a module asks by a name of its own, or where the pattern stands."""
    text = (ROOT / Path(*module.split("."))).with_suffix(".py").read_text()
    names = {*re.findall(r"^([A-Z_]+)\b[^\n]*=", text, re.M)}
    for name, value in vars(importlib.import_module(module)).items():
        if name in names and (module, name) not in ELSEWHERE:
            methods = [method for method in METHODS if re.search(rf"\b{name}\.{method}\b", text)]
            yield from ((name, found, method) for found in patterns_in(value) for method in methods or ("search", "fullmatch"))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(ast.Attribute(ast.Name("re"), str(method)), [ast.Constant(str(pattern)), *_]) if method in METHODS:
                if (module, pattern) not in ELSEWHERE:
                    yield pattern, re.compile(pattern, re.S), method


def asker(pattern: re.Pattern[str], method: str) -> Callable[[str], object]:
    """What asks a pattern about a text, to its end."""
    if method in ("match", "fullmatch", "search"):
        return cast("Callable[[str], object]", getattr(pattern, method))
    return lambda text: sum(1 for _ in pattern.finditer(text))


@cache
def samples(pattern: re.Pattern[str]) -> list[str]:
    """What a pattern looks for."""
    matches: list[str] = []

    @settings(
        max_examples=SAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.from_regex(re.compile(AROUND.sub("", pattern.pattern), pattern.flags), fullmatch=True))
    def keep(sample: str) -> None:
        matches.append(sample[:200])

    with contextlib.suppress(Unsatisfiable):
        keep()
    return [sample for sample in matches if sample]


def adverse(pattern: re.Pattern[str]) -> list[str]:
    """Long texts of what a pattern looks for: samples of it, their halves and single characters, without end."""
    matches = samples(pattern)
    pieces = dict.fromkeys(["a", "0", " ", "\n", ".", *re.findall("[A-Za-z0-9 ]{3,}", pattern.pattern)[:10]])
    for sample in matches:
        half = len(sample) // 2
        pieces.update(dict.fromkeys([sample, sample[:half], sample[half:], sample[:1], sample[-1:]]))
    texts = [piece * (LENGTH // len(piece)) + end for piece in pieces if piece for end in ENDS]
    begun = [sample[: len(sample) // 2] for sample in matches[:1]]
    return texts + [first + piece * LENGTH + end for first in begun for piece in pieces if len(piece) == 1 for end in ENDS]


@pytest.mark.parametrize("module", MODULES)
def test_a_pattern_takes_as_long_as_the_text_is(module: str) -> None:
    slow = []
    for name, pattern, method in asked_in(module):
        ask, text = asker(pattern, method), ""
        try:
            for text in adverse(pattern):
                with within(budget()):
                    ask(text)
        except TooLong:
            slow.append(f"{name}.{method} is slow about {text[:80]!r}")
    assert not slow


def test_what_is_left_out_is_there() -> None:
    for module, name in ELSEWHERE:
        assert name in (ROOT / Path(*module.split("."))).with_suffix(".py").read_text()


def test_what_docker_says_of_a_release_is_looked_at_soon_whatever_that_is_called() -> None:
    """Its rows are asked from each place that may begin what they know: so of a text that is kept in short."""
    harmless, began = "x" * (16 * LENGTH), time.process_time()
    known(harmless)
    took = time.process_time() - began
    for row in PATTERNS:
        for piece in samples(re.compile(row.text))[:2]:
            with within(10 * (budget() + took)):
                known(piece * (16 * LENGTH // len(piece)))
