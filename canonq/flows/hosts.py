"""The hosts of a broker: what this one says of itself, who has what, and where recipes are worked on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from canonq.adapters.state.hosts import Facts, Known
from canonq.adapters.state.work_folders import at_work, is_alive, promotion_in
from canonq.core.budget import Need
from canonq.core.check import Check, of_error
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, HostProblem, RecordUnreadable, WrongUse
from canonq.core.history import expected_disk, expected_seconds, expected_share
from canonq.core.names import RECIPE_NAME, host_name
from canonq.core.outcomes import Outcome
from canonq.core.records import Canonical
from canonq.core.sweeps import placement
from canonq.core.sweeps.placement import Claim, Placement, Wanted, bound, home, place
from canonq.core.sweeps.schedule import UNKNOWN
from canonq.core.sweeps.slots import light_slots
from canonq.flows.world import World

log = logging.getLogger("canonq")


def light_workers(world: World) -> int:
    """Light recipes that may be under way on this host at a time."""
    return light_slots(world.settings.light_workers, world.host.processors(), world.host.memory())


def facts(world: World) -> Facts:
    """How this host is."""
    disk = None
    with contextlib.suppress(CanonqError, OSError):
        disk = max(0, -world.budget.disk(Need()).short)
    return Facts(
        light=light_workers(world), heavy=1, memory=world.host.free_memory(), disk=disk, load=round(world.host.load(), 2)
    )


def claim(world: World, recipe: str) -> Claim:
    """What this host has of a recipe."""
    last = world.runs.newest(recipe)
    ran = last.ts if last else ""
    try:
        mark = world.registry.elsewhere(recipe)
        if mark is not None and mark.state == "gone":
            return Claim(last_run=ran)  # what was said has gone with it
        record = world.registry.read(recipe)
    except RecordUnreadable:  # it has one all the same; whoever is at it there is told
        return Claim("unreadable", 0, ran, words=_said_at(world, recipe))
    if record is None:
        lost = world.registry.last_in_force(recipe)
        version = lost.version if lost else _coming(world, recipe)
        return Claim(version, world.registry.newest_fence(recipe), ran, words=_said_at(world, recipe))
    return Claim(record.version, record.fence, ran, mark.to if mark else None, _said_at(world, recipe))


def _said_at(world: World, recipe: str) -> str:
    """When a person spoke last about its releases here; empty where nobody did. What cannot be read counts, and is told there."""
    try:
        words = world.steering.words(recipe)
    except CanonqError:
        return world.stamp()
    return words[-1].at if words else ""


def _coming(world: World, recipe: str) -> str | None:
    """The version of a first canonical that is being made here just now: it counts as one, as this host may be cut off when it is
    through, and nobody hears of it."""
    for folder in at_work(world.work):
        journal = promotion_in(folder)
        if journal.get("recipe") == recipe and is_alive(folder):
            return journal.get("version")
    return None


def claims(world: World) -> dict[str, Claim]:
    """What this host has of all recipes."""
    ran = (name for name in world.runs.recipes() if RECIPE_NAME.fullmatch(name))
    return {name: claim(world, name) for name in sorted({*world.registry.begun(), *ran, *world.steering.recipes()})}


def tell(world: World, *, everything: bool = True) -> None:
    """Say that this host lives, how it is, and what it has; learn the same of the others. HostProblem without Redis.

    What it has is told also where it is alone: who joins has to know.
    """
    if world.hosts.own is None:
        return
    world.hosts.beat(facts(world))
    world.hosts.learn()
    if everything or not world.hosts.has_told():
        world.hosts.tell(claims(world))


def tell_of(world: World, recipe: str) -> None:
    """Say what this host has of one recipe now. Where Redis is away, it is said later."""
    with contextlib.suppress(CanonqError):
        world.hosts.tell_one(recipe, claim(world, recipe))


def promise(world: World, recipe: str) -> list[str]:
    """Say that a canonical of a recipe is being made here, and then ask who else has one, or makes one: those hosts.

    In this order: of two that do so at once, at least one hears of the other. HostProblem without Redis, where nothing is made.
    Busy for a first one as long as Redis has forgotten what another host has, which may have made one just before.
    """
    if world.hosts.own is None:
        return []
    world.hosts.tell_one(recipe, claim(world, recipe))
    if not world.hosts.are_several():
        return []
    there = [one for one in world.hosts.learn_of(recipe) if one.name != world.hosts.own and not one.removed]
    silent = [one.name for one in there if not one.told]
    if silent and world.registry.read(recipe) is None:
        raise Busy(
            f"Redis has forgotten what {' and '.join(silent)} has, so no first canonical of {recipe} is made.",
            mend="as soon as it has told it, it is tried again by itself; if it does not come back, "
            f"`canonq hosts remove {silent[0]} --reason ...`.",
            code="not-told-yet",
        )
    return [one.name for one in home(recipe, [one.member() for one in there])]


def tell_coming(world: World, recipe: str, version: str, fence: int) -> None:
    """Say that a recipe's canonical is coming here, before it is in force: who is cut off afterwards cannot. HostProblem without
    Redis, where it does not come yet."""
    world.hosts.tell_one(recipe, replace(claim(world, recipe), version=version, fence=fence))


def known(world: World) -> list[Known]:
    """All hosts, with what this one has as it is on its disk now. HostProblem without Redis; none where it has not joined."""
    if world.hosts.own is None:
        return []
    found = world.hosts.learn()
    # What it has is not asked where there is nobody else to have it.
    return _with_own(world, found) if len([one for one in found if not one.removed]) > 1 else found


def seen(world: World) -> list[Known]:
    """The same for who only looks; as it was last known, without Redis."""
    return _with_own(world, world.hosts.all())


def _with_own(world: World, found: Sequence[Known]) -> list[Known]:
    own = world.hosts.own
    return [replace(one, facts=facts(world), claims=claims(world), away=0.0) if one.name == own else one for one in found]


def wanted(world: World, enrolment: Enrolment) -> Wanted:
    """A recipe as it is placed: what it takes is known by who has run it."""
    verdicts = world.runs.verdicts(enrolment.recipe)
    return Wanted(
        enrolment.recipe,
        enrolment.host,
        expected_seconds(verdicts) or UNKNOWN,
        enrolment.weight == "heavy",
        expected_share(verdicts, heavy=enrolment.weight == "heavy", said=enrolment.resources.memory).memory,
        expected_disk(verdicts, world.settings.disk_need).total,
    )


def place_all(world: World, enrolments: Iterable[Enrolment]) -> dict[str, Placement]:
    """Where recipes are worked on. On a host that has not joined, and knows of nobody, all of them here."""
    listed = list(enrolments)
    members = [one.member() for one in known(world)]
    if not members:
        return {}
    if len([one for one in members if not one.removed]) == 1:  # what recipes take decides nothing where there is no choice
        return place([Wanted(one.recipe, one.host) for one in listed], members)
    return place([wanted(world, one) for one in listed], members)


def place_anew(world: World, enrolments: Iterable[Enrolment], tried: Collection[str]) -> dict[str, Placement]:
    """Where recipes go on that the hosts `tried` cannot do; those that nobody else may have, or takes, are not among them."""
    return placement.place_anew([wanted(world, one) for one in enrolments], [one.member() for one in known(world)], tried)


def place_one(world: World, enrolment: Enrolment) -> Placement | None:
    """Where one recipe is worked on; None where this host has not joined any."""
    return place_all(world, [enrolment]).get(enrolment.recipe)


def host_of(world: World, enrolment: Enrolment) -> str | None:
    """The host that one recipe is worked on; None where this one has not joined any. HostProblem where it is none now."""
    placed = place_one(world, enrolment)
    if placed is not None and placed.host is None:
        what, _, mend = placed.detail.partition(" Mend: ")
        raise HostProblem(what, mend=mend, code=placed.reason)
    return placed.host if placed else None


def opens_sweeps(world: World) -> str | None:
    """The host that opens sweeps nobody has typed: of those alive the one that joined first. None: this one may."""
    own = world.hosts.own
    if own is None or not world.hosts.are_several():
        return None
    alive = [one.name for one in world.hosts.learn() if one.alive and not one.removed]
    return alive[0] if alive and alive[0] != own else None


def canonicals_elsewhere(world: World, recipe: str) -> list[str]:
    """Other hosts that have a canonical of it. HostProblem without Redis, where there are others."""
    if world.hosts.own is None or not world.hosts.are_several():
        return []
    return [
        one.name for one in home(recipe, [one.member() for one in world.hosts.learn_of(recipe)]) if one.name != world.hosts.own
    ]


def where_is(world: World, recipe: str) -> str | None:
    """The host that has a recipe's canonical; None when no other one has."""
    if not world.hosts.are_several():
        return None
    homes = [one.name for one in home(recipe, [one.member() for one in seen(world)])]
    return None if not homes or world.hosts.own in homes else homes[0]


