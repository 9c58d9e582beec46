"""The environment of a red run that stays up because somebody asked for it: shown, left alone, and ended on time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from canonq.core.amounts import seconds_in
from canonq.core.errors import HostProblem, WrongUse
from canonq.flows.keeping.janitor import clean
from canonq.flows.keeping.kept import KEPT, end, end_due, rows
from canonq.flows.keeping.room import make_room
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.test import test_tag as prove_tag
from tests.fakes import FakeEngine
from tests.flows.sites import OWN, TARGET, Site

RED = "def test_a():\n    assert False, 'no page'\n"
HOURS = 4 * 3600.0


def test_a_red_run_stays_up_when_asked_is_shown_and_left_alone_until_its_time_has_come(site: Site) -> None:
    world = site.prepare(own=RED)
    verdict = prove_tag(world, "site", None, keep_on_red=HOURS)
    assert (verdict.verdict, verdict.reason) == ("red", "functional-failed")
    assert any(note.startswith("kept: ") for note in verdict.notes)
    (row,) = rows(world)
    assert (row["recipe"], row["version"], row["run"], row["reason"]) == ("site", TARGET, verdict.run, "functional-failed")
    assert row["stack"] in site.left()["stacks"]
    assert f"{row['stack']}_app" in row["enter"]
    assert clean(world) == []
    assert row["stack"] in site.left()["stacks"]
    later = replace(world, now=lambda: world.now() + timedelta(hours=4, minutes=1))
    (told,) = end_due(later)
    assert row["stack"] in told
    assert site.left() == {}
    assert rows(world) == []
    assert not list(world.work.glob("[!.]*"))


def test_what_is_green_or_was_never_up_is_not_kept(site: Site) -> None:
    world = site.prepare()
    assert prove_tag(world, "site", None, keep_on_red=HOURS).verdict == "green"
    assert rows(world) == []
    assert site.left() == {}


@pytest.mark.long
def test_a_kept_environment_makes_way_when_disk_is_short_and_ends_when_somebody_says_so(site: Site) -> None:
    world = site.prepare(own=RED)
    first = prove_ref(world, "site", "main", keep_on_red=HOURS)
    second = prove_tag(world, "site", None, keep_on_red=HOURS)
    assert {row["run"] for row in rows(world)} == {first.run, second.run}, "a run does not clean away what another one left"
    assert "somebody asked for it" in end(world, first.run)
    with pytest.raises(WrongUse, match=second.run):
        end(world, first.run)
    make_room(world)
    assert rows(world) == []
    assert site.left() == {}


def test_a_kept_environment_that_cannot_be_removed_is_not_told_as_ended(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    world = site.prepare(own=RED)
    run = prove_tag(world, "site", None, keep_on_red=HOURS).run

    def away(*_: object) -> dict[str, list[str]]:
        raise HostProblem("The Docker Engine does not answer.")

    with monkeypatch.context() as docker:
        docker.setattr(FakeEngine, "remove_owned", away)
        with pytest.raises(HostProblem, match="Not all of the kept environment"):
            end(world, run)
    assert len(clean(world)) == 1
    assert site.left() == {}


def test_a_note_that_was_tampered_with_keeps_nothing_from_the_janitor(site: Site) -> None:
    world = site.prepare(own=RED)
    run = prove_tag(world, "site", None, keep_on_red=HOURS).run
    (world.work / run / KEPT).write_text('{"until": "99991231T000000Z", "run": "' + "[" * 5000)
    assert len(clean(world)) == 1
    assert site.left() == {}


@pytest.mark.parametrize("seconds", [0, -1, True, "4h", 10**9, float("nan"), [1]])
def test_a_message_that_asks_for_no_length_of_time_is_refused(site: Site, seconds: object) -> None:
    with pytest.raises(WrongUse):
        prove_tag(site.prepare(own=OWN), "site", None, keep_on_red=seconds)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("4h", 14400), ("2d", 172800), (" 1h ", 3600)])
def test_a_length_of_time_is_read_as_people_type_it(text: str, seconds: int) -> None:
    assert seconds_in(text, most=7 * 86400) == seconds


@pytest.mark.parametrize("text", ["", "4", "h", "0m", "8d", "-1h", "4 h", "1h30m", "٤h", "9999999h", "4H\n4h"])
def test_what_is_no_length_of_time_is_told_with_how_to_write_one(text: str) -> None:
    with pytest.raises(WrongUse) as raised:
        seconds_in(text, most=7 * 86400)
    assert raised.value.code == "bad-duration"
