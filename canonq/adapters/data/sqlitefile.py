"""A program that asks the SQLite files of one volume, and sees nothing but that volume: `sqlitefile.py FOLDER WHAT TEXT PATH...`.

WHAT: `count` its tables' rows; `write` or `read` canonq's marker; `enter` a row into its ledger, or give all that was
`entered`. One JSON value for all of them goes to standard output.
It needs nothing but Python's own library, so that it can be started without all else.

A file is what an app makes it: a trigger or a view in it would be run here, on the host, where no limit of the app's counts. So
nothing is run that is not asked for, and memory, texts and answers have an end.
"""

# ruff: noqa: S608 - the statements are canonq's own, and a table's name is quoted
from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import sys
import time
import urllib.parse
from collections.abc import Iterator

MOST_ROWS = 100_000
_MOST_TABLES = 5000
_SECONDS = 10.0  #: for one file
_MOST_MEMORY = 1 << 30  #: bytes of this process
_LARGEST = 4 << 20  #: bytes of a text or row: its schema has longer ones than canonq's own
_MOST_TEXTS, _LONGEST_TEXT = 10_000, 1000  #: of canonq's own in one file
_MOST_SAID, _MOST_SAID_OF_ONE = 3 << 20, 1 << 20  #: characters of all answers, and of one file's
_TABLE, _LEDGER = "canonq_marker", "canonq_ledger"


def main(folder: str, what: str, text: str, *paths: str) -> int:
    """Shut itself in, and ask file after file."""
    sqlite3.connect(":memory:").execute("SELECT 1").fetchone()  # all that it needs is loaded from here on
    is_root = os.geteuid() == 0
    if is_root:
        os.chroot(folder)
    os.chdir("/" if is_root else folder)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    found, said = {}, 0
    for path in paths:
        try:
            with _as_its_owner(path, is_root):
                found[path] = _ask(path, what, text)
            if (long := len(json.dumps(found[path]))) > min(_MOST_SAID_OF_ONE, _MOST_SAID - said):
                found[path] = {"why": "it has more to say than is heard"}
            said += min(long, _MOST_SAID_OF_ONE)
        except (OSError, sqlite3.Error, UnicodeError, MemoryError) as error:
            found[path] = {"why": f"{type(error).__name__}: {str(error)[:200]}"}
    sys.stdout.write(json.dumps(found))
    return 0


@contextlib.contextmanager
def _as_its_owner(path: str, is_root: bool) -> Iterator[None]:
    """What SQLite makes beside the file belongs to whom the file belongs to, or the app could not use it."""
    if not is_root:
        yield
        return
    owner = os.stat(path)
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def _ask(path: str, what: str, text: str) -> dict[str, object]:
    name = urllib.parse.quote(os.path.abspath(path))
    mode = "rw" if what in ("write", "enter") else "ro"
    ends = time.monotonic() + _SECONDS
    with contextlib.closing(sqlite3.connect(f"file:{name}?mode={mode}", uri=True, timeout=_SECONDS / 2)) as file:
        file.text_factory = lambda raw: raw.decode(errors="replace")
        file.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST)
        file.set_authorizer(_nothing_else)
        file.set_progress_handler(lambda: int(time.monotonic() > ends), 10_000)
        if what == "write":
            with file:
                file.execute(f"DROP TABLE IF EXISTS {_TABLE}")
                file.execute(f"CREATE TABLE {_TABLE} (one INTEGER PRIMARY KEY, text TEXT)")
                file.execute(f"INSERT INTO {_TABLE} VALUES (1, ?)", (text,))
            return {"done": True}
        if what == "enter":
            with file:
                file.execute(f"CREATE TABLE IF NOT EXISTS {_LEDGER} (text TEXT)")
                file.execute(f"INSERT INTO {_LEDGER} VALUES (?)", (text,))
            return {"done": True}
        tables = [str(row[0]) for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0")]
        if what in ("read", "entered"):
            own = _TABLE if what == "read" else _LEDGER
            rows = file.execute(f"SELECT text FROM {own}").fetchmany(_MOST_TEXTS) if own in tables else []
            return {"texts": [str(row[0])[:_LONGEST_TEXT] for row in rows]}
        return {"tables": {table: _count(file, table) for table in tables[:_MOST_TABLES] if _is_the_apps(table)}}


def _nothing_else(action: int, one: str | None, other: str | None, database: str | None, by: str | None) -> int:
    """Deny what a trigger or a view of the file itself would do."""
    del action, one, other, database
    return sqlite3.SQLITE_OK if by is None else sqlite3.SQLITE_DENY


def _is_the_apps(table: str) -> bool:
    return table not in (_TABLE, _LEDGER) and not table.startswith("sqlite_")


def _count(file: sqlite3.Connection, table: str) -> int:
    quoted = '"' + table.replace('"', '""') + '"'
    return int(file.execute(f"SELECT count(*) FROM (SELECT 1 FROM {quoted} LIMIT {MOST_ROWS})").fetchone()[0])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
