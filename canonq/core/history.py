"""What earlier runs say of the next one: whether it is proven already, how long it takes and how much room. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from canonq.core.budget import LATELY as LATELY
from canonq.core.budget import Need, need_of_promotion, need_of_run, split_promotion
from canonq.core.peaks import expected_cpus, expected_memory
from canonq.core.records import Verdict
from canonq.core.sweeps.slots import Share

PROMOTION = "promotion"  #: the phase of a run that its promotion is
#: What a recipe takes that was never measured.
_UNKNOWN_LIGHT = Share(memory=512 * 2**20, cpus=0.5)
_UNKNOWN_HEAVY = Share(heavy=True, memory=2 * 2**30, cpus=1.0)


def is_proof(verdict: Verdict, version: str, commit: str, enrolment: str) -> bool:
    """Whether a run proved this very release, at this commit, with this enrolment, from a cold start."""
    wanted = (version, commit, enrolment, None, False)
    return (verdict.version, verdict.commit, verdict.enrolment, verdict.ref, verdict.quick) == wanted


def newest_proof(verdicts: Sequence[Verdict], version: str, commit: str, enrolment: str) -> Verdict | None:
    """The newest verdict of this very release, commit and enrolment, when it is green and cold."""
    found = [verdict for verdict in verdicts if is_proof(verdict, version, commit, enrolment)]
    return found[-1] if found and found[-1].verdict == "green" else None


def tries_of(failures: Sequence[Mapping[str, Any]]) -> int:
    """How often a promotion failed: all tries of one sweep are one, each call by hand is one."""
    sweeps = [one.get("sweep") for one in failures]
    return len({sweep for sweep in sweeps if sweep}) + sweeps.count(None)


def expected_disk(verdicts: Sequence[Verdict], otherwise: int) -> Need:
    """What the next run of a recipe is expected to take; `otherwise` without history."""
    return need_of_run([_taken(verdict) for verdict in verdicts], otherwise)


def took_room(verdict: Verdict) -> bool:
    """Whether a run is one of those that say how much room the next one takes."""
    return _taken(verdict).total > 0


def expected_of_promotion(verdict: Verdict, otherwise: int) -> Need:
    """What the promotion of a proven version is expected to take; its images are there, the run has had them."""
    volumes = verdict.disk_bytes if verdict.volume_bytes is None else max(1, verdict.volume_bytes)
    return split_promotion(need_of_promotion(volumes, otherwise))


def expected_of_step(verdicts: Sequence[Verdict], step: str | None, otherwise: int) -> Need:
    """What a step that was deferred is expected to take when it is tried again."""
    proven = [one for one in verdicts if one.verdict == "green" and one.ref is None and not one.quick]
    if step == "promote" and proven:
        return expected_of_promotion(proven[-1], otherwise)
    return expected_disk(verdicts, otherwise)


def expected_share(verdicts: Sequence[Verdict], *, heavy: bool, said: int | None) -> Share:
    """What work on a recipe is expected to take of its host; `said`: bytes that its enrolment allots, where it does."""
    memory = expected_memory([verdict.peaks for verdict in verdicts])
    cpus = expected_cpus([(verdict.peaks, verdict.seconds) for verdict in verdicts])
    guessed = _UNKNOWN_HEAVY if heavy else _UNKNOWN_LIGHT
    if memory is None:
        memory = min(guessed.memory, said) if said is not None else guessed.memory
    return Share(heavy, memory, guessed.cpus if cpus is None else cpus)


def _taken(verdict: Verdict) -> Need:
    if verdict.volume_bytes is None:
        return Need(anywhere=verdict.disk_bytes)
    volumes, images = verdict.volume_bytes, verdict.image_bytes
    return Need(state=max(0, verdict.disk_bytes - volumes - images), volumes=volumes, images=images)


def expected_seconds(verdicts: Sequence[Verdict]) -> float | None:
    """Seconds the next run and its promotion are expected to take; None without history."""
    lately = verdicts[-LATELY:]
    seen = [verdict.seconds for verdict in lately if verdict.seconds]
    if not seen:
        return None
    promotions = [verdict.timings[PROMOTION] for verdict in lately if PROMOTION in verdict.timings]
    return round(statistics.median(seen) + (statistics.median(promotions) if promotions else 0.0), 1)
