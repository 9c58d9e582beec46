"""decide: whether a recipe's newest release is to be proven tonight, and from which base (docs/rules.md 2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from canonq.core.bases import as_tagged, upgrade_base
from canonq.core.budget import Disk
from canonq.core.enrolment import Enrolment
from canonq.core.gate import Refusal, gate
from canonq.core.records import Canonical, Decision, RolledBack, Verdict
from canonq.core.versions import (
    NotARelease,
    Release,
    is_newer,
    parse,
    read_tags,
    same_version,
    tie_broken_by_app,
    version_key,
)


@dataclass(frozen=True)
class Facts:
    """All that a decision about one recipe depends on."""

    enrolment: Enrolment
    tags: dict[str, str]  #: tag -> peeled commit
    canonical: Canonical | None
    disk: Disk
    record_problem: str | None = None  #: why canonical.json cannot be read
    lost: str | None = None  #: canonicals are kept and their record is gone: what to tell
    seen: Mapping[str, str] = field(default_factory=dict)  #: tag -> commit that it had when it was fetched first
    proven: Verdict | None = None  #: the newest verdict of the newest release at its very commit, with this enrolment
    failures: int = 0  #: promotions of it that failed
    reds: int = 0  #: red runs of the newest release at its very commit, with this enrolment
    hold_reds: int = 3  #: 0 never holds
    hindrance: Refusal | None = None  #: what people have said about the newest release, or have not said yet
    young: str | None = None  #: what to tell of a newest release that is to be older first
    named: bool = False
    named_at: int | None = None  #: the recipe's fence when a person did that; None: just now
    sweep: str | None = None

    def is_named_since(self, back: RolledBack) -> bool:
        """Whether a person named the recipe, and did so after a rollback: one that was named before is still under way."""
        return self.named and (self.named_at is None or self.named_at >= back.fence)


def decide(facts: Facts) -> Decision:
    """Apply the table of docs/rules.md 2, most serious row first. Every answer carries its reason."""
    releases, refused = read_tags(facts.tags, prereleases=facts.enrolment.prereleases)
    common = _common(facts, releases, refused)
    found = _by_releases(facts, releases, refused, common)
    return found if isinstance(found, Decision) else _decide_new(facts, releases, found, common)


def asks_runs(facts: Facts) -> bool:
    """Whether what earlier runs said can change the decision: `proven`, `failures` and `reds` have no say in the first rows."""
    releases, refused = read_tags(facts.tags, prereleases=facts.enrolment.prereleases)
    return isinstance(_by_releases(facts, releases, refused, _common(facts, releases, refused)), Release)


def _common(facts: Facts, releases: tuple[Release, ...], refused: tuple[NotARelease, ...]) -> dict[str, Any]:
    """What every decision on these facts has."""
    latest = releases[-1] if releases else None
    return {
        "recipe": facts.enrolment.recipe,
        "sweep": facts.sweep,
        "named": facts.named,
        "queue": facts.enrolment.queue,
        "latest": latest.tag if latest else None,
        "canonical": facts.canonical.version if facts.canonical else None,
        "fence": facts.canonical.fence if facts.canonical else 0,
        "notes": (*_notes(releases, refused, latest), *_own_notes(facts)),
    }


def _by_releases(
    facts: Facts, releases: tuple[Release, ...], refused: tuple[NotARelease, ...], common: Mapping[str, Any]
) -> Decision | Release:
    """The rows that ask neither runs nor the disk; the new release where none of them applies."""
    latest = releases[-1] if releases else None
    if facts.record_problem is not None:
        return Decision(action="error", reason="record-unreadable", detail=facts.record_problem, **common)
    if facts.lost is not None:
        return Decision(action="error", reason="record-missing", detail=facts.lost, **common)
    if moved := _moved(facts, latest):
        return Decision(action="error", reason="tag-moved", detail=moved, **common)
    if (yanked := _yanked(facts, latest)) is not None:
        return Decision(action="skip", reason="yanked", detail=yanked, **common)
    if latest is None and (had := read_tags(facts.seen, prereleases=facts.enrolment.prereleases)[0]):
        gone = f"It had {len(had)} release(s), the newest {had[-1].tag}, and its upstream has none of them any more."
        return Decision(action="skip", reason="releases-gone", detail=gone, **common)
    if latest is None:
        return Decision(action="skip", reason="never-released", detail=never_released(refused), **common)
    if facts.canonical is not None and latest.key <= version_key(facts.canonical.version):
        return Decision(
            action="skip",
            reason="no-new-version",
            detail=f"The newest release {latest.tag} is not newer than the canonical {facts.canonical.version}.",
            **common,
        )
    back = facts.canonical.held(latest.tag, latest.commit) if facts.canonical else None
    if back is not None and not facts.is_named_since(back):
        what = "it back" if latest.tag == back.version else f"{back.version} back past it"
        return Decision(
            action="skip",
            reason="held-rollback",
            detail=(
                f"{latest.tag} is held: {back.by} rolled {what} at {back.at} ({back.reason}). "
                f"A newer release, or `canonq sweep {facts.enrolment.recipe}`, releases it."
            ),
            **common,
        )
    return latest


def _decide_new(facts: Facts, releases: tuple[Release, ...], latest: Release, common: dict[str, Any]) -> Decision:
    target = {"version": latest.tag, "commit": latest.commit}
    hindrance = facts.hindrance
    if hindrance is not None and (
        hindrance.code == "blocked" or (facts.proven is not None and is_promotable(facts, facts.proven))
    ):
        held = {"run": facts.proven.run} if facts.proven is not None else {}
        return Decision(action="skip", reason=hindrance.code, detail=f"{hindrance.why}.", **held, **target, **common)
    if facts.proven is not None and is_promotable(facts, facts.proven):
        return _promote(facts, facts.proven, {**target, **common})
    if not facts.named and 0 < facts.hold_reds <= facts.reds:
        return Decision(
            action="skip",
            reason="held-red",
            detail=(
                f"{latest.tag} is held: {facts.reds} red run(s) on this commit with this enrolment. "
                "A new tag, a changed enrolment or "
                f"`canonq sweep {facts.enrolment.recipe}` releases it."
            ),
            **target,
            **common,
        )
    if facts.young is not None:
        return Decision(action="skip", reason="too-young", detail=facts.young, **target, **common)
    base = upgrade_base(facts.enrolment.upgrade.base, as_tagged(facts.canonical, facts.tags), releases, latest.tag)
    common["notes"] = (*common["notes"], *base.notes)
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


def is_promotable(facts: Facts, verdict: Verdict) -> bool:
    """Whether the gate would let a verdict pass as things are."""
    return not gate(
        enrolled=True,
        verdict=verdict,
        tags=facts.tags,
        canonical=facts.canonical,
        prereleases=facts.enrolment.prereleases,
        seen=facts.seen,
    )


def _promote(facts: Facts, proven: Verdict, more: dict[str, Any]) -> Decision:
    """It is proven, and not promoted: another proof would say the same."""
    told = {"run": proven.run, "base": proven.base, "base_commit": proven.base_commit, "base_from": proven.base_from, **more}
    if not facts.named and 0 < facts.hold_reds <= facts.failures:
        return Decision(
            action="skip",
            reason="held-promotion",
            detail=(
                f"{proven.version} is held: run {proven.run} has proven it, and its promotion failed {facts.failures} times. "
                "The workers' logs say how. A new tag, a changed enrolment, "
                f"`canonq promote {proven.recipe}` or `canonq sweep {proven.recipe}` releases it."
            ),
            **told,
        )
    if facts.disk.short > 0:
        return Decision(action="defer", reason="disk-below-budget", detail=facts.disk.why_short, **told)
    tries = f", after {facts.failures} promotion(s) of it that failed" if facts.failures else ""
    detail = f"{proven.version} was proven by run {proven.run} and is not promoted yet{tries}: it goes on to that."
    return Decision(action="promote", reason="not-promoted-yet", detail=detail, **told)


def _own_notes(facts: Facts) -> list[str]:
    """What a person should know about the record and the enrolment, whatever is decided."""
    notes = []
    canonical = facts.canonical
    if canonical is None:
        return []
    now = facts.tags.get(canonical.version)
    if now not in (None, canonical.commit):
        notes.append(
            f"record-commit-differs: the record of {canonical.version} names the commit {canonical.commit[:12]}, which was never "
            f"seen to be its tag's ({str(now)[:12]}): an older server wrote it, or a person accepted the move. "
            f"The next promotion mends it, or `canonq promote {canonical.recipe} --again`"
        )
    return [*notes, *stale_pin(facts.enrolment, canonical)]


def stale_pin(enrolment: Enrolment, canonical: Canonical) -> list[str]:
    """What to tell of a pinned upgrade base that the canonical has reached."""
    pinned, why = enrolment.upgrade.base, f" ({enrolment.upgrade.why})" if enrolment.upgrade.why else ""
    if pinned is None or isinstance(parse(pinned), NotARelease) or is_newer(pinned, canonical.version):
        return []
    return [f"stale-pin: the canonical is {canonical.version}, so [upgrade] base = {pinned!r}{why} can be removed"]


def to_mend(notes: Iterable[str]) -> tuple[str, ...]:
    """Those notes of a decision that ask a person to mend something."""
    return tuple(note for note in notes if note.startswith(("record-commit-differs: ", "stale-pin: ", "pin-passed-over: ")))


def _moved(facts: Facts, latest: Release | None) -> str | None:
    """What to tell when a tag that matters was once seen to name another commit than now."""
    canonical, recipe = facts.canonical, facts.enrolment.recipe
    now = facts.tags.get(canonical.version) if canonical else None
    if canonical is not None and now is not None and now != canonical.commit:
        seen = facts.seen.get(canonical.version)
        # A record that a promotion wrote had its commit from the tag; a tag seen as it is now was accepted by a person.
        if seen == canonical.commit or (seen is None and canonical.run is not None):
            return (
                f"The canonical's tag {canonical.version} named {canonical.commit[:12]} when it was promoted and now names "
                f"{now[:12]}. Nothing is decided. Mend: ask upstream why; a release tag must not move. "
                f"`canonq sync {recipe} --accept-moved '{canonical.version}'` accepts it."
            )
    if latest is not None and facts.seen.get(latest.tag, latest.commit) != latest.commit:
        return (
            f"The tag {latest.tag} named {facts.seen[latest.tag][:12]} when it was fetched first and now {latest.commit[:12]}. "
            f"Nothing is decided. Mend: ask upstream why; `canonq sync {recipe} --accept-moved '{latest.tag}'` accepts it."
        )
    return None


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


def never_released(refused: tuple[NotARelease, ...]) -> str:
    """Why none of a recipe's tags is a release."""
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
