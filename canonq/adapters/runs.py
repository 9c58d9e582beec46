"""What is kept on disk about runs and sweeps: `runs/<recipe>/<run>/` and `sweeps/<sweep>/`."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import ValidationError

from canonq.adapters.files import is_held, told, write_json
from canonq.core.errors import CanonqError
from canonq.core.names import SWEEP_ID, identifier, recipe_name
from canonq.core.outcomes import Outcome, Tried
from canonq.core.records import Verdict

RUN_FILE = "run.json"
_TOGETHER = "discovered.json"
_LONGEST_NAME = 120  #: characters of a file's name
_TASK_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Runs:
    """One folder for each run, with everything about it; newest last by name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def make(self, recipe: str, run: str) -> Path:
        """The new folder of a run."""
        folder = self._root / recipe_name(recipe) / run
        with told(folder):
            folder.mkdir(parents=True)
        return folder

    def record(self, verdict: Verdict) -> None:
        """Keep a run's verdict, durably."""
        write_json(self._root / verdict.recipe / verdict.run / RUN_FILE, verdict.model_dump(mode="json"))

    def verdicts(self, recipe: str) -> list[Verdict]:
        """All kept verdicts of a recipe, oldest first; a run that never ended has none."""
        found = []
        for path in sorted((self._root / recipe_name(recipe)).glob(f"*/{RUN_FILE}")):
            try:
                found.append(Verdict.model_validate_json(path.read_bytes()))
            except ValidationError:
                continue  # of another canonq version: history, never a reason to stop
        return found

    def newest(self, recipe: str) -> Verdict | None:
        """The newest verdict, or None."""
        verdicts = self.verdicts(recipe)
        return verdicts[-1] if verdicts else None

    def retain(self, recipe: str, keep: int, always: Collection[str] = ()) -> None:
        """Drop all but the newest `keep` run folders, and those of the runs in `always`."""
        folders = sorted(path for path in (self._root / recipe_name(recipe)).glob("*") if path.is_dir())
        for folder in folders[:-keep]:
            if folder.name not in always:
                shutil.rmtree(folder, ignore_errors=True)


class Journal:
    """What has been done for one order (a sweep, or a call by hand), recipe by recipe.

    A finished step's result is kept here, so that a task which is delivered twice has the effect of one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def steps(self, recipe: str) -> dict[str, Any]:
        """step -> {started, attempts, result?} in the order in which they began."""
        return _read(self._path(recipe))

    def begin(self, recipe: str, step: str, stamp: str) -> int:
        """Note that a step begins; how many times it has begun by now."""
        steps = self.steps(recipe)
        entry = steps.setdefault(step, {"attempts": 0})
        entry |= {"attempts": int(entry["attempts"]) + 1, "started": stamp}
        write_json(self._path(recipe), steps)
        return int(entry["attempts"])

    def result(self, recipe: str, step: str) -> dict[str, Any] | None:
        """The kept result of a finished step."""
        entry = self.steps(recipe).get(step, {})
        found = entry.get("result")
        return dict(found) if found is not None else None

    def finish(self, recipe: str, step: str, result: dict[str, Any]) -> None:
        """Keep a step's result."""
        steps = self.steps(recipe)
        steps.setdefault(step, {"attempts": 1})["result"] = result
        write_json(self._path(recipe), steps)

    @contextlib.contextmanager
    def executing(self, recipe: str) -> Iterator[bool]:
        """Show, as long as the block lasts or this process lives, that the recipe is worked on; False: another does."""
        path = self._path(recipe).with_suffix(".lock")
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def is_executing(self, recipe: str) -> bool:
        """Whether a living process works on the recipe."""
        with self.executing(recipe) as free:
            return not free

    def touched(self, recipe: str) -> float | None:
        """When anything was last written about the recipe, in seconds since 1970; None when nothing was."""
        times = [path.stat().st_mtime for path in (self._path(recipe), self._resends(recipe)) if path.is_file()]
        return max(times, default=None)

    def resent(self, recipe: str) -> int:
        """How often its chain was lost and sent again."""
        return int(_read(self._resends(recipe)).get("resent", 0))

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


