"""What work under way has reserved of this host's disk, and which images canonq had pulled: files in the state folder."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from canonq.adapters.filelocks import is_held, locked
from canonq.adapters.files import entries, table_in, told, write_json
from canonq.core.budget import KINDS, Disk, FileSystem, Kind, Need, PulledImage, Standing, needed, tightest
from canonq.core.errors import HostProblem, NoRoom
from canonq.core.names import recipe_name

_CUT_SHORT = ".cut-short"


class Reservation:
    """Room that is kept for one piece of work."""

    def __init__(self, path: Path, what: str, need: Need) -> None:
        self._path = path
        self._what = what
        self._need = need
        self._taken = Need()
        self._ending = False
        self.left = need  #: what is still kept
        self._write()

    @property
    def name(self) -> str:
        """What tells it from others."""
        return self._path.stem

    def took(self, taken: Need | int) -> None:
        """Say what the work takes up by now: it is no longer free, so it is no longer reserved."""
        self._taken = needed(taken)
        self.left = self._need.less(self._taken)
        with contextlib.suppress(HostProblem):  # a disk that is full: more is kept than need be
            self._write()

    def ends(self) -> None:
        """Say that the work was ended for want of room, and is about to give its own back."""
        self._ending = True
        with contextlib.suppress(HostProblem):
            self._write()

    def _write(self) -> None:
        kept = {"what": self._what, "bytes": self.left.total, "ending": self._ending}
        write_json(self._path, {**kept, "need": asdict(self._need), "taken": asdict(self._taken)})


@dataclass(frozen=True)
class _Kept:
    """A reservation as it is on disk."""

    name: str
    what: str
    need: Need
    taken: Need
    ending: bool

    @property
    def left(self) -> Need:
        return self.need.less(self.taken)


class Budget:
    """Reservations end with the process that made them, however it ends: a file lock tells."""

    def __init__(self, folder: Path, free: Callable[[], int | Sequence[FileSystem]], floor: int) -> None:
        """`free` tells the file systems that work writes to; a plain number of bytes is one that holds everything."""
        self._folder = folder
        self._free = free
        self._floor = floor

    def disks(self, need: Need | int = 0) -> list[Disk]:
        """The room there is on each file system for work that needs so much."""
        wanted, held = needed(need), reduce(Need.__add__, (one.left for one in self._living()), Need())
        free = self._free()
        systems = [FileSystem("", KINDS, free)] if isinstance(free, int) else free
        return [
            Disk(
                free=one.free - held.of(one.holds),
                floor=self._floor,
                need=wanted.of(one.holds),
                reserved=held.of(one.holds),
                path=one.path,
                holds=one.holds,
                files=one.files,
            )
            for one in systems
        ]

    def as_of_now(self) -> Budget:
        """The same for who asks for many recipes at once: the disks are looked at now, and not again."""
        free = self._free()
        return Budget(self._folder, lambda: free, self._floor)

    def disk(self, need: Need | int) -> Disk:
        """The disk that is shortest of room for work that needs so much."""
        return tightest(self.disks(need))

    @contextlib.contextmanager
    def reserve(self, what: str, need: Need | int) -> Iterator[Reservation]:
        """Keep `need` bytes for the block. NoRoom when they are not there above the floor and what others keep."""
        path = self._folder / f"{secrets.token_hex(6)}.json"
        with contextlib.ExitStack() as stack:
            stack.callback(_forget, path)
            with locked(self._folder / "turn.lock"):  # so that two do not both get the last of it
                self._clear()
                stack.enter_context(locked(path.with_suffix(".lock")))
                disk = self.disk(need)
                if disk.short > 0:
                    raise NoRoom(f"{what}: {disk.why_short}", mend="free some disk; `canonq doctor` names what takes most.")
                mine = Reservation(path, what, needed(need))
            yield mine

    def reserved(self) -> list[tuple[str, int]]:
        """(what, bytes still to be taken) of all living work."""
        return [(one.what, one.left.total) for one in self._living()]

    def standings(self, holds: Collection[Kind]) -> list[Standing]:
        """How all living work stands against what was reserved for it, on the disk that holds these kinds."""
        return [Standing(one.name, one.taken.of(holds) - one.need.of(holds), one.ending) for one in self._living()]

    def is_alone(self, mine: str | None = None) -> bool:
        """Whether no work goes on but `mine`."""
        return all(one.name == mine for one in self._living())

    def _living(self) -> list[_Kept]:
        found = []
        for path in entries(self._folder):
            if path.name.startswith(".") or path.suffix != ".json":
                continue
            if not is_held(path.with_suffix(".lock")):
                continue  # who looks removes nothing; who reserves does
            kept = table_in(path)
            with contextlib.suppress(KeyError, TypeError):  # it ended at this moment
                need, taken = (Need(**kept[name]) for name in ("need", "taken"))
                found.append(_Kept(path.stem, str(kept["what"]), need, taken, bool(kept["ending"])))
        return found

    def tidy(self) -> None:
        """Remove what killed work left of its files here."""
        if self._folder.is_dir():
            with locked(self._folder / "turn.lock"), told(self._folder):
                self._clear()

    def _clear(self) -> None:
        """Remove what killed work left of its files: reservations, locks, half-written ones. Call it in one's turn."""
        for path in [*self._folder.glob("*.json"), *self._folder.glob("*.lock"), *self._folder.glob(".*.json.*")]:
            owner = self._folder / f"{path.name.lstrip('.').partition('.')[0]}.lock"
            if path.name != "turn.lock" and not is_held(owner):
                path.unlink(missing_ok=True)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)


