"""The promotion gate (SPEC section 2, promote): a pure function that names every condition that fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from canonq.core.ladder import PROVEN_TIERS
from canonq.core.records import Canonical, Verdict
from canonq.core.versions import NotARelease, parse, version_key


@dataclass(frozen=True)
class Refusal:
    """One condition of the gate that failed."""

    code: str
    why: str


def gate(
    *,
    enrolled: bool,
    verdict: Verdict | None,
    tags: Mapping[str, str],
    canonical: Canonical | None,
    prereleases: bool = False,
) -> tuple[Refusal, ...]:
    """All conditions that fail, in the SPEC's order; empty means promote.

    `tags` maps the clone's tags to peeled commits. "Is it released" is an exact match, never a prefix or an order.
    """
    refusals: list[Refusal] = []
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
    refusals += _release_refusals(verdict, tags, canonical, prereleases)
    return tuple(refusals)


def _release_refusals(verdict: Verdict, tags: Mapping[str, str], canonical: Canonical | None, prereleases: bool) -> list[Refusal]:
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
    if canonical is not None and version_key(version) <= version_key(canonical.version):
        refusals.append(Refusal("not-newer", f"{version} is not newer than the canonical {canonical.version}"))
    return refusals
