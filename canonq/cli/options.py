"""What commands share: options, arguments that a shell completes, and who typed them."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from canonq.core.text import kept_text

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value, for programs.")


def _recipes(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Folders that enrol somebody, for a shell to propose; none where anything is wrong: a shell is no place to be told."""
    del ctx, param
    from canonq.core.errors import CanonqError
    from canonq.settings import load_settings

    try:
        repo = load_settings().repo
        folders = sorted(path.parent.name for path in (repo / "tests").glob("*/recipe.toml")) if repo else []
    except (CanonqError, OSError):
        return []
    return [CompletionItem(name) for name in folders if name.startswith(typed)]


recipe_argument = click.argument("recipe", shell_complete=_recipes)
maybe_recipe = click.argument("recipe", required=False, shell_complete=_recipes)
recipes_argument = click.argument("recipes", nargs=-1, metavar="[RECIPE]...", shell_complete=_recipes)


def reason_option(why: str, **more: Any) -> Callable[[Any], Any]:
    """`--reason`, which goes on record: text, whatever the terminal has made of it. `more`: as click's options have it."""
    return click.option("--reason", help=why, callback=_kept, **{"required": True, **more})


def _kept(ctx: click.Context, param: click.Parameter, typed: str) -> str:
    del ctx, param
    return kept_text(typed)


def caller() -> str:
    """Who typed the command, for the record."""
    try:
        return kept_text(os.environ.get("SUDO_USER") or getpass.getuser())
    except (KeyError, OSError):  # no list of users has this one, as in a container
        return f"uid {os.getuid()}"
