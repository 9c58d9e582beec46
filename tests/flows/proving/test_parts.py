"""Backups whose labels name parts of a volume: what is in none of them, and what does not come back of one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from canonq.core.deployable import Deployable
from canonq.flows.proving import marking
from canonq.flows.test import test_tag as prove_tag
from canonq.ports import Ended
from canonq.tiers.facts import TierFacts
from tests.flows.sites import BASE, TARGET, Docker, Site, files

pytestmark = pytest.mark.long

OPEN: list[sqlite3.Connection] = []


def begins(engine: Docker, stack: Deployable) -> None:
    """An app with an SQLite file that it keeps open, with mail and with settings."""
    for name in ("mail/a", "mail/b", "settings/app.ini"):
        place = engine.place(stack.stack, "app", f"/srv/files/{name}")
        place.parent.mkdir(exist_ok=True)
        place.write_text(name)
    OPEN.append(sqlite3.connect(engine.place(stack.stack, "app", "/srv/files/app.db"), check_same_thread=False))
    OPEN[-1].executescript("CREATE TABLE IF NOT EXISTS notes (a); INSERT INTO notes VALUES (1);")


def labelled(site: Site, path: str, *labels: str) -> dict[str, str]:
    """The release, whose label names a part of the app's volume."""
    site.engine.starts = dict.fromkeys((BASE, TARGET), begins)
    more = [f"backupbot.backup.volumes.files.path={path}", *labels]
    release = files(TARGET)
    old = '        - "backupbot.backup=true"\n'
    release["compose.yml"] = release["compose.yml"].replace(old, old + "".join(f'        - "{label}"\n' for label in more))
    return release


