"""What a house stands on: git as a table of tags, a climb that is made up, and small work done without a process each."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import redis
import yaml

import canonq.flows.proving.proof as proof
import workers.chains
import workers.steps
import workers.tasks
import workers.upkeep
from canonq import wiring
from canonq.adapters import checkout, fetching
from canonq.adapters.data import archives as volumes
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import CanonqError, RecipeProblem
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.recipe import yamlfile
from canonq.core.records import Elsewhere
from canonq.flows.deploying.deployment import bring_up
from canonq.flows.keeping.data import copy_canonical
from canonq.flows.proving.redeploying import await_back, found_again, redeploy
from canonq.flows.proving.run import Run
from canonq.flows.sweeps import shares
from canonq.flows.world import World
from canonq.ports import Ended, Listing
from tests.faults.scenario import FILES, RECIPE, version

if TYPE_CHECKING:
    from tests.search.house import House


@functools.cache
def commit_of(tag: str) -> str:
    """The commit that a tag names."""
    return hashlib.sha1(tag.encode(), usedforsecurity=False).hexdigest()


class TagsOnly:
    """A clone and its upstream as one table of tags: a tag that moves has moved in both, and what it named first is known."""

    def __init__(self, folder: Path, house: House) -> None:
        self._folder = folder
        self._house = house
        self._tags = house.tags
        self._beside = {tag: commit_of(tag) for tag in map(version, range(1, house.neighbours + 1))}

    def listing(self, url: str, *, which: str = "upstream") -> Listing:
        del which
        tags = self.tags(RECIPE if RECIPE in url else "another")
        refs = {f"refs/tags/{tag}": commit for tag, commit in tags.items()}
        return Listing("main", commit_of("main"), tags, refs)

    def tags(self, recipe: str) -> dict[str, str]:
        return dict(self._tags if recipe == RECIPE else self._beside)

    def known(self, recipe: str) -> dict[str, str]:
        return {**self._tags, **self._house.trusted} if recipe == RECIPE else self.tags(recipe)

    def accept(self, recipe: str, tag: str, commit: str | None) -> bool:
        del recipe
        self._house.trusted[tag] = str(commit)
        return True

    def fetch_ref(self, recipe: str, url: str, ref: str, *, which: str = "upstream") -> str:
        del recipe, url, which
        return commit_of(ref)

    def odd_tags(self, recipe: str) -> dict[str, str]:
        del recipe
        return {}

    def remembered(self, recipe: str) -> dict[str, Any]:
        kept = self._folder / f"remembered-{recipe}.json"
        return dict(json.loads(kept.read_text())) if kept.is_file() else {}

    def remember(self, recipe: str, value: dict[str, Any]) -> None:
        (self._folder / f"remembered-{recipe}.json").write_text(json.dumps(value))

    def update(self, recipe: str, url: str, listing: Listing) -> bool:
        del recipe, url, listing
        return False

    def checkout(self, recipe: str, commit: str, folder: Path, tree: object = None) -> None:
        del recipe, commit, tree
        folder.mkdir(parents=True)
        for name, text in FILES.items():
            (folder / name).write_text(text)

    def show(self, recipe: str, commit: str, path: str) -> str | None:
        del recipe, commit
        if path.startswith("release/"):
            return "Action required: run this by hand." if path.removeprefix("release/") in self._house.noted else None
        return FILES.get(path)

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        del recipe
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def staged(house: House) -> Iterator[None]:
    """Put the house where the workers' modules look for theirs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proof, "climb", lambda run: _climb(house, run))
        patched.setattr(proof, "run_lint", lambda run: run.findings.tiers.update(lint=TierResult(status="pass")))
        patched.setattr(volumes, "run_checked", _in_process)
        patched.setattr(checkout, "read", _no_clone)
        patched.setattr(yaml, "load", _read_once)
        patched.setattr(workers.steps, "live", house.world)
        patched.setattr(wiring, "redis_client", _one_client)
        later = SimpleNamespace(time=lambda: time.time() + house.waited, monotonic=time.monotonic)
        patched.setattr(workers.upkeep, "time", later)
        patched.setattr(shares, "time", later)
        # It goes on whatever breaks; here what breaks is to show.
        patched.setattr(workers.upkeep, "_told", lambda: contextlib.suppress(CanonqError))
        patched.setattr(workers.upkeep, "queued", lambda app: {(one.sweep, one.recipe) for one in house.queue})
        for module in (workers.chains, workers.tasks):
            patched.setattr(
                module,
                "start_chain",
                lambda enrolment, sweep, named, *, host, step="sync", given=None, soon=False: house.send(
                    step, given or enrolment.recipe, sweep, named, host
                ),
            )
        patched.setattr(workers.tasks, "send_share", functools.partial(_send_share, house))
        patched.setattr(workers.tasks, "send_move", functools.partial(_send_move, house))
        patched.setattr(workers.tasks, "send_leave", functools.partial(_send_leave, house))
        patched.setattr(workers.upkeep, "_MOVE_AGAIN", 0.0)
        patched.setattr(fetching, "run", functools.partial(_fetched, house))
        yield


