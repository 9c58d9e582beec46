"""test: what is to be proven, by a decision, a person or a pull request; and whether it can be (docs/rules.md 2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from canonq.core.bases import Base, as_tagged, named_version, upgrade_base
from canonq.core.enrolment import Enrolment
from canonq.core.errors import RecipeProblem, WrongUse, verdict_gone
from canonq.core.names import ref_name, shown
from canonq.core.records import Canonical, Decision, Verdict
from canonq.core.upstream.pulls import status_of
from canonq.core.versions import Release, parse, read_tags
from canonq.flows.keeping.kept import stays_until
from canonq.flows.keeping.window import must_end_in_time
from canonq.flows.proving.proof import Order, prove
from canonq.flows.proving.run import Target
from canonq.flows.upstream.asked import canonical_asked, release_asked
from canonq.flows.upstream.pulls import show_status
from canonq.flows.upstream.remotes import addresses
from canonq.flows.world import World


def test_decided(world: World, decision: Decision) -> Verdict:
    """Prove what `decide` chose."""
    if decision.action == "promote" and decision.run is not None:
        return _proven(world, decision, decision.run)
    if decision.action != "run" or decision.version is None or decision.commit is None:
        raise WrongUse(f"There is nothing to test for {decision.recipe}: {decision.detail}", code="nothing-to-test")
    enrolment = world.checkout.enrolment(decision.recipe)
    fence = _as_on_disk(world, enrolment, decision)
    must_end_in_time(world, decision.sweep, decision.recipe, f"The test of {decision.recipe} {decision.version}")
    why = (
        f"upgraded from {decision.base} ({decision.base_from})" if decision.base else "there is no older release to upgrade from"
    )
    record = world.registry.read(decision.recipe)
    if decision.base_from == "canonical" and (record is None or record.version != decision.base):
        record = None  # promoted anew or rolled back since: its data is not the base's
    data = _data(enrolment, record) if decision.base_from == "canonical" else None
    base = Base(decision.base, decision.base_commit, decision.base_from, why)
    target = Target(decision.version, decision.commit, base, data=data, fence=fence)
    return prove(world, enrolment, target, Order(decision.sweep, decision.named))


def _as_on_disk(world: World, enrolment: Enrolment, decision: Decision) -> int:
    """The fence under which it was decided. WrongUse where a decision names a commit that the clone has under no such release.

    A message is not believed: whoever can write to Redis would have any commit of the clone, a pull request's too, tested as a
    release, which no policy asks, or from one as its base.
    """
    recipe, record = enrolment.recipe, world.registry.read(enrolment.recipe)
    tags, seen = world.repos.tags(recipe), world.repos.known(recipe)
    canonical = {(record.version, record.commit)} if record else set()
    for version, commit, may_be in (
        (decision.version, decision.commit, set()),
        (decision.base, decision.base_commit, canonical),
    ):
        if (version is None and commit is None) or (version, commit) in may_be:
            continue
        released = isinstance(parse(version or ""), Release) and tags.get(version or "") == commit
        if not released or seen.get(version or "", commit) != commit:
            raise WrongUse(
                f"A decision names {shown(version or 'no version')} of {recipe} at {(commit or 'no commit')[:12]}, which is no "
                "release in the clone.",
                mend=f"`canonq sweep {recipe}` decides again; where this comes back, look at who may write to Redis.",
                code="not-a-release",
            )
    return min(decision.fence or 0, record.fence if record else 0)


def _proven(world: World, decision: Decision, run: str) -> Verdict:
    """The verdict of the run that has proven it already, for this chain to go on with."""
    verdict = world.runs.verdict(decision.recipe, run)
    if verdict is None:
        raise verdict_gone(decision.recipe, run)
    return verdict.model_copy(update={"sweep": decision.sweep, "named": decision.named, "seconds": 0.0})


def test_tag(world: World, recipe: object, tag: str | None, *, quick: bool = False, keep_on_red: float | None = None) -> Verdict:
    """Prove a release by its exact tag. Without one: the newest, or with `quick` the canonical's own.

    `keep_on_red`: seconds that what a red run has deployed stays up, to be looked at. WrongUse when the tag is not released, or
    when `quick` has no canonical to work on.
    """
    order = _asked(world, keep_on_red)
    enrolment = world.checkout.enrolment(recipe)
    record = world.registry.read(enrolment.recipe)
    if quick and tag is None:
        record = canonical_asked(record, enrolment)
        return prove(world, enrolment, _quick(record.version, record.commit, record), order)
    tags = world.repos.tags(enrolment.recipe)
    releases, _ = read_tags(tags, prereleases=enrolment.prereleases)
    found = release_asked(enrolment, tags, tag)
    if quick:
        return prove(
            world,
            enrolment,
            _quick(found.tag, found.commit, canonical_asked(record, enrolment)),
            order,
        )
    base = _base(enrolment, record, releases, found.tag)
    return prove(world, enrolment, _from_base(found.tag, found.commit, base, enrolment, record), order)


def _asked(world: World, keep_on_red: float | None) -> Order:
    if keep_on_red is not None:
        stays_until(world, keep_on_red)
    return Order(keep_on_red=keep_on_red)


def test_ref(world: World, recipe: object, ref: str, *, quick: bool = False, keep_on_red: float | None = None) -> Verdict:
    """Prove a branch, a commit or a pull request's head. Its code is not trusted, and it can never be promoted."""
    order = _asked(world, keep_on_red)
    enrolment = world.checkout.enrolment(recipe)
    record = world.registry.read(enrolment.recipe)
    upstream, mirror = addresses(world, enrolment)
    # Pull requests are opened on the mirror, where there is one (docs/rules.md 1).
    commit = world.repos.fetch_ref(enrolment.recipe, mirror or upstream, ref_name(ref), which="mirror" if mirror else "upstream")
    with _shown(world, mirror, commit, quick=quick) as shows:
        return shows(_prove_ref(world, enrolment, ref, commit, record, order, quick=quick))


