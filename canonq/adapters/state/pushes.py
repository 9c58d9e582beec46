"""What pushes have asked for: how many sweeps a day, and which wait for a sweep that is at their recipe."""

from __future__ import annotations

from pathlib import Path

from canonq.adapters.filelocks import locked
from canonq.adapters.files import entries, write_json
from canonq.adapters.state.records import readable_json
from canonq.core.names import RECIPE_NAME, recipe_name


class Pushes:
    """Pushes to recipes: `sweeps/pushes.json`, and a note in `sweeps/pushed/` for each recipe that has to wait."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def count(self, recipe: str, sweep: str, day: str, most: int) -> bool:
        """Whether a sweep that a push asked for is among the first `most` of the recipe's on that day; asked again, the same."""
        path = self._root / "pushes.json"
        with locked(self._root / "pushes.lock"):
            kept = readable_json(path)
            counted = kept.get("sweeps") if kept.get("day") == day else {}
            counted = counted if isinstance(counted, dict) else {}
            before = counted.get(recipe, [])
            before = before if isinstance(before, list) else []
            if sweep not in before and len(before) < most:
                write_json(path, {"day": day, "sweeps": {**counted, recipe: [*before, sweep]}})
            return sweep in before or len(before) < most

    def put_off(self, recipe: str) -> None:
        """Note that something was pushed to a recipe that a sweep is at."""
        write_json(self._note(recipe), {})

    def waiting(self) -> list[str]:
        """The recipes of which that was noted."""
        notes = [path for path in entries(self._root / "pushed") if path.suffix == ".json"]
        return [path.stem for path in notes if RECIPE_NAME.fullmatch(path.stem)]

    def take(self, recipe: str) -> bool:
        """Take such a note back; whether it was there. Only one of several callers gets True."""
        try:
            self._note(recipe).unlink()
        except FileNotFoundError:
            return False
        return True

    def _note(self, recipe: str) -> Path:
        return self._root / "pushed" / f"{recipe_name(recipe)}.json"
