"""Records that are tables of JSON, as they are read: with an error that names the file, or as lost."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canonq.adapters.files import not_readable
from canonq.core.errors import CanonqError
from canonq.core.jsontext import table_of
from canonq.core.outcomes import Outcome

log = logging.getLogger("canonq")


def read_json(path: Path) -> dict[str, Any]:
    """A record that must be read; empty where it is not there. CanonqError, naming the file, where it cannot be."""
    try:
        return table_of(path.read_bytes())
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise not_readable(path) from error
    except (OSError, ValueError) as error:
        raise CanonqError(f"{path} cannot be read: {error}.", mend="look at the disk.") from error


def readable_json(path: Path) -> dict[str, Any]:
    """A record that work can go on without: one that cannot be read counts as one that is not there, and is told."""
    try:
        return read_json(path)
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
