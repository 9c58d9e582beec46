"""Which canonicals stay, and which one is the one before: by succession, never by a clock (docs/rules.md 4). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from canonq.core.records import Canonical, RolledBack

KEPT = "canonicals"  #: the folder, below a recipe's warm folder, that has one folder for each kept canonical


@dataclass(frozen=True)
class Generation:
    """One folder of a kept canonical."""

    name: str
    record: Canonical | None  #: as it was promoted; None when it cannot be read
    mark: Canonical | None = None  #: the record as it was when this one came into force last; None when it never did
    problem: str = ""  #: why the record cannot be read
    hidden: bool = False  #: whether it is only that this user may not read it
    followed: bool = False  #: whether a record names it as the one before, which says the same as a mark that was lost
    missing: bool = False  #: whether the snapshot that its record names is gone

    @property
    def known(self) -> list[Canonical]:
        """What is known of it: the record, and the mark."""
        return [each for each in (self.record, self.mark) if each is not None]

    @property
    def fence(self) -> int:
        """Its place in the succession: fences only grow. 0 when it is not known."""
        return self.record.fence if self.record else self.mark.fence if self.mark else 0

    def was_in_force(self, present: str | None) -> bool:
        """Whether it was the canonical at some time. Those of the first schema have no mark, so they are believed."""
        first_schema = self.record is not None and self.record.schema_ < 2
        return self.mark is not None or self.followed or self.name == present or first_schema


def with_followers(found: Sequence[Generation], canonical: Canonical | None) -> list[Generation]:
    """The same, each told whether any record, the canonical's own among them, names it as the one before."""
    records = [known for one in found for known in (one.record, one.mark, canonical) if known is not None]
    before = {_before(known.previous) for known in records}
    return [replace(one, followed=one.name in before) for one in found]


def generation_of(path: str) -> str | None:
    """The generation that a snapshot's path names, absolute or relative to the state folder; None when it names none."""
    parts = path.split("/")
    if len(parts) < 3 or parts[-3] != KEPT or {"", ".", ".."} & set(parts[-2:]):
        return None
    return parts[-2]


def lineage(present: str | None, found: Sequence[Generation]) -> list[Generation]:
    """The present canonical and those it came from, newest first, as far as their records can be read.

    One that was rolled back is in nobody's lineage, unless somebody went back to it.
    """
    readable = {one.name: one for one in found if one.record is not None}
    line: list[Generation] = []
    name = present
    while name in readable and readable[name] not in line:
        one = readable[name]
        line.append(one)
        name = _before(one.record.previous if one.record else None)
    return line


def going_back(now: Canonical, present: str | None, found: Sequence[Generation]) -> list[Generation]:
    """What a rollback may go back to by itself, the one before first; never what came later or was rolled back. Those whose
    snapshot is not whole, as far as that is known, are last."""
    line = lineage(present, found)
    rest: list[Generation] = []
    if line and _before(line[-1].record.previous if line[-1].record else None) is not None:
        # The record of the one before cannot be read, so who came before that one is told by the fences.
        left = {(back.version, back.commit) for back in now.rolled_back}
        rest = [
            one
            for one in _newest_first(found)
            if one.record is not None and one.fence < line[-1].fence and (one.record.version, one.record.commit) not in left
        ]
    damaged = _damaged(found)
    return sorted([*line[1:], *rest], key=lambda one: one.name in damaged)


@dataclass(frozen=True)
class Retention:
    """What stays and what goes, each with the reason."""

    keep: list[Generation]
    drop: list[tuple[Generation, str]]


def retain(present: str | None, found: Sequence[Generation], keep: int) -> Retention:
    """Keep the last `keep` canonicals of the present one's lineage; where there are fewer, others fill up, and what was rolled
    back comes last: it pushes nobody out, also where the rollback went past several.

    One whose record cannot be read, or whose snapshot is known not to be whole, takes nobody's place; it goes when all that are
    kept are newer.
    """
    line = lineage(present, found)
    others = [one for one in _newest_first(found) if one not in line and one.record is not None]
    rest = sorted(others, key=lambda one: _was_left(one, found))
    damaged = _damaged(found) - {present}
    whole = [one for one in [*line, *rest] if one.name not in damaged]
    kept = whole[: max(1, keep)]
    oldest = min((one.fence for one in kept), default=0)
    gone = [(one, f"the last {keep} are kept") for one in whole if one not in kept]
    gone += [
        (one, f"its snapshot is not whole, and the last {keep} are newer")
        for one in [*line, *rest]
        if one.name in damaged and one.fence < oldest and len(kept) >= keep
    ]
    gone += [
        (one, f"its record cannot be read, and the last {keep} are newer")
        for one in found
        if one.record is None and one.name != present and 0 < one.fence < oldest and len(kept) >= keep
    ]
    return Retention(kept, gone)


def _damaged(found: Sequence[Generation]) -> set[str]:
    """Those whose snapshot is gone, or was found not to be whole when one of the same data was made anew: nobody reads all of
    them again."""
    anew = (known.remade for one in found for known in one.known)
    return {one.name for one in found if one.missing} | {made.damaged for made in anew if made is not None and made.damaged}


def _was_left(one: Generation, found: Sequence[Generation]) -> bool:
    """Whether a person went back from it, and nobody to it since, by what any record says.

    Where a version was made anew, a rollback left the newest that was there then, and not the one before it.
    """
    which = _named(one)
    # Each time that is known: one that was gone back to was in force before that as well.
    alike = [known.fence for other in found if _named(other) == which for known in other.known]
    backs = [back for each in found for known in each.known for back in known.rolled_back]
    mine = max((known.fence for known in one.known), default=0)

    def is_mine(back: RolledBack) -> bool:
        if back.left:
            return back.left == mine
        return back.fence == 0 or mine == max((other for other in alike if other < back.fence), default=None)

    return any(is_mine(back) for back in backs if (back.version, back.commit) == which)


def _named(one: Generation) -> tuple[str, str] | None:
    """The version and commit that it is of, as far as that is known."""
    return next(((known.version, known.commit) for known in one.known), None)


def _newest_first(found: Sequence[Generation]) -> list[Generation]:
    return sorted(found, key=lambda one: (one.fence, one.name), reverse=True)


def _before(previous: Mapping[str, Any] | None) -> str | None:
    snapshot = (previous or {}).get("snapshot")
    path = snapshot.get("path") if isinstance(snapshot, Mapping) else None
    return generation_of(path) if isinstance(path, str) else None
