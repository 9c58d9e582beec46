"""Whose time is over is told as what it is: a recipe's own limit, the run's, or a host that was slow to look."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from canonq.core.deployable import Deployable, Identity
from canonq.core.enrolment import Health, parse_enrolment
from canonq.core.errors import CanonqError, Fault, RecipeProblem, TimedOut
from canonq.core.masks import Masks
from canonq.core.stack.convergence import Service, Task
from canonq.core.stack.resolved import stack_of
from canonq.flows.deploying import answering
from canonq.flows.deploying.answering import await_answer
from canonq.flows.deploying.stages import Account, Deployment, Filled, Prepared
from canonq.flows.proving import backup
from canonq.flows.proving.backup import Backup
from canonq.flows.proving.hooks import call_hook
from canonq.flows.proving.tiers import run_own
from canonq.flows.world import World
from canonq.ports import Answer, Engine
from canonq.tiers.facts import TierFacts

FACTS = TierFacts(recipe="site", tier="functional", stack="s", domain="s.test", version="1.0.0+1", commit="c", health=Health())
LONG = 3600.0  #: seconds
HANGS = "import time\n\ndef test_a():\n    time.sleep(3600)\n\ndef before_install(app):\n    time.sleep(3600)\n"


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    """Tests and hooks of a recipe's own that never end."""
    (tmp_path / "test_own.py").write_text(HANGS)
    (tmp_path / "hooks.py").write_text(HANGS)
    return tmp_path


def own(folder: Path, limit: float, run: float) -> None:
    facts = FACTS.model_copy(update={"secrets_file": str(folder / "app" / "secrets.json")})
    run_own(facts, folder / "run", [folder / "test_own.py"], limit, time.monotonic() + run, Masks())


def hook(folder: Path, limit: float, run: float) -> None:
    facts = FACTS.model_copy(update={"secrets_file": str(folder / "app" / "secrets.json")})
    call_hook(folder, "before_install", facts, folder / "run", limit, time.monotonic() + run, Masks())


def label(folder: Path, limit: float, run: float) -> None:
    def hangs(*_: object) -> None:
        raise TimedOut("`docker exec` did not end")

    plan = SimpleNamespace(before=[SimpleNamespace(command="x", service="app", label="pre-hook")])
    engine = cast(Engine, SimpleNamespace(execute=hangs))
    backup.take(Backup(engine, "s", cast(Any, plan), {}, folder / "backup", limit, time.monotonic() + run), [])


Part = Callable[[Path, float, float], None]


@pytest.mark.parametrize(("part", "code"), [(own, "functional-timed-out"), (hook, "hook-timed-out"), (label, "hook-timed-out")])
def test_what_of_the_recipe_hangs_is_its_fault_and_its_limit_is_named(part: Part, code: str, hanging: Path) -> None:
    with pytest.raises(RecipeProblem, match=r"did not end within 2 s") as told:
        part(hanging, 2, LONG)
    assert told.value.code == code


@pytest.mark.parametrize("part", [own, hook, label])
@pytest.mark.parametrize("run", [1.0, -1.0])
def test_when_the_whole_runs_time_is_over_that_is_told_and_the_recipe_is_not_blamed(
    part: Part, run: float, hanging: Path
) -> None:
    if part is label:
        run = -1.0
    with pytest.raises(TimedOut, match="whole run") as told:
        part(hanging, LONG, run)
    assert told.value.fault is Fault.ENROLMENT, "whoever set the limit has to look; nothing of canonq's broke"
    if part is label or run > 0:
        what = "the recipe's own tests" if part is own else "before_install of tests/" if part is hook else "pre-hook of 'app'"
        assert what in told.value.what, "and what it was waiting for is told"


# -- waiting for an app on a host that is slow to look ------------------------------------------------------


