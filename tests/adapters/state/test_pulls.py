"""The pulls of a host on record."""

from __future__ import annotations

from pathlib import Path

from canonq.adapters.state.pulls import Pulls
from canonq.core.pulls import Limit


def test_a_pull_counts_once_it_is_let_through_and_for_one_registry(tmp_path: Path) -> None:
    pulls, two = Pulls(tmp_path / "registries"), Limit(2, 100.0)
    assert pulls.take("docker.io", 1000.0, two) == 0
    assert pulls.take("docker.io", 1050.0, two) == 0
    assert pulls.take("docker.io", 1060.0, two) == 40.0
    assert pulls.take("localhost:5000", 1060.0, two) == 0
    assert pulls.take("docker.io", 1060.0, None) == 0, "without a limit they are counted as well"
    assert pulls.of("docker.io") == [1000.0, 1050.0, 1060.0]
    assert pulls.registries() == ["docker.io", "localhost:5000"]


def test_a_record_that_was_cut_off_counts_nothing_and_is_written_anew(tmp_path: Path) -> None:
    pulls = Pulls(tmp_path)
    (tmp_path / "docker.io.json").write_text('{"pulls": [1, "x", null, 2')
    assert pulls.of("docker.io") == []
    assert pulls.take("docker.io", 5.0, Limit(1, 60.0)) == 0
    assert pulls.of("docker.io") == [5.0]
