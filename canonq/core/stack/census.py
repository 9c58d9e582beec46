"""What an app holds, counted, and what of it is lost when it is counted again (docs/rules.md 3). Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ConfigDict

from canonq.core.stack.databases import REDIS, is_broken
from canonq.core.stack.engines import SQLITE
from canonq.core.stack.witness import is_of_the_moment

#: Rows of a table that are counted one by one; of a larger one is known that it has at least so many.
MOST_ROWS = 100_000


_MOST_UNMARKED = 5  #: that are told

#: Bytes of a volume below which it is no loss that there are fewer, as long as the files are there: logs begin anew.
_NOISE = 16384


#: Where the images of servers have their data; an app's folder that one of them reads from is elsewhere.
_OF_SERVERS = re.compile(r"postgres|pgsql|pgdata|mysql|maria|mongo|/data/db|/bitnami|^/config$")


class _Counted(BaseModel):
    model_config = ConfigDict(frozen=True)


class VolumeCount(_Counted):
    """A volume: plain files that are no database's, and their bytes."""

    files: int
    bytes: int
    service: str = ""  #: whose database lies in it, which is counted by its tables; empty where none does
    sqlite: int = 0  #: SQLite files beside the plain ones
    churns: bool = (
        False  #: whether a server that canonq cannot ask has it: how many files it has says nothing, that there are some does
    )


class DatabaseCount(_Counted):
    """A database: its tables (collections, keys) with their rows."""

    kind: str
    tables: dict[str, int] = {}
    why_not: str = ""  #: why it could not be counted
    unmarked: tuple[str, ...] = ()  #: databases with rows of the same server, beside the one that takes marks


class Census(_Counted):
    """All that an app held at one moment."""

    volumes: dict[str, VolumeCount] = {}  #: key in the recipe ->
    databases: dict[str, DatabaseCount] = {}  #: service, or service:path of an SQLite file in a volume ->
    unread: tuple[str, ...] = ()  #: databases in volumes that canonq cannot ask: service (kind)

    @property
    def names(self) -> dict[str, int]:
        """What [data] may name, and how much is in it."""
        tables = {f"{where}.{table}": rows for where, it in self.databases.items() for table, rows in it.tables.items()}
        databases = {where: sum(it.tables.values()) for where, it in self.databases.items()}
        return {key: one.files for key, one in self.volumes.items()} | databases | tables


def users_of(mounted: Iterable[tuple[str, str, str]], servers: Collection[str] = ()) -> dict[str, str]:
    """Volume -> the service that it is said to be of, from (volume, service, where): the same one at each look.

    Of several that have it mounted, a database server comes first (`servers`) that has it where servers have their data, then the
    app itself, then the first by name.
    """
    found: dict[str, tuple[bool, bool, str]] = {}
    for volume, service, where in mounted:
        one = (not (service in servers and _OF_SERVERS.search(where)), service != "app", service)
        found[volume] = min(one, found.get(volume, one))
    return {volume: service for volume, (*_, service) in found.items()}


def keepers(kinds: Mapping[str, str]) -> set[str]:
    """Of the services with a database server, those whose volume is theirs alone: what a Redis keeps is a file among others."""
    return {service for service, kind in kinds.items() if kind != REDIS}


def filled(census: Census) -> dict[str, int]:
    """How much of each volume and database is in use: files of a volume, tables of a server. A cache is none of them."""
    volumes = {key: it.files + it.sqlite for key, it in census.volumes.items() if not it.service}
    servers = {
        where: len(it.tables) for where, it in census.databases.items() if it.kind not in (SQLITE, REDIS) and not it.why_not
    }
    return volumes | servers


def abandoned(base: Mapping[str, int], fresh: Mapping[str, int], volatile: Mapping[str, str]) -> list[str]:
    """Volumes and databases that the base's first start filled, and that the fresh install has and leaves empty."""
    return sorted(key for key, count in base.items() if count and fresh.get(key) == 0 and key not in volatile)


