"""What is kept on disk about runs and sweeps: `runs/<recipe>/<run>/` and `sweeps/<sweep>/`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from canonq.adapters.files import (
    entries,
    is_held,
    is_there,
    locked,
    not_readable,
    remove_tree,
    told,
    try_lock,
    write_durably,
    write_json,
)
from canonq.adapters.state.outages import Outages
from canonq.core import reds as counted
from canonq.core.errors import CanonqError, ExitStatus
from canonq.core.jsontext import json_of, table_of
from canonq.core.names import RECIPE_NAME, RUN_ID, SWEEP_ID, identifier, recipe_name
from canonq.core.outcomes import Closed, Outcome, Tried
from canonq.core.records import STAMP_FORMAT, Verdict

log = logging.getLogger("canonq")

RUN_FILE = "run.json"
NUMBER = "number"  #: which of the recipe's runs it is: they are numbered as they are made
REDS = "reds.json"  #: in a recipe's folder: what counts against its releases, however many runs came since
FAILURES = "promotions.jsonl"  #: in a run's folder: promotions of what it proved that failed, one on each line
_TOGETHER = "discovered.json"
_LONGEST_NAME = 120  #: characters of a file's name
_PLACED, _SHARE_TOLD = "placed.json", "told.json"
_CLOSED = "closed.json"
_CLOCK_SLACK = 3600.0  #: seconds; a clock that is put right by less was not ahead
_LAST_WORDS = 3  #: releases
_NIGHTS = 60  #: nights that are remembered
_REDS = TypeAdapter(list[counted.Red])
#: What must be right in the record of a sweep, where it is there.
_KEPT_OF_A_SWEEP: dict[str, Callable[[Any], bool]] = {
    "enrolled": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "findings": lambda value: isinstance(value, list) and all(isinstance(line, str) for line in value),
    "sweep": lambda value: isinstance(value, str),
    "started": lambda value: isinstance(value, str),
}
_TASK_ID = re.compile(r"[A-Za-z0-9-]{1,64}")


class Runs:
    """One folder for each run, with everything about it; newest last, in the order in which they were made.

    The order is written down when a run begins: names begin with the time, and clocks are set. Of runs that an older canonq
    made the names decide, and what was made while the clock was ahead counts as older than all else, until its time comes.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def make(self, recipe: str, run: str) -> Path:
        """The new folder of a run."""
        folder = self._root / recipe_name(recipe) / run
        with told(folder):
            folder.mkdir(parents=True)
            before = max(map(_number, folder.parent.glob("*/")), default=0)
            (folder / NUMBER).write_text(f"{before + 1}\n")  # two at once have the same, and are told apart by their names
        return folder

    def kept_of(self, run: str) -> list[Path]:
        """The folder of a run, whatever its recipe is; none for what is no run."""
        return [path for path in self._root.glob(f"*/{run}") if path.is_dir()]

    def recipes(self) -> list[str]:
        """Of whom there are runs."""
        return [path.name for path in entries(self._root) if RECIPE_NAME.fullmatch(path.name)]

    def folders(self, recipe: str) -> list[Path]:
        """The folders of a recipe's runs, newest last; also of those that go on, or never ended."""
        found = [path for path in entries(self._root / recipe_name(recipe)) if RUN_ID.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=_age)

    def record(self, verdict: Verdict) -> None:
        """Keep a run's verdict, durably, and count the red that it is."""
        write_json(self._root / verdict.recipe / verdict.run / RUN_FILE, verdict.model_dump(mode="json"))
        kept = self._kept_reds(verdict.recipe)
        if (now := counted.noted(kept, verdict)) != kept:
            write_json(self._root / verdict.recipe / REDS, [red.model_dump() for red in now])

    def reds(self, recipe: str, version: str, commit: str, enrolment: str) -> int:
        """How many cold runs of this very release, commit and enrolment were red, also those whose folders are gone."""
        of_folders = [red for verdict in self.verdicts(recipe) if (red := counted.of(verdict))]
        return counted.count([*self._kept_reds(recipe), *of_folders], version, commit, enrolment)

    def _kept_reds(self, recipe: str) -> tuple[counted.Red, ...]:
        try:
            return tuple(_REDS.validate_json(_bytes_of(self._root / recipe_name(recipe) / REDS) or b""))
        except (OSError, ValidationError):
            return ()  # the run folders that are still there count all the same

    def verdicts(self, recipe: str) -> list[Verdict]:
        """All kept verdicts of a recipe, oldest first; a run that never ended has none."""
        return list(self.newest_first(recipe))[::-1]

    def newest_first(self, recipe: str) -> Iterator[Verdict]:
        """The same the other way round, each read when it is asked for."""
        for folder in reversed(self.folders(recipe)):
            if (found := self.verdict(recipe, folder.name)) is not None:  # else of another canonq: history, and no reason to stop
                yield found

    def unread_since(self, recipe: str, run: str | None) -> str | None:
        """The newest run after this one, or of all, whose verdict is there and cannot be read; what it said is not known."""
        for folder in reversed(self.folders(recipe)):
            if folder.name == run:
                return None
            if is_there(folder / RUN_FILE) and self.verdict(recipe, folder.name) is None:
                return folder.name
        return None

    def verdict(self, recipe: str, run: str) -> Verdict | None:
        """The verdict of one run, as it is on disk; None when there is none that can be read."""
        try:
            folder = self._root / recipe_name(recipe) / identifier(run, RUN_ID, "run")
            kept = _bytes_of(folder / RUN_FILE)
            found = None if kept is None else Verdict.model_validate_json(kept)
            return found if found is not None and _is_of(found, folder) else None
        except (OSError, ValidationError):
            return None

    def note_failure(self, recipe: str, run: str, failure: dict[str, Any]) -> None:
        """Note that a promotion of what a run proved failed."""
        folder = self._root / recipe_name(recipe) / identifier(run, RUN_ID, "run")
        if folder.is_dir():
            lines = [*self.failures(recipe, run), {**failure, "run": run}]
            write_durably(folder / FAILURES, "".join(f"{json.dumps(line)}\n" for line in lines).encode())

    def failures(self, recipe: str, run: str) -> list[dict[str, Any]]:
        """Promotions of what a run proved that failed, oldest first."""
        try:
            lines = (self._root / recipe_name(recipe) / run / FAILURES).read_text().splitlines()
            return [line for line in map(json_of, lines) if isinstance(line, dict)]
        except (OSError, ValueError):
            return []

    def newest(self, recipe: str) -> Verdict | None:
        """The newest verdict, or None."""
        return next(self.newest_first(recipe), None)

    def retain(self, recipe: str, keep: int, always: Collection[str] = ()) -> None:
        """Drop all but the newest `keep` run folders, those in `always`, and what was last said of the newest releases:
        one that is proven and not promoted yet is not proven again because of other runs."""
        always = {*always, *last_words(self.verdicts(recipe))}
        for folder in self.folders(recipe)[:-keep]:
            if folder.name not in always:
                remove_tree(folder)


