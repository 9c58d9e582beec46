"""A sync that ends between any two calls, of git or of the forge, is done again whole: nothing twice, nothing lost."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from git.repo import Repo

from canonq.adapters.processes import programs
from canonq.flows.sync import sync
from tests.flows.conftest import FIRST, Place
from tests.forge import TOKEN, Forge, serving
from tests.support import make_recipe, release

pytestmark = pytest.mark.long

NAME = "mirror/site"
NEXT = "1.1.0+1.1"


class Killed(BaseException):
    """What nothing may catch, as nothing catches a SIGKILL."""


class Calls:
    """Counts what goes out, and ends the process at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.at = 0, -1
        monkeypatch.setattr("canonq.adapters.git.program.read", self._counted(programs.read))
        monkeypatch.setattr(requests.Session, "request", self._counted(requests.Session.request))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.at:  # which is also after the one before
                raise Killed
            return call(*args, **kwargs)

        return counted


def night(folder: Path, forge: Forge) -> tuple[Place, Repo]:
    """A recipe that was synced before; since then upstream released, took a proposal in, and the mirror was meddled with."""
    place = Place(folder)
    (folder / "token").write_text(TOKEN)
    place.settings["forge"] = {"url": forge.url, "token_file": folder / "token", "timeout": 300}
    upstream = make_recipe(folder / "upstream", {FIRST: {"compose.yml": "services: {}\n"}})
    mirror = forge.repo(NAME)
    place.enrol("site", str(upstream.working_dir), f'mirror = "{forge.address(NAME)}"\n')
    sync(place.world, "site")
    upstream.git.checkout("-q", "-b", "proposal")
    release(upstream, "wip", {"a": "1"})
    upstream.git.tag("-d", "wip")
    mirror.git.fetch(str(upstream.working_dir), "proposal")
    forge.open_pull(NAME, upstream.head.commit.hexsha)
    upstream.git.checkout("-q", "main")
    upstream.git.merge("-q", "--no-ff", "-m", "merge", "proposal")
    upstream.git.branch("-D", "proposal")
    release(upstream, NEXT, {"b": "2"})
    upstream.git.tag("-d", FIRST)
    mirror.git.update_ref("refs/heads/main", mirror.git.commit_tree("main^{tree}", "-p", "main", "-m", "stray"))
    return place, upstream


def test_ended_at_any_call_a_sync_is_done_again_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at, killed, calls = 0, True, Calls(monkeypatch)
    folder, before = tmp_path / "night", tmp_path / "before"
    folder.mkdir()
    with serving(folder / "forge") as forge:
        place, _ = night(folder, forge)
        shutil.copytree(folder, before, symlinks=True)
        pulls = copy.deepcopy(forge.pulls)
        while killed:
            at, killed = at + 1, False
            calls.count, calls.at = 0, at
            try:
                sync(place.world, "site")
            except Killed:
                killed = True
            calls.at = -1
            done = sync(place.world, "site")
            mirror, upstream = forge.repo(NAME), Repo(folder / "upstream")
            assert done.latest == NEXT, at
            assert mirror.commit("main") == upstream.commit("main"), at
            assert [tag.name for tag in mirror.tags] == [tag.name for tag in upstream.tags] == [NEXT], at
            assert forge.pulls[NAME][1]["state"] == "closed", at
            assert len(forge.comments[NAME, 1]) == 1, at
            clone = Repo(place.folder / "state" / "repos" / "site" / "repo.git")
            assert "stray" in clone.git.log("--all", "--format=%s"), "what the mirror had is kept"
            assert clone.commit(f"refs/canonq/deleted/{FIRST}"), at
            assert sync(place.world, "site").pushed == 0
            shutil.rmtree(folder)
            shutil.copytree(before, folder, symlinks=True)
            forge.pulls = copy.deepcopy(pulls)
            forge.comments.clear()
    assert at > 20, "the calls were counted"
