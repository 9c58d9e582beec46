"""A recipe with many releases on a fake Engine, and a way to break what is done to it at any point."""

from __future__ import annotations

import contextlib
import errno
import functools
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from pydantic import SecretStr

from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.state.budget import Budget
from canonq.adapters.state.locks import redis_client
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.errors import HostProblem
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.records import Canonical, Decision, Promotion, Synced, Verdict
from canonq.flows.decide import decide_recipe
from canonq.flows.keeping.room import tidy
from canonq.flows.promote import promote
from canonq.flows.promoting.restore import restore
from canonq.flows.promoting.rollback import rollback
from canonq.flows.sync import sync
from canonq.flows.world import World
from canonq.settings import Settings
from canonq.wiring import live
from tests.fakes import LINEAGE, FakeEngine
from tests.support import make_recipe

RECIPE = "site"
IMAGE = "site:1"
FILES = {
    "compose.yml": f"""
services:
  app:
    image: {IMAGE}
    volumes: ["data:/srv", "more:/more"]
    secrets: [password]
volumes: {{data: {{}}, more: {{}}}}
secrets:
  password: {{external: true, name: "${{STACK_NAME}}_password_${{SECRET_PASSWORD_VERSION}}"}}
""",
    ".env.sample": "TYPE=site\nDOMAIN=site.example.com\nSECRET_PASSWORD_VERSION=v1\n",
}
KEPT_RUNS = 5
ENROLMENT = "[health]\nkind = 'exec'\ncommand = ['true']\nsoak = 0\n"

Mode = Literal["kill", "disk-full", "docker-away"]
FILE_CALLS = ("replace", "rename", "fsync", "unlink", "mkdir", "rmdir")
NEED_ROOM = ("replace", "rename", "fsync", "mkdir")  #: what a full disk fails
ENGINE_CALLS = ("put_secret", "deploy", "undeploy", "make_volume", "remove_volume", "remove_owned", "remove_secrets", "observe")


def version(number: int) -> str:
    """The tag of the release with this number."""
    return f"1.{number}.0+{number}"


@functools.cache
def _settings(checkout: Path, state: Path, redis_url: str, keep: int) -> Settings:
    return Settings(repo=checkout, state=state, redis_url=SecretStr(redis_url), disk_need=1, keep=keep)


