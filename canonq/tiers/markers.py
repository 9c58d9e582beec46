"""Markers: data written into the app before it is touched, to be found again afterwards.

Three kinds, each where it can be had: a file in every volume, a table in every database that can be asked without a
password, and whatever the recipe's own hooks.py writes (`write_marker`, `read_marker`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from canonq.core.errors import CanonqError
from canonq.ports import Ended, Engine
from canonq.tiers.facts import Marker

_TIMEOUT = 60.0  #: seconds
_POSTGRES = ("postgres", "postgis", "postgresql", "pgvector", "pgvecto-rs", "pgvecto.rs", "timescaledb", "vectorchord")
# The official images trust those who come over the socket in the container; the names are where those images take them from.
_PSQL = (
    'u="${POSTGRES_USER:-$(cat "$POSTGRES_USER_FILE" 2>/dev/null)}"; u="${u:-postgres}"; '
    'd="${POSTGRES_DB:-$(cat "$POSTGRES_DB_FILE" 2>/dev/null)}"; '
    'exec psql -X -v ON_ERROR_STOP=1 -qtA -U "$u" -d "${d:-$u}" -c "$0"'
)
_WRITE = (
    "CREATE TABLE IF NOT EXISTS canonq_marker (text text); DELETE FROM canonq_marker; INSERT INTO canonq_marker VALUES ('%s')"
)
_READ = "SELECT text FROM canonq_marker"
_DROP = "DROP TABLE canonq_marker"


def postgres_services(images: Mapping[str, str]) -> list[str]:
    """The services (of service -> image) that are PostgreSQL servers, by the image's name."""
    return sorted(service for service, image in images.items() if _base_name(image) in _POSTGRES)


def _base_name(image: str) -> str:
    return image.rpartition("/")[2].partition("@")[0].partition(":")[0]


def write(engine: Engine, stack: str, images: Mapping[str, str], text: str) -> list[Marker]:
    """Write a marker into every volume and every database that takes one; what was written."""
    made = [Marker(kind="file", place=volume, text=text) for volume in engine.mark_volumes(stack, text)]
    for service in postgres_services(images):
        if _ask(engine, stack, service, _WRITE % text) is not None:
            made.append(Marker(kind="database", place=service, text=text))
    return made


def find(engine: Engine, stack: str, markers: Iterable[Marker]) -> list[Marker]:
    """Those of the markers (files and databases) that are there now, with the text they had."""
    wanted = list(markers)
    files = engine.find_markers(stack) if any(marker.kind == "file" for marker in wanted) else {}
    found = []
    for marker in wanted:
        match marker.kind:
            case "file" if files.get(marker.place) == marker.text:
                found.append(marker)
            case "database" if (_ask(engine, stack, marker.place, _READ) or "").strip() == marker.text:
                found.append(marker)
    return found


def drop_from_databases(engine: Engine, stack: str, markers: Sequence[Marker]) -> None:
    """Remove the markers that are in databases."""
    for marker in markers:
        if marker.kind == "database":
            _ask(engine, stack, marker.place, _DROP)


def _ask(engine: Engine, stack: str, service: str, statement: str) -> str | None:
    """What psql answers; None when it cannot be asked that way, or refuses."""
    try:
        ended: Ended = engine.execute(stack, service, ["sh", "-c", _PSQL, statement], _TIMEOUT)
    except CanonqError:
        return None
    return ended.output if ended.status == 0 else None


def missing(engine: Engine, stack: str, markers: Sequence[Marker], own_marker: str | None) -> list[str]:
    """A phrase for each marker that is not there; `own_marker` is what the recipe's own read_marker found."""
    found = find(engine, stack, markers)
    return [str(m) for m in markers if not (own_marker == m.text if m.kind == "own" else m in found)]
