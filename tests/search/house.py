"""One recipe's registry, sweeps and messages, and all that may happen to them; each move is followed by the invariants.

Flows, steps of the workers, upkeep, tar, file locks and a Redis are real. Docker is the Engine of files, git a table of tags, a
run's climb is made up, Celery a list of messages, and the clock is set.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import select
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from celery.exceptions import Ignore
from redis import Redis

import canonq.flows.test as test_flow
import workers.steps
import workers.tasks
import workers.upkeep
from canonq.adapters import volumes
from canonq.adapters.budget import Budget
from canonq.adapters.snapshots import problem_of
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from canonq.core.errors import CanonqError, RecipeProblem, RecordUnreadable
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.records import Canonical, Decision, Synced, Verdict
from canonq.flows.climb import Run
from canonq.flows.data import copy_canonical
from canonq.flows.decide import decide_recipe
from canonq.flows.deployment import bring_up
from canonq.flows.promote import promote
from canonq.flows.restore import remove, restore
from canonq.flows.rollback import rollback
from canonq.flows.room import tidy
from canonq.flows.sweep import open_sweep, start, stop, summary
from canonq.flows.sync import sync
from canonq.flows.test import test_decided as prove_decided
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.world import World
from canonq.ports import Listing, Repos
from canonq.settings import Settings
from canonq.wiring import live
from tests.fakes import LINEAGE, FakeEngine
from tests.faults.scenario import ENROLMENT, FILES, RECIPE, Faults, breaking, version

STEPS = ("sync", "decide", "test", "promote")
LOOK = "look"  #: the stack that `restore` is asked for
KEEP = 3  #: canonicals; with more of them there is more to mix up
_HOUR = 3600

#: Seconds that an act of another process may take; what waits longer waits for a lock of ours.
_WAITS_AT_MOST = 60.0


class Broken(AssertionError):
    """Something that must hold does not. The part before the first colon says which rule."""


class TagsOnly:
    """A clone and its upstream as one table of tags."""

    def __init__(self, folder: Path, released: int) -> None:
        self._kept = folder / "remembered.json"
        self._tags = {version(number): commit_of(version(number)) for number in range(1, released + 1)}

    def listing(self, url: str, *, which: str = "upstream") -> Listing:
        del url, which
        refs = {f"refs/tags/{tag}": commit for tag, commit in self._tags.items()}
        return Listing("main", commit_of("main"), dict(self._tags), refs)

    def tags(self, recipe: str) -> dict[str, str]:
        del recipe
        return dict(self._tags)

    known = tags

    def odd_tags(self, recipe: str) -> dict[str, str]:
        del recipe
        return {}

    def remembered(self, recipe: str) -> dict[str, Any]:
        del recipe
        return dict(json.loads(self._kept.read_text())) if self._kept.is_file() else {}

    def remember(self, recipe: str, value: dict[str, Any]) -> None:
        del recipe
        self._kept.write_text(json.dumps(value))

    def update(self, recipe: str, url: str, listing: Listing) -> bool:
        del recipe, url, listing
        return False

    def checkout(self, recipe: str, commit: str, folder: Path, tree: object = None) -> None:
        del recipe, commit, tree
        folder.mkdir(parents=True)
        for name, text in FILES.items():
            (folder / name).write_text(text)

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        del recipe
        shutil.rmtree(folder, ignore_errors=True)


def commit_of(tag: str) -> str:
    """The commit that a tag names."""
    return hashlib.sha1(tag.encode(), usedforsecurity=False).hexdigest()


@dataclass
class _Request:
    id: str
    chain: Any = True
    delivery_info: dict[str, str] = field(default_factory=dict)

    @property
    def root_id(self) -> str:
        return self.id


class _Task:
    def __init__(self, name: str) -> None:
        self.request = _Request(name)


@dataclass
class Message:
    """A link of a chain that waits in the queue."""

    step: str
    given: Any
    sweep: str
    named: bool


@dataclass
class House:
    """One state folder through one sequence of moves, and what is known of it beside what it says itself."""

    root: Path
    redis: Redis
    redis_url: str
    released: int = 1
    offset: int = 0  #: seconds that the clock is ahead
    red: bool = False  #: whether the next runs are red
    queue: list[Message] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    closed: dict[str, Any] = field(default_factory=dict)  #: reports of closed sweeps, which never change again
    # What must be true, from what was done:
    version: str | None = None  #: the canonical
    lived: dict[str, list[str]] = field(default_factory=dict)  #: version -> what its data has lived through
    line: list[str] = field(default_factory=list)  #: canonicals in the order they came to be, without those rolled back
    must: set[str] = field(default_factory=set)  #: versions that must be restorable
    held: set[str] = field(default_factory=set)  #: versions that a person went back from
    harmed: set[str] = field(default_factory=set)  #: versions whose snapshot was damaged from outside
    record_lost: bool = False
    pid: int = field(default_factory=os.getpid)
    broken_into: bool = False  #: whether an act is under way that is met by something
    volumes_lost: bool = False

    def prepare(self) -> House:
        """Enrol the recipe, in an empty state folder."""
        folder = self.root / "checkout" / "tests" / RECIPE
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(f'upstream = "/nowhere"\n{ENROLMENT}')
        return self

    def world(self) -> World:
        """The world as a new process sees it: none of its adapters remembers anything, so they are made once."""
        later = timedelta(seconds=self.offset)
        return replace(
            self._lasting, repos=cast(Repos, TagsOnly(self.root, self.released)), now=lambda: datetime.now(UTC) + later
        )

    @functools.cached_property
    def _lasting(self) -> World:
        settings = self._settings
        budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
        return replace(live(settings), engine=FakeEngine(self.root / "docker"), budget=budget)

    @functools.cached_property
    def _settings(self) -> Settings:
        return Settings(
            repo=self.root / "checkout",
            state=self.root / "state",
            redis_url=self.redis_url,
            keep=KEEP,
            disk_need=1,
            loaded_above=0,
        )

    # -- moves: what people, workers and the world do ------------------------------------------------------

    def release(self) -> None:
        """Upstream publishes the next release."""
        self.released += 1

    def prove(self) -> None:
        """A person has the newest release tested, which names it: `canonq test`."""
        prove_tag(self.world(), RECIPE, None)

    def quick(self) -> None:
        """A person looks at the canonical's data: `canonq test --quick`."""
        prove_tag(self.world(), RECIPE, None, quick=True)

    def promote(self) -> None:
        """`canonq promote`, or its message delivered again."""
        promote(self.world(), RECIPE)

    def rollback(self, back: int = 0) -> None:
        """`canonq rollback`, to the one before or to one that is kept."""
        kept = sorted(self.must - {self.version})
        to = None if back == 0 or not kept else kept[back % len(kept)]
        rollback(self.world(), RECIPE, to=to, reason="it lost mail", who="a person")

    def restore(self) -> None:
        """`canonq restore --stack look`, or its removal when it is there."""
        world = self.world()
        if world.engine.observe(LOOK)[0]:
            remove(world, RECIPE, LOOK)
        else:
            restore(world, RECIPE, LOOK)

    def janitor(self) -> None:
        """`canonq janitor`."""
        tidy(self.world())

    def sweep(self, named: int = 0) -> None:
        """The night begins, or a person's sweep of the recipe."""
        world = self.world()
        opened = open_sweep(world, [RECIPE] if named % 3 == 1 else ())
        start(world, opened, lambda enrolment: self._send("sync", enrolment.recipe, opened.sweep, opened.named))

    def deliver(self, which: int = 0) -> None:
        """A worker takes a message, does the step, and hands on the chain."""
        if not self.queue:
            return
        message = self.queue[which % len(self.queue)]
        task = _Task(f"{message.sweep}-{message.step}")
        try:
            value = workers.steps.take(cast(Any, task), message.step, message.given, message.sweep, self._action(message))
        except (Ignore, workers.steps.StepFailed):
            value = None
        if message in self.queue:  # another process may have had it as well
            self.queue.remove(message)  # acknowledged last
        if value is not None and task.request.chain is not None and message.step != STEPS[-1]:
            self._send(STEPS[STEPS.index(message.step) + 1], value, message.sweep, message.named)

    def _action(self, message: Message) -> Callable[[World], Any]:
        given, sweep = message.given, message.sweep
        return {
            "sync": lambda world: sync(world, RECIPE, sweep=sweep, named=message.named),
            "decide": lambda world: decide_recipe(world, Synced.model_validate(given)),
            "test": lambda world: prove_decided(world, Decision.model_validate(given)),
            "promote": lambda world: promote(world, Verdict.model_validate(given)),
        }[message.step]

    def _send(self, step: str, given: Any, sweep: str, named: bool) -> None:
        self.queue.append(Message(step, given, sweep, named))

    def night(self) -> None:
        """A whole sweep, with all its messages."""
        self.sweep()
        while self.queue:
            self.deliver()
            if os.getpid() == self.pid and not self.broken_into:
                self.check("a delivery in the night")

    def double(self, which: int = 0) -> None:
        """A message is delivered twice."""
        if self.queue:
            self.queue.append(replace(self.queue[which % len(self.queue)]))

    def lose(self) -> None:
        """Redis loses its memory: messages, leases and all."""
        self.queue.clear()
        self.redis.flushall()

    def upkeep(self) -> None:
        """Upkeep looks after open sweeps."""
        workers.upkeep.reconcile(self.world(), cast(Any, None))

    def stop(self) -> None:
        """A person stops the newest sweep."""
        world = self.world()
        if found := world.sweeps.open_sweeps():
            stop(world, found[-1], "a person stopped it.")

    def redden(self) -> None:
        """From now on runs are red, or green again."""
        self.red = not self.red

    def clock(self, hours: int = 0) -> None:
        """The clock jumps, forwards or back."""
        self.offset += (hours % 1000 - 500) * _HOUR

    # -- moves: harm from outside --------------------------------------------------------------------------

    @property
    def warm(self) -> Path:
        return self.root / "state" / "warm" / RECIPE

    def lose_record(self) -> None:
        """canonical.json is gone."""
        if (self.warm / "canonical.json").is_file():
            (self.warm / "canonical.json").unlink()
            self.record_lost = True

    def spoil_record(self) -> None:
        """canonical.json is cut off."""
        if (self.warm / "canonical.json").is_file():
            os.truncate(self.warm / "canonical.json", 40)
            self.record_lost = True

    def lose_fence(self, empty: int = 0) -> None:
        """The fence is gone, or empty."""
        path = self.warm / "registry.fence"
        if path.is_file():
            path.write_text("") if empty % 2 else path.unlink()

    def spoil_kept(self, which: int = 0) -> None:
        """A kept snapshot, or its record, is damaged."""
        folders = sorted((self.warm / "canonicals").glob("*/record.json"))
        if not folders:
            return
        chosen = folders[which % len(folders)]
        self.harmed.add(json.loads(chosen.read_text())["version"] if chosen.stat().st_size > 9 else "?")
        if which % 2:
            os.truncate(chosen, 9)
        else:
            next(iter(chosen.parent.glob("volumes*"))).write_bytes(b"not an archive")

    def lose_volume(self) -> None:
        """A retained volume is gone from Docker."""
        for name in FakeEngine(self.root / "docker").owned({LABEL_KIND: "warm"})["volumes"][:1]:
            shutil.rmtree(self.root / "docker" / "volumes" / name)
            self.volumes_lost = True

    # -- what must hold ------------------------------------------------------------------------------------

    def check(self, move: str) -> None:
        """All invariants, after a move; then what they rest on next time."""
        try:
            record = self.world().registry.read(RECIPE)
        except RecordUnreadable:
            self._hold(self.record_lost, f"5.1 the record is complete: it cannot be read after {move}")
            return
        if record is None:
            self._hold(self.version is None or self.record_lost, f"5.1 the record is there: it is gone after {move}")
            return
        if record.version != self.version:
            self._moved(move, record)
        elif self.record_lost:
            self.record_lost = False  # it was brought back as it was
        self._whole(move, record)
        self._kept(move)
        self._sweeps(move)

    def _hold(self, true: object, said: str) -> None:
        if not true:
            raise Broken(said)

    def _moved(self, move: str, record: Canonical) -> None:
        now, before = record.version, self.version
        if "rollback" in move and (now in self.lived or (before is not None and _number(now) < _number(before))):
            self.held.discard(now)
            if before is not None:
                self.held.add(before)
            self.line = [one for one in self.line if one not in (before, now)] + [now]
            self.must.discard(before or "")
        else:
            self._hold(
                now in (self.root / "green").read_text().split(),
                f"5.2 green before canonical: {now} has no green run, after {move}",
            )
            self._hold(not self.record_lost, f"4 a lost record is never seeded over: {now} is new, after {move}")
            self._hold(now not in self.held, f"5.2 nothing comes back: {now}, which a person went back from, after {move}")
            higher = before is None or _number(now) > _number(before)
            self._hold(higher, f"5.2 forwards only: from {before} to {now}, after {move}")
            self.line.append(now)
            self.must.add(now)
            self.must &= set(self.line[-KEEP:])
        self.version, self.record_lost, self.volumes_lost = now, False, False

    def _whole(self, move: str, record: Canonical) -> None:
        engine = self.world().engine
        if record.version not in self.harmed:
            self._hold(record.snapshot, f"5.1 a snapshot is named: none of {record.version}, after {move}")
            problem = problem_of(record.snapshot) if record.snapshot else None
            self._hold(problem is None, f"5.1 the snapshot verifies: {record.version}: {problem}, after {move}")
        if self.volumes_lost:
            return
        for name in record.volumes:
            folder = engine.volume_path(name)
            self._hold(folder, f"5.1 the volumes are there: {name} of {record.version} is gone, after {move}")
            lived = (cast(Path, folder) / LINEAGE).read_text().split()
            self._hold(
                lived == self.lived.setdefault(record.version, lived), f"4 data stays as it was: {record.version}, after {move}"
            )

    def _kept(self, move: str) -> None:
        wanted = self.must - self.harmed - {self.version}
        if not wanted:
            return
        try:
            kept = {one.version: one for one in self.world().registry.generations(RECIPE)}
        except RecordUnreadable:
            raise Broken(f"4 one damaged record harms no other: the kept ones cannot be read, after {move}") from None
        for tag in sorted(wanted):
            found = kept.get(tag)
            self._hold(found is not None, f"4 the last `keep` stay: {tag} is not kept any more, after {move}")
            assert found is not None
            problem = problem_of(found.snapshot) if found.snapshot else "no snapshot"
            self._hold(problem is None, f"4 the last `keep` are restorable: {tag}: {problem}, after {move}")

    def _sweeps(self, move: str, last: int = 3) -> None:
        """The last sweeps; `last`: how many. What harms an older one shows at the end, when all are looked at."""
        world = self.world()
        for sweep in sorted(path.name for path in (self.root / "state" / "sweeps").glob("*Z-*"))[-last:]:
            closed = world.sweeps.closed(sweep)
            if closed is None:
                continue
            now = summary(world, sweep)
            total = sum(now["counts"].values())
            self._hold(total == now["enrolled"], f"5.5 all are accounted for: {total} of {now['enrolled']}, after {move}")
            self._hold(not now["pending"], f"5.5 a closed sweep lacks nobody: {now['pending']}, after {move}")
            told = (now["counts"], now["exit_status"])
            self._hold(self.closed.setdefault(sweep, told) == told, f"5.5 a closed sweep stays as it is: {told}, after {move}")

    def check_end(self) -> None:
        """After the janitor nothing is left over; and with nothing harmed the next release is promoted."""
        world = self.world()
        tidy(world)
        self.check("the last janitor")
        self._sweeps("all moves", last=10**6)
        owned = world.engine.owned({LABEL_INSTANCE: world.instance, LABEL_KIND: "run"})
        self._hold(not any(owned.values()), f"5.4 nothing of runs stays: {owned}")
        left = [path.name for path in world.work.glob("[!.]*") if path.is_dir()] if world.work.is_dir() else []
        self._hold(not left, f"5.4 no scratch folder stays: {left}")
        if self.record_lost or self.volumes_lost or self.harmed:
            return
        warm = world.engine.owned({LABEL_INSTANCE: world.instance, LABEL_KIND: "warm"})
        record = world.registry.read(RECIPE)
        named = sorted(record.volumes) if record else []
        self._hold(warm["volumes"] == named, f"5.4 nothing warm but what the record names: {warm['volumes']} beside {named}")
        self._hold(not warm["stacks"], "4 an idle canonical runs nothing: " + ", ".join(warm["stacks"]))
        self.red = False
        self.release()
        self.queue.clear()
        self.night()
        told = summary(self.world(), max(self.closed, default=""))["outcomes"] if self.closed else []
        self._hold(self.version == version(self.released), f"2 a new release is proven and promoted: {told}")


