"""What work under way has reserved of this host's disk, and which images canonq had pulled: files in the state folder."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from canonq.adapters.files import is_held, told, write_json
from canonq.core.budget import Disk, PulledImage
from canonq.core.errors import NoRoom
from canonq.core.names import recipe_name


class Reservation:
    """Room that is kept for one piece of work."""

    def __init__(self, path: Path, what: str, need: int) -> None:
        self._path = path
        self._what = what
        self._need = need
        self.took(0)

    def took(self, count: int) -> None:
        """Say how many bytes the work takes up by now: they are no longer free, so they are no longer reserved."""
        self.left = max(0, self._need - count)  #: bytes still kept
        write_json(self._path, {"what": self._what, "bytes": self.left})


class Budget:
    """Reservations end with the process that made them, however it ends: a file lock tells."""

    def __init__(self, folder: Path, free: Callable[[], int], floor: int) -> None:
        self._folder = folder
        self._free = free
        self._floor = floor

    def disk(self, need: int) -> Disk:
        """The room there is for work that needs so many bytes."""
        reserved = sum(count for _, count in self.reserved())
        return Disk(free=self._free() - reserved, floor=self._floor, need=need, reserved=reserved)

    @contextlib.contextmanager
    def reserve(self, what: str, need: int) -> Iterator[Reservation]:
        """Keep `need` bytes for the block. NoRoom when they are not there above the floor and what others keep."""
        path = self._folder / f"{secrets.token_hex(6)}.json"
        with told(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            turn, alive = (self._folder / "turn.lock").open("a"), path.with_suffix(".lock").open("a")
        with alive:
            fcntl.flock(alive, fcntl.LOCK_EX)
            try:
                with turn:
                    fcntl.flock(turn, fcntl.LOCK_EX)  # so that two do not both get the last of it
                    disk = self.disk(need)
                    if disk.short > 0:
                        raise NoRoom(f"{what}: {disk.why_short}", mend="free some disk; `canonq doctor` names what takes most.")
                    mine = Reservation(path, what, need)
                yield mine
            finally:
                _forget(path)

    def reserved(self) -> list[tuple[str, int]]:
        """(what, bytes still to be taken) of all living work."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            if not is_held(path.with_suffix(".lock")):
                _forget(path)
                continue
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # it ended at this moment
                kept = json.loads(path.read_text())
                found.append((str(kept["what"]), int(kept["bytes"])))
        return found


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)


class PulledImages:
    """Which images were pulled for which release; what was there before canonq came is not in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, recipe: str, version: str, references: Collection[str]) -> None:
        """Note, before it is done, that images are pulled for a release or used by it."""
        path = self._folder / f"{recipe_name(recipe)}.json"
        kept = _read(path)
        there = kept.get(version, {}).get("images", ())
        write_json(path, {**kept, version: {"images": sorted({*there, *references}), "used": time.time()}})

    def all(self) -> list[PulledImage]:
        """Every image on record."""
        return [
            PulledImage(str(reference), path.stem, version, float(entry.get("used", 0)))
            for path in sorted(self._folder.glob("*.json"))
            for version, entry in _read(path).items()
            for reference in entry.get("images", ())
        ]

    def forget(self, image: PulledImage) -> None:
        """Take an image that was removed off the record."""
        path = self._folder / f"{recipe_name(image.recipe)}.json"
        kept = _read(path)
        entry = kept.get(image.version, {})
        left = [one for one in entry.get("images", ()) if one != image.reference]
        kept[image.version] = {**entry, "images": left}
        write_json(path, {version: entry for version, entry in kept.items() if entry.get("images")})


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return {str(version): dict(entry) for version, entry in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):  # a list of what may be pruned: lost, nothing is pruned
        return {}
