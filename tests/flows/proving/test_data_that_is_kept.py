"""Whole runs without Docker: what is there before and not after, by kind of data."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from canonq.adapters.files import remove_tree
from canonq.core.deployable import Deployable
from canonq.flows.promote import promote
from canonq.flows.test import test_tag as prove_tag
from canonq.ports import Ended
from tests.flows.sites import BASE, TARGET, Docker, Site, but_the_mark, elsewhere, files, fills, holds


def test_a_release_that_empties_a_table_is_red_with_its_name_and_count_though_every_mark_is_there(site: Site) -> None:
    site.engine.starts = {BASE: holds(posts=5, users=1), TARGET: holds(posts=0, users=1)}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-lost", "recipe"), verdict.detail
    assert "the table posts of db is empty; it had 5 rows" in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"


@pytest.mark.long
def test_each_server_of_a_container_that_gets_no_mark_is_a_gap_but_for_what_may_be_a_cache(site: Site) -> None:
    def shell(words: list[str]) -> Ended:
        return Ended(0, "redis-server\nmongod\nmariadbd\n") if "/proc/" in words[2] else Ended(127, "not found")

    site.engine.programs["sh"] = shell
    verdict = prove_tag(site.prepare(), "site", None)
    assert verdict.verdict == "green", verdict.detail
    told = [gap for gap in verdict.gaps if gap.startswith("no-marker")]
    assert told == ["no-marker: app (mariadb)", "no-marker: app (mongodb)"]


@pytest.mark.long
def test_what_may_get_smaller_or_go_is_declared_and_a_name_that_is_nothing_is_told(site: Site) -> None:
    site.engine.starts = {BASE: holds(posts=5, sessions=9, jobs=3), TARGET: holds(posts=5, sessions=1)}
    declared = "[data]\nvolatile = {'db.jobs' = 'done by then'}\nshrink = {'db.sessions' = 'purged'}\n"
    verdict = prove_tag(site.prepare(toml=declared), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert (verdict.census["db.posts"], verdict.census["db.sessions"], verdict.stale) == (5, 1, ())
    assert "db.jobs" not in verdict.census, "it is there no more"
    assert "db.jobs" in verdict.known_names, "what may go was seen before it went"
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(toml.read_text().replace("db.sessions", "db.session"))
    site.engine.starts = dict.fromkeys((BASE, TARGET), holds(posts=5))
    wrong = prove_tag(site.world, "site", None)
    assert (wrong.verdict, wrong.reason, wrong.fault) == ("red", "data-name-unknown", "enrolment"), wrong.detail
    assert "[data] shrink names 'db.session', which nothing in this run was; is it db.sessions" in wrong.detail
    assert "db.jobs" not in wrong.detail, "an earlier run has seen it"
    assert [one for one in wrong.stale if "db.jobs" in one] == [
        "[data] volatile names 'db.jobs', which is gone: earlier releases had it, and nothing in this run did"
    ]
    remove_tree(Path(verdict.directory))
    toml.write_text(toml.read_text().replace("db.session'", "db.posts'"))
    later = prove_tag(site.world, "site", None)
    assert later.verdict == "green", "though the run that saw it go is no longer kept"
    assert "db.jobs" in later.known_names


@pytest.mark.parametrize(
    ("declared", "red"), [("files/thumbs", False), ("file/thumbs", True), ("db/thumbs", True), ("app:files/thumbs", True)]
)
def test_a_path_in_a_volume_in_which_nothing_was_yet_is_told_and_one_in_no_volume_is_red(
    site: Site, declared: str, *, red: bool
) -> None:
    verdict = prove_tag(site.prepare(own=None, toml=f"[data]\nvolatile = {{'{declared}' = 'made anew'}}\n"), "site", None)
    assert verdict.reason == ("data-name-unknown" if red else "proven"), verdict.detail
    (told,) = verdict.stale
    assert told.startswith(f"[data] volatile names '{declared}', which nothing in this run was")


@pytest.mark.long
def test_a_path_in_a_volume_in_which_nothing_was_yet_is_no_slip_that_hides_a_loss(site: Site) -> None:
    site.engine.starts = {BASE: holds(posts=5), TARGET: holds(posts=1)}
    verdict = prove_tag(site.prepare(own=None, toml="[data]\nvolatile = {'files/a' = 'made anew'}\n"), "site", None)
    assert (verdict.reason, verdict.fault) == ("data-lost", "recipe"), verdict.detail


@pytest.mark.long
@pytest.mark.parametrize("carries", [True, False])
def test_a_release_that_moves_to_a_server_is_green_where_the_rows_are_there_and_red_where_not(site: Site, carries: bool) -> None:
    def had(engine: Docker, stack: Deployable) -> None:
        but_the_mark(engine, stack)
        with contextlib.closing(sqlite3.connect(engine.place(stack.stack, "app", "/srv/files/app.db"))) as file:
            file.executescript("CREATE TABLE notes (text); INSERT INTO notes VALUES ('a'), ('b'), ('c');")

    def moves(engine: Docker, stack: Deployable) -> None:
        there = engine.place(stack.stack, "app", "/srv/files/app.db").exists()
        if not there:
            but_the_mark(engine, stack)
        holds(notes=3 if there and carries else 0)(engine, stack)

    site.engine.starts = {BASE: had, TARGET: moves}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    if carries:
        assert verdict.verdict == "green", verdict.detail
        assert "data-moved: what was in SQLite files of 'files' is in a database server now" in verdict.notes
    else:
        assert (verdict.verdict, verdict.reason) == ("red", "data-abandoned"), verdict.detail


def in_file(name: str, notes: int) -> Callable[[Docker, Deployable], None]:
    """What a release does at its start that has its notes in an SQLite file; `notes`: how many where it makes it anew."""

    def starts(engine: Docker, stack: Deployable) -> None:
        place = engine.place(stack.stack, "app", f"/srv/files/{name}")
        place.parent.mkdir(exist_ok=True)
        if not place.exists():
            with contextlib.closing(sqlite3.connect(place)) as file:
                file.executescript("CREATE TABLE notes (text);" + "INSERT INTO notes VALUES ('a');" * notes)

    return starts


@pytest.mark.long
def test_a_release_whose_sqlite_file_is_another_is_red_and_one_that_makes_none_is_a_gap(site: Site) -> None:
    site.engine.starts = {BASE: in_file("app.db", 3), TARGET: in_file("data/app.db", 0)}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-abandoned", "recipe"), verdict.detail
    assert "is still in app:app.db (notes: 3 rows), beside which it has begun app:data/app.db" in verdict.detail
    site.engine.starts[TARGET] = fills("a")
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert (
        f"in-use-unproven: app:app.db is as {BASE} has left it, and {TARGET} makes none where it is installed anew"
        in verdict.gaps
    )


@pytest.mark.long
def test_a_release_that_forgets_the_files_beside_the_mark_is_red_with_their_number(site: Site) -> None:
    site.engine.starts = {BASE: fills("a", "b", "c"), TARGET: but_the_mark}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the volume files is empty; it had 4 files with" in verdict.detail


@pytest.mark.long
def test_an_app_that_runs_a_database_server_beside_itself_has_files_of_its_own_all_the_same(site: Site) -> None:
    def runs_a_redis(words: list[str]) -> Ended:
        return Ended(0, "node\nredis-server\n") if "comm" in words else Ended(1, "", "NOAUTH Authentication required.")

    site.engine.programs["sh"] = runs_a_redis
    site.engine.starts = {BASE: fills("a", "b", "c"), TARGET: but_the_mark}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the volume files is empty; it had 4 files with" in verdict.detail


@pytest.mark.long
def test_a_server_that_nobody_can_ask_and_that_leaves_its_volume_is_red(site: Site) -> None:
    """How many files it has says nothing; that there are some does."""

    def merges(engine: Docker, stack: Deployable) -> None:
        for name in ("b", "c"):
            engine.place(stack.stack, "app", f"/srv/files/{name}").unlink(missing_ok=True)

    base = files(BASE)
    base["compose.yml"] = base["compose.yml"].replace("site:1.0", "clickhouse-server:1.0")
    site.engine.starts = {BASE: fills("a", "b", "c"), TARGET: merges}
    world = site.prepare(base=base, target=files(TARGET, image="clickhouse-server:1.1"), own=None)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    site.engine.starts[TARGET] = but_the_mark
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the volume files is empty; it had" in verdict.detail


@pytest.mark.long
def test_a_cache_that_is_emptied_with_its_mark_is_green_where_that_is_declared(site: Site) -> None:
    site.engine.starts = {BASE: fills("a", "b", "c"), TARGET: fills(gone=True)}
    toml = "[data]\nvolatile = {files = 'thumbnails, made anew'}\n"
    verdict = prove_tag(site.prepare(toml=toml, own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail


@pytest.mark.long
def test_a_restore_that_brings_back_less_than_there_was_is_red_though_the_mark_is_back(site: Site) -> None:
    site.engine.starts = dict.fromkeys((BASE, TARGET), holds(posts=5))

    def loads(words: list[str]) -> Ended:
        stack = min((path.name for path in (site.engine.folder / "stacks").glob("[!.]*")), key=len)  # not the fresh one
        rows = site.engine.place(stack, "db", "/var/lib/postgresql/rows")
        rows.write_text("".join(site.engine.place(stack, "db", words[1]).read_text().splitlines(keepends=True)[1:-1]))
        site.engine.place(stack, "db", "/var/lib/postgresql/tables.json").write_text("{}")
        return Ended(0, "")

    site.engine.programs["load"] = loads
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the postgres of db has lost its only table with data (posts: 5 rows)" in verdict.detail
    assert verdict.tiers["restore"].status == "fail"


@pytest.mark.long
def test_a_release_that_needs_a_volume_of_another_stack_is_red_where_there_is_none_and_told_by_lint(site: Site) -> None:
    sharing = files(TARGET)
    sharing["compose.yml"] = (
        sharing["compose.yml"]
        .replace('"files:/srv/files"', '"files:/srv/files", "shared:/shared"')
        .replace("volumes: {files: {}", "volumes: {shared: {external: true, name: media}, files: {}")
    )
    verdict = prove_tag(site.prepare(target=sharing), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "volume-missing", "recipe"), verdict.detail
    assert "docker volume create media" in verdict.detail
    assert site.engine.deployed == [], "that is known before anything is deployed"
    assert "(media, external)" in verdict.tiers["lint"].reason
    media = site.engine.make_volume("media", {}, "another")
    (media / "film").write_text("theirs")
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert [path.name for path in media.iterdir()] == ["film"], "nothing of it was touched"
    assert "(media, external)" in verdict.tiers["lint"].reason


def test_what_an_app_that_is_upgraded_will_lack_in_its_env_is_told_by_lint(site: Site) -> None:
    target = files(TARGET)
    takes = 'environment: ["CACHE=${CACHE_HOST}", "LEVEL=${LOG_LEVEL:-info}", "HOME=${DOMAIN}"]'
    target["compose.yml"] = target["compose.yml"].replace(
        "    secrets: [password]\n", f"    secrets: [password]\n    {takes}\n", 1
    )
    target[".env.sample"] += "CACHE_HOST=redis\nLOG_LEVEL=info\n"
    verdict = prove_tag(site.prepare(target=target), "site", None)
    assert verdict.verdict == "green", verdict.detail
    told = verdict.tiers["lint"].reason
    assert told.count("An app that is upgraded keeps its .env") == 1, told
    assert "services.app.environment" in told
    assert "has no CACHE_HOST: it gets nothing there" in told


def test_a_database_that_no_label_covers_is_red(site: Site) -> None:
    target = files(TARGET)
    target["compose.yml"] = target["compose.yml"].replace('backupbot.backup: "true"', 'backupbot.backup: "false"')

    def has_a_picture(engine: Docker, stack: Deployable) -> None:
        engine.place(stack.stack, "app", "/srv/files/logo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")

    site.engine.starts = dict.fromkeys((BASE, TARGET), has_a_picture)
    verdict = prove_tag(site.prepare(target=target), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "not-backed-up", "db"), verdict.detail


@pytest.mark.long
def test_an_sqlite_file_that_is_open_is_marked_and_counted(site: Site) -> None:
    kept: list[sqlite3.Connection] = []

    def begins(engine: Docker, stack: Deployable) -> None:
        path = engine.place(stack.stack, "app", "/srv/files/app.db")
        kept.append(sqlite3.connect(path, check_same_thread=False))
        kept[-1].executescript("CREATE TABLE IF NOT EXISTS channels (name); INSERT INTO channels VALUES ('a'), ('b'), ('c');")

    def forgets(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        kept[-1].executescript("DELETE FROM channels;")

    site.engine.starts = {BASE: begins, TARGET: forgets}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "data-lost"), verdict.detail
    assert "the table channels of app:app.db is empty; it had 3 rows" in verdict.detail
    site.engine.starts = {BASE: begins, TARGET: begins}
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    markers = json.loads((Path(verdict.directory) / "restore" / "facts.json").read_text())["markers"]
    assert [marker["place"].partition("/")[2] for marker in markers if marker["kind"] == "sqlite"] == ["app.db"]


@pytest.mark.long
def test_a_release_that_looks_at_the_old_data_no_more_is_red_though_all_of_it_is_there(site: Site) -> None:
    site.engine.starts = {BASE: fills("notes.txt"), TARGET: elsewhere}
    own = "def test_notes_are_shown(app):\n    assert app.version == '1.0.0+1.0', 'there are none'\n"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-abandoned", "recipe"), verdict.detail
    assert verdict.tiers["functional"].status == "fail", "that is what comes of it"
    assert "1.1.0+1.1 leaves 'files' (2 there) empty where it is installed anew" in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"
    assert site.left() == {}


@pytest.mark.long
def test_the_same_is_seen_where_the_base_is_the_canonical_by_what_its_own_run_has_counted(site: Site) -> None:
    site.engine.starts = {BASE: fills("notes.txt"), TARGET: elsewhere}
    world = site.prepare()
    first = prove_tag(world, "site", BASE)
    assert (first.verdict, first.first_start["files"]) == ("green", 2)
    assert promote(site.world, "site").outcome == "promoted"
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.reason, verdict.base_from) == ("data-abandoned", "canonical"), verdict.detail
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"{toml.read_text()}[data]\nvolatile = {{files = 'moved into the database'}}\n")
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
