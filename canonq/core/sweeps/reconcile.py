"""What to do about a recipe whose chain may have been lost: its worker died, or a message with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from canonq.core.outcomes import Step, ended_by
from canonq.core.records import STEP_VALUES, Decision, Verdict

STEPS = tuple(STEP_VALUES)
#: Seconds without any sign of life before a chain counts as lost. Handing on a link takes moments.
GRACE = 60.0
#: A chain that was lost this often is not sent again.
MOST_RESENDS = 3


@dataclass(frozen=True)
class Chain:
    """All that is known of one recipe's chain in an open sweep."""

    steps: Mapping[str, Mapping[str, Any]]  #: the journal: step -> {attempts, result?}
    executing: bool  #: a living process works on it
    queued: bool  #: a message for it waits in the broker, or may: a RabbitMQ tells of none
    idle: float  #: seconds since anything was written about it; below 0 when the clock was set back since
    resent: int


@dataclass(frozen=True)
class Mend:
    """What to do: nothing, settle what its last step came to, send the chain again from a step on, or call it lost."""

    action: Literal["leave", "settle", "resend", "lost"]
    step: str = ""  #: the step that ended the chain, or the one to send
    given: Mapping[str, Any] | None = None  #: the result of the step before; None for the first


def mend(chain: Chain) -> Mend:
    """Leave what lives or waits; settle what has ended; send again what is silent; give up what is lost time and again.

    A step that ended its chain is never followed by the next one: its worker died, or its disk was full, before the
    outcome was kept; no message that waits is awaited then. A last sign of life from the future is none: the clock was ahead.
    """
    if chain.executing or abs(chain.idle) < GRACE:
        return Mend("leave")
    if (ended := ended_at(chain.steps)) is not None:
        return Mend("settle", *ended)
    if chain.queued:
        return Mend("leave")
    values = {step: read_value(step, chain.steps.get(step, {}).get("result")) for step in STEPS}
    if chain.resent >= MOST_RESENDS:
        return Mend("lost")
    number = next(number for number, step in enumerate(STEPS) if values[step] is None)  # a promotion would have ended it
    return Mend("resend", STEPS[number], chain.steps[STEPS[number - 1]]["result"] if number else None)


def ended_at(steps: Mapping[str, Mapping[str, Any]]) -> tuple[str, Mapping[str, Any]] | None:
    """The step that ended a chain, with its result; None where the chain was to go on. `steps`: as of a Chain."""
    for step in STEPS:
        result = steps.get(step, {}).get("result")
        value = read_value(step, result)
        if value is not None and result is not None and ended_by(value, None) is not None:
            return step, result
    return None


def awaits_promotion(steps: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a chain has a green run, and its promotion has not ended yet. `steps`: as of a Chain."""
    results = {step: steps.get(step, {}).get("result") for step in STEPS}
    decided, tested = read_value("decide", results["decide"]), read_value("test", results["test"])
    proven = isinstance(tested, Verdict) and tested.verdict == "green"
    proven |= isinstance(decided, Decision) and decided.action == "promote"
    return proven and not results["promote"]


def read_value(step: str, result: Mapping[str, Any] | None) -> Step | None:
    """The value that a finished step left; None when it is not finished, or of a canonq that wrote it otherwise."""
    try:
        return STEP_VALUES[step].model_validate(result) if result else None
    except ValueError:
        return None