@dataclass
class Scenario:
    """One state folder, from one fault to the next."""

    root: Path
    redis_url: str
    released: int = 0
    keep: int = 2
    moved: Path | None = None  #: where the state folder is now
    lineages: dict[str, list[str]] = field(default_factory=dict)  #: version -> what its data has lived through

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.moved or self.root / "state"

    def prepare(self, releases: int = 20) -> Scenario:
        """Make the recipe with its tags, the checkout and the clone."""
        repo = make_recipe(self.root / RECIPE, {version(1): FILES})
        head = repo.head.commit.hexsha
        subprocess.run(
            ["git", "update-ref", "--stdin"], cwd=self.root / RECIPE, text=True, check=True,
            input="".join(f"create refs/tags/{version(number)} {head}\n" for number in range(2, releases + 1)),
        )  # fmt: skip
        folder = self.root / "checkout" / "tests" / RECIPE
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(f'upstream = "{self.root / RECIPE}"\n{ENROLMENT}')
        sync(self.world(), RECIPE)
        # As git itself does with many, now and then: each question would read hundreds of files.
        subprocess.run(["git", "pack-refs", "--all"], cwd=self.state / "repos" / RECIPE / "repo.git", check=True)
        return self

    def world(self) -> World:
        """The world as a new process sees it."""
        settings = _settings(self.root / "checkout", self.state, self.redis_url, self.keep)
        real = live(settings)
        budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
        later = timedelta(minutes=self.released)  # ids sort by the second, and these releases follow each other faster
        engine = FakeEngine(self.root / "docker")
        return replace(real, engine=engine, budget=budget, now=lambda: datetime.now(UTC) + later)

    def prove(self) -> str:
        """Put the green verdict of the next release on record; its version."""
        self.released += 1
        world, tag = self.world(), version(self.released)
        run = world.new_id(RECIPE)
        world.runs.make(RECIPE, run)
        digests = world.engine.ensure_images([IMAGE], 1)
        now = world.registry.read(RECIPE)
        verdict = Verdict(
            recipe=RECIPE, run=run, verdict="green", reason="proven", detail="", version=tag,
            commit=world.repos.tags(RECIPE)[tag], enrolment=world.checkout.digest(RECIPE), level=5,
            base=now.version if now else None, base_commit=now.commit if now else None,
            base_from="canonical" if now else "none", fence=now.fence if now else 0,
            tiers={tier: TierResult(status="pass") for tier in PROVEN_TIERS},
            images={"app": digests[IMAGE]}, ts=world.stamp(), disk_bytes=1,
        )  # fmt: skip
        world.runs.record(verdict)
        world.runs.retain(RECIPE, KEPT_RUNS)  # as a test does when it has ended
        return tag

    def promote(self) -> Promotion:
        """Promote the newest verdict, as a redelivered task does."""
        return promote(self.world(), RECIPE)

    def go_back(self, to: str | None = None) -> Canonical:
        """Roll back, as a person does."""
        return rollback(self.world(), RECIPE, to=to, reason="it lost mail", who="ada")

    def release_only(self, *versions: str) -> None:
        """Have no other tags in the clone."""
        clone, tags = self.state / "repos" / RECIPE / "repo.git", self.world().repos.tags(RECIPE)
        gone = "".join(f"delete refs/tags/{tag}\n" for tag in tags if tag not in versions)
        subprocess.run(["git", "update-ref", "--stdin"], cwd=clone, text=True, check=True, input=gone)

    def night(self) -> Decision:
        """What tonight's chain decides; no person has named the recipe."""
        synced = Synced(recipe=RECIPE, branch="main", head=None, tags=1, latest=None, changed=False)
        return decide_recipe(self.world(), synced)

    @property
    def kept(self) -> list[str]:
        """Versions that can be gone back to, in their order of succession."""
        return [record.version for record in self.world().registry.generations(RECIPE)]

    @property
    def record_file(self) -> Path:
        """Where the record is."""
        return self.state / "warm" / RECIPE / "canonical.json"

    def canonical(self) -> Canonical | None:
        """What the registry says."""
        return self.world().registry.read(RECIPE)

    def outlives(self) -> object:
        """All that is left of a process that is killed: files, what the Engine has (it is one of files), and what is in Redis."""
        files = []
        for top in (self.state, self.root / "docker"):
            for folder, _, inside in os.walk(top):
                for path in (folder, *(os.path.join(folder, name) for name in inside)):
                    with contextlib.suppress(FileNotFoundError):
                        stat = os.lstat(path)
                        files.append((path, stat.st_ino, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_nlink))
        redis = redis_client(self.redis_url)
        return sorted(files), {key: redis.dump(key) for key in redis.scan_iter()}

    # -- what must hold ------------------------------------------------------------------------------------

    def is_whole(self, where: str, *allowed: str | None) -> Canonical | None:
        """Invariants 1 and 2: the record is absent or complete, its snapshot and volumes are there, its version was proven."""
        record = self.canonical()
        assert (record.version if record else None) in allowed, f"{where}: {record}"
        if record is None:
            return None
        assert record.snapshot is not None, where
        assert problem_of(record.snapshot) is None, where
        engine = self.world().engine
        assert len(record.volumes) == 2, where
        for name in record.volumes:
            folder = engine.volume_path(name)
            assert folder is not None, f"{where}: {name} is gone"
            lived = (folder / LINEAGE).read_text().split()
            assert lived == self.lineages.setdefault(record.version, lived), f"{where}: the data of {record.version} changed"
        return record

    def is_clean(self, where: str) -> None:
        """Invariant 4: after the janitor, nothing is there but what the record and the kept canonicals name."""
        world = self.world()
        tidy(world)
        record = world.registry.read(RECIPE)
        owned = {kind: names for kind, names in world.engine.owned({LABEL_INSTANCE: world.instance}).items() if names}
        assert owned == ({"volumes": sorted(record.volumes)} if record else {}), where
        assert not [path for path in world.work.glob("[!.]*") if path.is_dir()], where
        assert not world.registry.half_built(RECIPE), where
        assert {path.name for path in world.registry.folder(RECIPE).glob("*")} <= {
            "canonical.json", "canonicals", "registry.lock", "registry.fence",
        }, where  # fmt: skip
        kept = world.registry.generations(RECIPE)
        assert len(kept) <= world.settings.keep + 1, where
        assert all(one.snapshot and problem_of(one.snapshot) is None for one in kept), where


# -- breaking it --------------------------------------------------------------------------------------------


