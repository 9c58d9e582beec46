"""Marks and counts in real database servers, asked as they are in their containers: by `sh`, by their own client."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from canonq.adapters.redis_server import redis_server_program
from canonq.core.stack.census import Census, lost
from canonq.core.stack.databases import put_elsewhere
from canonq.core.stack.ledger import LedgerMark
from canonq.ports import Data, Ended
from canonq.tiers import ledger, markers, servers
from canonq.tiers.markers import Patience
from demo.images import have_programs
from tests.real.postgres import psql as ask
from tests.real.postgres import serving

pytestmark = pytest.mark.real

SOON = Patience(60, pause=0.2)
PG = {"db": "postgres:15"}


PASSWORD = 'it\'s "$ecret" `here`'


class Here:
    """A container that is this host, with the environment of one service."""

    def __init__(self, env: Mapping[str, str], folder: str = "/data") -> None:
        self.env, self.folder = {"PATH": os.environ["PATH"], **env}, folder
        self.started: list[str] = []  #: how Docker says that it was started
        self.arguments: list[str] = []  #: of all that was run in it

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        self.arguments += command
        ended = subprocess.run(command, env={**self.env, **(env or {})}, capture_output=True, timeout=timeout, check=False)
        output = (ended.stdout + ended.stderr).decode(errors="replace")
        return Ended(ended.returncode, output, ended.stderr.decode(errors="replace"), ended.stdout)

    def started_as(self, stack: str, service: str) -> list[str]:
        return self.started

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        return {}

    def mounted(self, stack: str) -> list[tuple[str, str, str]]:
        return [("s_kept", "cache", self.folder)]


def until(done: object, what: str) -> None:
    ends = time.monotonic() + 300
    while not done():  # type: ignore[operator]
        assert time.monotonic() < ends, what
        time.sleep(0.1)


@pytest.fixture
def mariadb(tmp_path: Path) -> Iterator[Here]:
    have_programs({"mariadbd": "mariadb-server-core", "mariadb": "mariadb-client-core"})
    data, socket = tmp_path / "data", tmp_path / "s"
    install = [
        "mariadb-install-db",
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--user=root",
    ]
    subprocess.run(install, check=True, capture_output=True)
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / ".my.cnf").write_text(f"[client]\nsocket={socket}\n")
    command = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking", "--user=root"]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            until(socket.exists, "MariaDB")
            yield Here({"HOME": str(tmp_path), "MYSQL_ROOT_PASSWORD_FILE": str(tmp_path / "password"), "MYSQL_DATABASE": "wp"})
        finally:
            server.terminate()


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Here]:
    """A PostgreSQL as an image makes it: with one user, and an empty database beside its own."""
    with serving(tmp_path / "log") as env:
        yield Here(env)


def psql(of: Here, statement: str, database: str = "postgres") -> subprocess.CompletedProcess[bytes]:
    return ask(of.env, statement, database)


def dumped(of: Here, database: str, *more: str) -> str:
    command = ["pg_dump", *more, database]
    return subprocess.run(command, env=of.env, capture_output=True, check=True, text=True).stdout


def sql(of: Here, statement: str, *, password: bool = False) -> None:
    env = {**of.env, **({"MYSQL_PWD": PASSWORD} if password else {})}
    subprocess.run(["mariadb", "-u", "root", "-e", statement], env=env, check=True, capture_output=True)


def entering(data: Data, kinds: Mapping[str, str], version: str) -> list[LedgerMark]:
    return ledger.enter(data, "s", {}, kinds, f"canonq-it's {version}", version, (), SOON)


def test_mariadb_is_marked_and_counted_with_the_password_that_a_file_gives(mariadb: Here) -> None:
    data, kinds = cast("Data", mariadb), {"db": "mariadb"}
    sql(mariadb, "CREATE DATABASE wp; CREATE DATABASE other; CREATE TABLE wp.`po``st s` (a INT); CREATE TABLE other.t (a INT); "
        "INSERT INTO wp.`po``st s` VALUES (1), (2), (3); "
        f"ALTER USER root@localhost IDENTIFIED BY '{PASSWORD.replace(chr(39), chr(39) * 2)}'")  # fmt: skip
    made = markers.write(data, "s", {}, "canonq-it's", SOON, kinds=kinds)
    assert [(one.kind, one.place, one.server) for one in made] == [("database", "db", "mariadb")]
    assert markers.missing(data, "s", made, None, {}, SOON, kinds={"database": "mysql"}) == [], "by any name"
    counted = servers.count(data, "s", "db", "mariadb")
    assert counted is not None
    assert (counted.tables, counted.why_not) == ({"po`st s": 3, "other.t": 0}, "")
    assert markers.destroy(data, "s", made, SOON) == []
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == [f"{made[0]} (there is 'destroyed' instead)"]
    entered = [mark for version in ("1.0.0", "1.1.0") for mark in entering(data, kinds, version)]
    assert [(one.kind, one.place, one.server) for one in entered] == [("database", "db", "mariadb")] * 2
    assert ledger.missing(data, "s", entered, {"database": "mysql"}, SOON) == [], "both, and by any name"
    counted = servers.count(data, "s", "db", "mariadb")
    assert counted is not None
    assert counted.tables == {"po`st s": 3, "other.t": 0}, "a ledger is none of the app's tables"
    sql(mariadb, "DELETE FROM wp.canonq_ledger LIMIT 1", password=True)
    assert ledger.missing(data, "s", entered, kinds, SOON) == entered[:1]
    sql(mariadb, "DROP TABLE wp.canonq_ledger", password=True)
    assert ledger.missing(data, "s", entered, kinds, SOON) == entered
    mariadb.env.pop("MYSQL_ROOT_PASSWORD_FILE")
    assert markers.write(data, "s", {}, "canonq", SOON, kinds=kinds) == [], "nobody lets canonq in: a gap, and no guess"
    refused = servers.count(data, "s", "db", "mariadb")
    assert refused is not None
    assert "Access denied" in refused.why_not


@pytest.mark.parametrize("replaces", [True, False])
def test_a_destroyed_mark_comes_back_with_a_dump_that_replaces_what_is_there_and_with_no_other(
    mariadb: Here, replaces: bool
) -> None:
    data, kinds = cast("Data", mariadb), {"db": "mariadb"}
    sql(mariadb, "CREATE DATABASE wp; CREATE TABLE wp.posts (a INT PRIMARY KEY); INSERT INTO wp.posts VALUES (1)")
    (mark,) = markers.write(data, "s", {}, "canonq-1", SOON, kinds=kinds)
    assert markers.destroy(data, "s", [mark], SOON) == []
    dump = f"""
        {"DROP TABLE canonq_marker, posts;" if replaces else ""}
        CREATE TABLE canonq_marker (one INT PRIMARY KEY, text VARCHAR(500)); INSERT INTO canonq_marker VALUES (1, '{mark.text}');
        CREATE TABLE posts (a INT PRIMARY KEY); INSERT INTO posts VALUES (1);
    """
    subprocess.run(
        ["mariadb", "--force", "-u", "root", "wp"], input=dump.encode(), env=mariadb.env, capture_output=True, check=False
    )
    gone = [] if replaces else [f"{mark} (there is 'destroyed' instead)"]
    assert markers.missing(data, "s", [mark], None, {}, SOON, kinds=kinds) == gone


@pytest.mark.parametrize(("more", "comes_back"), [(["--clean", "--if-exists"], True), ([], False), (["-Fc"], False)])
def test_a_destroyed_row_of_postgresql_comes_back_with_what_replaces_it(
    postgres: Here, more: list[str], comes_back: bool, tmp_path: Path
) -> None:
    data = cast("Data", postgres)
    psql(postgres, "CREATE TABLE posts (a INT PRIMARY KEY); INSERT INTO posts VALUES (1)")
    (mark,) = markers.write(data, "s", PG, "canonq-it's", SOON)
    command = ["pg_dump", *more, "-f", str(tmp_path / "dump"), "postgres"]
    subprocess.run(command, env=postgres.env, check=True)
    assert markers.destroy(data, "s", [mark], SOON) == []
    back = ["pg_restore", "-d", "postgres"] if more == ["-Fc"] else ["psql", "-qX", "-d", "postgres", "-f"]
    subprocess.run([*back, str(tmp_path / "dump")], env=postgres.env, capture_output=True, check=False)
    assert markers.missing(data, "s", [mark], None, PG, SOON) == (
        [] if comes_back else [f"{mark} (there is 'destroyed' instead)"]
    )


def test_who_may_dump_what_the_app_has_may_dump_and_replace_what_canonq_has_written(postgres: Here, tmp_path: Path) -> None:
    """The image's user is the superuser, and the app another one, as is whoever backs it up."""
    data = cast("Data", postgres)
    psql(postgres, 'CREATE ROLE app LOGIN; CREATE ROLE "Back up" LOGIN; CREATE DATABASE wiki OWNER app')
    psql(
        postgres,
        "CREATE SCHEMA own AUTHORIZATION app; SET ROLE app; CREATE TABLE own.pages (a INT PRIMARY KEY); INSERT INTO own.pages "
        'VALUES (1); CREATE TABLE own.users (a INT); GRANT USAGE ON SCHEMA own TO "Back up"; '
        'GRANT SELECT ON ALL TABLES IN SCHEMA own TO "Back up"',
        "wiki",
    )
    (mark,) = markers.write(data, "s", PG, "canonq-1", SOON)
    first = entering(data, {"db": "postgres"}, "1.0.0")
    psql(postgres, 'ALTER TABLE own.canonq_ledger OWNER TO postgres; REVOKE ALL ON own.canonq_ledger FROM "Back up"', "wiki")
    (mark,) = markers.write(data, "s", PG, "canonq-2", SOON)  # a canonical of an older canonq has it like that
    readers = ["pg_dump", "-U", "Back up", "-n", "own", "wiki"]
    assert "canonq_marker" in subprocess.run(readers, env=postgres.env, check=True, capture_output=True, text=True).stdout
    assert "canonq_marker" not in dumped(postgres, "wiki", "-n", "public"), "which has nothing of the app's"
    dump = dumped(postgres, "wiki", "-U", "app", "--clean", "--if-exists")
    assert markers.destroy(data, "s", [mark], SOON) == []
    told = [f"{mark} (there is 'destroyed' instead)"]
    assert markers.missing(data, "s", [mark], None, PG, SOON) == told
    command = ["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-U", "app", "-d", "wiki"]
    subprocess.run(command, input=dump.encode(), env=postgres.env, check=True, capture_output=True)
    assert markers.missing(data, "s", [mark], None, PG, SOON) == []
    assert ledger.missing(data, "s", [*first, *entering(data, {"db": "postgres"}, "1.1.0")], {"db": "postgres"}, SOON) == []