@dataclass
class SlowHost:
    """A clock that moves by so many seconds with every look at the stack; its app runs from the first look on."""

    per_look: float
    answer: Answer
    now: float = 0.0
    asked: list[float] = field(default_factory=list)
    starting: int = 0  #: looks for which the app is not up yet

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        self.now += self.per_look
        self.starting -= 1
        state = "starting" if self.starting >= 0 else "running"
        service = Service(name="app", replicas=1, update=None, labels={}, image="i")
        task = Task(id="t", service="app", state=state, desired="running", current=True, slot=1, container="c")
        return [service], [task]

    @contextlib.contextmanager
    def changes(self, stack: str) -> Iterator[Callable[[float], bool]]:
        def wait(seconds: float) -> bool:
            self.now += seconds
            return False

        yield wait

    def last_words(self, stack: str, service: str) -> str:
        return ""

    def out_of_memory(self, stack: str) -> frozenset[str]:
        return frozenset()

    def failing_checks(self, stack: str) -> dict[str, str]:
        return {}

    def listening(self, stack: str, service: str) -> list[int]:
        return []

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        self.asked.append(timeout)
        return self.answer


def waited(host: SlowHost, monkeypatch: pytest.MonkeyPatch, *, ends: float = 6, deadline: float = LONG) -> Answer:
    monkeypatch.setattr(answering, "time", host)
    enrolment = parse_enrolment("site", 'upstream = "/x"\n[health]\ntimeout = 6\n', where="recipe.toml")
    identity = Identity("i", "run", "site", "o", "s", "s.test", "1.0.0+1", "c")
    world = cast(World, SimpleNamespace(stacks=host, containers=host, ingress=None))
    app = Deployment(identity, enrolment, Path(), Path(), Account())
    stack = Deployable("s", {}, {}, {}, {}, ())
    prepared = Prepared(app, Filled(identity, "", {}, {}, stack_of({"services": {"app": {}}}), {}), stack, {})
    return await_answer(world, prepared, ends, deadline).answer


def test_an_app_that_has_come_up_is_asked_once_however_slowly_the_host_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    host = SlowHost(per_look=5, answer=Answer(True, "/ answered 200"))
    assert waited(host, monkeypatch).ok
    assert host.asked == [10.0], "and it has a whole probe's time to answer in"


def test_what_an_app_answered_is_told_and_not_that_its_time_was_over(monkeypatch: pytest.MonkeyPatch) -> None:
    host = SlowHost(per_look=5, answer=Answer(False, "`sh` exited with 5: no"))
    with pytest.raises(CanonqError, match=r"did not come up in 6 s: all tasks run, but `sh` exited with 5: no") as told:
        waited(host, monkeypatch)
    assert told.value.code == "not-answering"
    assert len(host.asked) == 1


def test_an_app_that_was_asked_often_is_given_up_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    host = SlowHost(per_look=0.01, answer=Answer(False, "no"))
    with pytest.raises(CanonqError, match="did not come up in 6 s"):
        waited(host, monkeypatch)
    assert host.now < 7
    assert len(host.asked) > 5


def test_an_app_that_is_up_and_takes_its_time_to_answer_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    host = SlowHost(per_look=0.01, answer=Answer(False, "no"))
    with pytest.raises(CanonqError, match="did not come up"):
        waited(host, monkeypatch, ends=300)
    assert 290 < len(host.asked) < 310, "each question of the kind `exec` starts a program in its container"


def test_an_app_that_has_not_come_up_in_its_time_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    host = SlowHost(per_look=5, answer=Answer(True, ""), starting=100)
    with pytest.raises(CanonqError) as told:
        waited(host, monkeypatch)
    assert (told.value.code, host.asked) == ("not-healthy", [])


def test_the_runs_own_end_is_told_as_that_also_while_an_app_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    host = SlowHost(per_look=5, answer=Answer(False, "no"))
    with pytest.raises(TimedOut, match="The run's limit of 2400 s was over"):
        waited(host, monkeypatch, deadline=12)
    assert host.asked == []
