"""Markers in an app whose databases start slowly, warn, are renamed, added or refuse; and in volumes, on the host."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import os
import re
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from canonq.adapters.data import markerfile
from canonq.adapters.processes.programs import run
from canonq.core.backup import BackupPlan, Hook, Part
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.recipe.compose import resolve
from canonq.core.stack.census import Census, uncounted
from canonq.core.stack.databases import Reading, put_elsewhere
from canonq.core.stack.ledger import LedgerMark
from canonq.core.stack.witness import File
from canonq.flows.proving.backup import Backup, destroy, in_no_part, keys_unproven, left_out, not_backed_up, take, unproven
from canonq.ports import Data, Ended
from canonq.tiers import ledger, markers, servers
from canonq.tiers.app import DeployedApp
from canonq.tiers.facts import BackupFacts, Captured, Marker
from canonq.tiers.markers import Patience
from canonq.tiers.servers import Tables, read_counts
from canonq.tiers.test_backup import test_every_part_was_captured_and_is_not_empty as every_part_was_captured

TEXT = "canonq-20261128T000000Z-app-abcdef"
NO_TABLE = Ended(1, "", 'ERROR:  42P01: relation "canonq_marker" does not exist')
STARTING = Ended(75, "", "psql: error: FATAL:  the database system is starting up")
REFUSED = Ended(2, "", "psql: error: fe_sendauth: no password supplied")
SOON, NOW = Patience(3600, pause=0), Patience(0, pause=0)
WARNED = 'WARNING:  01000: database "app" has a collation version mismatch\n'


class Databases:
    """PostgreSQL servers by service. `trouble` is what the next questions get instead of an answer."""

    def __init__(self, *services: str) -> None:
        self.rows: dict[str, str | None] = dict.fromkeys(services)
        self.trouble: list[Ended] = []
        self.asked = 0

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        self.asked += 1
        if service not in self.rows:
            raise RecipeProblem(f"The service '{service}' has no running container.", code="not-running")
        if self.trouble:
            return self.trouble.pop(0)
        statement = command[-1]
        if found := re.search(r"VALUES \(1, '([^']*)'\)", statement):
            self.rows[service] = found[1]
        elif self.rows[service] is None:
            return NO_TABLE
        answer = f"{self.rows[service]}\n" if "SELECT text FROM" in statement else ""
        return Ended(0, WARNED + answer, WARNED, answer.encode())

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        return {}


def as_engine(databases: Databases) -> Data:
    return cast("Data", databases)


ONE = {"db": "postgres:15"}
ROW = "canonq's row in the database of the service db"


def test_what_a_container_prints_for_counts_is_read_with_care() -> None:
    lines = (
        "main app",
        "in app",
        "posts\t3",
        "odd\t\u00b2",
        "huge\t" + "9" * 5000,
        "no number",
        "\t",
        "e\x1b[31mvil\t1",
        "in x",
        "t\t0",
    )
    found, databases = read_counts(lines)
    assert databases == {"app": Tables(2, 2), "x": Tables(1, 0)}
    assert (found["posts"], found["x.t"]) == (3, 0)
    assert len(found) == 3
    assert not any("\x1b" in name for name in found)


@pytest.mark.parametrize(
    ("lines", "unmarked"),
    [
        (("main app", "in app", "t\t1", "in pictures", "t\t2"), ("pictures",)),
        (("main app", "in app", "t\t1", "in pictures", "t\t0", "in postgres", "t\t3"), ()),
        (("main app", "in few", "t\t1", "in many", "t\t1", "u\t1"), ("few",)),  # the mark goes where most is
        (("main app", "app\tt\t1", "pictures\tt\t2"), ("pictures",)),  # as MariaDB and MongoDB are counted
        (("main app",), ()),
        (("main postgres", "in postgres", "t\t3", "in other", "u\t1"), ("other",)),  # an image that was told of none
        (("main app", "in app", "t\t0", "in other", "u\t1"), ("other",)),  # the mark goes where the app's tables are
    ],
)
def test_a_database_beside_the_one_that_takes_marks_is_a_gap_by_its_name(
    monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], unmarked: tuple[str, ...]
) -> None:
    monkeypatch.setattr(servers, "_asked", lambda *_: Reading("answered", lines))
    counted = servers.count(as_engine(Databases("db")), "s", "db", "mariadb")
    assert counted is not None and counted.unmarked == unmarked
    gaps = uncounted(Census(databases={"db": counted}))
    assert gaps == tuple(f"no-marker: db (mariadb): its database {one}, beside the one that is marked" for one in unmarked)


def test_what_psql_warns_of_is_no_answer() -> None:
    engine = as_engine(Databases("db"))
    made = markers.write(engine, "s", ONE, TEXT, NOW)
    assert len(made) == 1
    assert markers.missing(engine, "s", made, None, ONE, NOW) == []


def test_a_row_that_is_not_there_is_gone_at_once() -> None:
    databases = Databases("db")
    made = markers.write(as_engine(databases), "s", ONE, TEXT, SOON)
    databases.rows["db"], databases.asked = None, 0
    assert markers.missing(as_engine(databases), "s", made, None, ONE, SOON) == [f"{ROW} (its table is not there)"]
    assert databases.asked == 1


def test_a_database_that_is_starting_is_asked_until_it_answers() -> None:
    databases = Databases("db")
    databases.trouble = [STARTING] * 3
    made = markers.write(as_engine(databases), "s", ONE, TEXT, SOON)
    assert len(made) == 1, "a marker is written as soon as it can be"
    databases.trouble = [STARTING, Ended(1, "", "Error response from daemon: container 1 is not running"), REFUSED]
    assert markers.missing(as_engine(databases), "s", made, None, ONE, SOON) == []


def test_a_server_inside_an_apps_own_image_is_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its program looks for it there may be none, for ever; the app answers, so it is up."""
    databases, clock = Databases("web"), itertools.count()
    databases.trouble = [STARTING] * 200
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    assert markers.write(as_engine(databases), "s", OWN, TEXT, SOON, kinds={"web": "postgres"}) == []
    assert 1 < databases.asked < 10


