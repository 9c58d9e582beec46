"""Which services are databases, told by their images' names or their processes; and what asking one of them has told. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from canonq.core.text import beginning, shown

POSTGRES, MONGO, REDIS = "postgres", "mongodb", "redis"
MYSQLS = ("mariadb", "mysql")
#: Kind -> the last part of the path of images that run it. The one list of them: for markers, gaps and lint alike.
_IMAGES: Mapping[str, tuple[str, ...]] = {
    POSTGRES: (
        "postgres", "postgresql", "postgis", "pgvector", "pgvecto-rs", "pgvecto.rs", "vectorchord", "vchord-postgres",
        "timescaledb", "timescaledb-ha", "pgautoupgrade",
    ),
    "mariadb": ("mariadb",),
    "mysql": ("mysql", "mysql-server", "percona", "percona-server"),
    MONGO: ("mongo", "mongodb", "mongodb-community-server"),
    "couchdb": ("couchdb",),
    "clickhouse": ("clickhouse", "clickhouse-server"),
    "influxdb": ("influxdb",),
    "neo4j": ("neo4j",),
    "cassandra": ("cassandra",),
    "cockroach": ("cockroach",),
    "arangodb": ("arangodb",),
    "rethinkdb": ("rethinkdb",),
}  # fmt: skip
#: Stores that may be caches: what they keep is looked at, and nobody is asked to back them up.
_STORES = ("redis", "valkey", "keydb", "redis-stack-server", "redis-stack")
_PROCESSES = {
    "postgres": POSTGRES, "mariadbd": "mariadb", "mysqld": "mysql", "mongod": MONGO, "redis-server": REDIS,
    "valkey-server": REDIS,
}  # fmt: skip
_KINDS = {name: kind for kind, names in _IMAGES.items() for name in names}


def database_kind(image: str) -> str | None:
    """The kind of database that an image is known to run; None when it is none, or not known."""
    return _KINDS.get(image.rpartition("/")[2].partition("@")[0].partition(":")[0].lower())


def server_kind(image: str) -> str | None:
    """The same, and of stores that may be caches."""
    name = image.rpartition("/")[2].partition("@")[0].partition(":")[0].lower()
    return REDIS if name in _STORES else _KINDS.get(name)


#: A word of a shell with its quotes, as it stands in a longer text. Each part of it can be read in one way only.
_SHELL_WORD = r"""(?:"(?:\$\([^()]*\)|\\.|(?!\$\()[^"\\])*"|'[^']*'|\$\([^()]*\)|`[^`]*`|\\.|[^\s;&|"'`\\])+"""
_REQUIREPASS = re.compile(rf"(?:^|\s)--requirepass\s+({_SHELL_WORD})")
_BETWEEN = re.compile(r"[\s\"'=;&|]+")
_LONGEST_COMMAND = 10_000  #: characters of one word of it that are looked at


def way_into_redis(started: Sequence[str]) -> dict[str, str]:
    """Where the password of a Redis is to be had, by the words that its container was started with: GIVEN_WORD is one of the
    shell's, which gives it in that container, and GIVEN_CONF a file in it. Servers write over what /proc tells of theirs."""
    found: dict[str, str] = {}
    looked = [word if len(word) <= _LONGEST_COMMAND and "\0" not in word else "" for word in started]
    for word, following in zip(looked, [*looked[1:], ""], strict=True):
        if word == "--requirepass" and following:
            found["GIVEN_WORD"] = shlex.quote(following)
        elif said := _REQUIREPASS.search(word):
            found["GIVEN_WORD"] = said[1]
        if conf := next((part for part in _BETWEEN.split(word) if part.endswith(".conf")), None):
            found.setdefault("GIVEN_CONF", conf)
    return found


def wants_password(said: Reading) -> bool:
    """Whether it is a Redis that lets nobody in without a password, or not with that one."""
    return said.state == "refused" and any(word in said.why for word in ("NOAUTH", "WRONGPASS"))


#: Kinds that canonq knows how to ask.
ASKED = (POSTGRES, *MYSQLS, MONGO, REDIS)


def kinds_of_processes(names: Iterable[str]) -> tuple[str, ...]:
    """The kinds of database servers that processes of these names are: one that is no cache comes first, in an order that is the
    same at each look."""
    found = {_PROCESSES[name] for name in names if name in _PROCESSES}
    if len(found.intersection(MYSQLS)) > 1:
        found.discard("mysql")  # what its programs were called before
    return tuple(kind for kind in ASKED if kind in found)


def are_alone(kinds: Mapping[str, str], images: Mapping[str, str]) -> dict[str, str]:
    """Of the database servers (service -> kind), those whose image is one: all that such a service keeps is the server's. One
    that an app runs beside itself has its folder in volumes whose other files are the app's.
    """
    return {service: kind for service, kind in kinds.items() if server_kind(images.get(service, "")) is not None}


