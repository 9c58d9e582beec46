"""Pushes that a forge tells of: whether the word is the forge's own, and which recipes it is about. Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from canonq.core.enrolment import Enrolment
from canonq.core.errors import WrongUse
from canonq.core.jsontext import json_of
from canonq.core.upstream.addresses import identity

#: Gitea and Forgejo send more than one of these with the same value; the last has a word in front.
_SIGNATURES = ("X-Forgejo-Signature", "X-Gitea-Signature", "X-Hub-Signature-256")
_EVENTS = ("X-Forgejo-Event", "X-Gitea-Event")
#: What can bring a release, or take one away.
_WANTED = ("push", "create", "delete", "release")
_ADDRESSES = ("clone_url", "ssh_url", "html_url", "git_url")


@dataclass(frozen=True)
class Told:
    """One word of the forge, proven to be its own."""

    event: str
    addresses: tuple[str, ...]  #: by which the forge offers the repository
    digest: str  #: of the whole word: the same word said again has the same


def read(headers: Mapping[str, str], body: bytes, secret: str) -> Told | None:
    """Read what a forge posted; None for an event that canonq has no use for.

    WrongUse with the code `bad-signature` when it is not signed with `secret` (hex HMAC-SHA256 of the body), and
    `bad-webhook` when it says something that cannot be read. Nothing of the body is looked at before it is proven.
    """
    said = {name.lower(): value for name, value in headers.items()}
    given = [said[name.lower()].removeprefix("sha256=") for name in _SIGNATURES if name.lower() in said]
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    # Each one that is there has to be right, so that none is a way around another.
    if not given or not all(hmac.compare_digest(expected.encode(), one.strip().lower().encode()) for one in given):
        raise WrongUse(
            "The signature is missing or wrong.", mend="give the forge's webhook the secret of [webhook].", code="bad-signature"
        )
    event = next((said[name.lower()] for name in _EVENTS if name.lower() in said), "")
    if event not in _WANTED:
        return None
    try:
        repository = dict(json_of(body)["repository"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WrongUse(
            "The body is not JSON that names a repository.", mend="use a webhook of the kind Gitea.", code="bad-webhook"
        ) from error
    found = tuple(str(repository[name]) for name in _ADDRESSES if isinstance(repository.get(name), str) and repository[name])
    return Told(event, found, hashlib.sha256(body).hexdigest())


def recipes_of(told: Told, enrolments: Iterable[Enrolment]) -> list[str]:
    """Recipes whose upstream or mirror is the repository; by host and path, however the address is written."""
    names = {_identity(address) for address in told.addresses} - {None}
    return sorted(
        one.recipe for one in enrolments if {_identity(address) for address in (one.upstream, one.mirror) if address} & names
    )


def _identity(address: str) -> Any:
    try:
        host, path = identity(address)
    except ValueError:
        return None
    return (host, path) if host and path else None
