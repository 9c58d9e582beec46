"""What a mirror lacks to equal its upstream: the default branch and the tags, nothing else (docs/rules.md 2, sync). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from canonq.core.names import flat_ref
from canonq.core.text import readable

_MOST_NAMED = 10


@dataclass(frozen=True)
class Change:
    """One ref of the mirror that is to become another."""

    ref: str  #: full name
    old: str | None  #: object it names on the mirror; None: it is not there
    new: str | None  #: object it is to name; None: it is to go

    @property
    def name(self) -> str:
        """The ref's short name."""
        return self.ref.split("/", 2)[2]


def changes(branch: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> tuple[Change, ...]:
    """What turns `theirs` (the mirror's refs) into `ours` (the upstream's), for the default branch and all tags.

    Every other ref of the mirror is left alone, among them all branches that pull requests come from. A branch that the
    upstream has not is never removed: an upstream that lost its default branch may get it back.
    """
    found = []
    head = f"refs/heads/{branch}"
    if head in ours and theirs.get(head) != ours[head]:
        found.append(Change(head, theirs.get(head), ours[head]))
    tags = [ref for ref in {**theirs, **ours} if ref.startswith("refs/tags/")]
    found += [Change(ref, theirs.get(ref), ours.get(ref)) for ref in sorted(tags) if theirs.get(ref) != ours.get(ref)]
    return tuple(found)


def losses(todo: Iterable[Change]) -> tuple[Change, ...]:
    """The changes after which something the mirror named may be named by nothing any more."""
    return tuple(change for change in todo if change.old is not None)


def told(done: Iterable[Change]) -> tuple[str, ...]:
    """What a person should know of changes that were made: what was put back or taken away, and where it is kept."""
    lines = []
    for change in done:
        name = readable(change.name)
        if change.old is None:
            continue
        kept = f"the clone keeps what it named as {kept_as(change)}"
        if change.new is None:
            lines.append(f"the tag {name} was taken from the mirror, as upstream has none; {kept}")
        elif change.ref.startswith("refs/tags/"):
            lines.append(f"the tag {name} of the mirror was not upstream's and is now; {kept}")
    return (*lines[:_MOST_NAMED], *([f"and {len(lines) - _MOST_NAMED} more tags of the mirror"] if lines[_MOST_NAMED:] else []))


def kept_as(change: Change) -> str:
    """The ref of the clone that keeps what a change takes from the mirror."""
    return f"refs/canonq/replaced/{flat_ref(change.ref.removeprefix('refs/'))}/{(change.old or '')[:12]}"
