"""A sweep accounts for everybody, tries again what was put off, and once it is closed nothing happens in it any more."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from celery import Celery
from celery.exceptions import Ignore
from git.repo import Repo

import workers.chains
import workers.steps
import workers.tasks
import workers.upkeep
from canonq.adapters.state.budget import Budget
from canonq.adapters.state.locks import RedisLocks
from canonq.core.errors import Busy, CanonqError, HollowSweep, HostProblem, NoRoom
from canonq.core.outcomes import Outcome
from canonq.core.records import Canonical, Decision, Promotion, Synced, Verdict
from canonq.core.sweeps.again import PATIENCE
from canonq.flows.sweeps.again import retry_deferred
from canonq.flows.sweeps.closing import fail, finish, stop
from canonq.flows.sweeps.opening import open_sweep, start
from canonq.flows.sweeps.settling import settle_error
from canonq.flows.sweeps.summary import summary
from canonq.flows.sync import sync as sync_recipe
from canonq.flows.world import World
from tests.flows.conftest import Place

NOW = "20260617T050314Z"
COMMIT = "a" * 40


class Nobody(RedisLocks):
    """Locks that nobody holds, or somebody does."""

    def __init__(self) -> None:
        self.by = ""

    def holder(self, recipe: str) -> dict[str, Any] | None:
        """Who holds it."""
        return {"holder": self.by} if self.by else None


class Request:
    def __init__(self, task: str) -> None:
        self.id = self.root_id = task
        self.hostname = "light@here"
        self.chain: list[object] | None = ["the next step"]


class Task:
    """As much of a Celery task as a step needs."""

    def __init__(self, task: str = "task-1") -> None:
        self.request = Request(task)


ASKED = workers.upkeep.queued  #: the real one: most tests say themselves what waits


class Sweeping:
    """Recipes in a sweep, steps taken as workers take them, and the chains that were asked for."""

    def __init__(self, place: Place, *recipes: str) -> None:
        self.place, self.sent, self.locks, self.budget = place, [], Nobody(), None
        for name in recipes:
            place.recipe(name)
        self.sweep = open_sweep(self.world, ()).sweep
        self.world.sweeps.begin(self.sweep)

    sent: list[str]
    locks: Nobody
    budget: Budget | None

    @property
    def world(self) -> World:
        """The world as a new process sees it."""
        return replace(
            self.place.world, locks=self.locks, budget=self.budget or Budget(self.place.folder / "b", lambda: 10**12, 0)
        )

    def take(self, step: str, recipe: str, action: Callable[[World], Any], task: str = "task-1") -> tuple[dict[str, Any], Task]:
        """A worker takes a step."""
        made = Task(task)
        return workers.steps.take(made, step, recipe, self.sweep, action), made

    def again(self) -> list[str]:
        """What is tried again now."""
        return retry_deferred(self.world, self.sweep, lambda enrolment: self.sent.append(enrolment.recipe))

    def outcome(self, recipe: str) -> tuple[str, str] | None:
        """Kind and reason of a recipe's outcome."""
        found = self.world.sweeps.outcomes(self.sweep).get(recipe)
        return (found.outcome, found.reason) if found else None

    def later(self, seconds: float) -> None:
        """Let time pass for all that the sweep has on disk."""
        for path in self.world.sweeps.folder(self.sweep).rglob("*.json"):
            stamp = path.stat().st_mtime - seconds
            os.utime(path, (stamp, stamp))

    def skip(self, recipe: str) -> Decision:
        """A decision that ends a chain."""
        return Decision(recipe=recipe, sweep=self.sweep, action="skip", reason="no-new-version", detail="")

    def rest(self) -> None:
        """Every recipe ends, as nothing is new in it."""
        self.take("decide", "site", lambda world: self.skip("site"))
        self.take("decide", "blog", lambda world: self.skip("blog"))

    def promotion(self, recipe: str) -> Promotion:
        """A promotion that says it went well."""
        return Promotion(
            recipe=recipe,
            sweep=self.sweep,
            outcome="promoted",
            reason="seed",
            detail="",
            version="1.0.0+1.0",
            commit=COMMIT,
            run="r",
        )


