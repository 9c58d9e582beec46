"""Marks and counts in real database servers, asked as they are in their containers: by `sh`, by their own client."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import pytest

from canonq.adapters.redis_server import redis_server_program
from canonq.ports import Data, Ended
from canonq.tiers import markers, servers
from canonq.tiers.markers import Patience
from demo.images import have_programs

pytestmark = pytest.mark.real

SOON = Patience(60, pause=0.2)
PASSWORD = 'it\'s "$ecret" `here`'


class Here:
    """A container that is this host, with the environment of one service."""

    def __init__(self, env: Mapping[str, str], folder: str = "/data") -> None:
        self.env, self.folder = {"PATH": os.environ["PATH"], **env}, folder

    def execute(self, stack: str, service: str, command: Sequence[str], timeout: float) -> Ended:
        ended = subprocess.run(command, env=self.env, capture_output=True, timeout=timeout, check=False)
        output = (ended.stdout + ended.stderr).decode(errors="replace")
        return Ended(ended.returncode, output, ended.stderr.decode(errors="replace"), ended.stdout)

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


def sql(of: Here, statement: str) -> None:
    subprocess.run(["mariadb", "-u", "root", "-e", statement], env=of.env, check=True, capture_output=True)


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
    assert markers.drop(data, "s", made, SOON) == []
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == [f"{made[0]} (its table is not there)"]
    mariadb.env.pop("MYSQL_ROOT_PASSWORD_FILE")
    assert markers.write(data, "s", {}, "canonq", SOON, kinds=kinds) == [], "nobody lets canonq in: a gap, and no guess"
    refused = servers.count(data, "s", "db", "mariadb")
    assert refused is not None
    assert "Access denied" in refused.why_not


def test_what_an_app_keeps_in_another_schema_than_the_one_that_the_image_made_is_marked_there(mariadb: Here) -> None:
    data, kinds = cast("Data", mariadb), {"db": "mariadb"}
    sql(mariadb, "CREATE DATABASE wp; CREATE DATABASE shop; CREATE TABLE shop.a (a INT); CREATE TABLE shop.b (a INT)")
    made = markers.write(data, "s", {}, "canonq-1", SOON, kinds=kinds)
    sql(mariadb, "SELECT text FROM shop.canonq_marker")
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == []
    sql(mariadb, "CREATE TABLE wp.later (a INT)")
    assert markers.missing(data, "s", made, None, {}, SOON, kinds=kinds) == [], "looked for where it is"
    assert markers.drop(data, "s", made, SOON) == []
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
            assert (counted.tables if counted else None) == ({"db0": 2} if keeps else None), "what expires may go"
            assert markers.missing(data, "s", made, None, {}, SOON, kinds={"cache": "redis"}) == []
        finally:
            server.terminate()
