"""Which open pull requests have landed upstream: merged, rebased or squashed; and what is said to them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from canonq.core.records import Verdict

StatusState: TypeAlias = Literal["pending", "success", "failure", "error"]
#: Invisible in the comment; by it, a comment that was made is known again.
MARK = "<!-- canonq: landed {commit} -->"
_LONGEST_DESCRIPTION = 140


@dataclass(frozen=True)
class Pull:
    """An open pull request of a mirror."""

    number: int
    head: str  #: commit
    base: str  #: the branch it is to be merged into
    title: str = ""


@dataclass(frozen=True)
class Hosted:
    """What the forge says of a mirror itself."""

    empty: bool = False  #: nothing was pushed yet, as far as the forge has noticed: it has no pull requests then
    pulls: bool = True  #: whether pull requests are switched on
    archived: bool = False  #: nothing may be changed
    copies: bool = False  #: the forge itself copies it from elsewhere, so that nobody may push


@dataclass(frozen=True)
class Landing:
    """What history says about a pull request's head and upstream's default branch."""

    contained_by: str | None  #: upstream's commit that brought the head in; None when it is not an ancestor
    own: int  #: commits of the head, plain merges aside, that upstream does not contain as they are
    equal: int  #: how many of them upstream has with the same change
    equal_commit: str | None  #: upstream's newest commit with the same change as one of them
    squashed_commit: str | None  #: upstream's commit with the same change as all of them together


@dataclass(frozen=True)
class Landed:
    """A pull request whose whole change is upstream."""

    how: Literal["merged", "rebased", "squashed"]
    commit: str  #: upstream's, the last one with it


def landed(pull: Pull, branch: str, found: Landing) -> Landed | None:
    """Whether all of a pull request's change is in upstream's default branch, and by which commit.

    A pull request for another branch, one of which only a part is upstream, and one that changes nothing are left alone.
    """
    if pull.base != branch:
        return None
    if found.contained_by is not None:
        return Landed("merged", found.contained_by)
    if found.equal_commit is not None and found.own > 0 and found.equal == found.own:
        return Landed("rebased", found.equal_commit)
    if found.squashed_commit is not None:
        return Landed("squashed", found.squashed_commit)
    return None


def comment(it: Landed, branch: str) -> str:
    """What is said to a pull request that is closed."""
    ways = {
        "merged": "This pull request is part of upstream's `{branch}` since commit {commit}.",
        "rebased": "Every change of this pull request is in upstream's `{branch}`; the last came with commit {commit}.",
        "squashed": "The whole change of this pull request came into upstream's `{branch}` as commit {commit}.",
    }
    said = ways[it.how].format(branch=branch, commit=it.commit)
    return f"{said} The mirror has it too, so canonq closes it here. Reopen it if that is wrong.\n\n{mark(it)}"


def mark(it: Landed) -> str:
    """The invisible line of a comment by which it is known again."""
    return MARK.format(commit=it.commit)


def status_of(verdict: Verdict) -> tuple[StatusState, str]:
    """The commit status that a verdict becomes: state, and a description short enough for a forge."""
    states: dict[str, StatusState] = {"green": "success", "red": "failure", "error": "error"}
    # Not its detail: what an app answers and a recipe writes is in it, and a forge shows it to everybody.
    said = f"{'quick, ' if verdict.quick else ''}{verdict.verdict}, level {verdict.level}: {verdict.reason} (run {verdict.run})"
    short = said if len(said) <= _LONGEST_DESCRIPTION else said[: _LONGEST_DESCRIPTION - 3] + "..."
    return states[verdict.verdict], short
