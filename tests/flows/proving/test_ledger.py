"""What a promotion does with the stack that it has brought up: its own tests, first content, and marks for the runs after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.data import markerfile
from canonq.core.deployable import Deployable
from canonq.core.records import Canonical
from canonq.core.stack.ledger import MOST, LedgerMark, continued, named, wanted
from canonq.flows.promote import promote
from canonq.flows.promoting.rollback import rollback
from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import BASE, OWN, TARGET, Docker, Site

FILES_AND_ROWS = [("database", "db"), ("file", "files"), ("file", "rows")]


def first_canonical(site: Site, **prepared: Any) -> Canonical:
    world = site.prepare(**prepared)
    verdict = prove_tag(world, "site", BASE)
    assert verdict.verdict == "green", verdict.detail
    promoted = promote(site.world, "site")
    assert promoted.outcome == "promoted", promoted.detail
    return on_record(site)


def on_record(site: Site) -> Canonical:
    record = site.world.registry.read("site")
    assert record is not None
    return record


def volume(site: Site, record: Canonical, key: str) -> Path:
    folder = site.engine.volume_path(next(name for name in record.volumes if f"_{key}." in name))
    assert folder is not None
    return folder


def places(marks: list[LedgerMark], version: str) -> list[tuple[str, str]]:
    return sorted((mark.kind, mark.place) for mark in marks if mark.version == version)


def forgets_the_ledger(engine: Docker, stack: Deployable) -> None:
    """What a release does that throws away what was there for long."""
    engine.place(stack.stack, "app", f"/srv/files/{markerfile.LEDGER}").unlink(missing_ok=True)


POPULATE = """
from pathlib import Path
def populate(app):
    with Path({volumes!r}, app.facts.volumes["files"], "_data", "page").open("a") as page:
        page.write(f"by hand at {{app.version}}\\n")
