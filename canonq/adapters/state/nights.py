"""Which nights have had their sweep: `sweeps/nights.json`."""

from __future__ import annotations

import logging
from pathlib import Path

from canonq.adapters.filelocks import locked
from canonq.adapters.files import write_json
from canonq.adapters.state.records import read_json
from canonq.core.errors import CanonqError

log = logging.getLogger("canonq")

_NIGHTS = 60  #: nights that are remembered


class Nights:
    """Nights, each claimed by the one task that opens its sweep."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def claim(self, night: str, task: str) -> bool:
        """Whether `task` is the first to claim this night (the time at which it was due); asked again, it gets the same answer.

        What a night is called decides, not when somebody asks: a clock that was ahead once claims a night of its own.
        """
        with locked(self._root / "nights.lock"):
            claimed = self.claimed()
            if night in claimed:
                return claimed[night] == task
            kept = dict(list(claimed.items())[1 - _NIGHTS :])
            write_json(self._root / "nights.json", {"nights": {**kept, night: task}})
            return True

    def claimed(self) -> dict[str, str]:
        """Nights that were claimed -> the task that did, as they came; empty when there is no such record, or none to read."""
        try:
            nights = read_json(self._root / "nights.json").get("nights", {})
        except CanonqError as error:
            log.error("The nights on record are begun again: %s", error)
            return {}
        return {str(night): str(task) for night, task in nights.items()} if isinstance(nights, dict) else {}
