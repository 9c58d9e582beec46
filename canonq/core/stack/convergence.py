"""Whether a stack has converged (docs/rules.md 3, install and upgrade). Pure.

"N of N running" is not enough: the tasks must run the service's *current* spec, the update must be over and not
rolled back. What can never become good is told at once, so that nobody waits for the time-out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from canonq.core.blame import known
from canonq.core.text import beginning, ending, readable

#: So many dead tasks of the current spec in one service are a crash loop. Apps that wait for their database
#: die a few times on a cold start, so it is not two.
CRASHES = 8
#: For so much of [health] timeout an app that exits at once without its database may die as often as that: a database that begins
#: anew takes as long as it takes, and Swarm starts the app again every few seconds.
COLD = 1 / 3
_DEAD = ("failed", "rejected")
_OVER = (*_DEAD, "complete", "shutdown", "remove", "orphaned")  #: states that a task never leaves
_MEANT_TO_RUN = ("running", "complete")  #: what Swarm wants of a task; of a job's, that it ends
#: How the sentence of a health check that failed begins.
FAILED_CHECK = "Its health check `"
_ENDS_WELL = "its tasks end by themselves with exit status 0, and are started again"
_PENDING_UPDATE = ("updating", "rollback_started")
#: The code of a service that Swarm makes no task for at all.
NO_TASK = "no-task"
#: The code of a stack that has no services any more.
NO_SERVICES = "no-services"
#: The code of a service for whose tasks Swarm has allocated nothing.
NOT_ALLOCATED = "not-allocated"


@dataclass(frozen=True)
class Task:
    """One task as Docker lists it."""

    id: str
    service: str
    state: str  #: new, pending, ..., starting, running, complete, failed, rejected, shutdown
    desired: str  #: running, shutdown, ...
    current: bool  #: runs the service's current spec
    slot: int
    error: str = ""
    exit_code: int = 0
    container: str = ""
    created: str = ""
    node: str = ""


@dataclass(frozen=True)
class Service:
    """One service as Docker lists it."""

    name: str  #: without the stack's prefix
    replicas: int | None  #: None: one on each node; of a job, how often it has to complete
    update: str | None  #: UpdateStatus.State
    update_message: str = ""
    one_shot: bool = False  #: not started again after it exited with 0
    restarts: bool = True  #: whether it is started again after it failed
    job: bool = False  #: runs to its end, and is good when it has
    labels: Mapping[str, str] | None = None
    image: str = ""  #: reference in the present spec
    healthcheck: bool = False


@dataclass(frozen=True)
class Convergence:
    """How far a stack is. `failed` is certain; `waiting` may still become `converged`."""

    state: Literal["converged", "waiting", "failed"]
    reason: str = ""  #: stable code
    detail: str = ""
    service: str = ""
    said: tuple[str, ...] = ()  #: what Docker says of the service's tasks that did not get going


def judge(
    services: Sequence[Service],
    tasks: Sequence[Task],
    died: Mapping[str, int] | None = None,
    nodes: int = 1,
    answering: str = "",
    dying: Collection[str] | None = None,
) -> Convergence:
    """Judge one look at a stack; the worst service decides.

    `died` counts dead tasks over all looks (see `deaths`): Swarm itself remembers only the last few.
    `answering` is the service that has to answer, so it is no one-shot, whatever its restart condition.
    `dying`: of a stack that starts cold, the services that still died when the time for that was over (see `COLD`); None: any.
    A service that is alone has nobody to wait for.
    """
    if not services:
        return Convergence("failed", NO_SERVICES, "the stack has no services any more")
    looks = [
        _judge_service(
            service,
            [task for task in tasks if task.service == service.name],
            died=(died or {}).get(service.name, 0),
            nodes=nodes,
            may_end=service.one_shot and service.name != answering and (service.job or not service.healthcheck),
            may_wait=dying is not None and service.name not in dying and len(services) > 1,
        )
        for service in services
    ]
    order = ("failed", "waiting", "converged")
    return min(looks, key=lambda look: order.index(look.state))


def deaths(services: Iterable[Service], tasks: Iterable[Task]) -> set[tuple[str, str]]:
    """(service, task id) of each task of the current spec that is dead, to be gathered over several looks.

    One that ended with 0 is dead as well, where its service is meant to stay.
    """
    stay = {service.name for service in services if not service.one_shot}
    return {(task.service, task.id) for task in tasks if task.current and _is_dead(task, task.service in stay)}


def _is_dead(task: Task, stays: bool) -> bool:
    return task.state in _DEAD or (stays and task.state == "complete")


def _judge_service(
    service: Service, tasks: Sequence[Task], *, died: int, nodes: int, may_end: bool, may_wait: bool
) -> Convergence:
    name = service.name
    if service.update is not None and service.update.startswith("rollback_") and service.update not in _PENDING_UPDATE:
        return Convergence(
            "failed",
            "rolled-back",
            f"the update of '{name}' failed and Swarm went back to the old version ({service.update_message}); "
            f"{_last_error(tasks)}",
            name,
            _said(task for task in tasks if not task.current),
        )
    current = [task for task in tasks if task.current]
    dead = [task for task in current if _is_dead(task, not service.one_shot)]
    if certain := _certain(dead):
        return Convergence("failed", certain[0], f"'{name}': {certain[1]}", name, (certain[1],))
    running = [task for task in current if task.state == "running" and task.desired in _MEANT_TO_RUN]
    stale = [task for task in tasks if not task.current and task.state == "running" and task.desired == "running"]
    if not running and not stale and service.update not in _PENDING_UPDATE and (waits := _certain(_unplaced(current))):
        return Convergence("failed", waits[0], f"'{name}': {waits[1]}", name, (waits[1],))
    wanted = nodes if service.replicas is None else service.replicas
    complete = {_place(service, task) for task in current if task.state == "complete"} if service.one_shot else set()
    if complete and not running and not may_end and not service.job:
        return Convergence(
            "failed", "exited", f"'{name}' ended with exit status 0, and its restart policy does not start it again", name
        )
    if not service.restarts and (given_up := _given_up(service, current)):
        what = f"'{name}' failed, and its restart policy does not start it again; {_last_error(given_up)}"
        return Convergence("failed", "not-restarted", what, name, _said(current))
    if max(died, len(dead)) >= CRASHES and not may_wait:
        what = f"'{name}' died {max(died, len(dead))} times; {_last_error(tasks)}"
        return Convergence("failed", "crash-loop", what, name, _said(current))
    if not running and (new := _only_new(current)):
        what = f"Swarm has not given '{name}' its network addresses: {new} of its tasks are new, none has come further"
        return Convergence("waiting", NOT_ALLOCATED, what, name, _said(current))
    if service.update in _PENDING_UPDATE:
        return Convergence("waiting", "updating", f"'{name}' is {service.update}; {_last_error(tasks)}", name, _said(current))
    if service.update == "paused" and stale:
        # An old task keeps its place for good. Where none does, Swarm goes on starting new ones, as after a first deploy.
        what = f"Swarm stopped the update of '{name}' ({service.update_message})"
        return Convergence("failed", "update-paused", what, name, _said(current))
    if service.replicas is None and not current and not stale:
        return Convergence(
            "waiting", NO_TASK, f"Swarm has no node that '{name}', which runs on each that fits, would run on", name
        )
    if service.job:
        if len(complete) >= wanted:
            return Convergence("converged", service=name)
        what = f"the job '{name}' has completed {len(complete)} of {wanted} times; {_last_error(tasks)}"
        return Convergence("waiting", "not-completed", what, name, _said(current))
    ended = complete - {_place(service, task) for task in running} if may_end else set()
    if len(running) + len(ended) != wanted or stale:
        done = f" and {len(ended)} ended well" if ended else ""
        ends_well = not service.one_shot and not running and any(task.state == "complete" for task in current)
        said = _ENDS_WELL if ends_well and not any(task.error for task in current) else _last_error(tasks)
        what = f"'{name}' has {len(running)} of {wanted} tasks running{done}; {said}"
        return Convergence("waiting", "not-running", what, name, _said(current))
    return Convergence("converged", service=name)


def stopped_updates(services: Iterable[Service]) -> list[str]:
    """A sentence for each service that is up though Swarm has stopped its update, as Docker goes on showing."""
    return [
        f"update-paused: Swarm stopped the update of '{one.name}' ({one.update_message}), and started it again all the same"
        for one in services
        if one.update == "paused"
    ]


def _place(service: Service, task: Task) -> tuple[int, str]:
    """What Swarm fills with one task after the other: a slot, or a node where one runs on each."""
    return (0, task.node) if service.replicas is None else (task.slot, "")


def _given_up(service: Service, current: Sequence[Task]) -> list[Task]:
    """The dead tasks in whose place nothing runs, is about to, or ended well."""
    good = {_place(service, task) for task in current if task.state == "complete" or task.state not in _OVER}
    return [task for task in current if task.state in _DEAD and _place(service, task) not in good]


def _unplaced(current: Sequence[Task]) -> list[Task]:
    """Tasks that Swarm has no node for, with nothing of the service itself in their way."""
    return [task for task in current if task.state == "pending" and task.desired in _MEANT_TO_RUN]


def _only_new(current: Sequence[Task]) -> int:
    """How many tasks there are, where Swarm has allocated nothing for any of them yet: before that it looks for no node."""
    states = [task.state for task in current if task.state not in _OVER]
    return len(states) if states and set(states) == {"new"} else 0


def _certain(dead: Sequence[Task]) -> tuple[str, str] | None:
    for task in dead:
        pattern = known(task.error)
        if pattern is not None and pattern.final:
            return pattern.code, task.error
    return None


def _said(tasks: Iterable[Task]) -> tuple[str, ...]:
    """What Docker says of the tasks that died or do not get going, newest first, not of those it stopped itself."""
    stuck = [task for task in tasks if task.error and (task.state in _DEAD or task.desired in _MEANT_TO_RUN)]
    return tuple(task.error for task in sorted(stuck, key=lambda task: task.created, reverse=True))


def _last_error(tasks: Sequence[Task]) -> str:
    failed = [task for task in tasks if task.error]
    if not failed:
        states = sorted({task.state for task in tasks if task.desired in _MEANT_TO_RUN})
        if not states and any(task.state == "complete" for task in tasks):
            return _ENDS_WELL
        return f"its tasks are {', '.join(states) or 'not there yet'}"
    newest = max(failed, key=lambda task: task.created)
    exits = f" (exit status {newest.exit_code})" if newest.exit_code else ""
    return f"last error: {newest.error}{exits}"


def failing_check(container: Mapping[str, Any]) -> str | None:
    """What an inspected container's health check says for itself when it failed last, else nothing. None before it answered."""
    health = (container.get("State") or {}).get("Health") or {}
    answers = [answer for answer in health.get("Log") or () if answer.get("End")]
    if not answers:
        return None
    if not answers[-1].get("ExitCode"):
        return ""
    last, times = answers[-1], int(health.get("FailingStreak") or 0)
    test = ((container.get("Config") or {}).get("Healthcheck") or {}).get("Test") or ()
    command = beginning(readable(" ".join(str(word) for word in test[1:])), 200)
    said = ending(readable(" ".join(str(last.get("Output") or "").split())), 300) or "it printed nothing"
    again = f"{times} times in a row" if times > 1 else "once"
    return f"{FAILED_CHECK}{command}` failed {again}, last with exit status {last['ExitCode']}: {said}"


def same_spec(service_template: Mapping[str, Any], task_spec: Mapping[str, Any]) -> bool:
    """Whether a task runs the service's present spec. The Engine adds `Runtime` to one side only."""
    ignored = ("Runtime", "PluginSpec")
    return _without(service_template, ignored) == _without(task_spec, ignored)


def _without(spec: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in keys and value not in ({}, [], None)}
