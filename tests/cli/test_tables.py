"""Tables for people: they fit a terminal, nothing is cut, and where nothing limits a line each row is one."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence

import pytest
from rich.text import Text

from canonq.cli.output import console, laid_out, print_table, say, wrapped

COLUMNS = ("recipe", "outcome", "seconds", "detail")
LONG = "It exits with 1 right after its start, and its last words are FATAL: cannot read /etc/app.conf: no such file."
ROWS = [["a-recipe-with-quite-a-long-name", "red", "12.5", LONG], ["b", "promoted", "3.0", ""]]


def lines(width: int | None, rows: Sequence[Sequence[str]] = ROWS, give_way: Sequence[str] = ("seconds", "outcome")) -> list[str]:
    cells = [[Text(cell) for cell in row] for row in rows]
    return [line.plain for line in laid_out(COLUMNS, cells, width, give_way=give_way, sentence="detail")]


def test_where_nothing_limits_a_line_each_row_is_one_and_nothing_is_padded() -> None:
    found = lines(None)
    assert len(found) == 3
    assert LONG in found[1]
    assert all(line == line.rstrip() for line in found)


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 160])
def test_on_a_terminal_no_line_is_longer_than_it_and_no_word_of_a_sentence_is_lost(width: int) -> None:
    found = lines(width)
    assert max(map(len, found)) <= width
    assert re.sub(r"\s", "", LONG) in re.sub(r"\s", "", "".join(found).replace("a-recipe-with-quite-a-long-name", ""))


def test_columns_give_way_in_their_order_and_the_sentence_goes_below_its_row() -> None:
    assert lines(80)[0] == f"{'recipe':33}outcome   seconds"
    assert lines(80)[2].startswith("    It exits with 1")
    assert "seconds" not in lines(45)[0]
    assert "outcome" in lines(45)[0]
    assert lines(35)[0] == "recipe"
    assert lines(160)[1].startswith("a-recipe-with-quite-a-long-name  red       12.5     It exits")


def test_a_column_in_which_nothing_stands_is_left_out() -> None:
    assert lines(80, [["a", "red", "", ""]])[0] == "recipe  outcome"


def test_wide_characters_and_very_long_words_fit_too() -> None:
    found = lines(40, [["a", "red", "", "名" * 50 + "x" * 100]])
    assert max(Text(line).cell_len for line in found) <= 40
    assert "".join(found).count("名") == 50
    assert "".join(found).count("x") == 100
    assert [line.plain for line in wrapped(Text(""), 10)] == [""]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "variables", "coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
        (False, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_and_not_where_it_is_unwanted(
    terminal: bool, variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", out)
    print_table("T", COLUMNS, ROWS, give_way=("seconds",), sentence="detail")
    say(LONG)
    assert ("\x1b[31m" in out.getvalue()) is coloured
    if not terminal:
        assert "\x1b" not in out.getvalue()
        assert LONG in out.getvalue().splitlines()
    assert console().is_terminal is terminal
