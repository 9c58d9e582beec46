"""Waiting for work that workers do, with lines that say how it goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import click
from celery import Celery, Signature
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.exceptions import RedisError

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.work_folders import at_work, is_alive
from canonq.cli.interrupts import interrupts
from canonq.cli.view import View
from canonq.core.enrolment import Enrolment
from canonq.core.errors import Busy, CanonqError, ExitStatus, Fault, HostProblem, TimedOut, redis_problem
from canonq.flows.hosts import host_of
from canonq.flows.keeping.janitor import clean
from canonq.flows.looking.progress import Watcher
from canonq.flows.sweeps.brokenoff import nobody_works
from canonq.flows.sweeps.closing import give_up
from canonq.flows.sweeps.shares import collect
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World
from canonq.settings import Settings
from canonq.wiring import live
from workers import tree as process_tree
from workers.broker import check_broker, no_reader, unread
from workers.steps import StepFailed

_LOOK_EVERY = 0.25
_COLLECT_EVERY = 2.0  #: seconds, of what other hosts tell


@contextlib.contextmanager
def workers_for(settings: Settings, *, quiet: bool) -> Iterator[process_tree.Tree | None]:
    """The workers in place when a Redis is configured; else an embedded Redis and workers for as long as needed."""
    if settings.broker_url() is not None:
        yield None
        return
    if not quiet:
        logs = process_tree.log_folder(settings)
        click.echo(f"No Redis is configured: running one and the workers here; their logs are in {logs}.", err=True)
    world = live(settings)
    began = world.stamp()
    try:
        with process_tree.running(settings, hurried=interrupts.hurried, tell=tell_of_one) as tree:
            yield tree
    except BaseException:
        # Stopped in the middle: the workers are gone, so what they had begun is nobody's any more.
        clean_up(settings, quiet=quiet)
        _tell_promoted(world, began)
        raise


def tell_of_one(line: str) -> None:
    """What is told of a process that does not end."""
    click.echo(line, err=True)


def clean_up(settings: Settings, *, quiet: bool = False) -> None:
    """Remove what ended workers had begun, and tell what is left all the same."""
    try:
        with locks_for(settings) as world:
            done = clean(world)
            left = [line.removeprefix("would remove ") for line in clean(world, dry_run=True)]
            living = [path.name for path in at_work(world.work) if is_alive(path)]
    except CanonqError as error:
        click.echo(f"What was under way could not be removed: {error} `canonq janitor` does it.", err=True)
        return
    except KeyboardInterrupt:
        click.echo("What was under way was not all removed: `canonq janitor --dry-run` tells what is left.", err=True)
        raise
    for line in done if not quiet else ():
        click.echo(line, err=True)
    for line in left:
        click.echo(f"Left behind: {line}. `canonq janitor` removes it.", err=True)
    if living:
        told = f"Left alone, as whoever is at it has not ended: {', '.join(living)}."
        click.echo(f"{told} `canonq janitor` removes what is left of it then.", err=True)
    if not left:
        click.echo(f"Nothing {'else ' if living else ''}is left of what was under way.", err=True)


def _tell_promoted(world: World, since: str) -> None:
    """What was promoted before it ended is told, as it was done: a step under way had some time to end."""
    for recipe in world.registry.recipes():
        with contextlib.suppress(CanonqError):
            record = world.registry.read(recipe)
            if record is not None and (record.promoted_at or "") >= since:
                click.echo(f"The canonical of {recipe} is {record.version} since {record.promoted_at}.", err=True)


@contextlib.contextmanager
def stopping(what: str, stop: Callable[[], str | None]) -> Iterator[None]:
    """Say at the first Ctrl-C what is done about it: `stop` does it and gives a sentence."""
    try:
        yield
    except KeyboardInterrupt:
        try:
            told = stop()
        except CanonqError as error:
            told = f"It could not be told to its workers: {error}"
        click.echo(f"Stopping {what}. {told or ''}".rstrip(), err=True)
        raise


def ends_here(tree: process_tree.Tree | None) -> str:
    """What becomes of steps that are under way."""
    if tree is None:
        return "A step that is under way ends in its worker, and nothing follows it; `canonq status` shows it."
    return f"Steps under way get {process_tree.STOP_LIMIT:.0f} s to end, then they are removed. Ctrl-C again to end them at once."


@contextlib.contextmanager
def locks_for(settings: Settings) -> Iterator[World]:
    """The world with a Redis for its locks: the configured one, else one for as long as needed."""
    if settings.broker_url() is not None:
        yield live(settings)
        return
    with embedded_redis() as url:
        yield live(settings.model_copy(update={"redis_url": SecretStr(url)}))


def enqueue(app: Celery, what: Signature[Any]) -> Any:
    """Send a task or chain; HostProblem at once when the broker does not answer."""
    check_broker(app)
    return what.apply_async()


def require_workers(app: Celery, queues: set[str], *, wait: bool = True) -> None:
    """HostProblem when nobody consumes a queue that is needed; without `wait`, only a warning."""
    check_broker(app)
    if not (missing := unread(app, queues)):
        return
    if wait:
        raise no_reader(missing)
    waits = no_reader(missing)
    click.echo(f"canonq: [{waits.code}] {waits.what} The work is queued until one does.", err=True)


def host_for(world: World, enrolment: Enrolment) -> str | None:
    """The host whose workers are to do what is asked of a recipe; None where this one has no name yet.

    HostProblem where it can be worked on nowhere now, WrongConfiguration where the broker does not know this host.
    """
    if not world.hosts.are_several():
        return world.hosts.own
    return host_of(world, enrolment)


def await_sweep(world: World, sweep: str, tree: process_tree.Tree | None, *, quiet: bool) -> dict[str, Any]:
    """Wait until the sweep is closed, done or not; recipes that never get an outcome are accounted for as lost."""
    ends = time.monotonic() + world.settings.sweep_timeout
    with View(quiet=quiet) as view:
        watcher, several, looked, alone = Watcher(world), world.hosts.are_several(), time.monotonic(), False
        while world.sweeps.closed(sweep) is None:
            view.look(lambda: watcher.sweep(sweep))
            if time.monotonic() > looked + _COLLECT_EVERY:
                looked = time.monotonic()
                with contextlib.suppress(CanonqError):  # upkeep does it all the same
                    if several:
                        collect(world, sweep)
                if tree is None and not alone and nobody_works(world):
                    alone = True
                    click.echo(
                        "No worker is there any more. The sweep goes on with the next `canonq up`; Ctrl-C stops it.", err=True
                    )
            dead = tree.dead() if tree else None
            if dead or time.monotonic() > ends:
                give_up(world, sweep, f"no outcome: {f'{dead} ended' if dead else 'the sweep took too long'}.")
                break
            time.sleep(_LOOK_EVERY)
        if not quiet:
            view.show(watcher.sweep(sweep))
    return summary(world, sweep)


def await_result(
    result: AsyncResult[Any], tree: process_tree.Tree | None, limit: float, view: View | None = None, recipe: str = ""
) -> dict[str, Any]:
    """Wait for a task's value, with `view` of how far it is. CanonqError with the task's own words when it failed.

    Interrupted, nothing of it begins later.
    """
    try:
        return _value_of(result, tree, limit, view, recipe)
    finally:
        _let_go(result)


def _value_of(
    result: AsyncResult[Any], tree: process_tree.Tree | None, limit: float, view: View | None, recipe: str
) -> dict[str, Any]:
    ends, is_ready = time.monotonic() + limit, _ready(result)
    shown, watcher, first = view or View(quiet=True), Watcher(live()) if view else None, _first(result)
    with stopping("this call", lambda: _revoke(result, tree)), shown:
        while not is_ready():
            if watcher is not None:
                shown.look(lambda: watcher.call(first, recipe))
            if tree and (dead := tree.dead()):
                raise HostProblem(f"The work stopped: {dead} ended.", mend="look at its log.", code="worker-lost")
            if time.monotonic() > ends:
                mend = "look at Flower or the workers' logs."
                raise TimedOut(f"The task {result.id} did not finish within {limit:.0f} s.", mend=mend)
            time.sleep(_LOOK_EVERY)
    if result.failed():
        raise told_by_task(result.result)
    value = dict(result.result)
    if value.get("outcome") == "busy":
        what, _, mend = str(value["detail"]).partition(" Mend: ")
        raise Busy(what, mend=mend or "wait until it ends.", code=str(value.get("reason") or Busy.code))
    return value


def _ready(result: AsyncResult[Any]) -> Callable[[], bool]:
    """Whether a task has ended. Where Redis is away that is told, once, and asked again."""
    told = False
    result.backend.always_retry = False  # it would ask by itself, in silence, until Redis is back

    def is_ready() -> bool:
        nonlocal told
        try:
            return bool(result.ready())
        except (RedisError, OperationalError, OSError) as error:
            if not told:
                told = True
                line = f"{redis_problem(str(error))} What was asked for goes on when it answers again; Ctrl-C waits no longer."
                click.echo(line, err=True)
            return False

    return is_ready


def _let_go(result: AsyncResult[Any]) -> None:
    """Nobody asks for it any more: as it goes, Celery would tell so to a Redis that may have ended with its workers."""
    link: AsyncResult[Any] | None = result
    while link is not None:
        link.backend = None
        link = getattr(link, "parent", None)


def _first(result: AsyncResult[Any]) -> str:
    """The id of a chain's first link, under which all of it is on record."""
    while getattr(result, "parent", None) is not None:
        result = result.parent
    return str(getattr(result, "id", ""))


def _revoke(result: AsyncResult[Any], tree: process_tree.Tree | None) -> str:
    """Take back a task, and those of its chain before it, where no worker has begun them."""
    check_broker(result.app)  # without it, each word would be tried for minutes
    link: AsyncResult[Any] | None = result
    while link is not None:
        with contextlib.suppress(OperationalError, OSError):  # no broker: its workers cannot get it either
            link.revoke()
        link = link.parent
    return ends_here(tree)


def told_by_task(failure: object) -> CanonqError:
    """The error that a task failed with, as its worker had it: its code, whose fault it is, and the exit status.

    Whatever else ended the task, such as its worker's death, is the machinery's.
    """
    code, _, told = str(failure).partition(": ")
    if not isinstance(failure, StepFailed) or not told:
        return CanonqError(str(failure))
    what, _, mend = told.partition(" Mend: ")
    error = CanonqError(what, mend=mend, code=code)
    _, status, fault = failure.args
    error.exit_status, error.fault = ExitStatus(status), Fault(fault)
    return error
