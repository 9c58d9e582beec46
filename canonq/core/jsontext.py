"""JSON that somebody else wrote, or a disk that failed has changed: one kind of error for whatever is wrong with it. Pure."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def json_of(text: str | bytes) -> Any:
    """The value of a JSON text. ValueError for one that is none, is nested too deeply, or has numbers that are none."""
    try:
        return json.loads(text, parse_constant=_no_number)  # noqa: TID251 - the one place
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def table_of(text: str | bytes) -> dict[str, Any]:
    """The same, of a text that must hold an object."""
    value = json_of(text)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
