"""A forge's word about a push: proven before it is read, and matched to recipes by repository."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.enrolment import Enrolment
from canonq.core.errors import WrongUse
from canonq.core.upstream.webhook import read, recipes_of

SECRET = "s3cret"
BODY = json.dumps({"ref": "refs/tags/1.1.0+1", "repository": {"clone_url": "https://git.example.org/coop/site.git"}}).encode()


def signed(body: bytes = BODY, *, event: str = "push", secret: str = SECRET, **more: str) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-Gitea-Event": event,
        "X-Gitea-Signature": signature,
        **{name.replace("_", "-"): value for name, value in more.items()},
    }


@pytest.mark.parametrize("event", ["push", "create", "delete", "release"])
def test_a_signed_word_about_refs_is_read(event: str) -> None:
    told = read(signed(event=event), BODY, SECRET)
    assert told is not None
    assert (told.event, told.addresses) == (event, ("https://git.example.org/coop/site.git",))


def test_forgejos_and_githubs_names_of_the_headers_are_known_in_any_case() -> None:
    signature = signed()["X-Gitea-Signature"]
    assert read({"x-forgejo-event": "push", "X-FORGEJO-SIGNATURE": signature}, BODY, SECRET)
    assert read({"X-Gitea-Event": "push", "X-Hub-Signature-256": f"sha256={signature}"}, BODY, SECRET)


@pytest.mark.parametrize("event", ["issues", "pull_request", "", "fork"])
def test_a_signed_word_about_something_else_is_none(event: str) -> None:
    assert read(signed(event=event), BODY, SECRET) is None


@pytest.mark.parametrize(
    "headers",
    [{}, {"X-Gitea-Event": "push"}, signed(secret="other"), signed(b"{}"), {**signed(), "X-Gitea-Signature": ""},
     {**signed(), "X-Gitea-Signature": "0" * 64}, {**signed(), "X-Hub-Signature-256": "sha256=" + "0" * 64},
     {**signed(), "X-Gitea-Signature": "é" * 64}],
)  # fmt: skip
def test_a_word_that_is_not_signed_right_is_refused_before_it_is_read(headers: dict[str, str]) -> None:
    with pytest.raises(WrongUse) as caught:
        read(headers, BODY, SECRET)
    assert caught.value.code == "bad-signature"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"repository": 7}', b"{}", b"[" * 100_000, b"\xff"])
def test_a_signed_word_that_cannot_be_read_is_named(body: bytes) -> None:
    with pytest.raises(WrongUse) as caught:
        read(signed(body), body, SECRET)
    assert caught.value.code == "bad-webhook"


@given(st.binary(max_size=200))
def test_whatever_is_posted_without_the_secret_is_refused(body: bytes) -> None:
    with pytest.raises(WrongUse):
        read(signed(body, secret="guess"), body, SECRET)


def test_recipes_are_found_by_upstream_or_mirror_however_the_address_is_written() -> None:
    recipes = [
        Enrolment(recipe="by-ssh", upstream="git@git.example.org:coop/site.git"),
        Enrolment(recipe="by-mirror", upstream="/elsewhere", mirror="https://git.example.org/coop/site"),
        Enrolment(recipe="other", upstream="https://git.example.org/coop/other.git"),
        Enrolment(recipe="path", upstream="/coop/site.git"),
    ]
    told = read(signed(), BODY, SECRET)
    assert told is not None
    assert recipes_of(told, recipes) == ["by-mirror", "by-ssh"]


def test_a_word_that_names_no_address_is_about_nobody() -> None:
    body = b'{"repository": {"clone_url": "", "ssh_url": 7, "html_url": "http://[broken"}}'
    told = read(signed(body), body, SECRET)
    assert told is not None
    assert recipes_of(told, [Enrolment(recipe="a", upstream="/x")]) == []
