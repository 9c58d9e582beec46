"""Three hosts with networks of their own: links are cut and mended at random while they sweep, canonicals are moved, hosts are
drained, lose power or die for good, and Redis forgets all it knew.

`pytest tests/hosts/test_cut_links.py --rounds 100 --seed 7` is the long one.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.state.locks import redis_client
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.records import Canonical
from canonq.core.versions import read_tags
from canonq.flows.hosts import known
from canonq.flows.keeping.janitor import clean
from canonq.flows.sweeps.moving import leaving
from canonq.flows.world import World
from tests.fakes import LINEAGE
from tests.hosts.apart import LEASE, settings_in
from tests.hosts.house import House, Machine
from tests.hosts.links import Links, what_is_missing

pytestmark = pytest.mark.long

NAMES = ("ash", "birch", "cedar")
LONGEST_CUT = 4.5 * LEASE  #: seconds: longer than a host's share is waited for
#: What happens beside cuts, and how often of so many times.
ACTS = {"move": 5, "flush": 3, "power": 3, "drain": 2, "death": 1, "": 6}


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Apart]:
    if missing := what_is_missing():
        pytest.skip(f"no networks can be made here without {', '.join(missing)}")
    with Links(tmp_path / "links", NAMES) as links:
        made = Apart(tmp_path, links)
        try:
            yield made
        finally:
            made.house.end()


@dataclass
class Seen:
    """What is remembered of a recipe from round to round."""

    version: str | None = None
    fence: int = 0
    host: str = ""
    released: list[str] = field(default_factory=list)


class Apart:
    """The hosts, and what has to hold of them."""

    def __init__(self, below: Path, links: Links) -> None:
        self.links = links
        self.house = House(below, links.url, *NAMES)
        self.seen: dict[str, Seen] = {}
        self.typed = 0  #: sweeps that somebody has typed and that were sent
        self.drained = ""
        self.done: list[str] = []  #: what has happened
        for name, one in self.house.machines.items():
            one.installed.settings |= settings_in(links.spaces[name])
            one.settings = one.settings.model_copy(update={"redis_url": SecretStr(links.url_here)})

    def start(self) -> None:
        """Have all of them join and work."""
        for name in NAMES:
            assert self.house[name].canonq("hosts", "join").status == 0
            self.house[name].start()
        self.house.until("workers", lambda: all("ready." in self.house[name].said for name in NAMES))

    def enrol(self, recipe: str) -> None:
        """One more recipe, which is nowhere yet."""
        self.house.enrol(recipe)
        self.seen[recipe] = Seen(released=["1.0.0+1"])

    def release(self, recipe: str) -> None:
        """A newer release of it."""
        released = self.seen[recipe].released
        released.append(f"1.{len(released)}.0+1")
        self.house.release(recipe, released[-1])

    def sweep(self, opener: str) -> None:
        """Somebody types it on a host that has a link; one whose message is lost with the link is accounted for as any other."""
        self.typed += self.type(opener, "sweep")

    def act(self, what: str, chance: random.Random) -> None:
        """One of `ACTS`, beside what goes on. Whoever types may be refused, or hear nothing in time."""
        name, other = chance.sample(NAMES, 2)
        if what == "move":
            self.type(name, "move", chance.choice(sorted(self.seen)), other)
        elif what == "drain" and not self.drained and self.type(name, "drain", other):
            self.drained = other
        elif what == "flush":
            redis_client(self.links.url_here).flushall()
            self.done.append("flush")
        elif what in ("power", "death"):
            self.done.append(f"{what} of {name}")
            self.house[name].kill()
            if what == "power":
                self.house[name].start()
            else:
                self._dies(name, other)

    def type(self, host: str, *words: str) -> bool:
        """Whether a command came through; whatever comes of it, canonq has not broken."""
        told = self.house[host].canonq(*words, "--json")
        assert told.status in (0, 1, 2, 3), told
        assert "Traceback" not in told.err, told
        self.done.append(f"{host}: {' '.join(words)}: {told.status}")
        return told.status == 0

    def _dies(self, name: str, other: str) -> None:
        """A host is lost with its disk; as soon as it is away, somebody says so, and a new machine joins under its name."""
        self.house.until(f"absence of {name}", lambda: not _is_alive(self.house[other].world, name))
        self.house.until("word of it", lambda: self.type(other, "hosts", "remove", name, "--reason", "its disk is broken"))
        for recipe, seen in self.seen.items():
            if self.at(recipe).keys() <= {name}:  # as somebody has said who removed it: it is begun anew elsewhere
                self.seen[recipe] = Seen(released=seen.released)
        shutil.rmtree(self.house[name].folder / "state")
        shutil.rmtree(self.house[name].folder / "docker")
        if self.drained == name:
            self.drained = ""
        self.house.until("new machine", lambda: self.type(name, "hosts", "join"))
        self.house[name].start()

    def at(self, recipe: str) -> dict[str, Canonical]:
        """Who has a canonical of it, also one on its way out."""
        worlds = {name: one.world for name, one in self.house.machines.items()}
        return {
            name: record
            for name, world in worlds.items()
            if (record := world.registry.read(recipe)) and getattr(world.registry.elsewhere(recipe), "state", "") != "gone"
        }

    def end_drain(self) -> None:
        """Nobody is drained any more."""
        if self.drained:
            self.house.until("end of the drain", lambda: self.type(NAMES[0], "drain", self.drained, "--undo"))
            self.drained = ""

    def is_over(self) -> bool:
        """Whether no sweep is open on any host, nobody works, nothing is on its way, and drained hosts are empty."""
        worlds = [one.world for one in self.house.machines.values()]
        return not any(world.sweeps.open_sweeps() or _working(world) or leaving(world) or _to_leave(world) for world in worlds)

    def holds(self) -> None:
        """Every promise that can be seen from outside."""
        for recipe, seen in self.seen.items():
            found = {name: record for name, one in self.house.machines.items() if (record := _in_force(one.world, recipe))}
            assert len(found) <= 1, f"{recipe} has a canonical on {sorted(found)}"
            for name, record in found.items():
                world = self.house[name].world
                assert record.snapshot is not None
                assert problem_of(record.snapshot) is None
                assert record.version in seen.released
                assert seen.version is None or _order(record.version, seen.released) >= _order(seen.version, seen.released)
                green = [one for one in world.runs.verdicts(recipe) if one.verdict == "green" and one.version == record.version]
                assert green, f"{recipe} {record.version} on {name} was never green there"
                for volume in record.volumes:
                    path = world.engine.volume_path(volume)
                    assert path is not None
                    lived = (path / LINEAGE).read_text().split()
                    assert lived == sorted(lived, key=lambda version: _order(version, seen.released)), lived
                    assert lived[-1] == record.version
                assert record.fence >= seen.fence, f"{recipe} had the fence {seen.fence}, and has {record.fence}"
                assert record.fence > seen.fence or name == seen.host, f"{recipe} went from {seen.host} to {name} under one fence"
                seen.version, seen.fence, seen.host = record.version, record.fence, name
            assert found or seen.version is None, f"{recipe} had {seen.version}, and has nothing any more"
        for one in self.house.machines.values():
            self._accounts_for_all(one)
            self._leaves_nothing(one)

    @staticmethod
    def _accounts_for_all(one: Machine) -> None:
        sweeps = one.world.sweeps
        for sweep in sweeps.newest_first():
            report = sweeps.report(sweep)
            assert report is not None, f"{sweep} on {one.name} has no report"
            assert report["enrolled"] == sum(report["counts"].values()), report
            names = [outcome["recipe"] for outcome in report["outcomes"]]
            assert len(set(names)) == len(names) == report["enrolled"], report
            wrong = [told for told in report["outcomes"] if told["outcome"] == "red" or told.get("fault") == "canonq"]
            assert not wrong, wrong

    @staticmethod
    def _leaves_nothing(one: Machine) -> None:
        world = one.world
        clean(world)
        kept = {
            volume
            for name in world.registry.recipes()
            for record in [*world.registry.generations(name), world.registry.read(name)]  # one that has moved has new volumes
            for volume in (record.volumes if record else ())
        }
        owned = world.engine.owned({LABEL_INSTANCE: world.instance})
        assert owned["stacks"] == []
        assert set(owned["volumes"]) <= kept, owned
        assert not list(world.work.glob("*")), list(world.work.glob("*"))


def _is_alive(world: World, name: str) -> bool:
    return any(one.alive for one in world.hosts.all() if one.name == name)


def _in_force(world: World, recipe: str) -> Canonical | None:
    return world.registry.read(recipe) if world.registry.elsewhere(recipe) is None else None


def _to_leave(world: World) -> list[str]:
    """What a drained host has. Of its files, as it marks what leaves between a look at the marks and one at its claims."""
    drained = any(one.name == world.hosts.own and one.joined.state == "draining" for one in known(world))
    return world.registry.recipes() if drained else []


def _working(world: World) -> list[str]:
    return [sweep for sweep in world.sweeps.newest_first() for name in world.sweeps.journal(sweep).recipes()
            if world.sweeps.journal(sweep).is_executing(name)]  # fmt: skip


def _order(version: str, released: list[str]) -> int:
    releases, _ = read_tags(dict.fromkeys(released, "0" * 40))
    return [one.tag for one in releases].index(version)


def test_whatever_is_cut_off_no_recipe_is_on_two_hosts_and_each_is_accounted_for(
    apart: Apart, pytestconfig: pytest.Config
) -> None:
    rounds, seed = int(pytestconfig.getoption("--rounds")), int(pytestconfig.getoption("--seed"))
    chance = random.Random(seed)
    for number in range(3):
        apart.enrol(f"site-{number}")
    apart.start()
    told: list[dict[str, Any]] = []
    for number in range(rounds):
        apart.done = []
        cut = _one_round(apart, chance, number)
        told.append({"round": number, "cut": cut, "done": apart.done})
        (apart.house.below / "rounds.json").write_text(json.dumps(told, indent=1))
        apart.house.until(f"end of round {number}: {told[-1]}", apart.is_over)
        apart.holds()
    assert apart.typed >= rounds / 2, "they did sweep"
    apart.end_drain()
    apart.house.until("hosts", lambda: all(_is_alive(apart.house["ash"].world, name) for name in NAMES))
    last = apart.house["ash"].canonq("sweep", "--wait", "--json")
    assert last.status == 0, last
    apart.house.until("end", apart.is_over)
    apart.holds()
    assert all(seen.version == seen.released[-1] for seen in apart.seen.values()), apart.seen


def _one_round(apart: Apart, chance: random.Random, number: int) -> list[Any]:
    """Something is new, somebody sweeps, and meanwhile a host is cut off, or one after the other, and something else happens."""
    if number % 2 == 0:  # the first canonical is the one that two may make
        apart.enrol(f"new-{number}")
    for recipe in chance.sample(sorted(apart.seen), 2):
        apart.release(recipe)
    if chance.random() < 0.3:
        apart.end_drain()
    (act,) = chance.choices(list(ACTS), list(ACTS.values()))
    opener, told = chance.choice(NAMES), []
    beside = _Beside(partial(apart.act, act, random.Random(chance.random())), chance.uniform(0, 3 * LEASE))
    for _ in range(chance.randint(1, 2)):
        name, how = chance.choice(NAMES), chance.choice(("down", "mute", "deaf"))
        late, long = chance.uniform(0, LEASE), chance.uniform(0.3, LONGEST_CUT)
        told.append([opener, name, how, round(late, 2), round(long, 2)])
        with contextlib.ExitStack() as cut:
            if name == opener:  # whoever types has a link when it begins
                apart.sweep(opener)
            time.sleep(late)
            cut.enter_context(apart.links.cut(name, how))
            if name != opener:
                apart.sweep(opener)
            time.sleep(long)
    beside.end()
    return told


class _Beside(threading.Thread):
    """Something that is done after a while, beside all else; what it raises is raised at its end."""

    def __init__(self, act: Callable[[], None], after: float) -> None:
        super().__init__(daemon=True)
        self._act, self._after, self._raised = act, after, list[BaseException]()
        self.start()

    def run(self) -> None:
        time.sleep(self._after)
        try:
            self._act()
        except (Exception, AssertionError) as error:  # noqa: BLE001 - raised again at its end
            self._raised.append(error)

    def end(self) -> None:
        """Wait for it."""
        self.join()
        if self._raised:
            raise self._raised[0]
