"""JSON for programs: one value on standard output, and no other after it, whatever comes then."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from canonq.core.text import escaped

_printed: list[None] = []  #: one for each value of this command


def begin() -> None:
    """A command begins, which has printed nothing yet."""
    _printed.clear()


def print_json(value: Any) -> None:
    """One JSON value on standard output, which may be a terminal: what acts on one is written as its number."""
    _printed.append(None)
    text = escaped(json.dumps(value, indent=2, ensure_ascii=False))
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = escaped(json.dumps(value, indent=2))
    click.echo(text)


def was_printed() -> bool:
    """Whether this command has printed its value: what fails afterwards is told on standard error alone."""
    return bool(_printed)
