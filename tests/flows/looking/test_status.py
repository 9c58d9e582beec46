"""What status tells: a night without a sweep, as no sweep is there to tell it; what is green and waits; what is running."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from beat_schedule import MOST_NIGHTS, nights_since
from canonq.adapters.state.work_folders import alive
from canonq.cli import checking, looking
from canonq.cli.commands import canonq
from canonq.core.errors import CanonqError
from canonq.core.outcomes import Outcome
from canonq.core.records import Decision, Promotion
from canonq.flows.keeping.janitor import clean
from canonq.flows.looking import doctor
from canonq.flows.looking.status import status
from canonq.flows.sweeps.closing import fail, finish
from canonq.flows.sweeps.nights import look_at_nights
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import settle
from canonq.flows.sweeps.summary import summary
from tests.core.test_gate import verdict
from tests.fakes import FakeEngine
from tests.flows.conftest import FIRST, Place

FIFTEENTH = "20260615T030000Z"
RUN = "20260617T050314Z-site-aaaaaa"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def sweep_night(place: Place, night: str, ended: str = "done") -> str:
    """A worker takes a night, which comes to some end."""
    world = place.world
    assert world.sweeps.nights.claim(night, f"task-{night}")
    sweep = world.sweeps.calls.sweep_for(f"task-{night}", world.new_id())
    if ended == "failed":
        fail(world, sweep, CanonqError("The checkout is not there."))
        return sweep
    open_sweep(world, (), sweep, nightly=True)
    if ended == "done":
        world.sweeps.settle(sweep, Outcome(recipe="site", outcome="skipped", reason="no-new-version"))
        assert finish(world, sweep)
    return sweep


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    place.recipe("site")
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://127.0.0.1:1/0")
    return place


def looked_at(place: Place, now: str) -> tuple[str | None, tuple[str, ...]]:
    found = look_at_nights(replace(place.world, now=lambda: at(now)), nights_since)
    return (found.last.due if found.last else None), found.missed


def test_the_last_night_with_a_report_is_told_and_those_missed_since(place: Place) -> None:
    assert looked_at(place, "2026-06-20 07:00") == (None, ()), "nothing was ever swept by night, so nothing is missed"
    sweep_night(place, "20260614T030000Z")
    sweep_night(place, FIFTEENTH)
    assert looked_at(place, "2026-06-16 02:59") == (FIFTEENTH, ())
    assert looked_at(place, "2026-06-16 03:10") == (FIFTEENTH, ()), "a worker may be about to take it"
    assert looked_at(place, "2026-06-17 07:00") == (FIFTEENTH, ("20260616T030000Z", "20260617T030000Z"))


def test_a_night_under_way_is_not_missed_and_one_that_failed_has_told_so_itself(place: Place) -> None:
    sweep_night(place, FIFTEENTH)
    sweep_night(place, "20260616T030000Z", "open")
    assert looked_at(place, "2026-06-16 07:00") == (FIFTEENTH, ())
    sweep_night(place, "20260617T030000Z", "failed")
    assert looked_at(place, "2026-06-17 07:00") == ("20260617T030000Z", ())


def test_a_night_whose_worker_died_before_there_was_a_sweep_is_missed(place: Place) -> None:
    sweep_night(place, FIFTEENTH)
    assert place.world.sweeps.nights.claim("20260616T030000Z", "task-of-the-dead")
    assert looked_at(place, "2026-06-16 07:00") == (FIFTEENTH, ("20260616T030000Z",))
    sweep_night(place, "20260617T030000Z")
    assert looked_at(place, "2026-06-17 07:00") == ("20260617T030000Z", ()), "that sweep has told it"


def test_a_clock_that_was_ahead_hides_no_missed_night(place: Place) -> None:
    sweep_night(place, FIFTEENTH)
    sweep_night(place, "20270615T030000Z")
    assert looked_at(place, "2026-06-16 07:00") == (FIFTEENTH, ("20260616T030000Z",))


@pytest.mark.parametrize(
    ("nightly", "due"),
    [
        (None, ["20260616T030000Z", "20260617T030000Z"]),
        ("0 3 * * 1", []),
        ("30 1,13 * * *", ["20260615T133000Z", "20260616T013000Z", "20260616T133000Z", "20260617T013000Z"]),
    ],
    ids=["daily", "mondays", "twice"],
)
def test_nights_are_counted_by_the_schedule(nightly: str | None, due: list[str]) -> None:
    assert nights_since(FIFTEENTH, at("2026-06-17 07:00:01"), nightly) == due


def test_of_very_many_nights_the_last_are_told(place: Place) -> None:
    found = nights_since("20200101T030000Z", at("2026-06-17 07:00"))
    assert (len(found), found[-1]) == (MOST_NIGHTS, "20260617T030000Z")


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_a_missed_night_is_told_at_the_command_line_and_gives_1(
    command: str, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = sweep_night(place, FIFTEENTH)

    def typed(now: str, *more: str) -> tuple[int, str]:
        world = replace(place.world, now=lambda: at(now))
        monkeypatch.setattr(looking, "looking", lambda *_: world)
        monkeypatch.setattr(checking, "checking", lambda *_: world)
        monkeypatch.setattr(doctor, "_PROBES", ())
        ended = CliRunner().invoke(canonq, [command, *more], standalone_mode=False, terminal_width=200)
        return int(ended.return_value), ended.stdout

    status_now, said = typed("2026-06-15 07:00")
    assert status_now == 0
    assert FIFTEENTH in said
    assert sweep in said
    status_now, said = typed("2026-06-16 07:00")
    assert status_now == 1
    words = " ".join(said.split())
    assert "No sweep ran on the night of 20260616T030000Z" in words
    if command == "status":
        found = json.loads(typed("2026-06-16 07:00", "--json")[1])
        assert found["missed_nights"] == ["20260616T030000Z"]
        assert found["last_night"] == {"due": FIFTEENTH, "sweep": sweep, "state": "done"}


def test_a_recipe_whose_name_ends_like_anothers_is_not_shown_as_running(place: Place) -> None:
    place.recipe("custom-site")
    world = place.world
    with alive(world.work / world.new_id("custom-site")):
        rows = {row["recipe"]: len(row["running"]) for row in status(world)["recipes"]}
    assert rows == {"site": 0, "custom-site": 1}


def test_the_janitor_of_one_recipe_leaves_another_whose_name_ends_like_it(place: Place) -> None:
    world = replace(place.world, engine=FakeEngine(place.folder / "docker"))
    dead = world.work / world.new_id("custom-site")
    dead.mkdir(parents=True)
    assert clean(world, recipe="site") == []
    assert dead.is_dir()
    assert len(clean(world, recipe="custom-site")) == 1
    assert not dead.exists()


# -- green, waiting to be promoted --------------------------------------------------------------------------


def green(place: Place, **changes: Any) -> Any:
    """A release of `site` that was proven and not promoted."""
    world = place.world
    commit = "b" * 40
    given = {"version": FIRST, "commit": commit, "base": None, "base_commit": None, "enrolment": world.checkout.digest("site")}
    made = verdict(**{**given, **changes})
    world.runs.make("site", made.run)
    world.runs.record(made)
    return made


def row(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = status(place.world, "site")["recipes"][0]
    return found


def test_status_tells_what_is_green_and_waits_to_be_promoted(place: Place) -> None:
    proof = green(place)
    assert row(place)["proven"] == {"version": FIRST, "run": proof.run, "failures": 0, "held": None}
    place.world.runs.note_failure("site", proof.run, {"cause": "not-healthy"})
    assert row(place)["proven"]["failures"] == 1
    said = CliRunner().invoke(canonq, ["status"]).stdout
    assert f"site: {FIRST} is green (run {proof.run}), waiting to be promoted" in said
    place.promote("site", FIRST, "b" * 40)
    assert row(place)["proven"] is None


@pytest.mark.parametrize("changes", [{"verdict": "red"}, {"quick": True}, {"ref": "main"}, {"enrolment": "another"}])
def test_what_the_gate_would_not_let_pass_does_not_wait(place: Place, changes: dict[str, Any]) -> None:
    green(place, **changes)
    assert row(place)["proven"] is None


def test_a_sweep_tells_what_is_green_and_not_promoted(place: Place) -> None:
    world, proof = place.world, green(place)
    sweep = open_sweep(world).sweep
    journal = world.sweeps.journal(sweep)
    journal.begin("site", "test", world.stamp())
    assert summary(world, sweep)["proven"] == []
    journal.finish("site", "test", proof.model_copy(update={"sweep": sweep}).model_dump(mode="json"))
    assert summary(world, sweep)["proven"] == ["site"]
    failed = Promotion(
        recipe="site", sweep=sweep, outcome="failed", reason="promote-failed", detail="", version=FIRST, run=proof.run
    )
    settle(world, failed)
    assert summary(world, sweep)["proven"] == ["site"]


@pytest.mark.parametrize(
    ("value", "waits"),
    [
        (Promotion(recipe="site", outcome="refused", reason="not-newer", detail=""), False),
        (Promotion(recipe="site", outcome="busy", reason="busy", detail="", run="r"), True),
        (Decision(recipe="site", action="skip", reason="held-promotion", detail="", run="r"), True),
        (Decision(recipe="site", action="skip", reason="no-new-version", detail=""), False),
    ],
)
def test_put_off_and_held_promotions_wait_and_refused_ones_do_not(place: Place, value: Any, waits: bool) -> None:
    sweep = open_sweep(place.world).sweep
    settle(place.world, value.model_copy(update={"sweep": sweep}))
    assert summary(place.world, sweep)["proven"] == (["site"] if waits else [])


@pytest.mark.parametrize("became", ["broken", "gone"])
def test_what_is_kept_is_shown_whatever_became_of_the_enrolment(place: Place, became: str) -> None:
    place.recipe("blog")
    place.promote("site", FIRST, "a" * 40)
    world = place.world
    world.runs.make("site", RUN)
    world.runs.record(verdict(run=RUN))
    toml = place.folder / "checkout" / "tests" / "site" / "recipe.toml"
    toml.write_text("weight = 3") if became == "broken" else toml.unlink()

    def words(*typed: str) -> Any:
        return CliRunner().invoke(canonq, [*typed, "--json"], standalone_mode=False)

    (row,) = json.loads(words("status", "site").stdout)["recipes"]
    assert (row["canonical"]["version"], row["last_run"]["id"], row["weight"]) == (FIRST, RUN, None)
    assert (row["problem"] is not None) is (became == "broken")
    assert json.loads(words("verify", "site").stdout)["recipes"][0]["version"] == FIRST
    assert json.loads(words("logs", "site").stdout)["run"] == RUN
    everybody = {one["recipe"]: one for one in json.loads(words("status").stdout)["recipes"]}
    assert set(everybody) == ({"site", "blog"} if became == "broken" else {"blog"})
    assert became == "gone" or everybody["site"]["canonical"]["version"] == FIRST
    told = words("rollback", "site", "--reason", "x").exception
    assert isinstance(told, CanonqError)
    assert told.code == "redis-unreachable", "it goes on to what it needs, and the enrolment is not of that"
    told = words("verify", "blog").exception
    assert isinstance(told, CanonqError)
    assert (told.code, told.exit_status) == ("no-canonical", 2), "it was never promoted, and nothing is broken"
    told = words("status", "sitte").exception
    assert isinstance(told, CanonqError)
    assert told.code == "not-enrolled"


def test_where_nothing_was_proven_yet_the_way_on_is_told(place: Place) -> None:
    told = CliRunner().invoke(canonq, ["status"])
    assert (told.exit_code, "`canonq sweep --wait` does all" in told.output) == (0, True)
    place.promote("site", "1.0.0+1.0", "c" * 40)
    assert "sweep --wait" not in CliRunner().invoke(canonq, ["status"]).output


def test_where_docker_does_not_answer_it_is_the_machinery_that_failed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.promote("site", FIRST, "a" * 40)
    record = place.folder / "state" / "warm" / "site" / "canonical.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "volumes": ["warm-site-1_data", "warm-site-1_more"]}))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place.folder}/nobody-listens.sock")
    ended = CliRunner().invoke(canonq, ["verify", "--json"], standalone_mode=False)
    (row,) = json.loads(ended.stdout)["recipes"]
    assert "could not be asked" in "".join(row["problems"])
    assert (row["fault"], int(ended.return_value)) == ("host", 3), row
