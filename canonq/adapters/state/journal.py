"""What has been done for one order, step by step: `steps/<recipe>.json` in its folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.filelocks import is_held, opened_lock, try_lock
from canonq.adapters.files import entries, write_json
from canonq.adapters.state.records import outcome_in, readable_json
from canonq.core.names import recipe_name
from canonq.core.outcomes import Outcome


class Journal:
    """What has been done for one order (a sweep, or a call by hand), recipe by recipe.

    A finished step's result is kept here, so that a task which is delivered twice has the effect of one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def steps(self, recipe: str) -> dict[str, Any]:
        """step -> {started, attempts, result?} in the order in which they began; of a file that cannot be read, none has."""
        steps = readable_json(self._path(recipe))
        return {
            step: entry for step, entry in steps.items() if isinstance(entry, dict) and isinstance(entry.get("attempts"), int)
        }

    def recipes(self) -> list[str]:
        """Of whom it tells."""
        return [path.stem for path in entries(self._folder / "steps") if path.suffix == ".json"]

    def begin(
        self,
        recipe: str,
        step: str,
        stamp: str,
        worker: str | None = None,
        processes: Sequence[str] = (),
        were_asked: Callable[[object], bool] = lambda _: False,
        task: str | None = None,
    ) -> int:
        """Note that a step begins, and whose it is; how many times it has begun by now. `task`: the one that it is done for,
        where a chain may have several of one kind.

        `were_asked`: whether those `processes` that began it before were asked to end. They have not died of it then: that time
        does not count, nor do chains that were lost with them.
        """
        steps = self.steps(recipe)
        entry = steps.setdefault(step, {"attempts": 0})
        before = int(entry["attempts"])
        if before and "result" not in entry and were_asked(entry.get("processes")):
            before -= 1
            self._resends(recipe).unlink(missing_ok=True)
        entry |= {"attempts": before + 1, "started": stamp, "worker": worker, "processes": list(processes), "task": task}
        write_json(self._path(recipe), steps)
        return int(entry["attempts"])

    def task(self, recipe: str, step: str) -> str | None:
        """The task that a step was begun for; None where that does not matter, or nothing was begun."""
        found = self.steps(recipe).get(step, {}).get("task")
        return found if isinstance(found, str) else None

    def result(self, recipe: str, step: str) -> dict[str, Any] | None:
        """The kept result of a finished step."""
        entry = self.steps(recipe).get(step, {})
        found = entry.get("result")
        return dict(found) if isinstance(found, dict) else None

    def finish(
        self, recipe: str, step: str, result: dict[str, Any], outcome: Outcome | None = None, stamp: str | None = None
    ) -> None:
        """Keep a step's result, and with it the outcome of the recipe when it ended the chain."""
        steps = self.steps(recipe)
        entry = steps.setdefault(step, {"attempts": 1})
        entry |= {"result": result, "ended": stamp}
        if outcome is not None:
            entry["outcome"] = outcome.model_dump(mode="json")
        write_json(self._path(recipe), steps)

    def outcome(self, recipe: str, step: str) -> Outcome | None:
        """What a finished step came to when it ended; None when it ended no chain."""
        return outcome_in(self.steps(recipe).get(step, {}).get("outcome"))

    @contextlib.contextmanager
    def executing(self, recipe: str) -> Iterator[bool]:
        """Show, as long as the block lasts or this process lives, that the recipe is worked on; False: another does."""
        with opened_lock(self._path(recipe).with_suffix(".lock")) as file:
            yield try_lock(file)

    def is_executing(self, recipe: str) -> bool:
        """Whether a living process works on the recipe."""
        return is_held(self._path(recipe).with_suffix(".lock"))

    def touched(self, recipe: str) -> float | None:
        """When anything was last written about the recipe, in seconds since 1970; None when nothing was."""
        times = [path.stat().st_mtime for path in (self._path(recipe), self._resends(recipe)) if path.is_file()]
        return max(times, default=None)

    def resent(self, recipe: str) -> int:
        """How often its chain was lost and sent again."""
        resent = readable_json(self._resends(recipe)).get("resent", 0)
        return resent if isinstance(resent, int) else 0

    def count_resend(self, recipe: str) -> None:
        """Count one more."""
        write_json(self._resends(recipe), {"resent": self.resent(recipe) + 1})

    def _resends(self, recipe: str) -> Path:
        return self._folder / "resent" / f"{recipe_name(recipe)}.json"

    def forget(self, recipe: str, step: str | None) -> None:
        """Take back a step that deferred its recipe, so that it is done again; without one, all steps."""
        steps = self.steps(recipe) if step else {}
        steps.pop(step or "", None)
        write_json(self._path(recipe), steps)

    def _path(self, recipe: str) -> Path:
        return self._folder / "steps" / f"{recipe_name(recipe)}.json"
