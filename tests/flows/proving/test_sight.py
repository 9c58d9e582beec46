"""What was found while Docker was frozen, a clock jumped or others removed the stack is no red: nobody saw it as it was."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest

from canonq.core.errors import EnrolmentProblem, HostProblem, RecipeProblem
from canonq.core.seeing import LATE, SLOW, Blind, Look, blind, voided
from canonq.flows.promote import promote
from canonq.flows.promoting import transaction
from canonq.flows.proving import proof as run_flow
from canonq.flows.proving.sight import Sight
from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import BASE, TARGET, Site

RED = "def test_it(app):\n    assert not {when}, 'no page'\n"
FAILED = RecipeProblem("The functional tier failed.", code="functional-failed", service="app")


class Times:
    """Clocks that stand still but for what is said."""

    def __init__(self) -> None:
        self.monotonic, self.clock = 1000.0, 5_000_000.0
        self.answers_in, self.away = 0.0, False

    def passes(self, seconds: float) -> None:
        self.monotonic += seconds
        self.clock += seconds

    def ask(self) -> None:
        self.passes(self.answers_in)
        if self.away:
            raise HostProblem("The Docker Engine does not answer.", code="docker-unreachable")


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def sight(times: Times) -> Sight:
    return Sight(times.ask, lambda: times.monotonic, lambda: times.clock)


def test_a_docker_that_answers_within_its_time_hides_nothing_also_on_a_busy_host(sight: Sight, times: Times) -> None:
    for slow in (0.01, 3.0, SLOW):
        times.answers_in = slow
        sight.look(times.monotonic)
        times.passes(2)
    assert sight.blinds == []


def test_a_docker_that_was_frozen_or_away_was_not_seen(sight: Sight, times: Times) -> None:
    sight.look()
    times.answers_in = 60
    sight.look()
    assert [(one.kind, one.seconds) for one in sight.blinds] == [("froze", 60)]
    times.answers_in, times.away = 0.1, True
    sight.look()
    assert [one.kind for one in sight.blinds] == ["froze", "away"]


def test_a_look_that_has_not_come_back_yet_counts_as_soon_as_it_is_too_long(sight: Sight, times: Times) -> None:
    said: list[list[str]] = []

    def hangs() -> None:
        for _ in range(2):
            times.passes(SLOW * 0.7)
            said.append([one.kind for one in sight.blinds])

    times.ask = hangs  # type: ignore[method-assign]
    sight = Sight(hangs, lambda: times.monotonic, lambda: times.clock)
    sight.look()
    assert said == [[], ["froze"]]


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_is_noticed_and_one_that_is_put_right_is_not(sight: Sight, times: Times, jump: float) -> None:
    sight.look()
    times.passes(2)
    times.clock += 1.5
    sight.look()
    assert sight.blinds == []
    times.clock += jump
    sight.look()
    assert [str(one) for one in sight.blinds] == [f"the clock of this host jumped by {jump:+.0f} s"]


def test_a_host_that_stood_still_is_noticed_and_a_late_thread_is_not(sight: Sight, times: Times) -> None:
    sight.look(times.monotonic)
    due = times.monotonic + 2
    times.passes(2 + LATE)
    sight.look(due)
    assert sight.blinds == []
    due = times.monotonic + 2
    times.passes(300)
    sight.look(due)
    assert [one.kind for one in sight.blinds] == ["slept"]


def frozen(began: float) -> Blind:
    return Blind("froze", began, began + 60, 60)


def test_only_what_was_found_meanwhile_is_void_and_never_what_the_files_say() -> None:
    void = voided(FAILED, [frozen(100)], since=120)
    assert void is not None
    assert (void.code, void.cause, void.service) == ("docker-froze", "functional-failed", "app")
    assert "Docker gave no answer for 60 s" in void.what
    assert "The functional tier failed." in void.what
    assert voided(FAILED, [frozen(100)], since=170) is None, "it was over before that tier began"
    assert voided(EnrolmentProblem("hook", code="hook-failed"), [frozen(100)], since=120) is not None
    assert voided(RecipeProblem("no", code="compose-invalid"), [frozen(100)], since=0) is None
    assert voided(RecipeProblem("no", code="x", certain=True), [frozen(100)], since=0) is None
    assert voided(HostProblem("no", code="disk-full"), [frozen(100)], since=0) is None


def test_what_could_not_be_reached_and_jumped_is_told_once_each() -> None:
    away = [one for t in (1.0, 2.0, 3.0) for one in blind(Look(t, t, t + 1, 0, answered=False), None)]
    void = voided(FAILED, [*away, Blind("jumped", 9, 9, 3600)], since=0)
    assert void is not None
    assert void.what.startswith("Docker could not be reached; the clock of this host jumped by +3600 s, while")


@contextlib.contextmanager
def all_the_time_frozen(ask: Any) -> Iterator[Sight]:
    hours = iter(range(0, 10**9, 3600))
    sight = Sight(ask, lambda: time.monotonic() + next(hours), lambda: 0.0)
    sight.look()
    yield sight


def blinded(site: Site) -> None:
    for module in (run_flow, transaction):
        site.patched.setattr(module, "seeing", all_the_time_frozen)


def test_a_red_that_was_found_while_docker_was_frozen_is_an_error_of_the_hosts(site: Site) -> None:
    blinded(site)
    verdict = prove_tag(site.prepare(own=RED.format(when="True")), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.cause, verdict.fault) == (
        "error", "docker-froze", "functional-failed", "host",
    ), verdict.detail  # fmt: skip
    assert verdict.tiers["functional"].status == "unverified"
    assert verdict.tiers["functional"].reason.startswith("not judged: Docker gave no answer for 3600 s")
    assert any(note.startswith("not-judged: ") and "no page" in note for note in verdict.notes), "it is kept all the same"
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0
    assert site.left() == {}


def test_a_green_stays_green_however_docker_was_and_a_failed_promotion_is_the_hosts(site: Site) -> None:
    world = site.prepare(own=RED.format(when="app.facts.stack.startswith('warm-')"))
    blinded(site)
    assert prove_tag(world, "site", BASE).verdict == "green"
    done = promote(site.world, "site")
    assert (done.outcome, done.cause, done.fault) == ("failed", "docker-froze", "host"), done.detail


def removes(what: str) -> str:
    return f"def test_it(app):\n    if not app.fresh:\n        {what}\n        assert False, 'no answer'\n"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("app.engine.undeploy(app.facts.stack, 1)", "The stack s-"),
        ("app.engine.remove_service(app.facts.stack, 'db')", "The service db of the stack s-"),
    ],
    ids=["the stack", "one service of it"],
)
def test_what_somebody_else_removes_is_an_error_of_the_hosts_whatever_failed_then(site: Site, what: str, said: str) -> None:
    verdict = prove_tag(site.prepare(own=removes(what)), "site", None)
    assert (verdict.verdict, verdict.fault) == ("error", "host"), verdict.detail
    assert said in verdict.detail
    assert "was removed while canonq worked with it" in verdict.detail
    assert site.left() == {}


def test_a_hook_that_fails_for_want_of_the_stack_is_not_the_enrolments(site: Site) -> None:
    world = site.prepare()
    hooks = site.root / "checkout" / "tests" / "site" / "hooks.py"
    stacks = str(site.root / "docker" / "stacks")
    hooks.write_text(
        "from pathlib import Path\ndef after_upgrade(app):\n"
        f"    Path({stacks!r}, app.facts.stack).unlink()\n    raise ConnectionError('no answer')\n"
    )
    verdict = prove_tag(world, "site", TARGET)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "no-services", "host"), verdict.detail