def unmade(base: Census, upgraded: Census, fresh: Census, volatile: Mapping[str, str]) -> list[str]:
    """A phrase for each database server most of whose tables the base had and the upgraded app has still, and which the fresh
    install has not made, though it has made others: somebody else uses that server."""
    told = []
    for where, it in base.databases.items():
        then, now = upgraded.databases.get(where), fresh.databases.get(where)
        if it.kind in (SQLITE, REDIS) or then is None or now is None or now.why_not or not now.tables or where in volatile:
            continue
        kept = {table for table in it.tables if table in then.tables and f"{where}.{table}" not in volatile}
        missing = sorted(kept - set(now.tables))
        if len(kept) * 2 >= len(it.tables) and missing and len(missing) * 2 >= len(it.tables):
            told.append(f"'{where}' (without {len(missing)} of {len(it.tables)} tables, such as {missing[0]})")
    return told


def lost(before: Census, after: Census, volatile: Mapping[str, str], shrink: Mapping[str, str]) -> list[str]:
    """A phrase for each volume, database and table that is gone, empty or less than half of what it was, and may not be."""
    return [
        *_volumes(before, after, volatile, shrink),
        *(told for where, it in before.databases.items() if not it.why_not and where not in volatile
          for told in _tables(where, it, before, after, {*volatile, *shrink} if where not in shrink else None, volatile)),
    ]  # fmt: skip


def has_more(before: Census, after: Census) -> bool:
    """Whether any table has more rows than it had, or is new and has some."""
    return any(
        rows > (had.tables.get(table, 0) if (had := before.databases.get(where)) is not None else 0)
        for where, it in after.databases.items()
        for table, rows in it.tables.items()
    ) or any(it.why_not for it in after.databases.values())


def begun_empty(before: Census, after: Census, volatile: Mapping[str, str]) -> list[str]:
    """A phrase for each volume and database that has nothing of what it had. A table that is cleared at each start is no loss."""
    told = [
        f"the volume {key} is empty; it had {_size(was)}"
        for key, was in before.volumes.items()
        if was.files and not was.service and key not in volatile
        and (now := after.volumes.get(key)) is not None and not now.files + now.sqlite
    ]  # fmt: skip
    for where, it in before.databases.items():
        there = {table: rows for table, rows in it.tables.items() if rows and f"{where}.{table}" not in volatile}
        at = after.databases.get(where) or _under_another_name(where, before, after)
        if there and where not in volatile and at is None and it.kind == SQLITE:
            told.append(f"the SQLite file {where} is gone; it had {_tables_with_data(there)}")
        elif (
            there and where not in volatile and not (at is not None and (at.why_not or any(at.tables.get(one) for one in there)))
        ):
            told.append(f"the {it.kind} of {where} has nothing in any of its tables that were filled ({_most(there)})")
    return told


def _under_another_name(where: str, before: Census, after: Census) -> DatabaseCount | None:
    """The same file as it is called where another service of those that have it mounted was seen to run."""
    path = where.partition(":")[2]
    found = (it for name, it in after.databases.items() if name not in before.databases and name.partition(":")[2] == path)
    return next(found, None) if path else None


class SqliteFile(_Counted):
    """What is seen of an SQLite file after its app was deployed once more."""

    marks: frozenset[str] = frozenset()  #: of canonq's marks, those that are in it
    open: bool = False  #: whether some process has it open


def newcomers(before: Census, after: Census, volatile: Mapping[str, str]) -> dict[str, list[str]]:
    """SQLite files that are new, each with those that were there before and have the same tables. Nobody has asked for them."""
    had = {where.partition(":")[2] for where in before.databases}  # whoever has it mounted now
    new = {
        where: [
            name for name, was in before.databases.items()
            if was.kind == SQLITE and set(was.tables) == set(it.tables)
        ]
        for where, it in after.databases.items()
        if it.kind == SQLITE and it.tables and where.partition(":")[2] not in had and where not in volatile
    }  # fmt: skip
    return {where: twins for where, twins in new.items() if twins and not volatile.keys() & set(twins)}


def begun_beside(
    before: Census, after: Census, volatile: Mapping[str, str], marks: Mapping[str, str], seen: Mapping[str, SqliteFile]
) -> list[str]:
    """A phrase for each SQLite file that the app has begun anew beside one with the same tables. A copy of that one is none.

    `marks`: what canonq wrote into which file before; `seen`: what is in each now. A copy has the mark of the file that it is of,
    which has it still; or it is a file that nobody has open, beside one that the app has open, and that is whole.
    """
    told = []
    for where, twins in newcomers(before, after, volatile).items():
        it = seen.get(where, SqliteFile())
        if any(_is_copy(of, it, after, marks, seen) for of in twins):
            continue
        if not it.open and any(seen.get(of, SqliteFile()).open and _is_whole(of, before, after, marks, seen) for of in twins):
            continue
        told.append(f"beside the SQLite file {twins[0]} it has begun a new one with the same tables, {where}")
    return told


