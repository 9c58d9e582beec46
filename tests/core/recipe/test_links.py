"""Where the symbolic links of a recipe end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from canonq.core.recipe.links import stays_inside

INSIDE = [
    {"a": "b"},
    {"deep/a": "../b"},
    {"deep/a": "../other/./b"},
    {"a": "x/../b"},
    {"deep/er/up": "../..", "a": "deep/er/up/b"},
    {"a": "b", "b": "a"},
    {"a": "a/.."},
    {"a": "."},
]
OUTSIDE = [
    {"a": "/etc/passwd"},
    {"a": ".."},
    {"deep/a": "../../b"},
    {"a": "x/../../b"},
    {"deep/er/up": "../..", "a": "deep/er/up/../b"},
    {"up": "deep/er", "deep/er": "..", "a": "up/../../b"},
    {"a": "b", "b": "c", "c": "/"},
]


@pytest.mark.parametrize("links", INSIDE)
def test_links_that_stay_inside_are_taken(links: dict[str, str]) -> None:
    assert all(stays_inside(path, links) for path in links)


@pytest.mark.parametrize("links", OUTSIDE)
def test_links_that_lead_out_are_found_however_many_others_lie_between(links: dict[str, str]) -> None:
    assert not all(stays_inside(path, links) for path in links)


@pytest.mark.parametrize("target", [".git", ".git/config", "x/../.GIT"])
def test_a_link_into_gits_own_files_leads_out(target: str) -> None:
    assert not stays_inside("a", {"a": target})


@pytest.mark.parametrize("links", [links for links in INSIDE + OUTSIDE if len(set(links.values())) == len(links)])
def test_the_answer_is_the_operating_systems(tmp_path: Path, links: dict[str, str]) -> None:
    root = tmp_path / "root"
    for path, target in links.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).symlink_to(target)
    for path in links:
        end = os.path.realpath(root / path)
        assert stays_inside(path, links) == (end == str(root) or end.startswith(f"{root}/")), (path, end)