def fence_there(world: World, recipe: str, host: str) -> int | None:
    """The fence of the record that another host says it has of a recipe; None where it has not said one."""
    there = next((one.member() for one in seen(world) if one.name == host), None)
    claim = (there.claims or {}).get(recipe) if there is not None else None
    return claim.fence or None if claim is not None else None


def must_be_here(world: World, recipe: str, command: str) -> None:
    """WrongUse where the canonical is on another host: what is on its disk can be looked at there alone."""
    if (there := where_is(world, recipe)) is not None:
        raise WrongUse(
            f"The canonical of {recipe} is on the host {there}.", mend=f"run `{command}` there.", code="on-another-host"
        )


def must_count_here(world: World, recipe: str, command: str) -> None:
    """WrongUse where nobody would hear what is said here of a recipe's releases: it is worked on on another host."""
    must_be_here(world, recipe, command)
    members = [one.member() for one in seen(world)] if world.hosts.are_several() else []
    if not members or home(recipe, members):
        return
    pin = world.checkout.enrolment(recipe).host
    there = bound(Wanted(recipe, pin), members)
    if there not in (None, world.hosts.own):
        why = f"recipe.toml pins {recipe} to" if there == pin else f"what was said of releases of {recipe} before is on"
        raise WrongUse(f"{why} the host {there}.", mend=f"run `{command}` there.", code="on-another-host")