@pytest.fixture
def sweeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    place = Place(tmp_path)
    place.settings["redis_url"] = "redis://127.0.0.1:1/0"
    made = Sweeping(place, "site", "blog")
    monkeypatch.setattr(workers.steps, "live", lambda: made.world)
    for module in (workers.chains, workers.tasks):
        monkeypatch.setattr(module, "start_chain", lambda enrolment, *_, **more: made.sent.append(enrolment.recipe))
    monkeypatch.setattr(workers.upkeep, "queued", lambda app: set())
    return made


# -- put off, and tried again -------------------------------------------------------------------------------


def test_a_deferral_is_not_used_up_by_itself(sweeping: Sweeping) -> None:
    for _ in range(30):
        settle_error(sweeping.world, sweeping.sweep, "site", "test", Busy("Another run of site is under way."))
        assert sweeping.again() == []
    sweeping.later(PATIENCE["turn"].first + 1)
    assert sweeping.again() == ["site"], "its turn has come"
    assert sweeping.again() == [], "it is pending now"


def test_a_recipe_that_is_held_is_waited_for_however_long_that_takes(sweeping: Sweeping) -> None:
    settle_error(sweeping.world, sweeping.sweep, "site", "test", Busy("Another run of site is under way."))
    sweeping.take("decide", "blog", lambda world: sweeping.skip("blog"))
    sweeping.locks.by = "a person's test"
    sweeping.later(3600)
    assert sweeping.again() == []
    assert finish(sweeping.world, sweeping.sweep) is None
    sweeping.locks.by = ""
    assert sweeping.again() == ["site"]


def test_room_is_asked_for_the_step_that_was_put_off(sweeping: Sweeping) -> None:
    """There is room for a run, and none for the promotion, which takes more."""
    world = sweeping.world
    run = world.new_id("site")
    world.runs.make("site", run)
    world.runs.record(
        Verdict(recipe="site", run=run, verdict="green", reason="proven", detail="", version="1.0.0+1.0", commit=COMMIT,
                enrolment="", ts=NOW, disk_bytes=4 << 30)
    )  # fmt: skip
    free = [7 << 30]
    sweeping.budget = Budget(sweeping.place.folder / "b", lambda: free[0], 0)
    busy = sweeping.promotion("site").model_copy(update={"outcome": "busy", "reason": "disk-below-budget", "run": run})
    sweeping.take("promote", "site", lambda world: busy)
    sweeping.later(3600)
    assert sweeping.again() == []
    free[0] = 11 << 30
    assert sweeping.again() == ["site"]


def test_what_nothing_can_bring_any_more_is_reported_as_deferred(sweeping: Sweeping) -> None:
    sweeping.budget = Budget(sweeping.place.folder / "b", lambda: 0, 1)
    settle_error(sweeping.world, sweeping.sweep, "site", "test", NoRoom("1 GiB short."))
    assert finish(sweeping.world, sweeping.sweep) is None, "blog is under way, and may leave room"
    sweeping.take("decide", "blog", lambda world: sweeping.skip("blog"))
    whole = summary(sweeping.world, sweeping.sweep)
    assert (whole["state"], whole["counts"]["deferred"], whole["exit_status"]) == ("done", 1, 1)


def test_a_deferred_recipe_whose_enrolment_went_is_that_error_and_no_other_recipes(sweeping: Sweeping) -> None:
    settle_error(sweeping.world, sweeping.sweep, "site", "test", NoRoom("1 GiB short."))
    shutil.rmtree(sweeping.place.folder / "checkout" / "tests" / "site")
    sweeping.later(3600)
    answer, _ = sweeping.take("decide", "blog", lambda world: sweeping.skip("blog"))
    assert answer["reason"] == "no-new-version"
    assert sweeping.outcome("site") in (("error", "not-enrolled"), ("deferred", "disk-below-budget"))
    sweeping.later(3600)
    workers.upkeep.reconcile(sweeping.world, None)
    assert sum(summary(sweeping.world, sweeping.sweep)["counts"].values()) == 2


# -- closed is closed ---------------------------------------------------------------------------------------


def close(sweeping: Sweeping, how: Any) -> None:
    world, sweep = sweeping.world, sweeping.sweep
    match how:
        case "done":
            sweeping.rest()
        case "failed":
            (world.sweeps.folder(sweep) / "begun.json").unlink()
            assert fail(world, sweep, HollowSweep("Nobody is enrolled."))
        case "refused" | "stopped":
            assert stop(world, sweep, "a person stopped it", refused=how == "refused")


