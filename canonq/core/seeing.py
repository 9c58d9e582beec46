"""Whether canonq saw what it judges: an Engine that froze or went away, a clock that jumped, a host that slept. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from canonq.core.blame import CERTAIN
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem

Kind: TypeAlias = Literal["froze", "away", "jumped", "slept"]

#: Seconds that Docker may take for its shortest answer on a busy host; that a look may be late; that a clock may be put right.
SLOW, LATE, JUMP = 15.0, 20.0, 5.0


@dataclass(frozen=True)
class Look:
    """One look at Docker and at the clocks; what is in seconds is monotonic but for `clock`."""

    due: float  #: when it was to begin
    began: float
    ended: float
    clock: float  #: what the wall clock said at its end
    answered: bool = True


@dataclass(frozen=True)
class Blind:
    """A while in which nothing could be seen as it was."""

    kind: Kind
    began: float
    ended: float
    seconds: float  #: how long, or how far

    def __str__(self) -> str:
        match self.kind:
            case "froze":
                return f"Docker gave no answer for {self.seconds:.0f} s"
            case "away":
                return "Docker could not be reached"
            case "jumped":
                return f"the clock of this host jumped by {self.seconds:+.0f} s"
            case _:
                return f"this host, or canonq on it, stood still for {self.seconds:.0f} s"


def blind(look: Look, before: Look | None) -> list[Blind]:
    """What a look, after the one `before` it, says of what was not seen."""
    found: list[Blind] = []
    if not look.answered:
        found.append(Blind("away", look.began, look.ended, look.ended - look.began))
    elif look.ended - look.began > SLOW:
        found.append(Blind("froze", look.began, look.ended, look.ended - look.began))
    if look.began - look.due > LATE:
        found.append(Blind("slept", look.due, look.began, look.began - look.due))
    if before is not None:
        jump = (look.clock - before.clock) - (look.ended - before.ended)
        if abs(jump) > JUMP:
            found.append(Blind("jumped", before.ended, look.ended, jump))
    return found


_CODES = {"froze": "docker-froze", "away": "docker-froze", "jumped": "clock-jumped", "slept": "host-slept"}
_MENDS = {
    "docker-froze": "look at Docker's log and at the host's load and disk; it is tried again by itself.",
    "clock-jumped": "look at the host's time service; it is tried again by itself.",
    "host-slept": "look at what stopped it (a suspended or paused machine); it is tried again by itself.",
}


def voided(problem: CanonqError, blinds: Iterable[Blind], since: float) -> HostProblem | None:
    """The problem in place of a red that was found while canonq did not see, from `since` (monotonic) on; None where it stands.

    What the files say already was seen well.
    """
    if not isinstance(problem, RecipeProblem) or problem.certain or problem.code in CERTAIN:
        return None
    seen = sorted((one for one in blinds if one.ended >= since), key=lambda one: one.began)
    if not seen:
        return None
    code = _CODES[seen[0].kind]
    return HostProblem(
        f"{'; '.join(dict.fromkeys(str(one) for one in seen[:5]))}, while this was looked at, so that it says nothing of the "
        f"release: {problem.what}",
        mend=_MENDS[code],
        code=code,
        cause=problem.code,
        service=problem.service,
        outside="Docker" if code == "docker-froze" else "",
    )
