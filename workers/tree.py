"""The process tree of a single host: Redis if none is configured, the workers, beat (docs/rules.md 6, `canonq up`)."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import runpy
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkProcess
from multiprocessing.process import _children  # type: ignore[attr-defined]  # the only way to leave one behind
from pathlib import Path
from socket import gethostname

from canonq.adapters.filelocks import try_lock
from canonq.adapters.files import told, write_durably
from canonq.adapters.host import Host
from canonq.adapters.processes.asked import Asked, name_of
from canonq.adapters.processes.preloaded import die_with, keep_shared
from canonq.adapters.processes.programs import await_group
from canonq.adapters.processes.signals import ENDING
from canonq.adapters.redis_server import RedisServer
from canonq.core.ago import duration
from canonq.core.errors import Busy, CanonqError, HostProblem
from canonq.settings import Settings, load_settings
from canonq.wiring import live
from workers.broker import check_broker, take_back
from workers.factory import make_app

_START_LIMIT = 180.0  #: seconds until workers must answer
STOP_LIMIT = 30.0  #: seconds a process gets to stop
_TO_DIE = 30.0  #: seconds that one which was killed may take, on a busy host
_LOOK_EVERY = 0.1  #: seconds
FLOWER_CONF = Path(__file__).with_name("flowerconfig.py")


#: What a worker is made of, beside what a command has imported anyway; the tasks themselves belong to a worker's own app.
OF_A_WORKER = (
    "celery.__main__", "celery.bin.celery", "celery.apps.worker", "workers.prefork", "celery.fixups.django",
    "celery.loaders.app", "celery.backends.redis", "celery.worker.autoscale", "celery.worker.components",
    "celery.worker.consumer", "celery.worker.control", "celery.worker.pidbox", "celery.worker.strategy",
    "kombu.transport.redis", "workers.beat", "workers.upkeep",
)  # fmt: skip
_FORKS = multiprocessing.get_context("fork")


#: Seconds until a part that ended is started again: the first pause, and the longest; one that lived so long begins anew.
_FIRST_PAUSE, _LONGEST_PAUSE, _LIVED_WELL = 1.0, 300.0, 600.0


@dataclass
class Pauses:
    """How long to wait until something that ended is started again: longer each time that it soon ends again."""

    begun: float
    failures: int = 0
    again_at: float | None = None

    def ended(self, now: float) -> float:
        """It has ended: the seconds until it is started again."""
        self.failures = 1 if now - self.begun >= _LIVED_WELL else self.failures + 1
        pause = float(min(_FIRST_PAUSE * 2 ** (self.failures - 1), _LONGEST_PAUSE))
        self.again_at = now + pause
        return pause

    def is_due(self, now: float) -> bool:
        """Whether it is to be started again by now; if so, it begins."""
        if self.again_at is None or now < self.again_at:
            return False
        self.begun, self.again_at = now, None
        return True


@dataclass
class _Part:
    """One process of the tree, and how it is made again."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    process: ForkProcess
    pauses: Pauses