@pytest.mark.parametrize("trouble", [STARTING, REFUSED])
def test_a_database_that_never_answers_is_silent_and_not_lost(trouble: Ended) -> None:
    databases = Databases("db")
    made = markers.write(as_engine(databases), "s", ONE, TEXT, NOW)
    databases.trouble = [trouble] * 9
    with pytest.raises(RecipeProblem) as told:
        markers.missing(as_engine(databases), "s", made, None, ONE, NOW)
    assert (told.value.code, told.value.service) == ("database-silent", "db")
    assert trouble.errors in told.value.what
    databases.trouble = [trouble] * 9
    with pytest.raises(RecipeProblem) as told:
        markers.destroy(as_engine(databases), "s", made, NOW)
    assert told.value.code == "database-silent"


def test_a_database_that_refuses_gets_no_marker_and_is_not_waited_for() -> None:
    databases = Databases("db")
    databases.trouble = [REFUSED]
    assert markers.write(as_engine(databases), "s", ONE, TEXT, SOON) == []
    assert databases.asked == 1


def test_a_row_is_found_where_the_release_has_taken_it() -> None:
    databases = Databases("db", "other")
    made = markers.write(as_engine(databases), "s", {"db": "postgres:15", "other": "postgres:15"}, TEXT, NOW)
    renamed = {"database": "postgres:16", "other": "postgres:15"}
    databases.rows = {"database": databases.rows["db"], "other": databases.rows["other"]}
    assert markers.missing(as_engine(databases), "s", made, None, renamed, NOW) == []
    databases.rows["database"] = None
    lost = markers.missing(as_engine(databases), "s", made, None, renamed, NOW)
    assert [told.partition(" (")[0] for told in lost] == [ROW], "the row of another database is not its own"


