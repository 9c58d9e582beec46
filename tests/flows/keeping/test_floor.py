"""The floor of every disk holds while work goes on: who took more than it said ends, by an event and not by a clock."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from canonq.adapters.processes.programs import run
from canonq.adapters.processes.stopping import Stop, check_stop, stoppable
from canonq.adapters.state.budget import Budget, Reservation
from canonq.core.bases import Base
from canonq.core.budget import FileSystem, Need
from canonq.core.deployable import Identity
from canonq.core.errors import CanonqError, NoRoom
from canonq.flows.deploying.stages import Account
from canonq.flows.keeping.floor import Watch, floor_held
from canonq.flows.proving.run import Findings, Run, Target, measure, took
from canonq.flows.world import World
from tests.fakes import FakeEngine


class Disks:
    """Two file systems whose room the test decides."""

    def __init__(self, folder: Path) -> None:
        self.data, self.images = 1000, 1000
        self.files: int | None = None  #: that can still be made beside the data
        self.budget = Budget(folder, self.both, 100)

    def both(self) -> list[FileSystem]:
        data = FileSystem("/data", ("state", "volumes"), self.data, files=self.files)
        return [data, FileSystem("/images", ("images",), self.images)]


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


@pytest.fixture
def stops() -> Iterator[dict[str, Stop]]:
    made = {"greedy": Stop(), "modest": Stop()}
    yield made
    for stop in made.values():
        stop.close()


def watch(disks: Disks, room: Reservation, stop: Stop, taken: Need) -> Watch:
    return Watch(disks.budget, room, stop, "The test of site 1.0.0+1", lambda: room.took(taken))


def test_above_the_floor_nobody_ends_and_the_least_room_is_noted(disks: Disks, stops: dict[str, Stop]) -> None:
    with disks.budget.reserve("one", Need(images=500)) as room:
        looks = watch(disks, room, stops["greedy"], Need(images=400))
        for disks.images in (700, 150, 100, 900):
            looks.look()
    assert stops["greedy"].error is None
    assert looks.lowest == {"/data": 1000, "/images": 100}


def test_below_the_floor_the_work_ends_and_the_disk_is_named(disks: Disks, stops: dict[str, Stop]) -> None:
    with disks.budget.reserve("one", Need(images=500)) as room:
        looks = watch(disks, room, stops["greedy"], Need(images=950))
        disks.images = 50
        looks.look()
        assert stops["greedy"].error is None, "the others have not measured yet"
        looks.look()
    ended = stops["greedy"].error
    assert isinstance(ended, NoRoom)
    assert ended.code == "disk-below-budget"
    assert "/images" in ended.what
    assert "/data" not in ended.what
    assert looks.ended is ended


def test_a_disk_on_which_no_file_can_be_made_ends_the_work_however_many_bytes_are_free(
    disks: Disks, stops: dict[str, Stop]
) -> None:
    """A container makes a million empty files in a minute, and they take no room."""
    with disks.budget.reserve("one", Need(volumes=500)) as room:
        looks = watch(disks, room, stops["greedy"], Need(volumes=400))
        looks.look()
        disks.files = 3
        looks.look()
        looks.look()
    ended = stops["greedy"].error
    assert isinstance(ended, NoRoom)
    assert "on the disk of /data (canonq's state, volumes), only 3 more files could be made" in ended.what


def test_a_moment_below_the_floor_that_is_over_again_ends_nobody(disks: Disks, stops: dict[str, Stop]) -> None:
    with disks.budget.reserve("one", Need(images=500)) as room:
        looks = watch(disks, room, stops["greedy"], Need(images=950))
        for disks.images in (50, 500, 50, 500):
            looks.look()
    assert stops["greedy"].error is None


def test_who_kept_to_its_word_goes_on_while_the_greedy_one_is_ended_and_gives_back(disks: Disks, stops: dict[str, Stop]) -> None:
    with disks.budget.reserve("modest", Need(volumes=300, images=300)) as modest:
        # It took more in all, but not on the disk that is short.
        mine = watch(disks, modest, stops["modest"], Need(volumes=900, images=300))
        with disks.budget.reserve("greedy", Need(images=100)) as greedy:
            other = watch(disks, greedy, stops["greedy"], Need(images=700))
            disks.images = 0
            for _ in range(4):
                mine.look()
                other.look()
            assert stops["greedy"].error is not None
            assert stops["modest"].error is None, "one that is ending is waited for"
        disks.images = 700
        mine.look()
        assert stops["modest"].error is None


def test_somebody_elses_files_end_the_works_one_after_the_other(disks: Disks, stops: dict[str, Stop]) -> None:
    with disks.budget.reserve("modest", Need(volumes=300)) as modest:
        mine = watch(disks, modest, stops["modest"], Need())
        disks.data = 10  # a log of another program
        mine.look()
        mine.look()
    assert stops["modest"].error is not None


def test_docker_that_does_not_answer_meanwhile_does_not_keep_the_floor_from_holding(disks: Disks, stops: dict[str, Stop]) -> None:
    def fails() -> None:
        raise CanonqError("Docker is away")

    with disks.budget.reserve("one", Need(images=500)) as room:
        looks = Watch(disks.budget, room, stops["greedy"], "The test", fails)
        disks.images = 0
        looks.look()
        looks.look()
    assert isinstance(stops["greedy"].error, NoRoom)


def test_a_program_that_is_waited_for_is_killed_when_its_work_is_to_end(tmp_path: Path) -> None:
    program = "import os, sys, time; print(os.getpid(), file=open(sys.argv[1], 'w'), flush=True); time.sleep(600)"
    os.mkfifo(tmp_path / "pid")
    with stoppable() as stop:

        def when_it_runs() -> None:
            started.append(int((tmp_path / "pid").read_text()))
            stop.ask(NoRoom("The disk of /images is below its floor."))

        started: list[int] = []
        other = threading.Thread(target=when_it_runs)
        other.start()
        with pytest.raises(NoRoom, match="/images"):
            run([sys.executable, "-c", program, str(tmp_path / "pid")], timeout=600)
        other.join()
    with pytest.raises(ProcessLookupError):
        os.kill(started[0], 0)
    assert run(["true"], timeout=600).status == 0, "what comes after, such as the teardown, is not stopped"


def test_the_first_word_counts_and_none_is_taken_after_the_end() -> None:
    with stoppable() as stop:
        check_stop()
        stop.ask(NoRoom("one"))
        stop.ask(NoRoom("two"))
        with pytest.raises(NoRoom, match="one"):
            check_stop()
    late = Stop()
    late.close()
    late.ask(NoRoom("late"))
    assert late.error is None


def test_what_is_past_the_point_of_no_return_is_not_ended(disks: Disks) -> None:
    with disks.budget.reserve("one", Need()) as room, floor_held(disks.budget, room, "The promotion", lambda: None) as looks:
        looks.end()
        disks.images = 0
        looks.look()
        looks.look()
        check_stop()
        assert run(["true"], timeout=600).status == 0


def test_work_is_watched_for_as_long_as_it_goes_on(disks: Disks) -> None:
    with disks.budget.reserve("one", Need()) as room:
        disks.images = 0
        with (
            pytest.raises(NoRoom, match="/images"),
            floor_held(disks.budget, room, "The test", lambda: room.took(Need(images=9))),
        ):
            run(["sleep", "600"], timeout=600)
        check_stop()


def test_who_fills_its_containers_ends_and_not_its_neighbour(disks: Disks, stops: dict[str, Stop], tmp_path: Path) -> None:
    """What a container writes into itself lies on the disk of images, and in no volume that has a name."""
    engine = FakeEngine(tmp_path / "docker")
    own = Identity("i", "run", "site", "20260101T000000Z-site-abcdef", "s-abcdef", "x.test", "1.0.0+1", "0" * 40)
    (tmp_path / "docker" / "stacks" / own.stack).write_text(json.dumps({"app": {"labels": own.labels}}))
    (layer := tmp_path / "docker" / "layers" / own.stack / "app" / "srv").mkdir(parents=True)
    (layer / "cache").write_bytes(b"x" * 100_000)
    world = cast(World, SimpleNamespace(ownership=engine))
    with disks.budget.reserve("greedy", Need(images=300)) as greedy, disks.budget.reserve("modest", Need(images=300)) as modest:
        findings = Findings(Target("1.0.0+1", "0" * 40, Base(None, None, "none", "")))
        one = cast(
            Run,
            SimpleNamespace(world=world, app=SimpleNamespace(identity=own), account=Account(), findings=findings, room=greedy),
        )
        looks = Watch(disks.budget, greedy, stops["greedy"], "The test of site", lambda: measure(one))
        others = watch(disks, modest, stops["modest"], Need(images=400))
        disks.images = 50
        for _ in range(2):
            others.look()
            looks.look()
        took(one)
        assert max(other.over for other in disks.budget.standings(["images"])) > 50_000, (
            "nor is it forgotten when the next step is done"
        )
    assert (stops["greedy"].error is not None, stops["modest"].error) == (True, None)