def _is_copy(of: str, it: SqliteFile, after: Census, marks: Mapping[str, str], seen: Mapping[str, SqliteFile]) -> bool:
    """Whether what was in the one is in the other, and was not put away there for a new beginning."""
    mark = marks.get(of)
    return mark in it.marks and (of not in after.databases or mark in seen.get(of, SqliteFile()).marks)


def _is_whole(where: str, before: Census, after: Census, marks: Mapping[str, str], seen: Mapping[str, SqliteFile]) -> bool:
    was, now = before.databases[where].tables, after.databases[where].tables if where in after.databases else {}
    marked = where not in marks or marks[where] in seen.get(where, SqliteFile()).marks
    return marked and any(now.values()) and all(now.get(table, 0) >= rows for table, rows in was.items())


def carried_over(base: Census, upgraded: Census, fresh: Census, volatile: Mapping[str, str]) -> bool:
    """Whether all that was in SQLite files which a new install has no more is in database servers now.

    Of each table as many rows have to be there as the base had, and of one more than a new install makes by itself: else nobody
    could tell whether they were carried over, or begun anew.
    """
    gone = {
        table: rows
        for where, it in base.databases.items()
        if it.kind == SQLITE and where not in fresh.databases and where not in volatile
        for table, rows in it.tables.items()
        if rows and f"{where}.{table}" not in volatile
    }
    for where, it in upgraded.databases.items():
        had = base.databases[where].tables if where in base.databases else {}
        if it.kind in (SQLITE, REDIS) or where not in fresh.databases or had.keys() & gone.keys():
            continue
        own = fresh.databases[where].tables
        arrived = all(table in own and it.tables.get(table, 0) >= rows for table, rows in gone.items())
        if gone and arrived and any(it.tables[table] > own[table] for table in gone):
            return True
    return False


def put_aside(base: Census, upgraded: Census, fresh: Census, volatile: Collection[str]) -> tuple[list[str], list[str]]:
    """SQLite files with rows that the upgraded app has still and a new install does not make: phrases of those beside which it
    has begun another, that was not there, with the same tables and less than half of the rows; and names of those of a service
    of which a new install makes none at all, or one that was not there. One for each user, or each document, is made by use.
    """
    begun, alone = [], []
    makes = {where.partition(":")[0] for where, it in fresh.databases.items()}
    anew = {where.partition(":")[0] for where in fresh.databases if where in upgraded.databases and where not in base.databases}
    for where, it in base.databases.items():
        rows = {
            table: count for table, count in it.tables.items()
            if count and f"{where}.{table}" not in volatile and not is_of_the_moment(table)
        }  # fmt: skip
        if it.kind != SQLITE or not rows or where in volatile or where in fresh.databases or where not in upgraded.databases:
            continue
        twins = {
            name: other.tables for name, other in upgraded.databases.items()
            if name not in base.databases and other.kind == SQLITE and name in fresh.databases
            and rows.keys() <= other.tables.keys()
        }  # fmt: skip
        if not twins and (where.partition(":")[0] not in makes or where.partition(":")[0] in anew):
            alone.append(where)
        elif twins and not any(all(tables[table] * 2 >= count for table, count in rows.items()) for tables in twins.values()):
            begun.append(f"{where} ({_most(rows)}), beside which it has begun {min(twins)}")
    return begun, alone


def _volumes(before: Census, after: Census, volatile: Mapping[str, str], shrink: Mapping[str, str]) -> Iterator[str]:
    for key, was in before.volumes.items():
        if key in volatile or not was.files or was.service:
            continue
        now = after.volumes.get(key)
        if now is None:
            yield f"the volume {key} is used no more; it had {_size(was)}"
        elif not now.files:
            yield f"the volume {key} is empty; it had {_size(was)}"
        elif (
            key not in shrink
            and not now.service
            and not was.churns
            and (now.files * 2 < was.files or now.bytes * 2 < was.bytes >= _NOISE)
        ):
            yield f"the volume {key} has {_size(now)}; it had {_size(was)}"


