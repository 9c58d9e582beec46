"""promote: the gate, then the promotion itself, and an answer in every case (docs/rules.md 2 and 4)."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import Any

from canonq.adapters.state.work_folders import alive
from canonq.core.consumers import noted, refusal
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, HostProblem, StoppedByPerson, WrongUse, verdict_gone
from canonq.core.gate import Again, Refusal, gate
from canonq.core.history import PROMOTION, expected_of_promotion
from canonq.core.names import recipe_name
from canonq.core.records import Promotion, Verdict
from canonq.core.steering import is_said
from canonq.flows.hosts import canonicals_elsewhere, promise, tell_of
from canonq.flows.keeping.leftovers import forgotten, is_in_force, lost_record
from canonq.flows.keeping.places import place_for
from canonq.flows.keeping.room import make_room, room_for
from canonq.flows.keeping.window import must_end_in_time
from canonq.flows.promoting.transaction import Transaction, announce, carry_out, give_way, plan
from canonq.flows.proving.consumers import try_consumers
from canonq.flows.upstream.steering import hindrance
from canonq.flows.world import World

log = logging.getLogger("canonq")


def promote(world: World, proven: Verdict | str, again: Again | None = None) -> Promotion:
    """Promote a verdict, or a recipe's newest one when called by hand. Refusals name every condition.

    What is read is the verdict on disk; a message only says which run it is. `again`: the canonical anew, at its own version.
    """
    began = time.monotonic()
    recipe = recipe_name(proven if isinstance(proven, str) else proven.recipe)
    let_through = _let_through(world, recipe, _enrolment(world, recipe), _on_disk(world, recipe, proven), again)
    if isinstance(let_through, Promotion):
        return let_through
    enrolment, verdict = let_through
    must_end_in_time(world, verdict.sweep, recipe, f"The promotion of {recipe} {verdict.version}", proven=True)
    try:
        tried = try_consumers(world, verdict) if again is None else []
    except Busy as error:
        return _answer(verdict, "busy", error.code, str(error))
    if broken := refusal(recipe, str(verdict.version), tried, approved=_is_approved(world, verdict)):
        return _refused(recipe, verdict, (broken,))
    with world.locks.hold(recipe, f"promote {verdict.run}") as held:
        if held is None:
            return _answer(verdict, "busy", "busy", f"{recipe} is held by {world.held_by(recipe)}.")
        if done := _already(world, verdict, again):
            return done
        # Asked again under the lock: the record may have changed since, or another host may have one by now.
        there = canonicals_elsewhere(world, recipe)
        if refusals := (*_elsewhere(recipe, there), *_ask_gate(world, recipe, enrolment, verdict, again)):
            return _refused(recipe, verdict, refusals)
        owner = world.new_id(recipe)
        try:
            need = expected_of_promotion(verdict, world.settings.disk_need)
            what = f"the promotion of {recipe} {verdict.version}"
            with (
                place_for(world, enrolment, what),
                room_for(world, what, need, otherwise=make_room) as room,
                world.host.shared(),
                alive(world.work / owner),
                world.host.claiming() as claims,
            ):
                # Asked again: for its place it may have waited for long.
                must_end_in_time(world, verdict.sweep, recipe, f"The promotion of {recipe} {verdict.version}", proven=True)
                tx = plan(world, enrolment, verdict, held, owner, room, again)
                tx.account.claims = claims
                if there := _announced(tx):
                    return _refused(recipe, verdict, _elsewhere(recipe, there))
                carry_out(tx)
        except (CanonqError, OSError) as error:
            if not is_in_force(world, recipe, held):
                return _failed(world, verdict, error, began)
            log.warning("%s: %s is the canonical, with a trouble after it: %s", recipe, verdict.version, error)
        finally:
            tell_of(world, recipe)  # what came of it
    _note_seconds(world, verdict, time.monotonic() - began)
    reason = "again" if again else "seed" if tx.old is None else "new-version"
    detail = f"{verdict.version} is the canonical; its data is {tx.data}."
    return _answer(verdict, "promoted", reason, detail, began).model_copy(
        update={"data": tx.data, "notes": tx.account.secrecy.masks.texts((*noted(tried), *tx.account.notes))}
    )


def _note_seconds(world: World, verdict: Verdict, seconds: float) -> None:
    """Keep with the run how long its promotion took: the next one will take as long."""
    with contextlib.suppress(CanonqError, OSError):
        if (kept := world.runs.verdict(verdict.recipe, verdict.run)) is not None:
            world.runs.record(kept.model_copy(update={"timings": {**kept.timings, PROMOTION: round(seconds, 3)}}))


def _announced(tx: Transaction) -> list[str]:
    """Say that a canonical is made here; the hosts that have one, or make one: then nothing is made here."""
    announce(tx)
    try:
        there = promise(tx.world, tx.recipe)
    except CanonqError:
        give_way(tx)
        raise
    if there:
        give_way(tx)
    return there


def answer_at_once(world: World, recipe: str, again: Again | None = None) -> Promotion | None:
    """What a promotion by hand would answer without doing anything; None when there is something to do."""
    answer = _let_through(world, recipe, _enrolment(world, recipe), _on_disk(world, recipe, recipe), again)
    return answer if isinstance(answer, Promotion) else None


def _let_through(
    world: World, recipe: str, enrolment: Enrolment | None, verdict: Verdict | None, again: Again | None
) -> Promotion | tuple[Enrolment, Verdict]:
    """What is to be promoted, by the gate; or the answer where that is nothing."""
    refusals = _ask_gate(world, recipe, enrolment, verdict, again)
    if verdict is not None and (done := _already(world, verdict, again)):
        return done
    if refusals or enrolment is None or verdict is None:
        return _refused(recipe, verdict, refusals)
    return enrolment, verdict


def _on_disk(world: World, recipe: str, proven: Verdict | str) -> Verdict | None:
    """The verdict of that run, or the newest one, which by hand is no part of the sweep it came from.

    HostProblem where a newer one cannot be read: it may be a red.
    """
    if isinstance(proven, str):
        newest = world.runs.newest(recipe)
        if unread := world.runs.unread_since(recipe, newest.run if newest else None):
            raise verdict_gone(recipe, unread)
        return newest.model_copy(update={"sweep": None}) if newest else None
    found = world.runs.verdict(recipe, proven.run)
    return found.model_copy(update={"sweep": proven.sweep, "named": proven.named}) if found else None


def _failed(world: World, verdict: Verdict, error: CanonqError | OSError, began: float) -> Promotion:
    if isinstance(error, Busy):
        return _answer(verdict, "busy", error.code, str(error))
    detail = f"{verdict.recipe} {verdict.version} was proven, but its promotion failed: {error} The old canonical is untouched."
    answer = _answer(verdict, "failed", "promote-failed", detail, began, why=error)
    failure = {"at": world.stamp(), "sweep": verdict.sweep, "cause": answer.cause, "detail": str(error)}
    if isinstance(error, StoppedByPerson):  # it says nothing about the release
        return answer
    with contextlib.suppress(CanonqError, OSError):  # the disk may be what failed
        world.runs.note_failure(verdict.recipe, verdict.run, failure)
    return answer


def _elsewhere(recipe: str, there: list[str]) -> tuple[Refusal, ...]:
    """The refusal where other hosts have a canonical of it, or make one: two would each go their own way."""
    if not there:
        return ()
    why = f"{' and '.join(there)} has the canonical of {recipe}: it is promoted there; `canonq move` brings it here"
    return (Refusal("kept-elsewhere", why),)


def _enrolment(world: World, recipe: str) -> Enrolment | None:
    try:
        return world.checkout.enrolment(recipe)
    except WrongUse:
        return None


def _ask_gate(
    world: World, recipe: str, enrolment: Enrolment | None, verdict: Verdict | None, again: Again | None
) -> tuple[Refusal, ...]:
    return gate(
        enrolled=enrolment is not None and enrolment.enrolled,
        verdict=verdict,
        tags=_tags(world, recipe),
        canonical=world.registry.read(recipe),
        prereleases=enrolment is not None and enrolment.prereleases,
        seen=world.repos.known(recipe),
        lost=lost_record(world, recipe) or forgotten(world, recipe),
        again=again,
        hindrance=_hindrance(world, enrolment, verdict) if again is None else None,
    )


def _is_approved(world: World, verdict: Verdict) -> bool:
    words = world.steering.words(verdict.recipe)
    return is_said(words, "approve", str(verdict.version), str(verdict.commit), world.stamp())


def _tags(world: World, recipe: str) -> dict[str, str] | None:
    """What is released; None where there is no clone to say so."""
    try:
        return world.repos.tags(recipe)
    except HostProblem as error:
        if error.code != "clone-missing":
            raise
        return None


def _hindrance(world: World, enrolment: Enrolment | None, verdict: Verdict | None) -> Refusal | None:
    if enrolment is None or verdict is None or verdict.version is None or verdict.commit is None or verdict.ref is not None:
        return None
    return hindrance(world, enrolment, world.registry.read(enrolment.recipe), verdict.version, verdict.commit)


def _already(world: World, verdict: Verdict, again: Again | None) -> Promotion | None:
    """The answer where what a green cold run proved, at that commit, is the canonical already (by this run or another).

    With `again` only where this very order was carried out: its worker may have died when it was.
    """
    if verdict.verdict != "green" or verdict.quick:
        return None
    record = world.registry.read(verdict.recipe)
    if record is None or (record.version, record.commit) != (verdict.version, verdict.commit):
        return None
    if again is None:
        return _answer(verdict, "already", "already-promoted", f"{verdict.version} is the canonical.")
    made = record.remade
    if made is None or (record.run, made.by, made.reason) != (verdict.run, again.by, again.reason):
        return None
    return _answer(verdict, "already", "already-promoted", f"{verdict.version} was made anew from this run, for this reason.")


def _refused(recipe: str, verdict: Verdict | None, refusals: tuple[Refusal, ...]) -> Promotion:
    return Promotion(
        recipe=recipe,
        sweep=verdict.sweep if verdict else None,
        outcome="refused",
        reason=refusals[0].code if refusals else "not-enrolled",
        detail="; ".join(refusal.why for refusal in refusals),
        reasons=tuple(f"{refusal.code}: {refusal.why}" for refusal in refusals),
        version=verdict.version if verdict else None,
        commit=verdict.commit if verdict else None,
        run=verdict.run if verdict else None,
    )


def _answer(
    verdict: Verdict, outcome: Any, reason: str, detail: str, began: float | None = None, why: Exception | None = None
) -> Promotion:
    known = why if isinstance(why, CanonqError) else HostProblem(str(why)) if why else None  # an OSError is the host's
    return Promotion(
        fault=str(known.fault) if known else None,
        cause=known.code if known else None,
        outside=(known.outside or None) if known else None,
        retry_after=known.retry_after if known else None,
        recipe=verdict.recipe,
        sweep=verdict.sweep,
        named=verdict.named,
        outcome=outcome,
        reason=reason,
        detail=detail,
        version=verdict.version,
        commit=verdict.commit,
        base=verdict.base,
        run=verdict.run,
        level=verdict.level,
        seconds=round(verdict.seconds + (time.monotonic() - began if began else 0.0), 2),
    )