class Tree:
    """Processes that live and end together: forks of this one, so that what they import is imported once."""

    def __init__(self, settings: Settings, redis: RedisServer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._logs = settings.state / "logs"
        self._asked = Asked(settings.state)
        self._parts: dict[str, _Part] = {}
        self._clock = clock
        self._redis, self._redis_pauses = redis, Pauses(clock())
        with told(self._logs):
            self._logs.mkdir(parents=True, exist_ok=True)
        for module in OF_A_WORKER:
            importlib.import_module(module)
        keep_shared()

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Start what `python -m ...` does, with more in its environment, its output appended to `logs/<name>.log`."""
        more = dict(environment or {})
        self._parts[name] = _Part(arguments, more, self._forked(name, arguments, more), Pauses(self._clock()))

    def _forked(self, name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> ForkProcess:
        given = (arguments, self._log(name), os.getpid(), environment)
        process = _FORKS.Process(target=_become, args=given, name=name)
        process.start()
        return process

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def dead(self, *, workers: bool = False) -> str | None:
        """The name of a process (or of a worker) that ended though nobody asked it to, with its log's place."""
        for name, part in self._parts.items():
            if workers and not name.startswith("worker-"):
                continue
            if part.process.exitcode is not None:
                return f"{name} (status {part.process.exitcode}, log {self._log(name)})"
        return None

    def keep_up(self) -> list[str]:
        """Start again what has ended, after a pause that grows; a sentence for each thing that happened."""
        told, now = [], self._clock()
        if self._redis is not None and self._redis.ended() is not None:
            told += self._keep_redis(self._redis, now)
        for name, part in self._parts.items():
            if part.process.exitcode is None:
                continue
            if part.pauses.again_at is None:
                _end_session(part.process)  # what it had started does not go on without it
                lived, pause = now - part.pauses.begun, part.pauses.ended(now)
                told.append(
                    f"{name} ended after {duration(lived)} ({_how(part.process.exitcode)}); it is started again in "
                    f"{duration(pause)}. Its log: {self._log(name)}"
                )
            elif part.pauses.is_due(now):
                part.process = self._forked(name, part.arguments, part.environment)
                told.append(f"{name} is started again.")
        return told

    def _keep_redis(self, redis: RedisServer, now: float) -> list[str]:
        pauses = self._redis_pauses
        if pauses.again_at is None:
            how, pause = _how(redis.ended() or 0), pauses.ended(now)
            return [f"Redis ended ({how}); it is started again in {duration(pause)}."]
        if not pauses.is_due(now):
            return []
        try:
            redis.start()
        except CanonqError as error:
            return [f"Redis did not start again: {error} The next try is in {duration(pauses.ended(now))}."]
        return ["Redis is started again; messages are as they were written down, and lost chains are sent again."]

    def stop(self, *, at_once: bool = False, hurried: Callable[[], bool] = lambda: False) -> list[str]:
        """Stop all: workers end their tasks first, or put them back when `at_once`. Those that take too long are killed, and
        so are all as soon as somebody is in a hurry. A sentence for each that has not even died of that."""
        processes = [part.process for part in self._parts.values()]
        for process in processes:
            if process.exitcode is None:
                self._asked.note(name_of(_pid(process)))  # it may be killed before it can
                with contextlib.suppress(ProcessLookupError):
                    os.kill(_pid(process), signal.SIGQUIT if at_once else signal.SIGTERM)
        ends = time.monotonic() + STOP_LIMIT
        while any(process.exitcode is None for process in processes):
            if hurried() or time.monotonic() > ends:
                break
            time.sleep(_LOOK_EVERY)
        for process in processes:
            _end_session(process)
            process.kill()  # it may not have come as far as that
        told, ends = [], time.monotonic() + _TO_DIE
        for process in processes:  # what a pool was at is dead, and may be removed, only when all of it has ended
            if await_group(_pid(process), max(0.0, ends - time.monotonic())):
                process.join()
                continue
            _children.discard(process)  # Python would wait for it for ever as it ends
            told.append(
                f"{process.name} (process {_pid(process)} and what is in its session) was killed and has not ended within "
                f"{_TO_DIE:.0f} s, as the kernel waits for something. What it was at is left alone until it has."
            )
        return told


def _end_session(process: ForkProcess) -> None:
    """Each leads a session of its own: its pool is in it, and must not outlive it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(_pid(process), signal.SIGKILL)


def _how(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _pid(process: ForkProcess) -> int:
    assert process.pid is not None  # it was started
    return process.pid


def _become(arguments: Sequence[str], log: Path, parent: int, environment: Mapping[str, str]) -> None:
    """In the fork: leave all that is the command's own, and be the program."""
    os.setsid()
    # Their Redis may have died with the parent: a worker that ends gently would wait for it.
    die_with(parent)
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"CELERY_APP": "canonq", **environment}
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


