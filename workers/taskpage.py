"""What Flower's list of tasks says of one: which recipe, what came of it, and red told from green. Pure.

Flower knows a task by what its events carry: texts, cut at some length. Nothing else is asked, so its process needs no access to
the state folder.
"""

from __future__ import annotations

import re
from typing import Any

from canonq.core.text import beginning, readable

#: Keys that stand first in a step's value, so that a text which is cut has them.
FIRST = ("recipe", "verdict", "outcome", "action", "reason", "version", "latest")
RESULT_LENGTH = 400  #: characters of a result that events carry
_SHOWN = 160  #: of these, what the list shows
_KEYS = {"canonq.test": "verdict", "canonq.promote": "outcome", "canonq.decide": "action"}
#: What a step came to -> the word of its state, with a mark for those who do not see colours.
_WORDS = {
    "green": "✓ GREEN",
    "red": "✗ RED",
    "error": "! ERROR",
    "promoted": "✓ PROMOTED",
    "already": "✓ ALREADY",
    "refused": "✗ REFUSED",
    "failed": "! FAILED",
    "busy": "… BUSY",
    "run": "→ TEST",
    "promote": "→ PROMOTE",
    "skip": "· SKIPPED",
    "defer": "… DEFERRED",
    "closed": "· CLOSED",
}


def in_order(value: dict[str, Any]) -> dict[str, Any]:
    """A step's value with what is looked at first in front."""
    return {**{key: value[key] for key in FIRST if key in value}, **value}


def format_task(task: Any) -> Any:
    """Flower's hook: a copy of a task as it is shown."""
    name, result = str(task.name or ""), str(task.result or "")
    task.args = _recipe(str(task.args or ""), result)
    task.kwargs = ""
    if task.state == "FAILURE":
        task.result = _short(_unwrapped(str(task.exception or "")))
    elif task.state == "SUCCESS" and name == "canonq.sweep":
        task.result = _of_sweep(result)
    elif task.state == "SUCCESS" and name.startswith("canonq."):
        came_to = _said(result, _KEYS.get(name, "")) or _said(result, "outcome")
        task.state = _WORDS.get(came_to, task.state)
        version, reason, detail = (_said(result, key) for key in ("version", "reason", "detail"))
        version = version or _said(result, "latest")
        task.result = _short(f"{version}{' ' if version else ''}{f'({reason})' if reason else ''} {detail}".strip())
    else:
        task.result = _short(result)
    return task


def _recipe(arguments: str, result: str) -> str:
    """The recipe's name: from the arguments where they say it, else from the result."""
    if arguments and arguments[0] not in "([{":
        return _short(arguments)
    found = _said(arguments, "recipe") or _said(result, "recipe")
    first = re.match(r"[(\[]+'((?:[^'\\]|\\.)*)'", arguments)
    return _short(found or (first[1] if first else ""))


def _said(text: str, key: str) -> str:
    """What a dict's text says of a key; as much as is there where it was cut."""
    found = re.search(rf"'{key}': '((?:[^'\\]|\\.)*)", text) if key else None
    return found[1].replace("\\'", "'") if found else ""


def _of_sweep(text: str) -> str:
    """How many recipes a sweep began with, left idle, or could not look at; at least so many where the text was cut."""
    told = []
    for key in ("started", "idle", "failed"):
        if found := re.search(rf"'{key}': \[([^\]]*)", text):
            more = "+" if ", ..." in found[1] else ""
            told.append(f"{found[1].count(chr(39)) // 2}{more} {key}")
    return _short(f"{_said(text, 'sweep')}: {', '.join(told)}".strip(": "))


def _unwrapped(text: str) -> str:
    """An exception's text without the name of its class."""
    found = re.fullmatch(r"StepFailed\((['\"])(.*)\1\)", text, re.S)
    return found[2] if found else text


def _short(text: str) -> str:
    return beginning(readable(text), _SHOWN)