class Faults:
    """Counts the points that are reached, and breaks one of them.

    With `state`, which tells all that outlives the process, it is the first from that one on at which another state is found than
    at the point before: whoever is killed where nothing has changed since leaves what was left there.
    """

    def __init__(
        self, mode: Mode, at: int | Callable[[str], bool], names: Path | None = None, state: Callable[[], object] | None = None
    ) -> None:
        self._mode, self._at, self._names, self._state = mode, at, names, state
        self.reached: list[str] = []
        self._found: object = None
        self._passes = False  #: what we do ourselves is no point

    def __call__(self, name: str) -> None:
        """A point is reached."""
        if self._passes:
            return
        self.reached.append(name)
        if self._names:
            with self._names.open("a") as file:
                file.write(f"{name}\n")
        self._passes = True
        breaks = self._breaks(name)
        self._passes = False
        if breaks:
            if self._mode == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self._mode == "disk-full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            else:
                raise HostProblem("The Docker Engine does not answer.", code="docker-unreachable")

    def _breaks(self, name: str) -> bool:
        if not isinstance(self._at, int):
            return self._at(name)
        if self._state is None or len(self.reached) < self._at - 1:
            return len(self.reached) == self._at
        before, self._found = self._found, self._state()
        # A program that was started may have done anything by now.
        return len(self.reached) >= self._at and (self._found != before or name.startswith("after spawn "))


@contextlib.contextmanager
def breaking(faults: Faults, mode: Mode) -> Iterator[None]:
    """Make every call that changes something outside a point; killed, there is one before it and one after it."""
    with pytest.MonkeyPatch.context() as patched:
        both = mode == "kill"
        if mode != "docker-away":
            for name in FILE_CALLS if both else NEED_ROOM:
                patched.setattr(os, name, _pointed(getattr(os, name), name, faults, both))
            if both:
                patched.setattr(subprocess.Popen, "__init__", _pointed(subprocess.Popen.__init__, "spawn", faults, both))
        if mode != "disk-full":
            for name in ENGINE_CALLS:
                patched.setattr(FakeEngine, name, _pointed(getattr(FakeEngine, name), f"engine.{name}", faults, both))
        yield


def _pointed(call: Callable[..., Any], name: str, faults: Faults, both: bool) -> Callable[..., Any]:
    def pointed(*arguments: Any, **options: Any) -> Any:
        faults(f"before {name} {_told(arguments)}")
        result = call(*arguments, **options)
        if both:
            faults(f"after {name} {_told(arguments)}")
        return result

    return pointed


def _told(arguments: tuple[Any, ...]) -> str:
    named = [str(it) for it in arguments if isinstance(it, str | Path)] or [
        str(it[0]) for it in arguments if isinstance(it, list)
    ]
    return Path(named[0]).name if named else ""


#: Of ours, who have done it before: in a new process, importing and building for the first time is most of what it does.
_FORKS = multiprocessing.get_context("fork")


class Killed(NamedTuple):
    """Where it was killed."""

    at: int
    point: str


def killed_at(scenario: Scenario, at: int | Callable[[str], bool], action: str = "promote") -> Killed | None:
    """Do it ("promote", "restore", "tidy" or "rollback VERSION") in a process of its own that is killed at point `at`, or at the
    first after it that leaves another state than the point before; or at the first point that is so.

    None when it ended before.
    """
    names = scenario.root / "points"
    names.unlink(missing_ok=True)
    process = _FORKS.Process(target=_child, args=(scenario, at, action, names))
    process.start()
    process.join(600)
    if process.exitcode == -signal.SIGKILL:
        reached = names.read_text().splitlines()
        return Killed(len(reached), reached[-1])
    assert process.exitcode == 0, f"it ended with {process.exitcode} at {names.read_text().splitlines()[-1:]}"
    return None


def promote_at_once(scenario: Scenario, callers: int) -> list[str]:
    """Have so many processes ask for the promotion of the newest verdict at the same moment; what each was answered."""
    with _FORKS.Manager() as manager:
        barrier, answers = manager.Barrier(callers), manager.list()
        processes = [_FORKS.Process(target=_ask, args=(scenario, barrier, answers)) for _ in range(callers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(600)
        return list(answers)


def _ask(scenario: Scenario, barrier: Any, answers: Any) -> None:
    barrier.wait()
    answers.append(scenario.promote().outcome)


def _child(scenario: Scenario, at: int | Callable[[str], bool], action: str, names: Path) -> None:
    with breaking(Faults("kill", at, names, scenario.outlives), "kill"):
        if action == "promote":
            scenario.promote()
        elif action == "restore":
            restore(scenario.world(), RECIPE, "look")
        elif action == "tidy":
            tidy(scenario.world())
        else:
            rollback(scenario.world(), RECIPE, to=action.removeprefix("rollback "), reason="a test", who="a test")