def postgres_services(images: Mapping[str, str]) -> list[str]:
    """The services (of service -> image) that are PostgreSQL servers."""
    return sorted(service for service, image in images.items() if database_kind(image) == POSTGRES)


def without_marker(kinds: Mapping[str, str], marked: Collection[str]) -> tuple[str, ...]:
    """A phrase for each service (of service -> kind) that has got no marker: what is in it is not proven to survive."""
    return tuple(f"no-marker: {name} ({kind})" for name, kind in sorted(kinds.items()) if name not in marked)


def unmarked_in(gaps: Iterable[str]) -> dict[str, str]:
    """Service -> kind, of the databases that such phrases of a verdict name."""
    return {found[1]: found[2] for gap in gaps if (found := _UNMARKED.fullmatch(gap))}


#: answered; absent: it answered that there is no such table; not-yet: it may answer in a while; refused: it will not.
State: TypeAlias = Literal["answered", "absent", "not-yet", "refused"]
#: Exit status that the asking shell gives where the server takes no connections now, by the word of pg_isready.
NOT_YET = 75
_UNMARKED = re.compile(r"no-marker: ([^\s:]+) \(([^()]+)\)")
_NOTHING_TO_RUN = (126, 127)
_BAD_CONNECTION = 2  #: psql's
_SQLSTATE = re.compile(r"^\S+:\s+(?=[A-Z]*[0-9])([0-9A-Z]{5}):", re.M)  # the word before it is in the server's language
_NEVER = re.compile(r"(?!)")
_OF_MYSQL = (re.compile(r"ERROR (2002|2003|2006|2013|1040|1053|1205|1213|1158)\b"), re.compile(r"ERROR (1146|1051)\b"))
#: Kind -> what says that it may answer in a while, and that there is no such table.
_WORDS: Mapping[str, tuple[re.Pattern[str], re.Pattern[str]]] = {
    **dict.fromkeys(MYSQLS, _OF_MYSQL),
    REDIS: (re.compile(r"LOADING|Could not connect|Connection refused|BUSY"), _NEVER),
    MONGO: (re.compile(r"ECONNREFUSED|connect failed|NotYetInitialized|not primary", re.I), _NEVER),
}
_NO_TABLE = "42P01"
#: What servers say of a table or an index whose pages cannot be read, with the class or number that is the same in all languages.
_BROKEN = re.compile(r"\b(?:XX0|58)[0-9A-Z]{2,3}:|\bERROR (?:1016|1034|1194|1195|1712|1812|1814|1877|1932)\b")
_NO_ERROR = ("00", "01", "02")  #: classes: notices, warnings
_MAY_PASS = ("08", "40", "53", "55", "57")  #: classes: connection, rolled back, resources, in use, an operator's doing


@dataclass(frozen=True)
class Reading:
    """What one question to a PostgreSQL gave."""

    state: State
    lines: tuple[str, ...] = ()  #: of its answer
    why: str = ""  #: why there is none


def reading(status: int, answer: str, errors: str, kind: str = POSTGRES) -> Reading:
    """Read how a database's client ended: its exit status, its standard output and, apart from it, its standard error.

    Of psql with VERBOSITY=verbose.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    told = [line for line in lines if _SQLSTATE.match(line)] or lines  # a place in its source comes after
    why = beginning(told[-1], 300) if told else f"its client exited with {status}"
    if status == 0:
        return Reading("answered", tuple(answer.split("\n")))
    if kind != POSTGRES:
        coming, absent = _WORDS.get(kind, _WORDS["mysql"])
        state: State = "not-yet" if coming.search(errors) else "absent" if absent.search(errors) else "refused"
        return Reading(state, why=why)
    if status == NOT_YET:
        return Reading("not-yet", why=why)
    states = [state for state in _SQLSTATE.findall(errors) if not state.startswith(_NO_ERROR)]
    if _NO_TABLE in states:
        return Reading("absent", why=why)
    if states:
        return Reading("not-yet" if states[-1].startswith(_MAY_PASS) else "refused", why=why)
    return Reading("refused" if status in (*_NOTHING_TO_RUN, _BAD_CONNECTION) else "not-yet", why=why)


def put_elsewhere(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Service -> a few words, of each server in which a restore has put what was in one database into another, which the app does
    not ask. `before`, `after`: service -> the database that canonq's mark was in, and is in, where that is known."""
    return {
        service: f"into the database {shown(database)}, and it was in {shown(before[service])}"
        for service, database in after.items()
        if before.get(service, database) != database
    }


def is_broken(why: str) -> bool:
    """Whether a server that answers says that a table of it cannot be read."""
    return _BROKEN.search(why) is not None


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


def like(place: str, kind: str, kinds: Mapping[str, str]) -> dict[str, str]:
    """The same of a server that is no PostgreSQL: service -> kind of those that have what it has."""
    family = MYSQLS if kind in MYSQLS else (kind,)
    found = {service: other for service, other in sorted(kinds.items()) if other in family}
    return {place: found[place], **found} if place in found else found
