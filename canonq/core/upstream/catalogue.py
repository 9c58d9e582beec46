"""The list of recipes that Co-op Cloud publishes as `recipes.json`: finding one in it. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from canonq.core.errors import WrongConfiguration, WrongUse
from canonq.core.jsontext import json_of
from canonq.core.names import recipe_name


@dataclass(frozen=True)
class Entry:
    """What the list says about a recipe. Its tags are the authority on what is released; the list lags behind."""

    name: str
    repository: str  #: address of its git repository
    description: str = ""
    category: str = ""


def find(text: str | bytes, recipe: object, *, where: str) -> Entry:
    """The entry of a recipe. WrongUse, with names that are near, when there is none; WrongConfiguration for no such list."""
    name = recipe_name(recipe)
    try:
        listed = json_of(text)
    except (ValueError, RecursionError) as error:
        raise _unusable(where, f"it is not JSON: {error}") from error
    if not isinstance(listed, dict) or not listed:
        raise _unusable(where, "it is not an object of recipes by name")
    if name not in listed:
        near = ", ".join(difflib.get_close_matches(name, map(str, listed), n=5)) or "none"
        raise WrongUse(
            f"{where} lists no recipe {name}; near names: {near}.",
            mend=f"correct the name, or give its repository: canonq enrol {name} --upstream ADDRESS.",
            code="not-in-catalogue",
        )
    entry = listed[name]
    repository = entry.get("repository") if isinstance(entry, dict) else None
    if not isinstance(repository, str) or not repository:
        raise _unusable(where, f"its entry {name} has no text under `repository`")
    return Entry(name, repository, _text(entry.get("description")), _text(entry.get("category")))


def _text(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""


def _unusable(where: str, why: str) -> WrongConfiguration:
    return WrongConfiguration(
        f"The catalogue {where} cannot be used: {why}.",
        mend="correct `catalogue`, or give --upstream.",
        code="catalogue-unusable",
    )