def test_what_was_destroyed_is_told_when_it_is_there_all_the_same() -> None:
    databases = Databases("db")
    made = markers.write(as_engine(databases), "s", ONE, TEXT, NOW)
    assert markers.destroy(as_engine(databases), "s", made, NOW) == []
    databases.rows["db"] = made[0].text
    databases.trouble = [Ended(0, "", "", b"")]  # it says that it has written over it
    assert markers.destroy(as_engine(databases), "s", made, NOW) == made


@pytest.mark.parametrize(
    ("given", "lost"),
    [
        (TEXT, []),
        (f"{TEXT}\n", []),
        ("another", [f"what write_marker of hooks.py wrote (read_marker gave 'another' instead of '{TEXT}')"]),
        ("", [f"what write_marker of hooks.py wrote (read_marker gave '' instead of '{TEXT}')"]),
        (None, [f"what write_marker of hooks.py wrote (read_marker gave None instead of '{TEXT}')"]),
    ],
)
def test_what_read_marker_gives_is_told_and_the_end_of_a_line_is_no_other_text(given: str | None, lost: list[str]) -> None:
    own = [Marker(kind="own", place="hooks.py", text=TEXT)]
    assert markers.missing(as_engine(Databases()), "s", own, given) == lost


class Container:
    """One whose dump is a file, and which may lack `rm`."""

    def __init__(self, *, there: bool, ended: Ended) -> None:
        self.there, self.ended = there, ended

    def unmark_volumes(self, stack: str, volumes: Sequence[str]) -> None:
        assert not volumes

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        assert command == ["rm", "-rf", "--", "/backup/dump.sql"]
        return self.ended

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        if not self.there:
            raise RecipeProblem(f"'{service}' has no {path}.", code="path-missing")
        yield b"a tar"


@pytest.mark.parametrize(
    ("there", "ended", "told"),
    [
        (False, Ended(0, ""), False),
        (True, Ended(0, ""), False),
        (False, Ended(126, 'exec: "rm": executable file not found in $PATH'), False),
        (True, Ended(126, 'exec: "rm": executable file not found in $PATH'), True),
        (True, Ended(1, "rm: cannot remove: Permission denied"), True),
    ],
)
def test_what_could_not_be_destroyed_before_the_restore_is_told(tmp_path: Path, there: bool, ended: Ended, told: bool) -> None:
    part = Part("app", "/backup/dump.sql", None, whole=False)
    plan = BackupPlan(capable=True, parts=(part,))
    engine = cast("Data", Container(there=there, ended=ended))
    given = Backup(engine, "s", plan, {}, tmp_path, 60, time.monotonic() + 3600)
    _, _, kept = destroy(given, (), (), NOW)
    assert bool(kept) is told
    assert all(one.startswith("not-destroyed: '/backup/dump.sql' of 'app'") and ended.output in one for one in kept)


def test_of_what_is_not_there_only_that_is_said(tmp_path: Path) -> None:
    plan = BackupPlan(capable=True, parts=(Part("app", "/backup/dump.sql", None, whole=False),))
    engine = cast("Data", Container(there=False, ended=Ended(0, "")))
    (part,) = take(Backup(engine, "s", plan, {}, tmp_path / "kept", 60, time.monotonic() + 3600), ()).captured
    assert (part.problems, part.files, list((tmp_path / "kept").iterdir())) == (("'app' has no /backup/dump.sql.",), 0, [])


class Emptied:
    """An app whose volumes have only folders in them."""

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        return [(f"{stack}_cache", "app", "/cache"), (f"{stack}_data", "app", "/data")]

    def read_archive(self, stack: str, service: str, path: str) -> Iterator[bytes]:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            folder = tarfile.TarInfo(path.strip("/"))
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        yield archive.getvalue()


