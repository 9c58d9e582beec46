"""Markers: data written into the app before it is touched, to be found again afterwards.

Each where it can be had: a file in every volume, a row in every database and in every SQLite file that is open, a key in a
Redis that keeps what it has, and whatever the recipe's own hooks.py writes (`write_marker`, `read_marker`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from canonq.adapters.data import counting, markerfile
from canonq.adapters.processes.stopping import check_stop
from canonq.core.errors import RecipeProblem
from canonq.core.stack.census import keepers, users_of
from canonq.core.stack.databases import (
    ASKED,
    POSTGRES,
    REDIS,
    Reading,
    Seen,
    State,
    asked_for,
    like,
    postgres_services,
    seen,
    server_kind,
)
from canonq.core.text import readable, shown
from canonq.ports import Data
from canonq.tiers import servers
from canonq.tiers.facts import Marker

DESTROYED = servers.DESTROYED

_UNDECIDED: tuple[State, ...] = ("not-yet", "refused")
_COMING: tuple[State, ...] = ("not-yet",)
#: Seconds for a server that only its process tells of: inside an app's own image it is up before the app answers, and one that
#: is not where its program looks for it says for ever that it is not there yet.
_INSIDE = 5.0


@dataclass(frozen=True)
class Patience:
    """How long a database is asked that does not answer: it may be starting still, after the app itself answers."""

    seconds: float = 60.0
    pause: float = 1.0  #: seconds between two questions


def write(
    data: Data,
    stack: str,
    images: Mapping[str, str],
    text: str,
    patience: Patience | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    leave: Collection[str] = (),
    live: Collection[str] = (),
) -> list[Marker]:
    """Write a marker into every volume, and every database that takes one, but for volumes and SQLite files (service:path) to
    `leave`; what was written. `live`: SQLite files that the app is known to write to, though it closes them again.

    A row names its service, so that it is known wherever its data goes, also beside another database's. `kinds`: service ->
    kind of the servers that there are.
    """
    volumes = {name: folder for name, folder in data.volumes_in_use(stack).items() if name not in leave}
    made = [Marker(kind="file", place=volume, text=text) for volume in _mark_volumes(volumes, text)]
    users = users_of(data.mounted(stack), keepers(kinds or {})) if leave or live else {}
    for volume, folder in volumes.items():
        names = {path: readable(f"{users.get(volume, '')}:{path}") for path in counting.count(folder).sqlite}
        kept = [path for path, name in names.items() if name not in leave]
        made += _mark_sqlite(
            volume, folder, text, {*counting.opened(folder, kept), *(path for path in kept if names[path] in live)}
        )
    named = postgres_services(images)
    for service, kind in sorted((kinds or {}).items()):
        if kind in ASKED and service not in named:
            made += _mark_server(data, stack, service, kind, text, _at_most(patience or Patience(), images.get(service, "")))
    for service in named:
        row = f"{text}.{service}."
        said = _written(data, stack, service, POSTGRES, row, patience or Patience())
        if said.state == "answered":
            made.append(Marker(kind="database", place=service, text=row))
    return made


def missing(
    data: Data,
    stack: str,
    markers: Sequence[Marker],
    own_marker: str | None,
    images: Mapping[str, str] | None = None,
    patience: Patience | None = None,
    *,
    kinds: Mapping[str, str] | None = None,
    in_place: bool = False,
) -> list[str]:
    """A phrase for each marker that is not there; `own_marker` is what the recipe's own read_marker found.

    `images` (service -> image) are what is deployed now: rows are looked for in all that are PostgreSQL, by their images or by
    `kinds` (service -> kind of the servers that there are), where these are known. RecipeProblem
    (`database-silent`) when one does not answer within `patience`: that is not the same as data that is gone. `in_place`: an
    SQLite file that is where it was has to have its row itself; a copy that a backup hook makes has it as well.
    """
    found, rows = _files(data, stack, markers), _rows_of_sqlite(data, stack, markers)
    gone = []
    for marker in markers:
        instead = ""  # of it, in a few words
        match marker.kind:
            case "own":  # what `cat` adds is no other text
                if own_marker is None or own_marker.strip() != marker.text:
                    instead = (
                        f"read_marker gave {'None' if own_marker is None else shown(own_marker)} instead of {shown(marker.text)}"
                    )
            case "file":
                if (text := found.get(marker.place)) != marker.text:
                    instead = "there is no such file in what is mounted now" if text is None else f"it says {shown(text)}"
            case "part":
                if (text := _in_part(data, stack, marker)) != marker.text:
                    instead = "there is no such file" if text is None else f"it says {shown(text)}"
            case "sqlite":
                if in_place and marker.place in rows and marker.text not in rows[marker.place]:
                    instead = "the file has it no more"
                elif not any(marker.text in there for there in rows.values()):
                    instead = "no SQLite file that is mounted now has it"
            case "database" | "key":
                if marker.server == POSTGRES:
                    asked = dict.fromkeys(asked_for(marker.place, images or {}), POSTGRES) | like(
                        marker.place, POSTGRES, kinds or {}
                    )
                elif kinds is None:
                    asked = {marker.place: marker.server}
                else:
                    asked = servers.like_it(data, stack, marker.place, marker.server, kinds)
                instead = _not_in_server(data, stack, marker, asked, patience or Patience())
        if instead:
            gone.append(f"{marker} ({instead})")
    return gone


def _in_part(data: Data, stack: str, marker: Marker) -> str | None:
    """What the marker in a folder of a volume says now; None where there is none."""
    volume, _, path = marker.place.partition("/")
    folder = data.volumes_in_use(stack).get(volume)
    return markerfile.read(folder, below=path) if folder is not None and path else None


def _instead(said: Sequence[Reading]) -> str:
    """What servers have in the place of a mark, in a few words."""
    if not said:
        return "nothing runs that could have it"
    lines = [line for one in said for line in one.lines if line.strip()]
    if lines:
        return f"there is {shown(lines[0])} instead"
    return "there is none" if any(one.state == "answered" for one in said) else "its table is not there"


def destroy(data: Data, stack: str, markers: Sequence[Marker], patience: Patience | None = None) -> list[Marker]:
    """Remove the markers that are in volumes, and write over those in databases; those that can be seen there all the same.

    A row is written over and not removed: a restore that replaces nothing that is there would bring back a table that is gone,
    and none of an app's rows.
    """
    for marker in markers:
        if marker.kind == "file" and (folder := data.volume_path(marker.place)) is not None:
            markerfile.remove(folder)
    for marker in markers:
        volume, _, path = marker.place.partition("/")
        if marker.kind == "part" and (folder := data.volume_path(volume)) is not None and markerfile.is_folder(folder, path):
            markerfile.remove(folder, path)
    texts = {marker.text for marker in markers if marker.kind == "sqlite"}
    for folder in data.volumes_in_use(stack).values() if texts else ():  # an app's own copies have it as well
        asked = counting.ask_sqlite(folder, "read", counting.count(folder).sqlite)
        counting.ask_sqlite(folder, "write", [path for path, said in asked.items() if texts & counting.texts_of(said)], DESTROYED)
    rows = [marker for marker in markers if marker.kind == "database"]
    for marker in rows:
        said = _destroyed(data, stack, marker, patience or Patience())
        if said.state in _UNDECIDED:
            raise silent([marker.place], said.why)
    files = _files(data, stack, markers)
    left = _rows_of_sqlite(data, stack, markers)
    return (
        [m for m in markers if m.kind == "file" and files.get(m.place) == m.text]
        + [m for m in markers if m.kind == "part" and _in_part(data, stack, m) == m.text]
        + [m for m in markers if m.kind == "sqlite" and any(m.text in there for there in left.values())]
        + [marker for marker in rows if seen(marker.text, [_read(data, stack, marker)]) == "there"]
    )


def homes(data: Data, stack: str, markers: Sequence[Marker]) -> dict[str, str]:
    """Service -> the database in it that its marker is in, where one says so."""
    found = {one.place: servers.home(data, stack, one.place, one.server) for one in markers if one.kind == "database"}
    return {place: database for place, database in found.items() if database}


def _destroyed(data: Data, stack: str, marker: Marker, patience: Patience) -> Reading:
    return _until(lambda: servers.ask(data, stack, marker.place, marker.server, "destroy", DESTROYED), _UNDECIDED, patience)


def _read(data: Data, stack: str, marker: Marker) -> Reading:
    return servers.ask(data, stack, marker.place, marker.server, "read")


def _not_in_server(data: Data, stack: str, marker: Marker, asked: Mapping[str, str], patience: Patience) -> str:
    """What is in its place instead; empty where it is there."""
    found, said = look_for(data, stack, [marker.text], "read", asked, marker.server, patience)
    return "" if found[marker.text] == "there" else _instead(said)


def look_for(
    data: Data, stack: str, texts: Sequence[str], what: str, asked: Mapping[str, str], server: str, patience: Patience
) -> tuple[dict[str, Seen], list[Reading]]:
    """Whether each text is in one of the servers `asked` (service -> kind), and what these said. `what`: see `servers.ask`;
    `server`: the kind of the one that the texts were written to.

    RecipeProblem (`database-silent`) when one that may have them does not answer within `patience`.
    """
    ends = time.monotonic() + patience.seconds
    while True:
        said = [servers.ask(data, stack, service, kind, what) for service, kind in asked.items()]
        found = {text: seen(text, said) for text in texts}
        if "unasked" not in found.values():
            return found, said
        if time.monotonic() >= ends:
            raise silent(list(asked), next(one.why for one in said if one.state in _UNDECIDED), server)
        check_stop()
        time.sleep(patience.pause)


def _at_most(patience: Patience, image: str) -> Patience:
    """The same, and no longer than usual: a server that nobody lets canonq into may say for ever that it is not there yet."""
    longest = Patience().seconds if server_kind(image) is not None else _INSIDE
    return Patience(min(patience.seconds, longest), patience.pause)


def _mark_server(data: Data, stack: str, service: str, kind: str, text: str, patience: Patience) -> list[Marker]:
    if kind == REDIS and servers.count(data, stack, service, kind) is None:
        return []  # it keeps nothing
    row = f"{text}.{service}."
    said = _written(data, stack, service, kind, row, patience)
    if said.state != "answered":
        return []
    return [Marker(kind="key" if kind == REDIS else "database", place=service, text=row, server=kind)]


def _written(data: Data, stack: str, service: str, kind: str, row: str, patience: Patience) -> Reading:
    return _until(lambda: servers.ask(data, stack, service, kind, "write", row), _COMING, patience)


def _mark_sqlite(volume: str, folder: Path, text: str, paths: Collection[str]) -> list[Marker]:
    """A row in each SQLite file that is open, or written to: any other may be a file that is only read, and exchanged."""
    made = []
    for path in sorted(paths):
        row = f"{text}.{path}."
        if counting.ask_sqlite(folder, "write", [path], row)[path].get("done"):
            made.append(Marker(kind="sqlite", place=f"{volume}/{path}", text=row, server="sqlite"))
    return made


def _rows_of_sqlite(data: Data, stack: str, markers: Sequence[Marker]) -> dict[str, set[str]]:
    """SQLite file (volume/path) of the volumes that are mounted now -> the texts that are in it: an app may have moved them."""
    if not any(marker.kind == "sqlite" for marker in markers):
        return {}
    return {
        f"{volume}/{path}": counting.texts_of(said)
        for volume, folder in data.volumes_in_use(stack).items()
        for path, said in counting.ask_sqlite(folder, "read", counting.count(folder).sqlite).items()
    }


def _mark_volumes(volumes: Mapping[str, Path], text: str) -> list[str]:
    """A file in each volume that the stack's services mount, however they do."""
    for folder in volumes.values():
        markerfile.write(folder, text)
    return list(volumes)


def _files(data: Data, stack: str, markers: Sequence[Marker]) -> dict[str, str]:
    """Volume -> the marker in it, of those that the stack's services mount now: running or not, writable or not."""
    if not any(marker.kind == "file" for marker in markers):
        return {}
    found = {volume: markerfile.read(folder) for volume, folder in data.volumes_in_use(stack).items()}
    return {volume: text for volume, text in found.items() if text is not None}


def silent(places: Sequence[str], why: str, server: str = POSTGRES) -> RecipeProblem:
    """The problem of a server that cannot be asked."""
    name = "PostgreSQL" if server == POSTGRES else server
    return RecipeProblem(
        f"{name} in {' and '.join(places)} could not be asked whether its data is there: {shown(why, 300)}.",
        mend="look at its log in the run's folder. It answered when canonq wrote into it; a database that needs longer to start "
        "gets it by [health] timeout.",
        code="database-silent",
        service=places[0],
    )


def _until(asks: Callable[[], Reading], again: Collection[State], patience: Patience) -> Reading:
    ends = time.monotonic() + patience.seconds
    while (said := asks()).state in again and time.monotonic() < ends:
        check_stop()
        time.sleep(patience.pause)
    return said
