"""Recipes that depend on one that is to be promoted: what their own tests say of the candidate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from canonq.core.enrolment import Enrolment
from canonq.core.gate import Refusal

#: Its tests passed; they failed with the candidate alone; they fail with the present canonical as well; nothing can be said.
Word = Literal["passed", "broken", "fails-anyway", "not-tried"]


class Tried(BaseModel):
    """What came of a consumer's tests beside a candidate."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    consumer: str
    word: Word
    version: str  #: of the consumer's canonical
    commit: str
    enrolment: str  #: digest of the consumer's enrolment folder
    detail: str = ""

    def is_about(self, version: str, commit: str, enrolment: str) -> bool:
        """Whether it would come to the same again: nothing of the consumer has changed."""
        return (self.version, self.commit, self.enrolment) == (version, commit, enrolment)


def consumers_of(recipe: str, enrolled: Mapping[str, Enrolment]) -> list[str]:
    """The enrolled recipes whose `deps` name it."""
    return sorted(name for name, one in enrolled.items() if recipe in one.deps and name != recipe)


def refusal(recipe: str, version: str, tried: list[Tried], *, approved: bool) -> Refusal | None:
    """Why a candidate is not promoted for its consumers' sake; None where it breaks none of them, or a person approves it."""
    broken = [one for one in tried if one.word == "broken"]
    if not broken or approved:
        return None
    told = "; ".join(f"{one.consumer} {one.version}: {one.detail}" for one in broken)
    why = (
        f"the tests of what depends on it pass with the present canonical and fail with {version}: {told}. "
        f"`canonq approve {recipe} '{version}' --reason TEXT` promotes it all the same"
    )
    return Refusal("consumer-broken", why)


def noted(tried: list[Tried]) -> tuple[str, ...]:
    """What a person should know of consumers that do not stop a promotion."""
    told = {
        "broken": "fails with the candidate, which a person has approved",
        "fails-anyway": "fails with the present canonical, too",
        "not-tried": "was not tried",
    }
    return tuple(f"consumer-{one.word}: {one.consumer} {told[one.word]}: {one.detail}" for one in tried if one.word in told)
