"""What an app keeps in its containers and is gone with them, and what of it was in a volume before (docs/rules.md 3). Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from canonq.core.stack.passing import is_passing
from canonq.core.text import shown

#: Folders of the system's own, where what a program writes is a setting, a log or of the moment.
_OF_THE_SYSTEM = (
    "/bin/", "/dev/", "/etc/", "/lib/", "/proc/", "/run/", "/sbin/", "/sys/", "/usr/bin/", "/usr/lib/", "/usr/local/lib/",
    "/usr/local/share/", "/usr/sbin/", "/usr/share/", "/var/cache/", "/var/lib/apt/", "/var/lib/dpkg/", "/var/lock/", "/var/log/",
)  # fmt: skip
_MOST_TOLD = 5
_KEYS = ("secret", "private", "master", "encrypt", "jwt", "signing")


@dataclass(frozen=True)
class InContainer:
    """A file in a container's own layer, or in a volume of it that has no name."""

    service: str
    path: str
    bytes: int
    written: float  #: seconds since 1970
    engine: str = ""  #: the kind of database that it is of
    tables: tuple[str, ...] = ()  #: of an SQLite file

    def __str__(self) -> str:
        what = f"{self.engine}, " if self.engine else ""
        return f"{shown(self.path, 120)} ({what}{self.bytes} bytes)"


def may_be_data(path: str) -> bool:
    """Whether a file in a container is to be looked at: neither the system's own nor of the moment."""
    return not path.startswith(_OF_THE_SYSTEM) and not is_passing(path) and "/.cache/" not in path


def told(there: Iterable[InContainer], up_since: float) -> Iterator[str]:
    """A note for each service with databases in its container, or files that it wrote after it was up; keys are named too."""
    services: dict[str, list[InContainer]] = {}
    for one in there:
        if one.engine or one.written > up_since or _is_key(one.path):
            services.setdefault(one.service, []).append(one)
    for service, files in sorted(services.items()):
        files.sort(key=lambda one: (not one.engine, not _is_key(one.path), one.path))
        more = f" and {len(files) - _MOST_TOLD} more" if len(files) > _MOST_TOLD else ""
        listed = ", ".join(map(str, files[:_MOST_TOLD]))
        yield f"data-outside-volumes: '{service}' keeps {listed}{more} in its container, which is gone with it"


def _is_key(path: str) -> bool:
    name = path.lower().rpartition("/")[2]
    return name.endswith((".key", "_key", "-key", "id_rsa", "id_ed25519")) or (
        "key" in name and any(word in name for word in _KEYS)
    )


def moved_out(
    base: Mapping[str, Collection[str]],
    base_tables: Mapping[str, Collection[str]],
    fresh: Mapping[str, Collection[str]],
    fresh_tables: Iterable[Collection[str]],
    there: Collection[InContainer],
) -> list[str]:
    """A phrase for each volume and database that the base had in a volume, and that the fresh install has in a container.

    `base`, `fresh`: key of a volume -> paths of the files in it; `base_tables`: name of an SQLite file -> its tables.
    """
    found = []
    made = [set(tables) for tables in fresh_tables]
    for where, tables in sorted(base_tables.items()):
        alike = [one for one in there if tables and _are_most(set(one.tables), set(tables))]
        same = max(alike, key=lambda one: _likeness(one, where, set(tables)), default=None)
        if same is not None and not any(_are_most(one, set(tables)) for one in made):
            found.append(f"what {where} is in a volume of the base is {same} of '{same.service}'")
    for key, paths in sorted(base.items()):
        data = [path for path in sorted(paths) if not is_passing(path)]
        away = [path for path in data if path not in fresh.get(key, ())]
        outside = {path: one for path in away for one in there if one.path.endswith(f"/{path}")}
        if outside and len(outside) * 2 >= len(data):
            first = next(iter(outside.values()))
            found.append(f"{len(outside)} of {len(data)} files of the volume '{key}' are in '{first.service}' itself, as {first}")
    return found


def _likeness(one: InContainer, where: str, tables: set[str]) -> tuple[float, bool]:
    """How like it is to the SQLite file of a volume: apps that have several give each the same table of migrations."""
    return len(tables & set(one.tables)) / len(tables | set(one.tables)), f"/{where.partition(':')[2]}".endswith(
        one.path[one.path.rfind("/") :]
    )


def _are_most(there: set[str], of: set[str]) -> bool:
    return bool(of) and len(there & of) * 2 >= len(of)