def test_what_may_go_may_be_empty_in_a_backup_and_nothing_else(tmp_path: Path) -> None:
    parts = tuple(Part("app", f"/{key}", key, whole=True) for key in ("cache", "data"))
    volumes = {"cache": "s_cache", "data": "s_data"}
    given = Backup(cast("Data", Emptied()), "s", BackupPlan(capable=True, parts=parts), volumes, tmp_path, 60,
                   time.monotonic() + 3600, {}, {"cache": "made anew"})  # fmt: skip
    facts = take(given, ())
    assert [(one.files, one.problems) for one in facts.captured] == [(0, ()), (0, ())]
    app = cast("DeployedApp", SimpleNamespace(facts=SimpleNamespace(backup=facts)))
    with pytest.raises(AssertionError, match=r"^/data of 'app' is empty or not there"):
        every_part_was_captured(app)


def captured(*, marks: tuple[str, ...] = (), closed: tuple[str, ...] = ()) -> BackupFacts:
    part = Captured(service="app", path="/data/backup.sql", volume=None, whole=False, file="0.tar", checksum="", archive_bytes=1,
                    files=1, bytes=1, marks=marks, expected_marks=marks, problems=(), closed=closed)  # fmt: skip
    return BackupFacts(captured=(part,))


def test_a_backup_that_holds_nothing_of_canonqs_is_a_gap() -> None:
    own = Marker(kind="own", place="hooks.py", text=TEXT)
    file = Marker(kind="file", place="data", text=TEXT)
    assert "backup-unproven: nothing that canonq wrote is in '/data/backup.sql' of 'app'" in unproven(captured(), (file,))
    assert unproven(captured(), (file, own)) == "", "what hooks.py wrote has to come back"
    assert unproven(captured(marks=(TEXT,)), (file,)) == ""
    assert unproven(captured(closed=("a custom-format dump",)), (file,)) == "", "that is told already"


class Mounted:
    """An app whose one volume is at /data."""

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        return [(f"{stack}_files", "app", "/data")]


@pytest.mark.parametrize(
    ("marks", "said"),
    [
        ((TEXT,), []),
        ((), ["app:app.db (what was written last is in app.db-wal, which no label names)"]),
    ],
)
def test_a_part_has_to_have_what_was_last_written_into_an_sqlite_file(marks: tuple[str, ...], said: list[str]) -> None:
    plan = BackupPlan(capable=True, parts=(Part("app", "/data/app.db", "files", whole=False),))
    given = Backup(cast("Data", Mounted()), "s", plan, {"files": "s_files"}, Path(), 60, time.monotonic() + 60)
    marker = Marker(kind="sqlite", place="s_files/app.db", text=TEXT, server="sqlite")
    facts = captured(marks=marks, closed=("app.db is no text",))
    assert not_backed_up(given, facts, (marker,), Census(), {}) == said
    assert not_backed_up(given, facts, (marker,), Census(), {"app:app.db": "made anew"}) == []


def gzipped(*, many: bool) -> bytes:
    """A dump as gzip packs it, or a tar of files."""
    if not many:
        return gzip.compress(b"-- PostgreSQL database dump\n" * 30)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("page.txt"), io.BytesIO())
    return made.getvalue()


@pytest.mark.parametrize(
    ("what", "sees", "many", "by_the_hook", "is_red"),
    [
        ("a dump is one file", ("files", "rows"), False, True, True),
        ("an archive of files, where its hook sees them", ("files", "rows"), True, True, False),
        ("an archive, where its hook sees nothing of them", ("rows",), True, True, True),
        ("an archive that somebody has brought", ("files", "rows"), True, False, True),
    ],
)
def test_what_is_in_no_backup_may_be_in_what_a_hook_has_packed_where_it_is(
    tmp_path: Path, what: str, sees: tuple[str, ...], many: bool, by_the_hook: bool, is_red: bool
) -> None:
    part = Part("db", "/rows/saved.gz", "rows", whole=False)
    plan = BackupPlan(capable=True, before=(Hook("backupbot.backup.pre-hook", "db", "x"),), parts=(part,))
    given = Backup(cast("Data", Mounted()), "s", plan, {"files": "s_files"}, tmp_path, 60, time.monotonic() + 60, {"db": sees})
    with tarfile.open(tmp_path / "0.tar", mode="w") as archive:
        entry = tarfile.TarInfo("saved.gz")
        entry.mtime, entry.size = 2000 if by_the_hook else 1000, len(packed := gzipped(many=many))
        archive.addfile(entry, io.BytesIO(packed))
    facts = captured().model_copy(update={"hooks_since": 1500.0})
    found = in_no_part(given, facts, held := {"files": {"page.txt": File(5, "p")}}, held, {"files": ["page.txt"]}, {})
    assert (bool(found.missed), bool(found.gaps)) == (is_red, not is_red), what


