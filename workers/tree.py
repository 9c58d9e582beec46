"""The process tree of a single host: Redis if none is configured, the workers, beat (docs/rules.md 6, `canonq up`)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from canonq.adapters.files import told
from canonq.adapters.programs import with_parent
from canonq.adapters.redis_server import embedded_redis
from canonq.core.errors import Busy, HostProblem
from canonq.settings import Settings, load_settings
from workers.factory import make_app

_START_LIMIT = 180.0  #: seconds until workers must answer
STOP_LIMIT = 30.0  #: seconds a process gets to stop
_LOOK_EVERY = 0.1  #: seconds


class Tree:
    """Processes that live and end together."""

    def __init__(self, settings: Settings) -> None:
        self._logs = settings.state / "logs"
        self._env = {**os.environ, "CELERY_APP": "canonq"}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        with told(self._logs):
            self._logs.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *arguments: str) -> None:
        """Start `python -m ...`, its output appended to `logs/<name>.log`."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
                # Their Redis may have died with the parent: a worker that ends gently would wait for it.
                preexec_fn=with_parent(signal.SIGKILL),
            )

    def dead(self) -> str | None:
        """The name of a process that ended though nobody asked it to, with its log's place."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                return f"{name} (status {process.returncode}, log {self._logs / f'{name}.log'})"
        return None

    def stop(self, *, at_once: bool = False, hurried: Callable[[], bool] = lambda: False) -> None:
        """Stop all: workers end their tasks first, or put them back when `at_once`. Those that take too long are killed, and
        so are all as soon as somebody is in a hurry."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT if at_once else signal.SIGTERM)
        ends = time.monotonic() + STOP_LIMIT
        while any(process.poll() is None for process in self._processes.values()):
            if hurried() or time.monotonic() > ends:
                break
            time.sleep(_LOOK_EVERY)
        for process in self._processes.values():
            # Each leads a session of its own: its pool is in it, and must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
            suffix = f"{os.getpid()}@%h"
            tree.start(
                "worker-light",
                "celery",
                "worker",
                "-n",
                f"light-{suffix}",
                "-Q",
                "light",
                "-c",
                str(settings.light_workers),
                *unheard,
            )
            tree.start("worker-heavy", "celery", "worker", "-n", f"heavy-{suffix}", "-Q", "heavy,light", "-c", "1", *unheard)
            if beat:
                # No pidfile: after a power cut its number may be another process's. A second beat would do no harm.
                tree.start("beat", "celery", "beat", "--pidfile=", "--loglevel=INFO")
                if settings.webhook is not None:
                    tree.start("webhook", "workers.webhook")
            _await_workers(tree, 2, os.getpid())
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


def _await_workers(tree: Tree, count: int, pid: int) -> None:
    inspect = make_app(load_settings()).control.inspect(timeout=0.5)
    ends = time.monotonic() + _START_LIMIT
    while True:
        answers = [name for name in inspect.ping() or {} if f"-{pid}@" in name]
        if len(answers) >= count:
            return
        if (dead := tree.dead()) or time.monotonic() > ends:
            raise HostProblem(
                f"The workers did not start: {dead or 'they do not answer'}.",
                mend="look at their logs.",
                code="workers-not-started",
            )


def log_folder(settings: Settings) -> Path:
    """Where the tree's logs are."""
    return settings.state / "logs"