@pytest.mark.parametrize("how", ["done", "failed", "refused", "stopped"])
def test_in_a_closed_sweep_nothing_starts_settles_or_is_tried_again(sweeping: Sweeping, how: str) -> None:
    settle_error(sweeping.world, sweeping.sweep, "site", "test", Busy("Another run of site is under way."))
    close(sweeping, how)
    before = summary(sweeping.world, sweeping.sweep)
    assert before["state"] == how
    assert sum(before["counts"].values()) == before["enrolled"] == 2
    assert before["exit_status"] == {"done": 0, "failed": 2, "refused": 3, "stopped": 3}[how]
    sweeping.later(3600)
    done: list[str] = []
    answer, task = sweeping.take("test", "site", lambda world: done.append("test"), "task-2")
    settle_error(sweeping.world, sweeping.sweep, "blog", "test", HostProblem("Docker is away."))
    workers.upkeep.reconcile(sweeping.world, None)
    assert (sweeping.again(), sweeping.sent, done, task.request.chain) == ([], [], [], None)
    assert answer["outcome"] == "closed"
    assert open_sweep(sweeping.world, (), sweeping.sweep).chains == ()
    assert not stop(sweeping.world, sweeping.sweep, "once more")
    assert summary(sweeping.world, sweeping.sweep) == before
    assert sweeping.world.sweeps.open_sweeps() == []


def test_a_sweep_that_is_under_way_is_not_failed_by_a_checkout_that_went_away(sweeping: Sweeping) -> None:
    (sweeping.place.folder / "checkout").rename(sweeping.place.folder / "away")
    with pytest.raises(HollowSweep) as hollow:
        open_sweep(sweeping.world, (), sweeping.sweep)
    assert fail(sweeping.world, sweeping.sweep, hollow.value) is None
    (sweeping.place.folder / "away").rename(sweeping.place.folder / "checkout")
    sweeping.rest()
    whole = summary(sweeping.world, sweeping.sweep)
    assert (whole["state"], whole["enrolled"], whole["counts"]["skipped"]) == ("done", 2, 2)


# -- delivered again ----------------------------------------------------------------------------------------


def test_a_second_delivery_of_a_step_under_way_leaves_no_result(sweeping: Sweeping) -> None:
    with sweeping.world.sweeps.journal(sweeping.sweep).executing("site"), pytest.raises(Ignore):
        sweeping.take("decide", "site", lambda world: sweeping.skip("site"))
    assert sweeping.outcome("site") is None


