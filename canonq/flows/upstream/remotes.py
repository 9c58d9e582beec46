"""Where a recipe comes from, and where its mirror is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError, EnrolmentInvalid
from canonq.core.text import shown
from canonq.core.upstream.addresses import address, identity, moved
from canonq.flows.world import World
from canonq.ports import Listing


def addresses(world: World, enrolment: Enrolment) -> tuple[str, str | None]:
    """Upstream and mirror as git is given them, from the enrolment and from nowhere else. EnrolmentInvalid."""
    root = str(world.checkout.root)
    upstream = address(enrolment.upstream, root)
    mirror = address(enrolment.mirror, root, key="mirror") if enrolment.mirror else None
    if mirror is not None and identity(mirror) == identity(upstream):
        raise EnrolmentInvalid(
            f"mirror = {shown(mirror)} of {enrolment.recipe} is its upstream, which canonq does not push to.",
            mend="name a repository of your own, or remove the key.",
            code="bad-mirror",
        )
    return upstream, mirror


def must_be_its_own(world: World, enrolment: Enrolment, mirror: str, enrolled: Iterable[Enrolment]) -> None:
    """EnrolmentInvalid where another of the `enrolled` names the same mirror: each would take the other's tags away."""
    _is_its_own(enrolment, mirror, _mirrors(world, enrolled))


def _mirrors(world: World, enrolled: Iterable[Enrolment]) -> dict[tuple[str, str], list[str]]:
    """Which repository a mirror is -> the recipes that name it."""
    found: dict[tuple[str, str], list[str]] = {}
    for one in enrolled:
        if one.mirror and (repository := _identity_of(one.mirror, str(world.checkout.root))) is not None:
            found.setdefault(repository, []).append(one.recipe)
    return found


def _is_its_own(enrolment: Enrolment, mirror: str, mirrors: Mapping[tuple[str, str], Sequence[str]]) -> None:
    others = [name for name in mirrors.get(identity(mirror), ()) if name != enrolment.recipe]
    if others:
        raise EnrolmentInvalid(
            f"{enrolment.recipe} and {others[0]} have the same mirror, {shown(mirror)}; canonq does not push there.",
            mend="give each recipe a mirror of its own.",
            code="bad-mirror",
        )


def _identity_of(mirror: str, root: str) -> tuple[str, str] | None:
    """Which repository an address names; None for one that is no address, which its own recipe is told of."""
    try:
        return identity(address(mirror, root, key="mirror"))
    except CanonqError:
        return None


def problems_of_addresses(world: World, looked_at: Iterable[Enrolment]) -> dict[str, CanonqError]:
    """What is wrong with where recipes come from or where their mirrors are, for each that has a problem. Nobody is asked."""
    mirrors = _mirrors(world, world.checkout.enrolled().recipes.values())
    problems: dict[str, CanonqError] = {}
    for one in looked_at:
        try:
            _, mirror = addresses(world, one)
            if mirror is not None:
                _is_its_own(one, mirror, mirrors)
        except CanonqError as error:
            problems[one.recipe] = error
    return problems


def told_moves(upstream: str, listing: Listing, mirror: str | None = None, theirs: Listing | None = None) -> tuple[str, ...]:
    """What a person should know of addresses that were answered from elsewhere."""
    said = [moved("upstream", upstream, listing.moved_to)]
    if mirror is not None and theirs is not None:
        said.append(moved("mirror", mirror, theirs.moved_to))
    return tuple(note for note in said if note)
