"""What a person asked for: whether there is such a recipe, release or ref, told before anything is started for it."""

from __future__ import annotations

from collections.abc import Mapping

from canonq.core.decide import never_released
from canonq.core.enrolment import Enrolment
from canonq.core.errors import HostProblem, SyncFailed, WrongConfiguration, WrongUse
from canonq.core.names import recipe_name, ref_name, shown
from canonq.core.records import Canonical
from canonq.core.text import did_you_mean, ended
from canonq.core.versions import Release, read_tags
from canonq.flows.upstream.remotes import addresses
from canonq.flows.world import World


def recipe_asked(world: World, recipe: object) -> str:
    """The name of a recipe that is enrolled, or of which something is on record, whatever became of its enrolment since.

    For whoever looks at what is kept, or goes back to it: none of that needs the enrolment. WrongUse says who is enrolled.
    """
    try:
        return world.checkout.enrolment(recipe).recipe
    except (WrongConfiguration, WrongUse):
        name = recipe_name(recipe)
        if name in world.registry.recipes() or world.runs.folders(name):
            return name
        raise


def release_asked(enrolment: Enrolment, tags: Mapping[str, str], tag: str | None) -> Release:
    """The release of that very tag, or the newest. WrongUse, naming the newest ones, when there is none."""
    releases, refused = read_tags(dict(tags), prereleases=enrolment.prereleases)
    if tag is None:
        if not releases:
            raise WrongUse(
                f"{enrolment.recipe} has no release to test. {never_released(refused)}",
                mend=f"name what is to be tested: `canonq test {enrolment.recipe} --ref BRANCH`.",
                code="never-released",
            )
        return releases[-1]
    wanted = ref_name(tag)
    found = next((release for release in releases if release.tag == wanted), None)
    if found is None:
        why = next((no.reason for no in refused if no.tag == wanted), "there is no such tag")
        listed = ", ".join(release.tag for release in releases[-5:]) or "none"
        near = did_you_mean(tag, [release.tag for release in releases])
        raise WrongUse(
            ended(f"{shown(tag)} is not a release of {enrolment.recipe}: {why}{near}"),
            mend=f"the newest releases are: {listed}."
            if tags
            else f"no tags of it are known here; `canonq sync {enrolment.recipe}` reads them.",
            code="not-a-release",
        )
    return found


def release_named(world: World, enrolment: Enrolment, tag: str) -> Release:
    """The release of that very tag: as the clone has it, else as upstream does, for it may just have come out.

    WrongUse where neither has it; SyncFailed where the clone has not, and upstream cannot be asked.
    """
    recipe = enrolment.recipe
    try:
        tags: Mapping[str, str] = world.repos.tags(recipe)
    except HostProblem as error:
        if error.code != "clone-missing":
            raise
        tags = {}
    if ref_name(tag) not in tags:
        try:
            tags = world.repos.listing(addresses(world, enrolment)[0]).tags
        except SyncFailed as error:
            known = f"{shown(tag)} is no release of {recipe} that is known here"
            error.what = f"{known}, and upstream could not be asked: {error.what}"
            error.mend = f"{error.mend} `canonq sync {recipe}` reads newer ones."
            raise
    return release_asked(enrolment, tags, tag)


def canonical_asked(record: Canonical | None, enrolment: Enrolment) -> Canonical:
    """The canonical that a quick run works on. WrongUse when there is none."""
    if record is None:
        raise WrongUse(
            f"{enrolment.recipe} has no canonical, so there is no data for a quick run.",
            mend=f"`canonq sweep {enrolment.recipe}` first.",
            code="no-canonical",
        )
    return record


def check_asked(world: World, enrolment: Enrolment, *, tag: str | None, ref: str | None, quick: bool) -> None:
    """One look at the remote. WrongUse for a tag or ref that it has not, or a quick run of nothing; SyncFailed when it cannot be
    read."""
    if quick:
        canonical_asked(world.registry.read(enrolment.recipe), enrolment)
    upstream, mirror = addresses(world, enrolment)
    if ref is not None:
        world.repos.find_ref(mirror or upstream, ref_name(ref), which="mirror" if mirror else "upstream")
    elif tag is not None or not quick:
        release_asked(enrolment, world.repos.listing(upstream).tags, tag)