class Server:
    """A server in a container, which says in which of its databases canonq's mark is."""

    def __init__(self, ended: Ended) -> None:
        self.ended = ended

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        assert command[3] == "where"
        return self.ended


@pytest.mark.parametrize(
    ("server", "ended", "told"),
    [
        ("postgres", Ended(0, "", raw=b"app\n"), {}),
        ("postgres", Ended(0, "", raw=b"app_old\n"), {"db": "into the database 'app_old', and it was in 'app'"}),
        ("mariadb", Ended(0, "", raw=b"app_old\n"), {"db": "into the database 'app_old', and it was in 'app'"}),
        ("mariadb", REFUSED, {}),
        ("mongodb", Ended(0, "", raw=b"app_old\n"), {}),
    ],
)
def test_a_restore_into_another_database_than_the_apps_is_told(server: str, ended: Ended, told: dict[str, str]) -> None:
    marker = Marker(kind="database", place="db", text=TEXT, server=server)
    assert put_elsewhere({"db": "app"}, markers.homes(cast("Data", Server(ended)), "s", [marker])) == told


def test_keys_that_a_restore_may_not_bring_back_are_a_gap() -> None:
    own = Marker(kind="own", place="hooks.py", text=TEXT)
    keys = Marker(kind="key", place="app", text=TEXT, server="redis")
    (gap,) = keys_unproven(captured(), (keys,))
    assert gap.startswith("backup-unproven: whether a restore brings back the keys of 'app' (redis) was not looked at")
    assert not list(keys_unproven(captured(), (keys, own))), "what hooks.py wrote has to come back"
    assert not list(keys_unproven(captured(), (keys.model_copy(update={"place": "cache"}),))), "no backup has it"


def test_a_volume_that_no_backup_has_is_told() -> None:
    compose = """
services:
  app: {image: x, volumes: ["data:/data", "uploads:/up", "cache:/cache:ro", "/tmp"]}
volumes: {data: {}, uploads: {}, cache: {}}
"""
    plan = BackupPlan(capable=True, parts=(Part("app", "/data", "data", whole=True),))
    assert left_out(resolve([("compose.yml", compose)], {}), plan) == ["not-backed-up: no backup has the volume 'uploads'"]


# -- servers that no image's name tells -----------------------------------------------------------------------


class Own(Databases):
    """An app whose servers are in one container of an image of its own; `says`: what their clients answer."""

    def __init__(self, *processes: str) -> None:
        super().__init__("web")
        self.processes, self.scripts = processes, list[str]()

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        if "/proc/" in command[2]:
            return Ended(0, "\n".join(("sh", *self.processes, "cat")))
        self.scripts.append(next(name for name in ("psql", "mariadb", "redis-cli") if name in command[2]))
        return super().execute(stack, service, command, timeout)


OWN = {"web": "org/own:1"}


