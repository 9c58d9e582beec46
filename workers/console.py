"""`celery call` and `celery result` as people type them.

A bare word after `--args` is one argument; what no worker would ever do is refused where it was typed; a result is JSON, and
asking for it ends. Celery builds its commands from click's objects and adds options to them in the same way (`app.user_options`).
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click
from celery import Celery
from celery.bin.base import CeleryOption
from celery.bin.call import call
from celery.bin.result import result
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from canonq.adapters.checkout import Checkout
from canonq.core.errors import CanonqError, WrongUse, redis_problem
from canonq.core.jsontext import json_of
from canonq.core.names import shown
from canonq.flows.sweeps.opening import fences_now
from canonq.settings import load_settings
from canonq.wiring import looking
from workers.broker import check_broker, no_reader, require_readers, unread, waiting_in
from workers.factory import HEAVY, LIGHT, declare, plain, queue_on, recipe_given, route
from workers.steps import recipe_of

_PATIENCE = 10.0  #: seconds that `celery result` waits for what is under way
_LOOK_EVERY = 0.25  #: seconds
#: What a shell leaves of `["custom-html"]` without quotes around it, and Python's way to write it.
_UNQUOTED = re.compile(r"""\s*\[\s*(?:([\w.+-]+)|'([\w.+-]+)')\s*\]\s*""", re.ASCII)
_CODED = re.compile(r"([a-z][a-z0-9-]*): (.*)", re.DOTALL)


class Words(click.ParamType[Any]):
    """`--args`: a JSON array, or one bare word, which is the one argument."""

    name = "json array or one word"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        """The list of arguments."""
        if isinstance(value, list):
            return value
        try:
            found = json_of(value)
        except ValueError as error:
            if listed := _UNQUOTED.fullmatch(value):
                return [listed[1] or listed[2]]
            if value.lstrip()[:1] in ("[", "{", '"'):
                self.fail(f'this is no JSON: {error}. Give one word, or an array such as ["custom-html"].', param, ctx)
            return [value]
        if isinstance(found, dict):
            self.fail("an object is not a list of arguments; put it into an array, or give it to --kwargs.", param, ctx)
        # 123 and true are JSON as well, and may be names.
        return found if isinstance(found, list) else [found if isinstance(found, str) else value]


def install() -> None:
    """Give Celery's commands of this process canonq's ways; doing it again changes nothing."""
    if isinstance(_option(call, "args").type, Words):
        return
    _option(call, "args").type = Words()
    _option(call, "args").help = "One word, or a JSON array of arguments."
    call.callback = _checked(call.callback)
    result.params.append(
        CeleryOption(
            ["--timeout"],
            type=float,
            default=_PATIENCE,
            help_group="Result Options",
            help="Seconds to wait for what is under way.",
        )
    )
    result.callback = _told(result.callback)


def _option(command: Any, name: str) -> Any:
    return next(parameter for parameter in command.params if parameter.name == name)


def _checked(send: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(send)
    def checked(**given: Any) -> Any:
        with _in_one_line():
            refuse(click.get_current_context().obj.app, **given)
            return send(**given | {"kwargs": since_named(given["name"], given["args"], given["kwargs"])})

    return checked


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Errors end the command with one line and their exit status, as canonq's own commands do."""
    try:
        yield
    except (OperationalError, RedisError) as error:
        told: CanonqError = redis_problem(str(error))
    except CanonqError as error:
        told = error
    else:
        return
    click.echo(told.line, err=True)
    raise SystemExit(int(told.exit_status))


def refuse(app: Celery, *, name: str, args: list[Any], kwargs: dict[str, Any], queue: str | None, **options: Any) -> None:
    """WrongUse or HostProblem for a call that no worker would do: unknown, malformed, or into a queue that nobody reads."""
    app.loader.import_default_modules()
    if name not in app.tasks:
        known = sorted(task for task in app.tasks if task.startswith("canonq."))
        near = difflib.get_close_matches(name, known, 1)
        raise WrongUse(
            f"There is no task {shown(name)}.",
            mend=f"did you mean {near[0]}?" if near else f"there are: {', '.join(known)}.",
            code="no-such-task",
        )
    for option, why in (("exchange", "canonq has none"), ("routing_key", "a task's queue follows from its recipe")):
        if options.get(option):
            raise WrongUse(f"--{option.replace('_', '-')} cannot be given: {why}.", mend="leave it out.")
    if options.get("serializer", "json") != "json":
        raise WrongUse("canonq's workers read JSON only.", mend="leave --serializer out.")
    queues = {each.name for each in app.conf.task_queues}
    if queue is not None and plain(queue) != queue and load_settings().state.is_dir():
        names = [one.name for one in looking(load_settings()).hosts.all() if not one.removed]
        queues |= {queue_on(weight, name) for weight in (LIGHT, HEAVY) for name in names}
    if queue is not None and queue in queues:
        declare(app, queue)
    if queue is not None and queue not in queues:
        raise WrongUse(
            f"There is no queue {shown(queue)}.", mend=f"leave --queue out, or name one of {', '.join(sorted(queues))}."
        )
    _refuse_arguments(app.tasks[name], args, kwargs)
    unknown_weight = name in ("canonq.test", "canonq.promote") and load_settings().repo is None
    require_readers(app, {queue} if queue else {LIGHT, HEAVY} if unknown_weight else {route(name, args, kwargs, {})["queue"]})