class PulledImages:
    """Which images were pulled for which release; what was there before canonq came is not in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, recipe: str, version: str, references: Collection[str]) -> None:
        """Note, before it is done, that images are pulled for a release or used by it."""
        with self._changing(recipe) as path:
            kept = _read(path)
            there = kept.get(version, {}).get("images", ())
            write_json(path, {**kept, version: {"images": sorted({*there, *references}), "used": time.time()}})

    @contextlib.contextmanager
    def _changing(self, recipe: str) -> Iterator[Path]:
        """A recipe's list, for this process alone: a promotion may note images while the janitor forgets others."""
        path = self._folder / f"{recipe_name(recipe)}.json"
        with locked(path.with_suffix(".lock")):
            yield path

    def all(self) -> list[PulledImage]:
        """Every image on record."""
        return [
            PulledImage(str(reference), path.stem, version, float(entry.get("used", 0)))
            for path in sorted(self._folder.glob("*.json"))
            for version, entry in _read(path).items()
            for reference in entry.get("images", ())
        ]

    @contextlib.contextmanager
    def pulling(self) -> Iterator[None]:
        """A pull that is cut short in the block, by whatever, is noted: what it had brought may lie there for hours."""
        note = self._folder / _CUT_SHORT
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                note.touch()
            raise

    def was_cut_short(self) -> bool:
        """Whether a pull was, since `all_dropped`."""
        return (self._folder / _CUT_SHORT).exists()

    def all_dropped(self) -> None:
        """Nothing is left of pulls that were cut short."""
        (self._folder / _CUT_SHORT).unlink(missing_ok=True)

    def forget(self, image: PulledImage) -> None:
        """Take an image that was removed off the record."""
        with self._changing(image.recipe) as path:
            kept = _read(path)
            entry = kept.get(image.version, {})
            left = [one for one in entry.get("images", ()) if one != image.reference]
            kept[image.version] = {**entry, "images": left}
            write_json(path, {version: entry for version, entry in kept.items() if entry.get("images")})


def _read(path: Path) -> dict[str, dict[str, Any]]:
    # A list of what may be pruned: where it is lost, nothing is.
    return {version: entry for version, entry in table_in(path).items() if isinstance(entry, dict)}