def test_a_finished_step_delivered_again_gives_its_result_and_settles_nothing_anew(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was promoted was read back when it was; the canonical of today is another."""
    record: list[Canonical | None] = [
        Canonical(recipe="site", version="1.0.0+1.0", commit=COMMIT, status="idle", ts=NOW, run="r")
    ]
    monkeypatch.setattr("canonq.adapters.state.registry.Registry.read", lambda self, recipe: record[0])
    first, _ = sweeping.take("promote", "site", lambda world: sweeping.promotion("site"))
    assert sweeping.outcome("site") == ("promoted", "seed")
    record[0] = None
    second, task = sweeping.take("promote", "site", lambda world: pytest.fail("done twice"), "task-2")
    assert (second, task.request.chain, sweeping.outcome("site")) == (first, None, ("promoted", "seed"))
    # The same when its worker died before the outcome was kept.
    assert sweeping.world.sweeps.unsettle(sweeping.sweep, "site")
    sweeping.later(3600)
    workers.upkeep.reconcile(sweeping.world, None)
    assert sweeping.outcome("site") == ("promoted", "seed")
    assert "site" not in sweeping.sent


@pytest.mark.parametrize("ends", ["test", "promote"])
def test_an_outcome_has_the_notes_of_the_step_that_ended_the_chain_and_of_those_before(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    record = Canonical(recipe="site", version="1.0.0+1.0", commit=COMMIT, status="idle", ts=NOW, run="r")
    monkeypatch.setattr("canonq.adapters.state.registry.Registry.read", lambda self, recipe: record)
    synced = Synced(recipe="site", sweep=sweeping.sweep, branch="main", head=None, tags=1, latest=None, changed=True,
                    notes=("a tag was deleted",))  # fmt: skip
    red = Verdict(recipe="site", sweep=sweeping.sweep, run="r", verdict="red", reason="crash-loop", detail="",
                  version="1.0.0+1.0", commit=COMMIT, enrolment="0", ts=NOW, notes=("a base was passed over",))  # fmt: skip
    promotion = sweeping.promotion("site").model_copy(update={"notes": ("app was killed",)})
    sweeping.take("sync", "site", lambda world: synced)
    sweeping.take(ends, "site", lambda world: red if ends == "test" else promotion)
    notes = sweeping.world.sweeps.outcomes(sweeping.sweep)["site"].notes
    assert notes == ("a tag was deleted", "a base was passed over" if ends == "test" else "app was killed")


def test_an_outcome_that_could_not_be_written_is_settled_as_what_it_was(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full just then: a skip must not become an error."""

    def full(*_: object) -> None:
        raise HostProblem("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr("canonq.adapters.state.sweeps.Sweeps.settle", full)
        answer, _ = sweeping.take("decide", "site", lambda world: sweeping.skip("site"))
    assert (answer["reason"], sweeping.outcome("site")) == ("no-new-version", None)
    sweeping.later(3600)
    workers.upkeep.reconcile(sweeping.world, None)
    assert sweeping.outcome("site") == ("skipped", "no-new-version")


def test_a_deferral_that_could_not_be_written_is_settled_as_one_and_tried_again_once_there_is_room(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for what it lacks: neither an error, nor sent on, nor the end where what it lacked is there."""
    sweeping.budget = Budget(sweeping.place.folder / "b", lambda: 0, 1)
    put_off = sweeping.skip("site").model_copy(update={"action": "defer", "reason": NoRoom.code})
    with monkeypatch.context() as broken:
        broken.setattr("canonq.adapters.state.sweeps.Sweeps.settle", lambda *_: (_ for _ in ()).throw(HostProblem("It is full.")))
        sweeping.take("decide", "site", lambda world: put_off)
    assert sweeping.outcome("site") is None
    sweeping.later(3600)
    workers.upkeep.reconcile(sweeping.world, None)
    assert (sweeping.outcome("site"), sweeping.sent) == (("deferred", NoRoom.code), ["blog"])
    sweeping.budget = None
    sweeping.later(3600)
    workers.upkeep.reconcile(sweeping.world, None)
    assert (sweeping.outcome("site"), sweeping.sent.count("site")) == (None, 1)


def test_an_outcome_that_a_full_disk_kept_from_being_written_is_settled_though_a_rabbitmq_tells_of_no_message(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.upkeep, "queued", ASKED)
    with monkeypatch.context() as broken:
        broken.setattr("canonq.adapters.state.sweeps.Sweeps.settle", lambda *_: (_ for _ in ()).throw(HostProblem("It is full.")))
        sweeping.take("decide", "site", lambda world: sweeping.skip("site"))
    sweeping.later(3600)
    workers.upkeep.reconcile(sweeping.world, Celery(broker="amqp://127.0.0.1:1//"))
    assert (sweeping.outcome("site"), sweeping.sent) == (("skipped", "no-new-version"), []), "blog's message may be waiting"


# -- one bad thing costs itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{", "[]", '{"recipe": 1}'])
def test_a_bad_outcome_on_record_costs_that_recipe_only(sweeping: Sweeping, text: str) -> None:
    world = sweeping.world
    for recipe in ("site", "blog"):
        world.sweeps.settle(sweeping.sweep, Outcome(recipe=recipe, outcome="skipped", reason="x"))
    (world.sweeps.folder(sweeping.sweep) / "outcomes" / "site.json").write_text(text)
    assert summary(world, sweeping.sweep)["pending"] == ["site"]
    sweeping.later(3600)
    workers.upkeep.reconcile(world, None)
    assert sweeping.sent == ["site"]


def test_a_pass_of_upkeep_is_not_ended_by_one_bad_folder_or_one_bad_sweep(sweeping: Sweeping) -> None:
    world = sweeping.world
    other = world.new_id()
    world.sweeps.open(other, {"sweep": other, "started": NOW, "enrolled": ["Wiki", "site"]})
    broken = world.new_id()
    world.sweeps.open(broken, {"sweep": broken, "enrolled": ["site"]})
    (world.sweeps.folder(broken) / "sweep.json").write_text("{")
    for path in world.sweeps.folder(other).rglob("*.json"):
        os.utime(path, (time.time() - 3600,) * 2)
    sweeping.later(3600)
    workers.upkeep.reconcile(world, None)
    assert sorted(sweeping.sent) == ["blog", "site", "site"]
    assert world.sweeps.outcomes(other)["Wiki"].reason == "bad-recipe-name"


@pytest.mark.parametrize(
    ("broken", "ends"), [(ModuleNotFoundError("No module named 'celery.loaders.app'"), True), (KeyError("x"), False)]
)
def test_an_upkeep_below_which_canonq_is_installed_again_ends_and_so_begins_anew(
    broken: Exception, ends: bool, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.upkeep, "end_broken_off", Mock(side_effect=broken))
    with pytest.raises(ImportError) if ends else contextlib.nullcontext():
        workers.upkeep.reconcile(sweeping.world, None)


def test_a_sweep_opened_while_the_clock_was_ahead_is_mended_now(sweeping: Sweeping) -> None:
    sweeping.later(-400 * 86400)
    workers.upkeep.reconcile(sweeping.world, None)
    assert sorted(sweeping.sent) == ["blog", "site"]


@pytest.mark.parametrize(
    ("uptime", "over"),
    [
        ({}, False),  # the clock alone has jumped by three days
        ({"seconds": -3 * 86400.0}, True),  # the host has been up for them
        ({"boot": "another"}, True),  # it was started anew since, so the clock is all there is
        (None, True),  # of a canonq that did not keep it
    ],
)
def test_a_sweep_that_nobody_ended_is_closed_in_the_end_and_not_for_a_clock_that_jumped(
    sweeping: Sweeping, uptime: dict[str, Any] | None, over: bool
) -> None:
    path = sweeping.world.sweeps.folder(sweeping.sweep) / "sweep.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "uptime": uptime if uptime is None else {**record["uptime"], **uptime}}))
    sweeping.later(72 * 3600)
    workers.upkeep.reconcile(sweeping.world, None)
    whole = summary(sweeping.world, sweeping.sweep)
    found = whole["state"], whole["counts"]["error"], whole["pending"], whole["exit_status"]
    assert found == (("done", 2, [], 3) if over else ("open", 0, ["blog", "site"], 0))
    assert sorted(sweeping.sent) == ([] if over else ["blog", "site"])


def test_a_report_says_when_a_sweep_ended_and_how_long_it_took(sweeping: Sweeping) -> None:
    begun = start(sweeping.world, open_sweep(sweeping.world, (), sweeping.sweep), lambda enrolment: None)
    assert begun["started"] == ["blog", "site"]
    close(sweeping, "done")
    whole = summary(sweeping.world, sweeping.sweep)
    assert whole["ended"] >= whole["started"]
    assert 0 <= whole["seconds"] < 600


# -- nights -------------------------------------------------------------------------------------------------


def test_a_night_is_swept_once_however_late_the_second_message_is_taken(tmp_path: Path) -> None:
    sweeps = Place(tmp_path).world.sweeps
    assert sweeps.nights.claim("20260617T030000Z", "beat-1")
    assert not sweeps.nights.claim("20260617T030000Z", "beat-2")
    assert sweeps.nights.claim("20260617T030000Z", "beat-1"), "delivered again"


def test_a_night_of_the_future_costs_no_other_night(tmp_path: Path) -> None:
    sweeps = Place(tmp_path).world.sweeps
    nights = ["20270722T030000Z", *(f"202606{day:02}T030000Z" for day in range(1, 31))]
    assert [sweeps.nights.claim(night, f"task-{night}") for night in nights] == [True] * 31


@pytest.mark.parametrize("text", ["{", "[]", '{"nights": 3}'])
def test_a_record_of_nights_that_cannot_be_read_costs_no_night(tmp_path: Path, text: str) -> None:
    world = Place(tmp_path).world
    world.sweeps.nights.claim("20260616T030000Z", "beat-1")
    (tmp_path / "state" / "sweeps" / "nights.json").write_text(text)
    assert world.sweeps.nights.claim("20260617T030000Z", "beat-2")


# -- who is enrolled ----------------------------------------------------------------------------------------


def finish_whole(place: Place) -> dict[str, Any]:
    """A whole sweep in which nothing is new."""
    world = place.world
    opened = open_sweep(world, ())
    for enrolment in opened.chains:
        world.sweeps.settle(opened.sweep, Outcome(recipe=enrolment.recipe, outcome="skipped", reason="no-new-version"))
    return finish(world, opened.sweep) or {}


def test_fewer_enrolled_than_last_time_is_told_until_somebody_says_so(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in ("site", "blog", "wiki"):
        place.recipe(name)
    assert finish_whole(place)["exit_status"] == 0
    for name in ("blog", "wiki"):
        (tmp_path / "checkout" / "tests" / name).rename(tmp_path / name)
    for _ in range(2):
        whole = finish_whole(place)
        assert whole["exit_status"] == 1
        assert "2 fewer enrolled than last time: blog, wiki." in whole["findings"][0]
    place.enrol("blog", "https://git.example.org/blog.git", "enrolled = false\n")
    (tmp_path / "wiki").rename(tmp_path / "checkout" / "tests" / "wiki")
    assert (finish_whole(place)["findings"], finish_whole(place)["exit_status"]) == ([], 0)


def test_a_sweep_of_named_recipes_misses_nobody(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in ("site", "blog"):
        place.recipe(name)
    finish_whole(place)
    opened = open_sweep(place.world, ["site"])
    assert summary(place.world, opened.sweep)["findings"] == []
    assert finish_whole(place)["findings"] == []


def test_in_a_chain_that_somebody_has_made_each_test_is_done_and_each_of_them_once(
    sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers.steps, "_sent_on", lambda *_: False)
    asked: list[str] = []

    def take(task: str, tag: str) -> Any:
        made = Task(task)
        made.request.root_id = "first"

        def look(world: World) -> Decision:
            asked.append(tag)
            return sweeping.skip("site").model_copy(update={"sweep": None, "version": tag})

        return workers.steps.take(made, "decide", "site", None, look)["version"]

    assert [take("first", "1.0.0+1"), take("second", "2.0.0+2"), take("second", "2.0.0+2")] == ["1.0.0+1", "2.0.0+2", "2.0.0+2"]
    assert asked == ["1.0.0+1", "2.0.0+2"], "what is delivered twice is done once"


def test_steps_of_a_sweep_see_the_enrolment_as_it_was_when_the_sweep_began(sweeping: Sweeping) -> None:
    begun = start(sweeping.world, open_sweep(sweeping.world, (), sweeping.sweep, named=True), lambda enrolment: None)
    assert begun["started"] == ["blog", "site"]
    path = sweeping.place.folder / "checkout" / "tests" / "site" / "recipe.toml"
    before = path.read_text()
    path.write_text(f'{before}weight = "heavy"\n')
    seen: list[tuple[str, str]] = []

    def look(world: World) -> Decision:
        seen.append((world.checkout.enrolment("site").weight, world.checkout.digest("site")))
        return sweeping.skip("site")

    sweeping.take("decide", "site", look)
    assert sweeping.world.checkout.enrolment("site").weight == "heavy"
    path.write_text(before)
    assert seen == [("light", sweeping.world.checkout.digest("site"))]


def test_a_nightly_sweep_leaves_out_what_an_open_one_is_still_at(place: Place) -> None:
    sweeping = Sweeping(place, "site", "wiki")
    sweeping.take("decide", "wiki", lambda world: sweeping.skip("wiki"))
    sweeping.world.sweeps.settle(sweeping.sweep, Outcome(recipe="wiki", outcome="skipped", reason="no-new-version", detail=""))
    opened = open_sweep(sweeping.world, nightly=True)
    assert [one.recipe for one in opened.chains] == ["wiki"]
    left = sweeping.world.sweeps.outcomes(opened.sweep)["site"]
    assert (left.outcome, left.reason) == ("skipped", "under-way")
    assert sweeping.sweep in left.detail
    assert {one.recipe for one in open_sweep(sweeping.world).chains} == {"site", "wiki"}, "a person's sweep leaves out nothing"


def test_a_night_says_aloud_that_one_before_it_is_still_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeping = Sweeping(place, "site")
    sweeping.take("decide", "site", lambda world: sweeping.skip("site"))
    first = open_sweep(sweeping.world, nightly=True)
    assert not sweeping.world.sweeps.read(first.sweep)["findings"], "begun just now, by a person"
    later = replace(sweeping.world, now=lambda: place.world.now() + timedelta(hours=24))
    monkeypatch.setattr(type(later.sweeps), "open_for", lambda *_: 86400.0)
    second = open_sweep(later, nightly=True)
    assert later.sweeps.outcomes(second.sweep)["site"].reason == "under-way"
    told = finish(later, second.sweep)
    assert told is not None
    assert any(f"The sweep {sweeping.sweep}, begun at" in line and "is still open" in line for line in told["findings"])
    assert told["exit_status"] == 1


def test_a_night_is_not_missed_by_a_change_of_the_hour(place: Place) -> None:
    place.recipe("site")
    sweeps = place.world.sweeps
    for night in ("20260616T040000Z", "20260617T040000Z", "20260618T030000Z"):
        sweeps.nights.claim(night, f"task-{night}")
    assert sweeps.read(open_sweep(place.world, night_before="20260617T030000Z").sweep)["findings"] == []


@pytest.mark.parametrize("was_ahead", [False, True], ids=["", "a clock was ahead once"])
def test_a_night_without_a_sweep_is_told_by_the_next_one(place: Place, was_ahead: bool) -> None:
    place.recipe("site")
    sweeps = place.world.sweeps
    if was_ahead:
        sweeps.nights.claim("20991231T030000Z", "task-ahead")
    for night, before, told in (
        ("20260614T030000Z", "20260613T030000Z", False),  # the first ever
        ("20260615T030000Z", "20260614T030000Z", False),
        ("20260617T030000Z", "20260616T030000Z", True),
    ):
        sweeps.nights.claim(night, f"task-{night}")
        found = sweeps.read(open_sweep(place.world, night_before=before).sweep)["findings"]
        assert any("No sweep ran on the night of 20260616T030000Z" in line for line in found) is told, night


def test_a_sweep_of_all_pulls_the_checkout_first_where_it_is_to_and_says_when_it_cannot(place: Place) -> None:
    place.recipe("site")
    place.recipe("blog")
    ours = Repo.init(place.folder / "checkout", initial_branch="main")
    ours.git.add("--all")
    ours.git.commit("--message", "two of them")
    theirs = ours.clone(place.folder / "theirs")
    ours.create_remote("origin", str(place.folder / "theirs"))
    (place.folder / "theirs" / "tests" / "site").rename(place.folder / "theirs" / "tests" / "_site")
    theirs.git.add("--all")
    theirs.git.commit("--message", "one of them")

    def swept(*recipes: str) -> tuple[list[str], list[str]]:
        record = place.world.sweeps.read(open_sweep(place.world, recipes).sweep)
        return record["enrolled"], record["findings"]

    assert swept() == (["blog", "site"], []), "by itself it pulls nothing"
    place.settings["checkout"] = {"pull": True}
    assert swept("site") == (["site"], []), "a person named it: what is there counts"
    assert swept() == (["blog"], [])
    theirs.git.commit("--allow-empty", "--message", "more")
    ours.git.commit("--allow-empty", "--message", "mine")
    enrolled, findings = swept()
    assert (enrolled, len(findings)) == (["blog"], 1)
    assert findings[0].startswith(f"The checkout {place.folder / 'checkout'} could not be brought up to date: ")


def test_one_recipes_bad_mirror_is_no_other_recipes(place: Place) -> None:
    for name, mirror in (("site", f"{place.folder}/mirror.git"), ("wiki", "git.example.org/x")):
        place.recipe(name)
        Repo.init(f"{place.folder}/mirror.git", bare=True)
        toml = place.world.checkout.folder(name) / "recipe.toml"
        toml.write_text(f'mirror = "{mirror}"\n{toml.read_text()}')
    assert sync_recipe(place.world, "site").pushed
    with pytest.raises(CanonqError) as caught:
        sync_recipe(place.world, "wiki")
    assert "git.example.org/x" in str(caught.value)