def _number(tag: str) -> int:
    return int(tag.rpartition("+")[2])


# -- playing ------------------------------------------------------------------------------------------------

#: Moves of people and workers: those that a kill, a fault or another process may meet.
ACTS = ("prove", "promote", "rollback", "restore", "janitor", "sweep", "deliver", "upkeep", "stop", "quick", "night")
#: What the world does.
EVENTS = ("release", "double", "lose", "redden", "clock")
HARM = ("lose_record", "spoil_record", "lose_fence", "spoil_kept", "lose_volume")
#: How an act is met: killed, its disk full, its Docker gone, or another act in the middle of it.
WAYS = ("killed", "disk-full", "docker-away", "beside")


@dataclass(frozen=True)
class Move:
    """One line of a sequence: `rollback 1`, `promote 0 killed 37`, `promote 0 beside 12 rollback 0`."""

    act: str
    number: int = 0
    way: str = ""
    at: int = 0
    other: str = ""

    def __str__(self) -> str:
        said = f"{self.act} {self.number}"
        return f"{said} {self.way} {self.at} {self.other}".strip() if self.way else said

    @classmethod
    def read(cls, line: str) -> Move:
        """The move that a line says."""
        act, number, way, at, other = [*line.split(), *[""] * 5][:5]
        return cls(act, int(number or 0), way, int(at or 0), other)


