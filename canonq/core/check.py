"""What `doctor` says about one thing that a sweep needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One thing a sweep needs."""

    check: str
    state: Literal["ok", "warning", "broken"]
    detail: str
    mend: str = ""
