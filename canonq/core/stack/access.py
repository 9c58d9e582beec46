"""Who may write into which folder, as the kernel decides it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_OWNER, _GROUP, _OTHERS = 0o300, 0o030, 0o003  #: both, to make a file in a folder: write, and go into it


@dataclass(frozen=True)
class Process:
    """A process of a container, with ids as this host has them."""

    uid: int
    groups: frozenset[int]
    overrides: bool  #: whether it has CAP_DAC_OVERRIDE, so that it may write anywhere
    began: float = 0.0  #: seconds since 1970


@dataclass(frozen=True)
class Folder:
    """A folder of a volume."""

    uid: int
    gid: int
    mode: int
    acl: bool = False  #: whether a list says more than the mode does


def may_write(process: Process, folder: Folder) -> bool:
    """Whether a process may make files in a folder. Where a list says more than the mode, it counts as allowed."""
    if process.overrides or folder.acl:
        return True
    needed = _OWNER if process.uid == folder.uid else _GROUP if folder.gid in process.groups else _OTHERS
    return folder.mode & needed == needed


def some_may_write(processes: Iterable[Process], folders: Iterable[Folder]) -> bool:
    """Whether any of the processes may make files in any of the folders."""
    listed = tuple(processes)
    return any(may_write(process, folder) for folder in folders for process in listed)


@dataclass(frozen=True)
class Use:
    """How a volume is used by what runs."""

    may: bool  #: whether anybody may write to it
    does: bool  #: whether anybody was seen to have
    users: tuple[int, ...]  #: ids of the users that everybody who has it mounted runs as
    owner: int  #: of its own folder


@dataclass(frozen=True)
class LockedOut:
    """A volume that nobody can write to any more."""

    key: str
    before: Use
    after: Use

    def __str__(self) -> str:
        users = " and ".join(map(str, self.after.users))
        whose = f"it belongs to user {self.after.owner}, and user {users} runs now"
        return f"nobody may write to the volume '{self.key}' any more: {whose}"


def locked_out(before: Mapping[str, Use], after: Mapping[str, Use]) -> list[LockedOut]:
    """Volumes that somebody could write to before, that are mounted still, and that nobody can write to now."""
    return [
        LockedOut(key, was, after[key]) for key, was in sorted(before.items()) if was.may and key in after and not after[key].may
    ]
