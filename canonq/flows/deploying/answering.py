"""Waiting until a stack is up and its app answers; and whose fault it is when that does not come to pass."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Collection

from canonq.adapters.beneath import read_beneath
from canonq.adapters.network.asking import ask
from canonq.adapters.processes.stopping import check_stop
from canonq.core.blame import unknown, worst
from canonq.core.errors import CanonqError, EnrolmentProblem, Fault, HostProblem, RecipeProblem, RunOver
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.recipe.overlay import says
from canonq.core.stack.beside import fixed_subnets, in_its_own_way
from canonq.core.stack.containment import short_of_memory
from canonq.core.stack.convergence import COLD, NO_SERVICES, NO_TASK, NOT_ALLOCATED, Convergence, deaths, judge
from canonq.core.stack.resolved import HIGHEST_PORT, Service
from canonq.core.text import ending, readable, shown, whole_number
from canonq.flows.deploying.stages import Deployment, Prepared, Up
from canonq.flows.deploying.treefiles import MOST_OF_ONE
from canonq.flows.world import World
from canonq.ports import Answer

_LOOK_EVERY = 0.1  #: seconds between two looks at a stack in which something just happened
_LOOK_AT_LEAST_EVERY = 1.0  #: seconds between two looks at one that is quiet; each pause before is twice the one before it
_LOOKS_IN_A_ROW = 3  #: good looks, so that a stack between two states is not taken for settled
_CHECKS_EVERY = 5.0  #: seconds between two looks at what the health checks of a stack say that is not up yet
_PROBE_TIMEOUT = 10.0
#: Statuses by which an app that is well says that it was asked for something else than it has; and the finer code of that.
_ASKED_ELSEWHERE = (*range(300, 400), 401, 403, 404, 405, 410)
ASKED_ELSEWHERE = "asked-elsewhere"
_LAST_LOGGED = 3  #: lines
#: Of a service that came down: what its last container said is why.
_DIED = ("crash-loop", "not-restarted", "exited", "rolled-back", "update-paused", "not-healthy", "cannot-start")
#: How the runtime says that it cannot start a command; what the command itself lacks, it says in words of its own.
_NO_PROGRAM = re.compile(
    r'exec: "[^"]*": (?:(?!exec: ")[^\n])*(executable file not found|no such file or directory)|file `[^`]*` not found in \$PATH'
)
_ROUTED = re.compile(r"traefik\.http\.services\.[^.]+\.loadbalancer\.server\.port", re.IGNORECASE)


class NotHealthy(RecipeProblem):
    """The app did not come up, or will never."""

    code = "not-healthy"


def await_answer(world: World, prepared: Prepared, ends: float, deadline: float, *, cold: bool = True) -> Up:
    """Wait until the stack has converged and the app answers, or until it is certain that it never will.

    An app that has come up just before `ends`, or while a busy host did not look, is asked once all the same.
    `cold`: its databases may be starting, too, and it may die until they are there; see `COLD`.
    """
    with world.stacks.changes(prepared.stack.stack) as wait:
        return _await_answer(world, prepared, ends, deadline, wait, cold=cold)


def _await_answer(
    world: World, prepared: Prepared, ends: float, deadline: float, wait: Callable[[float], bool], *, cold: bool
) -> Up:
    app, good = prepared.deployment, 0
    stack, health = app.identity.stack, app.enrolment.health
    answer = Answer(False, "it was not asked yet", reached=False)
    dead: set[tuple[str, str]] = set()
    while_cold: set[tuple[str, str]] = set()
    cold_until = ends - health.timeout * (1 - COLD) if cold else 0.0
    asked = False
    pause = _LOOK_EVERY
    checks_looked_at = time.monotonic()
    while True:
        check_stop()
        services, tasks = world.stacks.observe(stack)
        dead |= deaths(services, tasks)
        if time.monotonic() < cold_until:
            while_cold |= dead
        dying = {service for service, _ in dead - while_cold} if cold else None
        look = judge(services, tasks, Counter(service for service, _ in dead), answering=health.service, dying=dying)
        if look.state == "failed":
            raise _never(world, prepared, look)
        good = good + 1 if look.state == "converged" else 0
        if good >= _LOOKS_IN_A_ROW:
            if (time_to_answer := min(_PROBE_TIMEOUT, deadline - time.monotonic())) <= 0:
                raise _gave_up(world, prepared, look, answer, deadline)
            answer, asked = ask(world.containers, world.ingress, stack, health, app.identity.domain, time_to_answer), True
            if answer.ok:
                return Up(answer, frozenset(dead))
        now = time.monotonic()
        if not good and now > checks_looked_at + _CHECKS_EVERY:
            checks_looked_at = now
            if (hopeless := _hopeless_check(world, prepared)) is not None:
                raise hopeless
        if now > ends and (asked or not good or now > deadline):
            raise _gave_up(world, prepared, look, answer, deadline)
        settling = 0 < good < _LOOKS_IN_A_ROW
        # Swarm's word about a task follows Docker's event about its container within moments.
        if wait(_LOOK_EVERY if settling else max(0.0, min(pause, ends - now))):
            pause = _LOOK_EVERY
            time.sleep(_LOOK_EVERY)
        elif not settling:
            pause = min(2 * pause, _LOOK_AT_LEAST_EVERY)


def _hopeless_check(world: World, prepared: Prepared) -> NotHealthy | None:
    """The error when a health check names a program that its image does not have: no time makes it pass."""
    for service, said in world.stacks.failing_checks(prepared.stack.stack).items():
        if "executable file not found in $PATH" in said:
            return NotHealthy(
                f"{prepared.deployment.identity.version} will not come up: '{service}' runs, its health check cannot. {said}.",
                mend="the maintainer has to name a program for the health check that the image has, or add it to the image.",
                code="not-healthy",
                service=service,
                certain=True,
            )
    return None


def _never(world: World, prepared: Prepared, look: Convergence) -> CanonqError:
    version = prepared.deployment.identity.version
    return _blamed(world, prepared, f"{version} will not come up: {look.detail}.", look, look.reason)


def stack_gone(world: World, stack: str, services: Collection[str] = ()) -> HostProblem | None:
    """The problem when a stack that was deployed, or one of its `services`, is not there any more: no app removes its own."""
    there = {service.name for service in world.stacks.observe(stack)[0]}
    if not there:
        return _removed(f"The stack {stack}")
    gone = sorted(set(services) - there)
    return _removed(f"The service {' and '.join(gone)} of the stack {stack}") if gone else None


def _removed(what: str) -> HostProblem:
    return HostProblem(
        f"{what} was removed while canonq worked with it; nothing can be said of the release.",
        mend="find out who did that (`docker stack rm`, another canonq on this Docker), and test again.",
        code=NO_SERVICES,
    )


def _blamed(world: World, prepared: Prepared, what: str, look: Convergence, code: str) -> CanonqError:
    """The error for a stack that does not come up, by what Docker says of its tasks: red only for what is the recipe's."""
    if code == NO_SERVICES:
        return _removed(f"The stack {prepared.stack.stack}")
    found = worst(list(look.said))
    if found is None and look.said:
        return unknown(f"{what} canonq does not know Docker's words for it.")
    if found is not None and found.code == "image-unavailable":
        # It was here before the deploy (_have_images), so that it can be had is proven.
        return HostProblem(
            f"{what} The image was here when canonq deployed.",
            mend="something on this host removes images while canonq works, such as a nightly `docker system prune`.",
            code="image-gone",
            service=look.service,
        )
    if found is not None and found.code == "port-taken" and (why := _held_by_itself(world, prepared, look.service)):
        return NotHealthy(
            f"{what} {why}.",
            mend="the maintainer has to set `order: stop-first` under update_config, or publish the port in mode ingress.",
            code="port-twice",
            service=look.service,
            certain=True,
        )
    if found is not None and issubclass(found.kind, HostProblem):
        return HostProblem(what, mend=found.mend, code=found.code, service=look.service)
    mend, fault = found.mend if found and found.code == code else "", Fault.RECIPE
    said = ""
    failing = world.stacks.failing_checks(prepared.stack.stack).get(look.service, "")
    died = code in _DIED
    if code == "not-healthy" and failing:  # Docker has ended it for that, and what it said at its end is no cause
        mend = "the health check asks for what the app does not give: correct it in the compose file, or give it more time."
    elif died:
        said = ending(" / ".join(world.stacks.last_words(prepared.stack.stack, look.service).splitlines()), 300)
    if code == "out-of-memory":
        fault, mend = memory_fault(prepared, look.service)
    # A check that was killed with what it asked says nothing about either.
    elif died and _was_short_of_memory(world, prepared, look.service):
        what = f"{what} A container of '{look.service}' was killed for want of memory."
        code, (fault, mend) = "out-of-memory", memory_fault(prepared, look.service)
    told = " ".join(
        [with_last_words(world, prepared, what, look.service), *([f"Its last words: {readable(said)}"] if said else [])]
    )
    return NotHealthy(told, mend=mend, code=code, service=look.service, fault=fault)


