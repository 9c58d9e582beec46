"""Running one tier: a pytest run in a process of its own, with JUnit output and its log kept."""

from __future__ import annotations

import contextlib
import linecache
import re
import shlex
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from canonq.adapters.processes.preloaded import Preloaded
from canonq.adapters.processes.programs import plain_environment
from canonq.core.enrol.owntests import prove_nothing
from canonq.core.enrolment import SHARED
from canonq.core.errors import CanonqError, EnrolmentProblem, TimedOut
from canonq.core.ladder import TierName, TierResult
from canonq.core.masks import Masks
from canonq.core.text import beginning, did_you_mean, readable, shown
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.secrecy import ENV, masked_into
from canonq.flows.deploying.stages import Deployment, Running
from canonq.flows.world import World
from canonq.tiers.facts import BROKE, PROGRESS, RUNNER, STACK, TIER, TierFacts, write_facts

_GENERIC_LIMIT = 600.0  #: seconds for the generic tests of one tier: canonq's own, so no recipe's to choose
_FAILED, _INTERRUPTED, _INTERNAL, _NOT_BEGUN, _NONE_COLLECTED = 1, 2, 3, 4, 5  #: pytest's exit statuses
_NO_FIXTURE = re.compile(r"^E\s+fixture '([^'\n]+)' not found(?:\n>\s+available fixtures: ([^\n]*))?", re.MULTILINE)
_ASKS_FOR = "asks for the fixture"
#: What tests are given: names of classes.
_GIVEN = "(?:DeployedApp|Http|Response|Volume|Ended)"
#: How a problem begins that is of the test's own text: names that are not there, of what it is given too; no app can have it.
_BROKEN = re.compile(
    rf"{_ASKS_FOR} |(?:failed on setup with \")?(?:(?:NameError|UnboundLocalError|ImportError|ModuleNotFoundError): "
    rf"|AttributeError: (?:module|'{_GIVEN}' object) |TypeError: {_GIVEN}\.\w+\(\) )"
)
#: Of a traceback of pytest's; where the module cannot be read at all, Python's own words stand in it.
_PLACE = re.compile(r"(\S+\.py):(\d+): in |E\s+File \"([^\"\n]+\.py)\", line (\d+)$")
_BROKEN_OFF = "INTERNALERROR>"
_RAISED_AT = re.compile(r'File "([^"\n]+\.py)", line (\d+), in ')
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+) in ')  #: of faulthandler


@dataclass(frozen=True)
class _Case:
    name: str
    problem: str
    skipped: bool

    @property
    def is_broken(self) -> bool:
        """Whether the test itself is, so that nothing which the app does makes it pass."""
        return _BROKEN.match(self.problem) is not None


#: Where the tests of tiers and the hooks run.
TIERS = Preloaded(RUNNER)


def facts_of(world: World, of: Deployment | Running, tier: str, *, fresh: bool) -> TierFacts:
    """What tests and hooks are told of what is, or is to be, deployed; `fresh`: it began on empty volumes at this version."""
    app, stack = (of.deployment, of.stack) if isinstance(of, Running) else (of, None)
    return TierFacts(
        recipe=app.enrolment.recipe,
        tier=tier,
        stack=app.identity.stack,
        domain=app.identity.domain,
        version=app.identity.version,
        commit=app.identity.commit,
        health=app.enrolment.health,
        ingress=world.settings.ingress,
        images=stack.images if stack else {},
        volumes=stack.volumes if stack else {},
        secrets_file=str(app.secrets_file),
        env_file=str(app.work / ENV),
        fresh=fresh,
        own=str(world.checkout.folder(app.enrolment.recipe)),
    )


