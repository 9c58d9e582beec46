"""Processes of a container and folders of a volume, with what the kernel goes by when one writes into the other."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from canonq.adapters.data import inside
from canonq.adapters.data.markerfile import OWN
from canonq.adapters.uptime import up_for
from canonq.core.stack.access import Folder, Process, Use, some_may_write

_PROC = Path("/proc")
_DAC_OVERRIDE = 1 << 1  #: of linux/capability.h
_MOST_FOLDERS, _DEEPEST = 2000, 4
_STARTTIME = 19  #: of proc(5)'s /proc/pid/stat, counted from the field after the name: since boot, in ticks
_ACL = "system.posix_acl_access"


def processes_below(pid: int) -> list[Process]:
    """All processes of the container whose first one this is, told by its pid namespace; empty when it has ended.

    What others have begun in it, as Docker does its checks of health, is as a rule not the app's user, and not the app.
    """
    try:
        room = os.readlink(_PROC / str(pid) / "ns" / "pid")
    except OSError:
        return []
    said: dict[int, dict[str, str]] = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if os.readlink(entry / "ns" / "pid") == room:
                    said[int(entry.name)] = _status(entry)
    found = []
    for other in said:
        with contextlib.suppress(OSError, KeyError, ValueError):
            if _comes_from(pid, other, said):
                found.append(_process(_PROC / str(other), said[other]))
    return found


def _status(entry: Path) -> dict[str, str]:
    return dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines() if ":" in line)


def _comes_from(first: int, pid: int, said: Mapping[int, Mapping[str, str]]) -> bool:
    while pid != first and pid in said:
        pid = int(said[pid]["PPid"])
    return pid == first


def _process(entry: Path, said: Mapping[str, str]) -> Process:
    uids, gids = said["Uid"].split(), said["Gid"].split()
    groups = frozenset(map(int, [gids[1], *said.get("Groups", "").split()]))
    return Process(int(uids[1]), groups, bool(int(said["CapEff"], 16) & _DAC_OVERRIDE), _began(entry))


def _began(entry: Path) -> float:
    """Seconds since 1970 at which a process began. The time of its folder in /proc is only when somebody first looked there."""
    ticks = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[_STARTTIME])
    return time.time() - up_for() + (ticks - 1) / os.sysconf("SC_CLK_TCK")


def folders_of(volume: Path) -> Iterator[Folder]:
    """The folder of a volume and those below it, none too deep and not too many."""
    for count, (below, folders, _, handle) in enumerate(inside.walk(volume), 1):
        with contextlib.suppress(OSError):
            found = os.fstat(handle)
            yield Folder(found.st_uid, found.st_gid, found.st_mode, _has_acl(handle))
        if count >= _MOST_FOLDERS:
            return
        if len(Path(below).parts) >= _DEEPEST:
            folders.clear()


def use_of(volume: Path, processes: Sequence[Process]) -> Use:
    """How a volume is used by the processes that have it mounted."""
    users = tuple(sorted({process.uid for process in processes}))
    return Use(some_may_write(processes, folders_of(volume)), _was_written(volume, processes), users, volume.stat().st_uid)


def _was_written(volume: Path, processes: Sequence[Process]) -> bool:
    """Whether a file of a volume is younger than those that have it mounted, or belongs to one of them who is not root.

    What an image brought along, and what somebody has put there, is neither.
    """
    began = min((process.began for process in processes), default=float("inf"))
    users = {process.uid for process in processes} - {0}
    looked_at = 0
    for _, folders, names, handle in inside.walk(volume):
        for name in names:
            if name.startswith(OWN):  # we have written it
                continue
            with contextlib.suppress(OSError):
                found = os.stat(name, dir_fd=handle, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and (found.st_mtime >= began or found.st_uid in users):
                    return True
        looked_at += len(names) + len(folders)
        if looked_at >= _MOST_FOLDERS:
            break
    return False


def _has_acl(handle: int) -> bool:
    try:
        return _ACL in os.listxattr(handle)
    except OSError:
        return False