def _held_by_itself(world: World, prepared: Prepared, service: str) -> str | None:
    """Why a service does not get a port of the host: its own task of before still runs, and has it. None where that is not so."""
    own = prepared.filled.resolved.services.get(service)
    _, tasks = world.stacks.observe(prepared.stack.stack)
    before = any(task.service == service and not task.current and task.state == "running" for task in tasks)
    return in_its_own_way(own) if own is not None and before else None


def memory_fault(prepared: Prepared, service: str) -> tuple[Fault, str]:
    """Whose it is that a service was killed for want of memory, and what to do about it."""
    overlaid = says(prepared.filled.overlay.get(service, {}), "deploy.resources.limits.memory")
    by = TEST_OVERLAY if overlaid else ""
    return short_of_memory(prepared.filled.resolved.services.get(service), prepared.deployment.enrolment, overlay=by)


def _was_short_of_memory(world: World, prepared: Prepared, service: str) -> bool:
    killed = world.stacks.out_of_memory(prepared.stack.stack)
    _, tasks = world.stacks.observe(prepared.stack.stack) if killed else ((), ())
    return any(task.service == service and task.container in killed for task in tasks)


def _windows_scripts(prepared: Prepared, service: str) -> list[str]:
    """A sentence for each script that the service is given as a config, and that Linux cannot start for its line ends."""
    configs, there = prepared.filled.resolved.configs, prepared.filled.resolved.services.get(service)
    told = []
    for key in there.configs if there else ():
        name = configs[key].file if key in configs else None
        first = (read_beneath(prepared.deployment.tree, name, MOST_OF_ONE) or b"").partition(b"\n")[0] if name else b""
        if name and first.startswith(b"#!") and first.endswith(b"\r"):
            told.append(
                f"{shown(name)} has line ends of Windows (CRLF), so Linux looks for a program "
                f"{shown(first[2:].decode(errors='replace').strip() + chr(13))} to run it with."
            )
    return told


