"""The file systems that canonq and Docker write to: found by asking, measured without failing."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from canonq.core import dockerinfo
from canonq.core.budget import FileSystem, Kind
from canonq.ports import Roots


def roots(info: Mapping[str, Any], containerd_root: Path | None) -> Roots:
    """Where the Engine of this `docker info` writes; `containerd_root` is what the settings say."""
    docker, store = Path(info["DockerRootDir"]), dockerinfo.image_store(info)
    if store == "graph driver":
        return Roots(docker, docker, store, "told by Docker")
    if containerd_root is not None:
        return Roots(docker, containerd_root, store, "set in the settings")
    address = dockerinfo.containerd_socket(info)
    if asked := _root_of_process(address):
        return Roots(docker, asked, store, "asked of its process")
    own = Path(dockerinfo.containerd_of_engine(str(docker)))
    return Roots(docker, own if dockerinfo.is_of_engine(address) else Path(dockerinfo.DEFAULT_CONTAINERD_ROOT), store, "guessed")


def _root_of_process(address: str) -> Path | None:
    """The root folder of the containerd that listens at a socket: of its command line, or of the file that this names."""
    pid = _listener(address)
    if pid is None:
        return None
    try:
        command = [os.fsdecode(word) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")]
        root, config = dockerinfo.options_of(command)
        if root is None:
            with contextlib.suppress(FileNotFoundError):  # it goes without one, then with its defaults
                root = dockerinfo.root_in_config(Path(config).read_text(errors="replace"))
        if root is None or not Path(root).is_absolute():
            root = str(Path(os.readlink(f"/proc/{pid}/cwd")) / root) if root else dockerinfo.DEFAULT_CONTAINERD_ROOT
    except OSError:  # another user's, or it has just ended
        return None
    return Path(root)


def _listener(address: str) -> int | None:
    """The process that listens at a Unix socket; None when it cannot be told (not there, not allowed, not of our namespace)."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asked:
        asked.settimeout(5)
        asked.connect(address.removeprefix("unix://"))
        pid, _, _ = struct.unpack("3i", asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return pid if pid > 0 and "containerd" in Path(f"/proc/{pid}/comm").read_text() else None
    return None


def file_systems(places: Iterable[tuple[Path, Kind]]) -> list[FileSystem]:
    """The file systems that these folders are on, each once, with all kinds of it; what cannot be seen is left out."""
    found: dict[str, FileSystem] = {}
    mounts = ""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    for path, kind in places:
        try:
            real = path.resolve()
            key = dockerinfo.shared_source(mounts, str(real)) or str(real.stat().st_dev)
            free, files = _room(real)
        except OSError:
            continue
        known = found.get(key)
        holds = (*known.holds, kind) if known else (kind,)
        # Volumes of one pool may have quotas of their own: the least of them counts.
        least = min((count for count in (files, known.files if known else None) if count is not None), default=None)
        found[key] = FileSystem(known.path if known else str(path), holds, min(free, known.free) if known else free, key, least)
    return list(found.values())


def _room(folder: Path) -> tuple[int, int | None]:
    """Bytes that are free, and files that can still be made; None on a file system that makes room for them as they come."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None


def bytes_below(folder: Path) -> int:
    """Bytes on disk of all below a folder; what goes away meanwhile, or cannot be looked into, is passed over."""
    total, left, seen = 0, [os.fspath(folder)], set[tuple[int, int]]()
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        stat = entry.stat(follow_symlinks=False)
                        if stat.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                            if (stat.st_dev, stat.st_ino) in seen:
                                continue
                            seen.add((stat.st_dev, stat.st_ino))
                        total += stat.st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            left.append(entry.path)
        except OSError:
            continue
    return total
