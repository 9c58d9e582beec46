"""Records that are tables of JSON, as they are read: with an error that names the file, or as lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canonq.adapters.files import not_readable
from canonq.core.errors import CanonqError
from canonq.core.jsontext import table_of
from canonq.core.outcomes import Outcome

log = logging.getLogger("canonq")

_MOST_KEPT = 8  #: large records
_kept: dict[Path, tuple[tuple[int, ...], dict[str, Any]]] = {}


def read_json(path: Path) -> dict[str, Any]:
    """A record that must be read; empty where it is not there. CanonqError, naming the file, where it cannot be."""
    try:
        return table_of(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError as error:
        raise not_readable(path) from error
    except (OSError, ValueError) as error:
        raise CanonqError(f"{path} cannot be read: {error}.", mend="look at the disk.") from error


def read_often(path: Path) -> dict[str, Any]:
    """The same of a record as large as a sweep, for those who ask at each step: it is parsed when the file is another one.

    What is given is everybody's: nobody changes what is in it.
    """
    try:
        found = os.stat(path)
    except OSError:
        return read_json(path)
    now = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)  # records are replaced, never written into
    before = _kept.get(path)
    if before is None or before[0] != now:
        before = now, read_json(path)
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[path] = before
    return dict(before[1])


def readable_json(path: Path, read: Callable[[Path], dict[str, Any]] = read_json) -> dict[str, Any]:
    """A record that work can go on without: one that cannot be read counts as one that is not there, and is told."""
    try:
        return read(path)
    except CanonqError as error:
        log.error("What it says counts as lost: %s", error)
        return {}


def outcome_in(value: object) -> Outcome | None:
    """An outcome as a record has it; None, told, for what is none."""
    try:
        return Outcome.model_validate(value) if value else None
    except ValidationError as error:
        log.error("An outcome on record cannot be read, and is counted as missing: %s", error.errors()[:1])
        return None
