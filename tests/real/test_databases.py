"""Data in the places where apps have it: one upgrade of a real PostgreSQL and of volumes mounted in every way."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.engine import SwarmEngine
from demo import images
from tests.real.conftest import HEALTH, IMAGE, installed
from tests.support import make_recipe

pytestmark = pytest.mark.real

POSTGRES = "canonq-demo/postgres:15"
OLD, NEW = "1.0.0+15.1", "1.1.0+15.2"
DATA = "/var/lib/postgresql/data"
DUMP = f"pg_dump -U app app | bzip2 > {DATA}/dump.sql.bz2"
BACK = (
    "psql -qX -v ON_ERROR_STOP=1 -U app -d postgres -c 'DROP DATABASE IF EXISTS app WITH (FORCE)' -c 'CREATE DATABASE app' && "
    f"bunzip2 -c {DATA}/dump.sql.bz2 | psql -qX -v ON_ERROR_STOP=1 -U app -d app"
)


def compose(tag: str, database: str, start: str, mounts: str, more: str = "") -> str:
    """A page beside a database; `mounts` are the page's, of the volumes that all releases share."""
    labels = ["backupbot.backup=true", f"backupbot.backup.pre-hook={DUMP}", f"backupbot.restore.post-hook={BACK}",
              f"backupbot.backup.path={DATA}/dump.sql.bz2, {DATA}/pgdata/postgresql.conf"]  # fmt: skip
    return f"""
version: "3.8"
services:
  app:
    image: {IMAGE}
    command: ["sh", "-c", "trap 'exit 0' TERM; echo page > /srv/index.html; httpd -f -p 80 -h /srv & wait"]
    volumes: [{mounts}]
    stop_grace_period: 2s
    deploy:
      labels: ["coop-cloud.${{STACK_NAME}}.version={tag}", "backupbot.backup=true"]
  {database}:
    image: {POSTGRES}
    entrypoint: ["sh", "-c", {json.dumps(start)}]
    environment: [POSTGRES_USER=app, POSTGRES_DB=app, POSTGRES_PASSWORD_FILE=/run/secrets/db_password]
    secrets: [db_password]
    volumes: ["pg:{DATA}"]
    deploy:
      labels: {json.dumps(labels)}
{more}
secrets:
  db_password: {{external: true, name: "${{STACK_NAME}}_db_password_v1"}}
volumes: {{data: {{}}, inner: {{}}, fixed: {{}}, once: {{}}, pg: {{}}, late: {{}}}}
"""


ONCE = f"""
  prepare:
    image: {IMAGE}
    command: ["sh", "-c", "echo ready > /once/ready"]
    volumes: ["once:/once"]
    deploy: {{restart_policy: {{condition: none}}, labels: ["backupbot.backup=true"]}}
"""
RUN = "exec postgres-start postgres"
EVERYWHERE = '"data:/srv", "data:/again", "inner:/srv/inner", "fixed:/fixed"'
# It takes a while until the renamed database answers, long after the page does.
RELEASES = {
    OLD: compose(OLD, "db", RUN, EVERYWHERE, ONCE),
    NEW: compose(NEW, "postgres", f"sleep 20; {RUN}", EVERYWHERE.replace("/fixed", "/fixed:ro") + ', "late:/late"', ONCE),
}
#: From then on every connection is warned on standard error, as after a move to another C library.
WARNED = "UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'app'"
HOOKS = f"""
import time

def before_upgrade(app):
    while app.exec("db", "pg_isready", "-q", "-U", "app", "-d", "app").status != 0:
        time.sleep(1)
    for statement in ("CREATE TABLE notes AS SELECT 1 AS n UNION SELECT 2", {WARNED!r}, "SELECT 1"):
        said = app.exec("db", "psql", "-qX", "-U", "app", "-d", "app", "-c", statement)
    assert "WARNING" in said.output, said.output
"""


@pytest.fixture(scope="module")
def upgraded(engine: SwarmEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The verdict of the newer release, upgraded from the older one."""
    images.build([POSTGRES])
    with installed(engine, tmp_path_factory.mktemp("databases")) as made:
        recipe = f"pg-{secrets.token_hex(4)}"
        sample = "TYPE=pg\nDOMAIN=pg.example.com\nSECRET_DB_PASSWORD_VERSION=v1\n"
        make_recipe(made.root / recipe, {tag: {"compose.yml": text, ".env.sample": sample} for tag, text in RELEASES.items()})
        folder = made.enrol(recipe, f'upstream = "{made.root}/{recipe}"\n{HEALTH}')
        (folder / "hooks.py").write_text(HOOKS)
        made.canonq("sync", recipe)
        ended = made.canonq("test", recipe, "--json", timeout=1800)
        (path,) = (made.state / "runs" / recipe).glob("*/run.json")
        verdict = dict(json.loads(path.read_text()))
        assert verdict["base"] == OLD, ended.err
        yield verdict


def captured(verdict: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the backup took, by its path in the container."""
    facts = json.loads((Path(verdict["directory"]) / "backup" / "facts.json").read_text())
    return {part["path"]: part for part in facts["backup"]["captured"]}


def test_data_is_found_in_a_renamed_slow_and_warning_database_and_wherever_volumes_are_mounted(upgraded: dict[str, Any]) -> None:
    assert upgraded["verdict"] == "green", upgraded["detail"]
    assert {tier: upgraded["tiers"][tier]["status"] for tier in ("upgrade", "backup", "restore")} == dict.fromkeys(
        ("upgrade", "backup", "restore"), "pass"
    )
    assert not [gap for gap in upgraded["gaps"] if gap.startswith(("no-marker", "no-census"))]
    assert upgraded["census"]["postgres.notes"] == 2, "counted by its new name, after the upgrade and after the restore"


def test_a_dump_that_cannot_be_looked_into_is_left_to_the_restore_and_told(upgraded: dict[str, Any]) -> None:
    parts = captured(upgraded)
    assert parts[f"{DATA}/dump.sql.bz2"]["closed"]
    assert not parts[f"{DATA}/pgdata/postgresql.conf"]["expected_marks"], "one of the paths is enough"
    assert any("was left to the restore to prove" in note and "bzip2" in note for note in upgraded["notes"])


def test_each_volume_is_proven_wherever_it_is_mounted_also_what_the_release_has_added(upgraded: dict[str, Any]) -> None:
    found = {part["volume"]: part for part in captured(upgraded).values() if part["whole"]}
    assert set(found) == {"data", "inner", "fixed", "late", "once"}
    for part in found.values():
        assert part["marks"] == part["expected_marks"] != []
