"""What killed writes leave is found once it is old, wherever it lies; a clock that was ahead pushes out no run."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from canonq.adapters.files import half_written, write_json
from canonq.adapters.state.runs import RUN_FILE, Runs

DAY = 86400.0


@pytest.mark.parametrize("age", [DAY, -400 * DAY])
def test_old_temporary_files_and_half_made_folders_are_left_by_killed_writes(tmp_path: Path, age: float) -> None:
    names = [
        "sweeps/20260617T050314Z-aaaaaa/.sweep.json.abcd1234", "images/.site.json.abcd_234", "repos/site/.new-abc/",
        "warm/site/.run.fence.abcd1234", "calls/task/.sweep.json.abcd1234",
    ]  # fmt: skip
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text("half")
    write_json(tmp_path / "sweeps" / "20260617T050314Z-aaaaaa" / "sweep.json", {})
    for whole in ("repos/site/repo.git/.HEAD.abcd1234", "warm/site/canonicals/x/volumes/data/.cache.abcd1234"):
        (tmp_path / whole).parent.mkdir(parents=True)
        (tmp_path / whole).write_text("not ours to judge")
    assert half_written(tmp_path) == [], "somebody may be writing them"
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - age,) * 2)
    assert half_written(tmp_path) == sorted(tmp_path / name for name in names)


def test_runs_of_the_future_go_before_any_run_of_now(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    ahead = [f"2999010{n}T000000Z-site-aaaaaa" for n in range(1, 4)]
    for run in [*ahead, "20260617T050314Z-site-aaaaaa", "20260618T050314Z-site-aaaaaa"]:
        (runs.make("site", run) / RUN_FILE).write_text("{}")
        runs.retain("site", 3)
    assert sorted(path.name for path in (tmp_path / "site").iterdir()) == [
        "20260617T050314Z-site-aaaaaa", "20260618T050314Z-site-aaaaaa", ahead[-1],
    ]  # fmt: skip
