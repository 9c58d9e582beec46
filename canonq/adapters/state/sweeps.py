"""What is kept on disk about sweeps: `sweeps/<sweep>/`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from canonq.adapters.filelocks import is_held, locked
from canonq.adapters.files import entries, table_in, write_json, write_whole
from canonq.adapters.state.calls import Calls
from canonq.adapters.state.journal import Journal
from canonq.adapters.state.nights import Nights
from canonq.adapters.state.outages import Outages
from canonq.adapters.state.pushes import Pushes
from canonq.adapters.state.records import outcome_in, read_json, read_often, readable_json
from canonq.adapters.state.shares import Shares
from canonq.adapters.uptime import seconds_since, uptime
from canonq.core.errors import CanonqError, ExitStatus
from canonq.core.names import SWEEP_ID, identifier, recipe_name
from canonq.core.outcomes import Closed, Outcome, Tried
from canonq.core.sweeps.again import waits

log = logging.getLogger("canonq")

_TOGETHER = "discovered.json"
_LONGEST_NAME = 120  #: characters of a file's name
_CLOSED = "closed.json"
_TALLY = "tally.json"
_UP = "uptime"
#: What must be right in the record of a sweep, where it is there.
_KEPT_OF_A_SWEEP: dict[str, Callable[[Any], bool]] = {
    "enrolled": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "findings": lambda value: isinstance(value, list) and all(isinstance(line, str) for line in value),
    "sweep": lambda value: isinstance(value, str),
    "started": lambda value: isinstance(value, str),
}


@dataclass(frozen=True)
class Tally:
    """How far an open sweep is, for whoever has settled one of thousands of recipes and need not look at the others.

    It never says that less is left than is: whoever closes a sweep by it counts first.
    """

    pending: int  #: recipes without an outcome
    waiting: tuple[str, ...]  #: those whose outcome is not their last


class Sweeps:
    """Sweeps on record: who was enrolled, and one outcome for each; with the calls, nights and pushes that open them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.calls = Calls(root.parent / "calls")
        self.nights = Nights(root)
        self.pushes = Pushes(root)
        self.shares = Shares(self.folder, self.read)

    def folder(self, sweep: str) -> Path:
        """A sweep's folder. WrongUse for what is not a sweep id."""
        mend = "it looks like 20260617T030000Z-1a2b3c; `canonq status` names those that are open."
        return self._root / identifier(sweep, SWEEP_ID, "sweep id", mend)

    def journal(self, sweep: str) -> Journal:
        """The sweep's journal."""
        return Journal(self.folder(sweep))

    def fence_at(self, sweep: str, recipe: str) -> int | None:
        """The recipe's fence when a person named it in this sweep; None where that was not written down."""
        fences = self.read(sweep).get("fences")
        found = fences.get(recipe) if isinstance(fences, dict) else None
        return found if isinstance(found, int) else None

    def is_awaited(self, sweep: str) -> bool:
        """Whether a person waits for the sweep's end."""
        return bool(self.read(sweep).get("awaited"))

    def outages(self, sweep: str) -> Outages:
        """The registries that are down in a sweep."""
        return Outages(self.folder(sweep) / "outages")

    def last_enrolled(self) -> dict[str, Any]:
        """Who was enrolled at the last whole sweep: {"names", "revision", "behind_since"}; empty when there was none."""
        try:
            return read_json(self._root / "enrolled.json")
        except CanonqError as error:
            log.error("Who was enrolled last time is not known: %s", error)
            return {}

    def remember_enrolled(self, names: Collection[str], revision: str, behind_since: float | None) -> None:
        """Keep who is enrolled and since when the checkout is behind, for the next whole sweep to compare with."""
        kept = {"names": sorted(names), "revision": revision, "behind_since": behind_since}
        write_json(self._root / "enrolled.json", kept)

    def open(self, sweep: str, record: dict[str, Any]) -> None:
        """Put a new sweep on record."""
        write_json(self.folder(sweep) / "sweep.json", {**record, _UP: uptime()})

    @contextlib.contextmanager
    def discovering(self, sweep: str) -> Iterator[None]:
        """Show, as long as the block lasts or this process lives, that the sweep's chains are not started yet."""
        with locked(self._discovery(sweep)):
            yield
            os.utime(self.folder(sweep) / "sweep.json")  # from now on chains may be missed

    def is_discovering(self, sweep: str) -> bool:
        """Whether a living process is still looking which recipes of the sweep need a chain."""
        return is_held(self._discovery(sweep))

    def _discovery(self, sweep: str) -> Path:
        return self.folder(sweep) / "discovery.lock"

    @contextlib.contextmanager
    def attended(self, sweep: str) -> Iterator[None]:
        """Show, as long as the block lasts or this process lives, that a command waits for the sweep with workers of its own."""
        with locked(self._attended(sweep)):
            yield

    def is_attended(self, sweep: str) -> bool:
        """Whether such a command lives."""
        return is_held(self._attended(sweep))

    def _attended(self, sweep: str) -> Path:
        return self.folder(sweep) / "command.lock"

    def read(self, sweep: str) -> dict[str, Any]:
        """The sweep's record; empty when there is none yet."""
        return _record(self.folder(sweep) / "sweep.json")

    def settle(self, sweep: str, outcome: Outcome) -> bool:
        """Keep one recipe's outcome, instead of one that is there; False when the sweep is closed."""
        with self._locked(sweep):
            if self.closed(sweep):
                return False
            path, tally = self._outcome(sweep, outcome.recipe), self.tally(sweep)
            was_there = path.is_file()
            write_json(path, outcome.model_dump(mode="json"))
            if tally is not None:
                others = [name for name in tally.waiting if name != outcome.recipe]
                waiting = (*others, outcome.recipe) if waits(outcome) else tuple(others)
                self._keep_tally(sweep, tally, Tally(tally.pending - (not was_there), waiting))
            return True

    def settle_all(self, sweep: str, outcomes: Collection[Outcome]) -> bool:
        """Keep many outcomes at once, in one file; one that is settled apart outranks them. False when the sweep is closed."""
        with self._locked(sweep):
            if self.closed(sweep):
                return False
            self._settle_together(sweep, outcomes)
            return True

    def _settle_together(self, sweep: str, outcomes: Collection[Outcome]) -> None:
        path = self.folder(sweep) / _TOGETHER
        kept = readable_json(path).get("outcomes", [])
        listed = [outcome.model_dump(mode="json") for outcome in outcomes]
        write_json(path, {"outcomes": [*(kept if isinstance(kept, list) else []), *listed]})
        (self.folder(sweep) / _TALLY).unlink(missing_ok=True)  # it is counted again when somebody asks for all of it

    def tally(self, sweep: str) -> Tally | None:
        """How far the sweep is; None where that has to be counted."""
        kept = table_in(self.folder(sweep) / _TALLY)
        try:
            return Tally(int(kept["pending"]), tuple(map(str, kept["waiting"])))
        except (ValueError, KeyError, TypeError):
            return None

    def count(self, sweep: str) -> None:
        """Count how far the sweep is, from now on: what somebody has put right or removed by hand counts, too."""
        with self._locked(sweep):
            found = self.outcomes(sweep)
            pending = set(self.read(sweep).get("enrolled", [])) - found.keys()
            waiting = tuple(sorted(name for name, outcome in found.items() if waits(outcome)))
            self._keep_tally(sweep, self.tally(sweep), Tally(len(pending), waiting))

    def _keep_tally(self, sweep: str, before: Tally | None, now: Tally) -> None:
        # It is a help, and counted again by upkeep: whatever a power cut leaves of it is no harm.
        if now != before:
            write_whole(self.folder(sweep) / _TALLY, json.dumps({"pending": now.pending, "waiting": now.waiting}))

    def closed(self, sweep: str) -> Closed | None:
        """How a sweep was closed; None as long as it is open. In a closed sweep nothing starts, settles or is tried again."""
        folder = self.folder(sweep)
        try:
            if found := read_json(folder / _CLOSED):
                return Closed.model_validate(found)
            # Sweeps of an older canonq: with a report they were over, and one that failed says so itself.
            if failed := _record(folder / "sweep.json").get("failed"):
                return Closed(state="failed", why=str(failed), exit_status=ExitStatus.MACHINERY)
        except (CanonqError, ValidationError) as error:
            log.error("The sweep %s cannot be read, so nothing is done in it: %s", sweep, error)
            return Closed(state="failed", why="its record cannot be read", exit_status=ExitStatus.MACHINERY)
        return Closed(state="done") if (folder / "report.json").is_file() else None

    def close(
        self, sweep: str, closed: Closed, report: Callable[[Closed], dict[str, Any] | None], left: Collection[Outcome] = ()
    ) -> bool:
        """Close a sweep for good, with its report; whether this was the call that did.

        `left` are outcomes for recipes that have none. `report` is asked with nobody else at the sweep; None keeps it open.
        """
        with self._locked(sweep):
            if self.closed(sweep):
                return False
            missing = [outcome for outcome in left if outcome.recipe not in self.outcomes(sweep)]
            if missing:
                self._settle_together(sweep, missing)
            whole = report(closed)
            if whole is None:
                return False
            write_json(self.folder(sweep) / "report.json", whole)
            write_json(self.folder(sweep) / _CLOSED, closed.model_dump(mode="json"))
            (self.folder(sweep) / _TALLY).unlink(missing_ok=True)
            return True

    @contextlib.contextmanager
    def _locked(self, sweep: str) -> Iterator[None]:
        with locked(self.folder(sweep) / "turn.lock"):
            yield

    def unsettle(self, sweep: str, recipe: str) -> bool:
        """Take an outcome back; whether it was there. Only one of several callers gets True, and none in a closed sweep."""
        with self._locked(sweep):
            if self.closed(sweep):
                return False
            try:
                path, tally = self._outcome(sweep, recipe), self.tally(sweep)
                if tally is not None and path.is_file():  # before it is so: less must not be left than is said
                    left = tuple(name for name in tally.waiting if name != recipe)
                    self._keep_tally(sweep, tally, Tally(tally.pending + 1, left))
                path.unlink()
            except FileNotFoundError:
                return False
            return True

    def settled_at(self, sweep: str, recipe: str) -> float | None:
        """When an outcome was kept, in seconds since 1970; None when it is not there, or was settled with others."""
        try:
            return self._outcome(sweep, recipe).stat().st_mtime
        except FileNotFoundError:
            return None

    def retries(self, sweep: str, recipe: str) -> int:
        """How often a deferred recipe was tried again."""
        return sum(tried.outcome == "deferred" for tried in self.tries(sweep, recipe))

    def tries(self, sweep: str, recipe: str) -> tuple[Tried, ...]:
        """What came of the tries that were taken back, oldest first."""
        kept = readable_json(self._retries(sweep, recipe)).get("tries", [])
        try:
            return tuple(Tried.model_validate(value) for value in kept)
        except (ValidationError, TypeError) as error:
            log.error("The tries of %s before this one are not known: %s", recipe, error)
            return ()

    def keep_try(self, sweep: str, recipe: str, tried: Tried) -> None:
        """Keep one more; kept twice, as after a crash, it is one."""
        kept = self.tries(sweep, recipe)
        if tried not in kept:
            listed = [one.model_dump(mode="json") for one in (*kept, tried)]
            write_json(self._retries(sweep, recipe), {"tries": listed})

    def _retries(self, sweep: str, recipe: str) -> Path:
        return self.folder(sweep) / "retries" / f"{recipe_name(recipe)}.json"

    def outcomes(self, sweep: str) -> dict[str, Outcome]:
        """recipe -> outcome, as far as they are known; one that cannot be read, or was taken back just now, is not."""
        kept = readable_json(self.folder(sweep) / _TOGETHER).get("outcomes", [])
        together = kept if isinstance(kept, list) else []
        found = {outcome.recipe: outcome for value in together if (outcome := outcome_in(value))}
        for path in entries(self.folder(sweep) / "outcomes"):
            if not path.name.endswith(".json"):
                continue
            try:
                kept = outcome_in(read_json(path))
            except CanonqError as error:
                log.error("An outcome is counted as missing: %s", error)
                continue
            if kept is not None:
                found[kept.recipe] = kept
        return found

    def outcome(self, sweep: str, recipe: str) -> Outcome | None:
        """One recipe's outcome, without a look at the others'."""
        try:
            if (kept := outcome_in(read_json(self._outcome(sweep, recipe)))) is not None:
                return kept
        except CanonqError as error:
            log.error("An outcome is counted as missing: %s", error)
        together = readable_json(self.folder(sweep) / _TOGETHER).get("outcomes", [])
        values = (
            [one for one in together if isinstance(one, dict) and one.get("recipe") == recipe]
            if isinstance(together, list)
            else []
        )
        return outcome_in(values[-1]) if values else None

    def open_sweeps(self) -> list[str]:
        """Sweeps that are not closed, oldest first by name."""
        return [name for name in self._all() if SWEEP_ID.fullmatch(name) and self.closed(name) is None]

    def _all(self) -> list[str]:
        return [path.name for path in entries(self._root) if (path / "sweep.json").is_file()]

    def opened_at(self, sweep: str) -> float:
        """When a sweep was opened, or its chains were begun, in seconds since 1970."""
        return (self.folder(sweep) / "sweep.json").stat().st_mtime

    def open_for(self, sweep: str) -> float:
        """Seconds since a sweep was opened. A clock that jumps makes it no older; only after a start of the host is it asked."""
        since = seconds_since(self.read(sweep).get(_UP))
        return time.time() - self.opened_at(sweep) if since is None else since

    def begin(self, sweep: str) -> None:
        """Note that the first chain begins: from now on a worker's trouble is that of one chain, not of the sweep."""
        write_json(self.folder(sweep) / "begun.json", {})
        self.count(sweep)

    def begun(self, sweep: str) -> bool:
        """Whether the chains of a sweep were begun."""
        return (self.folder(sweep) / "begun.json").is_file()

    def report(self, sweep: str) -> dict[str, Any] | None:
        """What a closed sweep left as its report; None where there is none, or none to read."""
        found = readable_json(self.folder(sweep) / "report.json")
        return found if isinstance(found.get("outcomes"), list) and isinstance(found.get("counts"), dict) else None

    def newest(self) -> str | None:
        """Id of the newest sweep."""
        return next(self.newest_first(), None)

    def newest_first(self) -> Iterator[str]:
        """Ids of all sweeps."""
        return reversed(self._all())

    def _outcome(self, sweep: str, recipe: str) -> Path:
        # Broken enrolments may have any folder name, so the file's name is an escaped form of it.
        safe = quote(recipe, safe="", errors="surrogateescape")
        if len(safe) > _LONGEST_NAME:
            safe = f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(recipe.encode(errors='surrogateescape')).hexdigest()}"
        return self.folder(sweep) / "outcomes" / f"{safe}.json"


def _record(path: Path) -> dict[str, Any]:
    """The record of a sweep. CanonqError also where it has something else under a key that everything rests on."""
    record = read_often(path)
    for key, is_one in _KEPT_OF_A_SWEEP.items():
        if key in record and not is_one(record[key]):
            raise CanonqError(f"{path} cannot be used: its {key} has no valid value.", mend="look at the disk.")
    return record
