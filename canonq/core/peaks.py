"""What a run was seen to take of memory, processors and disk, tier by tier. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from canonq.core.ladder import TIERS, TierName

_LATELY = 5  #: runs of a recipe that say what the next will take
_MARGIN = 1.1


class Peak(BaseModel):
    """The most that all containers of a run took together while a tier went on."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    memory_bytes: Annotated[int, Field(ge=0)] = 0  #: as far as nobody could have it back
    cpus: Annotated[float, Field(ge=0)] = 0.0  #: processors busy, between two looks
    cpu_seconds: Annotated[float, Field(ge=0)] = 0.0  #: of all of the tier
    disk_bytes: Annotated[int, Field(ge=0)] = 0  #: of its volumes


@dataclass(frozen=True)
class Taking:
    """What a container takes at a moment."""

    memory: int  #: bytes
    cpu: float  #: seconds of processors since it began


@dataclass(frozen=True)
class Look:
    """What all containers of a run took when they were looked at."""

    at: float  #: seconds, monotonic
    containers: Mapping[str, Taking]  #: by id

    @property
    def memory(self) -> int:
        """Bytes of all of them."""
        return sum(one.memory for one in self.containers.values())


def tier_of(phase: str, before: TierName) -> TierName:
    """The tier that a phase of a run belongs to; one that is nobody's, to the tier `before` it."""
    word = phase.partition(" ")[0]
    if word in ("base", "step"):
        return "upgrade"
    return next((tier for tier in TIERS if tier == word), before)


def with_look(peak: Peak, look: Look, before: Look | None) -> Peak:
    """The peak, with one more look taken into it."""
    spent, passed = 0.0, 0.0
    if before is not None:
        passed = look.at - before.at
        spent = sum(
            max(0.0, one.cpu - (before.containers[name].cpu if name in before.containers else 0.0))
            for name, one in look.containers.items()
        )
    return peak.model_copy(
        update={
            "memory_bytes": max(peak.memory_bytes, look.memory),
            "cpus": max(peak.cpus, round(spent / passed, 2) if passed > 0 else 0.0),
            "cpu_seconds": round(peak.cpu_seconds + spent, 2),
        }
    )


def whole_peaks(peaks: Mapping[TierName, Peak], disk: Mapping[TierName, int]) -> dict[TierName, Peak]:
    """The peaks, with what volumes took while each tier went on."""
    return {
        tier: peaks.get(tier, Peak()).model_copy(update={"disk_bytes": disk.get(tier, 0)})
        for tier in TIERS
        if tier in peaks or disk.get(tier)
    }


def expected_memory(runs: Sequence[Mapping[TierName, Peak]]) -> int | None:
    """Bytes that the next run is expected to take at its peak; None where none of the last ones was measured."""
    seen = [max(one.memory_bytes for one in peaks.values()) for peaks in runs[-_LATELY:] if peaks]
    return int(max(seen) * _MARGIN) if any(seen) else None


def expected_cpus(runs: Sequence[tuple[Mapping[TierName, Peak], float]]) -> float | None:
    """Processors that the next run keeps busy on the average; `runs`: with the seconds that each took. None as above."""
    seen = [
        sum(one.cpu_seconds for one in peaks.values()) / seconds for peaks, seconds in runs[-_LATELY:] if peaks and seconds > 0
    ]
    return round(max(seen), 2) if seen else None
