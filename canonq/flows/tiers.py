"""Running one tier: a pytest run in a process of its own, with JUnit output and its log kept."""

from __future__ import annotations

import json
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from canonq.adapters.programs import Program, plain_environment
from canonq.core.errors import CanonqError, RecipeProblem, TimedOut
from canonq.core.ladder import TierName, TierResult
from canonq.flows.deployment import left
from canonq.tiers.facts import TierFacts, write_facts

_GENERIC_LIMIT = 600.0  #: seconds for the generic tests of one tier: canonq's own, so no recipe's to choose
_FAILED, _INTERRUPTED, _NONE_COLLECTED = 1, 2, 5  #: pytest's exit statuses


@dataclass(frozen=True)
class _Case:
    name: str
    problem: str
    skipped: bool


class TierProcesses:
    """The processes of a run's tiers, one each; the next is always started ahead, while the app is busy."""

    def __init__(self) -> None:
        self._spare: Program | None = None

    def prepare(self) -> None:
        """Start the next one, if there is none yet."""
        if self._spare is None:
            env = plain_environment(PYTHONDONTWRITEBYTECODE="1")
            command = [sys.executable, "-m", "canonq.tiers.runner"]
            self._spare = Program(command, env=env, wants_input=True, tells_begin=True)

    def take(self, *, last: bool) -> Program:
        """The one that was prepared; another is on its way then, unless it was the last."""
        self.prepare()
        taken, self._spare = self._spare, None
        assert taken is not None  # prepared just now
        if not last:
            self.prepare()
        return taken

    def end(self) -> None:
        """End the one that is not used."""
        if self._spare is not None:
            self._spare.end()
            self._spare = None


def run_generic(processes: TierProcesses, tier: TierName, facts: TierFacts, folder: Path, deadline: float) -> TierResult:
    """Run the generic tests of `tier`; files go to `folder/<tier>/`. CanonqError when pytest itself fails.

    `deadline` is the run's, whose end is TimedOut.
    """
    module = Path(str(resources.files("canonq.tiers") / f"test_{tier}.py"))
    try:
        status, cases, seconds = _pytest(processes, tier, facts, folder, [module], _GENERIC_LIMIT, deadline)
    except TimedOut as error:
        left(deadline)
        raise CanonqError(f"The generic tests of the {tier} tier: {error.what}", code="tier-machinery") from error
    if status not in (0, _FAILED):
        raise CanonqError(
            f"The {tier} tier's pytest ended with status {status}.",
            mend=f"look at {folder / tier}/pytest.log.",
            code="tier-machinery",
        )
    # A generic test is never skipped: that would be a proof that nobody misses.
    problems = [f"{case.name}: {case.problem or 'was skipped'}" for case in cases if case.problem or case.skipped]
    return _result(status, cases, problems, seconds)


def run_own(
    processes: TierProcesses, facts: TierFacts, folder: Path, files: list[Path], limit: float, deadline: float
) -> TierResult:
    """Run a recipe's own tests, the functional tier. Whatever stops them is a failure of the tier, never a pass.

    `limit` is in seconds from when their files are read; `deadline` is the run's, whose end is TimedOut.
    """
    try:
        status, cases, seconds = _pytest(processes, "functional", facts, folder, files, limit, deadline)
    except TimedOut as error:
        left(deadline)
        raise RecipeProblem(
            f"The recipe's own tests did not end within {limit:.0f} s and were killed.",
            mend="mend the test that hangs, or raise [limits] tests in recipe.toml.",
            code="functional-timed-out",
        ) from error
    problems = [f"{case.name}: {case.problem}" for case in cases if case.problem]
    if status == _INTERRUPTED and not problems:
        problems = ["the tests could not be collected; see functional/pytest.log"]
    if status not in (0, _FAILED, _INTERRUPTED, _NONE_COLLECTED):
        problems.append("pytest was ended from within a test, or killed; see functional/pytest.log")
    if cases and not problems and all(case.skipped for case in cases):
        problems = [f"all {len(cases)} tests were skipped, so nothing was tested"]
    return _result(status, cases, problems, seconds)


def _result(status: int, cases: list[_Case], problems: list[str], seconds: float) -> TierResult:
    if not cases and not problems:
        problems = ["no test was collected"]
    return TierResult(
        status="fail" if problems or status else "pass",
        reason="; ".join(problems)[:1500],
        seconds=seconds,
        tests=tuple(case.name for case in cases),
    )


def _pytest(
    processes: TierProcesses, tier: TierName, facts: TierFacts, folder: Path, modules: list[Path], limit: float, deadline: float
) -> tuple[int, list[_Case], float]:
    kept = folder / tier
    kept.mkdir(parents=True, exist_ok=True)
    write_facts(kept / "facts.json", facts)
    junit = kept / "junit.xml"
    arguments = [
        *map(str, modules), "-p", "no:cacheprovider", "--rootdir", str(modules[0].parent),
        "--confcutdir", str(modules[0].parent), "-c", "/dev/null", "-q", "--tb=short", "--import-mode=importlib",
        f"--junitxml={junit}",
    ]  # fmt: skip
    # What else is installed beside canonq has no say in its own proofs; a recipe's tests may need it.
    orders = {"facts": str(kept / "facts.json"), "folder": str(kept), "arguments": arguments, "plugins": tier == "functional"}
    began = time.monotonic()
    ended = processes.take(last=tier == "lint").finish(
        timeout=limit, until=deadline, stdin=f"{json.dumps(orders)}\n".encode(), log=kept / "pytest.log", strangers=True
    )
    # pytest that was killed, or exited from within a test, leaves no JUnit file; its status says so.
    cases = _cases(junit) if junit.is_file() else []
    status = ended.status if junit.is_file() else ended.status or -1
    return status, cases, round(time.monotonic() - began, 3)


def _cases(junit: Path) -> list[_Case]:
    try:
        root = ET.parse(junit).getroot()  # noqa: S314 - written by our own pytest
    except (OSError, ET.ParseError) as error:
        raise CanonqError(f"{junit} cannot be read: {error}.", code="tier-machinery") from error
    return [_Case(_name(case), _problem(case), case.find("skipped") is not None) for case in root.iter("testcase")]


def _name(case: ET.Element) -> str:
    return case.get("name") or case.get("classname") or "?"


def _problem(case: ET.Element) -> str:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            message, text = found.get("message") or "", found.text or ""
            if message == "collection failure":  # says nothing; the last line of the traceback does
                message = next((line for line in reversed(text.splitlines()) if line.strip()), message).removeprefix("E ")
            # pytest shows the assertion itself below what it was told to say.
            said = (message or text or kind).partition("\nassert ")[0].removeprefix("AssertionError: ")
            return " ".join(said.split())[:400]
    return ""
