"""report: what is on disk of sweeps, runs and canonicals as one value, and as pages that work from disk."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canonq.adapters.checkout import Enrolled
from canonq.adapters.files import write_whole
from canonq.adapters.state.records import readable_json
from canonq.core.errors import CanonqError, HollowSweep
from canonq.core.names import RECIPE_NAME
from canonq.core.outcomes import SAYS_NOTHING, Outcome
from canonq.core.records import Verdict, stamp_of
from canonq.core.report.changes import changes
from canonq.core.report.plotted import disks, lanes, steps_of
from canonq.core.report.standing import excerpt, headline, is_overtaken, needs_person, ordered, standing, sums
from canonq.core.story import Next
from canonq.flows import hosts as hosts_flow
from canonq.flows.looking.measures import Queues, measured
from canonq.flows.looking.progress import Watcher
from canonq.flows.looking.status import status
from canonq.flows.looking.story import story
from canonq.flows.sweeps.nights import DueSince, none_due
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World

#: Sweeps that the strips show, and those that are looked through for a recipe's last outcome and for changes.
STRIP, LOOKED_THROUGH = 14, 60
_FEED = 100  #: entries
_DISK_RUNS = 10  #: newest runs of each recipe whose free room is plotted
SCHEMA = 1
_QUIET = ("current", "promoted", "new")  #: of these there is nothing to do that the page tells
#: What there is to tell where nothing is enrolled.
_HOLLOW: dict[str, Any] = {
    "recipes": [], "newest_sweep": None, "newest_sweep_failed": None, "open_sweeps": [], "running": [], "last_night": None,
    "missed_nights": [], "nights_told": None,
}  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """The newest sweeps as they are on record, newest first, read once for all that is told of them."""

    sweeps: tuple[dict[str, Any], ...]
    outcomes: tuple[dict[str, dict[str, Any]], ...]  #: of each of them, by recipe

    def last(self, recipe: str) -> tuple[dict[str, Any], dict[str, Any]] | tuple[None, None]:
        """A recipe's last outcome that said anything, and its sweep: what a sweep that was cut short put off says nothing."""
        for sweep, outcomes in zip(self.sweeps, self.outcomes, strict=True):
            outcome = outcomes.get(recipe)
            if outcome is not None and outcome["reason"] not in SAYS_NOTHING:
                return outcome, sweep
        return None, None

    def strip(self, recipe: str) -> list[dict[str, Any]]:
        """What came of a recipe in the last sweeps; nulls where it was not in one."""
        keys = ("outcome", "reason", "version")
        pairs = zip(self.sweeps[:STRIP], self.outcomes, strict=False)
        return [
            {"sweep": sweep["sweep"], "started": sweep["started"], **{key: outcomes.get(recipe, {}).get(key) for key in keys}}
            for sweep, outcomes in pairs
        ]


def seen(world: World) -> Seen:
    """Read the newest sweeps: their reports, or those without one as they are now."""
    found = []
    for name in itertools.islice(world.sweeps.newest_first(), LOOKED_THROUGH):
        with contextlib.suppress(CanonqError):
            found.append(world.sweeps.report(name) or summary(world, name))
    by_recipe = ({outcome["recipe"]: outcome for outcome in sweep["outcomes"]} for sweep in found)
    return Seen(tuple(found), tuple(by_recipe))


def report(world: World, due_since: DueSince = none_due, known: Seen | None = None) -> dict[str, Any]:
    """Everything that the first page shows. Where nothing is enrolled, that stands there as `problem`, and no recipe."""
    known = known or seen(world)
    newest = known.sweeps[0] if known.sweeps else None
    problem = None
    enrolled = None
    try:
        enrolled = world.checkout.enrolled()
        told = status(world, due_since=due_since, enrolled=enrolled)
    except HollowSweep as error:
        told, problem = dict(_HOLLOW), str(error)
    elsewhere = hosts_flow.rows_elsewhere(world) if problem is None else {}
    cards = [_card(world, row, known, enrolled, elsewhere.get(row["recipe"])) for row in told.pop("recipes")]
    standings = sums(card["standing"] for card in cards)
    persons = sum(card["needs_person"] for card in cards)
    return {
        "schema": SCHEMA,
        "made": world.stamp(),
        "checkout": str(world.settings.repo) if world.settings.repo else None,
        "revision": world.checkout.revision() if problem is None else None,
        "problem": problem,
        "headline": problem or headline(newest, standings, persons),
        "need_a_person": persons,
        "enrolled": len(cards),
        "standings": standings,
        "newest": {key: value for key, value in newest.items() if key != "outcomes"} if newest else None,
        "sweeps": [_in_strip(one) for one in known.sweeps[:STRIP]],
        "progress": _progress(world, newest),
        "undelivered": undelivered(world),
        "timeline": _timeline(world, newest),
        "disks": disks(_newest_runs(world, cards), world.settings.disk_floor),
        "hosts": hosts_flow.rows(world) if world.hosts.are_several() else [],
        "recipes": ordered(cards),
        **{key: told[key] for key in _HOLLOW if key != "recipes"},
    }


