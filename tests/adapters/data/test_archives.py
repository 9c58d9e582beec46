"""Volume data, with the real tar and cp: what goes in comes out, and damage is told."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.data import snapshots
from canonq.adapters.data.archives import archive, archive_problem, copy_tree, unpack_archive
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.records import Snapshot
from tests.support import ROOT

AS_ROOT = os.geteuid() == 0
OWNER, GROUP = (4242, 4343) if AS_ROOT else (os.geteuid(), os.getegid())
MODES = (0o400, 0o644, 0o755, 0o4755, 0o2770, *([0o000] if AS_ROOT else []))
ODD_NAMES = [
    b"new\nline", "naïve ✓".encode(), b"-rf", b"--checkpoint-action=exec=x", b" space ", b"*", b"back\\slash", b"\xff\xfe",
    b"'quoted\"", b"x" * 200, b"data", b"key", b",s,a,b,",
]  # fmt: skip


def looks(path: bytes) -> tuple[object, ...]:
    """Everything about one entry that must survive."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content: object = None
    if kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = file.read()
    xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)}
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, found.st_nlink, content, xattrs


def tree(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Each entry below a folder, and how it looks."""
    root = os.fsencode(folder)
    return {
        os.path.relpath(os.path.join(place, name), root): looks(os.path.join(place, name))
        for place, folders, files in os.walk(root)
        for name in [*folders, *files]
    }


def with_xattr(path: Path) -> None:
    try:
        os.setxattr(path, "user.canonq", b"\x00kept")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise


def furnish(folder: Path) -> Path:
    """A volume with one of everything."""
    folder.mkdir(parents=True)
    (folder / "empty folder").mkdir(mode=0o700)
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "file").write_bytes(os.urandom(70_000))
    (folder / "empty").touch()
    (folder / ".hidden").write_text("x")
    for bits in MODES:
        path = folder / f"mode {bits:o}"
        path.write_text("m")
        os.chown(path, OWNER, GROUP)
        path.chmod(bits)
    with_xattr(folder / "deep" / "er" / "file")
    with_xattr(folder / "empty folder")
    os.link(folder / "deep" / "er" / "file", folder / "hard link")
    os.symlink("deep/er/file", folder / "symlink")
    os.symlink("/etc/passwd", folder / "absolute symlink")
    os.symlink(f"{str(folder).lstrip('/')}/x", folder / "symlink like the volume's own path")
    os.symlink("nowhere", folder / "dangling symlink")
    os.mkfifo(folder / "fifo")
    for name in ODD_NAMES:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(name)
    for path in (folder / "deep" / "er" / "file", folder / "empty folder", folder / "deep"):
        os.utime(path, ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    return folder


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.seek(20 << 20)
        file.write(b"end")


def made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def round_trip(source: Path, tmp_path: Path) -> Path:
    target = made(tmp_path / "restored")
    unpack_archive(archive({"data": source}, tmp_path / "archive"), {"data": target})
    return target


def snapshot_of_one_file(tmp_path: Path) -> Snapshot:
    source = made(tmp_path / "one")
    (source / "file").write_bytes(os.urandom(5000))
    return archive({"data": source}, tmp_path / "archive")


def in_a_process(code: str, *arguments: Path, timeout: float = 300) -> str:
    """What a Python program prints; TimeoutExpired when it hangs."""
    head = "import sys; from pathlib import Path; from canonq.adapters.data.archives import archive, unpack_archive\n"
    head += "from canonq.core.errors import CanonqError\n"
    command = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False).stdout.strip()


def test_a_snapshot_brings_back_everything(tmp_path: Path) -> None:
    source = furnish(tmp_path / "volumes" / "run_data" / "_data")
    before = tree(source)
    kept = archive({"data": source}, tmp_path / "archive")
    assert archive_problem(kept) is None
    assert (kept.path, kept.bytes) == (str(tmp_path / "archive"), (tmp_path / "archive").stat().st_size)
    target = made(tmp_path / "restored")
    unpack_archive(kept, {"data": target})
    assert tree(target) == before
    assert tree(source) == before


def test_hard_links_are_one_file_again(tmp_path: Path) -> None:
    target = round_trip(furnish(tmp_path / "source"), tmp_path)
    assert (target / "hard link").samefile(target / "deep" / "er" / "file")


def test_a_sparse_file_stays_sparse(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    sparse(source / "file")
    copy_tree(source, made(tmp_path / "copy"))
    for found in (round_trip(source, tmp_path) / "file", tmp_path / "copy" / "file"):
        assert found.read_bytes() == (source / "file").read_bytes()
        assert found.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("way", ["snapshot", "copy"])
def test_the_volumes_own_folder_keeps_its_owner_and_mode(tmp_path: Path, way: str) -> None:
    source = made(tmp_path / "source")
    os.chown(source, OWNER, GROUP)
    source.chmod(0o700)
    if way == "copy":
        copy_tree(source, made(tmp_path / "restored"))
    else:
        round_trip(source, tmp_path)
    found = (tmp_path / "restored").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (OWNER, GROUP, 0o700)


def test_volumes_do_not_mix(tmp_path: Path) -> None:
    volumes = {"a": "a/_data", "ab": "ab/_data", "c.d": "a.b/_data", "_e": "a-b/_data"}
    for key, place in volumes.items():
        (made(tmp_path / place) / "key").write_text(key)
    kept = archive({key: tmp_path / place for key, place in volumes.items()}, tmp_path / "archive")
    targets = {key: made(tmp_path / "restored" / key) for key in volumes}
    unpack_archive(kept, targets)
    assert {key: {path.name: path.read_text() for path in folder.iterdir()} for key, folder in targets.items()} == {
        key: {"key": key} for key in volumes
    }


@pytest.mark.parametrize("way", ["one after the other", "the other way round"])
def test_a_volume_called_as_a_part_of_a_path_is_not_taken_for_that_path(tmp_path: Path, way: str) -> None:
    """Keys such as `var` and `docker` are words of the very folders that the data goes to."""
    words = [*tmp_path.parts[1:], "old", "new", "conf", "conf-2", "conf.2", "_data"]
    keys = list(dict.fromkeys(words if way.startswith("one") else reversed(words)))
    old = {key: made(tmp_path / "old" / key) for key in keys}
    for key, folder in old.items():
        (folder / "whose").write_text(key)
        for inside in keys:
            (folder / inside).mkdir()
            (folder / inside / "whose").write_text(f"{inside} in {key}")
    new = {key: made(tmp_path / "new" / key) for key in keys}
    unpack_archive(archive(old, tmp_path / "archive"), new)
    for key in keys:
        assert tree(new[key]) == tree(old[key]), key


def losing(name: str, kind: str) -> list[str]:
    """A tar that unpacks everything and then spoils one thing, as a failing disk or a wrong rule would."""
    spoil = {"gone": "rm -f", "cut": "truncate -s 1", "mode": "chmod 0642", "more": "touch"}[kind]
    return ["sh", "-c", f'/bin/tar "$@" && {spoil} "{name}"', "tar"]


@pytest.mark.parametrize("kind", ["gone", "cut", "mode", "more"])
def test_what_came_out_is_compared_with_what_the_archive_lists(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = snapshot_of_one_file(tmp_path)
    target = made(tmp_path / "target")
    real = subprocess.Popen

    def spoiling(command: list[str], **options: Any) -> Any:
        spoilt = target / ("new" if kind == "more" else "file")
        return real([*losing(str(spoilt), kind), *command[1:]] if command[0] == "tar" else command, **options)

    monkeypatch.setattr(subprocess, "Popen", spoiling)
    with pytest.raises(HostProblem) as raised:
        unpack_archive(kept, {"data": target})
    assert raised.value.code == "unpack-failed"


def test_a_volume_whose_folders_name_begins_as_anothers_comes_back(tmp_path: Path) -> None:
    for name in ("a", "ab"):
        (made(tmp_path / name) / "file").write_text(name)
    kept = archive({"one": tmp_path / "a", "two": tmp_path / "ab"}, tmp_path / "archive")
    target = made(tmp_path / "restored")
    unpack_archive(kept, {"two": target})
    assert (target / "file").read_text() == "ab"


@pytest.mark.parametrize("place", ["a b", "a.b", "a,b", "a&b", "a[b", "a$b^", "a*b", "é", "a+b", "a?b", "a|b", "a{1}", "a(b"])
def test_a_volume_below_an_odd_folder_comes_back(tmp_path: Path, place: str) -> None:
    source = made(tmp_path / place / "_data")
    (source / "file").write_text("x")
    assert (round_trip(source, tmp_path) / "file").read_text() == "x"


def test_a_restore_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    kept = snapshot_of_one_file(tmp_path)
    target = furnish(tmp_path / "target")
    unpack_archive(kept, {"data": target})
    assert set(tree(target)) == {b"file"}


def test_one_volume_can_be_restored_alone(tmp_path: Path) -> None:
    for key in ("a", "b"):
        (made(tmp_path / key / "_data") / key).touch()
    kept = archive({key: tmp_path / key / "_data" for key in "ab"}, tmp_path / "archive")
    target = made(tmp_path / "restored")
    unpack_archive(kept, {"b": target})
    assert set(tree(target)) == {b"b"}


def test_an_empty_volume_and_no_volumes_at_all_work(tmp_path: Path) -> None:
    empty = archive({"data": made(tmp_path / "empty")}, tmp_path / "archive of an empty one")
    none = archive({}, tmp_path / "archive of none")
    target = furnish(tmp_path / "target")
    unpack_archive(none, {})
    unpack_archive(empty, {"data": target})
    assert [archive_problem(kept) for kept in (empty, none)] == [None, None]
    assert tree(target) == {}


def flip_a_byte(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (flip_a_byte, "checksum"),
        (truncate, "bytes instead of"),
        (Path.unlink, "cannot be read"),
        (replace_by_a_folder, ""),
    ],
)
def test_damage_is_told_and_nothing_is_restored_from_it(tmp_path: Path, damage: Callable[[Path], None], told: str) -> None:
    kept = snapshot_of_one_file(tmp_path)
    damage(Path(kept.path))
    problem = archive_problem(kept)
    assert problem is not None
    assert kept.path in problem
    assert told in problem
    target = furnish(tmp_path / "target")
    before = tree(target)
    with pytest.raises(CanonqError) as raised:
        snapshots.unpack(kept, {"data": target})
    assert raised.value.code == "snapshot-damaged"
    assert tree(target) == before


def test_a_volume_the_snapshot_does_not_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostProblem, match="could not unpack other"):
        unpack_archive(snapshot_of_one_file(tmp_path), {"other": made(tmp_path / "target")})


def test_a_snapshot_is_never_written_over_another(tmp_path: Path) -> None:
    kept = snapshot_of_one_file(tmp_path)
    with pytest.raises(HostProblem):
        archive({"data": tmp_path / "one"}, Path(kept.path))
    assert archive_problem(kept) is None


@pytest.mark.parametrize("what", ["snapshot", "copy"])
def test_a_volume_that_is_not_there_is_told(tmp_path: Path, what: str) -> None:
    target = furnish(tmp_path / "target")
    before = tree(target)
    with pytest.raises(HostProblem) as told:
        archive({"data": tmp_path / "no"}, tmp_path / "archive") if what == "snapshot" else copy_tree(tmp_path / "no", target)
    assert told.value.code == "volumes-not-readable"
    assert tree(target) == before


def test_a_copy_is_identical(tmp_path: Path) -> None:
    source, target = furnish(tmp_path / "source"), made(tmp_path / "target")
    before = tree(source)
    copy_tree(source, target)
    assert tree(target) == before
    assert tree(source) == before
    assert (target / "hard link").samefile(target / "deep" / "er" / "file")
    assert not (target / "hard link").samefile(source / "hard link")


def test_a_copy_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    source, target = made(tmp_path / "source"), furnish(tmp_path / "target")
    for _ in range(2):
        copy_tree(source, target)
        assert tree(target) == {}
        (source / "file").touch()
        copy_tree(source, target)
        assert set(tree(target)) == {b"file"}
        (source / "file").unlink()


def test_a_snapshot_of_a_volume_tar_has_much_to_say_about_does_not_hang(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    for number in range(800):
        os.mknod(source / f"{number:0200}", stat.S_IFSOCK | 0o600)
    said = in_a_process("archive({'data': Path(sys.argv[1])}, Path(sys.argv[2])); print('kept')", source, tmp_path / "archive")
    assert said == "kept"


@pytest.mark.long
def test_a_restore_tar_has_much_to_say_about_does_not_hang(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    for number in range(800):
        path = source / f"{number:0200}"
        path.write_bytes(os.urandom(500))
        os.utime(path, (4_000_000_000, 4_000_000_000))
    code = "kept = archive({'data': Path(sys.argv[1])}, Path(sys.argv[2]))\n"
    code += "unpack_archive(kept, {'data': Path(sys.argv[3])}); print('restored')"
    assert in_a_process(code, source, tmp_path / "archive", made(tmp_path / "target")) == "restored"


SMALL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"


def test_a_snapshot_that_runs_out_of_room_is_the_hosts_problem(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    (source / "file").write_bytes(os.urandom(8 << 20))
    code = SMALL + "try:\n  archive({'data': Path(sys.argv[1])}, Path(sys.argv[2]))\nexcept CanonqError as e: print(e.fault)"
    assert in_a_process(code, source, tmp_path / "archive") == "host"


def test_a_restore_that_runs_out_of_room_is_the_hosts_problem(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    (source / "file").write_bytes(b"\0" * (8 << 20))
    (source / "other").write_bytes(os.urandom(1) * (8 << 20))
    code = "kept = archive({'data': Path(sys.argv[1])}, Path(sys.argv[2]))\n" + SMALL
    code += "try:\n  unpack_archive(kept, {'data': Path(sys.argv[3])})\nexcept CanonqError as e: print(e.fault)"
    assert in_a_process(code, source, tmp_path / "archive", made(tmp_path / "target")) == "host"


@pytest.mark.long
@pytest.mark.parametrize("way", ["snapshot", "restore"])
def test_memory_is_bounded_whatever_the_size(way: str, tmp_path: Path) -> None:
    """A gigabyte goes through a process that peaks below 200 MB."""
    source, target = made(tmp_path / "source"), made(tmp_path / "target")
    with (source / "large").open("wb") as file:
        for number in range(1024):
            file.write(bytes([number % 251]) * (1 << 20))
    code = (
        "import sys; from pathlib import Path; from canonq.adapters.data.archives import archive, unpack_archive\n"
        "kept = archive({'data': Path(sys.argv[1])}, Path(sys.argv[2]))\n"
        f"if {way == 'restore'}: unpack_archive(kept, {{'data': Path(sys.argv[3])}})\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"  # rusage begins with the parent's
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "archive"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 200 * 1024, "kilobytes"


def test_progress_is_told_while_a_snapshot_is_taken(tmp_path: Path) -> None:
    source = made(tmp_path / "source")
    (source / "large").write_bytes(os.urandom(8 << 20))
    told: list[int] = []
    kept = archive({"data": source}, tmp_path / "archive", told.append)
    assert len(told) > 4
    assert told == sorted(told)
    assert told[-1] == kept.content_bytes
    assert told[-1] >= 8 << 20
