"""What is kept of tasks that somebody called by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from canonq.adapters.state.calls import Calls
from canonq.core.errors import WrongUse

SWEEP = "20260617T050314Z-aaaaaa"


def test_a_task_delivered_twice_opens_one_sweep(tmp_path: Path) -> None:
    assert Calls(tmp_path).sweep_for("task-1", SWEEP) == SWEEP
    assert Calls(tmp_path).sweep_for("task-1", "20260618T050314Z-bbbbbb") == SWEEP
    assert Calls(tmp_path).sweep_for("task-2", "20260618T050314Z-bbbbbb") == "20260618T050314Z-bbbbbb"
    assert (Calls(tmp_path).sweep_of("task-1"), Calls(tmp_path).sweep_of("task-3")) == (SWEEP, None)


def test_a_sweep_that_cannot_be_read_is_told_as_not_known(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Calls(tmp_path).sweep_for("task-1", SWEEP)
    (tmp_path / "task-1" / "sweep.json").write_text('{"sweep": "../')
    assert Calls(tmp_path).sweep_of("task-1") is None
    assert "task-1" in caplog.text


def test_the_journals_about_a_recipe_are_found(tmp_path: Path) -> None:
    for task, recipe in (("task-1", "site"), ("task-2", "blog")):
        Calls(tmp_path).journal(task).begin(recipe, "test", "20260617T050314Z")
    assert [list(one.steps("site")) for one in Calls(tmp_path).journals("site")] == [["test"]]
    assert len(Calls(tmp_path).journals()) == 2


@pytest.mark.parametrize("bad", ["../x", "", "task\n", "a/b", "*"])
def test_what_is_no_task_id_touches_nothing(tmp_path: Path, bad: str) -> None:
    for use in (Calls(tmp_path).journal, lambda task: Calls(tmp_path).sweep_for(task, SWEEP)):
        with pytest.raises(WrongUse):
            use(bad)
    assert list(tmp_path.iterdir()) == []
