"""The promotion gate (docs/rules.md 2, promote): a pure function that names every condition that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from canonq.core.ladder import PROVEN_TIERS
from canonq.core.records import Canonical, RolledBack, Verdict
from canonq.core.versions import NotARelease, parse, version_key


@dataclass(frozen=True)
class Refusal:
    """One condition of the gate that failed."""

    code: str
    why: str


@dataclass(frozen=True)
class Again:
    """A person wants the canonical made anew at its own version."""

    by: str
    reason: str


def gate(
    *,
    enrolled: bool,
    verdict: Verdict | None,
    tags: Mapping[str, str] | None,
    canonical: Canonical | None,
    prereleases: bool = False,
    seen: Mapping[str, str] | None = None,
    lost: str | None = None,
    again: Again | None = None,
    hindrance: Refusal | None = None,
) -> tuple[Refusal, ...]:
    """All conditions that fail, in the order of its table; empty means promote.

    `tags` maps the clone's tags to peeled commits, and is None where no clone says what is released; `seen` maps them to
    those they had when they were fetched first. "Is it released" is an exact match, never a prefix or an order. `lost` says that
    canonicals are kept and their record is not, `hindrance` what people have said about the release, or have not said yet.
    """
    refusals: list[Refusal] = [Refusal("record-missing", lost)] if lost is not None else []
    if not enrolled:
        refusals.append(Refusal("not-enrolled", "the recipe is not enrolled"))
    if verdict is None:
        refusals.append(Refusal("no-verdict", "no run of this recipe has a verdict yet; run `canonq test` first"))
        return tuple(refusals)
    if verdict.verdict != "green":
        refusals.append(Refusal("not-green", f"run {verdict.run} is {verdict.verdict}: {verdict.detail}"))
    missing = [tier for tier in PROVEN_TIERS if tier not in verdict.tiers]
    if missing:
        refusals.append(Refusal("not-all-tiers", f"run {verdict.run} did not run: {', '.join(missing)}"))
    if verdict.quick:
        refusals.append(Refusal("not-cold", f"run {verdict.run} was quick; only a cold run can promote"))
    if verdict.ref is not None:
        refusals.append(Refusal("is-a-ref", f"run {verdict.run} tested the ref {verdict.ref}, not a release"))
    if tags is None:
        refusals.append(
            Refusal(
                "clone-missing", f"the clone, which says what is released, is missing; `canonq sync {verdict.recipe}` makes it"
            )
        )
    else:
        refusals += _release_refusals(verdict, tags, seen or {}, prereleases)
    refusals += _again_refusals(verdict, canonical) if again else _order_refusals(verdict, canonical, tags or {})
    if hindrance is not None:
        refusals.append(hindrance)
    return tuple(refusals)


def awaiting_promotion(verdicts: Sequence[Verdict], enrolment: str, canonical: Canonical | None) -> Verdict | None:
    """The newest cold verdict on a release, where only its promotion is missing by all that is on record; else None.

    `enrolment`: the digest of the enrolment as it is; with another one the release is proven again.
    """
    newest = next((one for one in reversed(verdicts) if one.ref is None and not one.quick), None)
    if newest is None or newest.enrolment != enrolment or newest.version is None or newest.commit is None:
        return None
    refused = gate(enrolled=True, verdict=newest, tags={newest.version: newest.commit}, canonical=canonical, prereleases=True)
    return None if refused else newest


def _release_refusals(verdict: Verdict, tags: Mapping[str, str], seen: Mapping[str, str], prereleases: bool) -> list[Refusal]:
    version = verdict.version
    if version is None or version not in tags:
        return [Refusal("not-a-release", f"{version or 'the tested commit'} is not a tag of the recipe")]
    release = parse(version)
    if isinstance(release, NotARelease):
        return [Refusal("not-a-release", f"{version} is not a release: {release.reason}")]
    refusals = []
    if release.prerelease and not prereleases:
        refusals.append(Refusal("is-a-prerelease", f"{version} is a pre-release and the enrolment asks for none"))
    if tags[version] != verdict.commit:
        refusals.append(
            Refusal(
                "tag-moved",
                f"{version} was tested at {(verdict.commit or '?')[:12]} and now names {tags[version][:12]}",
            )
        )
    elif seen.get(version, tags[version]) != tags[version]:
        refusals.append(Refusal("tag-moved", f"{version} named {seen[version][:12]} when it was fetched first"))
    return refusals


def _order_refusals(verdict: Verdict, canonical: Canonical | None, tags: Mapping[str, str]) -> list[Refusal]:
    """Newer than the canonical, not held by a rollback since, and proven from this very canonical."""
    version = verdict.version
    if version is None or isinstance(parse(version), NotARelease):
        return []  # told already
    if canonical is None:
        return []
    refusals = []
    if version_key(version) <= version_key(canonical.version):
        refusals.append(Refusal("not-newer", f"{version} is not newer than the canonical {canonical.version}"))
    back = canonical.held(version, verdict.commit or "")
    if back is not None and (verdict.fence is None or verdict.fence < back.fence):
        refusals.append(
            Refusal(
                "held-rollback",
                f"{back.by} rolled {back.version} back{_past(back, version)} at {back.at} ({back.reason}), after run "
                f"{verdict.run} was asked for; `canonq sweep {verdict.recipe}` proves and promotes it again",
            )
        )
    if not _from(verdict, canonical, tags):
        pinned = " (pinned)" if verdict.base_from == "pinned" else ""
        is_it = verdict.base == canonical.version
        since = "before that was the canonical" if is_it else f"and the canonical is {canonical.version} by now"
        base = verdict.base or "no older version"
        refusals.append(Refusal("base-changed", f"run {verdict.run} was proven from {base}{pinned}, {since}"))
    return refusals


def _past(back: RolledBack, version: str) -> str:
    return "" if version == back.version else f", past {version},"


def _from(verdict: Verdict, canonical: Canonical, tags: Mapping[str, str]) -> bool:
    """Whether a run began from the present canonical, and not from a release that became it since: on its data nothing is proven.

    With a pinned base: whether this canonical was there when it was asked for.
    """
    if verdict.base_from == "pinned":
        return verdict.fence == canonical.fence
    commits = (canonical.commit, tags.get(canonical.version))  # a record of an older server may name another
    return verdict.base_from == "canonical" and verdict.base == canonical.version and verdict.base_commit in commits


def _again_refusals(verdict: Verdict, canonical: Canonical | None) -> list[Refusal]:
    """The canonical's own version, from a run that was asked for after it had come into force."""
    if canonical is None:
        return [Refusal("no-canonical", "there is no canonical to be made again")]
    refusals = []
    if verdict.version != canonical.version:
        refusals.append(
            Refusal(
                "not-its-version",
                f"--again makes the canonical {canonical.version} again, and run {verdict.run} proved {verdict.version}; "
                f"`canonq test {verdict.recipe} --tag '{canonical.version}'` proves it",
            )
        )
    if verdict.run == canonical.run or verdict.fence is None or verdict.fence < canonical.fence:
        refusals.append(
            Refusal(
                "not-a-new-run",
                f"run {verdict.run} was asked for before the present canonical came into force; "
                f"`canonq test {verdict.recipe} --tag '{canonical.version}'` makes a new one",
            )
        )
    return refusals
