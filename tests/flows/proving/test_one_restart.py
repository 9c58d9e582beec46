"""An app that restarts itself once gets one verdict at whatever second of its run; one that goes on dying gets another."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from canonq.core.enrolment import Health
from canonq.core.errors import EnrolmentProblem, RecipeProblem
from canonq.core.stack.census import Census
from canonq.core.stack.convergence import Service, Task
from canonq.flows.deploying import answering, deadline
from canonq.flows.deploying.answering import NotHealthy
from canonq.flows.deploying.stages import Account, Running
from canonq.flows.proving import marking, redeploying, staying
from canonq.flows.proving.redeploying import Redeployed
from canonq.flows.proving.run import Run
from canonq.flows.proving.staying import Vigil
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.world import World
from canonq.ports import Answer, Ended
from canonq.tiers.facts import TierFacts
from tests.flows.sites import TARGET, Site, files

HEARD = 0.7  #: seconds until Swarm hears of a death
AWAY = 3.0  #: seconds that a restart takes
SOAK = 30


@dataclass
class Clock:
    """Time that passes when somebody waits."""

    now: float = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 0.01)


@dataclass
class Restarts:
    """An app that dies at these seconds of the clock, and comes back from it."""

    clock: Clock
    dies: list[float]
    stack: str = "s"
    has_database: bool = False
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now

    def is_up(self) -> bool:
        return not any(at <= self.clock.now < at + AWAY for at in self.dies)

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        heard = [at for at in self.dies if at + HEARD <= self.clock.now]
        dead = [Task(f"dead-{at}", "app", "failed", "shutdown", True, 1, "task: non-zero exit (1)", 1) for at in heard]
        up = self.is_up() or (len(heard) < len([at for at in self.dies if at <= self.clock.now]))
        there = [Task(f"task-{len(heard)}", "app", "running", "running", True, 1, container="c")] if up else []
        services = [Service(name="app", replicas=1, update=None)]
        if self.has_database:
            services.append(Service(name="db", replicas=1, update=None))
            there.append(Task("db", "db", "running", "running", True, 1, container="d"))
        return services, [*dead, *there]

    @contextlib.contextmanager
    def changes(self, stack: str) -> Iterator[Callable[[float], bool]]:
        def wait(seconds: float) -> bool:
            self.clock.sleep(seconds)
            return False

        yield wait

    def probe(self, *_: object) -> Answer:
        return Answer(self.is_up(), "it was asked")

    def out_of_memory(self, stack: str) -> frozenset[str]:
        return frozenset()

    def last_words(self, stack: str, service: str) -> str:
        return ""

    def failing_checks(self, stack: str) -> dict[str, str]:
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (staying, answering, deadline, redeploying):
        monkeypatch.setattr(module, "time", made)
    return made


def a_stack(app: Restarts, account: Account) -> tuple[World, Running]:
    world = cast("World", SimpleNamespace(stacks=app, containers=app, ingress=None))
    enrolment = SimpleNamespace(health=Health(kind="exec", command=["true"], soak=SOAK, timeout=300))
    identity = SimpleNamespace(stack="s", version="1.0.0+1", domain="x", recipe="r")
    of = SimpleNamespace(enrolment=enrolment, identity=identity, account=account)
    filled = SimpleNamespace(unset=(), overlay={}, resolved=SimpleNamespace(configs={}, services={}))
    prepared = SimpleNamespace(deployment=of, stack=SimpleNamespace(stack="s"), filled=filled)
    return world, cast("Running", SimpleNamespace(deployment=of, identity=identity, prepared=prepared))


def a_run(clock: Clock, dies: list[float], *, looks_up_after: float = 0.0) -> list[str]:
    """What a run does with a stack that is up: tests of the upgrade, backup, restore, own tests, soak; its notes.

    `looks_up_after`: seconds in which a busy host does nothing for us between its answer and all else.
    """
    app, account = Restarts(clock, [clock.now + at for at in dies]), Account()
    (world, running), ends = a_stack(app, account), clock.now + 3600
    vigil = Vigil(world)
    up = answering.await_answer(world, running.prepared, clock.now + 300, ends)
    clock.sleep(looks_up_after)
    vigil.came_up(running, up.dead)

    def takes(seconds: float, *, below: bool = False) -> Callable[[], bool]:
        """Work of so many seconds that needs the app all the time; `below`: it puts other data below it."""

        def work() -> bool:
            if below:
                vigil.goes_down()
            until = clock.now + seconds
            while clock.now < until:
                if not app.is_up():
                    raise RecipeProblem("The service 'app' has no running container.", code="not-running")
                clock.sleep(0.2)
            if below:
                again = answering.await_answer(world, running.prepared, clock.now + 300, ends)
                clock.sleep(looks_up_after)
                vigil.came_up(running, again.dead)
            return True

        return work

    for what, work in (("a", takes(2)), ("backup", takes(4)), ("restore", takes(4, below=True)), ("functional", takes(6))):
        vigil.undisturbed(what, running, work, ends)
        vigil.see()
    vigil.soak(ends)
    assert app.is_up()
    return account.notes


@pytest.mark.parametrize("second", [at / 2 for at in range(100)])
@pytest.mark.parametrize("looks_up_after", [0.0, 5.0])
def test_one_restart_is_green_at_every_second_of_a_run(clock: Clock, second: float, looks_up_after: float) -> None:
    notes = a_run(clock, [second], looks_up_after=looks_up_after)
    assert len(notes) <= 1
    assert all("'app' died" in note for note in notes)


@pytest.mark.parametrize("first", [0.0, 5.0, 10.0, 14.0, 16.0, 18.0, 25.0, 38.0])
@pytest.mark.parametrize("period", [6.0, 12.0, 20.0, 28.0])
def test_what_goes_on_dying_is_a_loop_at_every_second_of_a_run(clock: Clock, first: float, period: float) -> None:
    with pytest.raises(NotHealthy) as told:
        a_run(clock, [first + number * period for number in range(12)])
    assert told.value.code == "crash-loop"


@pytest.mark.parametrize("lasts", [3.0, 8.0, 16.0, 20.0, 29.0, 31.0, 36.0, 45.0, 50.0])
def test_what_dies_whenever_it_is_as_old_as_that_is_a_loop_though_it_stays_up_for_its_soak(clock: Clock, lasts: float) -> None:
    with pytest.raises(NotHealthy) as told:
        a_run(clock, [lasts + number * (lasts + AWAY) for number in range(12)])
    assert told.value.code == "crash-loop"


def waited(clock: Clock, app: Restarts, *, cold: bool = True) -> float:
    """How long an app was waited for, in seconds; NotHealthy (`crash-loop`) where it is given up."""
    (world, running), began = a_stack(app, Account()), clock.now
    answering.await_answer(world, running.prepared, began + 300, began + 3600, cold=cold)
    return clock.now - began


@pytest.mark.parametrize(("deaths", "migrates"), [(8, 0), (12, 0), (16, 0), (12, 100)])
def test_an_app_that_dies_until_its_database_is_there_is_waited_for(clock: Clock, deaths: int, migrates: int) -> None:
    """Also where it fills that for longer than the time for a cold start."""
    dies = [clock.now + number * 6 for number in range(deaths)]
    app = Restarts(clock, dies, has_database=True)
    app.probe = lambda *_: Answer(clock.now > dies[-1] + AWAY + migrates, "it waits")  # type: ignore[method-assign]
    assert waited(clock, app) > dies[-1] + migrates - dies[0]


def test_what_still_dies_a_third_into_its_time_is_a_loop_and_what_had_come_up_or_is_alone_long_before(clock: Clock) -> None:
    for cold, has_database, least, most in ((True, True, 100, 115), (False, True, 30, 60), (True, False, 30, 60)):
        began = clock.now
        app = Restarts(clock, [began + number * 6 for number in range(99)], has_database=has_database)
        app.probe = lambda *_: Answer(False, "it is not up for long enough")  # type: ignore[method-assign]
        with pytest.raises(NotHealthy) as told:
            waited(clock, app, cold=cold)
        assert told.value.code == "crash-loop"
        assert least <= clock.now - began <= most


@pytest.mark.parametrize("answers", [False, True], ids=["it did not answer then", "it had answered"])
def test_what_dies_after_it_was_deployed_once_more_is_coming_up_until_it_has_answered(clock: Clock, answers: bool) -> None:
    """It happens to run just when somebody looks, and dies twice more before its database is there."""
    began = clock.now
    app = Restarts(clock, [began + 10, began + 20, began + 30], has_database=True)
    app.probe = lambda *_: Answer(answers or clock.now > began + 40, "it waits")  # type: ignore[method-assign]
    world, running = a_stack(app, account := Account())
    vigil, findings = Vigil(world), SimpleNamespace(phase="")
    run = SimpleNamespace(
        world=world, findings=findings, account=account, deadline=began + 3600, vigil=lambda _: vigil,
        enrolment=running.deployment.enrolment,
    )  # fmt: skip
    vigil.came_up(running, set())
    vigil.goes_down(comes_back=True)
    clock.sleep(15)
    vigil.notice()
    assert vigil.is_awaited is not answers
    clock.sleep(20)
    redeploying.await_back(cast("Run", run), Redeployed(running, (), Census(), frozenset()))
    assert not vigil.is_awaited
    with pytest.raises(NotHealthy, match="died 2 times") if answers else contextlib.nullcontext():
        vigil.undisturbed("a look", running, lambda: True, began + 3600)
        vigil.soak(began + 3600)


def test_what_cannot_be_asked_when_somebody_looks_is_not_up_yet(clock: Clock) -> None:
    app = Restarts(clock, [])
    world, running = a_stack(app, Account())
    vigil = Vigil(world)
    vigil.came_up(running, set())
    vigil.goes_down(comes_back=True)

    def gone(*_: object) -> Answer:
        raise RecipeProblem("The service 'app' has no running container.", code="not-running")

    app.probe = gone  # type: ignore[method-assign]
    vigil.notice()
    assert vigil.is_awaited


@pytest.mark.long
@pytest.mark.parametrize("tier", ["backup", "restore"])
def test_a_hook_that_a_restart_cuts_off_is_run_again_with_its_whole_tier(site: Site, tier: str) -> None:
    cut: list[str] = []

    def once(words: list[str]) -> Ended:
        stack = min((path.name for path in (site.engine.folder / "stacks").glob("[!.]*")), key=len)  # not the fresh one
        if not cut:
            cut.append(stack)
            site.engine.dies(stack, "db")
            return Ended(137, "killed")
        return Ended(0, "")

    site.engine.programs["once"] = once
    target = files(TARGET)
    label = "backupbot.backup.pre-hook: dump" if tier == "backup" else "backupbot.restore.post-hook: load"
    extra = f"backupbot.{'backup.post-hook' if tier == 'backup' else 'restore.pre-hook'}: once"
    target["compose.yml"] = target["compose.yml"].replace(f"        {label}", f"        {extra}\n        {label}")
    verdict = prove_tag(site.prepare(target=target, own=None), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert cut
    (note,) = [note for note in verdict.notes if note.startswith("interrupted: ")]
    assert "'db' died" in note
    assert f"while canonq was at the {tier} tier" in note


def test_a_hook_of_the_enrolments_that_a_restart_cuts_off_is_called_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def hook(folder: Path, function: str, facts: TierFacts, *rest: Any) -> object:
        called.append(function)
        if function == "after_upgrade" and called.count(function) == 1:
            site.engine.dies(facts.stack, "app")
            raise RecipeProblem("after_upgrade of hooks.py: connection refused", code="hook-failed")
        return None

    world = site.prepare(own=None)
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text("def after_upgrade(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert called == ["after_upgrade"] * 2
    assert verdict.deaths == {"app": 1}


@pytest.mark.parametrize("name", ["after_install", "after_upgrade", "before_functional"])
def test_a_hook_that_fails_because_the_app_keeps_dying_does_not_hide_that(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def hook(folder: Path, function: str, facts: TierFacts, *rest: Any) -> object:
        if function == name:
            site.engine.dies(facts.stack, "app")
            raise EnrolmentProblem(f"{name} of hooks.py: connection refused", code="hook-failed")
        return None

    world = site.prepare()
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text(f"def {name}(app): ...\n")
    monkeypatch.setattr(marking, "call_hook", hook)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "crash-loop", "recipe"), verdict.detail
