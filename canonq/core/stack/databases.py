"""Which services are databases, told by their images' names; and what asking a PostgreSQL for a marker has told. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from canonq.core.text import beginning

POSTGRES = "postgres"
#: Kind -> the last part of the path of images that run it. The one list of them: for markers, gaps and lint alike.
_IMAGES: Mapping[str, tuple[str, ...]] = {
    POSTGRES: (
        "postgres", "postgresql", "postgis", "pgvector", "pgvecto-rs", "pgvecto.rs", "vectorchord", "vchord-postgres",
        "timescaledb", "timescaledb-ha", "pgautoupgrade",
    ),
    "mariadb": ("mariadb",),
    "mysql": ("mysql", "mysql-server", "percona", "percona-server"),
    "mongodb": ("mongo", "mongodb", "mongodb-community-server"),
    "couchdb": ("couchdb",),
    "clickhouse": ("clickhouse", "clickhouse-server"),
    "influxdb": ("influxdb",),
    "neo4j": ("neo4j",),
    "cassandra": ("cassandra",),
    "cockroach": ("cockroach",),
    "arangodb": ("arangodb",),
    "rethinkdb": ("rethinkdb",),
}  # fmt: skip
_KINDS = {name: kind for kind, names in _IMAGES.items() for name in names}


def database_kind(image: str) -> str | None:
    """The kind of database that an image is known to run; None when it is none, or not known."""
    return _KINDS.get(image.rpartition("/")[2].partition("@")[0].partition(":")[0].lower())


def postgres_services(images: Mapping[str, str]) -> list[str]:
    """The services (of service -> image) that are PostgreSQL servers."""
    return sorted(service for service, image in images.items() if database_kind(image) == POSTGRES)


def without_marker(images: Mapping[str, str], marked: Collection[str]) -> tuple[str, ...]:
    """A phrase for each service that is a database and has got no marker: what is in it is not proven to survive."""
    kinds = {service: database_kind(image) for service, image in images.items()}
    return tuple(f"no-marker: {name} ({kind})" for name, kind in sorted(kinds.items()) if kind and name not in marked)


#: answered; absent: it answered that there is no such table; not-yet: it may answer in a while; refused: it will not.
State: TypeAlias = Literal["answered", "absent", "not-yet", "refused"]
#: Exit status that the asking shell gives where the server takes no connections now, by the word of pg_isready.
NOT_YET = 75
_NOTHING_TO_RUN = (126, 127)
_BAD_CONNECTION = 2  #: psql's
_SQLSTATE = re.compile(r"^\S+:\s+(?=[A-Z]*[0-9])([0-9A-Z]{5}):", re.M)  # the word before it is in the server's language
_NO_TABLE = "42P01"
_NO_ERROR = ("00", "01", "02")  #: classes: notices, warnings
_MAY_PASS = ("08", "40", "53", "55", "57")  #: classes: connection, rolled back, resources, in use, an operator's doing


@dataclass(frozen=True)
class Reading:
    """What one question to a PostgreSQL gave."""

    state: State
    lines: tuple[str, ...] = ()  #: of its answer
    why: str = ""  #: why there is none


def reading(status: int, answer: str, errors: str) -> Reading:
    """Read how psql ended: its exit status, its standard output and, apart from it, its standard error (VERBOSITY=verbose)."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    why = beginning(lines[-1], 300) if lines else f"psql exited with {status}"
    if status == 0:
        return Reading("answered", tuple(answer.split("\n")))
    if status == NOT_YET:
        return Reading("not-yet", why=why)
    states = [state for state in _SQLSTATE.findall(errors) if not state.startswith(_NO_ERROR)]
    if _NO_TABLE in states:
        return Reading("absent", why=why)
    if states:
        return Reading("not-yet" if states[-1].startswith(_MAY_PASS) else "refused", why=why)
    return Reading("refused" if status in (*_NOTHING_TO_RUN, _BAD_CONNECTION) else "not-yet", why=why)


Seen: TypeAlias = Literal["there", "gone", "unasked"]


def seen(text: str, readings: Iterable[Reading]) -> Seen:
    """Whether a row is in one of the databases that were asked. What could not be asked is neither there nor gone."""
    listed = list(readings)
    if any(text in one.lines for one in listed):
        return "there"
    return "gone" if all(one.state in ("answered", "absent") for one in listed) else "unasked"


def asked_for(place: str, images: Mapping[str, str]) -> list[str]:
    """The services to ask for a row that was written at `place`, the likeliest first: a release may name them otherwise.

    Without `images` (service -> image of what is deployed now) only the place itself is known.
    """
    own = [place] if place in images or not images else []
    return own + [service for service in postgres_services(images) if service != place]
