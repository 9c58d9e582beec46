"""Sweeps of thousands: what is done for one recipe does not grow with the others, and what is counted is only ever a help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workers.steps
from canonq.core.outcomes import Outcome
from canonq.flows.sweeps.closing import finish
from tests.flows.conftest import Place
from tests.flows.sweeps.test_sweeps import Sweeping


def outcome(recipe: str, **more: Any) -> Outcome:
    found: dict[str, Any] = {"outcome": "skipped", "reason": "no-new-version", "step": "decide", **more}
    return Outcome(recipe=recipe, **found)


class Bare(Place):
    """A place whose recipes nobody syncs."""

    def recipe(self, name: str = "site", *, toml: str = "", upstream: str = "") -> Any:
        """Enrol one, and no more."""
        folder = self.folder / "checkout" / "tests" / name
        folder.mkdir()
        (folder / "recipe.toml").write_text('upstream = "/nowhere"\n')


def test_a_step_reads_as_many_files_beside_forty_recipes_as_beside_four(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reads(count: int) -> int:
        place = Bare(tmp_path / f"{count}")
        place.settings["redis_url"] = "redis://127.0.0.1:1/0"
        sweeping = Sweeping(place, *(f"r{number}" for number in range(count)))
        monkeypatch.setattr(workers.steps, "live", lambda: sweeping.world)
        for number in range(2, count):
            sweeping.world.sweeps.settle(sweeping.sweep, outcome(f"r{number}"))
        read: list[Path] = []
        with monkeypatch.context() as counting:
            for name in ("read_bytes", "read_text"):
                counting.setattr(Path, name, _noting(read, getattr(Path, name)))
            sweeping.take("decide", "r0", lambda _: sweeping.skip("r0"))
        assert sweeping.outcome("r0") == ("skipped", "no-new-version")
        return len(read)

    assert reads(40) == reads(4)


def _noting(read: list[Path], real: Callable[..., Any]) -> Callable[..., Any]:
    def noting(path: Path, *given: Any, **more: Any) -> Any:
        read.append(path)
        return real(path, *given, **more)

    return noting


def test_what_is_left_of_a_sweep_is_counted_with_each_outcome_and_never_less_than_it_is(tmp_path: Path) -> None:
    place = Bare(tmp_path)
    sweeping = Sweeping(place, "one", "two")
    sweeps, sweep = sweeping.world.sweeps, sweeping.sweep

    def left() -> tuple[int, tuple[str, ...]]:
        found = sweeps.tally(sweep)
        assert found is not None
        return found.pending, found.waiting

    assert left() == (2, ())
    sweeps.settle(sweep, outcome("one", outcome="error", retry_at=1.0))
    assert left() == (1, ("one",))
    assert finish(sweeping.world, sweep) is None
    assert sweeps.unsettle(sweep, "one")
    assert left() == (2, ())
    assert not sweeps.unsettle(sweep, "one")
    assert left() == (2, ())
    for _ in range(2):
        sweeps.settle(sweep, outcome("one"))
        assert left() == (1, ())
    (sweeps.folder(sweep) / "outcomes" / "one.json").unlink()  # as by hand
    sweeps.count(sweep)
    assert left() == (2, ())


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pending": 0, "waiting": []}', '{"pending": -3, "waiting": ["gone"]}', '{"pending": "x"}']
)
def test_whatever_a_power_cut_leaves_of_the_count_no_sweep_is_closed_too_early_or_never(tmp_path: Path, text: str) -> None:
    place = Bare(tmp_path)
    sweeping = Sweeping(place, "one", "two")
    world, sweep = sweeping.world, sweeping.sweep
    world.sweeps.settle(sweep, outcome("one"))
    (world.sweeps.folder(sweep) / "tally.json").write_text(text)
    assert finish(world, sweep) is None
    world.sweeps.settle(sweep, outcome("two"))
    world.sweeps.count(sweep)
    whole = finish(world, sweep)
    assert whole is not None
    assert whole["counts"]["skipped"] == 2
    assert not (world.sweeps.folder(sweep) / "tally.json").exists()