@pytest.mark.parametrize(
    ("processes", "kinds", "beside"),
    [
        (["mariadbd"], {"web": "mariadb"}, {}),
        (["redis-server", "mariadbd"], {"web": "mariadb"}, {"web": ("redis",)}),
        (["redis-server", "mysqld", "postgres", "postgres"], {"web": "postgres"}, {"web": ("mysql", "redis")}),
        (["mysqld", "mariadbd"], {"web": "mariadb"}, {}),
        (["nginx"], {}, {}),
    ],
)
def test_a_server_in_an_image_of_its_own_is_known_by_its_process_and_one_that_keeps_data_comes_first(
    processes: list[str], kinds: dict[str, str], beside: dict[str, tuple[str, ...]]
) -> None:
    found = servers.found_in(as_engine(Own(*processes)), "s", OWN)
    assert (found.kinds, found.beside) == (kinds, beside)
    named = servers.found_in(as_engine(Own(*processes)), "s", {"web": "mariadb:11"})
    assert (named.kinds, named.beside) == ({"web": "mariadb"}, {})


@pytest.mark.parametrize(("process", "kind", "client"), [("mariadbd", "mariadb", "mariadb"), ("postgres", "postgres", "psql")])
def test_what_is_known_by_its_process_is_marked_and_asked_as_what_an_images_name_tells(
    process: str, kind: str, client: str
) -> None:
    own = Own(process)
    kinds = servers.found_in(as_engine(own), "s", OWN).kinds
    (mark,) = made = markers.write(as_engine(own), "s", OWN, TEXT, NOW, kinds=kinds)
    assert (mark.kind, mark.place, mark.server) == ("database", "web", kind)
    assert markers.missing(as_engine(own), "s", made, None, OWN, NOW, kinds=kinds) == []
    assert set(own.scripts) == {client}


def test_a_postgresql_that_has_another_service_now_is_found_there_also_where_its_image_is_its_own() -> None:
    own = Own("postgres")
    made = markers.write(as_engine(own), "s", OWN, TEXT, NOW, kinds={"web": "postgres"})
    moved = [mark.model_copy(update={"place": "db"}) for mark in made]
    assert markers.missing(as_engine(own), "s", moved, None, OWN, NOW, kinds={"web": "postgres"}) == []


def test_a_mark_is_looked_for_in_each_server_of_its_container() -> None:
    """Which of them was found first has changed from one run to the next."""
    own = Own("redis-server", "mariadbd")
    (mark,) = markers.write(as_engine(own), "s", OWN, TEXT, NOW, kinds={"web": "mariadb"})
    key = mark.model_copy(update={"kind": "key", "server": "redis"})
    own.rows["web"] = mark.text
    entered = [LedgerMark(kind="key", place="web", text=mark.text, server="redis", version="1.0.0")]
    for kinds in ({"web": "mariadb"}, {}):
        own.scripts.clear()
        assert markers.missing(as_engine(own), "s", [key], None, OWN, NOW, kinds=kinds) == [f"{key} (there is none)"]
        assert ledger.missing(as_engine(own), "s", entered, kinds, NOW) == entered
        assert set(own.scripts) == {"redis-cli"}, "it was asked, and has answered"
    own.processes = ("nginx",)
    (told,) = markers.missing(as_engine(own), "s", [key], None, OWN, NOW, kinds={})
    assert "nothing runs that could have it" in told


