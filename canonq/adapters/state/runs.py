"""What is kept on disk about runs: `runs/<recipe>/<run>/`."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from canonq.adapters.files import entries, is_there, not_readable, remove_tree, told, write_durably, write_json
from canonq.core import reds as counted
from canonq.core.jsontext import json_of
from canonq.core.names import RECIPE_NAME, RUN_ID, identifier, recipe_in, recipe_name
from canonq.core.records import STAMP_FORMAT, Verdict

RUN_FILE = "run.json"
NUMBER = "number"  #: which of the recipe's runs it is: they are numbered as they are made
REDS = "reds.json"  #: in a recipe's folder: what counts against its releases, however many runs came since
FAILURES = "promotions.jsonl"  #: in a run's folder: promotions of what it proved that failed, one on each line
_CLOCK_SLACK = 3600.0  #: seconds; a clock that is put right by less was not ahead
_LAST_WORDS = 3  #: releases
_REDS = TypeAdapter(list[counted.Red])


class Runs:
    """One folder for each run, with everything about it; newest last, in the order in which they were made.

    The order is written down when a run begins: names begin with the time, and clocks are set. Of runs that an older canonq
    made the names decide, and what was made while the clock was ahead counts as older than all else, until its time comes.
    """

    def __init__(self, root: Path, known: dict[tuple[str, str], Verdict | None] | None = None) -> None:
        self._root = root
        self._known = known  #: verdicts that were read, for who looks once

    def as_of_now(self) -> Runs:
        """The same for who asks several things of one recipe and writes nothing: no verdict is read twice."""
        return self if self._known is not None else Runs(self._root, {})

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
        recipe = recipe_in(run)
        return [path] if recipe is not None and (path := self._root / recipe / run).is_dir() else []

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

    def lately(self, recipe: str, most: int, which: Callable[[Verdict], bool] = lambda _: True) -> list[Verdict]:
        """The newest `most` of them, oldest first: of thousands of recipes not all is read where the newest say enough.

        `which`: those that count.
        """
        return list(itertools.islice(filter(which, self.newest_first(recipe)), most))[::-1]

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
        if self._known is None:
            return self._read(recipe, run)
        if (recipe, run) not in self._known:
            self._known[recipe, run] = self._read(recipe, run)
        return self._known[recipe, run]

    def _read(self, recipe: str, run: str) -> Verdict | None:
        try:
            folder = self._root / recipe_name(recipe) / identifier(run, RUN_ID, "run")
            kept = _bytes_of(folder / RUN_FILE)
            found = None if kept is None else Verdict.model_validate_json(kept)
            # The state folder may have been moved since, or the recipe to another host.
            return found.model_copy(update={"directory": str(folder)}) if found is not None and _is_of(found, folder) else None
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
