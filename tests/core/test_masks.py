"""Secrets taken out of texts, in whatever form a program writes them."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.masks import Masks, _forms
from canonq.core.text import beginning, ending

ODD = "p<ss & \"w'rd/ü+=%"
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nAQEFAASCBKcwggSjAgEAAoIB\n-----END PRIVATE KEY-----"


@pytest.mark.parametrize(
    "written",
    [
        ODD,
        json.dumps({"secret": ODD}),
        json.dumps({"secret": ODD}, ensure_ascii=False),
        repr(ODD),
        f"<failure>{escape(ODD)}</failure>",
        f"<failure message={quoteattr(ODD)}/>",
        f"postgres://app:{quote(ODD, safe='')}@db/app",
        f"/login?password={quote_plus(ODD)}",
        "+ echo '" + ODD.replace("'", "'\\''") + "'",
        json.dumps({"secret": ODD}).replace("/", "\\/"),  # PHP
        json.dumps({"secret": ODD}, ensure_ascii=False).replace("&", "\\u0026").replace("<", "\\u003c"),  # Go
        json.dumps({"log": json.dumps({"secret": ODD})}),
        json.dumps({"log": json.dumps({"secret": ODD}).replace("/", "\\/")}),
        escape(ODD, {'"': "&#34;", "'": "&#39;"}),  # Jinja, Go
        escape(ODD, {'"': "&quot;", "'": "&#039;"}),  # PHP
        re.sub("%..", lambda found: found[0].lower(), quote(ODD, safe="")),
        "INSERT INTO users VALUES ('" + ODD.replace("'", "''") + "')",
        f"0x{ODD.encode().hex()}",
        base64.b64encode(ODD.encode()).decode(),
        base64.b64encode(f"{ODD}\n".encode()).decode(),
        "Authorization: Basic " + base64.b64encode(f"admin:{ODD}".encode()).decode(),
        "Authorization: Basic " + base64.b64encode(f"someone:{ODD}".encode()).decode(),
    ],
)
def test_a_secret_is_found_in_each_form_in_which_programs_write_it(written: str) -> None:
    clean = Masks([("db_password", ODD)]).text(written)
    assert "***db_password***" in clean
    for piece in ("w'rd", "w%27rd", "ss &", "ss%20", base64.b64encode(ODD.encode()).decode()[:8]):
        assert piece not in clean


def test_of_a_secret_of_several_lines_each_long_line_is_found_by_itself() -> None:
    masks = Masks([("key", KEY)])
    assert masks.text("app | MIIEvQIBADANBgkqhkiG9w0B\napp | more") == "app | ***key***\napp | more"
    assert masks.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----", "that line is in all keys"


def test_the_longest_value_is_taken_first_and_a_name_is_not_masked_again() -> None:
    masks = Masks([("db_password", "hunter2"), ("admin", "hunter2-and-more"), ("other", "password")])
    assert masks.text("hunter2-and-more, hunter2, password") == "***admin***, ***db_password***, ***other***"


def test_what_is_very_short_stands_in_every_text_and_is_left() -> None:
    assert Masks([("pin", "123"), ("none", "")]).text("123 of 1234") == "123 of 1234"
    assert Masks().text("anything") == "anything"


def test_an_error_is_masked_with_all_that_it_came_of() -> None:
    try:
        try:
            raise OSError(5, "hunter22 cannot be read")
        except OSError as first:
            raise ValueError(f"bad: {first}") from first
    except ValueError as second:
        error = HostProblem(f"It broke: {second}.", mend="change hunter22.", code="hunter22-is-a-code")
        error.__cause__ = second
    Masks([("pw", "hunter22")]).error(error)
    assert str(error) == "It broke: bad: [Errno 5] ***pw*** cannot be read. Mend: change ***pw***."
    assert "hunter22" not in f"{error.args} {error.__cause__} {error.__cause__.__cause__}"
    assert error.code == "hunter22-is-a-code", "what is decided by is no text"


def test_errors_that_came_of_each_other_are_masked_once() -> None:
    one, two = RecipeProblem("hunter22"), RecipeProblem("hunter22")
    one.__cause__, two.__cause__ = two, one
    Masks([("pw", "hunter22")]).error(one)
    assert (one.what, two.what) == ("***pw***", "***pw***")


@given(st.text(alphabet='ab \n{},:"', max_size=300), st.integers(1, 60))
def test_a_text_is_cut_between_words(text: str, limit: int) -> None:
    words = "".join(c if c in "ab" else " " for c in text).split()
    for cut in (beginning(text, limit), ending(text, limit)):
        left = "".join(c if c in "ab" else " " for c in cut.removeprefix("... ").removesuffix(" ...")).split()
        assert all(word in words for word in left if word)
        assert len(cut) <= max(len(text), limit + 4)
    assert len(text) > limit or beginning(text, limit) == ending(text, limit) == text


def test_of_one_long_word_nothing_is_left() -> None:
    assert beginning("x" * 50, 20) == ending("x" * 50, 20) == "..."
    assert beginning("one two three", 10) == "one two ..."
    assert ending("one two three", 10) == "... two three"


@given(
    st.lists(st.text("ab'/", min_size=4, max_size=9), max_size=12, unique=True),
    st.lists(st.text("ab'/", max_size=12) | st.just("abab"), max_size=12).map("".join),
)
def test_the_longest_value_is_found_at_the_first_place_where_one_begins(values: list[str], text: str) -> None:
    named = [(f"n{number}", value) for number, value in enumerate(values)]
    names = {form: name for name, value in named for form in _forms(value)}
    longest_first = sorted(names, key=lambda form: (-len(form), form))
    plain = re.sub("|".join(map(re.escape, longest_first)), lambda found: f"***{names[found[0]]}***", text) if names else text
    assert Masks(named).text(text) == plain


def long_texts() -> dict[str, tuple[list[str], str]]:
    """Many values, and a text in which each of them may begin at each place."""
    many = [f"{'x' * 20}{number:06}" for number in range(3000)]
    return {
        "unlike": (
            [f"{number:06}".translate(str.maketrans("0123456789", "abcdefghij")) * 3 for number in range(3000)],
            "the end is nigh\n",
        ),
        "alike": (many, "x" * 19 + "y"),
        "all but the end": (many, "x" * 20 + "z"),
        "one in the other": (["x" * length for length in range(4, 1000)], "x" * 3 + "y"),
        "one in the other but for the end": (["x" * length + "y" for length in range(4, 1000)], "x"),
    }


@pytest.mark.long
@pytest.mark.parametrize("kind", long_texts())
def test_a_text_takes_as_long_however_many_values_there_are(kind: str) -> None:
    values, piece = long_texts()[kind]
    text = piece * (30_000 // len(piece))

    def took(act: Callable[[], object], times: int) -> float:
        began = time.process_time()
        for _ in range(times):
            act()
        return time.process_time() - began

    plain, masks = re.compile(r"(?:[^~]|~)*"), Masks(("a", value) for value in values)
    assert took(lambda: masks.text(text), 1) < took(lambda: plain.fullmatch(text), 1000)
