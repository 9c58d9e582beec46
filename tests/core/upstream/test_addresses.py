"""Addresses of repositories: which are used, and which of them mean the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.errors import WrongConfiguration
from canonq.core.upstream.addresses import address, forge_repo, host_of, identity, masked


@pytest.mark.parametrize(
    "text",
    ["https://git.example.org/coop-cloud/site.git", "http://127.0.0.1:3000/a/b", "ssh://git@git.example.org:2222/a/b.git",
     "git://git.example.org/a", "file:///srv/git/site.git", "/srv/git/site.git", "git@git.example.org:a/b.git",
     "http://[::1]:3000/a/b"],
)  # fmt: skip
def test_addresses_that_git_reads_by_itself_are_used_as_they_are(text: str) -> None:
    assert address(text, "/checkout") == text


def test_a_path_below_the_checkout_is_one() -> None:
    assert address("./upstreams/site.git", "/srv/checkout") == "/srv/checkout/upstreams/site.git"
    assert address("../site.git", "/srv/checkout") == "/srv/site.git"


@pytest.mark.parametrize(
    "text",
    ["", "ext::sh -c id", "fd::3", "-uid", "--upload-pack=id", "https://", "https:///x", "ssh://-oProxyCommand=id/x",
     "git@-oProxyCommand=id:x", "a b", "https://git.example.org/a b", "site.git", "transport::x", "git@host:-x", "\n/x"],
)  # fmt: skip
def test_what_could_start_a_program_or_is_no_address_is_refused_by_the_name_of_its_key(text: str) -> None:
    with pytest.raises(WrongConfiguration, match="mirror = ") as caught:
        address(text, "/checkout", key="mirror")
    assert caught.value.code == "bad-mirror"


@pytest.mark.parametrize("text", ["https://user:pa55@h/x", "https://t0kenpa55@h/x", "ssh://git:pa55@h/x", "git://u:pa55@h/x"])
def test_a_credential_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(WrongConfiguration, match="credential") as caught:
        address(text, "/checkout")
    assert caught.value.code == "credential-in-address"
    assert "pa55" not in str(caught.value)


@given(st.text(max_size=60))
def test_no_text_ever_becomes_an_option_or_a_foreign_transport(text: str) -> None:
    try:
        used = address(text, "/checkout")
    except WrongConfiguration:
        return
    assert not used.startswith("-")
    assert "::" not in used.partition("/")[0].partition("[")[0]


def test_passwords_are_masked_wherever_they_stand_in_a_text() -> None:
    said = "fatal: unable to access 'https://user:hunter2@git.example.org/x/': and ssh://git:hunter3@h/y"
    assert "hunter" not in masked(said)
    assert "git.example.org" in masked(said)


@pytest.mark.parametrize(
    ("url", "host"),
    [("https://Git.Example.org:3000/a", "git.example.org:3000"), ("git@git.example.org:a/b", "git.example.org"),
     ("ssh://git@h:22/a", "h:22"), ("/srv/a", ""), ("file:///srv/a", ""), ("//h/a", ""), ("//[:²:1]:80/x", "")],
)  # fmt: skip
def test_the_host_of_an_address_is_whom_a_listing_asks(url: str, host: str) -> None:
    assert host_of(url) == host


def test_one_repository_by_all_its_addresses_is_one() -> None:
    same = ["https://git.example.org/coop/Site.git", "git@git.example.org:coop/site.git", "ssh://git@git.example.org:2222/coop/site",
            "http://git.example.org:3000/coop/site/"]  # fmt: skip
    assert len({identity(url) for url in same}) == 1
    assert identity("https://git.example.org/coop/site2") not in {identity(url) for url in same}


@pytest.mark.parametrize(
    ("url", "forge", "repo"),
    [
        ("https://git.example.org/mirror/site.git", "https://git.example.org", "mirror/site"),
        ("git@git.example.org:mirror/site.git", "https://git.example.org", "mirror/site"),
        ("ssh://git@git.example.org:2222/mirror/site.git", "https://git.example.org:3000/", "mirror/site"),
        ("https://git.example.org/forge/mirror/site", "https://git.example.org/forge", "mirror/site"),
        ("https://git.example.org/forge/mirror/site", "https://git.example.org", None),
        ("https://git.example.org.evil.org/mirror/site", "https://git.example.org", None),
        ("https://git.example.org:444/mirror/site", "https://git.example.org", None),
        ("https://git.example.org/mirror/../site", "https://git.example.org", None),
        ("/srv/mirror/site", "https://git.example.org", None),
        ("//git.example.org/mirror/site", "https://git.example.org", None),
    ],
)
def test_a_mirror_is_the_forges_when_host_and_path_say_so(url: str, forge: str, repo: str | None) -> None:
    assert forge_repo(url, forge) == repo