"""


@pytest.mark.long
def test_each_promotion_leaves_marks_and_the_first_is_filled_and_what_comes_after_carries_them_on(site: Site) -> None:
    world = site.prepare(own="def test_it(app):\n    assert True\n")
    hooks = site.root / "checkout" / "tests" / "site" / "hooks.py"
    hooks.write_text(POPULATE.format(volumes=str(site.root / "docker" / "volumes")))
    assert prove_tag(world, "site", BASE).verdict == "green"
    done = promote(site.world, "site")
    assert done.outcome == "promoted", done.detail
    assert any(note.startswith("populated: ") for note in done.notes)
    assert done.data == "a clean install, filled by populate of hooks.py"
    assert f"its data is {done.data}." in done.detail
    first = on_record(site)
    assert places(first.ledger, BASE) == FILES_AND_ROWS
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    carried = promote(site.world, "site")
    assert (carried.outcome, carried.data) == ("promoted", f"carried from {BASE}")
    second = on_record(site)
    assert first.populated == second.populated == BASE
    assert places(second.ledger, BASE) == places(second.ledger, TARGET) == FILES_AND_ROWS
    assert len(markerfile.entered(volume(site, second, "files"))) == 2
    assert (volume(site, second, "files") / "page").read_text() == f"by hand at {BASE}\n", "once, and carried on"
    assert verdict.census["files"] == 2, "a ledger is none of the app's files"
    rollback(site.world, "site", to=None, reason="it lost mail", who="ada")
    back = on_record(site)
    assert back.ledger == first.ledger, "what is in its own data"
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail


def needs_what_is_filled_in(site: Site) -> None:
    """Have the site enrolled, with a test of its own that needs what `fill` makes."""
    made = str(site.root / "made")
    site.prepare(own=f"from pathlib import Path\ndef test_it(app):\n    assert Path({made!r}).exists()\n")


def hooked(site: Site, hooks: str) -> None:
    """Its hooks.py, in which there is `fill`."""
    fill = f"from pathlib import Path\ndef fill(app):\n    Path({str(site.root / 'made')!r}).touch()\n"
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text(f"{fill}\n{hooks}")


def test_tests_that_need_what_a_hook_of_a_run_makes_do_not_fail_a_promotion_that_calls_none_and_this_is_told(site: Site) -> None:
    needs_what_is_filled_in(site)
    hooked(site, "after_install = fill\n")
    assert prove_tag(site.world, "site", BASE).verdict == "green"
    (site.root / "made").unlink()
    done = promote(site.world, "site")
    assert done.outcome == "promoted", done.detail
    (note,) = (note for note in done.notes if note.startswith("promotion-untested: "))
    assert "after_install of hooks.py" in note
    (site.root / "checkout" / "tests" / "site" / "test_site.py").unlink()
    assert prove_tag(site.world, "site", None).verdict == "green"
    done = promote(site.world, "site")
    assert done.outcome == "promoted", done.detail
    assert not any(note.startswith("promotion-untested: ") for note in done.notes), "there are none"


@pytest.mark.long
def test_tests_that_need_what_the_first_canonical_is_filled_with_are_run_on_it_and_on_what_carries_it_on(site: Site) -> None:
    """One function is `after_install` of the runs and `populate` of the first canonical."""
    needs_what_is_filled_in(site)
    hooked(site, "after_install = populate = fill\n")
    assert prove_tag(site.world, "site", BASE).verdict == "green"
    (site.root / "made").unlink()
    first = promote(site.world, "site")
    assert first.outcome == "promoted", first.detail
    assert not any(note.startswith("promotion-untested") for note in first.notes)
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"{toml.read_text()}# neither hook nor test\n")
    assert prove_tag(site.world, "site", None).verdict == "green"
    (site.root / "made").unlink()
    refused = promote(site.world, "site")
    assert (refused.outcome, refused.cause) == ("failed", "functional-failed"), refused.detail


@pytest.mark.long
def test_what_an_earlier_populate_filled_a_canonical_with_is_not_held_against_a_release(site: Site) -> None:
    """Whoever follows the advice of the note `promotion-untested` has a canonical that was filled before."""
    needs_what_is_filled_in(site)
    hooked(site, "after_install = fill\n\ndef populate(app): ...\n")
    assert prove_tag(site.world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    assert (on_record(site).populated, on_record(site).populated_for) == (BASE, None)
    hooked(site, "after_install = populate = fill\n")
    assert prove_tag(site.world, "site", None).verdict == "green"
    (site.root / "made").unlink()
    done = promote(site.world, "site")
    assert done.outcome == "promoted", done.detail
    (note,) = (note for note in done.notes if note.startswith("promotion-untested: "))
    assert f"not held against {TARGET}: what the canonical was filled with at {BASE}" in note


@pytest.mark.long
def test_a_release_that_loses_what_earlier_promotions_left_is_red_and_names_it(site: Site) -> None:
    first_canonical(site)
    site.engine.starts = {TARGET: forgets_the_ledger}
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "data-lost", "recipe"), verdict.detail
    assert f"what the promotion of {BASE} left in the volume files" in verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"
    toml = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text(f"{toml.read_text()}[data]\nvolatile = {{files = 'made anew'}}\n")
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green", verdict.detail


@pytest.mark.long
@pytest.mark.parametrize("quick", [False, True])
def test_a_canonical_whose_data_somebody_changed_is_an_error_of_the_hosts_and_no_red(site: Site, quick: bool) -> None:
    record = first_canonical(site)
    (volume(site, record, "rows") / "ledger").write_text("")
    verdict = prove_tag(site.world, "site", BASE if quick else None, quick=quick)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "data-lost", "host"), verdict.detail
    assert f"lacks what the promotion of {BASE} left in the postgres of db" in verdict.detail
    assert f"canonq rollback site --to '{BASE}'" in verdict.detail


def at_the_warm_domain(does: Any) -> Any:
    """What a release does where it is promoted, and not in its run."""
    return lambda engine, stack: does(engine, stack) if stack.stack.startswith("warm-") else None


def test_a_promotion_that_loses_earlier_marks_fails_and_the_old_canonical_is_whole(site: Site) -> None:
    record = first_canonical(site)
    site.engine.starts = {TARGET: at_the_warm_domain(forgets_the_ledger)}
    assert prove_tag(site.world, "site", None).verdict == "green"
    done = promote(site.world, "site")
    assert (done.outcome, done.reason, done.cause, done.fault) == ("failed", "promote-failed", "data-lost", "recipe")
    assert f"has lost what the promotion of {BASE} left in the volume files" in done.detail
    assert on_record(site) == record
    assert site.left() == {"volumes": sorted(record.volumes)}


def test_own_tests_that_fail_on_the_promoted_stack_fail_the_promotion_and_the_old_canonical_is_whole(site: Site) -> None:
    tests = f"def test_it(app):\n    assert not (app.facts.stack == 'warm-site' and app.version == {TARGET!r}), 'no such page'\n"
    record = first_canonical(site, own=tests)
    verdict = prove_tag(site.world, "site", None)
    assert verdict.verdict == "green"
    done = promote(site.world, "site")
    assert (done.outcome, done.reason, done.cause, done.fault) == ("failed", "promote-failed", "functional-failed", "recipe")
    assert "test_it: no such page" in done.detail
    assert on_record(site) == record
    assert site.left() == {"volumes": sorted(record.volumes)}
    assert (Path(verdict.directory) / "promotion" / "functional").is_dir(), "what they printed is beside the run's"


def test_a_populate_that_breaks_is_the_enrolments_and_nothing_is_promoted(site: Site) -> None:
    world = site.prepare(own=OWN)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def populate(app):\n    raise ValueError('no login')\n")
    assert prove_tag(world, "site", BASE).verdict == "green"
    done = promote(site.world, "site")
    assert (done.outcome, done.cause, done.fault) == ("failed", "hook-failed", "enrolment")
    assert "no login" in done.detail
    assert site.left() == {}


def test_an_app_that_dies_twice_while_it_is_promoted_is_not_promoted(site: Site) -> None:
    dies = "for _ in '12' * app.facts.stack.startswith('warm-'):\n        app.engine.dies(app.facts.stack, 'db')\n"
    own = f"def test_it(app):\n    {dies}"
    world = site.prepare(own=own)
    assert prove_tag(world, "site", BASE).verdict == "green"
    done = promote(site.world, "site")
    assert (done.outcome, done.cause) == ("failed", "crash-loop"), done.detail


def test_a_volumes_ledger_keeps_its_newest_lines_and_is_none_of_the_apps_files(tmp_path: Path) -> None:
    for number in range(3):
        markerfile.enter(tmp_path, f"{number}-" + "x" * 30_000)
    kept = markerfile.entered(tmp_path)
    assert [line.partition("-")[0] for line in kept] == ["1", "2"]
    (tmp_path / markerfile.LEDGER).unlink()
    (tmp_path / markerfile.LEDGER).symlink_to("/etc/passwd")
    assert markerfile.entered(tmp_path) == [], "a link is not canonq's"


def mark(number: int, kind: Any = "file", place: str = "data", server: str = "postgres") -> LedgerMark:
    return LedgerMark(kind=kind, place=place, text=str(number), server=server, version=f"1.{number}.0+1")


def test_a_file_has_no_server_and_a_mark_of_an_older_record_is_read_as_it_was_meant() -> None:
    assert mark(1, server="postgres").server == "", "as records of before say it"
    assert LedgerMark.model_validate({"kind": "database", "place": "db", "text": "1"}).server == "postgres"
    assert mark(1, "sqlite", "data/app.db", "sqlite").server == "sqlite"
    assert mark(1, "database", "db", "mariadb").server == "mariadb"


def test_a_record_names_the_newest_marks_of_each_place() -> None:
    marks = [mark(number, place=place) for number in range(MOST + 3) for place in ("a", "b")]
    kept = continued(marks[:-2], marks[-2:])
    assert len(kept) == 2 * MOST
    assert {m.text for m in kept if m.place == "a"} == {str(number) for number in range(3, MOST + 3)}


def test_what_may_go_is_not_missed_nor_a_key_after_a_restore() -> None:
    marks = [mark(1), mark(1, "sqlite", "data/app.db", "sqlite"), mark(1, "key", "cache", "redis"), mark(1, "database", "db")]
    assert wanted(marks, {"data": "x"}) == marks[2:]
    assert wanted(marks, {"app:app.db": "x"}) == [marks[0], *marks[2:]]
    assert wanted(marks, {"app:app.db.notes": "x", "app:other.db": "x"}) == marks
    assert wanted(marks, {"cache": "x"}) == [*marks[:2], marks[3]]
    assert wanted(marks, {}, restored=True) == [*marks[:2], marks[3]]


def test_marks_that_are_missing_are_named_once_for_each_place() -> None:
    assert named([mark(1), mark(2), mark(3)]) == (
        "what the promotion of 1.3.0+1 left in the volume data, and 2 older marks beside it"
    )
    assert named([mark(1), mark(2)]).endswith("and an older mark beside it")
    assert named([mark(1, "database", "db", "mariadb")]) == "what the promotion of 1.1.0+1 left in the mariadb of db"
