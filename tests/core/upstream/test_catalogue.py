"""Finding a recipe in the catalogue."""

from __future__ import annotations

import json

import pytest

from canonq.core.errors import WrongConfiguration, WrongUse
from canonq.core.upstream.catalogue import find

LISTED = {
    "custom-html": {
        "name": "custom-html", "category": "Apps", "description": "A  static\nsite", "default_branch": "main",
        "repository": "https://git.example.org/coop-cloud/custom-html.git",
        "versions": [{"1.0.0+1.29.0": {"app": {"image": "nginx", "tag": "1.29.0"}}}],
    },
    "broken": {"name": "broken"},
}  # fmt: skip


def test_an_entry_has_its_repository_and_its_description() -> None:
    entry = find(json.dumps(LISTED), "custom-html", where="list")
    assert (entry.repository, entry.description) == ("https://git.example.org/coop-cloud/custom-html.git", "A static site")


def test_a_name_that_is_not_listed_is_told_with_names_that_are_near() -> None:
    with pytest.raises(WrongUse, match="custom-html") as caught:
        find(json.dumps(LISTED), "custom-htm", where="list")
    assert caught.value.code == "not-in-catalogue"
    assert "--upstream" in caught.value.mend


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"7", b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_catalogue_is_named(text: bytes) -> None:
    with pytest.raises(WrongConfiguration, match="list"):
        find(text, "custom-html", where="list")


def test_an_entry_without_a_repository_is_named() -> None:
    with pytest.raises(WrongConfiguration, match="broken"):
        find(json.dumps(LISTED), "broken", where="list")