# -- the asking shell itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("psql", "is_ready", "status"), [(0, 0, 0), (1, 0, 1), (2, 1, 75), (2, 2, 75), (2, 0, 2), (2, 3, 2), (2, None, 2)]
)
def test_pg_isready_tells_a_server_that_is_starting_from_one_that_refuses(
    tmp_path: Path, psql: int, is_ready: int | None, status: int
) -> None:
    for name, ends in (("psql", psql), ("pg_isready", is_ready)):
        if ends is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\nexit {ends}\n")
            (tmp_path / name).chmod(0o755)
    shell = servers._GIVEN + servers._PSQL
    assert run(["/bin/sh", "-c", shell, "read", "SELECT 1"], timeout=60, env={"PATH": str(tmp_path)}).status == status


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, "postgres postgres -"),
        ({"POSTGRES_USER": "app", "POSTGRES_PASSWORD_FILE": "{secret}"}, "app app it's hidden"),
        ({"POSTGRES_USER_FILE": "{secret}", "POSTGRES_DB": "d"}, "it's hidden d -"),
        ({"POSTGRESQL_USERNAME": "app", "POSTGRESQL_DATABASE": "d", "POSTGRESQL_PASSWORD": "$p"}, "app d $p"),
        ({"FILE__POSTGRES_PASSWORD": "{secret}"}, "postgres postgres it's hidden"),
    ],
)
def test_a_postgresql_is_asked_as_its_image_was_told_with_a_password_for_a_socket_that_wants_one(
    tmp_path: Path, given: dict[str, str], asked: str
) -> None:
    (tmp_path / "secret").write_text("it's hidden\n")
    (tmp_path / "psql").write_text(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do case $1 in -U) u=$2;; -d) d=$2;; -c) c=$2;; esac; shift; done\n"
        '[ "$c" != "SELECT 1" ] || echo "$u $d ${PGPASSWORD:--}"\n'
    )
    (tmp_path / "psql").chmod(0o755)
    env = {name: value.format(secret=tmp_path / "secret") for name, value in given.items()}
    command = ["sh", "-c", servers._GIVEN + servers._PSQL, "read", "SELECT 1"]
    assert run(command, timeout=60, env={"PATH": f"{tmp_path}:/bin:/usr/bin", **env}).output.strip() == asked


def test_output_and_errors_of_a_program_can_be_had_together_and_apart() -> None:
    ended = run(["sh", "-c", "echo answer; sleep 0.2; echo warning >&2; exit 3"], timeout=60, apart=True)
    assert (ended.status, ended.output, ended.answer, ended.errors) == (3, "answer\nwarning\n", "answer\n", "warning\n")
    only = run(["sh", "-c", "echo warning >&2"], timeout=60, apart=True)
    assert (only.output, only.answer) == ("warning\n", "")


# -- files ----------------------------------------------------------------------------------------------------


def test_a_volumes_marker_is_written_read_and_removed(tmp_path: Path) -> None:
    assert markerfile.read(tmp_path) is None
    markerfile.write(tmp_path, "one")
    markerfile.write(tmp_path, "two")
    assert markerfile.read(tmp_path) == "two"
    assert [path.name for path in tmp_path.iterdir()] == [markerfile.MARKER]
    markerfile.remove(tmp_path)
    markerfile.remove(tmp_path)
    assert markerfile.read(tmp_path) is None


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_an_app_puts_in_a_markers_place_is_not_followed_and_is_no_marker(tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    volume = tmp_path / "volume"
    volume.mkdir()
    place = volume / markerfile.MARKER
    if kind == "link":
        place.symlink_to(outside)
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    assert not markerfile.read(volume)
    if kind != "folder":
        markerfile.write(volume, "two")
        assert markerfile.read(volume) == "two"
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("below", ["way", "way/in", "real/../way", "real/in/way"])
def test_no_link_on_the_way_to_a_parts_marker_is_followed(tmp_path: Path, below: str) -> None:
    """An app may put it there after canonq has looked whether that is a folder."""
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    (outside / "in").mkdir(parents=True)
    (volume / "real" / "in").mkdir(parents=True)
    for place in (volume / "way", volume / "real" / "in" / "way"):
        place.symlink_to(outside)
    (outside / markerfile.MARKER).write_text("of the host")
    assert not markerfile.is_folder(volume, below)
    with pytest.raises(HostProblem):
        markerfile.write(volume, "mine", below=below)
    assert markerfile.read(volume, below=below) is None
    with contextlib.suppress(HostProblem):
        markerfile.remove(volume, below)
    assert sorted(path.name for path in outside.rglob("*")) == [markerfile.MARKER, "in"]
    assert (outside / markerfile.MARKER).read_text() == "of the host"


def test_a_parts_marker_is_written_read_and_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    markerfile.write(tmp_path, "one", below="a/b")
    assert markerfile.read(tmp_path, below="a/b") == "one"
    assert markerfile.read(tmp_path, below="a") is None
    markerfile.remove(tmp_path, "a/b")
    assert markerfile.read(tmp_path, below="a/b") is None