class Sweeps:
    """Sweeps on record: who was enrolled, and one outcome for each."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, sweep: str) -> Path:
        """A sweep's folder. WrongUse for what is not a sweep id."""
        return self._root / identifier(sweep, SWEEP_ID, "sweep id")

    def journal(self, sweep: str) -> Journal:
        """The sweep's journal."""
        return Journal(self.folder(sweep))

    def call_journal(self, task: str) -> Journal:
        """The journal of a task called by hand."""
        return Journal(self._root.parent / "calls" / identifier(task, _TASK_ID, "task id"))

    def id_for(self, task: str, new: str) -> str:
        """The sweep that a task opened before, else `new`, remembered: a task delivered twice opens one sweep."""
        path = self._root.parent / "calls" / identifier(task, _TASK_ID, "task id") / "sweep.json"
        kept = _read(path).get("sweep")
        if kept is None:
            write_json(path, {"sweep": new})
        return str(kept or new)

    def claim_night(self, task: str, span: float) -> bool:
        """Whether `task` is the first to claim a night within `span` seconds; asked again, it gets the same answer."""
        path = self._root / "night.json"
        with told(path):
            self._root.mkdir(parents=True, exist_ok=True)
            lock = (self._root / "night.lock").open("a")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            last = _read(path)
            if last.get("task") == task:
                return True
            if time.time() - float(last.get("at", 0)) < span:
                return False
            write_json(path, {"task": task, "at": time.time()})
            return True

    def open(self, sweep: str, record: dict[str, Any]) -> None:
        """Put a new sweep on record."""
        write_json(self.folder(sweep) / "sweep.json", record)

    @contextlib.contextmanager
    def discovering(self, sweep: str) -> Iterator[None]:
        """Show, as long as the block lasts or this process lives, that the sweep's chains are not started yet."""
        with self._discovery(sweep).open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
            os.utime(self.folder(sweep) / "sweep.json")  # from now on chains may be missed

    def is_discovering(self, sweep: str) -> bool:
        """Whether a living process is still looking which recipes of the sweep need a chain."""
        return is_held(self._discovery(sweep))

    def _discovery(self, sweep: str) -> Path:
        return self.folder(sweep) / "discovery.lock"

    def read(self, sweep: str) -> dict[str, Any]:
        """The sweep's record; empty when there is none yet."""
        return _read(self.folder(sweep) / "sweep.json")

    def settle(self, sweep: str, outcome: Outcome) -> None:
        """Keep one recipe's outcome."""
        write_json(self._outcome(sweep, outcome.recipe), outcome.model_dump(mode="json"))

    def settle_all(self, sweep: str, outcomes: Collection[Outcome]) -> None:
        """Keep many outcomes at once, in one file; one that is settled apart outranks them."""
        path = self.folder(sweep) / _TOGETHER
        listed = [outcome.model_dump(mode="json") for outcome in outcomes]
        write_json(path, {"outcomes": [*_read(path).get("outcomes", []), *listed]})

    def unsettle(self, sweep: str, recipe: str) -> bool:
        """Take an outcome back; whether it was there. Only one of several callers gets True."""
        try:
            self._outcome(sweep, recipe).unlink()
        except FileNotFoundError:
            return False
        return True

    def retries(self, sweep: str, recipe: str) -> int:
        """How often a deferred recipe was tried again."""
        return sum(tried.outcome == "deferred" for tried in self.tries(sweep, recipe))

    def tries(self, sweep: str, recipe: str) -> tuple[Tried, ...]:
        """What came of the tries that were taken back, oldest first."""
        return tuple(Tried.model_validate(value) for value in _read(self._retries(sweep, recipe)).get("tries", []))

    def keep_try(self, sweep: str, recipe: str, tried: Tried) -> None:
        """Keep one more; kept twice, as after a crash, it is one."""
        kept = self.tries(sweep, recipe)
        if tried not in kept:
            listed = [one.model_dump(mode="json") for one in (*kept, tried)]
            write_json(self._retries(sweep, recipe), {"tries": listed})

    def _retries(self, sweep: str, recipe: str) -> Path:
        return self.folder(sweep) / "retries" / f"{recipe_name(recipe)}.json"

    def outcomes(self, sweep: str) -> dict[str, Outcome]:
        """recipe -> outcome, as far as they are known."""
        together = [Outcome.model_validate(value) for value in _read(self.folder(sweep) / _TOGETHER).get("outcomes", [])]
        found = {outcome.recipe: outcome for outcome in together}
        for path in sorted((self.folder(sweep) / "outcomes").glob("*.json")):
            outcome = Outcome.model_validate(_read(path))
            found[outcome.recipe] = outcome
        return found

    def report(self, sweep: str, summary: dict[str, Any]) -> None:
        """Keep the whole sweep as one file, `report.json`; written anew it is the same."""
        write_json(self.folder(sweep) / "report.json", summary)

    def open_sweeps(self, youngest: float) -> list[str]:
        """Sweeps without a report, opened less than `youngest` seconds ago."""
        since = time.time() - youngest
        folders = [path.parent for path in sorted(self._root.glob("*/sweep.json")) if path.stat().st_mtime > since]
        return [folder.name for folder in folders if not (folder / "report.json").is_file()]

    def opened_at(self, sweep: str) -> float:
        """When a sweep was opened, in seconds since 1970."""
        return (self.folder(sweep) / "sweep.json").stat().st_mtime

    def newest(self) -> str | None:
        """Id of the newest sweep."""
        names = sorted(path.parent.name for path in self._root.glob("*/sweep.json"))
        return names[-1] if names else None

    def _outcome(self, sweep: str, recipe: str) -> Path:
        # Broken enrolments may have any folder name, so the file's name is an escaped form of it.
        safe = quote(recipe, safe="", errors="surrogateescape")
        if len(safe) > _LONGEST_NAME:
            safe = f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(recipe.encode(errors='surrogateescape')).hexdigest()}"
        return self.folder(sweep) / "outcomes" / f"{safe}.json"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
        if not isinstance(value, dict):
            raise ValueError("it is not a JSON object")
        return value
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CanonqError(f"{path} cannot be read: {error}.", mend="look at the disk.") from error
