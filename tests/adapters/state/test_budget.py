"""Reservations of disk, over real files and processes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from canonq.adapters.state.budget import Budget, PulledImages
from canonq.core.budget import FileSystem, Need, PulledImage
from canonq.core.errors import NoRoom


def budget(folder: Path, free: int = 100, floor: int = 10) -> Budget:
    return Budget(folder, lambda: free, floor)


def test_what_is_reserved_is_not_given_twice(tmp_path: Path) -> None:
    with budget(tmp_path).reserve("one", 60):
        assert budget(tmp_path).disk(0).free == 40
        with pytest.raises(NoRoom, match=r"two: .* short"), budget(tmp_path).reserve("two", 40):
            pass
    with budget(tmp_path).reserve("two", 40):
        pass


def test_the_floor_is_never_given(tmp_path: Path) -> None:
    with pytest.raises(NoRoom), budget(tmp_path).reserve("all", 91):
        pass
    with budget(tmp_path).reserve("all but the floor", 90):
        pass


def test_what_was_taken_is_no_longer_reserved_as_it_is_no_longer_free(tmp_path: Path) -> None:
    with budget(tmp_path).reserve("one", 60) as kept:
        kept.took(45)
        assert budget(tmp_path).reserved() == [("one", 15)]
        kept.took(500)
        assert budget(tmp_path).reserved() == [("one", 0)]


def test_a_pull_that_was_cut_short_is_remembered_until_nothing_is_left_of_it(tmp_path: Path) -> None:
    images = PulledImages(tmp_path / "images")
    with images.pulling():
        pass
    assert not images.was_cut_short()
    with pytest.raises(NoRoom), images.pulling():
        raise NoRoom("below the floor")
    assert images.was_cut_short()
    assert images.all() == []
    images.all_dropped()
    assert not images.was_cut_short()


def test_work_is_alone_when_nobody_elses_goes_on(tmp_path: Path) -> None:
    with budget(tmp_path).reserve("one", 1) as one:
        assert budget(tmp_path).is_alone(one.name)
        assert not budget(tmp_path).is_alone()
    assert budget(tmp_path).is_alone()


def test_each_file_system_is_judged_by_what_lies_on_it_and_shares_what_is_reserved_there(tmp_path: Path) -> None:
    small = FileSystem("/images", ("images",), 100)
    large = FileSystem("/data", ("state", "volumes"), 10_000)
    made = Budget(tmp_path, lambda: [large, small], 10)
    with made.reserve("one", Need(volumes=500, images=60, state=300)):
        assert {disk.path: (disk.free, disk.reserved) for disk in made.disks()} == {"/data": (9200, 800), "/images": (40, 60)}
        with pytest.raises(NoRoom, match=r"two: On the disk of /images .*"), made.reserve("two", Need(images=40, volumes=1)):
            pass
        with made.reserve("two", Need(images=30, volumes=5000)):
            pass
        with pytest.raises(NoRoom, match="/images"), made.reserve("unknown", 40):  # nobody knows what it writes
            pass


def test_a_disk_that_is_out_of_files_has_no_room_however_many_bytes_are_free(tmp_path: Path) -> None:
    full = FileSystem("/data", ("state", "volumes"), 1 << 40, files=7)
    told = r"On the disk of /data .*, only 7 more files can be made"
    with pytest.raises(NoRoom, match=told), Budget(tmp_path, lambda: [full], 10).reserve("one", 1):
        pass
    with Budget(tmp_path, lambda: [replace(full, files=None)], 10).reserve("one", 1):
        pass


def test_what_killed_work_left_of_its_files_is_removed_and_what_lives_is_not(tmp_path: Path) -> None:
    with budget(tmp_path).reserve("living", 1) as living:
        (tmp_path / "0123456789ab.lock").touch()  # killed before it was written
        (tmp_path / ".0123456789ab.json.half").touch()
        (tmp_path / f".{living.name}.json.half").touch()  # being written
        budget(tmp_path).tidy()
        assert {path.name for path in tmp_path.iterdir()} == {
            "turn.lock", f"{living.name}.json", f"{living.name}.lock", f".{living.name}.json.half",
        }  # fmt: skip


def test_a_disk_too_full_to_note_what_was_taken_does_not_end_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with budget(tmp_path).reserve("one", 60) as kept:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            kept.took(45)
        assert budget(tmp_path).reserved() == [("one", 60)]


def test_a_reservation_ends_with_its_process_even_when_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from canonq.adapters.state.budget import Budget\n"
        "with Budget(Path(sys.argv[1]), lambda: 100, 10).reserve('dead', 60): print('kept', flush=True); time.sleep(3600)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"kept\n"
    assert budget(tmp_path).reserved() == [("dead", 60)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert budget(tmp_path).reserved() == []
    assert list(tmp_path.glob("*.json")), "who only asks removes nothing"
    budget(tmp_path).tidy()
    assert not list(tmp_path.glob("*.json"))


def test_of_many_that_ask_at_once_only_so_many_get_room_as_there_is(tmp_path: Path) -> None:
    asked = 12

    def ask(number: int) -> bool:
        try:
            stack.enter_context(budget(tmp_path).reserve(str(number), 20))
        except NoRoom:
            return False
        return True

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(asked) as pool:
        assert sum(pool.map(ask, range(asked))) == 4  # 90 above the floor, 20 each


def test_images_that_many_note_and_forget_at_once_are_all_remembered(tmp_path: Path) -> None:
    images = PulledImages(tmp_path)
    images.add("site", "1.0.0", [f"old:{number}" for number in range(15)])

    def note(version: int) -> None:
        for number in range(15):
            images.add("site", f"{version}.0.0", [f"x:{number}"])
            if version == 2:
                images.forget(PulledImage(f"old:{number}", "site", "1.0.0", 0))

    with ThreadPoolExecutor() as pool:
        list(pool.map(note, (2, 3, 4)))
    assert sorted((image.version, image.reference) for image in images.all()) == sorted(
        (f"{version}.0.0", f"x:{number}") for version in (2, 3, 4) for number in range(15)
    )


def test_images_are_remembered_by_release_and_forgotten_one_by_one(tmp_path: Path) -> None:
    images = PulledImages(tmp_path)
    images.add("site", "1.0.0+1", ["nginx:1", "db:1"])
    images.add("site", "1.0.0+1", ["cache:1"])
    found = images.all()
    assert [(image.reference, image.recipe, image.version) for image in found] == [
        ("cache:1", "site", "1.0.0+1"), ("db:1", "site", "1.0.0+1"), ("nginx:1", "site", "1.0.0+1"),
    ]  # fmt: skip
    for image in found:
        images.forget(image)
    assert images.all() == []
    assert json.loads((tmp_path / "site.json").read_text()) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"1.0.0+1": 3}'])
def test_a_list_of_images_that_cannot_be_read_names_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "site.json").write_text(text)
    assert PulledImages(tmp_path).all() == []