@pytest.mark.parametrize("marked", [True, False])
def test_a_database_that_only_the_restore_makes_is_where_its_mark_is_looked_for(postgres: Here, marked: bool) -> None:
    """An app makes its own beside the one that the image was told of, once somebody is through with its wizard."""
    data = cast("Data", postgres)
    psql(postgres, "CREATE DATABASE odoo")
    psql(postgres, "CREATE TABLE users (a INT); INSERT INTO users VALUES (1)", "odoo")
    (mark,) = markers.write(data, "s", PG, "canonq-1", SOON)
    assert servers.home(data, "s", "db", "postgres") == "odoo"
    dump = dumped(postgres, "odoo")
    psql(postgres, "DROP DATABASE odoo WITH (FORCE)")
    if marked:  # the new install took its own, before there was anything of the app's
        markers.write(data, "s", PG, "canonq-2", SOON)
    assert markers.destroy(data, "s", [mark], SOON) == []
    assert psql(postgres, "SELECT text FROM canonq_marker").stdout.decode().strip() == ("destroyed" if marked else "")
    psql(postgres, "CREATE DATABASE odoo")
    psql(postgres, dump, "odoo")
    assert markers.missing(data, "s", [mark], None, PG, SOON) == []


def test_a_dump_that_is_loaded_into_another_database_is_seen_to_be_there(postgres: Here) -> None:
    data = cast("Data", postgres)
    psql(postgres, "CREATE TABLE users (a INT); INSERT INTO users VALUES (1); CREATE DATABASE other")
    (mark,) = markers.write(data, "s", PG, "canonq-1", SOON)
    dump = dumped(postgres, "postgres")
    before = markers.homes(data, "s", [mark])
    assert markers.destroy(data, "s", [mark], SOON) == []
    psql(postgres, dump, "other")
    assert put_elsewhere(before, markers.homes(data, "s", [mark]))


