"""What a journal keeps of the steps that were done."""

from __future__ import annotations

from pathlib import Path

import pytest

from canonq.adapters.processes.asked import Asked
from canonq.adapters.state.journal import Journal


def test_a_step_recorded_once_is_returned(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.result("site", "test") is None
    assert journal.begin("site", "test", "20260617T050314Z") == 1
    assert journal.result("site", "test") is None
    journal.finish("site", "test", {"verdict": "green"})
    assert Journal(tmp_path).result("site", "test") == {"verdict": "green"}
    assert Journal(tmp_path).result("site", "promote") is None
    assert Journal(tmp_path).result("blog", "test") is None


def test_an_empty_result_is_a_result(tmp_path: Path) -> None:
    Journal(tmp_path).finish("site", "sync", {})
    assert Journal(tmp_path).result("site", "sync") == {}


def test_attempts_are_counted_over_restarts(tmp_path: Path) -> None:
    assert [Journal(tmp_path).begin("site", "test", "20260617T050314Z") for _ in range(3)] == [1, 2, 3]


def test_only_who_died_without_being_asked_to_end_has_died_of_what_it_was_at(tmp_path: Path) -> None:
    journal, asked = Journal(tmp_path), Asked(tmp_path)

    def begin(worker: str) -> int:
        return journal.begin(
            "site", "test", "20260617T050314Z", processes=[f"child-of-{worker}", worker], were_asked=asked.any_of
        )

    assert [begin("killed"), begin("killed")] == [1, 2]
    for number in range(5):  # systemd, compose or a person, each time another worker
        journal.count_resend("site")
        asked.note(f"stopped-{number}")
        assert begin(f"stopped-{number}") == 3
    assert journal.resent("site") == 0, "chains that were lost with them are no loss either"
    assert begin("killed") == 3
    assert [begin("killed"), begin("killed")] == [4, 5]
    assert journal.begin("site", "test", "20260617T050314Z") == 6, "whoever notes nothing may have died of it"


def test_a_step_begun_again_keeps_its_result_and_the_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.finish("site", "sync", {"tags": 3})
    journal.begin("site", "sync", "20260617T050314Z")
    journal.begin("site", "decide", "20260617T050314Z")
    assert journal.result("site", "sync") == {"tags": 3}
    assert list(journal.steps("site")) == ["sync", "decide"]


def test_a_forgotten_recipe_begins_anew(tmp_path: Path) -> None:
    Journal(tmp_path).finish("site", "sync", {"tags": 3})
    for _ in range(2):
        Journal(tmp_path).forget("site", None)
    assert Journal(tmp_path).result("site", "sync") is None
    assert Journal(tmp_path).begin("site", "sync", "20260617T050314Z") == 1


@pytest.mark.parametrize("raw", ["", '{"test": {"att', "[1]"])
def test_a_journal_that_cannot_be_read_is_named_and_its_steps_are_done_again(
    tmp_path: Path, raw: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "steps" / "site.json"
    path.parent.mkdir()
    path.write_text(raw)
    assert Journal(tmp_path).result("site", "test") is None
    assert str(path) in caplog.text
    assert Journal(tmp_path).begin("site", "test", "20260617T050314Z") == 1