class _Row(BaseModel):
    """What another host tells of a recipe, as far as it is what it has to be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    canonical: Canonical | None = None
    last_run: dict[str, str | int | float | None] | None = None
    proven: dict[str, str | int | None] | None = None
    held_by: dict[str, str | int | None] | None = None
    running: list[str] = []
    promoting: str | None = None
    problem: str | None = None
    outcome: Outcome | None = None  #: of its last sweep there

    @field_validator("last_run", "proven")
    @classmethod
    def _whole(cls, value: dict[str, Any] | None, about: ValidationInfo) -> dict[str, Any] | None:
        if value is not None and not _KEYS[about.field_name or ""] <= value.keys():
            raise ValueError("keys are missing")
        return value


_KEYS = {
    "last_run": {"id", "verdict", "version", "level", "reason", "detail", "ts", "seconds", "base", "fault", "directory"},
    "proven": {"version", "run", "failures", "held"},
}


@dataclass(frozen=True)
class Told:
    """A recipe as the host tells it that has its canonical, or its last runs."""

    host: str
    away: bool  #: it has not been heard of for longer than its lease
    row: _Row


def rows_elsewhere(world: World) -> dict[str, Told]:
    """Recipes that are another host's, as it tells them; none where this one is alone. Nothing is decided by it."""
    if not world.hosts.are_several():
        return {}
    there = {one.name: one for one in seen(world) if not one.removed}
    best: dict[str, tuple[bool, str, str]] = {}
    for host, one in there.items():
        for recipe, claim in (one.claims or {}).items():
            mine = (claim.version is not None, claim.last_run, host)
            if (claim.version or claim.last_run) and mine > best.get(recipe, (False, "", "")):
                best[recipe] = mine
    found: dict[str, Told] = {}
    for host in {host for *_, host in best.values()} - {world.hosts.own}:
        told = world.hosts.rows(host)
        for recipe in (name for name, (*_, where) in best.items() if where == host):
            claim = (there[host].claims or {})[recipe]
            row = _Row(problem=f"Its host {host} has told nothing of it yet but its version: {claim.version or 'none'}.")
            with contextlib.suppress(ValueError):
                row = _Row.model_validate(told[recipe]) if recipe in told else row
            found[recipe] = Told(host, not there[host].alive, row)
    return found


