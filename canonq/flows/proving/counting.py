"""The census of a running app: its volumes and SQLite files on this host, its database servers in their containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.data import counting
from canonq.core.stack.census import Census, DatabaseCount, SqliteFile, VolumeCount, keepers, users_of
from canonq.core.stack.databases import ASKED, MONGO, are_alone
from canonq.core.stack.engines import SQLITE, WIREDTIGER
from canonq.core.text import readable
from canonq.flows.deploying.stages import Running
from canonq.ports import Data
from canonq.tiers import servers
from canonq.tiers.facts import Marker


def take_census(data: Data, running: Running, kinds: Mapping[str, str]) -> Census:
    """Count what the app holds now. `kinds`: service -> kind of the database servers that it has."""
    stack = running.stack.stack
    users = users_of(data.mounted(stack), keepers(kinds))
    databases = {service: counted for service, kind in kinds.items() if (counted := servers.count(data, stack, service, kind))}
    volumes: dict[str, VolumeCount] = {}
    unread: set[str] = set()
    used, own = data.volumes_in_use(stack), are_alone(kinds, running.stack.images)
    for key, name in running.stack.volumes.items():
        if (folder := used.get(name)) is None:
            continue
        found = counting.count(folder)
        user = users.get(name, "")
        asked = own.get(user) in ASKED
        volumes[key] = VolumeCount(
            files=found.files,
            bytes=found.bytes,
            service=user if asked else "",
            sqlite=len(found.sqlite),
            churns=user in own and not asked,
        )
        if user not in own:
            databases |= _sqlite(folder, found.sqlite, user or key)
            unread |= {
                f"{user or key} ({kind})"
                for kind in found.engines
                if key not in running.deployment.enrolment.data.volatile and not (kind == WIREDTIGER and kinds.get(user) == MONGO)
            }
    return Census(volumes=volumes, databases=databases, unread=tuple(sorted(unread)))


def _sqlite(folder: Path, paths: tuple[str, ...], user: str) -> dict[str, DatabaseCount]:
    asked = counting.ask_sqlite(folder, "count", paths)
    return {
        readable(f"{user}:{path}"): DatabaseCount(kind=SQLITE, tables=_tables(said), why_not=str(said.get("why", "")))
        for path, said in asked.items()
    }


def sqlite_files(data: Data, running: Running) -> dict[str, SqliteFile]:
    """What is seen of each SQLite file in the volumes of what runs, by the name that a census has for it."""
    used, found = data.volumes_in_use(running.stack.stack), dict[str, SqliteFile]()
    for name, user in _users(data, running).items():
        if (folder := used.get(name)) is None:
            continue
        paths = counting.count(folder).sqlite
        opened = counting.opened(folder, paths)
        for path, said in counting.ask_sqlite(folder, "read", paths).items():
            found[readable(f"{user}:{path}")] = SqliteFile(marks=frozenset(counting.texts_of(said)), open=path in opened)
    return found


def marks_of_sqlite(data: Data, running: Running, markers: Sequence[Marker]) -> dict[str, str]:
    """What was written into which SQLite file, by the name that a census has for it."""
    users = _users(data, running)
    placed = [(marker.place.partition("/"), marker.text) for marker in markers if marker.kind == "sqlite"]
    return {readable(f"{users[name]}:{path}"): text for (name, _, path), text in placed if name in users}


def _users(data: Data, running: Running) -> dict[str, str]:
    """Volume in Docker -> the service that has it, or else its key."""
    services = users_of(data.mounted(running.stack.stack))
    return {name: services.get(name) or key for key, name in running.stack.volumes.items()}


def _tables(said: Mapping[str, Any]) -> dict[str, int]:
    tables = said.get("tables")
    return {readable(str(name))[:200]: int(rows) for name, rows in tables.items()} if isinstance(tables, dict) else {}
