"""What people have said about releases, `steering/<recipe>.json`, and since when releases are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from canonq.adapters.filelocks import locked
from canonq.adapters.files import not_readable, write_json
from canonq.adapters.state.records import readable_json
from canonq.core.errors import RecordUnreadable
from canonq.core.names import RECIPE_NAME, recipe_name
from canonq.core.steering import Word

_WORDS = TypeAdapter(tuple[Word, ...])


class Steering:
    """Words are only ever added. A record that cannot be read is an error: what somebody has blocked must not slip through."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def words(self, recipe: str) -> tuple[Word, ...]:
        """All that was said of a recipe's releases, oldest first."""
        path = self._path(recipe)
        try:
            return _WORDS.validate_json(path.read_bytes())
        except FileNotFoundError:
            return ()
        except PermissionError as error:
            raise not_readable(path) from error
        except (OSError, ValidationError) as error:
            raise RecordUnreadable(
                f"What people have said about releases of {recipe} cannot be read: {path}.",
                mend="put the file back, or remove it and say again what is to hold.",
            ) from error

    def recipes(self) -> list[str]:
        """Those of whose releases something was said."""
        return [path.stem for path in sorted(self._root.glob("*.json")) if RECIPE_NAME.fullmatch(path.stem)]

    def say(self, recipe: str, word: Word) -> None:
        """Keep one more word."""
        path = self._path(recipe)
        with locked(path.with_suffix(".lock")):
            write_json(path, [one.model_dump(mode="json") for one in (*self.words(recipe), word)])

    def first_seen(self, recipe: str, tag: str, commit: str) -> str | None:
        """When a release was first looked at with its commit; None when that was never."""
        found = self._seen(recipe).get(f"{tag} {commit}")
        return found if isinstance(found, str) else None

    def note_seen(self, recipe: str, tag: str, commit: str, stamp: str) -> str:
        """Note that a release is looked at; when it first was. What a clock that was ahead has noted counts from now on."""
        path = self._root / f"{recipe_name(recipe)}.seen.json"
        with locked(path.with_suffix(".lock")):
            seen = self._seen(recipe)
            found = seen.get(f"{tag} {commit}")
            if not isinstance(found, str) or found > stamp:
                found = seen[f"{tag} {commit}"] = stamp
                write_json(path, dict(list(seen.items())[-100:]))
        return found

    def _seen(self, recipe: str) -> dict[str, Any]:
        return readable_json(self._root / f"{recipe_name(recipe)}.seen.json")

    def _path(self, recipe: str) -> Path:
        return self._root / f"{recipe_name(recipe)}.json"
