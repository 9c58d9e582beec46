"""Whether the same use leaves in a new install of a release what it left in one of its base (docs/rules.md 3, in use). Pure.

An app that keeps what people write in memory, or where nobody looks, has all of its old data still, and a schema beside it that
nobody fills. What the hooks of an enrolment do to each new install is the same; so is what it has to leave.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel, ConfigDict

from canonq.core.stack.census import Census
from canonq.core.stack.databases import REDIS
from canonq.core.stack.engines import SQLITE
from canonq.core.stack.witness import Files, is_nobodys, is_of_the_moment, new_bytes, place_of, same

_MOST_TOLD = 3
_LESS = 4  #: how many times less of a Redis is taken for none of the same use


class Use(BaseModel):
    """What somebody's use has left in an install."""

    model_config = ConfigDict(frozen=True)

    rows: dict[str, int] = {}  #: table, by its name under [data] -> rows more than before
    files: dict[str, int] = {}  #: volume, or volume/folder -> bytes of the files that are new or changed there
    sqlite: tuple[str, ...] = ()  #: SQLite files in which there are more rows, by their names under [data]
    rows_before: dict[str, int] = {}  #: table -> rows that were there before
    bytes_before: dict[str, int] = {}  #: volume, or volume/folder -> bytes of the files that were there before

    def also(self, other: Use) -> Use:
        """What was left by then, or by now."""
        return Use(
            rows=_most(self.rows, other.rows),
            files=_most(self.files, other.files),
            sqlite=tuple(sorted({*self.sqlite, *other.sqlite})),
            rows_before=_most(self.rows_before, other.rows_before),
            bytes_before=_most(self.bytes_before, other.bytes_before),
        )


def use_between(before: Census, after: Census, was: Files, now: Files, volatile: Collection[str]) -> Use:
    """What has come between two looks at an install. Of the moment, and declared so, is nothing of it."""
    rows: dict[str, int] = {}
    sqlite: set[str] = set()
    for where, it in after.databases.items():
        had = before.databases.get(where)
        if it.why_not or where in volatile or (had is not None and had.why_not):
            continue
        for table, count in it.tables.items():
            name, more = f"{where}.{table}", count - (had.tables.get(table, 0) if had is not None else 0)
            if more > 0 and name not in volatile and not is_of_the_moment(table):
                rows[name] = more
                sqlite |= {where} if it.kind == SQLITE else set()
    files: dict[str, int] = {}
    for key, there in now.items():
        for path, one in there.items():
            earlier = was.get(key, {}).get(path)
            if is_nobodys(key, path, volatile) or same(one, earlier):
                continue
            if (more := new_bytes(one, earlier)) or not one.kind:
                place = place_of(key, path)
                files[place] = files.get(place, 0) + more
    return Use(
        rows=rows,
        files=files,
        sqlite=tuple(sorted(sqlite)),
        rows_before={
            f"{at}.{table}": count for at, it in before.databases.items() for table, count in it.tables.items() if count
        },
        bytes_before=_bytes_in(was, volatile),
    )


def _bytes_in(files: Files, volatile: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, there in files.items():
        for path, one in there.items():
            if not is_nobodys(key, path, volatile):
                found[place_of(key, path)] = found.get(place_of(key, path), 0) + one.bytes
    return found


def not_kept(base: Use, fresh: Use, upgraded: Census, held: Files, shrink: Collection[str] = ()) -> list[str]:
    """A phrase for each kind of data most of which the use of the base has left in places that the same use of the fresh install
    leaves as they are, though the upgraded app has them still.

    `upgraded`, `held`: what that one holds; `shrink`: what may get smaller. Where the fresh install has it in places of its own,
    it is in another place by now: tables of the same names, into which the upgrade has to have carried what there was; of others
    nothing is known. All that a Redis has is in one place, and whoever uses it for queues alone leaves some keys there, too: a
    quarter of what there was has to be there. Beside tables that use fills, all keys together count as a single row.

    An app that answers may still be filling its tables, so that what it does by itself came to the base while that was used: see
    `_came_by_itself`.
    """
    tables = {(where, table): rows for where, it in upgraded.databases.items() for table, rows in it.tables.items() if rows}
    numbered = {where for where, it in upgraded.databases.items() if it.kind == REDIS}
    some = {
        f"{where}.{table}" for where, table in tables
        if where in numbered and f"{where}.{table}" not in shrink and where not in shrink
    }  # fmt: skip
    rows = {place: count for place, count in fresh.rows.items() if place not in some or count * _LESS >= base.rows.get(place, 0)}
    new = rows.keys() - base.rows.keys()
    if new or fresh.files.keys() - base.files.keys():
        return _left_behind(base.rows, rows, tables, new, numbered)
    places = {place_of(key, path) for key, there in held.items() for path in there}
    keys = {f"{where}.{table}" for where, table in tables if where in numbered}
    beside = keys if base.rows.keys() - keys else set[str]()  # queues and the like, where the data is in tables
    told = []
    for all_of_it, now, there, what, before in (
        (base.rows, rows, {f"{where}.{table}" for where, table in tables}, "rows in", (base.rows_before, fresh.rows_before)),
        (base.files, fresh.files, places, "bytes of files in", (base.bytes_before, fresh.bytes_before)),
    ):
        left = {place: size for place, size in all_of_it.items() if place in now or not _came_by_itself(place, size, *before)}
        gone = {place: size for place, size in left.items() if place not in now and place in there}
        if _weight(gone, beside) * 2 > _weight(left, beside):
            most = sorted(gone, key=lambda place: -gone[place])
            more = f" and {len(most) - _MOST_TOLD} more" if len(most) > _MOST_TOLD else ""
            told.append(f"{sum(gone.values())} {what} {', '.join(most[:_MOST_TOLD])}{more}")
    return told


def _came_by_itself(place: str, size: int, base: Mapping[str, int], fresh: Mapping[str, int]) -> bool:
    """Whether most of what has come to a place of the base while it was used was in the fresh install before that was: a worker
    fills the tables beside a server that answers already, or a program is fetched. `base`, `fresh`: what was where before."""
    return (fresh.get(place, 0) - base.get(place, 0)) * 2 >= size


def _weight(left: Mapping[str, int], small: Collection[str]) -> int:
    return sum(1 if place in small else count for place, count in left.items())


def _left_behind(
    base: Collection[str],
    fresh: Collection[str],
    tables: Mapping[tuple[str, str], int],
    new: Collection[str],
    numbered: Collection[str],
) -> list[str]:
    """A phrase for tables that are in another database now, where the upgraded app has less than half of what it has still in
    the old one. `tables`: database and table -> its rows; `numbered`: servers whose databases have numbers for names."""
    told = []
    for (where, table), rows in sorted(tables.items()):
        name = f"{where}.{table}"
        if name not in base or name in fresh:
            continue
        # A Redis has nothing but numbers for names: whoever looks into another of its databases looks into that one alone.
        twins = [other for other in new if other.endswith(f".{table}") or (where in numbered and other.startswith(f"{where}."))]
        carried = sum(count for (other, its), count in tables.items() if f"{other}.{its}" in twins)
        if twins and carried * 2 < rows:
            told.append(f"rows in {name}, of which {carried} of {rows} are in {twins[0]} after the upgrade,")
    return told[:_MOST_TOLD]


def _most(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {place: max(one.get(place, 0), other.get(place, 0)) for place in (*one, *other)}