def test_what_an_app_keeps_in_another_schema_than_the_one_that_the_image_made_is_marked_there(mariadb: Here) -> None:
    data, kinds = cast("Data", mariadb), {"db": "mariadb"}
    sql(mariadb, "CREATE DATABASE wp; CREATE DATABASE shop; CREATE TABLE shop.a (a INT); CREATE TABLE shop.b (a INT)")
    made = markers.write(data, "s", {}, "canonq-1", SOON, kinds=kinds)
    sql(mariadb, "SELECT text FROM shop.canonq_marker")
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == []
    sql(mariadb, "CREATE TABLE wp.later (a INT)")
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == [], "looked for where it is"
    assert markers.destroy(data, "s", made, SOON) == []
    assert len(markers.missing(data, "s", made, None, {}, SOON, kinds=kinds)) == 1


def test_tables_with_a_history_are_counted_and_what_is_in_memory_only_is_not(mariadb: Here) -> None:
    sql(
        mariadb,
        "CREATE DATABASE wp; CREATE TABLE wp.prices (a INT) WITH SYSTEM VERSIONING; INSERT INTO wp.prices VALUES (1), (2)",
    )
    sql(mariadb, "CREATE TABLE wp.online (a INT) ENGINE=MEMORY; INSERT INTO wp.online VALUES (1)")
    counted = servers.count(cast("Data", mariadb), "s", "db", "mariadb")
    assert counted is not None
    assert (counted.tables, counted.why_not) == ({"prices": 2}, "")


