"""What a failed pull means, by what Docker said and by what the registry answers when it is asked itself. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from canonq.core.errors import CanonqError, HostProblem, RecipeProblem

#: There is such an image; the registry says in its own words that there is none; it lets anybody ask, and shows this image to
#: nobody without a login, which is also what it says of one that is not there; it wants a login of everybody; it asks to be left
#: alone; it, or what answers in its place, is in trouble; nothing is known.
Answer = Literal["there", "missing", "denied", "login", "limited", "trouble", "silent"]


@dataclass(frozen=True)
class Asked:
    """What a registry answers to who asks for a manifest without a login."""

    answer: Answer
    detail: str = ""
    retry_after: float | None = None  #: seconds that it asks to be left alone


#: Codes of a failed pull that an answer of the registry's own makes clearer.
WORTH_ASKING = frozenset({"image-unavailable", "registry-rate-limit", "registry-refused", "pull-failed"})


def meaning(said: CanonqError, asked: Asked, *, registry: str, logged_in: bool) -> CanonqError:
    """The error to raise: Docker's own, but where the registry contradicts it or says more.

    `logged_in`: whether Docker has a login for the registry, which a question without one says little about.
    """
    if said.code == "registry-rate-limit":
        return _host(said, "registry-rate-limit", registry, asked.retry_after)
    if said.code == "image-unavailable" and logged_in and "pull access denied" in said.what:
        return _host(said, "registry-refused", registry, mend="Docker's login there is refused, or may not pull it; renew it.")
    if asked.answer == "limited":
        return _host(said, "registry-rate-limit", registry, asked.retry_after, more=asked.detail)
    if asked.answer == "trouble":
        return _host(said, "registry-unavailable", registry, asked.retry_after, more=asked.detail)
    nowhere = {"pull-failed": ("missing",), "registry-refused": ("missing", "denied")}.get(said.code, ())
    if asked.answer in nowhere and not logged_in:
        return RecipeProblem(
            f"{said.what} The registry says: {asked.detail}.",
            mend="its registry shows the image to nobody who is not logged in: correct its name, or log the Engine in.",
            code="image-unavailable",
        )
    return said


def _host(
    said: CanonqError, code: str, registry: str, retry_after: float | None = None, *, more: str = "", mend: str = ""
) -> HostProblem:
    what = f"{said.what} The registry says: {more}." if more else said.what
    mend = mend or (said.mend if said.code == code else "wait; it is tried again by itself.")
    return HostProblem(what, mend=mend, code=code, outside=registry, retry_after=retry_after)
