"""On which host a recipe is worked on: by its pin, else where its canonical is, else where disk, memory and load allow. Pure.

A canonical is on one host. As long as somebody may have one that is not known, nobody is seeded anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from canonq.core.sweeps.schedule import Host, Job, schedule

Reason: TypeAlias = Literal[
    "alone", "pinned", "canonical", "words", "history", "room",
    "host-unknown", "host-away", "host-removed", "host-draining", "on-two-hosts", "not-told-yet", "moving", "no-host-fits",
]  # fmt: skip
#: Those of them with which nothing is done; the others name a host.
NOWHERE: frozenset[Reason] = frozenset(
    {"host-unknown", "host-away", "host-removed", "host-draining", "on-two-hosts", "not-told-yet", "moving", "no-host-fits"}
)

#: Of those that name a host, the ones that bind nobody to it: another host may take over what it cannot do.
FREE: frozenset[Reason] = frozenset({"room", "history"})


@dataclass(frozen=True)
class Claim:
    """What a host says that it has of a recipe."""

    version: str | None = None  #: of the canonical in force there; None without one
    fence: int = 0  #: of its record
    last_run: str = ""  #: stamp of the newest run there
    leaving: str | None = None  #: the host that its canonical is on its way to
    words: str = ""  #: stamp of the newest word that a person said there about its releases


@dataclass(frozen=True)
class Member:
    """A host that has joined, as far as placing asks."""

    name: str
    alive: bool = True  #: it has been heard of within its lease
    draining: bool = False  #: it is to have nothing new
    removed: bool = False  #: a person has said that it does not come back
    light: int = 2
    heavy: int = 1
    memory: int | None = None  #: bytes that are free; None: not known
    disk: int | None = None  #: bytes that are free above the floor
    load: float = 0.0  #: for each processor
    claims: Mapping[str, Claim] | None = None  #: by recipe; None as long as it has not told them


@dataclass(frozen=True)
class Wanted:
    """A recipe that is to be placed."""

    recipe: str
    pin: str | None = None  #: the host that its enrolment names
    seconds: float = 0.0
    heavy: bool = False
    memory: int = 0  #: bytes that it is expected to take
    disk: int = 0


@dataclass(frozen=True)
class Placement:
    """Where a recipe is worked on, or why nowhere."""

    recipe: str
    host: str | None
    reason: Reason
    detail: str  #: a sentence
    notes: tuple[str, ...] = field(default=())  #: what a person should know although it is placed


def home(recipe: str, members: Sequence[Member]) -> list[Member]:
    """The hosts that have the recipe's canonical in force, or on its way out; of those that were removed, none."""
    return [one for one in members if not one.removed and (claim := (one.claims or {}).get(recipe)) and claim.version]


def bound(wanted: Wanted, members: Sequence[Member]) -> str | None:
    """The host that a recipe without a canonical is bound to, alive or not, by its pin or by what people said; else None."""
    there = {one.name: one for one in members if not one.removed}
    said = _where_said(wanted.recipe, members)
    return wanted.pin if wanted.pin in there else said.name if said is not None else None


def place(wanted: Sequence[Wanted], members: Sequence[Member]) -> dict[str, Placement]:
    """Place every recipe. Those that are nowhere yet are spread by the planner that `canonq simulate` has, longest first."""
    found: dict[str, Placement] = {}
    free: list[Wanted] = []
    there = [one for one in members if not one.removed]
    for one in wanted:
        if len(there) == 1:
            found[one.recipe] = _only(one, there[0], members)
        elif (fixed := _fixed(one, members)) is not None:
            found[one.recipe] = fixed
        else:
            free.append(one)
    if free:
        found |= _spread(free, [one for one in wanted if one.recipe in found], found, there)
    return found


def _only(wanted: Wanted, host: Member, members: Sequence[Member]) -> Placement:
    if wanted.pin not in (None, host.name):
        return _wrong_pin(wanted, members)
    return Placement(wanted.recipe, host.name, "alone", f"{host.name} is the only host")


def _wrong_pin(wanted: Wanted, members: Sequence[Member]) -> Placement:
    if wanted.pin in {one.name for one in members if one.removed}:
        told = f"Its recipe.toml pins {wanted.recipe} to the host {wanted.pin}, which was removed."
        return Placement(wanted.recipe, None, "host-removed", f"{told} Mend: pin it to another, or to none.")
    known = ", ".join(one.name for one in members if not one.removed)
    told = f"Its recipe.toml pins {wanted.recipe} to the host {wanted.pin}, which has not joined; there are {known}."
    return Placement(wanted.recipe, None, "host-unknown", f"{told} Mend: correct `host`, or `canonq hosts join` on {wanted.pin}.")


