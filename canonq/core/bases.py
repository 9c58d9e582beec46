"""The upgrade base: from which version a run begins, and what is done when that one does not come up (docs/rules.md 2). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from canonq.core.errors import BaseNotHealthy, CanonqError, HostProblem, RecipeProblem, WrongConfiguration
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.records import BaseFrom, Canonical
from canonq.core.text import ended, shown
from canonq.core.versions import NotARelease, Release, newest_older, parse, version_key

#: A head that does not say which version it is comes after every release.
HEAD = f"{'9' * 9}.0.0+head"

#: How often a run steps back from a base that does not come up to the release before it.
MOST_STEPS = 3


@dataclass(frozen=True)
class Base:
    """The upgrade base of a run, and why it is this one."""

    version: str | None
    commit: str | None
    source: BaseFrom
    why: str
    problem: str = ""
    notes: tuple[str, ...] = ()  #: what a person should know about a pin


def as_tagged(canonical: Canonical | None, tags: Mapping[str, str]) -> Canonical | None:
    """A canonical with the commit that its tag names: records of older servers name merge commits that nobody has."""
    return canonical.model_copy(update={"commit": tags.get(canonical.version, canonical.commit)}) if canonical else None


def named_version(compose: str | None) -> str:
    """The version that a head calls itself in its label `coop-cloud.<stack>.version`, in a list or mapping; HEAD when in none."""
    try:
        services = load_yaml(compose or "", where="compose.yml").get("services")
    except RecipeProblem:  # its own run will say so
        return HEAD
    bodies = services if isinstance(services, dict) else {}
    ordered = sorted(bodies.items(), key=lambda item: item[0] != "app")
    found = (
        value for _, body in ordered for key, value in _labels(body) if key.startswith("coop-cloud.") and key.endswith(".version")
    )
    return next((value for value in found if isinstance(parse(value), Release)), HEAD)


def _labels(body: Any) -> Iterator[tuple[str, str]]:
    deploy = body.get("deploy") if isinstance(body, dict) else None
    for labels in (holder.get("labels") for holder in (deploy, body) if isinstance(holder, dict)):
        if isinstance(labels, dict):
            yield from ((str(key), str(value)) for key, value in labels.items())
        elif isinstance(labels, list):
            yield from ((key, value) for key, _, value in (str(label).partition("=") for label in labels))


def upgrade_base(pinned: str | None, canonical: Canonical | None, releases: tuple[Release, ...], version: str) -> Base:
    """Resolve the upgrade base (docs/rules.md 3): pinned, older canonical, newest older release, none."""
    notes: tuple[str, ...] = ()
    if pinned is not None:
        found = next((release for release in releases if release.tag == pinned), None)
        if not isinstance(parse(pinned), NotARelease) and version_key(pinned) >= version_key(version):
            none = "" if found is not None else ", and no release of the recipe"
            notes = (f"pin-passed-over: the pinned upgrade base {pinned} is not older than {version}{none}",)
        elif found is None:
            return Base(
                None,
                None,
                "none",
                "",
                problem=(
                    f"recipe.toml pins the upgrade base {shown(pinned)}, which is not a release of the recipe. "
                    "Mend: name an exact older tag, or remove [upgrade] base."
                ),
            )
        elif canonical is None or pinned != canonical.version:
            return Base(found.tag, found.commit, "pinned", f"the upgrade base {found.tag} is pinned by the enrolment")
    if canonical is not None and version_key(canonical.version) < version_key(version):
        return Base(
            canonical.version, canonical.commit, "canonical", f"upgrade from the canonical {canonical.version}", notes=notes
        )
    if older := newest_older(releases, version):
        return Base(older.tag, older.commit, "older-release", f"upgrade from the older release {older.tag}", notes=notes)
    return Base(None, None, "none", "there is no older release to upgrade from", notes=notes)


@dataclass(frozen=True)
class Broken:
    """A base that did not come up. It says nothing about the release under test."""

    version: str
    why: str  #: a sentence
    code: str
    certain: bool  #: its files or its registry say so: nothing on this host can have caused it
    service: str = ""


def after_broken(source: BaseFrom, broken: Sequence[Broken], releases: tuple[Release, ...], declared: str | None) -> Base | None:
    """Where to begin instead of the last of `broken`; None where there is nothing left to begin from.

    Only from an older release than the canonical is stepped back: the canonical is what its data has to leave, and a pin is
    what a person meant. `declared`: why the enrolment expects no upgrade, with which the tier may be left out.
    """
    if source != "older-release":
        return None
    if len(broken) <= MOST_STEPS and (older := newest_older(releases, broken[-1].version)):
        why = f"upgrade from the older release {older.tag}, as {_named(broken)} did not come up"
        return Base(older.tag, older.commit, "older-release", why)
    if declared is not None:
        return Base(None, None, "none", f"no older release comes up ({_named(broken)})")
    return None


@dataclass(frozen=True)
class Moved:
    """An image that is another one than when the canonical was proven."""

    service: str
    reference: str
    was: str  #: digest
    now: str

    def __str__(self) -> str:
        return f"{self.service}: {self.reference} was {self.was} and is {self.now}"


def nothing_to_begin_from(
    recipe: str, source: BaseFrom, broken: Sequence[Broken], record: Canonical | None, moved: Sequence[Moved]
) -> CanonqError:
    """The error of a run whose bases do not come up: what it is, whose fault, and the ways out."""
    last = broken[-1]
    pin = "[upgrade] base in its recipe.toml names another release to begin from"
    if source == "pinned":
        return WrongConfiguration(
            ended(f"The upgrade base {last.version}, which recipe.toml pins, does not come up: {last.why}"),
            mend=f"{pin}; without it canonq chooses one.",
            code=BaseNotHealthy.code,
            service=last.service,
            cause=last.code,
            certain=last.certain,
        )
    if source != "canonical" or record is None:
        each = " ".join(ended(f"{one.version}: {one.why}") for one in broken)
        return BaseNotHealthy(
            f"No older release comes up for it to be upgraded from. {each}",
            mend=f"{pin}; where there is none that comes up, say why under [expected_na] upgrade, and the tier is left out.",
            service=last.service,
            cause=last.code,
            certain=last.certain,
        )
    what = ended(f"The canonical {record.version}, which it is to be upgraded from, does not come up any more: {last.why}")
    if moved or last.certain:
        told = f" Since it was proven, images moved: {'; '.join(map(str, moved))}." if moved else ""
        return BaseNotHealthy(
            what + told,
            mend=f"have the recipe's maintainer name images that do not move; {pin}.",
            service=last.service,
            cause=last.code,
            certain=last.certain,
        )
    same = "Its images are those that were proven" if record.images else "Its record does not say which images were proven"
    return HostProblem(
        f"{what} {same}; what else has changed may be this host, what the app reaches from it, or its data. Its address is "
        "another one in each run.",
        mend=f"its log is in the run's folder; `canonq restore {recipe} --stack NAME` shows the canonical by itself. Where the "
        "app keeps in its data at which address it was made, let it have that from its settings ([env]). "
        f"{pin[0].upper()}{pin[1:]}.",
        code=BaseNotHealthy.code,
        service=last.service,
        cause=last.code,
    )


def _named(broken: Sequence[Broken]) -> str:
    return ", ".join(one.version for one in broken)
