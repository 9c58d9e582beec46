"""Both kinds of snapshot: what goes in comes out, and whatever somebody did to its folder is told."""

from __future__ import annotations

import gc
import hashlib
import json
import multiprocessing
import os
import shutil
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.data import snapshots
from canonq.adapters.data.archives import archive, copy_tree
from canonq.core.errors import CanonqError
from canonq.core.records import Snapshot
from tests.adapters.data.test_archives import flip_a_byte, furnish, looks, made, tree

KINDS = ["archive", "tree"]


def generation(folder: Path, kind: str, volumes: dict[str, Path]) -> Snapshot:
    """A generation's folder as a promotion makes it."""
    folder.mkdir()
    kept = snapshots.take_tree(volumes, folder) if kind == "tree" else archive(volumes, folder / snapshots.ARCHIVE)
    (folder / "secrets.json").write_text('{"password": "hunter2"}')
    return snapshots.seal(kept, folder)


@pytest.fixture(params=KINDS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Snapshot:
    """A snapshot of two volumes."""
    volumes = {"data": furnish(tmp_path / "one" / "_data"), "more": furnish(tmp_path / "two" / "_data")}
    return generation(tmp_path / "kept", request.param, volumes)


def test_everything_comes_back_with_its_metadata(kept: Snapshot, tmp_path: Path) -> None:
    assert snapshots.problem_of(kept) is None
    targets = {"data": made(tmp_path / "a" / "_data"), "more": made(tmp_path / "b" / "_data")}
    (targets["data"] / "left over").write_text("x")
    snapshots.unpack(kept, targets)
    for key, source in (("data", tmp_path / "one" / "_data"), ("more", tmp_path / "two" / "_data")):
        assert tree(targets[key]) == tree(source)
        assert looks(os.fsencode(targets[key]))[:3] == looks(os.fsencode(source))[:3]


def test_one_volume_can_be_restored_alone(kept: Snapshot, tmp_path: Path) -> None:
    target = made(tmp_path / "alone")
    snapshots.unpack(kept, {"more": target})
    assert tree(target) == tree(tmp_path / "two" / "_data")


def test_no_volumes_at_all_are_kept_too(tmp_path: Path) -> None:
    kept = generation(tmp_path / "kept", "archive", {})
    assert snapshots.problem_of(kept) is None
    snapshots.unpack(kept, {})


def test_the_manifest_is_for_its_owners_eyes_only_and_lists_what_is_beside(kept: Snapshot) -> None:
    manifest = Path(kept.path).parent / snapshots.MANIFEST
    assert stat.S_IMODE(manifest.stat().st_mode) == 0o600
    listed = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert next(line for line in listed if line["path"] == "secrets.json")["size"] == 23


def of_archive_or_tree(kept: Snapshot) -> Path:
    """One file that holds data of the snapshot."""
    path = Path(kept.path)
    return path if kept.kind == "archive" else path / "data" / "deep" / "er" / "file"


DAMAGE: dict[str, Callable[[Snapshot], object]] = {
    "a flipped byte": lambda kept: flip_a_byte(of_archive_or_tree(kept)),
    "a file cut short": lambda kept: os.truncate(of_archive_or_tree(kept), 10),
    "a missing file": lambda kept: of_archive_or_tree(kept).unlink(),
    "all of it gone": lambda kept: (
        shutil.rmtree(kept.path) if kept.kind == "tree" else shutil.move(kept.path, f"{kept.path}.moved")
    ),
    "a manifest somebody edited": lambda kept: (Path(kept.path).parent / snapshots.MANIFEST).write_text("{}\n"),
    "a manifest that is gone": lambda kept: (Path(kept.path).parent / snapshots.MANIFEST).unlink(),
    "other secrets": lambda kept: (Path(kept.path).parent / "secrets.json").write_text('{"password": "hunter3"}'),
    "no secrets": lambda kept: (Path(kept.path).parent / "secrets.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_whatever_was_done_to_it_is_told_and_nothing_is_restored(damage: str, kept: Snapshot, tmp_path: Path) -> None:
    DAMAGE[damage](kept)
    problem = snapshots.problem_of(kept)
    assert problem is not None
    assert str(Path(kept.path).parent) in problem
    target = furnish(tmp_path / "target")
    before = tree(target)
    with pytest.raises(CanonqError) as raised:
        snapshots.unpack(kept, {"data": target})
    assert raised.value.code == "snapshot-damaged"
    assert tree(target) == before


def test_a_copy_of_a_tree_that_is_not_what_was_kept_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = generation(tmp_path / "kept", "tree", {"data": furnish(tmp_path / "source")})
    real = copy_tree

    def losing(source: Path, target: Path) -> None:
        real(source, target)
        (target / "empty").unlink()

    monkeypatch.setattr(snapshots, "copy_tree", losing)
    with pytest.raises(CanonqError) as raised:
        snapshots.unpack(kept, {"data": made(tmp_path / "target")})
    assert raised.value.code == "unpack-failed"


@pytest.mark.parametrize("change", ["mode", "added", "xattr", "retargeted"])
def test_what_was_changed_in_a_tree_is_named(change: str, tmp_path: Path) -> None:
    kept = generation(tmp_path / "kept", "tree", {"data": furnish(tmp_path / "source")})
    data = Path(kept.path) / "data"
    name = {"mode": "empty", "added": "new", "xattr": "deep/er/file", "retargeted": "symlink"}[change]
    if change == "mode":
        (data / name).chmod(0o640)
    elif change == "added":
        (data / name).write_text("x")
    elif change == "xattr":
        os.setxattr(data / name, "user.canonq", b"other")
    else:
        found = os.lstat(data / name)
        (data / name).unlink()
        (data / name).symlink_to("elsewhere")
        os.utime(data / name, ns=(found.st_atime_ns, found.st_mtime_ns), follow_symlinks=False)
    problem = snapshots.problem_of(kept)
    assert problem is not None
    assert name in problem


def test_where_blocks_cannot_be_shared_the_volumes_are_archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = furnish(tmp_path / "source")
    monkeypatch.setattr(snapshots, "shares_blocks", lambda *_: False)
    (tmp_path / "one").mkdir()
    assert snapshots.take({"data": source}, tmp_path / "one").kind == "archive"
    monkeypatch.setattr(snapshots, "shares_blocks", lambda *_: True)
    (tmp_path / "two").mkdir()
    assert snapshots.take({"data": source}, tmp_path / "two").kind == "tree"


def test_another_file_system_shares_no_blocks(tmp_path: Path) -> None:
    assert not snapshots.shares_blocks(Path("/proc"), tmp_path)


def _peak(whole: Snapshot, folder: Path, answers: Any) -> None:
    """Bytes that sealing and looking through take at their peak; None where what was sealed is not whole.

    The least of three times: what is made once, or told of what earlier tests have left, is none of it.
    """
    gc.collect()  # what earlier tests have left may take something as it goes
    gc.freeze()
    gc.set_threshold(700, 10, 10)  # as it is where these tests have not said otherwise
    tracemalloc.start()
    peaks = []
    for _ in range(3):
        (folder / snapshots.MANIFEST).unlink(missing_ok=True)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        problem = snapshots.problem_of(snapshots.seal(whole, folder))
        peaks.append(tracemalloc.get_traced_memory()[1] - held if problem is None else None)
    answers.put(None if None in peaks else min(peak for peak in peaks if peak is not None))


@pytest.mark.long
def test_the_list_of_a_tree_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    """A mail server has millions of files."""
    source = made(tmp_path / "mail")
    for box in range(20):
        (source / f"box{box}").mkdir()
        for mail in range(250):
            (source / f"box{box}" / f"16{mail:06d}.M{mail:06d}P12345.mail.example.com,S=3521,W=3600:2,S").touch()
    folder = tmp_path / "kept"
    folder.mkdir()
    whole = snapshots.take_tree({"data": source}, folder)
    assert snapshots.problem_of(snapshots.seal(whole, folder)) is None  # what is made once is there by then
    (folder / snapshots.MANIFEST).unlink()
    answers = multiprocessing.get_context("fork").SimpleQueue()
    # In a process that has no other threads: what these take in the meantime would count as well.
    process = multiprocessing.get_context("fork").Process(target=_peak, args=(whole, folder, answers))
    process.start()
    peak = answers.get()
    process.join()
    assert peak is not None
    listed = (folder / snapshots.MANIFEST).stat().st_size
    assert listed > 1 << 20
    assert peak < listed / 2


def test_the_checksum_of_a_tree_is_of_its_whole_list_as_json(tmp_path: Path) -> None:
    """Canonicals that were kept before are looked at by it."""
    kept = generation(tmp_path / "kept", "tree", {"data": furnish(tmp_path / "one" / "_data")})
    lines = [json.loads(line) for line in (tmp_path / "kept" / snapshots.MANIFEST).read_text().splitlines()]
    listed = [line for line in lines if "kind" in line]
    assert kept.checksum == f"sha256:{hashlib.sha256(json.dumps(listed).encode()).hexdigest()}"
    assert [line["path"] for line in lines if "sha256" in line] == ["secrets.json"]
