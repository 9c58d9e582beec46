"""Whole runs without Docker: a red that its canonical has as well, or has not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from canonq.core.records import Verdict
from canonq.flows.promote import promote
from canonq.flows.proving import proof
from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import BASE, Site


def red_with_a_canonical(site: Site, test: str) -> Verdict:
    """The verdict of the newer release under a test that fails, where the older one is the canonical."""
    world = site.prepare()
    assert prove_tag(world, "site", BASE).verdict == "green"
    assert promote(site.world, "site").outcome == "promoted"
    (site.root / "checkout" / "tests" / "site" / "test_site.py").write_text(test)
    before = site.left()
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "functional-failed"), verdict.detail
    assert site.left() == before, "the control run has left nothing either"
    return verdict


@pytest.mark.long
def test_a_red_that_its_canonical_has_as_well_is_no_regression_and_holds_nothing(site: Site) -> None:
    verdict = red_with_a_canonical(site, "def test_it(app):\n    assert False, 'the world has changed'\n")
    assert verdict.regression == "no"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0
    (told,) = [note for note in verdict.notes if note.startswith("control-run: ")]
    assert f"its canonical {BASE} is red (functional-failed) on the same host" in told
    kept = json.loads((Path(verdict.directory) / "control" / "verdict.json").read_text())
    assert (kept["version"], kept["data"]) == (BASE, "empty volumes")
    newest = site.world.runs.verdicts("site")[-1]
    assert (newest.run, newest.regression) == (verdict.run, "no"), "a control run is no run of the recipe's own"


def test_a_red_that_its_canonical_has_not_is_a_regression_and_counts(site: Site) -> None:
    verdict = red_with_a_canonical(site, f"def test_it(app):\n    assert app.version == {BASE!r}, 'broken'\n")
    assert verdict.regression == "yes"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1
    assert verdict.timings["control"] > 0


@pytest.mark.long
def test_a_red_of_which_no_control_run_could_say_more_says_so(site: Site) -> None:
    site.patched.setattr(proof, "wants_control", lambda verdict: False)  # it is certain
    verdict = red_with_a_canonical(site, "def test_it(app):\n    assert False\n")
    assert (verdict.regression, "control" in verdict.timings) == ("unknown", False)
    assert site.world.runs.verdicts("site")[-1].regression == "unknown"


@pytest.mark.long
def test_a_control_run_that_there_is_no_budget_for_is_not_made_and_told(site: Site) -> None:
    site.more = {"control_seconds": 0}
    verdict = red_with_a_canonical(site, "def test_it(app):\n    assert False\n")
    assert verdict.regression == "unknown"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1
    assert any("the control runs of this sweep may take 0 s together" in note for note in verdict.notes)