def tier_environment() -> dict[str, str]:
    """What the code of an enrolment has as its environment."""
    return plain_environment(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")


def run_generic(tier: TierName, facts: TierFacts, folder: Path, deadline: float, masks: Masks) -> TierResult:
    """Run the generic tests of `tier`; files go to `folder/<tier>/`. CanonqError when pytest itself fails.

    `deadline` is the run's, whose end is TimedOut.
    """
    module = Path(str(resources.files("canonq.tiers") / f"test_{tier}.py"))
    try:
        status, cases, seconds = _pytest(tier, facts, folder, [module], _GENERIC_LIMIT, deadline, masks)
    except TimedOut as error:
        left(deadline)
        raise CanonqError(f"The generic tests of the {tier} tier: {error.what}", code="tier-machinery") from error
    if status not in (0, _FAILED) or not cases:
        raise _of_pytest_itself(tier, status, folder / tier)
    if not_run := read_progress(folder / tier).not_run:
        what = f"The {tier} tier's pytest ended with status {status}, and {said_of(not_run)}"
        raise CanonqError(what, mend=f"look at {folder / tier}/pytest.log.", code="tier-machinery")
    # A generic test is never skipped: that would be a proof that nobody misses.
    problems = [f"{case.name}: {case.problem or 'was skipped'}" for case in cases if case.problem or case.skipped]
    return _result(status, cases, problems, seconds)


def _of_pytest_itself(tier: TierName, status: int, kept: Path) -> CanonqError:
    return CanonqError(
        f"The {tier} tier's pytest ended with status {status}, and no test had its say.",
        mend=f"look at {kept}/pytest.log; where canonq was installed again meanwhile, test the release again.",
        code="tier-machinery",
    )


def no_proof(folder: Path, files: Sequence[Path]) -> list[str]:
    """What looks like a test of the recipe's own and proves nothing, as sentences."""
    told = [
        f"{path} lies in a folder; tests are taken from beside recipe.toml only"
        for path in sorted(path.relative_to(folder) for path in folder.glob("*/**/test_*.py"))
        if not any(part.startswith((".", "__")) for part in path.parts)
    ]
    for path in (*sorted(folder.glob("conftest.py")), *files):
        with contextlib.suppress(OSError, ValueError, SyntaxError, RecursionError):  # pytest says what is wrong with it
            told += [f"{path.name}:{line}: {what}" for line, what in prove_nothing(path.read_text())]
    return told


def run_own(facts: TierFacts, folder: Path, files: list[Path], limit: float, deadline: float, masks: Masks) -> TierResult:
    """Run a recipe's own tests, the functional tier. Whatever stops them is a failure of the tier, never a pass.

    `limit` is in seconds from when their files are read; `deadline` is the run's, whose end is TimedOut. EnrolmentProblem when it
    is the tests themselves that are broken, whatever the app does.
    """
    kept = folder / "functional"
    try:
        status, cases, seconds = _pytest("functional", facts, folder, files, limit, deadline, masks)
    except TimedOut as error:
        left(deadline, "the recipe's own tests")
        raise EnrolmentProblem(
            f"The recipe's own tests did not end within {limit:.0f} s and were killed: {_hung(kept, files[0].parent, limit)}.",
            mend=f"mend the test that hangs, or raise [limits] tests in recipe.toml; what was printed is in {kept}/pytest.log.",
            code="functional-timed-out",
        ) from error
    if status == BROKE:
        raise _of_pytest_itself("functional", status, kept)
    if status == _INTERNAL and all(case.name == "internal" for case in cases if case.problem):
        if (why_ended := _in_own_files(kept, files[0].parent)) is None:
            raise _of_pytest_itself("functional", status, kept)
        raise EnrolmentProblem(
            f"The recipe's own tests end pytest itself: {why_ended}.",
            mend=f"correct them; all that was printed is in {kept}/pytest.log.",
            code="functional-uncollected",
            certain=True,
        )
    problems = [f"{case.name}: {case.problem}" for case in cases if case.problem]
    if status == _INTERRUPTED:
        what = "; ".join(problems) or "see its log"
        raise EnrolmentProblem(
            f"The recipe's own tests cannot be collected: {beginning(what, 1200)}.",
            mend=f"correct them; all that was printed is in {kept}/pytest.log.",
            code="functional-uncollected",
            certain=True,
        )
    if status == _NOT_BEGUN:
        raise EnrolmentProblem(
            f"The recipe's own tests cannot begin: {_why_not_begun(kept, files[0].parent)}.",
            mend=f"correct it; all that was printed is in {kept}/pytest.log.",
            code="functional-uncollected",
            certain=True,
        )
    if problems and all(case.is_broken for case in cases if case.problem):
        raise EnrolmentProblem(
            f"The recipe's own tests are broken, whatever the app does: {beginning('; '.join(problems), 1200)}.",
            mend=f"correct them; all that was printed is in {kept}/pytest.log.",
            code="functional-broken",
            certain=True,
        )
    not_run = read_progress(kept).not_run
    cut = [said_of(not_run)] if not_run else []
    if status not in (0, _FAILED, _NONE_COLLECTED):
        cut.append("pytest was ended from within a test, or killed")
    if problems:
        problems += cut
    elif cut or not cases or all(case.skipped for case in cases):
        why = "; ".join(cut) or (_all_skipped(cases) if cases else "no test was collected")
        raise EnrolmentProblem(
            f"The recipe's own tests are no proof: {why}.",
            mend="let every test run, or skip single ones with a reason; a test that calls pytest.exit ends the others too.",
            code="functional-incomplete",
        )
    return _result(status, cases, problems, seconds)


def _in_own_files(kept: Path, folder: Path) -> str | None:
    """Where in the person's own files what broke pytest was raised, and what that was; None where it was none of them."""
    try:
        lines = (kept / "pytest.log").read_text(errors="replace").splitlines()
    except OSError:
        return None
    told = [line.removeprefix(_BROKEN_OFF).strip() for line in lines if line.startswith(_BROKEN_OFF)]
    places = [found for line in told if (found := _RAISED_AT.match(line)) and Path(found[1]).parent == folder]
    return readable(beginning(f"{Path(places[-1][1]).name}:{places[-1][2]}: {told[-1]}", 600)) if places else None


def _why_not_begun(kept: Path, folder: Path) -> str:
    """What pytest printed when it could not even begin: the last place in the person's own files, and what was raised there."""
    try:
        lines = (kept / "pytest.log").read_text(errors="replace").splitlines()
    except OSError:
        return "pytest printed nothing"
    own = {path.name for path in folder.glob("*.py")}
    places = [
        f"{Path(found[1]).name}:{found[2]}" for line in lines if (found := _PLACE.match(line)) and Path(found[1]).name in own
    ]
    raised = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
    said = raised[-1] if raised else next((line for line in reversed(lines) if line.strip()), "pytest printed nothing")
    return readable(beginning(": ".join([*places[-1:], said]), 600))


@dataclass(frozen=True)
class Progress:
    """What a tier's process told while it went on."""

    collected: tuple[str, ...] = ()
    ended: frozenset[str] = frozenset()
    running: str | None = None  #: the test that had begun and not ended
    since: float = 0.0  #: when, in seconds since 1970

    @property
    def not_run(self) -> tuple[str, ...]:
        """Tests that were collected and did not come to their end."""
        return tuple(test for test in dict.fromkeys(self.collected) if test not in self.ended)


def read_progress(kept: Path) -> Progress:
    """The progress that the process of a tier left in its folder; without any, nothing was collected."""
    collected: list[str] = []
    ended: set[str] = set()
    running, since = None, 0.0
    try:
        lines = (kept / PROGRESS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        word, _, rest = line.partition(" ")
        at, _, test = rest.partition(" ")
        match word:
            case "collected":
                collected.append(test)
            case "begins":
                running, since = test, float(at)
            case "ended":
                ended.add(test)
                running = None
    return Progress(tuple(collected), frozenset(ended), running, since)


def said_of(not_run: tuple[str, ...]) -> str:
    """A sentence about tests that were collected and did not run."""
    more = f" and {len(not_run) - 3} more" if len(not_run) > 3 else ""
    verb = "was collected and did not run to its end" if len(not_run) == 1 else "were collected and did not run to their end"
    return f"{', '.join(not_run[:3])}{more} {verb}"


def _hung(kept: Path, folder: Path, limit: float) -> str:
    """Which test hangs, and in which line of the person's own files."""
    found = read_progress(kept)
    if found.running is None:
        return "none of them was running" if found.collected else "they were still being collected"
    place = hangs_in(kept, folder)
    return f"{found.running} hangs in {place}" if place else f"{found.running} was running"


def hangs_in(kept: Path, folder: Path) -> str:
    """The innermost line of a person's own files that a process was at when it was about to be killed; empty where none is."""
    try:
        stack = (kept / STACK).read_text(errors="replace")
    except OSError:
        return ""
    places = ((Path(name), int(line)) for name, line in _FRAME.findall(stack))
    place = next(((name, line) for name, line in places if name.parent == folder or folder in name.parents), None)
    if place is None:
        return ""
    text = " ".join(linecache.getline(str(place[0]), place[1]).split())[:120]
    return f"{place[0].relative_to(folder)}, line {place[1]}: {text}"


def _all_skipped(cases: Sequence[_Case]) -> str:
    """That no test was run, by their names."""
    names = beginning(", ".join(case.name for case in cases), 200)
    return f"its one test was skipped ({names})" if len(cases) == 1 else f"all {len(cases)} tests were skipped ({names})"


def _result(status: int, cases: list[_Case], problems: list[str], seconds: float) -> TierResult:
    if not cases and not problems:
        problems = ["no test was collected"]
    skipped = [case.name for case in cases if case.skipped]
    said = problems or ([f"skipped: {', '.join(skipped)}"] if skipped else [])
    return TierResult(
        status="fail" if problems or status else "pass",
        reason=beginning("; ".join(said), 1500),
        seconds=seconds,
        tests=tuple(case.name for case in cases),
    )


def _pytest(
    tier: TierName, facts: TierFacts, folder: Path, modules: list[Path], limit: float, deadline: float, masks: Masks
) -> tuple[int, list[_Case], float]:
    for old in ("junit.xml", PROGRESS, STACK):
        (folder / tier / old).unlink(missing_ok=True)
    with masked_into(folder / tier, Path(facts.secrets_file).parent / f"evidence-{tier}", masks) as kept:
        return _pytest_in(kept, tier, facts, modules, limit, deadline)


def _pytest_in(
    kept: Path, tier: TierName, facts: TierFacts, modules: list[Path], limit: float, deadline: float
) -> tuple[int, list[_Case], float]:
    write_facts(kept / "facts.json", facts)
    junit = kept / "junit.xml"
    arguments = [
        *map(str, modules), "-p", "no:cacheprovider", "--rootdir", str(modules[0].parent),
        "--confcutdir", str(modules[0].parent), "-c", "/dev/null", "-q", "--tb=short", "--import-mode=importlib",
        f"--junitxml={junit}", "-p", "no:faulthandler",
        # What a recipe's test prints is there even if it never ends.
        *(["--capture=tee-sys", "-o", f"pythonpath={_beside(modules[0].parent)}"] if tier == "functional" else []),
    ]  # fmt: skip
    # What else is installed beside canonq has no say in its own proofs; a recipe's tests may need it.
    orders = {
        "facts": str(kept / "facts.json"), "arguments": arguments, "plugins": tier == "functional", "limit": limit,
    }  # fmt: skip
    began = time.monotonic()
    ended = TIERS.start(TIER, orders, env=tier_environment(), cwd=kept, until=deadline).finish(
        timeout=limit, until=deadline, log=kept / "pytest.log"
    )
    # pytest that was killed, or exited from within a test, leaves no JUnit file; its status says so.
    cases = _cases(junit, modules[0].parent if tier == "functional" else None) if junit.is_file() else []
    status = ended.status if junit.is_file() else ended.status or -1
    return status, cases, round(time.monotonic() - began, 3)


def _own_place(text: str, own: Path | None) -> str:
    places = [place for line in text.splitlines() if (place := _PLACE.match(line))]
    found = [(Path(place[1] or place[3]).name, place[2] or place[4]) for place in places]
    there = [(name, line) for name, line in found if own is not None and (own / name).is_file()]
    return f" ({there[-1][0]}:{there[-1][1]})" if there else ""


def _beside(folder: Path) -> str:
    """Folders of a recipe's own modules as pytest takes them: beside its tests, and what all recipes share."""
    return " ".join(shlex.quote(str(path)) for path in (folder, folder.parent / SHARED))


def _cases(junit: Path, own: Path | None) -> list[_Case]:
    try:
        root = ET.parse(junit).getroot()  # noqa: S314 - written by our own pytest
    except (OSError, ET.ParseError) as error:
        raise CanonqError(f"{junit} cannot be read: {error}.", code="tier-machinery") from error
    return [_Case(_name(case), _problem(case, own), case.find("skipped") is not None) for case in root.iter("testcase")]


def _name(case: ET.Element) -> str:
    return case.get("name") or case.get("classname") or "?"


def _problem(case: ET.Element, own: Path | None = None) -> str:
    """What a test failed by; of those in the folder `own` with the last place there."""
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            message, text = found.get("message") or "", found.text or ""
            if (unknown := _NO_FIXTURE.search(text)) is not None:
                near = did_you_mean(unknown[1], (unknown[2] or "").split(", "))
                return beginning(f"{_ASKS_FOR} {shown(unknown[1])}, which there is not{near}", 400)
            if message == "collection failure":  # says nothing; the last line of the traceback does
                message = next((line for line in reversed(text.splitlines()) if line.strip()), message).removeprefix("E ")
            # pytest shows the assertion itself below what it was told to say, and below that what its parts were made of.
            said = (
                (message or text or kind).partition("\nassert ")[0].partition("\n +  where ")[0].removeprefix("AssertionError: ")
            )
            return beginning(f"{' '.join(said.split())}{_own_place(text, own)}", 400)
    return ""
