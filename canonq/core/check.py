"""What `doctor` says about one thing that a sweep needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from canonq.core.errors import CanonqError

State: TypeAlias = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Check:
    """One thing a sweep needs."""

    check: str
    state: State
    detail: str
    mend: str = ""
    reason: str = ""  #: the runbook's heading about it, where it has one


def of_error(check: str, error: CanonqError, state: State = "broken") -> Check:
    """What an error says that was met while one looked."""
    return Check(check, state, error.what, error.mend, error.code)
