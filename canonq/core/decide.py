"""decide: whether a recipe's newest release is to be proven tonight, and from which base (SPEC section 2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from canonq.core.budget import Disk
from canonq.core.enrolment import Enrolment
from canonq.core.records import Canonical, Decision
from canonq.core.text import shown
from canonq.core.versions import NotARelease, Release, newest_older, read_tags, same_version, tie_broken_by_app, version_key


@dataclass(frozen=True)
class Facts:
    """All that a decision about one recipe depends on."""

    enrolment: Enrolment
    tags: dict[str, str]  #: tag -> peeled commit
    canonical: Canonical | None
    disk: Disk
    record_problem: str | None = None  #: why canonical.json cannot be read
    reds: int = 0  #: red runs of the newest release's very commit with this enrolment
    hold_reds: int = 3  #: 0 never holds
    named: bool = False
    sweep: str | None = None


def decide(facts: Facts) -> Decision:
    """Apply the SPEC's table, most serious row first. Every answer carries its reason."""
    releases, refused = read_tags(facts.tags, prereleases=facts.enrolment.prereleases)
    latest = releases[-1] if releases else None
    common: dict[str, Any] = {
        "recipe": facts.enrolment.recipe,
        "sweep": facts.sweep,
        "named": facts.named,
        "queue": facts.enrolment.queue,
        "latest": latest.tag if latest else None,
        "canonical": facts.canonical.version if facts.canonical else None,
        "notes": _notes(releases, refused, latest),
    }
    if facts.record_problem is not None:
        return Decision(action="error", reason="record-unreadable", detail=facts.record_problem, **common)
    if moved := _moved(facts):
        return Decision(action="error", reason="tag-moved", detail=moved, **common)
    if (yanked := _yanked(facts, latest)) is not None:
        return Decision(action="skip", reason="yanked", detail=yanked, **common)
    if latest is None:
        return Decision(action="skip", reason="never-released", detail=_never_released(refused), **common)
    if facts.canonical is not None and latest.key <= version_key(facts.canonical.version):
        return Decision(
            action="skip",
            reason="no-new-version",
            detail=f"The newest release {latest.tag} is not newer than the canonical {facts.canonical.version}.",
            **common,
        )
    back = facts.canonical.rolled_back if facts.canonical else None
    if back is not None and (back.version, back.commit) == (latest.tag, latest.commit) and not facts.named:
        return Decision(
            action="skip",
            reason="held-rollback",
            detail=(
                f"{latest.tag} is held: {back.by} rolled it back at {back.at} ({back.reason}). "
                f"A newer release, or `canonq sweep {facts.enrolment.recipe}`, releases it."
            ),
            **common,
        )
    return _decide_new(facts, releases, latest, common)


def _decide_new(facts: Facts, releases: tuple[Release, ...], latest: Release, common: dict[str, Any]) -> Decision:
    target = {"version": latest.tag, "commit": latest.commit}
    if not facts.named and 0 < facts.hold_reds <= facts.reds:
        return Decision(
            action="skip",
            reason="held-red",
            detail=(
                f"{latest.tag} is held: {facts.reds} red run(s) on this very commit and enrolment. "
                "A new tag, a changed enrolment or "
                f"`canonq sweep {facts.enrolment.recipe}` releases it."
            ),
            **target,
            **common,
        )
    base = upgrade_base(facts.enrolment.upgrade.base, facts.canonical, releases, latest.tag)
    if base.problem:
        return Decision(action="error", reason="base-unusable", detail=base.problem, **target, **common)
    if facts.disk.short > 0:
        return Decision(
            action="defer",
            reason="disk-below-budget",
            detail=facts.disk.why_short,
            **target,
            **common,
        )
    return Decision(
        action="run",
        reason="seed" if facts.canonical is None else "new-version",
        detail=f"Prove {latest.tag} from a cold start; {base.why}.",
        base=base.version,
        base_commit=base.commit,
        base_from=base.source,
        **target,
        **common,
    )


@dataclass(frozen=True)
class Base:
    """The upgrade base of a run, and why it is this one."""

    version: str | None
    commit: str | None
    source: Any  #: pinned, canonical, older-release or none
    why: str
    problem: str = ""


def upgrade_base(pinned: str | None, canonical: Canonical | None, releases: tuple[Release, ...], version: str) -> Base:
    """Resolve the upgrade base (SPEC section 3): pinned, older canonical, newest older release, none."""
    if pinned is not None:
        found = next((release for release in releases if release.tag == pinned), None)
        if found is None or found.key >= version_key(version):
            return Base(
                None,
                None,
                "none",
                "",
                problem=(
                    f"recipe.toml pins the upgrade base {shown(pinned)}, which is not a release older than {version}. "
                    "Mend: name an exact older tag, or remove [upgrade] base."
                ),
            )
        return Base(found.tag, found.commit, "pinned", f"the upgrade base {found.tag} is pinned by the enrolment")
    if canonical is not None and version_key(canonical.version) < version_key(version):
        return Base(canonical.version, canonical.commit, "canonical", f"upgrade from the canonical {canonical.version}")
    if older := newest_older(releases, version):
        return Base(older.tag, older.commit, "older-release", f"upgrade from the older release {older.tag}")
    return Base(None, None, "none", "there is no older release to upgrade from")


def _moved(facts: Facts) -> str | None:
    canonical = facts.canonical
    if canonical is None:
        return None
    now = facts.tags.get(canonical.version)
    if now is None or now == canonical.commit:
        return None
    return (
        f"The canonical's tag {canonical.version} named {canonical.commit[:12]} when it was promoted and now names "
        f"{now[:12]}. Nothing is decided. Mend: ask upstream why; a release tag must not move."
    )


def _yanked(facts: Facts, latest: Release | None) -> str | None:
    """What to tell when upstream took the canonical's tag away and has released nothing newer."""
    canonical = facts.canonical
    if canonical is None or canonical.version in facts.tags:
        return None
    if latest is not None and latest.key > version_key(canonical.version):
        return None  # a newer release is the answer to it
    return (
        f"Upstream has deleted the tag {canonical.version} of the canonical, and has released nothing newer. The canonical stays "
        f"as it is. Ask upstream why; `canonq rollback {facts.enrolment.recipe} --reason ...` goes back to the one before."
    )


def _never_released(refused: tuple[NotARelease, ...]) -> str:
    if not refused:
        return "The recipe has no tags."
    listed = "; ".join(f"{no.tag}: {no.reason}" for no in refused[:3])
    more = f" (and {len(refused) - 3} more)" if len(refused) > 3 else ""
    return f"None of {len(refused)} tags is a release: {listed}{more}."


def _notes(releases: tuple[Release, ...], refused: tuple[NotARelease, ...], latest: Release | None) -> tuple[str, ...]:
    notes = [f"tag {no.tag} is not a release: {no.reason}" for no in refused[:20]]
    if len(refused) > 20:
        notes.append(f"{len(refused) - 20} more tags are not releases")
    if latest and (twin := same_version(releases, latest.tag)):
        notes.append(f"{latest.tag} and {twin} are the same version; the order of their names decided")
    elif latest and (tied := tie_broken_by_app(releases, latest.tag)):
        notes.append(f"{latest.tag} and {tied} share a recipe version; the app version decided")
    return tuple(notes)
