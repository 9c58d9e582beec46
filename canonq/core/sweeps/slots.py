"""How much runs side by side on a host: by what recipes were seen to take, and by what is there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from canonq.core.budget import gib

#: As `light_workers` says it: a number, or by what is there.
LightWorkers: TypeAlias = int | Literal["auto"]

_MIB = 2**20
_MOST = 16  #: light slots of one host
_FOR_EACH = 2  #: light slots for each processor: an app that comes up waits most of the time
_LEAST_MEMORY = 512 * _MIB  #: bytes that a host has for each of its light slots
_LEFT = 256 * _MIB  #: bytes of memory that stay with the host


@dataclass(frozen=True)
class Share:
    """What a piece of work takes of its host while it runs."""

    heavy: bool = False
    memory: int = 0  #: bytes at its peak
    cpus: float = 0.0  #: processors, on the average


def share_in(kept: Mapping[str, Any]) -> Share:
    """A share as it was written down. ValueError, TypeError or KeyError for what is none."""
    return Share(bool(kept["heavy"]), int(kept["memory"]), float(kept["cpus"]))


def light_slots(said: LightWorkers, processors: int, memory: int | None) -> int:
    """Light recipes that may be under way at a time; with "auto" as many as a host like this could have, as far as each fits.

    `memory`: bytes that the host has; None where the kernel does not say.
    """
    if said != "auto":
        return said
    by_memory = _MOST if memory is None else memory // _LEAST_MEMORY
    return max(1, min(_MOST, _FOR_EACH * max(1, processors), by_memory))


def why_waits(wanted: Share, others: Sequence[Share], processors: int, free: int | None, taken: int) -> str:
    """Why work waits for what is under way; empty when it may begin. What is alone always may.

    `free`: bytes of memory that programs can still have, None where that is not known; `taken`: those that `others` have by now.
    """
    if not others:
        return ""
    if wanted.heavy and any(one.heavy for one in others):
        return "one heavy recipe at a time is worked on"
    used = sum(one.cpus for one in others)
    if wanted.cpus and used + wanted.cpus > processors:
        return f"it is expected to keep {wanted.cpus:.1f} processors busy, and {used:.1f} of {processors} are expected to be"
    if free is None or not wanted.memory:
        return ""
    # What others were given and have not taken yet is not to be had, though it is free.
    left = free + taken - max(taken, sum(one.memory for one in others)) - _LEFT
    if wanted.memory > left:
        return f"it is expected to take {gib(wanted.memory)} of memory, and {gib(max(0, left))} are left"
    return ""
