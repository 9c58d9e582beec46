"""What monitoring is told, from the report: names, labels, values. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from canonq.core.report.words import when

STATES = ("open", "done", "failed", "refused", "stopped")
#: Outcomes that leave the canonical the newest release, or say nothing of that.
_NOT_BEHIND = frozenset({"no-new-version", "never-released", "under-way", "sweep-stopped", "sweep-refused"})


@dataclass(frozen=True)
class Measure:
    """One measure, with a value for each set of labels; none where it is not known."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    samples: tuple[tuple[tuple[str, ...], float], ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is measured beside what the report says."""

    version: str
    queues: Mapping[str, int] = field(default_factory=dict)  #: messages that wait; empty where Redis does not answer
    slots: Mapping[str, int] = field(default_factory=dict)
    free: Mapping[str, int] = field(default_factory=dict)  #: folder -> bytes
    floor: int = 0
    leftovers: int = 0
    proven: Mapping[str, str] = field(default_factory=dict)  #: recipe -> when its canonical was proven
    sweeps: Sequence[Mapping[str, Any]] = ()  #: newest first
    failed_deliveries: int = 0


def measures(report: Mapping[str, Any], facts: Facts) -> list[Measure]:
    """Everything, in the order in which it is told. What is not known has no sample, and is there by name all the same."""
    whole = [sweep for sweep in facts.sweeps if sweep.get("whole", True)]
    newest: Mapping[str, Any] = whole[0] if whole else {}
    canonicals = {card["recipe"]: card["canonical"] for card in report["recipes"] if card["canonical"]}
    verdicts = {card["recipe"]: card["verdict"] for card in report["recipes"] if card["verdict"]}
    return [
        _by("canonq_info", "The version of canonq and the revision of its checkout.", ("version", "revision"),
            {(facts.version, report["revision"] or ""): 1}),
        _one("canonq_enrolled_recipes", "Recipes that are enrolled.", report["enrolled"]),
        _by("canonq_recipes", "Recipes by where they stand; they add up to those enrolled.", ("standing",), report["standings"]),
        _one("canonq_recipes_for_a_person", "Recipes that need a person.", report["need_a_person"]),
        _one("canonq_hollow", "1 where nothing is enrolled or the checkout is not there.", int(report["problem"] is not None)),
        _by("canonq_sweeps", "The newest sweeps (60 at most) by how they ended.", ("state",), _states(facts.sweeps)),
        _by("canonq_sweep_outcomes", "Outcomes of the newest sweep of all recipes.", ("outcome",), newest.get("counts", {})),
        _one("canonq_sweep_enrolled_recipes", "Recipes in the newest sweep of all recipes.", newest.get("enrolled")),
        _one("canonq_sweep_pending_recipes", "Of these, those without an outcome yet.",
             len(newest["pending"]) if newest else None),
        _one("canonq_sweep_exit_status", "What the newest sweep of all recipes that has ended did so with.",
             _first((sweep for sweep in whole if sweep["state"] != "open"), "exit_status")),
        _one("canonq_sweep_seconds", "How long the newest sweep that has ended took.", _first(whole, "seconds")),
        _one("canonq_sweep_started_timestamp_seconds", "When the newest sweep of all recipes began.",
             _time(newest.get("started"))),
        _one("canonq_last_sweep_timestamp_seconds", "When the last sweep of all recipes was done.",
             _ended(sweep for sweep in whole if sweep["state"] == "done")),
        _one("canonq_last_good_sweep_timestamp_seconds", "When the last one was done in which nothing needed anybody.",
             _ended(sweep for sweep in whole if sweep["state"] == "done" and sweep["exit_status"] == 0)),
        _one("canonq_sweep_retries", "Tries before the last one, in the newest sweep.", sum(map(_tries, _outcomes(newest)))),
        _one("canonq_sweep_first_attempt_failures", "Recipes that did not get through at the first try, in the newest sweep.",
             sum(_tries(outcome) > 0 for outcome in _outcomes(newest))),
        _one("canonq_sweep_lock_waits", "How often a recipe was put off as somebody else was at it, in the newest sweep.",
             sum(_busy(outcome) for outcome in _outcomes(newest))),
        _by("canonq_shared_trouble_recipes", "Recipes of the newest sweep that one cause has stopped.", ("reason", "outside"),
            {(trouble["reason"], trouble["outside"]): len(trouble["recipes"]) for trouble in newest.get("troubles", [])}),
        _one("canonq_missed_nights", "Nights without a sweep since the last one with a report.", len(report["missed_nights"])),
        _by("canonq_canonical_level", "How high the canonical got.", ("recipe",), _of(canonicals, lambda one: one["level"])),
        _by("canonq_canonical_promoted_timestamp_seconds", "When the canonical was promoted.", ("recipe",),
            _of(canonicals, lambda one: _time(one["promoted_at"]))),
        _by("canonq_canonical_proven_timestamp_seconds", "When the run began that proved the canonical.", ("recipe",),
            {recipe: at for recipe, stamp in facts.proven.items() if (at := _time(stamp)) is not None}),
        _by("canonq_canonical_behind_since_timestamp_seconds", "Since when upstream has a newer release than the canonical.",
            ("recipe",), _behind(whole)),
        _by("canonq_run_seconds", "How long the newest run took.", ("recipe",), _of(verdicts, lambda one: one["seconds"])),
        _by("canonq_run_volume_bytes", "What its volumes held.", ("recipe",), _of(verdicts, lambda one: one["volume_bytes"])),
        _by("canonq_tier_seconds", "How long a tier of the newest run took.", ("recipe", "tier"),
            {(recipe, tier): told["seconds"] for recipe, one in verdicts.items() for tier, told in one["tiers"].items()}),
        _by("canonq_queue_length", "Messages that wait.", ("queue",), facts.queues),
        _by("canonq_slots", "Recipes that are worked on side by side at the most.", ("queue",), facts.slots),
        _one("canonq_runs_under_way", "Runs and promotions under way.", len(report["running"])),
        _by("canonq_disk_free_bytes", "What is free.", ("folder",), facts.free),
        _one("canonq_disk_floor_bytes", "What is kept free.", facts.floor),
        _by("canonq_disk_days_left", "Days until the floor, if it goes on as it went.", ("folder",),
            {disk["folder"]: disk["days_left"] for disk in report["disks"] if disk["days_left"] is not None}),
        _one("canonq_leftovers", "Work folders of runs and promotions that died.", facts.leftovers),
        _one("canonq_failed_deliveries", "Messages that could not be delivered, and are tried again.", facts.failed_deliveries),
    ]  # fmt: skip


