"""The lint tier: the rules of core/stack/lint.py, a test for each (docs/rules.md 3). It never changes a verdict."""

from __future__ import annotations

from canonq.tiers.facts import read_facts


def test_rule(rule: str) -> None:
    findings = read_facts().lint[rule]
    assert not findings, "; ".join(findings)
