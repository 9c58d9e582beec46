"""Whole runs without Docker: recipes that need each other."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from canonq.adapters.data.snapshots import problem_of
from canonq.flows.keeping.janitor import clean
from canonq.flows.promote import promote
from canonq.flows.sync import sync
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import BASE, TARGET, TOML, Site, files
from tests.support import make_recipe


@pytest.mark.long
def test_what_a_run_of_two_recipes_needs_is_deployed_beside_it_and_gone_with_it(site: Site) -> None:
    world = site.prepare()
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    before = site.left()
    beside = files(BASE)
    beside["compose.yml"] = beside["compose.yml"].replace(
        "    secrets: [password]", "    environment: {S: '${DEP_SITE_STACK:?}'}\n    secrets: [password]", 1
    )
    make_recipe(site.root / "other", {BASE: beside})
    folder = site.root / "checkout" / "tests" / "other"
    folder.mkdir()
    (folder / "recipe.toml").write_text(f'upstream = "{site.root / "other"}"\ndeps = ["site"]\n{TOML}')
    sync(site.world, "other")
    verdict = prove_tag(site.world, "other", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed[-2:] == [BASE, BASE]
    assert (Path(verdict.directory) / "dependency-site" / "resolved.json").is_file()
    assert site.left() == before
    of_a_ref = prove_ref(site.world, "other", "main")
    assert of_a_ref.verdict == "green", of_a_ref.detail
    assert f"on-empty-volumes: the dependency site {BASE} ran without its canonical's data and secrets" in of_a_ref.notes


ONCE = """
import pathlib

def test_log_in(app):
    mark = pathlib.Path({mark!r})
    there = mark.exists()
    mark.touch()
    assert there, "nobody can log in"
"""


def with_a_consumer(site: Site) -> Path:
    """Have canonicals of the site and of a recipe that needs it; the folder of that one's enrolment."""
    assert prove_tag(site.prepare(), "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    make_recipe(site.root / "other", {BASE: files(BASE)})
    folder = site.root / "checkout" / "tests" / "other"
    folder.mkdir()
    (folder / "recipe.toml").write_text(f'upstream = "{site.root / "other"}"\ndeps = ["site"]\n{TOML}')
    (folder / "test_log_in.py").write_text("def test_log_in(app):\n    pass\n")
    sync(site.world, "other")
    assert prove_tag(site.world, "other", None).verdict == "green"
    assert promote(site.world, "other").outcome == "promoted"
    return folder


@pytest.mark.long
def test_a_release_that_breaks_what_depends_on_it_is_not_promoted_until_a_person_approves_it(site: Site) -> None:
    folder, mark = with_a_consumer(site), site.root / "was-asked"
    before = site.left()
    verdict = prove_tag(site.world, "site", TARGET)
    assert verdict.verdict == "green", verdict.detail

    # Its tests fail the first time that they are asked: beside the candidate, and not beside the present canonical.
    (folder / "test_log_in.py").write_text(ONCE.format(mark=str(mark)))
    begun = len(site.engine.deployed)
    refused = promote(site.world, "site")
    assert (refused.outcome, refused.reason) == ("refused", "consumer-broken")
    assert "nobody can log in" in refused.detail
    assert f"canonq approve site '{TARGET}'" in refused.detail
    assert site.engine.deployed[begun:] == [TARGET, BASE, BASE, BASE], (
        "the candidate, then the present one, each with its consumer"
    )
    assert [run.version for run in site.world.runs.verdicts("other")] == [BASE], "they are no runs of its own"
    evidence = Path(verdict.directory) / "consumers" / "other"
    assert {path.name for path in evidence.iterdir()} == {"candidate", "present", "tried.json"}
    assert site.left() == before

    begun = len(site.engine.deployed)
    assert promote(site.world, "site").reason == "consumer-broken"
    assert len(site.engine.deployed) == begun, "nothing has changed, so it is not asked twice"

    # The consumer is mended: it is asked anew, and another one that fails with anything does not stand in the way.
    (folder / "test_log_in.py").write_text("def test_log_in(app):\n    assert False, 'never'\n")
    promoted = promote(site.world, "site")
    assert promoted.outcome == "promoted", promoted.detail
    assert [note.partition(":")[0] for note in promoted.notes if note.startswith("consumer-")] == ["consumer-fails-anyway"]


WAITS = """
import pathlib, time

def test_log_in(app):
    mark = pathlib.Path({mark!r})
    if not mark.exists():
        mark.touch()
        time.sleep(3600)
"""


@pytest.mark.long
def test_killed_in_the_middle_of_a_consumers_run_both_canonicals_are_whole_and_done_again_it_ends(site: Site) -> None:
    folder, mark = with_a_consumer(site), site.root / "is-asked"
    records = {name: site.world.registry.read(name) for name in ("site", "other")}
    before = site.left()
    assert prove_tag(site.world, "site", TARGET).verdict == "green"
    (folder / "test_log_in.py").write_text(WAITS.format(mark=str(mark)))

    killed = multiprocessing.get_context("fork").Process(target=promote, args=(site.world, "site"))
    killed.start()
    ends = time.monotonic() + 600
    while not mark.exists():
        assert killed.is_alive(), "it was asked"
        assert time.monotonic() < ends
        time.sleep(0.05)
    killed.kill()
    killed.join()
    assert site.left() != before, "it was killed in the middle of it"
    assert {name: site.world.registry.read(name) for name in records} == records
    assert all(record and record.snapshot and problem_of(record.snapshot) is None for record in records.values())
    clean(site.world)
    assert site.left() == before, "what it had is gone, and what both canonicals have is not"

    promoted = promote(site.world, "site")
    assert promoted.outcome == "promoted", promoted.detail
    assert [note for note in promoted.notes if note.startswith("consumer-")] == []
    assert site.world.registry.read("other") == records["other"]