def test_data_that_is_in_no_part_is_not_backed_up_though_something_is_saved(site: Site) -> None:
    def has_a_picture(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        (place := engine.place(stack.stack, "app", "/srv/files/settings/logo.png")).write_bytes(b"\x89PNG\r\n\x1a\n\0")
        os.utime(place, (0, 0))

    target = labelled(site, "settings")
    site.engine.starts = dict.fromkeys((BASE, TARGET), has_a_picture)
    verdict = prove_tag(site.prepare(target=target, own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "not-backed-up", "recipe"), verdict.detail
    assert "No backup has the data of app:app.db." in verdict.detail


@pytest.mark.parametrize(
    ("label", "expected"),
    [("", ("red", "not-backed-up")), ('        - "backupbot.backup=false"\n', ("green", "proven"))],
    ids=["nothing-said", "left-out-by-name"],
)
def test_a_database_in_a_volume_that_no_label_names_is_not_backed_up(site: Site, label: str, expected: tuple[str, str]) -> None:
    target = files(TARGET)
    target["compose.yml"] = target["compose.yml"].replace('        - "backupbot.backup=true"\n', label)
    site.engine.starts = dict.fromkeys((BASE, TARGET), begins)
    verdict = prove_tag(site.prepare(target=target, own=None), "site", None)
    assert (verdict.verdict, verdict.reason) == expected, verdict.detail
    assert ("No backup has the data of app:app.db." in verdict.detail) == (verdict.verdict == "red")


def test_a_database_that_is_open_for_each_request_alone_is_known_by_what_use_writes_into_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins_and_closes(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        OPEN.pop().close()

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        with contextlib.closing(sqlite3.connect(site.engine.place(facts.stack, "app", "/srv/files/app.db"))) as file, file:
            file.execute("INSERT INTO notes VALUES (2)")

    world = site.prepare(target=labelled(site, "settings"), own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    site.engine.starts = dict.fromkeys((BASE, TARGET), begins_and_closes)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "not-backed-up", "recipe"), verdict.detail
    assert "No backup has the data of app:app.db." in verdict.detail


def test_a_database_that_nobody_has_open_and_nobody_uses_is_a_gap_by_its_name(site: Site) -> None:
    def begins_and_closes(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        OPEN.pop().close()

    world = site.prepare(own=None)
    site.engine.starts = dict.fromkeys((BASE, TARGET), begins_and_closes)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert "no-marker: app:app.db (sqlite)" in verdict.gaps


def test_a_part_with_the_data_and_a_mark_of_its_own_is_green(site: Site) -> None:
    def has_sessions(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        OPEN.append(sqlite3.connect(engine.place(stack.stack, "app", "/srv/files/sessions.db"), check_same_thread=False))
        OPEN[-1].executescript("CREATE TABLE IF NOT EXISTS sess (a); INSERT INTO sess VALUES (1);")

    target = labelled(site, "app.db, mail, settings")
    site.engine.starts = dict.fromkeys((BASE, TARGET), has_sessions)
    verdict = prove_tag(site.prepare(target=target, own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert "not-backed-up: no backup has app:sessions.db, which by its name, or its tables', is of the moment" in verdict.notes
    marked = json.loads((Path(verdict.directory) / "restore" / "facts.json").read_text())["markers"]
    assert sorted(one["place"].partition("/")[2] for one in marked if one["kind"] == "part") == ["mail", "settings"]


def copied(site: Site, source: str, target: str) -> Callable[[list[str]], Ended]:
    """A program that copies one SQLite file of the stack that it is run in over another."""

    def copies(words: list[str]) -> Ended:
        one, other = (site.engine.place(site.engine.asked[-1], "app", f"/srv/files/{name}") for name in (source, target))
        with contextlib.closing(sqlite3.connect(one)) as whole, contextlib.closing(sqlite3.connect(other)) as copy:
            whole.backup(copy)
        return Ended(0, "")

    return copies


COPIES, BACK = "backupbot.backup.pre-hook=copies", "backupbot.restore.post-hook=puts-back"


def test_a_copy_that_a_hook_makes_of_the_database_and_another_puts_back_is_as_good(site: Site) -> None:
    site.engine.programs |= {"copies": copied(site, "app.db", "copy.db"), "puts-back": copied(site, "copy.db", "app.db")}
    verdict = prove_tag(site.prepare(target=labelled(site, "copy.db", COPIES, BACK), own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail
    said = "backup-partly: of the volume 'files' the backup has '/srv/files/copy.db', 1 of"
    assert [gap for gap in verdict.gaps if gap.startswith(said)]


def test_a_copy_of_the_database_that_nothing_puts_back_is_red(site: Site) -> None:
    site.engine.programs["copies"] = copied(site, "app.db", "copy.db")
    verdict = prove_tag(site.prepare(target=labelled(site, "copy.db", COPIES), own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "restore-failed", "recipe"), verdict.detail
    assert "files/app.db (the file has it no more)" in verdict.detail, "the copy itself has it still"


@pytest.mark.parametrize("has_it", [True, False])
def test_whether_a_database_is_in_what_nobody_can_look_into_is_told_by_the_restore(site: Site, has_it: bool) -> None:
    def place(name: str) -> Path:
        return site.engine.place(site.engine.asked[-1], "app", f"/srv/files/{name}")

    def packs(_: list[str]) -> Ended:
        copied(site, "app.db", "copy.db")([])
        place("saved").write_bytes(_closed(place("copy.db").read_bytes()) if has_it else b"\x8f\x02" * 2000)
        place("copy.db").unlink()
        return Ended(0, "")

    def unpacks(_: list[str]) -> Ended:
        if has_it:
            place("copy.db").write_bytes(_closed(place("saved").read_bytes()))
            copied(site, "copy.db", "app.db")([])
        return Ended(0, "")

    site.engine.programs |= {"copies": packs, "puts-back": unpacks}
    verdict = prove_tag(site.prepare(target=labelled(site, "saved", COPIES, BACK), own=None), "site", None)
    assert (verdict.verdict, verdict.reason) == (("green", "proven") if has_it else ("red", "restore-failed")), verdict.detail
    closed = "canonq cannot look into it, as 'saved is no text' ('/srv/files/saved' of 'app')"
    assert f"whether a backup holds the data of app:app.db was left to the restore to prove: {closed}" in verdict.notes
    if not has_it:
        assert "The restore did not bring back the data of app:app.db: no part of the backup has it" in verdict.detail
        assert closed in verdict.detail
        assert "[data] volatile" in verdict.detail


def _closed(content: bytes) -> bytes:
    """The same in a way that only its maker knows, and back."""
    return bytes(byte ^ 0xA5 for byte in content)


def test_a_hook_that_fails_is_told_before_what_it_had_to_save(site: Site) -> None:
    site.engine.programs["copies"] = lambda words: Ended(127, "copies: not found")
    verdict = prove_tag(site.prepare(target=labelled(site, "settings", COPIES), own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "backup-failed", "recipe"), verdict.detail
    assert "backupbot.backup.pre-hook of 'app' exited with 127: copies: not found" in verdict.detail


def test_a_part_with_most_of_the_files_and_few_of_the_bytes_is_told(site: Site) -> None:
    def keeps_blobs(engine: Docker, stack: Deployable) -> None:
        for name, size in [*((f"index/{number}", 10) for number in range(9)), ("blobs/a", 20_000), ("blobs/b", 20_000)]:
            place = engine.place(stack.stack, "app", f"/srv/files/{name}")
            place.parent.mkdir(exist_ok=True)
            place.write_text("x" * size)

    target = labelled(site, "index")
    site.engine.starts = dict.fromkeys((BASE, TARGET), keeps_blobs)
    verdict = prove_tag(site.prepare(target=target, own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail
    (told,) = (gap for gap in verdict.gaps if gap.startswith("backup-partly: "))
    assert "of the volume 'files' the backup has '/srv/files/index', " in told
    assert "bytes; that the rest need not come back is not proven" in told


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("app:logs.db", ("green", "proven", None)),
        ("app:app.db", ("red", "data-lost", "recipe")),
        ("app:files/logs.db", ("red", "data-name-unknown", "enrolment")),
    ],
)
def test_an_sqlite_file_that_may_go_is_not_missed_and_another_is(
    site: Site, declared: str, expected: tuple[str, str, str | None]
) -> None:
    def has_logs(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        OPEN.append(sqlite3.connect(engine.place(stack.stack, "app", "/srv/files/logs.db"), check_same_thread=False))
        OPEN[-1].executescript("CREATE TABLE IF NOT EXISTS lines (a); INSERT INTO lines VALUES (1);")

    def drops_logs(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        engine.place(stack.stack, "app", "/srv/files/logs.db").unlink(missing_ok=True)

    site.engine.starts = {BASE: has_logs, TARGET: drops_logs}
    toml = f"[data]\nvolatile = {{'{declared}' = 'kept elsewhere now'}}\n"
    verdict = prove_tag(site.prepare(own=None, toml=toml), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == expected, verdict.detail
    if verdict.reason == "data-name-unknown":
        assert "'app:files/logs.db', which nothing is or was; is it 'app:logs.db'?" in verdict.detail
        assert "Less is there than before" in verdict.detail


def test_a_part_that_does_not_come_back_is_red(site: Site) -> None:
    def wipes(words: list[str]) -> Ended:
        # Of the one that is backed up: nobody backs the fresh install up.
        for stack in (path.name for path in (site.engine.folder / "stacks").glob("[!.]*") if not path.name.endswith("-fresh")):
            shutil.rmtree(site.engine.place(stack, "app", "/srv/files/mail"))
        return Ended(0, "")

    site.engine.programs["wipes"] = wipes
    target = labelled(site, "app.db, mail", "backupbot.restore.post-hook=wipes")
    verdict = prove_tag(site.prepare(target=target, own=None), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "restore-failed"), verdict.detail
    assert "/mail, which the backup names (there is no such file)" in verdict.detail


@pytest.mark.parametrize("is_put_back", [True, False])
def test_files_that_a_hook_copies_have_to_be_put_back_by_another(
    site: Site, monkeypatch: pytest.MonkeyPatch, is_put_back: bool
) -> None:
    def place(stack: str, name: str) -> Path:
        return site.engine.place(stack, "app", f"/srv/files/{name}")

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        place(facts.stack, "pages").mkdir(exist_ok=True)
        place(facts.stack, "pages/home.txt").write_text("what somebody wrote")

    def copies(source: str, target: str) -> Callable[[list[str]], Ended]:
        def program(words: list[str]) -> Ended:
            shutil.copytree(place(site.engine.asked[-1], source), place(site.engine.asked[-1], target), dirs_exist_ok=True)
            return Ended(0, "")

        return program

    site.engine.programs |= {"copies": copies("pages", "saved"), "puts-back": copies("saved", "pages")}
    target = labelled(site, "app.db, mail, settings, saved", COPIES, *([BACK] if is_put_back else []))
    world = site.prepare(target=target, own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", None)
    if is_put_back:
        assert verdict.verdict == "green", verdict.detail
    else:
        assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "restore-failed", "recipe"), verdict.detail
        assert "did not bring back 'pages/home.txt' of the volume files (19 bytes): a hook copies it" in verdict.detail


@pytest.mark.parametrize("where", ["mail", "mail/{domain}"])
def test_what_an_app_has_twice_by_itself_need_not_be_put_back_by_a_hook(
    site: Site, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        other = where.format(domain=facts.domain)
        for name in ("pages/home.txt", f"{other}/home.txt", "pages/.keep", f"{other}/.keep"):
            place = site.engine.place(facts.stack, "app", f"/srv/files/{name}")
            place.parent.mkdir(exist_ok=True, parents=True)
            place.write_text("" if name.endswith(".keep") else "what somebody wrote")
            os.utime(place, (1, 1))

    site.engine.programs["copies"] = lambda words: Ended(0, "")
    world = site.prepare(target=labelled(site, "app.db, mail, settings", COPIES), own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail


def test_a_copy_that_nothing_puts_back_is_red_also_where_a_death_interrupts_the_restore(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        (place := site.engine.place(facts.stack, "app", "/srv/files/pages/home.txt")).parent.mkdir(exist_ok=True)
        place.write_text("what somebody wrote")

    def copies(words: list[str]) -> Ended:
        of, to = (site.engine.place(site.engine.asked[-1], "app", f"/srv/files/{name}") for name in ("pages", "saved"))
        shutil.copytree(of, to, dirs_exist_ok=True)
        return Ended(0, "")

    def dies(words: list[str]) -> Ended:
        if not site.engine.dead:
            site.engine.dies(site.engine.asked[-1], "app")
        return Ended(0, "")

    site.engine.programs |= {"copies": copies, "puts-back": dies}
    world = site.prepare(target=labelled(site, "app.db, mail, settings, saved", COPIES, BACK), own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "restore-failed", "recipe"), verdict.detail
    assert "did not bring back 'pages/home.txt' of the volume files" in verdict.detail
    assert [note for note in verdict.notes if note.startswith("interrupted: ")]


def test_a_copy_that_nothing_puts_back_is_red_also_where_a_death_has_the_backup_taken_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        (place := site.engine.place(facts.stack, "app", "/srv/files/pages/home.txt")).parent.mkdir(exist_ok=True)
        place.write_text("what somebody wrote")
        os.utime(place, (1, 1))

    def copies(words: list[str]) -> Ended:
        of, to = (site.engine.place(site.engine.asked[-1], "app", f"/srv/files/{name}") for name in ("pages", "saved"))
        if to.exists():
            return Ended(0, "")
        shutil.copytree(of, to)
        site.engine.dies(site.engine.asked[-1], "app")
        return Ended(1, "it was killed")

    site.engine.programs["copies"] = copies
    world = site.prepare(target=labelled(site, "app.db, mail, settings, saved", COPIES), own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "restore-failed", "recipe"), verdict.detail
    assert "did not bring back 'pages/home.txt' of the volume files" in verdict.detail
    assert [note for note in verdict.notes if note.startswith("interrupted: ")]


def test_a_first_release_whose_hook_copies_a_database_that_nobody_has_open_has_begun_none_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begins_and_closes(engine: Docker, stack: Deployable) -> None:
        begins(engine, stack)
        OPEN.pop().close()

    site.engine.programs |= {"copies": copied(site, "app.db", "copy.db"), "puts-back": copied(site, "copy.db", "app.db")}
    labels = [f'        - "{label}"\n' for label in (COPIES, BACK)]
    old, first = '        - "backupbot.backup=true"\n', files(BASE)
    first["compose.yml"] = first["compose.yml"].replace(old, old + "".join(labels))
    site.engine.starts = dict.fromkeys((BASE, TARGET), begins_and_closes)
    verdict = prove_tag(site.prepare(base=first, own=None), "site", BASE)
    assert verdict.verdict == "green", verdict.detail


def uses_a_database_that_nobody_can_read(site: Site) -> Callable[..., None]:
    """A hook that has the app make a LevelDB, as the app's users do."""

    def hook(_: Path, function: str, facts: TierFacts, *__: Any) -> None:
        assert function == "after_install"
        for name, size in (("CURRENT", 16), ("MANIFEST-000002", 60), ("000003.log", 5000)):
            place = site.engine.place(facts.stack, "app", f"/srv/files/db/garden/{name}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("x" * size)

    return hook


@pytest.mark.parametrize(
    ("path", "labels", "reason"),
    [
        ("app.db, mail, settings", (), "not-backed-up"),
        ("app.db, mail, settings, db", (), "proven"),
        ("app.db, mail, settings, saved", (COPIES,), "proven"),  # in its own way, which nobody can look into
    ],
)
def test_a_database_that_cannot_be_read_has_to_be_in_a_part_or_in_what_a_hook_made(
    site: Site, monkeypatch: pytest.MonkeyPatch, path: str, labels: tuple[str, ...], reason: str
) -> None:
    def copies(_: list[str]) -> Ended:
        saved = bytes(16) + b"\xed\xda\x0c\xed" + bytes(2000)  # as bolt's files begin
        site.engine.place(site.engine.asked[-1], "app", "/srv/files/saved").write_bytes(saved)
        return Ended(0, "")

    site.engine.programs["copies"] = copies
    world = site.prepare(target=labelled(site, path, *labels), own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_install(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", uses_a_database_that_nobody_can_read(site))
    verdict = prove_tag(world, "site", None)
    assert verdict.reason == reason, verdict.detail
    if reason == "not-backed-up":
        assert "No backup has what was put into the app: 'db/garden' of the volume files (5076 bytes)." in verdict.detail
    unsure = [gap for gap in verdict.gaps if gap.startswith("backup-unproven: whether ")]
    assert bool(unsure) == bool(labels), verdict.gaps
