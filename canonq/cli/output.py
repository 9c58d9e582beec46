"""Tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from canonq.core.outcomes import HELD

_COLOURS = {
    "promoted": "green", "green": "green", "ok": "green", "pass": "green",
    "red": "red", "error": "red", "broken": "red", "failed": "red",
    "deferred": "yellow", "defer": "yellow", "warning": "yellow", "refused": "yellow", "run": "cyan",
}  # fmt: skip


def print_json(value: Any) -> None:
    """One JSON value on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; texts are shown as they are, never read as markup."""
    table = Table(title=Text(title), title_justify="left", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console = Console(highlight=False)
    # Where there is no terminal, a table folded to 80 columns is worse to read and to search than a wide one.
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)


def _cell(value: Any) -> Text:
    text = "" if value is None else str(value)
    return Text(text, style=_COLOURS.get(text, ""))


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
