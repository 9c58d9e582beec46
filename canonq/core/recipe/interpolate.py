"""`${VAR}` in compose files, with the forms and types that `docker stack deploy` knows. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from canonq.core.errors import EnrolmentProblem, RecipeProblem
from canonq.core.recipe.fill import TooLong, fill
from canonq.core.text import shown

#: As Docker's own: without braces too, what follows an operator belongs to the variable.
_PATTERN = re.compile(
    r"""\$(?:
        (?P<escaped>\$) |
        (?P<named>[_A-Za-z][_A-Za-z0-9]*(?::?[-?][^}]*)?) |
        \{(?P<braced>[_A-Za-z][_A-Za-z0-9]*(?::?[-?][^}]*)?)\} |
        (?P<invalid>)
    )""",
    re.VERBOSE,
)
_OPERATORS = (":-", "-", ":?", "?")  #: in the order in which Docker looks for them, in all that stands there
#: Paths whose interpolated text is a number or a boolean; `*` is any key or list place.
_CASTS: tuple[tuple[str, type], ...] = (
    ("services.*.configs.*.mode", int),
    ("services.*.secrets.*.mode", int),
    ("services.*.healthcheck.retries", int),
    ("services.*.healthcheck.disable", bool),
    ("services.*.deploy.replicas", int),
    ("services.*.deploy.update_config.parallelism", int),
    ("services.*.deploy.update_config.max_failure_ratio", float),
    ("services.*.deploy.rollback_config.parallelism", int),
    ("services.*.deploy.rollback_config.max_failure_ratio", float),
    ("services.*.deploy.restart_policy.max_attempts", int),
    ("services.*.deploy.placement.max_replicas_per_node", int),
    ("services.*.ports.*.target", int),
    ("services.*.ports.*.published", int),
    ("services.*.ulimits.*", int),
    ("services.*.ulimits.*.hard", int),
    ("services.*.ulimits.*.soft", int),
    ("services.*.privileged", bool),
    ("services.*.read_only", bool),
    ("services.*.stdin_open", bool),
    ("services.*.tty", bool),
    ("services.*.volumes.*.read_only", bool),
    ("services.*.volumes.*.volume.nocopy", bool),
    ("networks.*.external", bool),
    ("networks.*.internal", bool),
    ("networks.*.attachable", bool),
    ("volumes.*.external", bool),
    ("secrets.*.external", bool),
    ("configs.*.external", bool),
)
MOST_FILLED = 4 << 20  #: characters of all texts of one file, once they are filled in
_SECTIONS = ("services", "volumes", "networks", "secrets", "configs")
_LONGEST_NUMBER = 20  #: characters
_TRUE = ("true", "y", "yes", "on")
_FALSE = ("false", "n", "no", "off")


def interpolate_text(text: str, env: Mapping[str, str], *, where: object, most: int = MOST_FILLED) -> str:
    """Fill one text in. RecipeProblem names `where` for a bad form, and for more than `most` characters."""

    def piece(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "$"
        if found["invalid"] is not None:
            raise RecipeProblem(
                f"{where}: {shown(text)} has a '$' that begins no variable as Docker knows them.",
                mend="write '$$' for a plain dollar sign; of a variable there is ${A}, ${A:-default} and ${A:?why}.",
                code="compose-invalid",
            )
        return _substitute(*_parts(found), env, where)

    try:
        return fill(_PATTERN, text, piece, most)
    except TooLong as error:
        raise RecipeProblem(
            f"{where}: what is filled in makes more than {MOST_FILLED} characters of this file.",
            mend="keep data out of the env; lines that build on each other double with each one.",
            code="env-too-large",
        ) from error


def _parts(found: re.Match[str]) -> tuple[str, str, str]:
    """What stands for a variable as Docker reads it: its name, the operator, and what comes behind that."""
    text = found["named"] or found["braced"]
    operator = next((one for one in _OPERATORS if one in text), "")
    name, _, argument = text.partition(operator) if operator else (text, "", "")
    return name, operator, argument


def _substitute(name: str, operator: str, argument: str, env: Mapping[str, str], where: object) -> str:
    value = env.get(name)
    there = value is not None and (value != "" or not operator.startswith(":"))
    match operator[-1:]:
        case "-" if not there:
            return argument
        case "?" if not there:
            raise EnrolmentProblem(  # the release says that whoever deploys it has to give it
                f"{where}: the variable {name} is required: {argument or 'it is not set'}.",
                mend=f"set {name} under [env] in recipe.toml.",
                code="env-missing",
            )
        case _:
            return value or ""


class _Place:
    """A place in a file, put into words only for whoever is told."""

    def __init__(self, path: tuple[str, ...], named: Callable[[tuple[str, ...]], str]) -> None:
        self._path, self._named = path, named

    def __str__(self) -> str:
        return self._named(self._path)


def interpolate(compose: Mapping[str, Any], env: Mapping[str, str], *, where: Callable[[tuple[str, ...]], str]) -> dict[str, Any]:
    """Fill in all values (never keys) of a compose file's sections, numbers and booleans cast as Docker does.

    `where` puts a place in the file into words.
    """
    left = [MOST_FILLED]

    def walk(value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, (*path, str(place))) for place, inner in enumerate(value)]
        if not isinstance(value, str):
            return value
        at = _Place(path, where)
        filled = interpolate_text(value, env, where=at, most=left[0])
        left[0] -= len(filled)
        return filled if filled == value else _cast(filled, path, at)

    def is_filled_in(section: str) -> bool:
        return section in _SECTIONS or section.startswith("x-")  # what nobody reads, Docker fills in as well

    return {section: walk(value, (section,)) if is_filled_in(section) else value for section, value in compose.items()}


def _cast(text: str, path: tuple[str, ...], at: object) -> Any:
    for pattern, kind in _CASTS:
        steps = pattern.split(".")
        if len(steps) == len(path) and all(step in ("*", part) for step, part in zip(steps, path, strict=True)):
            return _to(kind, text, at)
    return text


def _to(kind: type, text: str, at: object) -> Any:
    try:
        if kind is bool:
            if text.lower() in _TRUE + _FALSE:
                return text.lower() in _TRUE
            raise ValueError
        if len(text) > _LONGEST_NUMBER:
            raise ValueError
        if kind is int and re.fullmatch(r"0[0-7]+", text):
            return int(text, 8)
        made = kind(text)
        if not math.isfinite(made):
            raise ValueError
        return made
    except ValueError:
        raise RecipeProblem(
            f"{at}: {shown(text)} is not a {kind.__name__}.", mend="correct the value or its variable.", code="compose-invalid"
        ) from None


def variables(compose: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """(variable, place, default) of each variable that a compose file takes: default None, or what it is when nothing sets it."""
    for section in _SECTIONS:
        yield from _taken(compose.get(section), (section,))


def _taken(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _taken(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _taken(inner, (*path, str(place)))
    elif isinstance(value, str):
        for found in _PATTERN.finditer(value):
            if found["named"] or found["braced"]:
                name, operator, argument = _parts(found)
                if not operator or operator.endswith("-"):
                    yield name, path, argument if operator else None
