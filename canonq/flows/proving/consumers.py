"""Before a version is promoted: the own tests of recipes that depend on it, on their canonical, beside the candidate."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from canonq.adapters.files import table_in, write_json
from canonq.core.bases import Base
from canonq.core.consumers import Tried, Word, consumers_of
from canonq.core.enrolment import LONGEST_RUN, Enrolment
from canonq.core.errors import Busy, CanonqError
from canonq.core.records import Canonical, Verdict
from canonq.core.sweeps.window import LATE
from canonq.flows.hosts import where_is
from canonq.flows.keeping.window import late
from canonq.flows.proving.proof import Order, prove_beside
from canonq.flows.proving.run import Target
from canonq.flows.world import World

log = logging.getLogger("canonq")

CONSUMERS = "consumers"  #: in the folder of the run that proved the candidate
_KEPT = "tried.json"
_LONGEST = LONGEST_RUN / 2  #: seconds for all of them in one go; what is known by then stays known


def try_consumers(world: World, verdict: Verdict) -> list[Tried]:
    """What the tests of each consumer say. Nothing is asked twice of the same consumer. Busy where not all could be asked yet."""
    if world.registry.read(verdict.recipe) is None or verdict.version is None or verdict.commit is None:
        return []  # nobody can have relied on it
    ends, found = time.monotonic() + _LONGEST, list[Tried]()
    enrolled = world.checkout.enrolled().recipes
    for name in consumers_of(verdict.recipe, enrolled):
        if time.monotonic() > ends:
            raise _not_yet(name, "there was no time left for it")
        found.append(_tried(world, verdict, world.checkout.enrolment(name)))
    return found


def _not_yet(consumer: str, why: str) -> Busy:
    return Busy(
        f"{consumer} depends on it, and could not be tried with the candidate yet: {why}",
        mend="it is tried again by itself; what was found of others stays known.",
        code="consumer-not-tried",
    )


def _tried(world: World, verdict: Verdict, enrolment: Enrolment) -> Tried:
    name = enrolment.recipe
    record, digest = world.registry.read(name), world.checkout.digest(name)
    version, commit = (record.version, record.commit) if record else ("", "")

    def comes_to(word: Word, detail: str) -> Tried:
        return Tried(consumer=name, word=word, version=version, commit=commit, enrolment=digest, detail=detail)

    if (elsewhere := where_is(world, name)) is not None:
        return comes_to("not-tried", f"its canonical is on the host {elsewhere}")
    if record is None:
        return comes_to("not-tried", "it has no canonical")
    if not any(world.checkout.folder(name).glob("test_*.py")):
        return comes_to("not-tried", "it has no tests of its own")
    folder = Path(verdict.directory) / CONSUMERS / name
    if (kept := _kept(folder)) is not None and kept.is_about(version, commit, digest):
        return kept
    if why := late(world, verdict.sweep, name):
        raise Busy(
            f"{name} depends on it, and its tests are not begun: {why}.",
            mend=f"the next night begins with it; `canonq sweep {verdict.recipe}` does it now.",
            code=LATE,
        )
    candidate = {verdict.recipe: (str(verdict.version), str(verdict.commit))}
    log.info("%s %s: the tests of %s run beside it", verdict.recipe, verdict.version, name)
    with_it = _run(world, enrolment, record, verdict, candidate, folder / "candidate")
    if with_it.verdict == "green":
        found = comes_to("passed", with_it.detail)
    elif with_it.reason == "dependency-failed":
        found = comes_to("not-tried", with_it.detail)  # its promotion comes up on the same data, and says what is wrong
    elif with_it.verdict == "error":
        raise _not_yet(name, with_it.detail)
    else:
        without = _run(world, enrolment, record, verdict, {}, folder / "present")
        if without.verdict == "error":
            raise _not_yet(name, without.detail)
        found = comes_to("broken" if without.verdict == "green" else "fails-anyway", with_it.detail)
    write_json(folder / _KEPT, found.model_dump(mode="json"))
    return found


def _kept(folder: Path) -> Tried | None:
    try:
        return Tried.model_validate(table_in(folder / _KEPT))
    except ValueError:
        return None


def _run(
    world: World,
    enrolment: Enrolment,
    record: Canonical,
    verdict: Verdict,
    instead: Mapping[str, tuple[str, str]],
    folder: Path,
) -> Verdict:
    data = record if record.has_data else None
    beside = f"{verdict.recipe} {verdict.version}" if instead else f"the canonical of {verdict.recipe}"
    base = Base(None, None, "none", f"beside {beside}")
    target = Target(record.version, record.commit, base, quick=True, data=data, fence=record.fence, instead=instead)
    try:
        return prove_beside(world, enrolment, target, Order(verdict.sweep, verdict.named), folder)
    except Busy:
        raise
    except CanonqError as error:
        raise _not_yet(enrolment.recipe, str(error)) from error
