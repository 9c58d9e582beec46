"""How a sweep is shared among hosts: in the folder of the sweep on each of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.files import write_json
from canonq.adapters.state.records import read_often, readable_json
from canonq.core.sweeps.placement import FREE

_PLACED, _TOLD, _FOUND = "placed.json", "told.json", "found.json"


class Shares:
    """Where each recipe of a sweep is worked on, and what hosts have told each other of it."""

    def __init__(self, folder_of: Callable[[str], Path], record_of: Callable[[str], dict[str, Any]]) -> None:
        self._folder_of = folder_of
        self._record_of = record_of

    def place(self, sweep: str, placed: dict[str, Any]) -> None:
        """Note, before anything is sent, where each recipe of a sweep is worked on: {"own", "recipes": {name: {"host", ...}}}."""
        write_json(self._folder_of(sweep) / _PLACED, placed)

    def placed(self, sweep: str) -> dict[str, Any]:
        """The same; empty where it was not noted, as where there is one host."""
        return readable_json(self._folder_of(sweep) / _PLACED, read_often)

    def elsewhere(self, sweep: str) -> dict[str, str]:
        """recipe -> host, of those that are another host's share of the sweep."""
        placed = self.placed(sweep)
        recipes, own = placed.get("recipes"), placed.get("own")
        if not isinstance(recipes, dict):
            return {}
        hosts = {name: one.get("host") for name, one in recipes.items() if isinstance(one, dict)}
        return {name: str(host) for name, host in hosts.items() if host is not None and host != own}

    def parts(self, sweep: str) -> dict[tuple[str, str], list[str]]:
        """(host, id of its share) -> recipes: that of the sweep, or of its own where a host was given recipes later."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, host in self.elsewhere(sweep).items():
            found.setdefault((host, self._of(sweep, name).get("share") or sweep), []).append(name)
        return found

    def is_free(self, sweep: str, recipe: str) -> bool:
        """Whether a recipe may go to another host as soon as its own cannot do it."""
        one = self._of(sweep, recipe)
        return one.get("reason") in FREE and not one.get("stays")

    def tried(self, sweep: str, recipe: str) -> set[str]:
        """The hosts that could not do it, and the one where it is."""
        one = self._of(sweep, recipe)
        return {str(host) for host in [*one.get("tried", []), one.get("host")]}

    def move(self, sweep: str, moved: dict[str, dict[str, Any]]) -> None:
        """Note, before anything is sent, what is new of where recipes are worked on."""
        placed = self.placed(sweep)
        recipes = {name: {**one, **moved.get(name, {})} for name, one in placed["recipes"].items()}
        self.place(sweep, {**placed, "recipes": recipes})

    def _of(self, sweep: str, recipe: str) -> dict[str, Any]:
        recipes = self.placed(sweep).get("recipes")
        one = recipes.get(recipe) if isinstance(recipes, dict) else None
        return one if isinstance(one, dict) else {}

    def sent_at(self, sweep: str) -> float:
        """When the shares of a sweep were last sent, in seconds since 1970."""
        try:
            return (self._folder_of(sweep) / _PLACED).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def sent_again(self, sweep: str) -> None:
        """Note that they were sent just now."""
        os.utime(self._folder_of(sweep) / _PLACED)

    def note_findings(self, sweep: str, host: str, findings: Sequence[str]) -> None:
        """Note what a host with a share had to tell beside its outcomes."""
        if not findings:
            return
        kept = readable_json(self._folder_of(sweep) / _FOUND)
        now = {**kept, host: list(dict.fromkeys([*_lines(kept.get(host)), *findings]))}
        if now != kept:
            write_json(self._folder_of(sweep) / _FOUND, now)

    def findings(self, sweep: str) -> list[str]:
        """The same of all hosts, each with the name of its host before it."""
        kept = readable_json(self._folder_of(sweep) / _FOUND)
        return [f"{host}: {line}" for host in sorted(kept) for line in _lines(kept[host])]

    def opener(self, sweep: str) -> str | None:
        """The host that has opened the sweep of which this is a share; None for one that was opened here."""
        opener = self._record_of(sweep).get("share_of")
        return opener if isinstance(opener, str) else None

    def was_told(self, sweep: str) -> bool:
        """Whether the host that has opened it was told all of a closed share."""
        return (self._folder_of(sweep) / _TOLD).is_file()

    def told(self, sweep: str) -> None:
        """Note that it was."""
        write_json(self._folder_of(sweep) / _TOLD, {})


def _lines(value: object) -> list[str]:
    return [line for line in value if isinstance(line, str)] if isinstance(value, list) else []
