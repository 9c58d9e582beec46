"""Reds as they are counted against a release. Pure.

They are kept apart from the run folders: these go after a while, and a release stays held until a new tag, another enrolment or
a person releases it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from canonq.core.records import Verdict

_MOST = 500  #: entries for one recipe; the oldest go first


class Red(BaseModel):
    """One red run of one release, at one commit, with one enrolment."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    run: str
    version: str | None = (
        None  #: the tag that was tested; None in one of an older canonq, which counts for each tag of its commit
    )
    commit: str
    enrolment: str


def of(verdict: Verdict) -> Red | None:
    """The red that a verdict is; None when it counts for nothing: of a ref, quick, repeated, the world's, or no red at all."""
    counts = verdict.verdict == "red" and verdict.ref is None and not verdict.quick and verdict.superseded_by is None
    counts = counts and verdict.regression != "no"
    if not counts or not verdict.commit:
        return None
    return Red(run=verdict.run, version=verdict.version, commit=verdict.commit, enrolment=verdict.enrolment)


def noted(reds: Iterable[Red], verdict: Verdict) -> tuple[Red, ...]:
    """The reds after a run's verdict was written, or written again: a run that was repeated takes its red back."""
    others = tuple(red for red in reds if red.run != verdict.run)
    return (*others, *filter(None, [of(verdict)]))[-_MOST:]


def count(reds: Iterable[Red], version: str, commit: str, enrolment: str) -> int:
    """How many runs of this very tag, commit and enrolment were red: a new tag begins anew, also on a commit that had another."""
    which = (commit, enrolment)
    return len({red.run for red in reds if (red.commit, red.enrolment) == which and red.version in (None, version)})