def with_last_words(world: World, prepared: Prepared, what: str, service: str) -> str:
    """A sentence about a service that is not well, with what its health check said last, and what nothing has set for it."""
    said = world.stacks.failing_checks(prepared.stack.stack).get(service, "")
    unset_here = [told for told in prepared.filled.unset if f" services.{service}." in told]
    return " ".join([what, *([f"{said}."] if said else []), *unset_here, *_windows_scripts(prepared, service)])


def _gave_up(world: World, prepared: Prepared, look: Convergence, answer: Answer, deadline: float) -> CanonqError:
    app = prepared.deployment
    what = f"{app.identity.version} did not come up in {app.enrolment.health.timeout} s"
    if time.monotonic() > deadline:
        return RunOver(
            f"The run's limit of {app.enrolment.limits.run} s was over while waiting: {look.detail or answer.detail}.",
            mend="raise [limits] run in recipe.toml.",
        )
    if look.reason == NO_TASK:
        return HostProblem(
            f"{what}: {look.detail}.",
            mend="give this host what the release asks of a node; `docker node inspect self` shows its labels and state.",
            code="no-node-fits",
            service=look.service,
        )
    if look.reason == NOT_ALLOCATED and not look.said:
        networks = ", ".join([*prepared.stack.networks, "its own"])
        fixed = fixed_subnets(prepared.filled.resolved)
        return HostProblem(
            f"{what}: {look.detail}{f'; of its networks, {fixed}, which another network here may have' if fixed else ''}.",
            mend=f"see which of its networks ({networks}) has no address left, with `docker network inspect --verbose`, and what "
            "holds them; a manager that hangs looks the same.",
            code="addresses-used-up",
            service=look.service,
        )
    if look.state != "converged":
        return _blamed(world, prepared, f"{what}: {look.detail}.", look, "not-healthy")
    service = app.enrolment.health.service
    if world.ingress is not None and app.enrolment.health.kind == "http":
        inside = world.containers.probe(app.identity.stack, app.enrolment.health, app.identity.domain, _PROBE_TIMEOUT)
        if inside.ok and (problem := ingress_problem(world, app)):
            return problem
        if inside.ok:
            return NotHealthy(
                f"{what}: healthy inside but not routed: {answer.detail}; inside, {inside.detail}.",
                mend="look at the recipe's traefik labels and at the ingress.",
                code="not-routed",
                service=service,
            )
        answer = inside
    if (meant := _wrong_health(world, prepared, answer)) is not None:
        return EnrolmentProblem(
            f"{what}: all tasks run, but {answer.detail}; {meant}.",
            mend=f"correct [health]{_right_port(world, app)} in tests/{app.identity.recipe}/recipe.toml.",
            code="health-wrong",
            service=service,
            certain=True,
        )
    heard = "" if answer.reached else _listens_elsewhere(world, app)
    said = with_last_words(world, prepared, f"{what}: all tasks run, but {answer.detail}{heard and f'; {heard}'}.", service)
    if not answer.reached and (logged := _logged_last(world, prepared, service)):
        said = f"{said} It logged last: {readable(logged)}"
    elsewhere = answer.status in _ASKED_ELSEWHERE and not app.answered
    return NotHealthy(said, code="not-answering", service=service, cause=ASKED_ELSEWHERE if elsewhere else "")


