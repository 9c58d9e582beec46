"""What of an app's files is of the moment only, and what of its data goes with a container's name (docs/rules.md 3). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

#: Ends of names of what is there while something runs, or tells of it.
_ENDS = (
    ".pid", ".lock", ".lck", ".sock", ".socket", ".tmp", ".swp", ".log", ".err", ".out", ".pyc", ".cache", ".core", ".dump",
    ".state", ".lower-test",
)  # fmt: skip
#: Names of folders of the same, as words of the name.
_FOLDERS = frozenset(
    ("log", "logs", "tmp", "temp", "cache", "caches", "run", "pid", "pids", "lock", "locks", "socket", "sockets", "session",
     "sessions", "crash", "crashes", "crashpad", "core", "cores", "trace", "traces", "thumbnails", "thumbs", "__pycache__",
     "metrics")
)  # fmt: skip
#: Names of folders in which each instance has a file that says it is there.
_REGISTERS = frozenset(("nodes", "workers", "instances", "members", "peers", "heartbeat", "heartbeats", "leases"))
_APART = str.maketrans("-_@.", "    ")


def is_passing(path: str) -> bool:
    """Whether a path's file is of the moment: a lock, a log, what is cached, which nobody misses."""
    *folders, name = path.lower().strip("/").split("/")
    if any(_is_folder_of_the_moment(folder) for folder in folders):
        return True
    plain = name.rstrip("0123456789.") if ".log." in name else name  # logs that were put aside
    return plain.endswith((*_ENDS, ".log")) or name in ("lock", "pid", "log", "singletonlock", "singletoncookie")


def _is_folder_of_the_moment(name: str) -> bool:
    return not _FOLDERS.isdisjoint(name.translate(_APART).split())


def begun_anew(paths: Iterable[str], before: Collection[str], after: Collection[str]) -> list[str]:
    """Folders and files with data whose name has that of a container that is gone, and beside which there is one for the new.

    `paths`: of a volume's files, and of its folders with a / at their end; `before`, `after`: names of containers, as they were
    before all of them were replaced by new ones, and as they are now.
    """
    gone, new = [name for name in before if name not in after], [name for name in after if name not in before]
    listed = list(paths)
    there = {prefix for path in listed for prefix in _prefixes(path)}
    found = {
        prefix
        for path in listed
        if not path.endswith("/") and not is_passing(path) and _REGISTERS.isdisjoint(path.lower().split("/")[:-1])
        for prefix in _prefixes(path)
        for old in gone
        if old in prefix.rpartition("/")[2] and any(prefix.replace(old, one) in there for one in new)
    }
    return sorted(one for one in found if not any(one.startswith(f"{other}/") for other in found))


def _prefixes(path: str) -> Iterator[str]:
    parts = path.strip("/").split("/")
    for end in range(1, len(parts) + 1):
        yield "/".join(parts[:end])
