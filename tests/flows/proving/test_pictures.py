"""Whole runs without Docker: the pictures that are kept of the app."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from canonq.flows.deploying.stages import Deployment
from canonq.flows.proving import porting
from canonq.flows.proving.intier import remove_stack
from canonq.flows.proving.run import Run
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.world import World
from tests import memory
from tests.flows.sites import BASE, TARGET, TOML, Site, files

#: A browser's stand-in: what it takes is a picture of the address that it was given.
TAKES = "printf '\\211PNG\\r\\n\\032\\n%s' $o"
DIES = "exit 3"


def prepared(site: Site, browser: str, *, apart: bool = False) -> World:
    folder = site.root / "bin"
    folder.mkdir()
    (folder / "chromium-headless-shell").write_text(
        f'#!/bin/sh\nfor o; do case $o in --screenshot=*) out=${{o#*=}};; esac; done\n{browser} > "$out"\n'
    )
    (folder / "chromium-headless-shell").chmod(0o755)
    memory.open_to_others(folder)  # nobody runs it
    site.patched.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    trees = {version: files(version) for version in (BASE, TARGET)}
    for tree in trees.values() if apart else ():
        tree["compose.yml"] = tree["compose.yml"].replace(
            "    secrets: [password]", '    secrets: [password]\n    ports: ["8080:80"]', 1
        )
    world = site.prepare(base=trees[BASE], target=trees[TARGET])
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(toml.read_text().replace(TOML.partition("timeout")[0], "[health]\npath = '/start'\n"))
    return world


def kept_in(folder: Path) -> dict[str, str]:
    """Picture -> the address that it is of."""
    return {path.name: path.read_bytes().partition(b"\n\032\n")[2].decode() for path in (folder / "screenshots").glob("*")}


@pytest.mark.parametrize("apart", [False, True], ids=["both are up at once", "one after the other"])
def test_of_a_green_run_there_is_a_picture_of_the_fresh_install_and_one_of_the_upgraded_app(site: Site, apart: bool) -> None:
    site.more = {"screenshots": True}
    verdict = prove_tag(prepared(site, TAKES, apart=apart), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert ("before the upgrade" in str(verdict.fresh)) is apart
    found = kept_in(Path(verdict.directory))
    assert sorted(found) == ["fresh.png", "upgraded.png"]
    assert all(address.startswith("http://") and address.endswith("/start") for address in found.values())
    assert found["fresh.png"] != found["upgraded.png"], "each of its own stack"
    assert "screenshots" in verdict.timings


@pytest.mark.long
def test_a_stack_that_goes_for_the_one_of_the_backup_is_there_until_its_picture_is_taken(site: Site) -> None:
    site.more = {"screenshots": True}
    removes, removed = remove_stack, list[str]()

    def remove(run: Run, stack: Deployment) -> None:
        assert not run.pictures
        removed.append(stack.identity.stack)
        removes(run, stack)

    site.patched.setattr(porting, "remove_stack", remove)
    verdict = prove_tag(prepared(site, TAKES, apart=True), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert removed


@pytest.mark.long
def test_no_picture_is_taken_where_that_is_off(site: Site) -> None:
    verdict = prove_tag(prepared(site, TAKES), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert kept_in(Path(verdict.directory)) == {}


@pytest.mark.long
def test_a_browser_that_fails_decides_nothing(site: Site) -> None:
    site.more = {"screenshots": True}
    verdict = prove_tag(prepared(site, DIES, apart=True), "site", None)
    assert verdict.verdict == "green", verdict.detail
    told = [note for note in verdict.notes if note.startswith("no-screenshot: ")]
    assert [note.partition(" stack")[0].rpartition(" ")[2] for note in told] == ["fresh", "upgraded"]
    assert all("ended with 3 and left no picture" in note for note in told)
    assert site.left() == {}