@contextlib.contextmanager
def running(
    settings: Settings,
    *,
    beat: bool = False,
    keep_redis: bool = False,
    flower: str | None = None,
    web: bool = False,
    hurried: Callable[[], bool] = lambda: False,
    tell: Callable[[str], object],
) -> Iterator[Tree]:
    """Run Redis (where none is configured), a light and a heavy worker, and beat, as long as the block lasts.

    In the block the settings name the Redis in use. HostProblem when the workers do not come up, Busy when a `canonq up`
    runs on this state folder already. `flower`: the login of a page of tasks that is to run beside them.
    `hurried`: asked while it stops, whether what does not end by itself is to be killed at once. `tell`: is told what stays.
    """
    with contextlib.ExitStack() as stack:
        redis = None
        if keep_redis:
            stack.enter_context(_the_only_one(settings))
        if settings.configured_broker() is None and (keep_redis or settings.broker_of_up() is None):
            data, address = (settings.state / "redis", settings.up_file) if keep_redis else (None, None)
            _await_end_of_the_one_before(settings)
            redis = RedisServer(data, address=address)
            stack.callback(redis.stop)
            redis.start()
            stack.enter_context(_named(redis.url))
        app = make_app(load_settings())
        check_broker(app)
        if keep_redis and redis is not None:  # what was in it before is there again
            take_back(app)
        with contextlib.suppress(HostProblem):  # one that went away since: workers wait for it
            world = live(load_settings())
            world.hosts.join(world.stamp())
        tree = Tree(settings, redis)
        interrupted = True
        try:
            unheard = ("--without-gossip", "--without-mingle", "--loglevel=INFO")
            light, heavy = (f"{queue}-{os.getpid()}@{gethostname()}" for queue in ("light", "heavy"))
            tree.start("worker-light", "celery", "worker", "-n", light, "-Q", "light", *unheard)
            tree.start("worker-heavy", "celery", "worker", "-n", heavy, "-Q", "heavy,light", "-c", "1", *unheard)
            if beat:
                # No pidfile: after a power cut its number may be another process's. A second beat would do no harm.
                tree.start("beat", "celery", "beat", "--pidfile=", "--loglevel=INFO")
                if settings.webhook is not None:
                    tree.start("webhook", "workers.webhook")
            if flower is not None:  # its login in the environment: arguments are read by everybody
                tree.start("flower", "celery", "flower", f"--conf={FLOWER_CONF}", environment={"FLOWER_BASIC_AUTH": flower})
            if web:
                tree.start("web", "canonq", "web")
            _await_workers(tree, (light, heavy))
            yield tree
            interrupted = False
        finally:
            for line in tree.stop(at_once=interrupted, hurried=hurried):
                tell(line)


@contextlib.contextmanager
def _the_only_one(settings: Settings) -> Iterator[None]:
    """Be the one `canonq up` of a state folder. Busy, which names the other, when there is one; its forks count as it."""
    path = Host(settings.state / "locks").lock_file("up")
    with told(path):
        file = path.open("r+" if path.exists() else "w+")
    with file:
        if not try_lock(file):
            who = file.read().strip() or "another process"
            raise Busy(
                f"A `canonq up` runs on {settings.state} already: {who}.",
                mend="use that one, or stop it first.",
                code="already-up",
            )
        file.truncate()
        file.write(f"process {os.getpid()} on {gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        yield


def _await_end_of_the_one_before(settings: Settings) -> None:
    """Where a `canonq up` was killed, its Redis ends a moment later, and two must not write to one folder."""
    ends = time.monotonic() + STOP_LIMIT
    while settings.broker_of_up() is not None and time.monotonic() < ends:
        time.sleep(_LOOK_EVERY)


def flower_login(settings: Settings) -> tuple[str, Path | None]:
    """The login of Flower's page: what FLOWER_BASIC_AUTH says, else one that is made once and kept in a file."""
    if given := os.environ.get("FLOWER_BASIC_AUTH"):
        return given, None
    path = settings.state / "flower-login"
    with told(path):
        if not path.is_file():
            write_durably(path, f"canonq:{secrets.token_urlsafe(18)}\n".encode(), mode=0o600)
        return path.read_text().strip(), path


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
        if (dead := tree.dead(workers=True)) or time.monotonic() > ends:
            raise HostProblem(
                f"The workers did not start: {dead or 'they do not answer'}.",
                mend="look at their logs.",
                code="workers-not-started",
            )


def log_folder(settings: Settings) -> Path:
    """Where the tree's logs are."""
    return settings.state / "logs"
