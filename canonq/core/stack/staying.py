"""Whether what had come up stays up: deaths of services after that, and what they mean (docs/rules.md 3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: So many deaths of one service after it had come up are a loop, also when it answers in between.
LOOP = 2


@dataclass(frozen=True)
class Death:
    """A task that was up with the rest of its stack, and died."""

    service: str
    slot: int
    task: str
    error: str = ""
    exit_code: int = 0
    out_of_memory: bool = False  #: whether anything in its container was killed for want of memory

    @property
    def how(self) -> str:
        """Docker's word for it."""
        exits = f" (exit status {self.exit_code})" if self.exit_code and str(self.exit_code) not in self.error else ""
        return f"{self.error or 'it ended'}{exits}"


@dataclass(frozen=True)
class Fallen:
    """Why a stack that had come up does not stay up."""

    code: str
    detail: str
    service: str


def fallen(deaths: Sequence[Death]) -> Fallen | None:
    """What the deaths of one stack come to; None where one may be what it is: a restart that the app is over with."""
    if killed := next((death for death in deaths if death.out_of_memory), None):
        what = f"'{killed.service}' ran out of the memory that it may have, after it had come up, and died: {killed.how}"
        return Fallen("out-of-memory", what, killed.service)
    places: dict[tuple[str, int], list[Death]] = {}
    for death in deaths:
        places.setdefault((death.service, death.slot), []).append(death)
    for (service, _), those in places.items():
        if len(those) >= LOOP:
            what = f"'{service}' died {len(those)} times after it had come up; last error: {those[-1].how}"
            return Fallen("crash-loop", what, service)
    return None


def counted(deaths: Iterable[Death]) -> dict[str, int]:
    """Service -> its deaths."""
    found: dict[str, int] = {}
    for death in deaths:
        found[death.service] = found.get(death.service, 0) + 1
    return found