@contextlib.contextmanager
def staged(house: House) -> Iterator[None]:
    """Put the house where the workers' modules look for theirs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(test_flow, "climb", lambda run: _climb(house, run))
        patched.setattr(test_flow, "run_lint", lambda run: run.tiers.update(lint=TierResult(status="pass")))
        patched.setattr(volumes, "run_checked", _in_process)
        patched.setattr(workers.steps, "live", house.world)
        patched.setattr(workers.upkeep, "queued", lambda app: {(one.sweep, RECIPE) for one in house.queue})
        patched.setattr(
            workers.tasks,
            "start_chain",
            lambda enrolment, sweep, named, *, step="sync", given=None: house._send(
                step, given or enrolment.recipe, sweep, named
            ),
        )
        yield


def _climb(house: House, run: Run) -> None:
    if run.target.data is not None:
        copy_canonical(run.world, run.app, run.target.data)
    run.world.repos.checkout(run.enrolment.recipe, run.target.commit, run.app.tree, run.enrolment.tree)
    bring_up(run.world, run.app, "install", run.deadline)
    run.images, run.disk_bytes = run.app.images, 1
    if house.red:
        raise RecipeProblem("The app does not answer.", code="not-healthy")
    for tier in PROVEN_TIERS:
        run.tiers[tier] = TierResult(status="pass")
    if not run.target.quick:
        with (house.root / "green").open("a") as file:
            file.write(f"{run.target.version}\n")


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


def play(house: House, moves: list[Move]) -> None:
    """Play a sequence to its end. Broken says what did not hold, and after which move."""
    with staged(house):
        for number, move in enumerate(moves, 1):
            house.offset += 60  # so that ids sort in the order in which they were made
            house.broken_into = bool(move.way)
            if move.act == "prove" or move.other == "prove" or (move.act == "sweep" and move.number % 3 == 1):
                house.held.discard(version(house.released))  # also where it is done by a process of its own
            _do(house, move)
            house.broken_into = False
            house.check(f"move {number}, {move}")
        house.check_end()


def _do(house: House, move: Move) -> None:
    act = functools.partial(_tried, house, move.act, move.number)
    match move.way:
        case "":
            act()
        case "killed":
            _apart(house, act, Faults("kill", move.at))
        case "disk-full" | "docker-away":
            with breaking(Faults(cast(Any, move.way), move.at), cast(Any, move.way)):
                act()
        case "beside":
            with breaking(cast(Any, _Meanwhile(house, move)), "kill"):
                act()
        case _:
            raise ValueError(f"{move} is no move")


def _tried(house: House, act: str, number: int) -> None:
    """An error that is told is an answer; anything else is a fault."""
    try:
        call = getattr(house, act)
        call(number) if call.__func__.__code__.co_argcount > 1 else call()
    except (CanonqError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOSPC:
            raise Broken(f"5.7 errors are told: {act}: {type(error).__name__}: {error}") from error
    except Broken:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise Broken(f"5.7 errors are told: {act}: {type(error).__name__}: {error} ({where.name})") from error


class _Meanwhile:
    """At one point of an act, another process does another act to its end."""

    def __init__(self, house: House, move: Move) -> None:
        self._house, self._move, self._left = house, move, move.at
        self._inside = False

    def __call__(self, name: str) -> None:
        del name
        self._left -= 1
        if self._left == 0 and not self._inside:
            self._inside = True
            _apart(self._house, lambda: _tried(self._house, self._move.other, self._move.number), None)


def _end_of(child: int) -> int:
    """Wait for a child's end; its status. One that waits for a lock which we hold, in the middle of an act, is killed there."""
    handle = os.pidfd_open(child)
    try:
        if not select.select([handle], [], [], _WAITS_AT_MOST)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(handle)
    return os.waitpid(child, 0)[1]


def _apart(house: House, act: Callable[[], None], faults: Faults | None) -> None:
    """Do it in a process of its own, which may be killed; what it queued comes back unless it was."""
    told = house.root / "told.json"
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with breaking(faults, "kill") if faults else contextlib.nullcontext():
                act()
            value: dict[str, Any] = {"queue": [one.__dict__ for one in house.queue], "broken": None}
        except Broken as error:
            value = {"queue": [], "broken": str(error)}
        except BaseException as error:  # noqa: BLE001 - told by the parent
            value = {"queue": [], "broken": f"5.7 errors are told: {type(error).__name__}: {error}"}
        with contextlib.suppress(BaseException):
            with told.open("w") as file:
                json.dump(value, file)
            status = 0
        os._exit(status)
    ended = _end_of(child)
    if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL:
        return
    found = json.loads(told.read_text())
    if found["broken"]:
        raise Broken(found["broken"])
    house.queue[:] = [Message(**one) for one in found["queue"]]
