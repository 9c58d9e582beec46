"""Watching a stack that has come up: who of it dies after that, and whether it stays up as long as it has to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Set
from typing import TypeVar, cast

from canonq.adapters.network.asking import ask
from canonq.adapters.processes.stopping import check_stop
from canonq.core.errors import Fault, RecipeProblem
from canonq.core.stack.convergence import Task, deaths, judge
from canonq.core.stack.staying import Death, Fallen, fallen, stays_until
from canonq.flows.deploying.answering import NotHealthy, await_answer, memory_fault, stack_gone, with_last_words
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.stages import Running
from canonq.flows.world import World

Made = TypeVar("Made")
_AGAIN = 2  #: times that something is done again
_NOTICED = 2.0  #: seconds within which Swarm hears of a death
_LOOK_EVERY = 1.0  #: seconds between two looks at a stack that only has to stay up
_TO_ANSWER = 5.0  #: seconds for what nobody waits for yet


_MENDS = {
    "crash-loop": "its log says why; an app that is to restart itself once may.",
    "dies-later": "its log says why.",
}


class Vigil:
    """One stack of a run, from when it first came up.

    What dies while it is coming up is not counted: the wait for it judges that. Nor is what a restore puts other data below of.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._known: set[tuple[str, str]] = set()  #: deaths that were seen: service, task
        self._up: Running | None = None
        self._awaited: Running | None = None  #: what comes up again without being waited for
        self._down = False  #: whether somebody of it died, and it was not seen whole since
        self.since = 0.0  #: from when on it has been up without a death, monotonic
        self._begun = 0.0  #: when what runs of it was deployed, or came back from a death, monotonic; 0: not known
        self._lasted = 0.0  #: seconds that it had been up when it died last
        self.deaths: list[Death] = []
        self._before = 0  #: how many of these were before it was last deployed

    def came_up(self, running: Running, dead: Set[tuple[str, str]]) -> None:
        """It has converged and answered, and `dead` was whoever of it had died until then: whoever dies after that has died."""
        self._up, self._awaited, self._down, self.since = running, None, False, time.monotonic()
        if not self._begun or dead - self._known:
            self._begun = self.since
        self._known |= dead

    def goes_down(self, *, another: bool = False, comes_back: bool = False) -> None:
        """Its data is to be put back, or `another` version deployed over it: no death counts until it came up again.

        `comes_back`: it does so by itself, while nobody waits for it; see `notice`.
        """
        self.see()
        self._awaited, self._up = self._up if comes_back else None, None
        if another or comes_back:
            self._before, self._begun, self._lasted = len(self.deaths), 0.0, 0.0

    @property
    def version(self) -> str:
        """The version of what is up of it; empty where nothing is known to be."""
        return self._up.identity.version if self._up is not None else ""

    @property
    def is_awaited(self) -> bool:
        """Whether it is to come up by itself, and was not seen to have yet."""
        return self._awaited is not None

    def notice(self) -> None:
        """Look whether what comes up by itself has by now, and answers: from when that is seen on, it has to stay up.

        One that only happens to run may be on its way to its next death, until its database is back as well.
        """
        if (it := self._awaited) is None:
            return
        world, stack, health = self._world, it.identity.stack, it.deployment.enrolment.health
        services, tasks = world.stacks.observe(stack)
        if judge(services, tasks, answering=health.service).state != "converged":
            return
        with contextlib.suppress(RecipeProblem):  # it is gone again
            if ask(world.containers, world.ingress, stack, health, it.identity.domain, _TO_ANSWER).ok:
                self.came_up(it, deaths(services, tasks))

    def see(self) -> None:
        """Count who has died since the last look; NotHealthy where that is more than a restart."""
        running = self._up
        if running is None:
            return
        found, tasks = self._dead(running)
        if not (new := sorted(found - self._known)):
            return
        self._known |= found
        killed = self._world.stacks.out_of_memory(running.identity.stack)
        for service, task in new:
            one = tasks[task]
            self.deaths.append(Death(service, one.slot, task, one.error, one.exit_code, one.container in killed))
        self._down, self._lasted = True, time.monotonic() - self._begun
        if (what := fallen(self.deaths[self._before :])) is not None:
            raise self._problem(running, what)

    def come_back(self, deadline: float) -> bool:
        """Wait until it is whole again after a death; whether there was one. NotHealthy (`dies-later`) when it stays away."""
        self.see()
        running = self._up
        if running is None or not self._down:
            return False
        try:
            await_answer(self._world, running.prepared, self._until(running, deadline), deadline, cold=False)
        except NotHealthy as error:
            self.see()
            last = self.deaths[-1]
            what = f"'{last.service}' died after it had come up ({last.how}), and the app did not come back: {error.what}"
            raise self._problem(running, Fallen("dies-later", what, last.service), error.fault) from error
        self._down, self.since = False, time.monotonic()
        self._begun = self.since
        self.see()
        return True

    def undisturbed(
        self,
        what: str,
        running: Running,
        act: Callable[[], Made],
        deadline: float,
        failed: Callable[[Made], bool] = lambda _: False,
    ) -> Made:
        """What `act` gives; again where it `failed` and a service died meanwhile, and the app came back from that."""
        tries = 0
        while True:
            self.come_back(deadline)
            # What nobody has seen yet counts: it may have died just before this began.
            before, tries = set(self._known), tries + 1
            problem: RecipeProblem | None = None
            made: Made | None = None
            try:
                if not failed(made := act()):
                    return made
            except NotHealthy:
                raise
            except RecipeProblem as error:
                problem = error
            # A second death that counts is a loop, and raised as that; while a restore is under way none counts.
            by = self._disturbed(running, before, deadline)
            if by is None:
                break
            if tries > _AGAIN:
                service, died = by
                told = f"{died}, as each of the {tries} times that canonq was at {what}"
                raise self._problem(running, Fallen("crash-loop", told, service)) from problem
            running.deployment.account.note(
                f"interrupted: {by[1]} while canonq was at {what}, and {running.identity.version} came back; that was done again"
            )
        if problem is not None:
            raise problem
        return cast("Made", made)

    def _disturbed(self, running: Running, before: set[tuple[str, str]], deadline: float) -> tuple[str, str] | None:
        """Who died since the tasks of `before` had, and a word of it, once the app is back from it; None where nobody did."""
        noticed = time.monotonic() + _NOTICED
        while not (new := self._dead(running)[0] - before) and not self._down and time.monotonic() < noticed:
            check_stop()
            time.sleep(_LOOK_EVERY / 4)
        if not new and not self._down:
            return None
        services = {service for service, _ in new} or {self.deaths[-1].service}
        died = " and ".join(f"'{service}'" for service in sorted(services))
        if self._up is None:  # a restore puts data below it: whoever died of that is not counted
            up = await_answer(self._world, running.prepared, self._until(running, deadline), deadline)
            self.came_up(running, up.dead)
            return min(services), f"{died} died"
        self.come_back(deadline)
        return min(services), f"{died} died ({self.deaths[-1].how})" if self.deaths else f"{died} died"

    @staticmethod
    def _until(running: Running, deadline: float) -> float:
        return min(deadline, time.monotonic() + running.deployment.enrolment.health.timeout)

    def soak(self, deadline: float) -> None:
        """Wait until it has been up without a death for as long as `[health] soak` wants it; see `stays_until`."""
        while (running := self._up) is not None:
            if self.come_back(deadline):
                continue
            soak = running.deployment.enrolment.health.soak
            if (needed := stays_until(self.since, self._begun, self._lasted, soak) - time.monotonic()) <= 0:
                return
            check_stop()
            time.sleep(min(_LOOK_EVERY, needed, left(deadline)))

    def _dead(self, running: Running) -> tuple[set[tuple[str, str]], dict[str, Task]]:
        services, tasks = self._world.stacks.observe(running.identity.stack)
        if not services and (gone := stack_gone(self._world, running.identity.stack)) is not None:
            raise gone
        return deaths(services, tasks), {task.id: task for task in tasks}

    def _problem(self, running: Running, what: Fallen, fault: Fault = Fault.RECIPE) -> NotHealthy:
        said = f"{running.identity.version} does not stay up: {what.detail}."
        mend = _MENDS.get(what.code, "")
        if what.code == "out-of-memory":
            fault, mend = memory_fault(running.prepared, what.service)
        return NotHealthy(
            with_last_words(self._world, running.prepared, said, what.service),
            mend=mend,
            code=what.code,
            service=what.service,
            fault=fault,
        )
