"""What is kept about runs, on a real disk: folders, verdicts, and the reds that count."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.state.runs import Runs
from canonq.core.errors import HostProblem, WrongUse
from canonq.core.records import Verdict
from tests.core.test_gate import verdict

SWEEP = "20260617T050314Z-aaaaaa"


def run_id(number: int) -> str:
    return f"202606{number:02}T050314Z-site-aaaaaa"


def keep(runs: Runs, *numbers: int, **changes: Any) -> None:
    for number in numbers:
        runs.make("site", run_id(number))
        runs.record(verdict(run=run_id(number), **changes))


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "site").iterdir())


def test_a_verdict_is_of_the_folder_in_which_it_is_found_also_when_the_state_folder_was_moved(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "before")
    keep(runs, 1, directory=str(tmp_path / "before" / "site" / run_id(1)))
    (tmp_path / "before").rename(tmp_path / "after")
    moved = Runs(tmp_path / "after")
    there = str(tmp_path / "after" / "site" / run_id(1))
    assert [found.directory for found in moved.verdicts("site")] == [there]
    found = moved.verdict("site", run_id(1))
    assert found is not None
    assert found.directory == there


def test_a_recipe_that_never_ran_has_no_verdict(tmp_path: Path) -> None:
    assert Runs(tmp_path).verdicts("site") == []
    assert Runs(tmp_path).newest("site") is None


def test_the_newest_verdict_is_of_the_run_that_was_made_last_whatever_its_name_says(tmp_path: Path) -> None:
    keep(Runs(tmp_path), 2, 11, 9)
    newest = Runs(tmp_path).newest("site")
    assert newest is not None
    assert newest.run == run_id(9), "the clock was ahead, and was set right"
    assert [kept.run for kept in Runs(tmp_path).verdicts("site")] == [run_id(2), run_id(11), run_id(9)]


def test_runs_of_an_older_canonq_are_older_and_their_names_decide(tmp_path: Path) -> None:
    keep(Runs(tmp_path), 2, 11, 9)
    for path in tmp_path.glob("site/*/number"):
        path.unlink()
    keep(Runs(tmp_path), 1)
    assert [kept.run for kept in Runs(tmp_path).verdicts("site")] == [run_id(2), run_id(9), run_id(11), run_id(1)]


def test_a_run_that_never_ended_has_no_verdict(tmp_path: Path) -> None:
    keep(Runs(tmp_path), 1)
    Runs(tmp_path).make("site", run_id(2))
    assert (Runs(tmp_path).newest("site") or verdict()).run == run_id(1)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(verdict().model_dump_json()[:80].encode(), id="half-written"),
        pytest.param(b"\0" * 64, id="zeroes"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"of": "another version"}', id="of another version"),
    ],
)
def test_a_verdict_that_cannot_be_read_is_passed_over(tmp_path: Path, raw: bytes) -> None:
    keep(Runs(tmp_path), 1)
    (Runs(tmp_path).make("site", run_id(2)) / "run.json").write_bytes(raw)
    assert [kept.run for kept in Runs(tmp_path).verdicts("site")] == [run_id(1)]


def test_a_run_is_made_once(tmp_path: Path) -> None:
    Runs(tmp_path).make("site", run_id(1))
    with pytest.raises(HostProblem):
        Runs(tmp_path).make("site", run_id(1))


def test_a_bad_name_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(WrongUse):
        Runs(tmp_path / "runs").make("../site", run_id(1))
    assert list(tmp_path.iterdir()) == []


def test_the_newest_runs_are_retained(tmp_path: Path) -> None:
    keep(Runs(tmp_path), 3, 1, 4, 2)
    (tmp_path / "site" / run_id(1) / "logs").mkdir()
    (tmp_path / "site" / run_id(1) / "logs" / "app.log").write_text("x")
    Runs(tmp_path).retain("site", 2)
    assert folders(tmp_path) == [run_id(2), run_id(4)], "those that were made last"


@pytest.mark.parametrize("kept", [2, 20])
def test_nothing_goes_when_there_are_no_more_than_are_kept(tmp_path: Path, kept: int) -> None:
    keep(Runs(tmp_path), 1, 2)
    Runs(tmp_path).retain("site", kept)
    assert folders(tmp_path) == [run_id(1), run_id(2)]
    Runs(tmp_path).retain("blog", kept)


def test_the_run_that_the_canonical_names_is_always_retained(tmp_path: Path) -> None:
    keep(Runs(tmp_path), 1, 2, 3, 4)
    Runs(tmp_path).retain("site", 2, [run_id(1)])
    assert folders(tmp_path) == [run_id(1), run_id(3), run_id(4)]


def test_retaining_one_recipes_runs_leaves_the_others(tmp_path: Path) -> None:
    keep(Runs(tmp_path), 1, 2)
    Runs(tmp_path).make("blog", "20260101T000000Z-blog-aaaaaa")
    Runs(tmp_path).retain("site", 1)
    assert len(list((tmp_path / "blog").iterdir())) == 1


def test_reds_count_on_the_very_tag_commit_and_enrolment_only(tmp_path: Path) -> None:
    commit, enrolment = "b" * 40, "sha256:now"
    days = itertools.count(1)
    for changes in (
        {"verdict": "red"},
        {"verdict": "red"},
        {"verdict": "red", "commit": "c" * 40},
        {"verdict": "red", "version": "1.0.9+1.1"},
        {"verdict": "red", "enrolment": "sha256:before"},
        {"verdict": "red", "ref": "refs/pull/1/head"},
        {"verdict": "red", "quick": True},
        {"verdict": "red", "superseded_by": run_id(30)},
        {"verdict": "error", "fault": "host"},
        {"verdict": "green"},
    ):
        keep(Runs(tmp_path), next(days), **{"commit": commit, "enrolment": enrolment, **changes})
    runs = Runs(tmp_path)
    assert runs.reds("site", "1.1.0+1.1", commit, enrolment) == 2
    assert runs.reds("site", "1.1.0+1.1", "c" * 40, enrolment) == 1
    assert runs.reds("site", "1.1.0+1.1", commit, "sha256:tomorrow") == 0


@pytest.mark.parametrize("kept", [1, 2, 20])
def test_other_runs_release_no_red_however_few_are_kept(tmp_path: Path, kept: int) -> None:
    runs, commit, enrolment = Runs(tmp_path), "b" * 40, "sha256:now"
    for day in (1, 2, 3):
        keep(runs, day, verdict="red", commit=commit, enrolment=enrolment)
        runs.retain("site", kept)
    for day in range(4, 26):
        keep(runs, day, verdict="red", commit=commit, enrolment=enrolment, ref="pull/7/head")
        runs.retain("site", kept)
    assert len([name for name in folders(tmp_path) if name != "reds.json"]) <= kept + 1
    assert runs.reds("site", "1.1.0+1.1", commit, enrolment) == 3


def test_a_red_that_was_repeated_is_taken_back_and_counts_no_more(tmp_path: Path) -> None:
    runs, commit, enrolment = Runs(tmp_path), "b" * 40, "sha256:now"
    keep(runs, 1, verdict="red", commit=commit, enrolment=enrolment)
    keep(runs, 2, verdict="green", commit=commit, enrolment=enrolment)
    runs.record(verdict(run=run_id(1), verdict="red", commit=commit, enrolment=enrolment, superseded_by=run_id(2)))
    assert runs.reds("site", "1.1.0+1.1", commit, enrolment) == 0


def test_reds_are_counted_from_the_folders_where_their_record_cannot_be_read(tmp_path: Path) -> None:
    runs, commit, enrolment = Runs(tmp_path), "b" * 40, "sha256:now"
    keep(runs, 1, verdict="red", commit=commit, enrolment=enrolment)
    (tmp_path / "site" / "reds.json").write_text("[{")
    assert runs.reds("site", "1.1.0+1.1", commit, enrolment) == 1
    keep(runs, 2, verdict="red", commit=commit, enrolment=enrolment)
    assert runs.reds("site", "1.1.0+1.1", commit, enrolment) == 2


def test_a_copy_of_a_run_that_somebody_made_is_no_run_of_its_own_and_stays(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    keep(runs, 1, 2)
    for copy in (tmp_path / "site" / f"{run_id(1)}.before", tmp_path / "site" / run_id(5), tmp_path / "blog" / run_id(1)):
        shutil.copytree(tmp_path / "site" / run_id(1), copy)
        (copy / "number").write_text("9\n")
    assert [one.run for one in runs.verdicts("site")] == [run_id(1), run_id(2)]
    assert runs.verdict("site", run_id(5)) is None
    assert runs.newest("blog") is None
    runs.retain("site", 1)
    assert f"{run_id(1)}.before" in folders(tmp_path), "what is no run's folder is not canonq's to remove"


def test_a_verdict_that_cannot_be_read_is_told_where_it_is_newer(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    keep(runs, 1, 2, 3)
    assert runs.unread_since("site", run_id(3)) is None
    (tmp_path / "site" / run_id(2) / "run.json").write_text('{"of": "a newer canonq"}')
    assert runs.unread_since("site", run_id(1)) == run_id(2)
    assert runs.unread_since("site", run_id(3)) is None
    (tmp_path / "site" / run_id(3) / "run.json").unlink()  # it never ended, so it said nothing
    assert runs.unread_since("site", None) == run_id(2)


def test_what_was_last_said_of_a_release_is_kept_whatever_runs_come_after_it(tmp_path: Path) -> None:
    runs, release = Runs(tmp_path), {"commit": "b" * 40, "enrolment": "sha256:now"}
    keep(runs, 1, verdict="green", **release)
    keep(runs, 2, verdict="red", **release)
    for day in range(3, 8):
        keep(runs, day, verdict="green", ref="pull/7/head", **release)
        runs.retain("site", 1)
    assert folders(tmp_path) == [run_id(2), run_id(7), "reds.json"]


def test_a_verdict_comes_back_whole(tmp_path: Path) -> None:
    one = verdict(run=run_id(1), sweep=SWEEP, detail="é\n€", images={"app": "sha256:1"}, timings={"pull": 0.5}, disk_bytes=7)
    one = one.model_copy(update={"directory": str(tmp_path / "site" / run_id(1))})
    Runs(tmp_path).record(one)
    assert Runs(tmp_path).newest("site") == one


def test_a_verdict_of_a_hostile_recipe_name_is_no_verdict() -> None:
    for name in ("../site", "site\n", ""):
        with pytest.raises(ValueError, match="recipe"):
            Verdict.model_validate({**verdict().model_dump(), "recipe": name})
