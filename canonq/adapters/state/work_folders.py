"""Scratch folders of runs and promotions, `work/<owner>/`: who lives, and what an interrupted promotion was at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.filelocks import is_held, locked
from canonq.adapters.files import NEW, entries, table_in, told, write_json
from canonq.core.errors import CanonqError, StoppedByPerson

JOURNAL = "promotion.json"  #: in the scratch folder of a promotion: of which recipe, and which step is under way
_ALIVE = "alive"
_STOP = "stop.json"
_UNSTOPPABLE = "goes-through"


@contextlib.contextmanager
def alive(work: Path, *, stoppable: bool = True) -> Iterator[None]:
    """Show that the owner of this scratch folder lives. The file lock ends with the process, however it dies.

    `stoppable`: whether it ends where it waits when somebody asks (`ask_to_stop`).
    """
    # Built under another name and renamed when locked, so that no janitor sees it without its lock.
    half = work.with_name(f"{NEW}{work.name}")
    with told(work):
        half.mkdir(parents=True, mode=0o700)
        if not stoppable:
            (half / _UNSTOPPABLE).touch()
    with locked(half / _ALIVE):
        half.rename(work)
        yield


def is_alive(work: Path) -> bool:
    """Whether the owner of this scratch folder lives."""
    return is_held(work / _ALIVE)


def is_stoppable(work: Path) -> bool:
    """Whether its owner listens to a word to stop."""
    return not (work / _UNSTOPPABLE).exists()


def promotion_in(work: Path) -> dict[str, str]:
    """The journal in the scratch folder of a promotion: `recipe`, `version`, `step`; empty when it is none."""
    return {key: str(value) for key, value in table_in(work / JOURNAL).items()}


def ask_to_stop(work: Path, error: CanonqError) -> None:
    """Leave a word for whoever works in this scratch folder: they end where they wait, and clean up."""
    write_json(work / _STOP, {"what": error.what, "code": error.code})


def asked_to_stop(work: Path) -> CanonqError | None:
    """The word that was left, if one was."""
    if not (work / _STOP).exists():
        return None
    return StoppedByPerson(str(table_in(work / _STOP).get("what") or "A person stopped it."))


def at_work(work: Path) -> list[Path]:
    """All of them, of the living and the dead. NotReadable where this user may not look."""
    return [path for path in entries(work) if path.is_dir() and not path.name.startswith(".")]
