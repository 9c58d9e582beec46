"""Running one tier: a pytest run in a process of its own, with JUnit output and its log kept."""

from __future__ import annotations

import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from canonq.adapters.programs import plain_environment, run
from canonq.core.errors import CanonqError
from canonq.core.ladder import TierName, TierResult
from canonq.tiers.plugin import VARIABLE, TierFacts, write_facts

_FAILED, _NONE_COLLECTED = 1, 5  #: pytest's exit statuses


@dataclass(frozen=True)
class _Case:
    name: str
    problem: str


def run_tier(tier: TierName, facts: TierFacts, folder: Path, timeout: float) -> TierResult:
    """Run the generic tests of `tier`; files go to `folder/<tier>/`. CanonqError when pytest itself fails."""
    kept = folder / tier
    kept.mkdir(parents=True, exist_ok=True)
    write_facts(kept / "facts.json", facts)
    junit = kept / "junit.xml"
    module = Path(str(resources.files("canonq.tiers") / f"test_{tier}.py"))
    command = [
        sys.executable, "-m", "pytest", str(module), "-p", "canonq.tiers.plugin", "-p", "no:cacheprovider",
        "--rootdir", str(kept), "--confcutdir", str(kept), "-c", "/dev/null", "-q", "--tb=short", f"--junitxml={junit}",
    ]  # fmt: skip
    began = time.monotonic()
    env = plain_environment(**{VARIABLE: str(kept / "facts.json"), "PYTHONDONTWRITEBYTECODE": "1"})
    ended = run(command, timeout=timeout, env=env, cwd=kept, log=kept / "pytest.log")
    if ended.status not in (0, _FAILED, _NONE_COLLECTED):
        raise CanonqError(
            f"The {tier} tier's pytest ended with status {ended.status}: {ended.tail[-400:]}",
            mend=f"look at {kept}/pytest.log.",
            code="tier-machinery",
        )
    cases = _cases(junit)
    problems = [f"{case.name}: {case.problem}" for case in cases if case.problem]
    if not cases:
        problems = ["no test was collected"]
    return TierResult(
        status="fail" if problems or ended.status else "pass",
        reason="; ".join(problems)[:1000],
        seconds=round(time.monotonic() - began, 3),
        tests=tuple(case.name for case in cases),
    )


def _cases(junit: Path) -> list[_Case]:
    try:
        root = ET.parse(junit).getroot()  # noqa: S314 - see above
    except (OSError, ET.ParseError) as error:
        raise CanonqError(f"{junit} cannot be read: {error}.", code="tier-machinery") from error
    return [_Case(case.get("name", "?"), _problem(case)) for case in root.iter("testcase")]


def _problem(case: ET.Element) -> str:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return " ".join((found.get("message") or found.text or kind).split())[:400]
    return "skipped, which a generic test must not be" if case.find("skipped") is not None else ""