def _fixed(wanted: Wanted, members: Sequence[Member]) -> Placement | None:
    """Where a recipe has to be, or why it can be nowhere; None when it may be anywhere."""
    recipe, pin = wanted.recipe, wanted.pin
    by_name = {one.name: one for one in members if not one.removed}
    if pin is not None and pin not in by_name:
        return _wrong_pin(wanted, members)
    homes = home(recipe, members)
    if len(homes) > 1:
        listed = " and ".join(f"{one.name} ({(one.claims or {})[recipe].version})" for one in homes)
        return Placement(
            recipe, None, "on-two-hosts",
            f"{recipe} has a canonical on {listed}: nothing is done with it. Mend: look at both; `canonq move {recipe} HOST "
            "--give-up`, typed on the host whose canonical is to go, leaves that of HOST.",
        )  # fmt: skip
    if homes:
        return _at_home(recipe, pin, homes[0])
    silent = [one.name for one in by_name.values() if one.claims is None]
    if silent:
        return Placement(
            recipe, None, "not-told-yet",
            f"{' and '.join(silent)} has not told yet which canonicals it has, so {recipe} is not begun anew. Mend: start its "
            f"workers; if it does not come back, `canonq hosts remove {silent[0]} --reason ...`.",
        )  # fmt: skip
    said = _where_said(recipe, members)
    if pin is not None and by_name[pin].draining:
        return Placement(
            recipe, None, "host-draining",
            f"Its recipe.toml pins {recipe} to the host {pin}, which is being drained and gets nothing new. Mend: pin it to "
            f"another, or to none; `canonq drain {pin} --undo` has {pin} take work again.",
        )  # fmt: skip
    if pin is not None:
        notes: tuple[str, ...] = ()
        if said not in (None, by_name[pin]):
            notes = (
                f"words-elsewhere: what people said of releases of {recipe} is not on {pin}, where it is pinned: say it there",
            )
        return _on(by_name[pin], recipe, "pinned", f"its recipe.toml pins it to {pin}", notes)
    if said is not None:
        return _on(said, recipe, "words", f"what people said of its releases is on {said.name}")
    with_runs = [(claim.last_run, name) for name, one in by_name.items() if (claim := (one.claims or {}).get(recipe))]
    last = max(((run, name) for run, name in with_runs if run), default=None)
    if last is not None and _takes_new(by_name[last[1]], wanted):
        return Placement(recipe, last[1], "history", f"its last runs were on {last[1]}")
    return None


def _takes_new(host: Member, wanted: Wanted) -> bool:
    return host.alive and not host.draining and (host.disk is None or wanted.disk <= host.disk)


def _where_said(recipe: str, members: Sequence[Member]) -> Member | None:
    """The host on which a person has spoken last about the recipe's releases."""
    heard = [(claim.words, one.name, one) for one in members if not one.removed and (claim := (one.claims or {}).get(recipe))]
    return max((one for one in heard if one[0]), key=lambda one: one[:2], default=("", "", None))[2]


def _at_home(recipe: str, pin: str | None, host: Member) -> Placement:
    claim = (host.claims or {})[recipe]
    if claim.leaving is not None:
        told = f"The canonical {claim.version} of {recipe} is on its way from {host.name} to {claim.leaving}."
        return Placement(recipe, None, "moving", f"{told} Nothing is done with it until it is there; `canonq hosts` shows it.")
    notes: tuple[str, ...] = ()
    if pin not in (None, host.name):
        notes = (
            f"pinned-elsewhere: recipe.toml pins {recipe} to {pin}, and its canonical is on {host.name}; it stays there until "
            f"`canonq move {recipe} {pin}`",
        )
    return _on(host, recipe, "canonical", f"its canonical {claim.version} is on {host.name}", notes)


def _on(host: Member, recipe: str, reason: Reason, why: str, notes: tuple[str, ...] = ()) -> Placement:
    if host.alive:
        return Placement(recipe, host.name, reason, why, notes)
    return Placement(
        recipe, None, "host-away",
        f"{recipe} is on {host.name} ({why}), which has not been heard of for longer than its lease. Mend: start its workers; if "
        f"it does not come back, `canonq hosts remove {host.name} --reason ...` lets it be begun anew elsewhere.",
        notes,
    )  # fmt: skip


def _spread(
    free: Sequence[Wanted], fixed: Sequence[Wanted], found: Mapping[str, Placement], members: Sequence[Member]
) -> dict[str, Placement]:
    """Place those that may be anywhere beside those that may not."""
    able = [one for one in members if one.alive and not one.draining]
    # Of two that are alike, the planner takes the first: the one with less to do.
    hosts = [
        Host(one.name, one.light, one.heavy, one.memory, one.disk) for one in sorted(able, key=lambda one: (one.load, one.name))
    ]
    jobs = [_job(one, None) for one in free]
    jobs += [_job(one, found[one.recipe].host) for one in fixed if found[one.recipe].host in {host.name for host in hosts}]
    made = schedule(jobs, hosts)
    at = {one.job.recipe: one.host for one in made.placed}
    why = {job.recipe: told for job, told in made.left_out}
    placed = {}
    for one in free:
        if (host := at.get(one.recipe)) is not None:
            placed[one.recipe] = Placement(one.recipe, host, "room", f"{host} has room for it, and is free for it first")
        else:
            told = why.get(one.recipe) if hosts else "no host is there that may have something new"
            placed[one.recipe] = Placement(
                one.recipe, None, "no-host-fits",
                f"No host takes {one.recipe}: {told}. Mend: free disk or memory, or let another host join.",
            )  # fmt: skip
    return placed


def _job(one: Wanted, host: str | None) -> Job:
    return Job(one.recipe, one.seconds, one.heavy, one.memory, one.disk, host=host)


def place_anew(wanted: Sequence[Wanted], members: Sequence[Member], tried: Collection[str]) -> dict[str, Placement]:
    """Where recipes go on that the hosts `tried` cannot do, dead or full as they are; those that are bound to one of them, or
    that nobody else takes, are not among them. What is said of their canonicals counts all the same."""
    found = place(wanted, [replace(one, draining=True) if one.name in tried else one for one in members])
    return {name: one for name, one in found.items() if one.host is not None and one.host not in tried}


def least_loaded(wanted: Wanted, members: Sequence[Member], *, other_than: Collection[str]) -> Placement:
    """Where a recipe goes that has to leave a host."""
    others = [one for one in members if one.name not in other_than and not one.removed]
    return _spread([wanted], [], {}, others)[wanted.recipe]
