"""One recipe's registry, sweeps and messages, and all that may happen to them; each move is followed by the invariants.

Flows, steps of the workers, upkeep, tar, file locks and a Redis are real. Docker is the Engine of files, git a table of tags, a
run's climb is made up, Celery a list of messages, and the clock is set.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from celery.exceptions import Ignore
from redis import Redis

import workers.steps
import workers.tasks
import workers.upkeep
from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.state.budget import Budget
from canonq.adapters.state.records import readable_json
from canonq.adapters.state.work_folders import promotion_in
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_RECIPE
from canonq.core.errors import CanonqError, RecordUnreadable
from canonq.core.gate import Again
from canonq.core.records import STAMP_FORMAT, Canonical, Decision, Snapshot, Synced, Verdict
from canonq.core.retention import Generation, generation_of
from canonq.core.steering import What
from canonq.flows.decide import decide_recipe
from canonq.flows.hosts import opens_sweeps, tell, where_is
from canonq.flows.keeping.kept import all_kept, end_all
from canonq.flows.keeping.room import tidy
from canonq.flows.promote import promote
from canonq.flows.promoting.restore import remove, restore
from canonq.flows.promoting.rollback import rollback
from canonq.flows.sweeps import moving, shares
from canonq.flows.sweeps.closing import stop
from canonq.flows.sweeps.opening import fences_now, open_sweep, start
from canonq.flows.sweeps.summary import summary
from canonq.flows.sync import accept_moved, sync
from canonq.flows.test import test_decided as prove_decided
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.upstream.steering import say
from canonq.flows.world import World
from canonq.ports import Repos
from canonq.settings import HostsSettings, Settings
from canonq.wiring import live
from tests.fakes import LINEAGE, FakeEngine
from tests.faults.scenario import ENROLMENT, RECIPE, version
from tests.search.stage import TagsOnly, commit_of

STEPS = ("sync", "decide", "test", "promote")
LOOK = "look"  #: the stack that `restore` is asked for
KEEP = 3  #: canonicals, to begin with; with more of them there is more to mix up
MOST_KEPT = 5
NEIGHBOUR = "blog"  #: another recipe, which nothing that happens to the first one may touch
HOSTS = ("ash", "birch")  #: the second one joins when its time has come
#: What people change in an enrolment.
ENROLMENTS = (
    "",
    "[promote]\napproval = 'ask'\n",
    "min_age = '36h'\n",
    f"[upgrade]\nbase = '{version(1)}'\n",
    f"min_age = '36h'\n[upgrade]\nbase = '{version(1)}'\n[promote]\napproval = 'ask'\n",
    "[promote]\ndata = 'fresh'\n",
    "[refs]\ndata = true\n",
    "enrolled = false\n",
    "gone",  # its folder is
)
_OFF = ENROLMENTS[-2:]
_RECORDS = ("record.json", "in-force.json", "canonical.json")
_HOUR = 3600
_AGE = 36 * _HOUR  #: seconds, where a release is to have an age
_PASSES = 12  #: of upkeep and messages, after which a move that nothing hinders is over


class Broken(AssertionError):
    """Something that must hold does not. The part before the first colon says which rule."""


@dataclass
class _Request:
    id: str
    hostname: str
    chain: Any = True
    delivery_info: dict[str, str] = field(default_factory=dict)

    @property
    def root_id(self) -> str:
        return self.id


class _Task:
    def __init__(self, name: str, host: str) -> None:
        self.request = _Request(name, f"light@{host}")


@dataclass
class Message:
    """A link of a chain that waits in the queue."""

    step: str
    given: Any
    sweep: str
    named: bool
    host: str = HOSTS[0]

    @property
    def recipe(self) -> str:
        """Whose chain it is a link of."""
        return str(self.given["recipe"] if isinstance(self.given, dict) else self.given)


@dataclass
class Machine:
    """One host: its state folder, as it is called now, and its Docker."""

    state: Path
    docker: Path
    lasting: World | None = None


@dataclass
class House:
    """One state folder through one sequence of moves, and what is known of it beside what it says itself."""

    root: Path
    redis: Redis
    redis_url: str
    machines: dict[str, Machine] = field(default_factory=dict)  #: by their names
    here: str = HOSTS[0]  #: where people type, and whose worker is at it
    home: str = HOSTS[0]  #: where the canonical is in force, or leaves
    released: int = 1
    offset: int = 0  #: seconds that the clock is ahead
    waited: int = 0  #: seconds that upkeep looks later than all that was done
    red: bool = False  #: whether the next runs are red
    queue: list[Message] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)
    closed: dict[tuple[str, str], Any] = field(default_factory=dict)  #: reports of closed sweeps, which never change again
    # What must be true, from what was done. A canonical is known by the folder that keeps it.
    present: str | None = None
    versions: dict[str, str] = field(default_factory=dict)  #: of every canonical there ever was
    runs: dict[str, str] = field(default_factory=dict)  #: the run that proved it
    lived: dict[str, list[str]] = field(default_factory=dict)  #: what its data has lived through
    line: list[str] = field(default_factory=list)  #: canonicals in the order they came to be, without those rolled back
    came: dict[str, list[str]] = field(default_factory=dict)  #: the line as it was when one came to be
    passed: set[str] = field(default_factory=set)  #: those that a rollback went past
    must: set[str] = field(default_factory=set)  #: those that must be restorable
    exact: dict[str, str] = field(default_factory=dict)  #: the version of each with its commit
    held: set[str] = field(default_factory=set)  #: versions, each with its commit, that a person went back from
    blocked: set[str] = field(default_factory=set)  #: versions that a person does not want
    approved: set[str] = field(default_factory=set)  #: versions, each with its commit, that a person has approved
    hurried: set[str] = field(default_factory=set)  #: the same of those that need not be old
    noted: set[str] = field(default_factory=set)  #: versions whose notes ask whoever upgrades for something
    commits: dict[str, str] = field(default_factory=dict)  #: of tags that upstream has moved, what they name now
    trusted: dict[str, str] = field(default_factory=dict)  #: what they named first, or what a person has accepted
    first_seen: dict[str, float] = field(default_factory=dict)  #: when each was first decided on, by the clock of then
    too_soon: str = ""  #: the release that a sweep had proven before its time
    enrolled: int = 0  #: which of ENROLMENTS is in force
    begun_before: set[tuple[str, str]] = field(default_factory=set)  #: open sweeps that go by another one: host and sweep
    harmed: set[str] = field(default_factory=set)  #: those whose snapshot was damaged from outside
    unmarked: set[str] = field(default_factory=set)  #: those of which only a later one's record says that they were in force
    record_lost: bool = False
    pid: int = field(default_factory=os.getpid)
    broken_into: bool = False  #: whether an act is under way that is met by something
    records: list[tuple[str, bytes]] = field(default_factory=list)  #: canonical.json as it was, and whose it was
    swapped: bool = False  #: whether one was put back while the canonical was on its way: a person takes it back
    named_beside: bool = False  #: whether one of two acts at the same time has the newest release tested
    volumes_lost: bool = False
    keep: int = KEEP  #: canonicals that stay restorable, as it is set now
    neighbours: int = 0  #: releases of the other recipe; 0: it was never enrolled
    neighbour_left: bool = False  #: whether its enrolment was taken away
    neighbour_goes_on: bool = False  #: whether a sweep was open then, which goes by what it read
    neighbour: tuple[bytes, str] = (b"", "")  #: its record, and the version in it
    neighbour_held: set[str] = field(default_factory=set)  #: versions of it that a person went back from
    _seen: tuple[Any, ...] = ()
    _generations: list[Generation] = field(default_factory=list)

    def prepare(self) -> House:
        """Enrol the recipe, in an empty state folder."""
        (self.root / "checkout" / "tests").mkdir(parents=True)
        self._enrol()
        self.machines[HOSTS[0]] = Machine(self.root / "state", self.root / "docker")
        return self

    def _enrol(self) -> None:
        self._enrol_neighbour()
        folder = self.root / "checkout" / "tests" / RECIPE
        if ENROLMENTS[self.enrolled] == "gone":
            shutil.rmtree(folder, ignore_errors=True)
            return
        top, table, below = ENROLMENTS[self.enrolled].partition("[")
        text = f'upstream = "/nowhere/{RECIPE}"\n{top}{ENROLMENT}{table}{below}'
        folder.mkdir(exist_ok=True)
        (folder / "recipe.toml").write_text(text)

    def _enrol_neighbour(self) -> None:
        folder = self.root / "checkout" / "tests" / NEIGHBOUR
        shutil.rmtree(folder, ignore_errors=True)
        if self.neighbours and not self.neighbour_left:
            folder.mkdir()
            (folder / "recipe.toml").write_text(f'upstream = "/nowhere"\n{ENROLMENT}')

    @property
    def state(self) -> Path:
        """The state folder of who is at it."""
        return self.machines[self.here].state

    def world(self, name: str | None = None) -> World:
        """The world as a new process sees it: none of its adapters remembers anything, so they are made once."""
        machine = self.machines[name or self.here]
        if machine.lasting is None:
            settings = Settings(
                repo=self.root / "checkout",
                state=machine.state,
                redis_url=self.redis_url,
                keep=self.keep,
                disk_need=1,
                loaded_above=0,
                host=name or self.here,
                hosts=HostsSettings(fetch=["fetch", "{host}", "{path}", "{target}"]),
            )
            budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
            machine.lasting = replace(live(settings), engine=FakeEngine(machine.docker), budget=budget)
        return replace(machine.lasting, repos=cast(Repos, TagsOnly(machine.docker, self)), now=self._now)

    @contextlib.contextmanager
    def at(self, name: str) -> Iterator[World]:
        """Another host's turn."""
        before, self.here = self.here, name
        try:
            yield self.world()
        finally:
            self.here = before

    @contextlib.contextmanager
    def typed(self, number: int = 0) -> Iterator[World]:
        """What a person types goes to the host that has the canonical, but now and then it is called where they are."""
        there = None if number % 4 == 3 or len(self.machines) == 1 else where_is(self.world(), RECIPE)
        with self.at(there or self.here) as world:
            yield world

    @property
    def tags(self) -> dict[str, str]:
        """What upstream has, and the clones as well."""
        names = [version(number) for number in range(1, self.released + 1)]
        return {tag: self.commits.get(tag) or commit_of(tag) for tag in names}

    @property
    def newest(self) -> str:
        """The newest release's tag."""
        return version(self.released)

    @property
    def newest_exactly(self) -> str:
        """The same with its commit."""
        return self._at_commit(self.newest)

    def _at_commit(self, tag: str) -> str:
        return f"{tag} {self.tags[tag]}"

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.offset)

    # -- moves: what people, workers and the world do ------------------------------------------------------

    def release(self) -> None:
        """Upstream publishes the next release."""
        self.released += 1

    def prove(self) -> None:
        """A person has the newest release tested, which names it: `canonq test`."""
        with self.typed() as world:
            prove_tag(world, RECIPE, None)

    def look_at(self, hours: int = 0) -> None:
        """The same, and what is deployed is to stay for some hours where it is red."""
        with self.typed() as world:
            prove_tag(world, RECIPE, None, keep_on_red=(hours % 4 + 1) * _HOUR)

    def quick(self) -> None:
        """A person looks at the canonical's data: `canonq test --quick`."""
        with self.typed() as world:
            prove_tag(world, RECIPE, None, quick=True)

    def ref(self) -> None:
        """Somebody has a pull request tested."""
        with self.typed() as world:
            prove_ref(world, RECIPE, "pull/7/head")

    def promote(self, number: int = 0) -> None:
        """`canonq promote`, or its message delivered again."""
        with self.typed(number) as world:
            promote(world, RECIPE)

    def again(self, proven: int = 0) -> None:
        """The canonical's own version is proven again, or not; then `canonq promote --again --reason`."""
        with self.typed() as world:
            record = world.registry.read(RECIPE)
            if record is not None and proven % 2 == 0:
                prove_tag(world, RECIPE, record.version)
            promote(world, RECIPE, Again(by="a person", reason="its data was spoilt"))

    def rollback(self, back: int = 0) -> None:
        """`canonq rollback`, to the one before or to one that is kept."""
        kept = sorted({self.versions[name] for name in self.must} - {self.version})
        to = None if back == 0 or not kept else kept[back % len(kept)]
        with self.typed() as world:
            rollback(world, RECIPE, to=to, reason="it lost mail", who="a person")

    def restore(self) -> None:
        """`canonq restore --stack look`, or its removal when it is there."""
        with self.typed() as world:
            if world.engine.observe(LOOK)[0]:
                remove(world, RECIPE, LOOK)
            else:
                restore(world, RECIPE, LOOK)

    def janitor(self) -> None:
        """`canonq janitor`."""
        tidy(self.world())

    def sweep(self, named: int = 0) -> None:
        """The night begins, or a person's sweep of the recipe."""
        self._beat()
        self._open(self.world(), [RECIPE] if named % 3 == 1 else ())

    def call(self) -> None:
        """`celery call canonq.sweep --args RECIPE`: it waits until a worker takes it."""
        self.send("call", [secrets.token_hex(4), fences_now(self.world(), [RECIPE])], "", True)

    def _open(self, world: World, recipes: Sequence[str], sweep: str | None = None, fences: object = None) -> None:
        opened = open_sweep(world, recipes, sweep, fences=fences)
        begins, elsewhere = shares.divide(world, opened)
        for host, names in elsewhere.items():
            told = world.sweeps.read(opened.sweep)["fences"]
            self.send("share", [self.here, names, told], opened.sweep, opened.named, host)
        start(world, begins, lambda enrolment: self.send("sync", enrolment.recipe, opened.sweep, opened.named))

    def deliver(self, which: int = 0) -> None:
        """A worker takes a message, does the step, and hands on the chain."""
        if not self.queue:
            return
        message = self.queue[which % len(self.queue)]
        with self.at(message.host) as world:
            if message.step in STEPS:
                self._step(message)
            else:
                self._at_once(world, message)

    def _step(self, message: Message) -> None:
        task = _Task(f"{message.sweep}-{message.step}", message.host)
        try:
            value = workers.steps.take(cast(Any, task), message.step, message.given, message.sweep, self._action(message))
        except (Ignore, workers.steps.StepFailed):
            value = None
        if message in self.queue:  # another process may have had it as well
            self.queue.remove(message)  # acknowledged last
        if value is not None and task.request.chain is not None and message.step != STEPS[-1]:
            self.send(STEPS[STEPS.index(message.step) + 1], value, message.sweep, message.named)

    def _action(self, message: Message) -> Callable[[World], Any]:
        given, sweep = message.given, message.sweep
        return {
            "sync": lambda world: sync(world, message.recipe, sweep=sweep, named=message.named),
            "decide": lambda world: self._aged(world, decide_recipe(world, Synced.model_validate(given))),
            "test": lambda world: prove_decided(world, Decision.model_validate(given)),
            "promote": lambda world: promote(world, Verdict.model_validate(given)),
        }[message.step]

    def _aged(self, world: World, decided: Decision) -> Decision:
        """A decision, and whether it sends a release on before its time."""
        asks = "min_age" in ENROLMENTS[self.enrolled] and not self.begun_before
        if asks and decided.recipe == RECIPE and decided.version is not None and decided.action == "run":
            now = world.now().timestamp()
            noted = world.steering.first_seen(RECIPE, decided.version, self.tags[decided.version])
            seen = datetime.strptime(noted, STAMP_FORMAT).replace(tzinfo=UTC).timestamp() if noted else now
            since = min(seen, self.first_seen.setdefault(self._at_commit(decided.version), now))
            young = 0 <= now - since < _AGE - 120
            if young and self._at_commit(decided.version) not in self.hurried:
                self.too_soon = decided.version
        return decided

    def _at_once(self, world: World, message: Message) -> None:
        """What people call, and what hosts send each other: shares of a sweep, and the steps of a move. Done again, it is done
        once."""
        try:
            match message.step, message.given:
                case "call", [_, _] if (opener := opens_sweeps(world)) is not None:
                    self.send("call", message.given, "", True, opener)
                case "call", [task, fences]:
                    self._open(world, [RECIPE], world.sweeps.calls.sweep_for(task, world.new_id()), fences)
                case "share", [opener, names, fences]:
                    again = world.sweeps.shares.opener(message.sweep) is not None
                    opened = open_sweep(world, names, message.sweep, named=message.named, share_of=opener, fences=fences)
                    start(world, opened, lambda one: self.send("sync", one.recipe, message.sweep, message.named))
                    (shares.tell_again if again else shares.tell_share)(world, message.sweep)
                case "leave", to:
                    self._leave(world, to)
                case "arrive", [source, mark]:
                    moving.arrive(world, RECIPE, source, mark)
                    self.send("left", None, "", False, source)
                case "left", _:
                    moving.settle(world, RECIPE)
        finally:
            if message in self.queue:
                self.queue.remove(message)

    def send(self, step: str, given: Any, sweep: str, named: bool, host: str | None = None) -> None:
        """A link of a chain is queued, or a word to another host."""
        self.queue.append(Message(step, given, sweep, named, host or self.here))

    def night(self) -> None:
        """A whole sweep, with all its messages."""
        self.sweep()
        while self.queue:
            self.deliver()
            if os.getpid() == self.pid and not self.broken_into:
                self.check("a delivery in the night")
        if len(self.machines) > 1:
            self.upkeep()

    def double(self, which: int = 0) -> None:
        """A message is delivered twice."""
        if self.queue:
            self.queue.append(replace(self.queue[which % len(self.queue)]))

    def lose(self) -> None:
        """Redis loses its memory: messages, leases and all."""
        self.queue.clear()
        self.redis.flushall()

    def upkeep(self, late: int = 0) -> None:
        """Upkeep looks after open sweeps; some hours later chains that are in no queue are taken for lost."""
        self.waited = late % 2 * 20 * _HOUR
        try:
            for name in self.machines:
                with self.at(name) as world:
                    tell(world)
                    workers.upkeep.reconcile(world, cast(Any, None))
        finally:
            self.waited = 0

    # -- moves: beside another recipe ----------------------------------------------------------------------

    def meet(self) -> None:
        """Another recipe is enrolled, or has its next release; its enrolment comes back where it was taken away."""
        if len(self.machines) == 1:
            self.neighbours += 1
            self.neighbour_left = False
            self._enrol()

    def part(self) -> None:
        """Its enrolment is taken away, or brought back."""
        self.neighbour_left = self.neighbours > 0 and not self.neighbour_left
        self.neighbour_goes_on = bool(self.world().sweeps.open_sweeps())
        self._enrol()

    def neighbour_on(self) -> None:
        """A person has its newest release tested and promoted."""
        if self.neighbours:
            prove_tag(self.world(), NEIGHBOUR, None)
            promote(self.world(), NEIGHBOUR)

    def neighbour_back(self) -> None:
        """A person goes back from its canonical."""
        if self.neighbours:
            rollback(self.world(), NEIGHBOUR, to=None, reason="it lost mail", who="a person")

    def set_keep(self, keep: int = 0) -> None:
        """The setting `keep` is changed."""
        self.keep = 1 + keep % MOST_KEPT
        for machine in self.machines.values():
            machine.lasting = None
        self.must &= {*self.line[-self.keep :], self.present or ""}

    # -- moves: between hosts ------------------------------------------------------------------------------

    def second(self) -> None:
        """A second host joins the first."""
        if len(self.machines) < len(HOSTS) and not self.neighbours:
            self.machines[HOSTS[1]] = Machine(self.root / "state-2", self.root / "docker-2")
            for name in self.machines:
                world = self.world(name)
                world.hosts.join(world.stamp(), asked=True)
            self._beat()
            self._beat()  # who joined last has heard of the first; now that one hears of it
            for word in self.world(HOSTS[0]).steering.words(RECIPE):
                self.world(HOSTS[1]).steering.say(RECIPE, word)

    def _beat(self) -> None:
        """Each host says that it lives, and what it has, as it does all the time."""
        if len(self.machines) > 1:
            for name in self.machines:
                with contextlib.suppress(CanonqError, OSError):
                    tell(self.world(name))

    def go_over(self) -> None:
        """Whoever types sits down at another host."""
        self.here = [*self.machines][-1 - [*self.machines].index(self.here)]

    def move(self, taken_back: int = 0) -> None:
        """`canonq move` to the other host; or back, as long as it is on its way."""
        if len(self.machines) == 1:
            return
        self._beat()
        source = where_is(self.world(), RECIPE) or self.here
        other = next(name for name in self.machines if name != source)
        with self.at(source) as world:
            self._leave(world, source if taken_back % 4 == 3 else other)

    def _leave(self, world: World, to: str) -> None:
        mark = moving.leave(world, RECIPE, to, by="a person")
        if mark is not None:
            workers.tasks.send_move(world, mark)

    def drain(self) -> None:
        """A host is to have nothing any more, or may have it again."""
        if len(self.machines) > 1:
            self._beat()
            world = self.world()
            state = next(one.joined.state for one in world.hosts.learn() if one.name == self.here)
            world.hosts.mark(self.here, "in" if state == "draining" else "draining")

    def stop(self) -> None:
        """A person stops the newest sweep."""
        world = self.world()
        if found := world.sweeps.open_sweeps():
            stop(world, found[-1], "a person stopped it.")
            shares.stopped(world, found[-1])

    def block(self) -> None:
        """A person blocks the newest release, or takes the block back."""
        what: What = "unblock" if self.newest in self.blocked else "block"
        self._say(what)
        self.blocked ^= {self.newest}

    def approve(self) -> None:
        """A person approves the newest release, as it is now."""
        self._say("approve")
        self.approved.add(self.newest_exactly)

    def hurry(self) -> None:
        """A person does not want to wait for the newest release's age."""
        self._say("hurry")
        self.hurried.add(self.newest_exactly)

    def _say(self, what: What) -> None:
        """Where the canonical is, and where it may go: what was said on one host goes with the canonical, and not by itself."""
        for name in self.machines:
            say(self.world(name), RECIPE, self.newest, what, by="a person", reason="so that it is known")

    def demand(self) -> None:
        """The newest release's notes ask whoever upgrades to do something."""
        self.noted.add(self.newest)

    def enrol(self, which: int = 0) -> None:
        """The enrolment is changed, switched off, or taken away."""
        self.enrolled = which % len(ENROLMENTS)
        self._enrol()
        self.begun_before |= {(name, sweep) for name in self.machines for sweep in self.world(name).sweeps.open_sweeps()}

    def move_tag(self, which: int = 0) -> None:
        """Upstream has a tag name another commit: the newest one, or the canonical's."""
        tag = self.newest if which % 2 or self.version is None else self.version
        self.trusted.setdefault(tag, self.tags[tag])
        self.commits[tag] = commit_of(f"{tag} {secrets.token_hex(4)}")

    def accept(self) -> None:
        """A person accepts what moved: `canonq sync --accept-moved`."""
        for tag in [tag for tag, commit in self.trusted.items() if commit != self.tags[tag]]:
            accept_moved(self.world(), RECIPE, tag)

    def redden(self) -> None:
        """From now on runs are red, or green again."""
        self.red = not self.red

    def clock(self, hours: int = 0) -> None:
        """The clock jumps, forwards or back."""
        self.offset += (hours % 1000 - 500) * _HOUR

    def move_state(self, how: int = 0) -> None:
        """The state folder is moved to another disk, copied to a new host in place of the old one, or named by another path."""
        self.world()  # it is there by now
        machine = self.machines[self.here]
        target, now = self.root / f"state-{secrets.token_hex(4)}", machine.state
        match how % 3:
            case 0:
                now.rename(target)
            case 1:
                shutil.copytree(now, target, symlinks=True)
                shutil.rmtree(now.resolve())
                now.unlink(missing_ok=True)
            case _:
                target.symlink_to(now)
        machine.state, machine.lasting = target, None

    def lose_locks(self, which: int = 0) -> None:
        """Somebody removes "stale" lock files."""
        for path in self.warm.glob("*.lock" if which % 2 else "*.[lf]*[ke]"):
            path.unlink(missing_ok=True)

    # -- moves: harm from outside --------------------------------------------------------------------------

    @property
    def warm(self) -> Path:
        return self.machines[self.home].state / "warm" / RECIPE

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

    def old_record(self) -> None:
        """Somebody puts canonical.json back as it was when another one that is kept was in force."""
        path, whole = self.warm / "canonical.json", self.must - self.harmed - self.passed - {self.present}
        before = [(name, text) for name, text in self.records if name in whole]
        if not before or self.present is None or self.record_lost or not path.is_file():
            return
        name, text = before[-1]
        path.write_bytes(text)
        self.line = list(self.came[name])
        self.must.add(self.present)
        self.runs.pop(self.present, None)  # it may be promoted once more
        self.present, self.volumes_lost = name, True  # those of that time are gone, until the janitor unpacks them
        self.swapped = bool(moving.leaving(self.world(self.home)))

    def lose_fence(self, empty: int = 0) -> None:
        """The fence is gone, or empty."""
        path = self.warm / "registry.fence"
        if path.is_file():
            path.write_text("") if empty % 2 else path.unlink()

    def spoil_kept(self, which: int = 0) -> None:
        """A kept snapshot, or its record, is damaged; or the mark is gone that says it was in force."""
        folders = sorted((self.warm / "canonicals").glob("*/record.json"))
        if not folders:
            return
        chosen = folders[which % len(folders)]
        match which % 3:
            case 0:
                next(iter(chosen.parent.glob("volumes*"))).write_bytes(b"not an archive")
            case 1:
                os.truncate(chosen, 9)
                self.harmed |= self.unmarked  # what said that they were in force may have been in there
            case _:
                if chosen.parent.name == self.present:
                    return  # with its record it would be lost altogether: nothing else says that it was
                (chosen.parent / "in-force.json").unlink(missing_ok=True)
                if chosen.parent.name in self.line and self._is_followed(chosen.parent.name):
                    self.unmarked.add(chosen.parent.name)
                    return  # who came after it says that it was
        self.harmed.add(chosen.parent.name)

    def _is_followed(self, name: str) -> bool:
        """Whether a record that is there names it as the one before: who came after it may have been dropped, and all it said."""
        records = [*(self.warm / "canonicals").glob("*/*.json"), self.warm / "canonical.json"]
        found = [readable_json(path) for path in records if path.name in _RECORDS]
        return any(_name_of(one.get("previous") or {}) == name for one in found)

    def lose_volume(self) -> None:
        """A retained volume is gone from Docker."""
        docker = self.machines[self.home].docker
        for name in FakeEngine(docker).owned({LABEL_KIND: "warm", LABEL_RECIPE: RECIPE})["volumes"][:1]:
            shutil.rmtree(docker / "volumes" / name)
            self.volumes_lost = True

    # -- what must hold ------------------------------------------------------------------------------------

    @property
    def version(self) -> str | None:
        """The canonical's version."""
        return self.versions.get(self.present or "")

    def check(self, move: str) -> None:
        """All invariants, after a move; then what they rest on next time."""
        self._hold(not self.too_soon, f"2 what is too young is not proven: {self.too_soon}, after {move}")
        self._stays(move)
        self._find_home(move)
        self._untouched(move)
        try:
            record = self.world(self.home).registry.read(RECIPE)
        except RecordUnreadable:
            self._hold(self.record_lost, f"5.1 the record is complete: it cannot be read after {move}")
            return
        if record is None:
            self._hold(self.present is None or self.record_lost, f"5.1 the record is there: it is gone after {move}")
            return
        self._hold(record.snapshot, f"5.1 a snapshot is named: none of {record.version}, after {move}")
        name = Path(cast(Snapshot, record.snapshot).path).parent.name
        self._generations = self._looked_at()
        for one in self._generations:
            if one.mark is not None and one.name not in (*self.versions, name) and one.mark.fence < record.fence:
                self._promoted(move, one.mark, one.name)  # within the move, and followed before anybody looked
        if name != self.present and name in self.versions and "rollback" in move:
            if (between := _name_of(record.previous or {})) in self.versions and between not in (self.present, name):
                self._gone_back(str(between))  # two of them within one move
            self._gone_back(name)
        elif name != self.present:
            self._promoted(move, record, name)
        elif self.record_lost:
            self.record_lost = False  # it was brought back as it was
        if (text := (self.warm / "canonical.json").read_bytes()) not in [known for _, known in self.records[-1:]]:
            self.records.append((name, text))
        self._whole(move, record, name)
        self._kept(move)
        self._sweeps(move)
        self.begun_before = {(name, one) for name, one in self.begun_before if not self.world(name).sweeps.closed(one)}

    def _untouched(self, move: str) -> None:
        """The other recipe's canonical is whole, and is another one only by its own releases and rollbacks."""
        if not self.neighbours:
            return
        world, (text, before) = self.world(), self.neighbour
        record, path = world.registry.read(NEIGHBOUR), self.state / "warm" / NEIGHBOUR / "canonical.json"
        if record is None:
            self._hold(not text, f"5.1 the neighbour's record is there: it is gone after {move}")
            return
        now = record.version
        if path.read_bytes() != text:
            if before and _number(now) < _number(before):
                self._hold("neighbour_back" in move, f"5.2 the neighbour goes forwards only: {before} to {now}, after {move}")
                if "neighbour_on" not in move:
                    self.neighbour_held.add(before)
            elif now != before:
                self._hold(now not in self.neighbour_held, f"5.2 nothing of the neighbour comes back: {now}, after {move}")
                left = self.neighbour_left and not self.neighbour_goes_on
                self._hold(not left, f"2 a neighbour that left is not promoted: {now}, after {move}")
            self.neighbour = (path.read_bytes(), now)
        problem = _problem_of(cast(Snapshot, record.snapshot))
        self._hold(problem is None, f"5.1 the neighbour's snapshot verifies: {now}: {problem}, after {move}")
        gone = [volume for volume in record.volumes if world.engine.volume_path(volume) is None]
        self._hold(not gone, f"5.1 the neighbour's volumes are there: {gone} of {now} are gone, after {move}")

    def _find_home(self, move: str) -> None:
        """Where the canonical is in force; on its way that is where it leaves."""
        if len(self.machines) == 1:
            return
        found, fences = {}, {}
        for name in self.machines:
            registry = self.world(name).registry
            mark = registry.elsewhere(RECIPE)
            with contextlib.suppress(RecordUnreadable):
                record = registry.read(RECIPE)
                if record is None or (mark is not None and mark.state == "gone"):
                    continue
                fences[name] = record.fence
            found[name] = mark is None
        in_force = [name for name, there in found.items() if there]
        self._hold(len(in_force) <= 1, f"5.3 one host has it: {' and '.join(in_force)} have, after {move}")
        # Where it leaves again before the host that it came from has heard that it had come, it leaves both.
        on_its_way = sorted(found, key=lambda name: fences.get(name, 0), reverse=True)
        self.home = next(iter([*in_force, *on_its_way]), self.home)

    def _stays(self, move: str) -> None:
        """What somebody wants to look at is there until its time is over."""
        for name in self.machines:
            world = self.world(name)
            for one in all_kept(world):
                there = world.engine.observe(one.stack)[0]
                self._hold(there, f"5.8 what is kept is there: {one.stack} of {one.version} is gone, after {move}")

    def _looked_at(self) -> list[Generation]:
        """What is kept; not read again where no file of it has changed."""
        files = [self.warm / "canonical.json", *sorted((self.warm / "canonicals").glob("*/*.json"))]
        found = tuple((path, *_identity(path)) for path in files)
        if self._seen != found:
            self._seen, self._generations = found, self.world(self.home).registry.kept(RECIPE)
        return self._generations

    def _hold(self, true: object, said: str) -> None:
        if not true:
            raise Broken(said)

    def _promoted(self, move: str, record: Canonical, name: str) -> None:
        came_from = _name_of(record.previous or {})
        if came_from and came_from not in self.versions and self.keep == 1 and ("beside" in move or "race" in move):
            # It came within the move and was followed, so that only who came after it says that it was.
            told_of = record.previous or {}
            self._has_come(came_from, str(told_of["version"]), told_of.get("run"), told_of["commit"])
        if came_from != self.present:
            told = f"4 the one before is the one before: {record.version} came from {came_from}, after {move}"
            self._hold("rollback" in move and came_from in self.versions, told)
            self._gone_back(str(came_from))  # within the move, and before it was promoted
        now, before = record.version, self.version
        green = [line.split()[0] for line in (self.root / "green").read_text().splitlines() if line.split()[1] == now]
        self._hold(record.run in green, f"5.2 green before canonical: {now} has no green run {record.run}, after {move}")
        spent = self.runs.values()
        self._hold(record.run not in spent, f"5.2 one run makes one canonical: {record.run} made two, after {move}")
        there = not self.record_lost or "rollback" in move  # which brings it back, beside what promoted then
        self._hold(there, f"4 a lost record is never seeded over: {now} is new, after {move}")
        exact = f"{now} {record.commit}"
        self._hold(exact not in self.held, f"5.2 nothing comes back: {now}, which a person went back from, after {move}")
        wanted = now not in self.blocked or now == before  # what is the canonical may be made anew
        self._hold(wanted, f"4 what is blocked is not promoted: {now}, after {move}")
        off = ENROLMENTS[self.enrolled] in _OFF and not self.begun_before
        self._hold(not off, f"2 what is not enrolled is not promoted: {now}, after {move}")
        asks = "approval" in ENROLMENTS[self.enrolled] and not self.begun_before and self._asking(before, now)
        self._hold(exact in self.approved or not asks, f"4 what is to be approved waits: {now}, after {move}")
        trusted = self.trusted.get(now, record.commit)
        self._hold(record.commit == trusted, f"2 a moved tag is not followed: {now} at {record.commit}, after {move}")
        higher = before is None or _number(now) > _number(before) or (now == before and "again" in move)
        self._hold(higher, f"5.2 forwards only: from {before} to {now}, after {move}")
        proven = self.world(self.home).runs.verdict(RECIPE, str(record.run))
        from_it = before in (None, now) or proven is None or proven.base_from == "pinned" or proven.base == before
        told = f"2 proven from what it came from: {now} from {proven and proven.base}, and it came from {before}, after {move}"
        self._hold(from_it, told)
        self._has_come(name, now, record.run, record.commit)
        self.must = (self.must | {name}) & set(self.line[-self.keep :])
        self.record_lost, self.volumes_lost = False, False

    def _has_come(self, name: str, version: str, run: object, commit: object) -> None:
        """It is the canonical, after all that were before it."""
        self.line.append(name)
        self.versions[name], self.runs[name], self.came[name] = version, str(run), list(self.line)
        self.exact[name] = f"{version} {commit}"
        self.present = name

    def _asking(self, before: str | None, now: str) -> bool:
        """Whether notes of a release after one version, up to another, ask for something."""
        return before is not None and any(_number(before) < _number(tag) <= _number(now) for tag in self.noted)

    def _gone_back(self, name: str) -> None:
        """By a rollback, which may also lead to one that came later, and then to all that this one came from."""
        left, order = self.present or "", list(self.versions)
        self.held.discard(self.exact[name])
        if self.versions[left] != self.versions[name] and not self._was_named_since(name, self.exact[left]):
            self.held.add(self.exact[left])
        if order.index(name) > order.index(left):
            self.line = list(self.came[name])
            self.passed -= set(self.line)
            self.must = (self.must | {left, name}) & set(self.line[-self.keep :])
        else:
            self.passed |= {one for one in self.line if order.index(one) > order.index(name)} - {name}
            self.passed.discard(name)
            self.line = [one for one in self.line if one not in (left, name)] + [name]
            self.must.discard(left)
        self.present, self.record_lost, self.volumes_lost = name, False, False

    def _was_named_since(self, name: str, exact: str) -> bool:
        """Whether somebody beside a rollback to `name` had a release tested when it had just been gone back from: who does that
        may promote it."""
        if not self.named_beside:
            return False
        world = self.world(self.home)
        record, newest = world.registry.read(RECIPE), world.runs.newest(RECIPE)
        known = [one.mark for one in self._generations if one.name == name]
        fences = [one.fence for one in (*known, record) if one is not None and world.registry.name_of(one) == name]
        since = newest is not None and newest.fence is not None and bool(fences) and newest.fence >= max(fences)
        return since and newest is not None and f"{newest.version} {newest.commit}" == exact

    def _whole(self, move: str, record: Canonical, name: str) -> None:
        engine = self.world(self.home).engine
        if name not in self.harmed:
            problem = _problem_of(cast(Snapshot, record.snapshot))
            self._hold(problem is None, f"5.1 the snapshot verifies: {record.version}: {problem}, after {move}")
        folders = {volume: engine.volume_path(volume) for volume in record.volumes}
        if self.volumes_lost and None in folders.values():
            return
        self.volumes_lost = False
        for volume, folder in folders.items():
            self._hold(folder, f"5.1 the volumes are there: {volume} of {record.version} is gone, after {move}")
            lived = (cast(Path, folder) / LINEAGE).read_text().split()
            self._hold(lived == self.lived.setdefault(name, lived), f"4 data stays as it was: {record.version}, after {move}")

    def _kept(self, move: str) -> None:
        wanted = self.must - self.harmed - {self.present}
        if not wanted:
            return
        kept = {one.name: one.record for one in self._generations}
        full = len((set(self.line) - self.passed) & set(kept)) >= self.keep
        for name in sorted(wanted):
            tag, found = self.versions[name], kept.get(name)
            if found is None and name in self.passed and full:  # one more was there, as a killed promotion drops nothing
                self.must.discard(name)
                continue
            self._hold(found is not None, f"4 the last `keep` stay: {tag} is not kept any more, after {move}")
            problem = _problem_of(found.snapshot) if found and found.snapshot else "no snapshot"
            self._hold(problem is None, f"4 the last `keep` are restorable: {tag}: {problem}, after {move}")

    def _sweeps(self, move: str, last: int = 3) -> None:
        """The last sweeps; `last`: how many. What harms an older one shows at the end, when all are looked at."""
        for name, machine in self.machines.items():
            world = self.world(name)
            for sweep in sorted(path.name for path in (machine.state / "sweeps").glob("*Z-*"))[-last:]:
                if world.sweeps.closed(sweep) is None:
                    continue
                now = summary(world, sweep)
                total = sum(now["counts"].values())
                self._hold(total == now["enrolled"], f"5.5 all are accounted for: {total} of {now['enrolled']}, after {move}")
                self._hold(not now["pending"], f"5.5 a closed sweep lacks nobody: {now['pending']}, after {move}")
                told = (now["counts"], now["exit_status"])
                kept = self.closed.setdefault((name, sweep), told)
                self._hold(kept == told, f"5.5 a closed sweep stays as it is: {told}, after {move}")

    def check_end(self) -> None:
        """After the janitor nothing is left over; and with nothing harmed the next release is promoted."""
        self.waited, self.red = 0, False
        self._end_moves()
        for name in self.machines:
            with self.at(name) as world:
                end_all(world, "the end")
                tidy(world)
        self.check("the last janitor")
        self._sweeps("all moves", last=10**6)
        for name in self.machines:
            self._is_clean(self.world(name))
        if self.record_lost or self.volumes_lost or self.harmed:
            return
        for name in self.machines:
            world = self.world(name)
            warm = world.engine.owned({LABEL_INSTANCE: world.instance, LABEL_KIND: "warm"})
            record = world.registry.read(RECIPE)
            beside = world.registry.read(NEIGHBOUR)
            named = sorted(volume for one in (record, beside) if one is not None for volume in one.volumes)
            self._hold(warm["volumes"] == named, f"5.4 nothing warm but what the record names: {warm['volumes']} beside {named}")
            kept = [one for one in world.registry.kept(RECIPE) if one.record is not None]
            self._hold(len(kept) <= self.keep, f"4 no more than `keep` stay: {len(kept)} of {self.keep}")
            self._hold(not warm["stacks"], "4 an idle canonical runs nothing: " + ", ".join(warm["stacks"]))
        self._next_release()

    def _end_moves(self) -> None:
        """What is on its way between hosts ends, as nothing hinders it any more."""
        if len(self.machines) == 1:
            return
        self._let_leases_end()
        if self.swapped:
            for mark in moving.leaving(self.world(self.home)):
                moving.leave(self.world(self.home), mark.recipe, self.home, by="a person")
        for _ in range(_PASSES):
            self._beat()
            self.upkeep()
            while messages := [one for one in self.queue if one.step in ("leave", "arrive", "left")]:
                self.queue.remove(messages[0])
                with self.at(messages[0].host) as world, contextlib.suppress(CanonqError):
                    self._at_once(world, messages[0])
            if not any(moving.leaving(self.world(name)) for name in self.machines):
                break
            self._let_leases_end()
        else:
            self._hold(self.harmed or self.record_lost, "5.1 a move ends: it is on its way for ever")

    def _let_leases_end(self) -> None:
        """Of those who were killed: on their own host that shows at once, on another one when a minute is over."""
        self.redis.delete(*[f"canonq:{lane}:{RECIPE}" for lane in ("registry", "run")])

    def _is_clean(self, world: World) -> None:
        owned = world.engine.owned({LABEL_INSTANCE: world.instance, LABEL_KIND: "run"})
        self._hold(not any(owned.values()), f"5.4 nothing of runs stays: {owned}")
        there = [path for path in world.work.glob("[!.]*") if path.is_dir()] if world.work.is_dir() else []
        # Without a record only its journal tells that a promotion was broken off: it stays until somebody brings the record back.
        left = [path.name for path in there if not (self.record_lost and promotion_in(path))]
        self._hold(not left, f"5.4 no scratch folder stays: {left}")

    def _next_release(self) -> None:
        """Whatever was, the next release that nothing speaks against is proven and promoted by the next night."""
        for name in self.machines:
            with contextlib.suppress(CanonqError):
                self.world(name).hosts.mark(name, "in")
        if ENROLMENTS[self.enrolled] in _OFF:
            self.enrol()
        self.accept()
        self.release()
        self.hurry()
        self.approve()
        self.queue.clear()
        self.night()
        told = [one for name, sweep in [*self.closed][-2:] for one in summary(self.world(name), sweep)["outcomes"]]
        self._hold(self.version == self.newest, f"2 a new release is proven and promoted: {told}")


def _name_of(previous: dict[str, Any]) -> str | None:
    snapshot = previous.get("snapshot")
    return generation_of(snapshot["path"]) if isinstance(snapshot, dict) else None


def _problem_of(kept: Snapshot) -> str | None:
    """The problem of a snapshot; one in which no file has changed is not read again."""
    folder = Path(kept.path).parent
    found = tuple((path.name, *_identity(path)) for path in sorted(folder.iterdir())) if folder.is_dir() else ()
    if _sound.get(folder) != (kept, found):
        if (problem := problem_of(kept)) is not None:
            return problem
        _sound[folder] = (kept, found)
    return None


_sound: dict[Path, tuple[Snapshot, tuple[Any, ...]]] = {}


def _identity(path: Path) -> tuple[int, ...]:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _number(tag: str) -> int:
    return int(tag.rpartition("+")[2])
