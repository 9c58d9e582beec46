"""What a sweep would do is told without reading all that was ever run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.state import runs
from canonq.flows.looking.status import status
from canonq.flows.sweeps.plan import plan
from tests.flows.conftest import FILES, FIRST
from tests.flows.mornings import MORNING, Mornings
from tests.support import release

NAMES = ("calm", "new", "quiet", "still")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many verdicts of each recipe were read."""
    found: Counter[str] = Counter()
    really = runs._bytes_of

    def counted(path: Path) -> bytes | None:
        if path.name == runs.RUN_FILE:
            found[path.parent.parent.name] += 1
        return really(path)

    monkeypatch.setattr(runs, "_bytes_of", counted)
    return found


@pytest.fixture
def mornings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mornings:
    """Four recipes with 20 runs each, and a release of one that is new."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nowhere.sock")
    mornings = Mornings(tmp_path)
    for name in NAMES:
        repo = mornings.place.recipe(name)
        commit = repo.commit().hexsha
        mornings.place.promote(name, FIRST, commit)
        if name == "new":
            release(repo, "1.1.0+1.1", FILES)
        for number in range(20):
            # Of the new release two runs were red, long ago; the others prove a ref.
            red: dict[str, Any] = {"version": "1.1.0+1.1", "commit": repo.commit().hexsha, "verdict": "red", "seconds": 2.0}
            mornings.run(name, MORNING, **(red if number in (0, 3) else {"ref": "main", "version": None}),
                         enrolment=mornings.world.checkout.digest(name))  # fmt: skip
    return mornings


def test_plan_reads_no_more_runs_than_it_tells_of(mornings: Mornings, read: Counter[str]) -> None:
    rows = {row["recipe"]: row for row in plan(mornings.world)["recipes"]}
    assert [(name, rows[name]["reason"]) for name in NAMES] == [
        ("calm", "no-new-version"), ("new", "new-version"), ("quiet", "no-new-version"), ("still", "no-new-version")]  # fmt: skip
    assert rows["new"]["expected_seconds"] == 42.0
    assert read == {"calm": 5, "new": 20 + 5, "quiet": 5, "still": 5}, "all only where reds may hold it; 5 tell how long it takes"


def test_a_release_is_held_by_reds_however_many_runs_came_since(mornings: Mornings, read: Counter[str]) -> None:
    (mornings.place.folder / "state" / "runs" / "new" / "reds.json").unlink()
    mornings.place.settings = {"hold_reds": 2}
    rows = {row["recipe"]: row["reason"] for row in plan(mornings.world)["recipes"]}
    assert rows["new"] == "held-red"
    assert read["new"] == 20


def test_status_reads_back_to_the_newest_proof_of_a_release(mornings: Mornings, read: Counter[str]) -> None:
    for name in NAMES[:3]:
        mornings.run(name, MORNING)
    read.clear()
    status(mornings.world)
    assert read == {"calm": 1, "new": 1, "quiet": 1, "still": 17}