@contextlib.contextmanager
def _shown(world: World, mirror: str | None, commit: str, *, quick: bool) -> Iterator[Callable[[Verdict], Verdict]]:
    """Show on the forge that a commit is being tested, and then what came of it; a trouble with that is a note."""
    if mirror is None:
        yield lambda verdict: verdict
        return
    show_status(world, mirror, commit, "pending", "canonq is testing this commit", quick=quick)

    def shows(verdict: Verdict) -> Verdict:
        trouble = show_status(world, mirror, commit, *status_of(verdict), quick=quick)
        return verdict.model_copy(update={"notes": (*verdict.notes, trouble)}) if trouble else verdict

    try:
        yield shows
    except BaseException as error:
        show_status(world, mirror, commit, "error", f"the test did not end: {type(error).__name__}", quick=quick)
        raise


def _prove_ref(
    world: World, enrolment: Enrolment, ref: str, commit: str, record: Canonical | None, order: Order, *, quick: bool
) -> Verdict:
    named = f"ref-{commit[:12]}"
    if quick:
        return prove(world, enrolment, _of_ref(enrolment, _quick(named, commit, canonical_asked(record, enrolment)), ref), order)
    releases, _ = read_tags(world.repos.tags(enrolment.recipe), prereleases=enrolment.prereleases)
    # What the head calls itself decides whether the canonical is older; a head that says nothing comes after everything.
    compose = None
    with contextlib.suppress(RecipeProblem):  # its own run will say so
        compose = world.repos.show(enrolment.recipe, commit, "compose.yml")
    base = _base(enrolment, record, releases, named_version(compose))
    return prove(world, enrolment, _of_ref(enrolment, _from_base(named, commit, base, enrolment, record), ref), order)


def _of_ref(enrolment: Enrolment, target: Target, ref: str) -> Target:
    """The target as one of code that is not trusted: the canonical's data only where the enrolment says so."""
    if target.data is None or enrolment.refs.data:
        return replace(target, ref=ref)
    note = "on-empty-volumes: a branch or pull request gets no data of the canonical's; [refs] data = true gives it a copy"
    base = replace(target.base, notes=(*target.base.notes, note))
    if target.quick:
        base = replace(base, why="on empty volumes, as it is a branch or pull request")
    return replace(target, ref=ref, data=None, base=base)


def _base(enrolment: Enrolment, record: Canonical | None, releases: tuple[Release, ...], version: str) -> Base:
    tags = {release.tag: release.commit for release in releases}
    base = upgrade_base(enrolment.upgrade.base, as_tagged(record, tags), releases, version)
    if base.problem:
        raise WrongUse(base.problem, code="base-unusable")
    return base


def _from_base(version: str, commit: str, base: Base, enrolment: Enrolment, record: Canonical | None) -> Target:
    data = _data(enrolment, record) if base.source == "canonical" else None
    return Target(version, commit, base, data=data, fence=record.fence if record else 0)


def _quick(version: str, commit: str, record: Canonical) -> Target:
    data = record if record.has_data else None
    why = f"on a copy of the data of the canonical {record.version}" if data else "on empty volumes: the record names no data"
    return Target(version, commit, Base(None, None, "none", why), quick=True, data=data, fence=record.fence)


def _data(enrolment: Enrolment, record: Canonical | None) -> Canonical | None:
    return None if record is None or enrolment.promote.data == "fresh" or not record.has_data else record
