"""Three hosts with networks of their own: links are cut and mended at random while they sweep.

`pytest tests/hosts/test_cut_links.py --rounds 100 --seed 7` is the long one.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from canonq.adapters.data.snapshots import problem_of
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.records import Canonical
from canonq.core.versions import read_tags
from canonq.flows.keeping.janitor import clean
from canonq.flows.world import World
from tests.fakes import LINEAGE
from tests.hosts.apart import LEASE
from tests.hosts.house import House, Machine
from tests.hosts.links import Links, what_is_missing

pytestmark = pytest.mark.long

NAMES = ("ash", "birch", "cedar")
LONGEST_CUT = 4.5 * LEASE  #: seconds: longer than a host's share is waited for


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
    released: list[str] = field(default_factory=list)


class Apart:
    """The hosts, and what has to hold of them."""

    def __init__(self, below: Path, links: Links) -> None:
        self.links = links
        self.house = House(below, links.url, *NAMES)
        self.seen: dict[str, Seen] = {}
        self.typed = 0  #: sweeps that somebody has typed and that were sent
        for name, one in self.house.machines.items():
            more = {"TESTS_FIRST": "tests.hosts.apart", "TESTS_SPACE": str(links.spaces[name]), "CANONQ_LEASE": f"{LEASE:.0f}"}
            one.installed.settings |= more
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
        typed = self.house[opener].canonq("sweep", "--json")
        assert typed.status in (0, 3), typed
        self.typed += typed.status == 0

    def is_over(self) -> bool:
        """Whether no sweep is open on any host, and nobody works."""
        worlds = [one.world for one in self.house.machines.values()]
        return not any(world.sweeps.open_sweeps() or _working(world) for world in worlds)

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
                seen.version = record.version
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
            for record in world.registry.generations(name)
            for volume in record.volumes
        }
        owned = world.engine.owned({LABEL_INSTANCE: world.instance})
        assert owned["stacks"] == []
        assert set(owned["volumes"]) <= kept, owned
        assert not list(world.work.glob("*")), list(world.work.glob("*"))


def _in_force(world: World, recipe: str) -> Canonical | None:
    return world.registry.read(recipe) if world.registry.elsewhere(recipe) is None else None


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
        told.append({"round": number, "cut": _one_round(apart, chance, number)})
        (apart.house.below / "rounds.json").write_text(json.dumps(told, indent=1))
        apart.house.until(f"end of round {number}", apart.is_over)
        apart.holds()
    assert apart.typed >= rounds, "they did sweep"
    last = apart.house["ash"].canonq("sweep", "--wait", "--json")
    assert last.status == 0, last
    apart.house.until("end", apart.is_over)
    apart.holds()
    assert all(seen.version == seen.released[-1] for seen in apart.seen.values()), apart.seen


def _one_round(apart: Apart, chance: random.Random, number: int) -> list[Any]:
    """Something is new, somebody sweeps, and meanwhile a host is cut off, or one after the other."""
    if number % 2 == 0:  # the first canonical is the one that two may make
        apart.enrol(f"new-{number}")
    for recipe in chance.sample(sorted(apart.seen), 2):
        apart.release(recipe)
    opener, told = chance.choice(NAMES), []
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
    return told
