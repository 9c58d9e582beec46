"""A sweep over several hosts: who has opened it divides it, each host sweeps its share by itself, and the outcomes come back.

A share is a sweep of its own on its host's disk, under the same id: steps, tries and leftovers are that host's. Who has opened
the sweep accounts for all of it. Nothing but outcomes and findings is taken from another host, and nothing is done because of
them.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from canonq.adapters.state.hosts import Known
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.outcomes import Outcome
from canonq.core.sweeps.again import lack_of, waits
from canonq.core.sweeps.placement import NOWHERE, Placement
from canonq.core.sweeps.reconcile import GRACE
from canonq.flows import hosts as hosts_flow
from canonq.flows.sweeps.again import take_back, tried_as, waiting
from canonq.flows.sweeps.closing import finish, stop
from canonq.flows.sweeps.opening import Opened, begin_late, chains_left
from canonq.flows.world import World

log = logging.getLogger("canonq")

#: Leases that a host may be silent for until its share is told as not done: a link that is cut for a minute costs nothing.
PATIENCE = 3.0
_LOOKED_THROUGH = 20  #: newest sweeps of which something may be left to tell
#: Sends a host a share of a sweep: (host, recipes, id of the share).
Send = Callable[[str, Sequence[str], str], None]


def divide(world: World, opened: Opened) -> tuple[Opened, dict[str, list[str]]]:
    """What of an opened sweep is begun here, and the shares of other hosts. What can be nowhere is settled so.

    Asked again, as after a crash, the answer is the same.
    """
    sweep = opened.sweep
    if world.hosts.own is None or world.sweeps.shares.opener(sweep) is not None:
        return opened, {}
    placed = world.sweeps.shares.placed(sweep).get("recipes")
    if not isinstance(placed, dict):
        found = hosts_flow.place_all(world, opened.chains)
        if all(one.reason == "alone" for one in found.values()):
            return opened, {}
        placed = {name: _kept(one) for name, one in found.items()}
        for one in found.values():
            for note in one.notes:
                log.warning("%s: %s", one.recipe, note)
            if one.reason in NOWHERE:
                world.sweeps.settle(sweep, _nowhere(one))
        world.sweeps.shares.place(sweep, {"own": world.hosts.own, "recipes": placed})
    elsewhere = world.sweeps.shares.elsewhere(sweep)
    settled = world.sweeps.outcomes(sweep)
    here = tuple(one for one in opened.chains if one.recipe not in elsewhere and one.recipe not in settled)
    return replace(opened, chains=here), _awaited(elsewhere, settled)


def divide_late(world: World, sweep: str, send: Send) -> None:
    """Divide a sweep whose opener was killed before it had: what is to be done elsewhere would be done here, with no canonical.

    Not at once: whoever opens it may be just about to.
    """
    known = world.sweeps.shares.opener(sweep) is not None or isinstance(world.sweeps.shares.placed(sweep).get("recipes"), dict)
    if known or world.sweeps.begun(sweep) or not world.hosts.are_several():
        return
    if abs(time.time() - world.sweeps.opened_at(sweep)) < GRACE:
        return
    named = bool(world.sweeps.read(sweep).get("named"))
    opened = Opened(sweep, chains_left(world, sweep, world.checkout.enrolled()), named)
    for host, names in divide(world, opened)[1].items():
        send(host, names, sweep)


def _awaited(elsewhere: Mapping[str, str], settled: Collection[str]) -> dict[str, list[str]]:
    """host -> recipes of its share of which nothing is known yet."""
    shares: dict[str, list[str]] = {}
    for name in sorted(set(elsewhere) - set(settled)):
        shares.setdefault(elsewhere[name], []).append(name)
    return shares


def _kept(one: Placement) -> dict[str, Any]:
    return {"host": one.host, "reason": one.reason, "detail": one.detail, "notes": list(one.notes)}


def _nowhere(one: Placement) -> Outcome:
    common: dict[str, Any] = {"recipe": one.recipe, "reason": one.reason, "detail": one.detail, "step": "sweep"}
    if one.reason in ("moving", "host-draining"):
        return Outcome(outcome="deferred", **common)
    return Outcome(outcome="error", fault="enrolment" if one.reason == "host-unknown" else "host", **common)


def others(world: World) -> list[str]:
    """Hosts beside this one that are there, for a night that all of them have to note."""
    if world.hosts.own is None or not world.hosts.are_several():
        return []
    return [one.name for one in world.hosts.learn() if one.alive and not one.removed and one.name != world.hosts.own]


# -- on the host that has opened it -------------------------------------------------------------------------


def collect(world: World, sweep: str, send: Send | None = None, begin: Callable[[Enrolment], None] | None = None) -> list[str]:
    """Settle what other hosts have told of their shares, and what they will not tell any more; a sentence for each mend.

    Where these are given: by `send` a share that nobody has begun is sent again; and what a host cannot do, dead or full as it
    is, is sent to another one, or begun here by `begin`, as long as nothing binds it to that host.
    """
    parts = world.sweeps.shares.parts(sweep)
    if (not parts and not world.sweeps.shares.placed(sweep)) or world.sweeps.closed(sweep):
        return []
    done: list[str] = []
    stuck: list[Outcome] = []
    settled = world.sweeps.outcomes(sweep)
    known = {one.name: one for one in world.hosts.learn()} if parts else {}
    again = False
    for (host, share), names in parts.items():
        pending = [name for name in sorted(names) if name not in settled]
        state, told, findings = world.hosts.share(share, host) if pending else ("", {}, [])
        world.sweeps.shares.note_findings(sweep, host, findings)
        left = []
        for name in pending:
            if (outcome := _outcome(told.get(name), name)) is None:
                left.append(name)
            elif lack_of(outcome) == "disk" and world.sweeps.shares.is_free(sweep, name):
                stuck.append(outcome)
            else:
                world.sweeps.settle(sweep, outcome)
        if not left:
            continue
        if why := _given_up(host, known.get(host)):
            stuck += [_given(name, why) for name in left]
            done.append(f"{', '.join(left)}: {why}")
        elif send is not None and state == "" and time.time() - world.sweeps.shares.sent_at(sweep) > GRACE:
            send(host, left, share)
            again = True
            done.append(f"the share of {host} was lost, and is sent again")
    if again:
        world.sweeps.shares.sent_again(sweep)
    if send is not None and begin is not None:
        stuck += [outcome for outcome, action in waiting(world, sweep) if action == "elsewhere"]
        done += _go_elsewhere(world, sweep, stuck, send, begin)
    else:
        for outcome in stuck:
            world.sweeps.settle(sweep, outcome)
    finish(world, sweep)
    return done


def _given(name: str, why: str) -> Outcome:
    return Outcome(recipe=name, outcome="error", reason="host-away", detail=f"{name}: {why}", fault="host", step="sweep")


def _go_elsewhere(
    world: World, sweep: str, stuck: Sequence[Outcome], send: Send, begin: Callable[[Enrolment], None]
) -> list[str]:
    """Have other hosts do what theirs cannot; what stays with them has that as its outcome. A sentence for each that goes."""
    shares, done = world.sweeps.shares, list[str]()
    for tried, outcomes in _by_tried(world, sweep, stuck).items():
        found = _placed_anew(world, sweep, [one.recipe for one in outcomes], tried)
        sent: dict[str, dict[str, Enrolment]] = {}
        for outcome in outcomes:
            placed = found.get(outcome.recipe)
            if placed is None or placed[1].host is None:
                _stays(world, sweep, outcome)
                continue
            enrolment, there = placed
            if world.sweeps.outcome(sweep, outcome.recipe) is None:
                world.sweeps.keep_try(sweep, outcome.recipe, tried_as(world, outcome))
            elif not take_back(world, sweep, outcome):
                continue
            sent.setdefault(str(there.host), {})[outcome.recipe] = enrolment
            done.append(f"{outcome.recipe}: {outcome.detail} It goes on on {there.host}.")
        for host, recipes in sent.items():
            share = world.new_id()
            shares.move(sweep, {name: {**_kept(found[name][1]), "tried": sorted(tried), "share": share} for name in recipes})
            if host == world.hosts.own:
                for enrolment in recipes.values():
                    begin_late(world, sweep, enrolment, begin)
            else:
                send(host, sorted(recipes), share)
    return done


def _by_tried(world: World, sweep: str, stuck: Sequence[Outcome]) -> dict[frozenset[str], list[Outcome]]:
    found: dict[frozenset[str], list[Outcome]] = {}
    for outcome in stuck:
        found.setdefault(frozenset(world.sweeps.shares.tried(sweep, outcome.recipe)), []).append(outcome)
    return found


def _placed_anew(
    world: World, sweep: str, names: Sequence[str], tried: Collection[str]
) -> dict[str, tuple[Enrolment, Placement]]:
    """Where recipes go on, of those that nothing binds to the hosts that were tried."""
    enrolled = world.checkout.enrolled().recipes
    free = {name: enrolled[name] for name in names if name in enrolled and world.sweeps.shares.is_free(sweep, name)}
    found = hosts_flow.place_anew(world, free.values(), tried) if free else {}
    return {name: (free[name], one) for name, one in found.items()}


def _stays(world: World, sweep: str, outcome: Outcome) -> None:
    """No other host takes it: it is not asked for again, and goes on here as where there is one host."""
    if world.sweeps.outcome(sweep, outcome.recipe) is None:
        world.sweeps.settle(sweep, outcome)
    if world.sweeps.shares.is_free(sweep, outcome.recipe):
        world.sweeps.shares.move(sweep, {outcome.recipe: {"stays": True}})


def _outcome(text: str | None, recipe: str) -> Outcome | None:
    """An outcome as another host has told it; it is that host's to try it again."""
    if text is None:
        return None
    try:
        found = Outcome.model_validate_json(text)
    except ValueError:
        return None
    return found.model_copy(update={"retry_at": None}) if found.recipe == recipe else None


