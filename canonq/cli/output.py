"""Tables and sentences for people."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from canonq.core.outcomes import HELD
from canonq.core.text import readable

COLOURS = {
    "promoted": "green", "green": "green", "ok": "green", "pass": "green",
    "red": "red", "error": "red", "broken": "red", "failed": "red", "fail": "red",
    "deferred": "yellow", "defer": "yellow", "warning": "yellow", "refused": "yellow", "run": "cyan",
}  # fmt: skip
_GAP = 2
_LEAST_TEXT = 40  #: columns; a sentence with fewer stands below its row
_INDENT = 4
_NARROWEST = 20


def console(*, err: bool = False) -> Console:
    """Where people are told: in colour only on a terminal, and not where NO_COLOR is set; texts are never read as markup."""
    stream = sys.stderr if err else sys.stdout
    terminal = stream.isatty()
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Console(file=stream, highlight=False, markup=False, force_terminal=terminal, no_color=plain, soft_wrap=not terminal)


def width_of(where: Console) -> int | None:
    """Columns that a line may have; None where no terminal limits it."""
    return max(_NARROWEST, where.width) if where.is_terminal else None


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, give_way: Sequence[str] = (), sentence: str = ""
) -> None:
    """A table on standard output, each row on one line where nobody's terminal limits it.

    On a terminal it fits: columns of `give_way` go, the first of them first, and `sentence`, the column with whole sentences,
    stands below its row where there is no room beside it. Columns in which nothing stands are left out.
    """
    if not rows:
        return  # a head over nothing looks like something that was lost
    where = console()
    cells = [[_cell(value) for value in row] for row in rows]
    for line in laid_out(columns, cells, width_of(where), give_way=give_way, sentence=sentence, title=title):
        where.print(line, overflow="ignore", no_wrap=True, crop=False)


def laid_out(
    columns: Sequence[str],
    cells: Sequence[Sequence[Text]],
    width: int | None,
    *,
    give_way: Sequence[str] = (),
    sentence: str = "",
    title: str = "",
    cut: bool = False,
) -> list[Text]:
    """The lines of a table that is at most so wide; of any width with None. `cut`: each row is one line, whatever it loses."""
    wide = {name: max([cell_len(name), *(row[at].cell_len for row in cells)]) for at, name in enumerate(columns)}
    shown = [name for at, name in enumerate(columns) if at == 0 or any(row[at].plain for row in cells)]
    short = [name for name in shown if name != sentence]
    has_sentence = sentence in shown

    def taken() -> int:
        return sum(wide[name] + _GAP for name in short)

    below = False
    if width is not None:
        if has_sentence and width - taken() < min(_LEAST_TEXT, wide[sentence]):
            below = True
        for name in give_way:
            if taken() - _GAP <= width:
                break
            short = [one for one in short if one != name]
    if has_sentence and not below:
        room = max(1, width - taken()) if width is not None else wide[sentence]
    listed = [*short, *([sentence] if has_sentence and not below else [])]
    heads = Text((" " * _GAP).join(f"{name:{wide[name]}}" for name in listed).rstrip(), style="bold")
    lines = [*([Text(title, style="bold")] if title else []), *_folded(heads, width, cut)]
    at = {name: columns.index(name) for name in columns}
    for row in cells:
        line = Text()
        for name in short:
            line.append_text(row[at[name]])
            line.append(" " * (wide[name] - row[at[name]].cell_len + _GAP))
        if not has_sentence or not row[at[sentence]].plain:
            line.rstrip()
            lines += _folded(line, width, cut)
        elif below:
            line.rstrip()
            lines += [*_folded(line, width, cut), *indented(row[at[sentence]], width)]
        elif width is None:
            lines.append(line + row[at[sentence]])
        else:
            first, *rest = wrapped(row[at[sentence]], room)
            lines += [line + first, *(Text(" " * taken()) + one for one in rest)]
    return lines


def _folded(line: Text, width: int | None, cut: bool) -> list[Text]:
    """A line that no column could make short enough, over several, or the beginning of it."""
    if cut and width is not None:
        line.truncate(width, overflow="ellipsis")
    return [line] if width is None or line.cell_len <= width else wrapped(line, width)


def wrapped(text: Text, width: int) -> list[Text]:
    """A text over lines of at most so many columns, in whole words where they fit."""
    lines = list(text.wrap(Console(width=width), width, overflow="fold"))
    for line in lines:
        line.rstrip()
    return lines or [Text("")]


def indented(text: Text, width: int | None, by: int = _INDENT) -> list[Text]:
    """A text below what it belongs to."""
    if width is None:
        return [Text(" " * by) + text]
    return [Text(" " * by) + line for line in wrapped(text, max(1, width - by))]


def say(text: str, *, by: int = 0, err: bool = False, style: str = "") -> None:
    """A sentence for people: in whole words on a terminal, on one line elsewhere."""
    where = console(err=err)
    for line in indented(Text(readable(text), style=style), width_of(where), by):
        where.print(line, overflow="ignore", no_wrap=True, crop=False)


def progress(text: str) -> None:
    """What a command is at, for whoever waits for it; never among what it prints."""
    say(text, err=True)


def _cell(value: Any) -> Text:
    text = "" if value is None else readable(str(value))
    return Text(text, style=COLOURS.get(text, ""))


def outcome_rows(outcomes: Sequence[Mapping[str, Any]], troubles: Sequence[Mapping[str, Any]] = ()) -> list[list[Any]]:
    """Rows of a sweep's table; what needs a person stands first, and what stopped many recipes in one row before all."""
    order = ("error", "red", "deferred", "promoted", "skipped")
    shared = {recipe for trouble in troubles for recipe in trouble["recipes"]}
    alone = [outcome for outcome in outcomes if outcome["recipe"] not in shared]
    ordered = sorted(alone, key=lambda o: (o["reason"] not in HELD, order.index(o["outcome"]), o["recipe"]))
    return [
        [f"{len(one['recipes'])} recipes", "error", one["reason"], "host", None, None, None, "", _for_all(one)]
        for one in troubles
    ] + [
        [
            o["recipe"],
            o["outcome"],
            o["reason"],
            o["fault"],
            o["version"],
            o["base"],
            o["level"],
            f"{o['seconds']:.1f}",
            o["detail"],
        ]
        for o in ordered
    ]


def _for_all(trouble: Mapping[str, Any]) -> str:
    return f"{trouble['outside']}: {trouble['detail']} The recipes: {', '.join(trouble['recipes'])}."


def told_tries(outcome: Mapping[str, Any]) -> list[str]:
    """A line for each earlier try of a recipe in the same sweep: a later one hides nothing."""
    return [
        f"{outcome['recipe']}: tried before, {one['ts']}: {one['outcome']} ({one['cause'] or one['reason']}) in {one['step']}"
        for one in outcome["tries"]
    ]


OUTCOME_COLUMNS = ("recipe", "outcome", "reason", "fault", "version", "base", "level", "seconds", "detail")
#: Of these, what a narrow terminal goes without, first to last.
OUTCOME_GIVES_WAY = ("seconds", "base", "level", "version", "fault", "reason")
