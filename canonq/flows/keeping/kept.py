"""Environments of red runs that stay up for a while because somebody asked for it, to look at what went wrong.

A file in the run's scratch folder says until when. The janitor leaves the run alone till then; when disk is short it goes first.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from canonq.adapters.files import remove_tree, table_in, write_json
from canonq.adapters.state.work_folders import at_work, is_alive
from canonq.core.deployable import LABEL_OWNER
from canonq.core.errors import CanonqError, HostProblem, WrongUse
from canonq.core.names import recipe_in
from canonq.core.records import STAMP_FORMAT, Stamp
from canonq.core.text import shown
from canonq.flows.keeping.leftovers import of_runs
from canonq.flows.world import World

log = logging.getLogger("canonq")

KEPT = "kept.json"
LONGEST = 7 * 86400.0  #: seconds that one is kept at the most


class KeptEnvironment(BaseModel):
    """One of them, as `canonq kept` shows it."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    run: str
    version: str
    reason: str  #: why the run is red
    stack: str
    domain: str
    service: str  #: the one that is asked whether the app answers
    until: Stamp

    @property
    def enter(self) -> str:
        """A command that leads into it."""
        name = f"label=com.docker.swarm.service.name={self.stack}_{self.service}"
        return f'docker exec -it "$(docker ps -q -f {name} | head -n 1)" sh'


def keep(world: World, kept: KeptEnvironment) -> None:
    """Note that a run's environment stays. The run still lives; once it has ended, this is what keeps the janitor away."""
    write_json(world.work / kept.run / KEPT, kept.model_dump(mode="json"))


def stays_until(world: World, seconds: float) -> str:
    """The stamp of so many seconds from now. WrongUse for a number that nothing is kept for: it comes with a message."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
        raise WrongUse(f"{shown(seconds)} is not a number of seconds for which an environment can be kept.", code="bad-duration")
    return (world.now() + timedelta(seconds=seconds)).strftime(STAMP_FORMAT)


def kept_in(work: Path) -> KeptEnvironment | None:
    """What a scratch folder says about being kept; None when nothing, or nothing that can be read."""
    try:
        return KeptEnvironment.model_validate(table_in(work / KEPT))
    except ValidationError:
        return None


def is_kept(world: World, work: Path) -> bool:
    """Whether a scratch folder belongs to an environment that stays, and its time has not come."""
    found = kept_in(work)
    return found is not None and found.run == work.name and not _is_over(world, found)


def _is_over(world: World, kept: KeptEnvironment) -> bool:
    ends = datetime.strptime(kept.until, STAMP_FORMAT).replace(tzinfo=UTC)
    # A clock that was wrong when it was written keeps nothing for longer than it can be asked for.
    return not world.now() < ends < world.now() + timedelta(seconds=LONGEST + 60)


def all_kept(world: World) -> list[KeptEnvironment]:
    """Those that stay, next to end first."""
    return sorted((one for one in _noted(world) if not _is_over(world, one)), key=lambda one: one.until)


def _noted(world: World) -> list[KeptEnvironment]:
    """All that a note was left of by a run that has ended."""
    return [one for work in at_work(world.work) if not is_alive(work) and (one := kept_in(work)) is not None]


def end_due(world: World) -> list[str]:
    """End those whose time has come; a sentence for each."""
    return [_told(world, one, "its time has come") for one in _noted(world) if _is_over(world, one)]


def end_all(world: World, why: str) -> list[str]:
    """End all that stay; a sentence for each."""
    return [_told(world, one, why) for one in all_kept(world)]


def end(world: World, run: str) -> str:
    """End the one of this run; a sentence. WrongUse when none is kept of it, CanonqError where not all of it could be removed."""
    found = next((one for one in all_kept(world) if one.run == run), None)
    if found is None:
        listed = ", ".join(one.run for one in all_kept(world)) or "none"
        raise WrongUse(f"No environment is kept of run {shown(run)}.", mend=f"kept are: {listed}.", code="not-kept")
    return _ended(world, found, "somebody asked for it")


def _told(world: World, kept: KeptEnvironment, why: str) -> str:
    """The same; where not all could be removed, that is the sentence."""
    try:
        return _ended(world, kept, why)
    except CanonqError as error:
        return f"could not end a kept environment: {error}"


def _ended(world: World, kept: KeptEnvironment, why: str) -> str:
    work = world.work / kept.run
    with contextlib.suppress(OSError):
        (work / KEPT).unlink()  # first: what is not ended now is a dead run's, and the janitor's
    try:
        world.ownership.remove_owned({**of_runs(world), LABEL_OWNER: kept.run}, world.settings.teardown_timeout)
    except CanonqError as error:
        what = f"Not all of the kept environment {kept.stack} of {recipe_in(kept.run)} could be removed: {error.what}"
        raise HostProblem(what, mend=f"the janitor goes on with it. {error.mend or ''}".strip(), code=error.code) from error
    remove_tree(work)
    return f"ended the kept environment {kept.stack} of {recipe_in(kept.run)}: {why}"


def rows(world: World) -> list[dict[str, Any]]:
    """What `canonq kept` shows: each with its address and a command that leads into it."""
    return [{**one.model_dump(mode="json"), "enter": one.enter, "address": _address(world, one)} for one in all_kept(world)]


def _address(world: World, kept: KeptEnvironment) -> str | None:
    ingress = world.settings.ingress
    return f"{ingress.scheme}://{kept.domain}/" if ingress is not None else None