def _is_of(verdict: Verdict, folder: Path) -> bool:
    """Whether a verdict is of the run whose folder it lies in; a copy that somebody made is none of its recipe's."""
    return (verdict.run, verdict.recipe) == (folder.name, folder.parent.name)


def _bytes_of(path: Path) -> bytes | None:
    """What is in a file; None where it is not there."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise not_readable(path) from error


def _number(folder: Path) -> int:
    """How many runs of the recipe were made before this one and are known, and it; 0 for one of an older canonq."""
    try:
        return int((folder / NUMBER).read_text())
    except (OSError, ValueError):
        return 0


def _age(folder: Path) -> tuple[int, bool, str]:
    """Sorts runs, oldest first."""
    now = time.strftime(STAMP_FORMAT, time.gmtime(time.time() + _CLOCK_SLACK))
    return _number(folder), folder.name[: len(now)] <= now, folder.name


def last_words(verdicts: list[Verdict]) -> tuple[str, ...]:
    """The newest cold run of each of the newest releases and enrolments, whatever it said: an older green is none beside it."""
    newest: dict[tuple[str | None, str | None, str], str] = {}
    for one in verdicts:
        if one.ref is None and not one.quick:
            newest.pop((one.version, one.commit, one.enrolment), None)  # the newest is last
            newest[one.version, one.commit, one.enrolment] = one.run
    return tuple(newest.values())[-_LAST_WORDS:]


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

    def begin(self, recipe: str, step: str, stamp: str, worker: str | None = None) -> int:
        """Note that a step begins, and whose it is; how many times it has begun by now."""
        steps = self.steps(recipe)
        entry = steps.setdefault(step, {"attempts": 0})
        entry |= {"attempts": int(entry["attempts"]) + 1, "started": stamp, "worker": worker}
        write_json(self._path(recipe), steps)
        return int(entry["attempts"])

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
        return _outcome_in(self.steps(recipe).get(step, {}).get("outcome"))

    @contextlib.contextmanager
    def executing(self, recipe: str) -> Iterator[bool]:
        """Show, as long as the block lasts or this process lives, that the recipe is worked on; False: another does."""
        path = self._path(recipe).with_suffix(".lock")
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a")
        with file:
            yield try_lock(file.fileno())

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


class Sweeps:
    """Sweeps on record: who was enrolled, and one outcome for each."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, sweep: str) -> Path:
        """A sweep's folder. WrongUse for what is not a sweep id."""
        mend = "it looks like 20260617T030000Z-1a2b3c; `canonq status` names those that are open."
        return self._root / identifier(sweep, SWEEP_ID, "sweep id", mend)

    def journal(self, sweep: str) -> Journal:
        """The sweep's journal."""
        return Journal(self.folder(sweep))

    def call_journal(self, task: str) -> Journal:
        """The journal of a task called by hand."""
        return Journal(self._root.parent / "calls" / identifier(task, _TASK_ID, "task id"))

    def call_journals(self, recipe: str | None = None) -> list[Journal]:
        """The journals of all tasks called by hand, or of those about a recipe, in no order."""
        file = f"steps/{recipe_name(recipe)}.json" if recipe is not None else "steps"
        return [Journal(folder) for folder in entries(self._root.parent / "calls") if (folder / file).exists()]

    def id_for(self, task: str, new: str) -> str:
        """The sweep that a task opened before, else `new`, remembered: a task delivered twice opens one sweep."""
        path = self._root.parent / "calls" / identifier(task, _TASK_ID, "task id") / "sweep.json"
        kept = _read(path).get("sweep")
        if kept is None:
            write_json(path, {"sweep": new})
        return str(kept or new)

    def opened_by(self, task: str) -> str | None:
        """The sweep that a task has opened; None when it has none, or that cannot be told."""
        try:
            found = _read(self._root.parent / "calls" / identifier(task, _TASK_ID, "task id") / "sweep.json").get("sweep")
            return identifier(found, SWEEP_ID, "sweep id") if found is not None else None
        except CanonqError as error:
            log.error("Which sweep the task %s has opened is not known: %s", task, error)
            return None

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

    def claim(self, night: str, task: str) -> bool:
        """Whether `task` is the first to claim this night (the time at which it was due); asked again, it gets the same answer.

        What a night is called decides, not when somebody asks: a clock that was ahead once claims a night of its own.
        """
        with self._all_locked("nights"):
            nights = self.nights()
            if night in nights:
                return nights[night] == task
            kept = dict(list(nights.items())[1 - _NIGHTS :])
            write_json(self._root / "nights.json", {"nights": {**kept, night: task}})
            return True

    def count_push(self, recipe: str, sweep: str, day: str, most: int) -> bool:
        """Whether a sweep that a push asked for is among the first `most` of the recipe's on that day; asked again, the same."""
        path = self._root / "pushes.json"
        with self._all_locked("pushes"):
            kept = readable_json(path)
            counted = kept.get("sweeps") if kept.get("day") == day else {}
            counted = counted if isinstance(counted, dict) else {}
            before = counted.get(recipe, [])
            before = before if isinstance(before, list) else []
            if sweep not in before and len(before) < most:
                write_json(path, {"day": day, "sweeps": {**counted, recipe: [*before, sweep]}})
            return sweep in before or len(before) < most

    def put_off_push(self, recipe: str) -> None:
        """Note that something was pushed to a recipe that a sweep is at."""
        write_json(self._put_off(recipe), {})

    def pushes_put_off(self) -> list[str]:
        """The recipes of which that was noted."""
        return [
            path.stem for path in entries(self._root / "pushed") if path.suffix == ".json" and RECIPE_NAME.fullmatch(path.stem)
        ]

    def take_push(self, recipe: str) -> bool:
        """Take such a note back; whether it was there. Only one of several callers gets True."""
        try:
            self._put_off(recipe).unlink()
        except FileNotFoundError:
            return False
        return True

    def _put_off(self, recipe: str) -> Path:
        return self._root / "pushed" / f"{recipe_name(recipe)}.json"

    def nights(self) -> dict[str, str]:
        """Nights that were claimed -> the task that did, as they came; empty when there is no such record, or none to read."""
        try:
            nights = _read(self._root / "nights.json").get("nights", {})
        except CanonqError as error:
            log.error("The nights on record are begun again: %s", error)
            return {}
        return {str(night): str(task) for night, task in nights.items()} if isinstance(nights, dict) else {}

    @contextlib.contextmanager
    def _all_locked(self, name: str) -> Iterator[None]:
        with locked(self._root / f"{name}.lock"):
            yield

    def last_enrolled(self) -> dict[str, Any]:
        """Who was enrolled at the last whole sweep: {"names", "revision", "behind_since"}; empty when there was none."""
        try:
            return _read(self._root / "enrolled.json")
        except CanonqError as error:
            log.error("Who was enrolled last time is not known: %s", error)
            return {}

    def remember_enrolled(self, names: Collection[str], revision: str, behind_since: float | None) -> None:
        """Keep who is enrolled and since when the checkout is behind, for the next whole sweep to compare with."""
        kept = {"names": sorted(names), "revision": revision, "behind_since": behind_since}
        write_json(self._root / "enrolled.json", kept)

    def open(self, sweep: str, record: dict[str, Any]) -> None:
        """Put a new sweep on record."""
        write_json(self.folder(sweep) / "sweep.json", record)

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
            write_json(self._outcome(sweep, outcome.recipe), outcome.model_dump(mode="json"))
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

    def closed(self, sweep: str) -> Closed | None:
        """How a sweep was closed; None as long as it is open. In a closed sweep nothing starts, settles or is tried again."""
        folder = self.folder(sweep)
        try:
            if found := _read(folder / _CLOSED):
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
                self._outcome(sweep, recipe).unlink()
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
        found = {outcome.recipe: outcome for value in together if (outcome := _outcome_in(value))}
        for path in entries(self.folder(sweep) / "outcomes"):
            if not path.name.endswith(".json"):
                continue
            try:
                kept = _outcome_in(_read(path))
            except CanonqError as error:
                log.error("An outcome is counted as missing: %s", error)
                continue
            if kept is not None:
                found[kept.recipe] = kept
        return found

    def outcome(self, sweep: str, recipe: str) -> Outcome | None:
        """One recipe's outcome, without a look at the others'."""
        try:
            if (kept := _outcome_in(_read(self._outcome(sweep, recipe)))) is not None:
                return kept
        except CanonqError as error:
            log.error("An outcome is counted as missing: %s", error)
        together = readable_json(self.folder(sweep) / _TOGETHER).get("outcomes", [])
        values = (
            [one for one in together if isinstance(one, dict) and one.get("recipe") == recipe]
            if isinstance(together, list)
            else []
        )
        return _outcome_in(values[-1]) if values else None

    def open_sweeps(self) -> list[str]:
        """Sweeps that are not closed, oldest first by name."""
        return [name for name in self._all() if SWEEP_ID.fullmatch(name) and self.closed(name) is None]

    def _all(self) -> list[str]:
        return [path.name for path in entries(self._root) if (path / "sweep.json").is_file()]

    def opened_at(self, sweep: str) -> float:
        """When a sweep was opened, or its chains were begun, in seconds since 1970."""
        return (self.folder(sweep) / "sweep.json").stat().st_mtime

    def place(self, sweep: str, placed: dict[str, Any]) -> None:
        """Note, before anything is sent, where each recipe of a sweep is worked on: {"own", "recipes": {name: {"host", ...}}}."""
        write_json(self.folder(sweep) / _PLACED, placed)

    def placed(self, sweep: str) -> dict[str, Any]:
        """The same; empty where it was not noted, as where there is one host."""
        return readable_json(self.folder(sweep) / _PLACED)

    def elsewhere(self, sweep: str) -> dict[str, str]:
        """recipe -> host, of those that are another host's share of the sweep."""
        placed = self.placed(sweep)
        recipes, own = placed.get("recipes"), placed.get("own")
        if not isinstance(recipes, dict):
            return {}
        hosts = {name: one.get("host") for name, one in recipes.items() if isinstance(one, dict)}
        return {name: str(host) for name, host in hosts.items() if host is not None and host != own}

    def sent_at(self, sweep: str) -> float:
        """When the shares of a sweep were last sent, in seconds since 1970."""
        try:
            return (self.folder(sweep) / _PLACED).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def sent_again(self, sweep: str) -> None:
        """Note that they were sent just now."""
        os.utime(self.folder(sweep) / _PLACED)

    def share_of(self, sweep: str) -> str | None:
        """The host that has opened the sweep of which this is a share; None for one that was opened here."""
        opener = self.read(sweep).get("share_of")
        return opener if isinstance(opener, str) else None

    def was_told(self, sweep: str) -> bool:
        """Whether the host that has opened it was told all of a closed share."""
        return (self.folder(sweep) / _SHARE_TOLD).is_file()

    def told(self, sweep: str) -> None:
        """Note that it was."""
        write_json(self.folder(sweep) / _SHARE_TOLD, {})

    def begin(self, sweep: str, chains: Collection[str]) -> None:
        """Note which recipes get a chain: from now on a worker's trouble is that of one chain, not of the sweep."""
        write_json(self.folder(sweep) / "begun.json", {"chains": sorted(chains)})

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


def _outcome_in(value: object) -> Outcome | None:
    try:
        return Outcome.model_validate(value) if value else None
    except ValidationError as error:
        log.error("An outcome on record cannot be read, and is counted as missing: %s", error.errors()[:1])
        return None


def readable_json(path: Path) -> dict[str, Any]:
    """A record that work can go on without: one that cannot be read counts as one that is not there, and is told."""
    try:
        return _read(path)
    except CanonqError as error:
        log.error("What it says counts as lost: %s", error)
        return {}


def _record(path: Path) -> dict[str, Any]:
    """The record of a sweep. CanonqError also where it has something else under a key that everything rests on."""
    record = _read(path)
    for key, is_one in _KEPT_OF_A_SWEEP.items():
        if key in record and not is_one(record[key]):
            raise CanonqError(f"{path} cannot be used: its {key} has no valid value.", mend="look at the disk.")
    return record


def _read(path: Path) -> dict[str, Any]:
    try:
        return table_of(path.read_bytes())
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise not_readable(path) from error
    except (OSError, ValueError) as error:
        raise CanonqError(f"{path} cannot be read: {error}.", mend="look at the disk.") from error
