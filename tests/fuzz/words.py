"""Making bad input: good texts that are spoilt a little, values of JSON of any shape, words that mean something to somebody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

#: Pieces that readers stumble over, put into texts of any kind.
PIECES = (
    "", "\0", "\n", "\r", "\t", " ", "\u2028", "\x85", "\x1b[2J", "\ud800", "\ufeff", "é", "²", "🐘", "..", "/", "//",
    "\\", ":", ";", "#", "%", "%00", "%2f", "$", "$$", "${", "${A:-$B}", "${A", "`id`", "$(id)", "*", "&a", "<<: *a",
    "!!int ''", "!!set", "!!binary", "|", ">", "- ", "? [a]", "{", "}", "[", "]", "\"", "'", "=", "\"\"\"", "---", "-",
    "--help", "ext::sh", "file://]", "://", "@", "+", "9" * 5000, "-0", "0x", "1e999", "NaN", "null", "true", "nan",
    "[" * 600, "{\"a\":" * 600, "a" * 300, "\u202e", "C:", "~", ".git", "~1", "^{}",
)  # fmt: skip
#: Characters that are neither all letters nor all noise.
_CHARACTERS = st.characters(codec=None) | st.sampled_from("/.:@-+_=${}[]#\"'\n\0 \\")
words = st.text(_CHARACTERS, max_size=40) | st.sampled_from(PIECES)


@st.composite
def spoilt(draw: st.DrawFn, seeds: Sequence[str]) -> str:
    """One of some good texts, with pieces cut, doubled, put elsewhere, replaced by others or by anything."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(text)))
        end = min(len(text), at + draw(st.integers(0, 30)))
        piece = draw(words | st.sampled_from(seeds).map(lambda seed: seed[:80]))
        match draw(st.integers(0, 3)):
            case 0:
                text = text[:at] + piece + text[end:]
            case 1:
                text = text[:at] + piece + text[at:]
            case 2:
                text = text[:at] + text[end:]
            case _:
                text = text[:end] + text[at:end] + text[end:]
    return text[:65536]


def texts(seeds: Sequence[str]) -> st.SearchStrategy[str]:
    """Spoilt ones mostly, and some that never were any good."""
    return spoilt(seeds) | words


scalars: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | words | st.sampled_from([10**400, -1, 0, 1, 2**63])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)


@st.composite
def misshapen(draw: st.DrawFn, good: Any) -> Any:
    """A good value of JSON in which some parts are something else, or gone, or there twice."""
    return _bent(draw, good, draw(st.integers(1, 3)))


def _bent(draw: st.DrawFn, value: Any, times: int) -> Any:
    for _ in range(times):
        value = _bent_once(draw, value, 0)
    return value


def _bent_once(draw: st.DrawFn, value: Any, depth: int) -> Any:
    deeper = isinstance(value, (dict, list)) and value and draw(st.integers(0, 3 + depth)) <= 2
    if not deeper:
        return draw(values)
    if isinstance(value, dict):
        key = draw(st.sampled_from(list(value)))
        match draw(st.integers(0, 5)):
            case 0:
                return {name: inner for name, inner in value.items() if name != key}
            case 1:
                return {**value, draw(words): draw(values)}
            case _:
                return {**value, key: _bent_once(draw, value[key], depth + 1)}
    at = draw(st.integers(0, len(value) - 1))
    return [*value[:at], _bent_once(draw, value[at], depth + 1), *value[at + draw(st.integers(0, 1)) :]]
