"""What is kept of tasks that somebody called by hand: `calls/<task>/`."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from canonq.adapters.files import entries, write_json
from canonq.adapters.state.journal import Journal
from canonq.adapters.state.records import read_json
from canonq.core.errors import CanonqError
from canonq.core.names import SWEEP_ID, identifier, recipe_name

log = logging.getLogger("canonq")

_TASK_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Calls:
    """Tasks called by hand: what each has done, and which sweep it opened."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def journal(self, task: str) -> Journal:
        """The journal of a task. WrongUse for what is not a task's id."""
        return Journal(self._folder(task))

    def journals(self, recipe: str | None = None) -> list[Journal]:
        """The journals of all tasks, or of those about a recipe, in no order."""
        file = f"steps/{recipe_name(recipe)}.json" if recipe is not None else "steps"
        return [Journal(folder) for folder in entries(self._root) if (folder / file).exists()]

    def sweep_for(self, task: str, new: str) -> str:
        """The sweep that a task opened before, else `new`, remembered: a task delivered twice opens one sweep."""
        path = self._folder(task) / "sweep.json"
        kept = read_json(path).get("sweep")
        if kept is None:
            write_json(path, {"sweep": new})
        return str(kept or new)

    def fence_for(self, task: str, now: int | None) -> int | None:
        """The fence of the record that a task meant when it was begun first, remembered; `now`: the present one."""
        path = self._folder(task) / "fence.json"
        kept = read_json(path)
        if "fence" not in kept:
            write_json(path, {"fence": now})
            return now
        return kept["fence"] if isinstance(kept["fence"], int) else None

    def sweep_of(self, task: str) -> str | None:
        """The sweep that a task has opened; None when it has none, or that cannot be told."""
        try:
            found = read_json(self._folder(task) / "sweep.json").get("sweep")
            return identifier(found, SWEEP_ID, "sweep id") if found is not None else None
        except CanonqError as error:
            log.error("Which sweep the task %s has opened is not known: %s", task, error)
            return None

    def _folder(self, task: str) -> Path:
        return self._root / identifier(task, _TASK_ID, "task id")
