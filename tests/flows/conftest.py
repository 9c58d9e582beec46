"""A world of real git, without Docker or Redis, for the flows that need neither."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from git.repo import Repo

from canonq.core.records import Canonical
from canonq.flows.sync import sync
from canonq.flows.world import World
from canonq.settings import Settings
from canonq.wiring import live
from tests.flows.sites import Docker, Site
from tests.support import make_recipe

FIRST = "1.0.0+1.0"
FILES = {"compose.yml": "services: {}\n"}


class Whoever:
    """Whoever holds a recipe's registry, unchallenged."""

    fence = 1

    def check(self) -> None:
        """The lease lasts."""


class Place:
    """A checkout, a state folder and upstreams, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {}
        (folder / "checkout" / "tests").mkdir(parents=True)

    @classmethod
    def again(cls, folder: Path) -> Place:
        """The same place, seen from another process."""
        place = cls.__new__(cls)
        place.folder, place.settings = folder, {}
        return place

    def sync(self) -> None:
        """Sync the recipe `site`."""
        sync(self.world, "site")

    @property
    def world(self) -> World:
        """The world as the settings say it is now."""
        return live(Settings(repo=self.folder / "checkout", state=self.folder / "state", **self.settings))

    def recipe(self, name: str = "site", *, toml: str = "", upstream: str = "") -> Repo:
        """Enrol a recipe with an upstream of its own, with one release."""
        repo = make_recipe(self.folder / "upstreams" / name, {FIRST: FILES})
        self.enrol(name, upstream or str(repo.working_dir), toml)
        return repo

    def enrol(self, name: str, upstream: str, toml: str = "") -> None:
        """Write an enrolment."""
        folder = self.folder / "checkout" / "tests" / name
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(f'upstream = "{upstream}"\n{toml}')

    def promote(self, name: str, version: str, commit: str, **more: str) -> None:
        """Put a canonical on record."""
        record = {"recipe": name, "version": version, "commit": commit, "status": "idle", "ts": "20260617T050314Z", **more}
        self.world.registry.write(Canonical.model_validate(record), Whoever())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> Callable[[str], Repo]:
    """Makes empty bare repositories."""
    return lambda name: Repo.init(tmp_path / f"{name}.git", bare=True, initial_branch="main")


@pytest.fixture
def site(tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A recipe with two releases on an Engine of files, for whole runs."""
    return Site(tmp_path, redis_url, Docker(tmp_path / "docker"), monkeypatch)
