"""The files that `enrol` writes for a person to finish: a commented recipe.toml, and hooks.py where one is needed. Pure."""

from __future__ import annotations

import json
from typing import Any

import tomlkit
from tomlkit.container import Container
from tomlkit.items import Table

from canonq.core.enrol.inspect import Guess, Inspected
from canonq.core.text import readable

_MOST_LISTED = 40


def enrolment_text(recipe: str, upstream: str, told: Inspected | str, *, version: str | None, description: str = "") -> str:
    """A commented recipe.toml. `told`: what the newest release tells, or why it could not be read."""
    file = tomlkit.document()
    _say(
        file,
        f"{recipe}{': ' + _plain(description) if description else ''}",
        f"Written by `canonq enrol` from the release {version}." if version else "Written by `canonq enrol`.",
        "Every key is in docs/enrolment.md; what stands here is a first guess, and yours to correct.",
    )
    file.add(tomlkit.nl())
    file["upstream"] = upstream
    _say(file, f'mirror = "https://git.example.org/mirror/{recipe}.git"   # where the pull requests are')
    if isinstance(told, str):
        file.add(tomlkit.nl())
        _say(file, f"The recipe could not be looked into: {_plain(told)}")
        return tomlkit.dumps(file)
    _guess(file, "weight", told.weight)
    file.add(tomlkit.nl())
    _say(file, "Services:", *(f"  {_plain(name)}: {_plain(image)}" for name, image in list(told.services.items())[:_MOST_LISTED]))
    _say(file, f"Volumes: {', '.join(map(_plain, told.volumes[:_MOST_LISTED])) or 'none, so there is no data to keep'}")
    file.add(tomlkit.nl())
    file["health"] = last = _health(told)
    if told.empty_env:
        file["env"] = last = tomlkit.table()
        _say(last, "Keys that .env.sample leaves empty; fill in those without which the app does not start.")
        _say(last, *(f'{_plain(key)} = ""' for key in told.empty_env[:_MOST_LISTED]))
    if told.wanted_secrets:
        file["secrets"] = last = tomlkit.table()
        _say(last, "Secrets that cannot be generated from .env.sample: each needs a value before the first run.")
        named = map(_plain, told.wanted_secrets[:_MOST_LISTED])
        _say(last, *(f'{name} = {{ file = "/path/to/it" }}   # or {{ hex = 32 }}, or {{ env = "NAME" }}' for name in named))
    last.add(tomlkit.nl())
    _say(last, *_backup(told.backup), *(f"Look at: {_plain(problem)}" for problem in told.problems[:_MOST_LISTED]))
    return tomlkit.dumps(file)


def _health(told: Inspected) -> Table:
    health = tomlkit.table()
    _guess(health, "kind", told.kind)
    _guess(health, "service", told.service)
    _guess(health, "port", told.port, "in the container; ")
    if told.kind.value == "http":
        _guess(health, "path", told.path)
        health["status"] = tomlkit.item([200]).comment("add 301, 302 or 401 where the app answers so to strangers")
    timeout = tomlkit.item(300)
    health["timeout"] = timeout.comment("seconds until it must answer; some apps take many minutes at their first boot")
    return health


def _backup(backup: Guess) -> list[str]:
    if backup.value:
        return [f"Backup: the recipe has backupbot labels; {_plain(backup.why)}."]
    return [
        f"Backup: {_plain(backup.why)}. If that is right for this app, say why:",
        "[expected_na]",
        'backup = "..."',
        'restore = "..."',
    ]


def _guess(place: Container | Table, key: str, guess: Guess, told: str = "") -> None:
    """A value, with the reason for it beside it."""
    place[key] = tomlkit.item(guess.value).comment(f"{told}{_plain(guess.why)}")


def _say(place: Container | Table, *lines: str) -> None:
    for line in lines:
        place.add(tomlkit.comment(line))


def _plain(text: Any) -> str:
    """Text from a recipe for a comment: one line, nothing that could end it."""
    return readable(" ".join(str(text).split()))[:200]


def hooks_text(recipe: str, told: Inspected) -> str | None:
    """A hooks.py for a person to finish, where canonq cannot write into a database of the recipe; None where it can."""
    if not told.unmarked:
        return None
    listed = ", ".join(f"{_plain(service)} ({kind})" for service, kind in sorted(told.unmarked.items()))
    return _HOOKS.format(recipe=recipe, listed=listed, first=json.dumps(min(told.unmarked)))


_HOOKS = """# Hooks of {recipe}. Written by `canonq enrol`.
#
# canonq writes no mark of its own into: {listed}. Whether what is in there survives an upgrade and a restore is
# proven once both functions below are there; until then each verdict has the gap `no-marker`.
# In which state the app is when they are called, and all that `app` can do: docs/writing-tests.md of canonq.
#
# def write_marker(app, text):
#     # Write over one and the same thing: it is called again, with the text `destroyed`, before a restore.
#     ended = app.exec({first}, "the-database's-own-client", "write", text)
#     assert ended.status == 0, ended.output
#
#
# def read_marker(app):
#     # Give back exactly that text.
#     return app.exec({first}, "the-database's-own-client", "read").output.strip()
"""