def _given_up(name: str, host: Known | None) -> str | None:
    """Why nothing is awaited any more of a host; None as long as it may come."""
    if host is None or host.removed:
        return f"its host {name} was removed while the sweep went on."
    if (silent := _silent(host)) > PATIENCE * host.facts.lease:
        return (
            f"its host {name} has not been heard of for {silent:.0f} s. Mend: start its workers: it goes on with what it had "
            f"begun; if it does not come back, `canonq hosts remove {name} --reason ...`."
        )
    return None


#: Hosts that a Redis which has lost its memory knows nothing of -> since when it was asked here, by the monotonic clock.
_unheard: dict[str, float] = {}


def _silent(host: Known) -> float:
    """Seconds since a host was heard of; where nobody knows, as Redis has forgotten, since that was found here."""
    if host.away is not None:
        _unheard.pop(host.joined.instance, None)
        return host.away
    return time.monotonic() - _unheard.setdefault(host.joined.instance, time.monotonic())


# -- on the host that has a share ---------------------------------------------------------------------------


def tell_share(world: World, sweep: str, *, only: str | None = None) -> None:
    """Tell who has opened the sweep what came of this host's share so far, or of `only` one recipe as long as it is not over.

    HostProblem without Redis.
    """
    if world.sweeps.shares.opener(sweep) is None or world.sweeps.shares.was_told(sweep):
        return
    closed = world.sweeps.closed(sweep)
    if closed is None and only is not None:
        one = world.sweeps.outcome(sweep, only)
        outcomes = {only: one} if one is not None else {}
    else:
        outcomes = world.sweeps.outcomes(sweep)
    last = {name: outcome.model_dump_json() for name, outcome in outcomes.items() if closed is not None or not waits(outcome)}
    world.hosts.tell_share(sweep, last, state="closed" if closed else "open", findings=_findings(world, sweep))
    if closed:
        world.sweeps.shares.told(sweep)