def rows(world: World) -> list[dict[str, Any]]:
    """What `canonq hosts` shows."""
    found = []
    for one in seen(world):
        kept = {name: claim for name, claim in (one.claims or {}).items() if claim.version}
        state = "removed" if one.removed else one.joined.state if one.alive else "away"
        found.append(
            {
                "host": one.name, "here": one.name == world.hosts.own, "state": state, "joined": one.joined.joined,
                "heard_of_seconds": round(one.away, 1) if one.away is not None else None, "why": one.joined.why,
                "light": one.facts.light, "heavy": one.facts.heavy, "memory_bytes": one.facts.memory,
                "disk_bytes": one.facts.disk, "load": one.facts.load,
                "canonicals": sorted(kept) if one.claims is not None else None,
                "leaving": {name: claim.leaving for name, claim in sorted(kept.items()) if claim.leaving},
            }
        )  # fmt: skip
    return found


def checks(world: World) -> Iterator[Check]:
    """For `doctor`: hosts that are away, with what they have,
    and canonicals of which there are two. Nothing where one is alone."""
    if world.settings.broker_url() is None:
        return
    try:
        world.hosts.must_be_known()
    except HostProblem:  # that is told elsewhere
        pass
    except CanonqError as error:
        yield of_error("hosts", error)
        return
    if not world.hosts.are_several():
        return
    found = seen(world)
    members = [one.member() for one in found]
    told = False
    for one in found:
        if one.removed or one.alive:
            continue
        told = True
        kept = sorted(name for name, claim in (one.claims or {}).items() if claim.version)
        listed = f"; its canonicals: {', '.join(kept)}" if kept else ""
        what = f"{one.name} has not been heard of for longer than its lease{listed}"
        yield Check("hosts", "warning", what, _back(one.name), "host-away")
    for recipe in sorted({name for one in members for name in one.claims or {}}):
        if len(homes := home(recipe, members)) > 1:
            told = True
            what = f"{recipe} has a canonical on {' and '.join(one.name for one in homes)}"
            mend = f"`canonq why {recipe}` on each; `canonq move {recipe} HOST --give-up` on one."
            yield Check("hosts", "broken", what, mend, "on-two-hosts")
    if not told:
        yield Check("hosts", "ok", f"{', '.join(one.name for one in found if not one.removed)} are there")


def _back(name: str) -> str:
    return f"start its workers; if it does not come back, `canonq hosts remove {name} --reason ...`."


def drain(world: World, name: str, *, undo: bool = False) -> None:
    """Say that a host is to have nothing new, or may have it again. WrongUse for one that was removed, or if nobody is left."""
    there = {one.name: one for one in world.hosts.learn()}
    if (found := there.get(host_name(name))) is not None and found.removed:
        raise WrongUse(
            f"The host {name} was removed: {found.joined.why}.",
            mend="`canonq hosts join`, there, lets it in again, with what it has.",
            code="host-removed",
        )
    if found is not None and not undo and not any(one.takes_new for other, one in there.items() if other != name):
        raise WrongUse(
            f"There is no host beside {name} that takes new work, so nothing would leave it.",
            mend="let another one join (`canonq hosts join`, there), or have one that is drained take new work again (`--undo`).",
            code="no-other-host",
        )
    world.hosts.mark(name, "in" if undo else "draining")


def remove(world: World, name: str, *, by: str, reason: str) -> list[str]:
    """Say that a host does not come back; its recipes, which may be begun anew elsewhere. WrongUse for one that lives."""
    if not reason.strip():
        raise WrongUse("To remove a host needs a reason.", mend="give one with --reason, for whoever asks in a year.")
    found = next((one for one in world.hosts.learn() if one.name == host_name(name)), None)
    if found is not None and found.alive:
        raise WrongUse(
            f"The host {name} lives: it was heard of {found.away:.0f} s ago.",
            mend=f"`canonq drain {name}` moves its canonicals first; then stop its workers.",
            code="host-alive",
        )
    world.hosts.mark(name, "removed", f"{reason} ({by}, {world.stamp()})")
    return sorted(recipe for recipe, claim in ((found.claims if found else None) or {}).items() if claim.version)
