"""Whether what had come up stays up: deaths of services after that, and what they mean (docs/rules.md 3). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: So many deaths of one service after it had come up are a loop, also when it answers in between.
LOOP = 2
#: So many times its soak has an app to be up in all, since it was deployed: what gives up when nobody helps it does so within a
#: minute. One that has died once has to stay up for so much longer than it had lasted, and at most for so many times its soak.
_IN_ALL, _LONGER, _AND_SECONDS, _MOST = 1.7, 1.2, 3.0, 3.0


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


def stays_until(since: float, begun: float, lasted: float, soak: float) -> float:
    """Until when an app has to stay up, in the seconds of a clock: it has answered `since` then, and what runs of it has `begun`
    then.

    `lasted`: how long it had been up when it died, 0 where it has not. What dies each time when it is that old dies again
    meanwhile, and what has restarted itself once does not.
    """
    again = begun + min(lasted * _LONGER + _AND_SECONDS, soak * _MOST) if lasted else 0.0
    return max(since + soak, begun + soak * _IN_ALL, again)


def counted(deaths: Iterable[Death]) -> dict[str, int]:
    """Service -> its deaths."""
    found: dict[str, int] = {}
    for death in deaths:
        found[death.service] = found.get(death.service, 0) + 1
    return found