def test_a_table_that_was_counted_and_cannot_be_read_any_more_is_lost(mariadb: Here) -> None:
    data = cast("Data", mariadb)
    sql(mariadb, "CREATE DATABASE wp; CREATE TABLE wp.posts (a INT); INSERT INTO wp.posts VALUES (1); CREATE TABLE wp.t (a INT)")
    before = servers.count(data, "s", "db", "mariadb")
    sql(mariadb, "ALTER TABLE wp.posts DISCARD TABLESPACE")
    after = servers.count(data, "s", "db", "mariadb")
    assert before is not None and after is not None
    (told,) = lost(Census(databases={"db": before}), Census(databases={"db": after}), {}, {})
    assert told.startswith("the mariadb of db has a table that cannot be read any more (ERROR 1814")


@pytest.mark.parametrize("keeps", [True, False])
def test_a_redis_that_keeps_what_it_has_is_marked_and_counted_and_a_cache_is_not(tmp_path: Path, keeps: bool) -> None:
    have_programs({"redis-cli": "redis-tools"})
    socket = tmp_path / "r"
    config = f'port 0\nunixsocket {socket}\ndir {tmp_path}\nrequirepass hidden\nsave ""\nappendonly {"yes" if keeps else "no"}\n'
    (tmp_path / "redis.conf").write_text(config)
    # redis-cli has no variable for a socket: what is asked of it in a container goes to a port.
    (tmp_path / "redis-cli").write_text(f'#!/bin/sh\nexec /usr/bin/redis-cli -s {socket} "$@"\n')
    (tmp_path / "redis-cli").chmod(0o755)
    here = Here({"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_PASSWORD": "hidden"}, folder=str(tmp_path))
    data = cast("Data", here)
    with subprocess.Popen([redis_server_program(), str(tmp_path / "redis.conf")], stdout=subprocess.DEVNULL) as server:
        try:
            until(socket.exists, "Redis")
            for words in (["SET", "a", "1"], ["SET", "b", "1", "EX", "600"]):
                here.execute("s", "cache", ["redis-cli", "-a", "hidden", *words], 60)
            made = markers.write(data, "s", {}, "canonq-1", SOON, kinds={"cache": "redis"})
            assert [(one.kind, one.text) for one in made] == ([("key", "canonq-1.cache.")] if keeps else [])
            counted = servers.count(data, "s", "cache", "redis")
            assert (counted.tables if counted else None) == ({"db0": 1} if keeps else None), (
                "what expires may go, and the mark is nobody's"
            )
            assert markers.missing(data, "s", made, None, {}, SOON, kinds={"cache": "redis"}) == []
            entered = [mark for version in ("1.0.0", "1.1.0") for mark in entering(data, {"cache": "redis"}, version)]
            assert [one.kind for one in entered] == (["key", "key"] if keeps else [])
            assert ledger.missing(data, "s", entered, {"cache": "redis"}, SOON) == []
            here.execute("s", "cache", ["redis-cli", "-a", "hidden", "FLUSHALL"], 60)
            assert ledger.missing(data, "s", entered, {"cache": "redis"}, SOON) == entered
        finally:
            server.terminate()


