"""steering: what people have said about a release, and what it asks of them; and saying more of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime

from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, HostProblem, WrongUse
from canonq.core.gate import Refusal
from canonq.core.recipe.assembly import SAMPLE, app_env, assemble
from canonq.core.records import STAMP_FORMAT, Canonical
from canonq.core.steering import What, Word, blocked, is_said, needs_approval, noted_between, too_young
from canonq.core.versions import read_tags
from canonq.flows.hosts import tell_of
from canonq.flows.upstream.asked import release_named
from canonq.flows.world import World


def say(world: World, recipe: str, version: str, what: What, *, by: str, reason: str, until: str | None = None) -> Word:
    """Put a word about a release on record.

    WrongUse when there is no such release, or nothing to take back; SyncFailed when that had to be asked of upstream, in vain.
    """
    enrolment = world.checkout.enrolment(recipe)
    if not reason.strip():
        raise WrongUse("--reason is empty.", mend="say why: whoever reads it next month will ask.")
    words = world.steering.words(enrolment.recipe)
    if what == "unblock":
        if blocked(words, version, world.stamp()) is None:
            raise WrongUse(
                f"{version} of {recipe} is not blocked.", mend=f"blocked are: {_blocked(world, recipe)}.", code="not-blocked"
            )
        commit = next(word.commit for word in reversed(words) if word.version == version)
    else:
        found = release_named(world, enrolment, version)
        version, commit = found.tag, found.commit
    word = Word(what=what, version=version, commit=commit, by=by, at=world.stamp(), reason=reason.strip(), until=until)
    world.steering.say(enrolment.recipe, word)
    tell_of(world, enrolment.recipe)  # it counts here alone, so here the recipe is to be worked on
    return word


def _blocked(world: World, recipe: str) -> str:
    words = world.steering.words(recipe)
    versions = sorted({word.version for word in words if blocked(words, word.version, world.stamp())})
    return ", ".join(versions) or "none"


def hindrance(world: World, enrolment: Enrolment, canonical: Canonical | None, version: str, commit: str) -> Refusal | None:
    """Why a release may not be promoted by what people have said of it, or have not said yet."""
    words, now = world.steering.words(enrolment.recipe), world.stamp()
    if (refusal := blocked(words, version, now)) is not None:
        return refusal
    if canonical is None or enrolment.promote.approval == "never" or is_said(words, "approve", version, commit, now):
        return None
    images = _images(world, enrolment, canonical.version, canonical.commit), _images(world, enrolment, version, commit)
    return needs_approval(enrolment.recipe, canonical.version, version, images, _notes(world, enrolment, canonical, version))


def waits_for_age(world: World, enrolment: Enrolment, version: str, commit: str, *, notes: bool) -> str | None:
    """What to tell of a release that is too young to be proven. `notes`: whether this look counts as seeing it."""
    if not enrolment.min_age:
        return None
    now = world.stamp()
    seen = world.steering.note_seen(enrolment.recipe, version, commit, now) if notes else None
    seen = seen or world.steering.first_seen(enrolment.recipe, version, commit) or now
    with contextlib.suppress(ValueError):
        age = (world.now() - datetime.strptime(seen, STAMP_FORMAT).replace(tzinfo=UTC)).total_seconds()
        hurried = is_said(world.steering.words(enrolment.recipe), "hurry", version, commit, now)
        return too_young(version, max(0.0, age), enrolment.min_age, hurried)
    return None


def _images(world: World, enrolment: Enrolment, version: str, commit: str) -> Mapping[str, str]:
    """The images that a release deploys, by service, with its overlays and variables; none where its files cannot be read."""
    recipe = enrolment.recipe

    def read(path: str) -> str | None:
        return world.repos.show(recipe, commit, path)

    with contextlib.suppress(CanonqError):
        named, domain = f"{recipe}:{version}", f"{recipe}.example.org"
        env = app_env(read(SAMPLE) or "", named=named, domain=domain, stack=recipe, own=enrolment.env)
        return assemble(read, env).stack.images
    return {}


def _notes(world: World, enrolment: Enrolment, canonical: Canonical, version: str) -> dict[str, str]:
    """What releases since the canonical tell whoever upgrades, in the files that `abra` shows: release/<tag>."""
    found: dict[str, str] = {}
    try:
        tags = world.repos.tags(enrolment.recipe)
    except HostProblem:  # there is no clone, and nothing is promoted before there is
        return found
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    for one in noted_between(releases, canonical.version, version):
        with contextlib.suppress(CanonqError):
            text = world.repos.show(enrolment.recipe, one.commit, f"release/{one.tag}")
            if text and text.strip():
                found[one.tag] = text
    return found