def _tables(
    where: str, was: DatabaseCount, before: Census, after: Census, may: set[str] | None, volatile: Mapping[str, str]
) -> Iterator[str]:
    """`may`: what may get smaller; None: all of it may."""
    now = after.databases.get(where)
    if now is not None and now.why_not:
        if is_broken(now.why_not):
            yield f"the {was.kind} of {where} has a table that cannot be read any more ({now.why_not})"
        return
    there = dict(now.tables) if now is not None else {}
    for moved in (it for name, it in after.databases.items() if name not in before.databases):
        there = {**moved.tables, **there}  # the same data under another name
    filled = {table: rows for table, rows in was.tables.items() if rows and f"{where}.{table}" not in volatile}
    if filled and now is None and was.kind == SQLITE and not any(table in there for table in filled):
        yield f"the SQLite file {where} is gone; it had {_tables_with_data(filled)}"
        return
    if filled and not any(table in there for table in filled):
        of = f"has none of its {len(filled)} tables" if len(filled) > 1 else "has lost its only table"
        yield f"the {was.kind} of {where} {of} with data ({_most(filled)})"
        return
    for table, rows in sorted(filled.items()):
        left, small = there.get(table), may is None or f"{where}.{table}" in may
        if left is None:
            yield f"the table {table} of {where} is gone; it had {_rows(rows)}"
        elif not left:
            yield f"the table {table} of {where} is empty; it had {_rows(rows)}"
        elif not small and left < MOST_ROWS and left * 2 < rows:
            yield f"the table {table} of {where} has {_rows(left)}; it had {_rows(rows)}"


def uncounted(census: Census) -> tuple[str, ...]:
    """A gap for each database that is there and could not be counted."""
    unread = tuple(f"no-marker: {it}" for it in census.unread)
    beside = tuple(
        f"no-marker: {where} ({it.kind}): its database {name}, beside the one that is marked"
        for where, it in census.databases.items()
        for name in it.unmarked[:_MOST_UNMARKED]
    )
    return (
        unread
        + beside
        + tuple(f"no-census: {where} ({it.kind}): {it.why_not}" for where, it in census.databases.items() if it.why_not)
    )


def unmarked_sqlite(census: Census, marked: Collection[str], volatile: Collection[str]) -> tuple[str, ...]:
    """A gap for each SQLite file with rows that took no mark, as nobody had it open; copies of one that did are none."""
    own = {where: it for where, it in census.databases.items() if it.kind == SQLITE}
    known = [set(it.tables) for where, it in own.items() if where in marked]
    return tuple(
        f"no-marker: {where} ({SQLITE})"
        for where, it in own.items()
        if where not in marked and where not in volatile and any(it.tables.values()) and set(it.tables) not in known
    )[:_MOST_UNMARKED]


def unknown(named: Mapping[str, str], seen: Collection[str], table: str, earlier: Collection[str] = ()) -> Iterator[str]:
    """A sentence for each name under [data] that no volume, database or table of the run had; `earlier`: what was there once."""
    for name in named:
        if name in earlier and name not in seen:
            yield f"[data] {table} names '{name}', which is gone: earlier releases had it, and nothing in this run did"
        elif name not in seen:
            near = " or ".join(get_close_matches(name, seen, n=3))
            yield f"[data] {table} names '{name}', which nothing in this run was" + (f"; is it {near}?" if near else "")


def is_a_path(name: str, volumes: Collection[str]) -> bool:
    """Whether a name under [data] volatile is a path in one of these volumes, in which there may be nothing yet."""
    key, slash, _ = name.partition("/")
    return bool(slash) and key in volumes


def nearly(named: Collection[str], had: Collection[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Names under [data] that nothing ever was, each with the one that it was most likely meant to be: one that the app had."""
    strange = (name for name in named if name not in had and name not in known)
    return [(name, near[0]) for name in strange if (near := get_close_matches(name, had, n=1))]


def _size(of: VolumeCount) -> str:
    return f"{of.files} {'file' if of.files == 1 else 'files'} with {of.bytes} bytes"


def _rows(count: int) -> str:
    return f"at least {count} rows" if count >= MOST_ROWS else f"{count} {'row' if count == 1 else 'rows'}"


def _tables_with_data(tables: Mapping[str, int]) -> str:
    return f"{len(tables)} {'table' if len(tables) == 1 else 'tables'} with data ({_most(tables)})"


def _most(tables: Mapping[str, int]) -> str:
    first = sorted(tables, key=lambda table: -tables[table])[:3]
    return ", ".join(f"{table}: {_rows(tables[table])}" for table in first)