def tell_again(world: World, sweep: str) -> None:
    """Tell all of a share once more: somebody has asked for it again, so what was told was lost."""
    closed = world.sweeps.closed(sweep)
    last = {name: outcome.model_dump_json() for name, outcome in world.sweeps.outcomes(sweep).items()}
    world.hosts.tell_share(sweep, last if closed else {}, state="closed" if closed else "open", findings=_findings(world, sweep))


def _findings(world: World, sweep: str) -> list[str]:
    """What this host had to tell when its share was opened; it stands in its own report, too."""
    return list(world.sweeps.read(sweep).get("findings", []))


def go_on(world: World) -> None:
    """Tell what is left to tell of shares, and stop those whose sweep was stopped. HostProblem without Redis."""
    for sweep in itertools.islice(world.sweeps.newest_first(), _LOOKED_THROUGH):
        with contextlib.suppress(CanonqError):
            opener = world.sweeps.shares.opener(sweep)
            if opener is None or world.sweeps.shares.was_told(sweep):
                continue
            if world.sweeps.closed(sweep) is None and world.hosts.share(sweep, opener)[0] == "stopped":
                stop(world, sweep, f"It was stopped on {opener}, where it was opened.")
            tell_share(world, sweep)


def stopped(world: World, sweep: str) -> None:
    """Tell other hosts that a sweep was stopped here; where Redis is away, their shares go on."""
    for share in {share for _, share in world.sweeps.shares.parts(sweep)}:
        with contextlib.suppress(HostProblem):
            world.hosts.tell_share(share, {}, state="stopped")
