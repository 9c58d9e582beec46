"""A registry is asked for a manifest itself: its status says what Docker tells in prose, and nobody's login is sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.network import registries
from canonq.adapters.network.registries import ask, has_login, is_insecure
from canonq.core.pulling import Asked
from canonq.core.stack.images import HUB, image_name
from tests.troubled import RETRY_AFTER, Troubled, troubled

LOOPBACK = ["127.0.0.0/8", "::1/128"]


@pytest.fixture(scope="module")
def registry() -> Iterator[Troubled]:
    with troubled() as here:
        yield here


def asked(registry: Troubled, kind: str) -> Asked:
    address = registry.guarded_address if kind.startswith("token") else registry.address
    return ask(image_name(f"{address}/{kind}/app:1"), LOOPBACK)


@pytest.mark.parametrize(
    ("kind", "answer", "retry_after"),
    [
        ("no-tag", "missing", None),
        ("no-name", "missing", None),
        ("proxy", "trouble", None),
        ("unauthorized", "login", None),
        ("forbidden", "silent", None),
        ("denied", "denied", None),
        ("limited", "limited", None),
        ("limited-for", "limited", RETRY_AFTER),
        ("limited-without-words", "limited", None),
        ("500", "trouble", None),
        ("502", "trouble", None),
        ("503", "trouble", None),
        ("504", "trouble", None),
        ("token", "missing", None),
        ("token-then-nothing", "denied", None),
        ("token-limited", "limited", RETRY_AFTER),
        ("token-503", "trouble", None),
        ("closes", "silent", None),
        ("resets", "silent", None),
        ("moved", "silent", None),
    ],
)
def test_what_a_registry_answers(registry: Troubled, kind: str, answer: str, retry_after: float | None) -> None:
    found = asked(registry, kind)
    assert (found.answer, found.retry_after) == (answer, retry_after), found


@pytest.mark.parametrize("kind", ["hangs", "endless"])
def test_a_registry_without_an_end_is_left(registry: Troubled, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registries, "_EACH", 0.3)
    monkeypatch.setattr(registries, "_LONGEST", 1.0)
    assert asked(registry, kind).answer == "silent"


def test_nobody_at_the_address_is_silence() -> None:
    assert ask(image_name("127.0.0.1:1/app:1"), LOOPBACK).answer == "silent"


def test_no_login_is_sent_and_a_token_only_where_it_is_good_for(
    registry: Troubled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    registry.logins.clear()
    asked(registry, "no-tag")
    asked(registry, "token")
    assert set(registry.logins) == {"Bearer anonymous"}


def test_where_docker_asks_without_tls_so_does_canonq_and_nowhere_else(registry: Troubled) -> None:
    assert is_insecure("127.0.0.1:5000", LOOPBACK)
    assert is_insecure("localhost:5000", LOOPBACK)
    assert is_insecure("[::1]:5000", LOOPBACK)
    assert is_insecure("registry.lan:5000", [*LOOPBACK, "registry.lan:5000"])
    assert not is_insecure("ghcr.io", LOOPBACK)
    assert not is_insecure("127.0.0.1.example.org", LOOPBACK)
    before = len(registry.asked)
    assert ask(image_name(f"{registry.address}/no-tag/app:1"), ()).answer == "silent"
    assert len(registry.asked) == before


@pytest.mark.parametrize(
    ("config", "registry", "there"),
    [
        ('{"auths": {"https://index.docker.io/v1/": {}}}', HUB, True),
        ('{"auths": {"ghcr.io": {"auth": "x"}}}', "ghcr.io", True),
        ('{"credHelpers": {"ghcr.io": "x"}}', "ghcr.io", True),
        ('{"auths": {"ghcr.io": {}}}', HUB, False),
        ('{"auths": []}', HUB, False),
        ("{", HUB, False),
        ("[]", HUB, False),
    ],
)
def test_whether_docker_has_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, registry: str, there: bool
) -> None:
    (tmp_path / "config.json").write_text(config)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert has_login(registry) == there