def _logged_last(world: World, prepared: Prepared, service: str) -> str:
    """What a service that runs, and at whose port nobody answers, has logged last: mostly what it waits for."""
    lines = [line.strip() for line in world.stacks.logs(prepared.stack.stack, _LAST_LOGGED).get(service, "").splitlines()]
    return ending(" / ".join(dict.fromkeys(line for line in lines if line)), 300)


def _right_port(world: World, app: Deployment) -> str:
    listens = world.containers.listening(app.identity.stack, app.enrolment.health.service)
    asked = app.enrolment.health
    return f" to `port = {listens[0]}`" if asked.kind != "exec" and len(listens) == 1 and asked.port != listens[0] else ""


def _wrong_health(world: World, prepared: Prepared, answer: Answer) -> str | None:
    """What shows that the app is well and [health] asks it in a wrong way; None where nothing does.

    The release's own word for its port, or an earlier answer at this one, outweighs what it listens on now.
    """
    app = prepared.deployment
    health = app.enrolment.health
    if health.kind == "exec":
        missing = _NO_PROGRAM.search(answer.detail) is not None and not app.answered
        return f"its image has no program {shown(health.command[0])}" if missing else None
    if answer.reached or app.answered:
        return None
    if _routed_port(prepared.filled.resolved.services[health.service]) == health.port:
        return None
    return _listens_elsewhere(world, app) or None


def _listens_elsewhere(world: World, app: Deployment) -> str:
    """On which ports something listens in the service that is asked, where nothing does on the one that it is asked at."""
    health = app.enrolment.health
    listens = world.containers.listening(app.identity.stack, health.service) if health.kind != "exec" else []
    if not listens or health.port in listens:
        return ""
    return f"nothing listens on {health.port} in it, and something does on {', '.join(map(str, listens[:5]))}"


def _routed_port(service: Service) -> int | None:
    """The port that the service's own labels send visitors to."""
    for label, value in service.labels.items():
        if _ROUTED.fullmatch(label) and (port := whole_number(value or "", HIGHEST_PORT)):
            return port
    return None


def ingress_problem(world: World, app: Deployment) -> HostProblem | None:
    """The problem when an app that is asked through the ingress failed, and nobody is there at all."""
    if world.ingress is None or app.enrolment.health.kind != "http" or (down := world.ingress.down()) is None:
        return None
    return HostProblem(
        f"{app.identity.version} cannot be asked: {down}.",
        mend="start the reverse proxy, or correct [ingress]; `canonq doctor` shows whether it answers.",
        code="ingress-down",
    )