def _in_strip(sweep: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("sweep", "state", "started", "ended", "seconds", "counts", "enrolled", "failed", "exit_status")
    return {**{key: sweep.get(key) for key in keys}, "pending": len(sweep.get("pending", []))}


def _card(
    world: World, row: Mapping[str, Any], known: Seen, enrolled: Enrolled | None, told: hosts_flow.Told | None = None
) -> dict[str, Any]:
    """`told`: what another host tells of it that has it. What came of it there is known there first."""
    last, sweep = known.last(row["recipe"])
    if told is not None and told.row.outcome is not None:
        last = told.row.outcome.model_dump(mode="json")
    outcome = Outcome.model_validate(last) if last else None
    at = _came_at(world, row["recipe"], sweep) if sweep else None
    stands = None if outcome is None or is_overtaken(outcome, at, row["canonical"]) else outcome
    where = standing(stands, row["problem"], row["proven"], row["canonical"])
    verdict = _verdict_of(world, row, outcome)
    if where in _QUIET:
        step = None
    else:
        step = _ask_there(row["recipe"], told.host) if told else story(world, row["recipe"], enrolled).next
    keys = ("recipe", "weight", "host", "canonical", "last_run", "proven", "running", "promoting", "problem")
    return {
        **{key: row[key] for key in keys},
        "elsewhere": row["host"] if row["host"] != world.hosts.own else None,
        "standing": where,
        "needs_person": needs_person(where, stands),
        "next": step.model_dump(mode="json") if step else None,
        "outcome": last,
        "sweep": sweep["sweep"] if sweep else None,
        "at": (sweep.get("ended") or sweep.get("started")) if sweep else None,
        "verdict": _told(verdict) if verdict else None,
        "strip": known.strip(row["recipe"]),
    }


def _came_at(world: World, recipe: str, sweep: Mapping[str, Any]) -> str | None:
    """When a recipe's last outcome came; where nothing says so, when its sweep ended."""
    settled = world.sweeps.settled_at(sweep["sweep"], recipe)
    return stamp_of(settled) if settled is not None else sweep.get("ended")


def _ask_there(recipe: str, host: str) -> Next:
    return Next(who="you", text=f"It is on the host {host}, with its runs and logs: look there.", command=f"canonq why {recipe}")


def _verdict_of(world: World, row: Mapping[str, Any], outcome: Outcome | None) -> Verdict | None:
    """The run that the recipe's last outcome is about, else its newest one."""
    runs = [outcome.run if outcome else None, (row["last_run"] or {}).get("id")]
    found = (world.runs.verdict(row["recipe"], run) for run in runs if run and RECIPE_NAME.fullmatch(row["recipe"]))
    return next((verdict for verdict in found if verdict), None)


def _told(verdict: Verdict) -> dict[str, Any]:
    """A verdict for a card: all keys that there are, but for long lists that its run's page has."""
    value = verdict.model_dump(mode="json")
    value["log_tail"] = excerpt(value["log_tail"])
    value["tiers"] = {name: {**tier, "tests": len(tier["tests"])} for name, tier in value["tiers"].items()}
    return value


def _timeline(world: World, newest: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if newest is None:
        return []
    journal = world.sweeps.journal(newest["sweep"])
    kinds = {outcome["recipe"]: outcome["outcome"] for outcome in newest["outcomes"]}
    names = [name for name in (*kinds, *newest["pending"]) if RECIPE_NAME.fullmatch(name)]
    found = [one for name in names for one in steps_of(name, journal.steps(name), newest["started"], newest["ended"])]
    return [{**bar.__dict__, "outcome": kinds.get(bar.recipe)} for bar in lanes(found)]


def undelivered(world: World) -> int:
    """Messages that were tried and not taken yet."""
    told = readable_json(world.settings.state / "report" / "told.json")
    return sum(bool(one.get("tries")) for one in told.get("waiting") or () if isinstance(one, dict))


def _progress(world: World, newest: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How far the newest sweep is, while it is open; else what was called by hand and goes on."""
    watcher = Watcher(world)
    found = watcher.sweep(newest["sweep"]) if newest and newest["state"] == "open" else watcher.calls()
    return found.model_dump(mode="json") if found else None


def _newest_runs(world: World, cards: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    found: list[Verdict] = []
    for card in cards:
        if RECIPE_NAME.fullmatch(card["recipe"]):
            with contextlib.suppress(CanonqError):
                found += [one for one, _ in zip(world.runs.newest_first(card["recipe"]), range(_DISK_RUNS), strict=False)]
    return found


def history(world: World, recipe: str, card: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A recipe's card with all its runs that are kept, newest first, and the canonicals that are. WrongUse for no recipe.

    `card`: the one of the report, where it was made just now.
    """
    if card is None:
        card = _card(world, status(world, recipe)["recipes"][0], seen(world), world.checkout.enrolled())
    name = card["recipe"]
    kept: list[str] = []
    runs: list[Verdict] = []
    with contextlib.suppress(CanonqError):  # what is wrong with it, the card says
        runs = list(world.runs.newest_first(name))
        kept = [record.version for record in world.registry.generations(name)]
    return {"schema": SCHEMA, "made": world.stamp(), **card, "runs": [_told(run) for run in runs], "kept": kept}


def index(world: World, found: Mapping[str, Any]) -> dict[str, Any]:
    """The canonicals for programs that deploy: which version, by which commit and digests, how high, proven when."""
    listed = []
    for card in sorted(found["recipes"], key=lambda card: str(card["recipe"])):
        if record := card["canonical"]:
            proof = world.runs.verdict(card["recipe"], record["run"]) if record["run"] else None
            keys = ("recipe", "version", "commit", "level", "run", "promoted_at")
            proven = proof.ts if proof else (record["run"] or "")[:16] or record["promoted_at"]
            listed.append({**{key: record[key] for key in keys}, "digests": record["images"], "proven_at": proven})
    return {"schema": SCHEMA, "made": found["made"], "recipes": listed}


def feed(world: World) -> list[dict[str, Any]]:
    """What changed, newest first."""
    names = list(world.sweeps.newest_first())
    reports = [found for name in reversed(names[:LOOKED_THROUGH]) if (found := world.sweeps.report(name))]
    whole = len(names) <= LOOKED_THROUGH
    return [change.model_dump(mode="json") for change in changes(reports, whole=whole)][:_FEED]


def metrics(world: World, found: Mapping[str, Any], known: Seen, queues: Queues = dict) -> str:
    """What Prometheus is told. `found`: the report; `known`: what it was made of."""
    from canonq.adapters.measures import exposition  # with Prometheus's library, which only who is asked for it needs

    proven = {one["recipe"]: one["proven_at"] for one in index(world, found)["recipes"]}
    return exposition(measured(world, found, known.sweeps, proven, queues))


def folder_of(world: World) -> Path:
    """Where the report is written."""
    return world.settings.report.folder or world.settings.state / "report"


def write(world: World, due_since: DueSince = none_due) -> dict[str, Any]:
    """Write the report, the recipes' pages, badges, index and feed.

    Each file is replaced in one step, the first page last: what it links to is there.
    """
    from canonq.adapters.pages import render  # with templates and plots, which only who writes pages needs

    known = seen(world)
    found = report(world, due_since, known)
    folder, url = folder_of(world), world.settings.report.url
    cards = {card["recipe"]: card for card in found["recipes"] if RECIPE_NAME.fullmatch(card["recipe"])}
    for recipe, card in cards.items():
        write_whole(folder / "recipes" / f"{recipe}.html", render.recipe_page(history(world, recipe, card)))
        write_whole(folder / "badges" / f"{recipe}.svg", render.badge(card))
    _forget_others(folder, set(cards))
    write_whole(folder / "index.json", json.dumps(index(world, found), indent=2, ensure_ascii=False))
    write_whole(folder / "feed.atom", render.feed(feed(world), found["made"], url, world.instance))
    write_whole(folder / "report.json", json.dumps(found, indent=2, ensure_ascii=False))
    if world.settings.report.metrics_file:
        write_whole(world.settings.report.metrics_file, metrics(world, found, known))
    write_whole(folder / "index.html", render.first_page(found))
    return found


def _forget_others(folder: Path, named: set[str]) -> None:
    """Pages and badges of recipes that are not enrolled any more would show what nobody keeps up."""
    for below, suffix in (("recipes", ".html"), ("badges", ".svg")):
        for path in (folder / below).glob(f"*{suffix}"):
            if path.name.removesuffix(suffix) not in named:
                path.unlink(missing_ok=True)