def _one(name: str, told: str, value: float | None) -> Measure:
    return Measure(name, told, (), (((), float(value)),) if value is not None else ())


def _by(name: str, told: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> Measure:
    return Measure(
        name, told, labels, tuple((key if isinstance(key, tuple) else (key,), float(value)) for key, value in values.items())
    )


def _of(found: Mapping[str, Any], value: Any) -> dict[str, float]:
    return {recipe: told for recipe, one in found.items() if (told := value(one)) is not None}


def _states(sweeps: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    seen = [sweep["state"] for sweep in sweeps]
    return {state: seen.count(state) for state in STATES}


def _outcomes(sweep: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found: Sequence[Mapping[str, Any]] = sweep.get("outcomes", ())
    return found


def _tries(outcome: Mapping[str, Any]) -> int:
    return len(outcome["tries"])


def _busy(outcome: Mapping[str, Any]) -> int:
    told = [*outcome["tries"], outcome]
    return sum(one["outcome"] == "deferred" and one["reason"] == "busy" for one in told)


def _first(sweeps: Iterable[Mapping[str, Any]], key: str) -> float | None:
    return next((sweep[key] for sweep in sweeps if sweep.get(key) is not None), None)


def _ended(sweeps: Iterable[Mapping[str, Any]]) -> float | None:
    return next((at for sweep in sweeps if (at := _time(sweep["ended"] or sweep["started"])) is not None), None)


def _time(stamp: object) -> float | None:
    found = when(stamp)
    return found.timestamp() if found else None


def _behind(sweeps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """recipe -> the first of the sweeps in a row, up to the newest, in which a newer release did not become the canonical."""
    found: dict[str, float] = {}
    over: set[str] = set()
    for sweep in sweeps:
        at = _time(sweep["started"])
        for outcome in _outcomes(sweep):
            recipe = outcome["recipe"]
            if recipe in over or at is None:
                continue
            if outcome["outcome"] == "promoted" or outcome["reason"] in _NOT_BEHIND:
                over.add(recipe)
            elif outcome["version"]:  # what could not be looked at says nothing
                found[recipe] = at
    return found
