"""Where Docker and canonq write, and how much of it there is, over real folders and processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.docker import disks
from tests.core.test_dockerinfo import CONTAINERD, GRAPH_DRIVER

LISTEN = """
import socket, sys
from pathlib import Path
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()
Path("/proc/self/comm").write_text("containerd")
print("listening", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def containerd(address: Path, *options: str) -> Iterator[None]:
    """A process of that name that listens at a socket, started with these options."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN, str(address), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == b"listening\n"
        try:
            yield
        finally:
            process.stdin.close()


def info(address: Path, root: Path) -> dict[str, object]:
    return {**CONTAINERD, "DockerRootDir": str(root), "Containerd": {"Address": str(address)}}


def test_with_a_graph_driver_images_lie_in_dockers_root() -> None:
    found = disks.roots(GRAPH_DRIVER, None)
    assert (found.docker, found.images, found.store) == (Path("/var/lib/docker"), Path("/var/lib/docker"), "graph driver")


def test_with_containerds_store_images_lie_where_its_process_was_told_to_keep_them(tmp_path: Path) -> None:
    with containerd(tmp_path / "ctr.sock", "--root", str(tmp_path / "ctr")):
        found = disks.roots(info(tmp_path / "ctr.sock", tmp_path / "docker"), None)
    assert (found.images, found.how) == (tmp_path / "ctr", "asked of its process")


def test_a_root_that_only_the_configuration_of_containerd_names_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'version = 3\nroot = "{tmp_path}/elsewhere"\n')
    with containerd(tmp_path / "ctr.sock", "--config", str(tmp_path / "config.toml")):
        assert disks.roots(info(tmp_path / "ctr.sock", tmp_path), None).images == tmp_path / "elsewhere"


def test_a_containerd_without_any_word_about_it_keeps_images_at_its_default(tmp_path: Path) -> None:
    with containerd(tmp_path / "ctr.sock", "--config", str(tmp_path / "none.toml")):
        assert disks.roots(info(tmp_path / "ctr.sock", tmp_path), None).images == Path("/var/lib/containerd")


def test_where_nobody_can_be_asked_the_place_is_a_guess_and_says_so(tmp_path: Path) -> None:
    own = disks.roots(info(tmp_path / "exec" / "containerd" / "containerd.sock", tmp_path / "docker"), None)
    assert (own.images, own.how) == (tmp_path / "docker" / "containerd" / "daemon", "guessed")
    other = disks.roots(info(tmp_path / "none.sock", tmp_path / "docker"), None)
    assert (other.images, other.how) == (Path("/var/lib/containerd"), "guessed")


def test_the_setting_outranks_what_could_be_asked(tmp_path: Path) -> None:
    with containerd(tmp_path / "ctr.sock", "--root", str(tmp_path / "ctr")):
        found = disks.roots(info(tmp_path / "ctr.sock", tmp_path / "docker"), tmp_path / "set")
    assert (found.images, found.how) == (tmp_path / "set", "set in the settings")


def test_another_program_at_the_socket_is_not_asked(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "ctr.sock"))
        listener.listen()
        assert disks.roots(info(tmp_path / "ctr.sock", tmp_path), None).how == "guessed"


def test_two_folders_of_one_file_system_are_one_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (found,) = disks.file_systems([(tmp_path / "a", "state"), (tmp_path / "b", "volumes"), (tmp_path / "none", "images")])
    assert (found.path, found.holds) == (str(tmp_path / "a"), ("state", "volumes"))
    assert found.free > 0
    assert found.files is None or found.files > 0


def test_a_folder_of_another_file_system_is_a_disk_of_its_own(tmp_path: Path) -> None:
    others = (Path("/dev/shm"), Path(__file__).parent)
    other = next((path for path in others if path.stat().st_dev != tmp_path.stat().st_dev), None)
    if other is None:
        pytest.skip("all of this host is on one file system")
    assert len(disks.file_systems([(tmp_path, "state"), (other, "images")])) == 2


def test_bytes_are_counted_once_however_many_names_a_file_has(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "file").write_bytes(os.urandom(1 << 20))
    os.link(tmp_path / "deep" / "er" / "file", tmp_path / "again")
    (tmp_path / "way out").symlink_to("/")
    assert 1 << 20 <= disks.bytes_below(tmp_path) < 3 << 19
    assert disks.bytes_below(tmp_path / "none") == 0


def test_a_folder_that_goes_while_it_is_measured_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(os.urandom(1 << 20))
    (tmp_path / "goes").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if Path(path).name == "goes":
            Path(path).rmdir()
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert disks.bytes_below(tmp_path) >= 1 << 20


def test_very_deep_folders_are_measured_too(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        assert disks.bytes_below(tmp_path) >= 0
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "d")], check=True)  # Python's own way would call itself too often
