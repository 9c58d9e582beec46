"""What is kept about sweeps, on a real disk: who was enrolled, and an outcome for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.state.sweeps import Sweeps
from canonq.core.errors import WrongUse
from canonq.core.outcomes import Outcome, Tried

SWEEP = "20260617T050314Z-aaaaaa"


def outcome(recipe: str, **changes: Any) -> Outcome:
    return Outcome(recipe=recipe, outcome=changes.pop("outcome", "red"), reason="x", **changes)


def test_outcomes_survive_being_read_again(tmp_path: Path) -> None:
    settled = [outcome("site", version="1.0.0+1.0", level=2, seconds=1.5), outcome("blog", outcome="deferred")]
    for each in settled:
        Sweeps(tmp_path).settle(SWEEP, each)
    for _ in range(2):
        assert Sweeps(tmp_path).outcomes(SWEEP) == {each.recipe: each for each in settled}


def test_settling_twice_keeps_the_last_outcome(tmp_path: Path) -> None:
    Sweeps(tmp_path).settle(SWEEP, outcome("site", outcome="deferred"))
    Sweeps(tmp_path).settle(SWEEP, outcome("site", outcome="promoted"))
    assert [each.outcome for each in Sweeps(tmp_path).outcomes(SWEEP).values()] == ["promoted"]


@pytest.mark.parametrize("name", ["../../x", "a/b", ".", "", "UPPER case", "naïve", "new\nline", "x" * 255, "%41", "-rf"])
def test_a_broken_enrolments_folder_name_cannot_lead_out_of_the_sweep(tmp_path: Path, name: str) -> None:
    Sweeps(tmp_path / "sweeps").settle(SWEEP, outcome(name))
    assert list(Sweeps(tmp_path / "sweeps").outcomes(SWEEP)) == [name]
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "sweeps" / SWEEP / "outcomes"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(" 0", "\u0200", id="escapes that run into each other"),
        pytest.param("x" * 130 + "a", "x" * 130 + "b", id="long names"),
        pytest.param("A", "%41", id="an escape spelled out"),
    ],
)
def test_no_two_enrolments_share_an_outcome(tmp_path: Path, one: str, other: str) -> None:
    for name in (one, other):
        Sweeps(tmp_path).settle(SWEEP, outcome(name))
    assert set(Sweeps(tmp_path).outcomes(SWEEP)) == {one, other}


def test_an_outcome_is_taken_back_by_one_caller_only(tmp_path: Path) -> None:
    Sweeps(tmp_path).settle(SWEEP, outcome("site", outcome="deferred"))
    assert [Sweeps(tmp_path).unsettle(SWEEP, "site") for _ in range(3)] == [True, False, False]
    assert Sweeps(tmp_path).outcomes(SWEEP) == {}


def test_earlier_tries_are_kept_for_each_recipe_and_one_kept_twice_is_one(tmp_path: Path) -> None:
    tried = [
        Tried(ts=f"20260617T05031{n}Z", outcome=kind, reason="x") for n, kind in enumerate(("deferred", "error", "deferred"))
    ]
    for one in (*tried, tried[-1]):
        Sweeps(tmp_path).keep_try(SWEEP, "site", one)
    assert Sweeps(tmp_path).tries(SWEEP, "site") == tuple(tried)
    assert (Sweeps(tmp_path).retries(SWEEP, "site"), Sweeps(tmp_path).retries(SWEEP, "blog")) == (2, 0)


def test_the_newest_sweep_is_found(tmp_path: Path) -> None:
    assert Sweeps(tmp_path).newest() is None
    for sweep in ("20260618T050314Z-000000", SWEEP):
        Sweeps(tmp_path).open(sweep, {"enrolled": ["site"]})
    assert Sweeps(tmp_path).newest() == "20260618T050314Z-000000"
    assert Sweeps(tmp_path).read(SWEEP)["enrolled"] == ["site"]


def test_one_recipes_outcome_is_what_it_is_among_all(tmp_path: Path) -> None:
    sweeps = Sweeps(tmp_path / "sweeps")
    sweeps.open(SWEEP, {"sweep": SWEEP, "enrolled": ["a", "b", "Odd name"]})
    sweeps.settle_all(SWEEP, [Outcome(recipe=name, outcome="skipped", reason="no-new-version") for name in ("a", "b")])
    for name in ("b", "Odd name"):
        sweeps.settle(SWEEP, Outcome(recipe=name, outcome="red", reason="rolled-back"))
    found = sweeps.outcomes(SWEEP)
    assert {name: sweeps.outcome(SWEEP, name) for name in ("a", "b", "Odd name")} == found
    assert sweeps.outcome(SWEEP, "c") is None
    (tmp_path / "sweeps" / SWEEP / "outcomes" / "b.json").write_text("{")
    found_b = sweeps.outcome(SWEEP, "b")
    assert found_b is not None
    assert found_b.outcome == "skipped", "what is damaged counts as lost"


@pytest.mark.parametrize("bad", ["../x", "", SWEEP + "\n", SWEEP + "/..", "*"])
def test_what_is_no_sweep_id_touches_nothing(tmp_path: Path, bad: str) -> None:
    with pytest.raises(WrongUse):
        Sweeps(tmp_path / "sweeps").open(bad, {})
    assert list(tmp_path.iterdir()) == []
