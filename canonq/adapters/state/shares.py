"""How a sweep is shared among hosts: in the folder of the sweep on each of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from canonq.adapters.files import write_json
from canonq.adapters.state.records import readable_json

_PLACED, _TOLD = "placed.json", "told.json"


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
        return readable_json(self._folder_of(sweep) / _PLACED)

    def elsewhere(self, sweep: str) -> dict[str, str]:
        """recipe -> host, of those that are another host's share of the sweep."""
        placed = self.placed(sweep)
        recipes, own = placed.get("recipes"), placed.get("own")
        if not isinstance(recipes, dict):
            return {}
        hosts = {name: one.get("host") for name, one in recipes.items() if isinstance(one, dict)}
        return {name: str(host) for name, host in hosts.items() if host is not None and host != own}

    def sent_at(self, sweep: str) -> float:
        """When the shares of a sweep were last sent, in seconds since 1970."""
        try:
            return (self._folder_of(sweep) / _PLACED).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def sent_again(self, sweep: str) -> None:
        """Note that they were sent just now."""
        os.utime(self._folder_of(sweep) / _PLACED)

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