def since_named(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call; a sweep of recipes that a person names goes with their fences of now.

    It may wait until a worker takes it, and undoes no rollback that is made meanwhile.
    """
    if name != "canonq.sweep" or "fences" in kwargs or not (found := recipe_given(name, args, kwargs)):
        return kwargs
    names = [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, str)]
    return {**kwargs, "fences": fences_now(looking(load_settings()), names)}


def _refuse_arguments(task: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    if not task.name.startswith("canonq."):
        return
    try:
        inspect.signature(task.run).bind(*args, **kwargs)
    except TypeError as error:
        takes = ", ".join(inspect.signature(task.run).parameters)
        raise WrongUse(f"{task.name} cannot be called so: {error}.", mend=f"it takes: {takes}.", code="bad-argument") from None
    given = recipe_given(task.name, args, kwargs)
    checkout = Checkout(load_settings().repo)
    for each in given if isinstance(given, list) else [given]:
        if each is None:
            continue
        recipe = recipe_of(each)
        if load_settings().repo is not None:  # without a checkout here, the worker looks it up in its own
            checkout.enrolment(recipe)


@dataclass(frozen=True)
class Whereabouts:
    """How far a task is that has no result yet."""

    state: str  #: queued, running, lost or unknown
    detail: str
    hopeless: bool = False  #: waiting would bring nothing


def whereabouts(app: Celery, task_id: str, started: bool) -> Whereabouts:
    """Look for a task's message in the queues and for the task among what workers have in hand."""
    queue = waiting_in(app).get(task_id)
    if queue:
        if unread(app, {queue}):
            return Whereabouts("queued", str(no_reader({queue})), hopeless=True)
        return Whereabouts("queued", f"it waits in the queue {queue}.")
    for answer in (app.control.inspect(timeout=2).query_task(task_id) or {}).values():
        for state, _ in answer.values():
            return Whereabouts("running" if state == "active" else "queued", "a worker has it in hand.")
    if queue is not None:
        why = "its worker died or does not answer; the message is delivered again when its time is over."
        return Whereabouts("lost", why, hopeless=True)
    if started:
        return Whereabouts("lost", "it was begun, and no worker has it in hand any more.", hopeless=True)
    why = "no such task was called on this Redis, or its message was lost, or its result is older than a week."
    return Whereabouts("unknown", why, hopeless=True)


def _told(before: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(before)
    def told(task_id: str, task: str | None, traceback: bool, timeout: float) -> Any:
        with _in_one_line():
            app = click.get_current_context().obj.app
            check_broker(app)
            if traceback:
                return before(task_id=task_id, task=task, traceback=traceback)
            shown_value, status = outcome_of(app, task_id, timeout)
            click.echo(json.dumps(shown_value, indent=2, ensure_ascii=False))
            raise SystemExit(status)

    return told


def outcome_of(app: Celery, task_id: str, timeout: float) -> tuple[Any, int]:
    """What is known of a task after `timeout` seconds at the most, as JSON, and the exit status: 0 when it has ended well."""
    app.backend.always_retry = False  # a Redis that goes away ends this too
    ends, doubts = time.monotonic() + timeout, 0
    while True:
        found = app.AsyncResult(task_id)
        state = found.state
        if state == "SUCCESS":
            return found.result, 0
        if found.ready():
            told = _CODED.fullmatch(str(found.result))
            code, what = told.groups() if told else (None, str(found.result))
            return {"id": task_id, "state": "failed", "code": code, "detail": what}, 1
        now = whereabouts(app, task_id, state == "STARTED")
        # Between queue and worker a message is nowhere for a moment, so nothing is given up at the first look.
        doubts = doubts + 1 if now.hopeless else 0
        if doubts > 1 or (time.monotonic() > ends and not doubts):
            return {"id": task_id, "state": now.state, "detail": now.detail}, 1
        time.sleep(_LOOK_EVERY if not doubts else 2 * _LOOK_EVERY)
