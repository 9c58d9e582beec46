"""The process tree of a single host: Redis if none is configured, the workers, beat (docs/rules.md 6, `canonq up`)."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.context import ForkProcess
from pathlib import Path
from socket import gethostname

from canonq.adapters.files import told
from canonq.adapters.processes.preloaded import die_with, keep_shared
from canonq.adapters.redis_server import embedded_redis
from canonq.core.errors import Busy, HostProblem
from canonq.settings import Settings, load_settings
from workers.factory import make_app

_START_LIMIT = 180.0  #: seconds until workers must answer
STOP_LIMIT = 30.0  #: seconds a process gets to stop
_LOOK_EVERY = 0.1  #: seconds


#: What a worker is made of, beside what a command has imported anyway; the tasks themselves belong to a worker's own app.
_OF_A_WORKER = (
    "celery.__main__", "celery.bin.celery", "celery.apps.worker", "celery.concurrency.prefork", "celery.fixups.django",
    "celery.loaders.app", "celery.backends.redis", "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer", "celery.worker.control", "celery.worker.pidbox", "celery.worker.strategy",
    "kombu.transport.redis", "workers.beat", "workers.upkeep",
)  # fmt: skip
_FORKS = multiprocessing.get_context("fork")


class Tree:
    """Processes that live and end together: forks of this one, so that what they import is imported once."""

    def __init__(self, settings: Settings) -> None:
        self._logs = settings.state / "logs"
        self._processes: dict[str, ForkProcess] = {}
        with told(self._logs):
            self._logs.mkdir(parents=True, exist_ok=True)
        for module in _OF_A_WORKER:
            importlib.import_module(module)
        keep_shared()

    def start(self, name: str, *arguments: str) -> None:
        """Start what `python -m ...` does, its output appended to `logs/<name>.log`."""
        process = _FORKS.Process(target=_become, args=(arguments, self._logs / f"{name}.log", os.getpid()), name=name)
        process.start()
        self._processes[name] = process

    def dead(self) -> str | None:
        """The name of a process that ended though nobody asked it to, with its log's place."""
        for name, process in self._processes.items():
            if process.exitcode is not None:
                return f"{name} (status {process.exitcode}, log {self._logs / f'{name}.log'})"
        return None

    def stop(self, *, at_once: bool = False, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stop all: workers end their tasks first, or put them back when `at_once`. Those that take too long are killed, and
        so are all as soon as somebody is in a hurry."""
        for process in self._processes.values():
            if process.exitcode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(_pid(process), signal.SIGQUIT if at_once else signal.SIGTERM)
        ends = time.monotonic() + STOP_LIMIT
        while any(process.exitcode is None for process in self._processes.values()):
            if hurried() or time.monotonic() > ends:
                break
            time.sleep(_LOOK_EVERY)
        for process in self._processes.values():
            # Each leads a session of its own: its pool is in it, and must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(_pid(process), signal.SIGKILL)
            process.kill()  # it may not have come as far as that
            process.join()


def _pid(process: ForkProcess) -> int:
    assert process.pid is not None  # it was started
    return process.pid


def _become(arguments: Sequence[str], log: Path, parent: int) -> None:
    """In the fork: leave all that is the command's own, and be the program."""
    os.setsid()
    # Their Redis may have died with the parent: a worker that ends gently would wait for it.
    die_with(parent)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["CELERY_APP"] = "canonq"
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


@contextlib.contextmanager
def running(
    settings: Settings, *, beat: bool = False, keep_redis: bool = False, hurried: Callable[[], bool] = lambda: False
) -> Iterator[Tree]:
    """Run Redis (where none is configured), a light and a heavy worker, and beat, as long as the block lasts.

    In the block the settings name the Redis in use. HostProblem when the workers do not come up, Busy when a `canonq up`
    keeps its Redis in this state folder already.
    `hurried`: asked while it stops, whether what does not end by itself is to be killed at once.
    """
    with contextlib.ExitStack() as stack:
        if keep_redis and settings.configured_broker() is None and settings.broker_of_up():
            raise Busy(
                f"A `canonq up` runs on {settings.state} already.", mend="use that one, or stop it first.", code="already-up"
            )
        if settings.broker_url() is None:
            data, address = (settings.state / "redis", settings.up_file) if keep_redis else (None, None)
            stack.enter_context(_named(stack.enter_context(embedded_redis(data, address=address))))
        tree = Tree(settings)
        interrupted = True
        try:
            unheard = ("--without-gossip", "--without-mingle", "--loglevel=INFO")
            light, heavy = (f"{queue}-{os.getpid()}@{gethostname()}" for queue in ("light", "heavy"))
            slots = str(settings.light_workers)
            tree.start("worker-light", "celery", "worker", "-n", light, "-Q", "light", "-c", slots, *unheard)
            tree.start("worker-heavy", "celery", "worker", "-n", heavy, "-Q", "heavy,light", "-c", "1", *unheard)
            if beat:
                # No pidfile: after a power cut its number may be another process's. A second beat would do no harm.
                tree.start("beat", "celery", "beat", "--pidfile=", "--loglevel=INFO")
                if settings.webhook is not None:
                    tree.start("webhook", "workers.webhook")
            _await_workers(tree, (light, heavy))
            yield tree
            interrupted = False
        finally:
            tree.stop(at_once=interrupted, hurried=hurried)


@contextlib.contextmanager
def _named(url: str) -> Iterator[None]:
    """The environment names this Redis, and no other, as long as the block lasts."""
    names = ("CANONQ_REDIS_URL", "CANONQ_REDIS_URL_FILE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["CANONQ_REDIS_URL"] = url
    try:
        yield
    finally:
        del os.environ["CANONQ_REDIS_URL"]
        os.environ.update(before)


def _await_workers(tree: Tree, names: Sequence[str]) -> None:
    # Their own answers, and no waiting for more: others may be on this Redis, too.
    inspect = make_app(load_settings()).control.inspect(destination=list(names), limit=len(names), timeout=0.5)
    ends = time.monotonic() + _START_LIMIT
    while len(inspect.ping() or {}) < len(names):
        if (dead := tree.dead()) or time.monotonic() > ends:
            raise HostProblem(
                f"The workers did not start: {dead or 'they do not answer'}.",
                mend="look at their logs.",
                code="workers-not-started",
            )


def log_folder(settings: Settings) -> Path:
    """Where the tree's logs are."""
    return settings.state / "logs"
