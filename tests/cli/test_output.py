"""Tables for people: every row fills its columns, and says why and whose fault."""

from __future__ import annotations

from typing import Any

from canonq.cli.output import OUTCOME_COLUMNS, outcome_rows
from canonq.core.outcomes import Outcome, shared_troubles


def test_a_sweeps_table_says_why_and_whose_fault_and_what_stopped_many_once() -> None:
    away: dict[str, Any] = {
        "outcome": "error",
        "reason": "registry-unreachable",
        "fault": "host",
        "outside": "registry.example",
        "detail": "away.",
    }
    outcomes = [
        Outcome(recipe="a", **away),
        Outcome(recipe="b", **away),
        Outcome(recipe="c", outcome="red", reason="health-wrong", fault="enrolment"),
        Outcome(recipe="d", outcome="promoted", reason="seed", version="1.0.0", level=5),
    ]
    rows = outcome_rows([one.model_dump() for one in outcomes], [one.model_dump() for one in shared_troubles(outcomes)])
    assert {len(row) for row in rows} == {len(OUTCOME_COLUMNS)}
    told = [dict(zip(OUTCOME_COLUMNS, row, strict=True)) for row in rows]
    assert [(row["recipe"], row["outcome"], row["reason"], row["fault"]) for row in told] == [
        ("2 recipes", "error", "registry-unreachable", "host"),
        ("c", "red", "health-wrong", "enrolment"),
        ("d", "promoted", "seed", None),
    ]
    assert "a, b" in told[0]["detail"]