@pytest.mark.parametrize(
    ("started", "env"),
    [
        (["docker-entrypoint.sh", "redis-server", "--requirepass", PASSWORD], {}),
        (["redis-server", "--requirepass", PASSWORD], {"REDIS_PASSWORD": "another"}),
        (["sh", "-c", 'exec redis-server --requirepass "$(cat "$SECRET")" --save 60 1'], {}),
        (["sh", "-c", "redis-server --requirepass $(cat $SECRET)&& true"], {}),
        (["docker-entrypoint.sh", "valkey-server", "CONF"], {}),
        (["sh", "-c", "chmod 600 /x; redis-server CONF"], {}),
    ],
)
def test_a_redis_is_asked_with_the_password_that_its_container_was_started_with(
    tmp_path: Path, started: list[str], env: dict[str, str]
) -> None:
    have_programs({"redis-cli": "redis-tools"})
    with_conf = any("CONF" in word for word in started)
    password = "it's $ecret" if with_conf else PASSWORD
    socket, conf, secret = tmp_path / "r", tmp_path / "redis.conf", tmp_path / "secret"
    conf.write_text(f'port 0\n  requirepass "{password}"\n' if with_conf else "port 0\n")
    secret.write_text(password)
    (tmp_path / "redis-cli").write_text(f'#!/bin/sh\nexec /usr/bin/redis-cli -s {socket} "$@"\n')
    (tmp_path / "redis-cli").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    here = Here({"PATH": path, "SECRET": str(secret), **env}, folder=str(tmp_path))
    here.started = [word.replace("CONF", str(conf)) for word in started]
    data, kinds = cast("Data", here), {"cache": "redis"}
    more = [] if with_conf else ["--requirepass", password]
    command = [redis_server_program(), str(conf), "--dir", str(tmp_path), "--unixsocket", str(socket), *more]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            until(socket.exists, "Redis")
            (mark,) = markers.write(data, "s", {}, "canonq-1", SOON, kinds=kinds)
            assert markers.missing(data, "s", [mark], None, {}, SOON, kinds=kinds) == []
            assert not [word for word in here.arguments if password in word]
            here.started = ["redis-server"]
            assert markers.write(data, "s", {}, "canonq-1", SOON, kinds=kinds) == []
        finally:
            server.terminate()


#: No MongoDB is in Debian, PyPI or npm: what canonq asks of `mongosh` is evaluated by this stand-in, whose databases are a file.
MONGOSH = """#!/usr/bin/env node
const fs = require('fs');
const all = JSON.parse(fs.readFileSync(process.env.STATE));
let who = null;
const refused = () => { console.error('MongoServerError: command requires authentication'); process.exit(1); };
const known = () => { if (who !== 'root') refused(); };
const collection = (name, key) => {
  const rows = () => { known(); return (all[name] || {})[key] || []; };
  return {
    deleteMany() { known(); if (all[name]) all[name][key] = []; },
    insertOne(row) { known(); (all[name] = all[name] || {})[key] = [...rows(), row]; },
    find() { return { forEach(f) { rows().forEach(f); } }; },
    estimatedDocumentCount() { return rows().length; },
    findOne() { return rows()[0] || null; },
  };
};
const database = (name) => new Proxy({
  auth(user, password) { if (password === process.env.RIGHT) who = user; },
  getSiblingDB: database,
  runCommand() { known(); return { databases: ['admin', ...Object.keys(all)].map((name) => ({ name })) }; },
  getCollectionInfos() { known(); return Object.keys(all[name]).map((name) => ({ name })); },
  getCollection(key) { return collection(name, key); },
}, { get(it, key) { return key in it ? it[key] : collection(name, key); } });
const db = database('test'), print = console.log;
eval(process.argv[process.argv.indexOf('--eval') + 1]);
fs.writeFileSync(process.env.STATE, JSON.stringify(all));
"""


def test_what_is_asked_of_a_mongodb_is_understood_by_a_stand_in_for_its_client(tmp_path: Path) -> None:
    have_programs({"node": "nodejs"})
    (tmp_path / "mongosh").write_text(MONGOSH)
    (tmp_path / "mongosh").chmod(0o755)
    state = tmp_path / "state"
    state.write_text(json.dumps({"shop": {"orders": [{}, {}, {}], "system.views": [{}]}, "logs": {"lines": [{}]}}))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STATE": str(state), "RIGHT": PASSWORD}
    here = Here({**env, "MONGO_INITDB_ROOT_USERNAME": "root", "MONGO_INITDB_ROOT_PASSWORD": PASSWORD})
    data, kinds = cast("Data", here), {"db": "mongodb"}
    made = markers.write(data, "s", {}, "canonq-it's", SOON, kinds=kinds)
    assert [(one.kind, one.server) for one in made] == [("database", "mongodb")]
    entered = [mark for version in ("1.0.0", "1.1.0") for mark in entering(data, kinds, version)]
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == []
    assert ledger.missing(data, "s", entered, kinds, SOON) == []
    counted = servers.count(data, "s", "db", "mongodb")
    assert counted is not None
    assert (counted.tables, counted.why_not) == ({"orders": 3, "logs.lines": 1}, "")
    assert markers.destroy(data, "s", made, SOON) == []
    assert len(markers.missing(data, "s", made, None, {}, SOON, kinds=kinds)) == 1
    assert ledger.missing(data, "s", entered, kinds, SOON) == [], "a marker that goes takes no ledger with it"
    here.env["MONGO_INITDB_ROOT_PASSWORD"] = "another"
    assert markers.write(data, "s", {}, "canonq", SOON, kinds=kinds) == [], "nobody lets canonq in: a gap, and no guess"
