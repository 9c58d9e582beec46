"""The registry: `$CANONQ_STATE/warm/<recipe>/canonical.json` and the kept canonicals beside it (SPEC section 4)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canonq.adapters.files import told, write_json
from canonq.core.errors import RecordUnreadable
from canonq.core.names import RECIPE_NAME, recipe_name
from canonq.core.records import SCHEMA, Canonical
from canonq.ports import Held

RECORD = "canonical.json"
SECRETS = "secrets.json"


class Registry:
    """Reads freely; writes only with proof that the recipe is held."""

    def __init__(self, warm: Path) -> None:
        self._warm = warm

    def folder(self, recipe: str) -> Path:
        """A recipe's warm folder."""
        return self._warm / recipe_name(recipe)

    def generation(self, recipe: str, name: str) -> Path:
        """The folder of one kept canonical: its snapshot, secrets, env and record."""
        return self.folder(recipe) / "canonicals" / name

    def folder_of(self, record: Canonical) -> Path | None:
        """The folder of a canonical's snapshot and secrets; None for a record of an older server."""
        return Path(record.snapshot.path).parent if record.snapshot else None

    def read(self, recipe: str) -> Canonical | None:
        """The record, or None when the recipe has none. RecordUnreadable names the file and what is wrong."""
        path = self.folder(recipe) / RECORD
        try:
            return _parse(path, _text(path), recipe)
        except FileNotFoundError:
            return None

    def write(self, record: Canonical, held: Held) -> None:
        """Replace the record in one durable step. LockLost when `held` is not the newest holder any more."""
        folder = self.folder(record.recipe)
        kept = record.model_dump(mode="json", by_alias=True)
        held.check()
        write_json(folder / RECORD, kept)

    def recipes(self) -> list[str]:
        """Recipes that have a record."""
        return sorted(path.parent.name for path in self._warm.glob(f"*/{RECORD}"))

    def begun(self) -> list[str]:
        """Recipes that have a record, or whose first promotion was begun."""
        return sorted(path.name for path in self._warm.glob("*") if path.is_dir() and RECIPE_NAME.fullmatch(path.name))

    def generations(self, recipe: str) -> list[Canonical]:
        """Kept canonicals, oldest promotion first; half-built ones (no record yet) are left out."""
        found = []
        for path in sorted((self.folder(recipe) / "canonicals").glob("*/record.json")):
            found.append(_parse(path, _text(path), recipe))
        return sorted(found, key=lambda record: record.promoted_at or "")

    def half_built(self, recipe: str) -> list[Path]:
        """Folders of canonicals that were never finished."""
        folders = (self.folder(recipe) / "canonicals").glob("*")
        return [folder for folder in folders if not (folder / "record.json").is_file()]

    def drop_half_written(self, recipe: str) -> None:
        """Remove what a write of the record or of its fence left that was killed. The caller holds the recipe."""
        for name in (RECORD, "registry.fence"):
            for path in self.folder(recipe).glob(f".{name}.*"):
                path.unlink(missing_ok=True)

    def keep_secrets(self, folder: Path, secrets: dict[str, str]) -> None:
        """Keep a canonical's secrets beside its snapshot, for its owner's eyes only: its data needs them."""
        write_json(folder / SECRETS, secrets, mode=0o600)

    def secrets(self, record: Canonical) -> dict[str, str]:
        """The secrets a canonical's data was made with; empty for a record of an older server."""
        folder = self.folder_of(record)
        if folder is None:
            return {}
        path = folder / SECRETS
        try:
            return {str(name): str(value) for name, value in json.loads(path.read_text()).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise RecordUnreadable(f"The canonical's {path.name} in {path.parent} cannot be read: {error}.") from error

    def drop_generation(self, recipe: str, name: str) -> None:
        """Remove one kept canonical's files; its record goes first, so that it is never half a canonical."""
        folder = self.generation(recipe, name)
        with told(folder):
            (folder / "record.json").unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error


def _parse(path: Path, text: str, recipe: str) -> Canonical:
    try:
        table: Any = json.loads(text)
        if not isinstance(table, dict):
            raise ValueError("it is not a JSON object")
        record = Canonical.model_validate(table)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors(include_input=False))
        raise _unreadable(path, faults) from error
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    if record.recipe != recipe:
        raise _unreadable(path, f"it is the record of '{record.recipe}'")
    if record.schema_ > SCHEMA:
        raise _unreadable(path, f"it has schema {record.schema_}, and this canonq knows {SCHEMA}")
    return record


def _unreadable(path: Path, why: str) -> RecordUnreadable:
    return RecordUnreadable(
        f"{path} cannot be used: {why}. It was left as it is.",
        mend="restore it from a backup, or from record.json in the newest folder of canonicals/ beside it.",
    )
