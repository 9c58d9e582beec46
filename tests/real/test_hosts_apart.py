"""Three hosts, each with a Docker, a network and a state folder of its own: links are cut while they sweep.

What may happen to hosts beside that is played in `tests/hosts/test_cut_links.py`, over an Engine of files and much oftener.
`make test-links` plays both.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.processes.programs import with_parent
from tests.hosts.apart import LEASE, settings_in
from tests.hosts.house import ENOUGH, House, Machine
from tests.hosts.links import Links, what_is_missing
from tests.real.conftest import IMAGE, tree
from tests.support import make_recipe, release

pytestmark = pytest.mark.real

NAMES = ("ash", "birch", "cedar")
FIRST = "1.0.0+1.29.0"
ENROLMENT = "[health]\ntimeout = 600\nsoak = 0\n"


class Docker:
    """A Docker of its own in a host's network: images, volumes, containers, swarm and the containerd below it."""

    def __init__(self, folder: Path, space: int) -> None:
        folder.mkdir()
        self.address = f"unix://{folder}/docker.sock"
        command = [
            "nsenter", "--target", str(space), "--net", "dockerd", "--data-root", f"{folder}/data",
            "--exec-root", f"{folder}/run", "--pidfile", f"{folder}/docker.pid", "--host", self.address,
        ]  # fmt: skip
        self._log = folder / "dockerd.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(with_parent(command, signal.SIGTERM), stdout=log, stderr=log, start_new_session=True)

    def begin(self, image: str) -> None:
        """Wait for it, make it a swarm, and give it an image of the machine's own Docker."""
        ends = time.monotonic() + ENOUGH
        while self.tells("version", check=False).returncode != 0:
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < ends, self._log.read_text()[-2000:]
            time.sleep(0.1)
        self.tells("swarm", "init", "--advertise-addr", "127.0.0.1")
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "--host", self.address, "load"], stdin=saved.stdout, check=True, capture_output=True)

    def tells(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """What its command says."""
        return subprocess.run(["docker", "--host", self.address, *words], check=check, capture_output=True, text=True)

    def lines(self, *words: str) -> list[str]:
        """The lines of that."""
        return self.tells(*words).stdout.split()

    def end(self) -> None:
        """End it, with what runs in it."""
        self.tells("swarm", "leave", "--force", check=False)
        self._process.terminate()
        self._process.wait()


class Real(Machine):
    """A host whose Engine is real."""

    def command(self, *command: str) -> list[str]:
        return list(command)


class Hosts:
    """All of them, and what has to hold."""

    def __init__(self, below: Path, links: Links) -> None:
        self.links = links
        self.house = House(below, links.url)
        self.house.machines = {name: Real(name, below, links.url) for name in NAMES}
        self.dockers: dict[str, Docker] = {}
        self.released: dict[str, list[str]] = {}
        self.began: dict[str, str] = {}  #: recipe -> the version of its first canonical, which its data names for ever

    def begin(self) -> None:
        """Have Docker and workers on each, and all of them joined."""
        for name in NAMES:
            self.dockers[name] = Docker(self.house.below / f"{name}-docker", self.links.spaces[name])
        for name, docker in self.dockers.items():
            docker.begin(IMAGE)
            self.house[name].installed.settings |= settings_in(self.links.spaces[name]) | {"DOCKER_HOST": docker.address}
            assert self.house[name].canonq("hosts", "join").status == 0
            self.house[name].start()
        self.house.until("workers", lambda: all("ready." in one.said for one in self.house.machines.values()))

    def enrol(self, recipe: str) -> None:
        """One more recipe, of one release."""
        self.house.repos[recipe] = make_recipe(self.house.below / "upstreams" / recipe, {FIRST: tree(FIRST)})
        folder = self.house.below / "checkout" / "tests" / recipe
        folder.mkdir()
        (folder / "recipe.toml").write_text(f'upstream = "{self.house.below}/upstreams/{recipe}"\n{ENROLMENT}')
        self.released[recipe] = [FIRST]

    def release(self, recipe: str) -> None:
        """A newer release of it."""
        tag = f"1.{len(self.released[recipe])}.0+1.29.0"
        release(self.house.repos[recipe], tag, tree(tag))
        self.released[recipe].append(tag)

    def swept(self, opener: str) -> dict[str, Any]:
        """A sweep that somebody types on a host, to its end."""
        told = self.house[opener].canonq("sweep", "--wait", "--json")
        assert told.json, told
        found: dict[str, Any] = told.json
        assert found["enrolled"] == sum(found["counts"].values()) == len(self.released), found
        assert not [one for one in found["outcomes"] if one["outcome"] == "red" or one.get("fault") == "canonq"], found
        return found

    def all_newest(self) -> bool:
        """Sweep once more; whether every recipe's newest release is a canonical now."""
        self.swept("ash")
        self.house.until("end", self.is_over)
        homes = self.holds()
        return all(
            recipe in homes and self.house[homes[recipe]].record(recipe)["version"] == tags[-1]
            for recipe, tags in self.released.items()
        )

    def is_over(self) -> bool:
        """Whether no sweep is open anywhere."""
        rows = [one.canonq("status", "--json") for one in self.house.machines.values()]
        return all(row.status in (0, 1) and not row.json["open_sweeps"] and not row.json["running"] for row in rows)

    def homes(self) -> dict[str, list[str]]:
        """Which hosts have a recipe's canonical in force."""
        return {
            recipe: [name for name, one in self.house.machines.items() if one.record(recipe) and not self._has_left(one, recipe)]
            for recipe in self.released
        }

    @staticmethod
    def _has_left(one: Machine, recipe: str) -> bool:
        return (one.folder / "state" / "warm" / recipe / "elsewhere.json").is_file()

    def holds(self) -> dict[str, str]:
        """No canonical on two hosts, each whole, with the data of its first one, and nothing else in any Docker."""
        homes = self.homes()
        assert all(len(where) <= 1 for where in homes.values()), homes
        for name, one in self.house.machines.items():
            docker = self.dockers[name]
            assert one.canonq("janitor", "--json").status == 0
            mine = [recipe for recipe, where in homes.items() if where == [name]]
            kept = {volume: recipe for recipe in mine for volume in one.record(recipe)["volumes"]}
            if mine:
                told = one.canonq("verify", "--json")
                assert told.status == 0, told
            assert docker.lines("stack", "ls", "--format", "{{.Name}}") == []
            assert docker.lines("ps", "-aq") == []
            assert set(kept) <= set(docker.lines("volume", "ls", "-q")), (name, kept)
            for volume, recipe in kept.items():
                (path,) = docker.lines("volume", "inspect", "-f", "{{.Mountpoint}}", volume)
                began = self.began.setdefault(recipe, one.record(recipe)["version"])
                assert (Path(path) / "index.html").read_text().strip() == began
        return {recipe: where[0] for recipe, where in homes.items() if where}

    def end(self) -> None:
        """End all of it."""
        self.house.end()
        for docker in self.dockers.values():
            docker.end()


@pytest.fixture
def hosts(engine: SwarmEngine, pytestconfig: pytest.Config) -> Iterator[Hosts]:
    if not int(pytestconfig.getoption("--dockers")):
        pytest.skip("NOT TRIED with three Dockers side by side: `make test-links` does it, as root")
    if missing := what_is_missing():
        pytest.skip(f"no networks can be made here without {', '.join(missing)}")
    assert engine.versions().engine
    # The name of a socket has room for a hundred characters.
    with contextlib.ExitStack() as both:
        below = Path(tempfile.mkdtemp(prefix="canonq-hosts-"))
        both.callback(shutil.rmtree, below, ignore_errors=True)
        made = Hosts(below, both.enter_context(Links(below / "links", NAMES)))
        both.callback(made.end)
        yield made


def test_of_three_hosts_with_a_docker_each_no_cut_link_puts_a_recipe_on_two_or_loses_one(
    hosts: Hosts, pytestconfig: pytest.Config
) -> None:
    chance = random.Random(int(pytestconfig.getoption("--seed")))
    for number in range(4):
        hosts.enrol(f"apart-{number}")
    hosts.begin()
    # On a busy machine a host may be silent for longer than its lease, which is short here: then it is done by the next sweep.
    hosts.house.until("first canonicals", hosts.all_newest)
    homes = hosts.holds()
    assert len(set(homes.values())) > 1, "work is spread"

    moved, there = "apart-0", next(name for name in NAMES if name != homes["apart-0"])
    hosts.house.until("move", lambda: hosts.house["cedar"].canonq("move", moved, there, "--wait", "--json").status == 0)
    assert hosts.holds()[moved] == there

    for number in range(int(pytestconfig.getoption("--dockers"))):
        if number % 2 == 0:
            hosts.enrol(f"new-{number}")
        for recipe in chance.sample(sorted(hosts.released), 2):
            hosts.release(recipe)
        opener, cut = chance.choice(NAMES), chance.choice(NAMES)
        hosts.house[opener].canonq("sweep", "--json")
        time.sleep(chance.uniform(0, 20))
        with hosts.links.cut(cut, chance.choice(("down", "mute", "deaf"))):
            time.sleep(chance.uniform(1, 4.5 * LEASE))
        hosts.house.until(f"end of round {number}", hosts.is_over)
        hosts.holds()

    hosts.house.until("newest releases", hosts.all_newest)
    assert set(hosts.holds()) == set(hosts.released)
