"""The registry: `$CANONQ_STATE/warm/<recipe>/canonical.json` and the kept canonicals beside it (docs/rules.md 4)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canonq.adapters.files import entries, is_there, not_readable, remove_tree, sync_folder, told, write_durably, write_json
from canonq.core.errors import NotReadable, RecordUnreadable
from canonq.core.jsontext import table_of
from canonq.core.names import RECIPE_NAME, recipe_name, shown
from canonq.core.records import SCHEMA, Canonical, Elsewhere
from canonq.core.retention import KEPT, Generation, generation_of, with_followers
from canonq.core.versions import NotARelease, parse
from canonq.ports import Held

RECORD = "canonical.json"
OWN_RECORD = "record.json"  #: of a kept canonical, as it was promoted
MARK = "in-force.json"  #: beside it, the record as it was when this canonical came into force last
SECRETS = "secrets.json"
ELSEWHERE = "elsewhere.json"  #: beside the record: it is on its way to another host, or has gone there
NEWER_SCHEMA = "newer-schema"


class Registry:
    """Reads freely; writes only with proof that the recipe is held.

    Paths in the files are relative to the state folder. They are told from the generation's name alone, so that a state
    folder that was moved, copied or named by another path has its snapshots.
    """

    def __init__(self, warm: Path) -> None:
        self._warm = warm

    def folder(self, recipe: str) -> Path:
        """A recipe's warm folder."""
        return self._warm / recipe_name(recipe)

    def generation(self, recipe: str, name: str) -> Path:
        """The folder of one kept canonical: its snapshot, secrets, env and record."""
        return self.folder(recipe) / KEPT / name

    def name_of(self, record: Canonical | None) -> str | None:
        """The generation that a record names; None for a record of an older server."""
        return generation_of(record.snapshot.path) if record and record.snapshot else None

    def folder_of(self, record: Canonical) -> Path | None:
        """The folder of a canonical's snapshot and secrets; None for a record of an older server."""
        return Path(record.snapshot.path).parent if record.snapshot else None

    def read(self, recipe: str) -> Canonical | None:
        """The record, or None when the recipe has none. RecordUnreadable names the file and what is wrong."""
        try:
            return self._parsed(self.folder(recipe) / RECORD, recipe)
        except FileNotFoundError:
            return None

    def write(self, record: Canonical, held: Held) -> None:
        """Replace the record in one durable step. LockLost when `held` is not the newest holder any more."""
        kept = self._stored(record)
        held.check()
        write_json(self.folder(record.recipe) / RECORD, kept)

    def write_own(self, record: Canonical, name: str) -> None:
        """Write a kept canonical's record beside its snapshot; it is not in force by that."""
        write_json(self.generation(record.recipe, name) / OWN_RECORD, self._stored(record))

    def mark(self, record: Canonical) -> None:
        """Note, beside its snapshot, that a record is in force. The caller holds the recipe and has read or written it so."""
        name = self.name_of(record)
        if name is None or not self.generation(record.recipe, name).is_dir():
            return
        path = self.generation(record.recipe, name) / MARK
        known, _ = self._try(path, record.recipe)
        if known is None or known.fence < record.fence:
            write_json(path, self._stored(record))

    def elsewhere(self, recipe: str) -> Elsewhere | None:
        """Where the recipe's canonical went, or is on its way to; None where it is here. RecordUnreadable: it is not known."""
        path = self.folder(recipe) / ELSEWHERE
        try:
            found = Elsewhere.model_validate(table_of(_text(path)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RecordUnreadable(
                f"{path} cannot be used: {error}.", mend="look at the disk; `canonq hosts` says where it is."
            ) from error
        record, _ = self._try(self.folder(recipe) / RECORD, recipe)
        return None if record is not None and record.fence > found.fence else found

    def set_elsewhere(self, mark: Elsewhere) -> None:
        """Note where it goes. The caller holds the recipe."""
        write_json(self.folder(mark.recipe) / ELSEWHERE, mark.model_dump(mode="json"))

    def is_here_again(self, recipe: str) -> None:
        """Take that note back. The caller holds the recipe."""
        (self.folder(recipe) / ELSEWHERE).unlink(missing_ok=True)

    def drop_record(self, recipe: str) -> None:
        """Remove the record of a canonical that has gone to another host. The caller holds the recipe."""
        (self.folder(recipe) / RECORD).unlink(missing_ok=True)
        sync_folder(self.folder(recipe))

    def recipes(self) -> list[str]:
        """Recipes that have a record, or that have lost it."""
        return [name for name in self.begun() if self.has_any(name)]

    def has_any(self, recipe: str) -> bool:
        """Whether a recipe has a record, or has lost it."""
        try:
            return is_there(self.folder(recipe) / RECORD) or bool(self.all_generations(recipe))
        except NotReadable:  # it may have one; whoever asks for it is told
            return True

    def begun(self) -> list[str]:
        """Recipes that have a record, or whose first promotion was begun."""
        return [path.name for path in entries(self._warm) if path.is_dir() and RECIPE_NAME.fullmatch(path.name)]

    def all_generations(self, recipe: str) -> list[Generation]:
        """Every folder of a canonical that was ever finished, oldest first, also of those that cannot be read."""
        found = []
        for folder in entries(self.folder(recipe) / KEPT):
            try:
                if not (is_there(folder / OWN_RECORD) or is_there(folder / MARK)):
                    continue
                record, problem = self._try(folder / OWN_RECORD, recipe)
                mark = self._try(folder / MARK, recipe)[0]
                missing = record is not None and record.snapshot is not None and not is_there(Path(record.snapshot.path))
                found.append(Generation(folder.name, record, mark, problem, missing=missing))
            except NotReadable as error:
                found.append(Generation(folder.name, None, None, error.what, hidden=True))
        known = with_followers(found, self._try(self.folder(recipe) / RECORD, recipe)[0]) if found else found
        return sorted(known, key=lambda one: (one.fence, one.name))

    def kept(self, recipe: str) -> list[Generation]:
        """Those that were in force at some time: what can be gone back to, and what cannot be read."""
        present = self._present(recipe)
        return [one for one in self.all_generations(recipe) if one.was_in_force(present) or one.record is None]

    def generations(self, recipe: str) -> list[Canonical]:
        """Kept canonicals that can be read, in their order of succession."""
        return [one.record for one in self.kept(recipe) if one.record is not None]

    def last_in_force(self, recipe: str) -> Canonical | None:
        """The newest record that was in force, by what is kept: for when the record itself is lost."""
        kept = self.kept(recipe)
        marks = [one.mark for one in kept if one.mark is not None] or [one.record for one in kept if one.record is not None]
        return max(marks, key=lambda record: record.fence, default=None)

    def newest_fence(self, recipe: str) -> int:
        """The highest fence that any file of a recipe has: also where the fence's own file and Redis' memory are lost."""
        known = [one for each in self.all_generations(recipe) for one in (each.record, each.mark) if one is not None]
        record, _ = self._try(self.folder(recipe) / RECORD, recipe)
        return max((one.fence for one in [*known, *([record] if record else [])]), default=0)

    def half_built(self, recipe: str) -> list[Path]:
        """Folders of canonicals that were never finished."""
        present = self._present(recipe)
        return [
            folder
            for folder in entries(self.folder(recipe) / KEPT)
            if not is_there(folder / OWN_RECORD) and not is_there(folder / MARK) and folder.name != present
        ]

    def drop_half_written(self, recipe: str) -> None:
        """Remove what a write of the record or of its fence left that was killed. The caller holds the recipe."""
        for path in [path for name in (RECORD, "registry.fence") for path in self.folder(recipe).glob(f".{name}.*")]:
            path.unlink(missing_ok=True)
        for name in (OWN_RECORD, MARK):
            for path in (self.folder(recipe) / KEPT).glob(f"*/.{name}.*"):
                path.unlink(missing_ok=True)

    def set_aside(self, recipe: str) -> None:
        """Keep a copy of a record that cannot be read, before another is written in its place."""
        path = self.folder(recipe) / RECORD
        if path.is_file():
            write_durably(path.with_name(f"{RECORD}.unreadable"), path.read_bytes())

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
            return {str(name): str(value) for name, value in table_of(path.read_bytes()).items()}
        except PermissionError as error:
            raise not_readable(path) from error
        except (OSError, ValueError) as error:
            raise RecordUnreadable(f"The canonical's {path.name} in {path.parent} cannot be read: {error}.") from error

    def drop_generation(self, recipe: str, name: str) -> None:
        """Remove one kept canonical's files; its record goes first, so that it is never half a canonical."""
        folder = self.generation(recipe, name)
        with told(folder):
            for own in (MARK, OWN_RECORD):
                (folder / own).unlink(missing_ok=True)
            remove_tree(folder)

    def _present(self, recipe: str) -> str | None:
        return self.name_of(self._try(self.folder(recipe) / RECORD, recipe)[0])

    def _try(self, path: Path, recipe: str) -> tuple[Canonical | None, str]:
        """A record, or why there is none."""
        try:
            return self._parsed(path, recipe), ""
        except FileNotFoundError:
            return None, f"{path} is gone"
        except RecordUnreadable as error:
            return None, error.what

    def _parsed(self, path: Path, recipe: str) -> Canonical:
        """Read a file; paths of snapshots become absolute, below this state folder."""
        record = _parse(path, _text(path), recipe)
        before = (record.previous or {}).get("snapshot")
        if isinstance(before, dict) and isinstance(before.get("path"), str):
            # Of one that cannot be gone back to by this path, it stays as it is.
            there = {**before, "path": self._absolute(before["path"], recipe) or before["path"]}
            record = record.model_copy(update={"previous": {**(record.previous or {}), "snapshot": there}})
        if record.snapshot is None:
            return record
        place = self._absolute(record.snapshot.path, recipe)
        if place is None:
            raise _unreadable(path, f"snapshot.path {record.snapshot.path!r} is neither absolute nor below the state folder")
        return record.model_copy(update={"snapshot": record.snapshot.model_copy(update={"path": place})})

    def _absolute(self, text: str, recipe: str) -> str | None:
        if name := generation_of(text):
            return str(self.generation(recipe, name) / Path(text).name)
        return text if Path(text).is_absolute() else None

    def _stored(self, record: Canonical) -> dict[str, Any]:
        """A record as it is written: the present schema, and paths relative to the state folder."""
        kept = {**record.model_dump(mode="json", by_alias=True), "schema": SCHEMA}
        kept["snapshot"] = self._relative(kept["snapshot"], record.recipe)
        if isinstance(kept["previous"], dict) and "snapshot" in kept["previous"]:
            kept["previous"]["snapshot"] = self._relative(kept["previous"]["snapshot"], record.recipe)
        return kept

    def _relative(self, snapshot: Any, recipe: str) -> Any:
        if not isinstance(snapshot, dict) or not isinstance(path := snapshot.get("path"), str):
            return snapshot
        name = generation_of(path)
        return {**snapshot, "path": f"{self._warm.name}/{recipe}/{KEPT}/{name}/{Path(path).name}"} if name else snapshot


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise not_readable(path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error


@functools.lru_cache(maxsize=64)  # a step reads the same few again and again; who has a record never changes what is in it
def _parse(path: Path, text: str, recipe: str) -> Canonical:
    try:
        record = Canonical.model_validate(table_of(text))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in error.errors(include_input=False))
        raise _unreadable(path, faults) from error
    except ValueError as error:
        raise _unreadable(path, str(error)) from error
    if record.recipe != recipe:
        raise _unreadable(path, f"it is the record of '{record.recipe}'")
    if record.schema_ > SCHEMA:
        raise _unreadable(path, f"it has schema {record.schema_}, and this canonq knows {SCHEMA}", newer=True)
    if isinstance(release := parse(record.version), NotARelease):
        raise _unreadable(path, f"its version {shown(record.version)} is not a release: {release.reason}")
    return record


def _unreadable(path: Path, why: str, *, newer: bool = False) -> RecordUnreadable:
    recipe = path.parent.name if path.name == RECORD else path.parents[2].name
    return RecordUnreadable(
        f"{path} cannot be used: {why}. It was left as it is.",
        mend="run the newer canonq that wrote it."
        if newer
        else f"`canonq rollback {recipe} --to VERSION --reason ...` writes it again from a kept canonical; "
        f"`canonq status {recipe} --json` shows which are kept.",
        cause=NEWER_SCHEMA if newer else "",
    )
