"""Volumes as apps may make them: folders without end in one another, links, and what changes while it is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.data import counting, inside
from canonq.adapters.data.access import use_of
from canonq.adapters.files import remove_tree
from canonq.core.stack.witness import File

LEVELS = 1500  #: more than Python calls within one another, and than a process has handles


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A volume with a file at its top, and one at the end of many folders in one another."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "top").write_bytes(b"x" * 1000)
    at = os.open(volume, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=at)
        at, before = os.open("d", os.O_RDONLY, dir_fd=at), at
        os.close(before)
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    yield volume
    remove_tree(volume)
    assert not volume.exists()


def test_folders_without_end_in_one_another_break_nothing_that_looks_into_a_volume(deep: Path) -> None:
    found = counting.count(deep)
    assert (found.files, found.bytes) == (1, 1000)
    assert "top" in counting.paths(deep)
    assert list(counting.contents(deep, {}, ())) == ["top"]
    assert use_of(deep, []).owner == os.geteuid()
    assert max(below.count("/") for below, _, _, _ in inside.walk(deep)) == inside.DEEPEST - 1


def test_a_walk_goes_top_down_follows_no_link_and_leaves_out_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("/etc")
    seen = {}
    for below, folders, names, _ in inside.walk(tmp_path):
        seen[below] = (sorted(folders), sorted(names))
        if "c" in folders:
            folders.remove("c")
    assert seen == {"": (["a", "c"], ["link"]), "a": (["b"], ["file"]), "a/b": ([], [])}


def test_a_database_that_cannot_be_read_is_one_thing_of_a_size_and_sqlite_is_none_of_it(tmp_path: Path) -> None:
    for name, content in {
        "db/garden/CURRENT": b"MANIFEST-000002\n", "db/garden/MANIFEST-000002": b"x" * 50, "db/garden/000003.log": b"x" * 900,
        "db/garden/deeper/LOCK": b"", "keys": bytes(16) + b"\xed\xda\x0c\xed" + bytes(1004), "settings": b"a = 1",
        "app.db": b"SQLite format 3\0" + bytes(1000), "found/root.bolt": bytes(16) + b"\xed\xda\x0c\xed" + bytes(1004),
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    found = counting.contents(tmp_path, {}, ())
    assert found.pop("settings").digest
    assert found == {"db/garden": File(966, "", "leveldb"), "keys": File(1024, "", "bolt")}
    assert counting.count(tmp_path).engines == ("bolt", "leveldb")
    assert counting.count(tmp_path / "found").engines == ()  # an index, which is made anew
    assert counting.contents(tmp_path / "db/garden", {}, ()) == {".": File(966, "", "leveldb")}


def test_a_folder_that_becomes_a_link_while_it_is_looked_at_leads_nowhere(tmp_path: Path) -> None:
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    (outside / "secret").touch()
    (volume / "a").mkdir(parents=True)
    seen = []
    for below, _, names, _ in inside.walk(volume):
        seen += names
        if below == "":
            (volume / "a").rmdir()
            (volume / "a").symlink_to(outside)
    assert seen == []


def test_no_handle_is_left_open_whenever_the_walk_ends(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    before = len(os.listdir("/proc/self/fd"))
    list(inside.walk(tmp_path))
    walk = inside.walk(tmp_path)
    next(walk), next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
