"""Whole runs without Docker: who dies, comes back, or stays away."""

from __future__ import annotations

import pytest

from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import Site

DIES = """
def test_who_dies(app):
    if {when}:
        for _ in range({times}):
            app.engine.dies(app.facts.stack, "{service}")
"""


@pytest.mark.parametrize("where", ["fresh", "upgraded"])
def test_a_worker_that_keeps_dying_is_a_crash_loop_though_the_app_answers(site: Site, where: str) -> None:
    own = DIES.format(when="app.fresh" if where == "fresh" else "not app.fresh", times=2, service="db")
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "crash-loop", "db"), verdict.detail
    assert "'db' died 2 times after it had come up; last error: task: non-zero exit (3)" in verdict.detail
    assert verdict.deaths == {"db": 2}
    assert site.left() == {}


def test_what_dies_once_is_told_and_has_to_stay_up_anew(site: Site) -> None:
    own = DIES.format(when="not app.fresh", times=1, service="app")
    verdict = prove_tag(site.prepare(own=own, toml=""), "site", None)
    assert (verdict.verdict, verdict.deaths) == ("green", {"app": 1}), verdict.detail
    assert "died: 'app' died once, and came back" in verdict.notes


def test_who_dies_for_want_of_memory_is_told_so(site: Site) -> None:
    site.engine.starved = True
    verdict = prove_tag(site.prepare(own=DIES.format(when="True", times=1, service="app")), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "out-of-memory", "app"), verdict.detail


@pytest.mark.long
def test_who_dies_later_and_stays_away_is_red_with_its_name(site: Site) -> None:
    own = "def test_it(app):\n    app.fresh or app.engine.dies(app.facts.stack, 'db', for_good=True)\n"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "dies-later", "db"), verdict.detail
    assert verdict.tiers["upgrade"].status == "fail"


def test_a_tier_that_a_restart_has_interrupted_is_proven_again_once_the_app_is_back(site: Site) -> None:
    own = """
import os
def test_it(app):
    if not app.fresh and not os.path.exists(app.facts.own + "/seen"):
        open(app.facts.own + "/seen", "w").close()
        app.engine.dies(app.facts.stack, "app")
        assert False, "connection refused"
"""
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert verdict.verdict == "green", verdict.detail
    (told,) = [note for note in verdict.notes if note.startswith("interrupted: ")]
    assert "'app' died (task: non-zero exit (3)) while canonq was at the functional tier, and 1.1.0+1.1 came back" in told


def test_a_test_that_fails_beside_a_dying_app_does_not_hide_that(site: Site) -> None:
    own = DIES.format(when="not app.fresh", times=2, service="app") + "    assert app.fresh, 'no running container'\n"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "crash-loop", "recipe"), verdict.detail


@pytest.mark.long
def test_a_green_run_has_stayed_up_for_its_soak_since_its_last_deploy(site: Site) -> None:
    verdict = prove_tag(site.prepare(soak=2), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert verdict.seconds >= 2
    assert {"soak", "soak.fresh"} <= set(verdict.timings)