def _send_share(
    house: House,
    world: World,
    sweep: str,
    host: str,
    recipes: Sequence[str],
    share: str | None = None,
    night: str | None = None,
) -> None:
    del night
    named = bool(world.sweeps.read(sweep).get("named"))
    house.send("share", [world.hosts.own, list(recipes)], share or sweep, named, host)


def _send_move(house: House, world: World, mark: Elsewhere) -> None:
    if mark.state == "leaving":
        house.send("arrive", [world.hosts.own, mark.move], "", False, mark.to)
    else:
        house.send("left", None, "", False, world.hosts.own)


def _send_leave(house: House, host: str, recipe: str, to: str, *, by: str) -> None:
    del recipe, by
    house.send("leave", to, "", False, host)


def _fetched(house: House, command: Sequence[str], *, timeout: float) -> Ended:
    """What the way between the hosts brings: a copy, as it is at that moment."""
    del timeout
    _, host, path, target = command
    source, goal = house.machines[host].state / path, Path(target) / Path(path).name
    try:
        shutil.copytree(source, goal, symlinks=True) if source.is_dir() else shutil.copy2(source, goal)
    except OSError as error:  # it is a program of its own, which says so by its status
        return Ended(1, str(error))
    return Ended(0, "")


@functools.cache
def _one_client(url: str) -> redis.Redis:
    """One client for all that ask the same Redis: a connection for each question is a quarter of what a search does."""
    return redis_client(url)


def _climb(house: House, run: Run) -> None:
    app = run.app
    if run.target.data is not None:
        app = replace(app, secrets=copy_canonical(run.world, app, run.target.data))
    running = bring_up(run.world, run.trees.take(app), "install", run.deadline)
    anew = redeploy(run, running, tuple)
    await_back(run, anew)
    found_again(run, anew, ())
    run.findings.disk_bytes = 1
    if house.red:
        raise RecipeProblem("The app does not answer.", code="not-healthy")
    for tier in PROVEN_TIERS:
        run.findings.tiers[tier] = TierResult(status="pass")
    if not run.target.quick:
        with (house.root / "green").open("a") as file:
            file.write(f"{run.id} {run.target.version}\n")


def _in_process(command: list[str], what: str) -> None:
    """What find, cp and sync do to a few small files in memory, without three processes for each of thousands of copies."""
    match command:
        case ["find", folder, "-mindepth", "1", "-delete"]:
            for path in Path(folder).iterdir():
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        case ["cp", "-a", *_, source, target]:
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        case ["sync", *_]:
            pass
        case _:
            _run_checked(command, what)


_run_checked = volumes.run_checked


def _no_clone(command: Sequence[str], **options: Any) -> Ended:
    """What git says in a checkout that is no clone, as these are."""
    del options
    assert command[0] == "git"
    return Ended(128, "", "fatal: not a git repository (or any of the parent directories): .git\n")


def _read_once(text: str, Loader: Any) -> Any:  # noqa: N803 - PyYAML's own name
    """Few texts are read very often. Whoever reads them copies what it gets."""
    return _read(text) if Loader is yamlfile._Loader else _load(text, Loader=Loader)


_load = yaml.load


@functools.lru_cache(256)
def _read(text: str) -> Any:
    return _load(text, Loader=yamlfile._Loader)
