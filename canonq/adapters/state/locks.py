"""Leases on recipes' registries: a Redis lock that is renewed while held, and a fencing number kept on disk.

Redis says who may try; the file lock and the fence beside the record say who may write, so that a Redis that
lost its memory, or a holder that wakes up late, cannot make two writers (docs/rules.md 5.3).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from canonq.adapters.filelocks import is_held, try_lock
from canonq.adapters.files import told, write_durably
from canonq.adapters.lazily import redis
from canonq.adapters.uptime import up_for
from canonq.core.errors import HostProblem, LockLost, redis_problem
from canonq.core.jsontext import json_of
from canonq.core.names import recipe_name
from canonq.core.sentinels import is_of_sentinels, sentinels_in
from canonq.ports import Lane


def redis_client(url: str) -> redis.Redis:
    """A client for a broker URL; what Celery writes as `redis+socket://...?virtual_host=0` is `unix://...?db=0` for redis-py."""
    if url.startswith("redis+socket://"):
        path, _, query = url.removeprefix("redis+socket://").partition("?")
        url = f"unix://{path}?{query.replace('virtual_host=', 'db=', 1)}"
    if is_of_sentinels(url):
        from redis.sentinel import Sentinel  # which few need

        found = sentinels_in(url)
        asked: Any = Sentinel(found.places, socket_timeout=5, socket_connect_timeout=5)  # type: ignore[no-untyped-call]
        login = {"username": found.user, "password": found.password, "db": found.database}
        master: redis.Redis = asked.master_for(found.master, socket_timeout=10, socket_connect_timeout=5, **login)
        return master
    return redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=5)


def asks_no_password(url: str) -> bool:
    """Whether whoever reaches this Redis over the network, another user of this host too, may give it orders: a socket has rights
    of its own. False where it cannot be reached."""
    parts = urlsplit(url)
    if parts.scheme == "redis+socket":
        return False
    # Asked without the URL's own password, which one that wants none takes as well.
    nobody = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    try:
        with redis_client(nobody) as client:
            return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


#: What is said of such a one, and what to do about it.
NO_PASSWORD = (
    "Redis asks for no password: whoever can connect to it, another user of this host too, can start tests and promotions of "
    "releases, and stop them",
    "give it `requirepass` and name the password in the URL (redis_url_file keeps it), or use its socket; docs/security.md.",
)


class HeldRecipe:
    """Proof that a recipe's registry is held."""

    def __init__(self, recipe: str, fence: int, fence_file: Path, is_over: Callable[[], bool] = lambda: False) -> None:
        """`is_over`: whether the lease has run out by the clock, also where nobody could say so: all of us slept, or Redis let us
        wait for its answer."""
        self.recipe = recipe
        self.fence = fence
        self._fence_file = fence_file
        self._is_over = is_over
        self._lost = threading.Event()

    def lose(self) -> None:
        """Note that the lease ended."""
        self._lost.set()

    def check(self) -> None:
        """LockLost when the lease ended, or when a later holder has left its fence."""
        if self._lost.is_set() or self._is_over():
            raise LockLost(f"The lease on {self.recipe} ended; nothing was written.", mend="the step is done again.")
        newest = read_fence(self._fence_file)
        if newest != self.fence:
            raise LockLost(f"A later holder (fence {newest}) took {self.recipe} over from fence {self.fence}.")


@dataclass
class _Lease:
    """How long something is held, if it is not renewed."""

    until: float  #: by the clock of `RedisLocks`; counted from before Redis was asked


class RedisLocks:
    """Locks (see ports) for the registry below `warm`; `instance` names this state folder."""

    def __init__(
        self,
        client: Callable[[], redis.Redis],
        warm: Path,
        *,
        instance: str,
        lease: float = 60.0,
        renew_every: float | None = None,
        clock: Callable[[], float] = up_for,  # it also runs while the machine sleeps, as the lease in Redis does
        newest: Callable[[str], int] = lambda _: 0,
        elsewhere: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self._connect = client
        self._warm = warm
        self._instance = instance
        self._lease = lease  #: seconds
        self._renew_every = renew_every or lease / 3  #: seconds
        self._clock = clock
        self._newest = newest  #: the highest fence that a recipe's records have
        self._elsewhere = elsewhere  #: where its canonical is, if it is not here, as a sentence

    @functools.cached_property
    def _redis(self) -> redis.Redis:
        return self._connect()

    @contextlib.contextmanager
    def hold(self, recipe: str, holder: str, lane: Lane = "registry", *, moving: bool = False) -> Iterator[HeldRecipe | None]:
        """Hold one lane of the recipe until the block ends; None when another does. HostProblem when Redis is away."""
        folder = self._warm / recipe_name(recipe)
        with contextlib.ExitStack() as stack:
            if not self._take_files(stack, recipe, lane):
                yield None
                return
            if not moving and self._elsewhere(recipe) is not None:  # asked with the file held: nobody marks it meanwhile
                yield None
                return
            asked = self._clock()
            lock = self._try_redis(_key(lane, recipe), holder)
            if lock is None:
                yield None
                return
            try:
                with self._held(recipe, lane, lock, folder / f"{lane}.fence", _Lease(asked + self._lease)) as held:
                    yield held
            finally:
                with contextlib.suppress(redis.exceptions.LockError, redis.exceptions.RedisError):
                    lock.release()

    @contextlib.contextmanager
    def alone(self, recipe: str) -> Iterator[bool]:
        """See ports.Locks.alone."""
        with contextlib.ExitStack() as stack:
            yield self._take_files(stack, recipe, "registry") and self._elsewhere(recipe) is None

    def _take_files(self, stack: contextlib.ExitStack, recipe: str, lane: Lane) -> bool:
        """Take the file locks of a lane until the stack ends; False when somebody has one. HostProblem where none can be made."""
        folder = self._warm / recipe_name(recipe)
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            locked = [_opened(stack, path) for path in self._locked(recipe, lane)]
        return all(try_lock(handle) for handle in locked)

    @contextlib.contextmanager
    def _held(self, recipe: str, lane: Lane, lock: redis.lock.Lock, fence_file: Path, lease: _Lease) -> Iterator[HeldRecipe]:
        newest = self._newest(recipe) if lane == "registry" else 0
        fence = self._next_fence(_fence_of(lane, recipe), fence_file, newest)
        held = HeldRecipe(recipe, fence, fence_file, lambda: self._clock() > lease.until)
        over = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(lock, held, lease, over), daemon=True, name=f"lease-{recipe}")
        renewal.start()
        try:
            yield held
        finally:
            over.set()
            renewal.join()
            held.lose()

    def is_held(self, recipe: str, lane: Lane = "registry") -> bool:
        """Whether a living process of this host holds one lane of the recipe; asks its file locks, and changes nothing."""
        return any(is_held(path) for path in self._locked(recipe, lane))

    def _locked(self, recipe: str, lane: Lane) -> list[Path]:
        """What is locked for a lane. For the registry the recipe's folder as well: somebody may remove "stale" lock files."""
        folder = self._warm / recipe_name(recipe)
        return [*([folder] if lane == "registry" else []), folder / f"{lane}.lock"]

    def carry(self, recipe: str, fence: int) -> None:
        """See ports.Locks.carry."""
        path = self._warm / recipe_name(recipe) / "registry.fence"
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        if read_fence(path) < fence:
            write_durably(path, str(fence).encode())

    def newest_fence(self, recipe: str) -> int:
        """See ports.Locks.newest_fence."""
        try:
            return int(self._redis.get(_fence_of("registry", recipe)) or 0)
        except (redis.exceptions.RedisError, HostProblem, ValueError):
            return 0

    def holder(self, recipe: str) -> dict[str, Any] | None:
        """Who holds the recipe's registry, or runs it, since when."""
        if (where := self._elsewhere(recipe)) is not None:
            return {"holder": where}
        with _away():
            tokens = [self._redis.get(_key(lane, recipe)) for lane in ("registry", "run")]
        return next((_read_token(token) for token in tokens if token), None)

    def _try_redis(self, key: str, holder: str) -> redis.lock.Lock | None:
        token = json.dumps(
            {
                "holder": holder,
                "pid": os.getpid(),
                "instance": self._instance,
                "since": int(time.time()),
                "id": os.urandom(4).hex(),
            }
        )
        lock = redis.lock.Lock(self._redis, key, timeout=self._lease, thread_local=False)
        with _away():
            if lock.acquire(blocking=False, token=token):
                return lock
            old = self._redis.get(key)
            # The file lock was free, so a holder with this very state folder is dead: its lease need not run out.
            if (_read_token(old) or {}).get("instance") == self._instance:
                dead = redis.lock.Lock(self._redis, key, thread_local=False)
                dead.local.token = old
                with contextlib.suppress(redis.exceptions.LockNotOwnedError):
                    dead.release()
                if lock.acquire(blocking=False, token=token):
                    return lock
        return None

    def _next_fence(self, key: str, fence_file: Path, newest: int) -> int:
        with _away():
            counted = int(self._redis.incr(key))
            # Each of the three may have been lost; the record of the canonical is the last to go.
            fence = max(counted, read_fence(fence_file) + 1, newest + 1)
            if fence != counted:
                self._redis.set(key, fence)
        write_durably(fence_file, str(fence).encode())
        return fence

    def _renew(self, lock: redis.lock.Lock, held: HeldRecipe, lease: _Lease, over: threading.Event) -> None:
        while not over.wait(self._renew_every):
            try:
                now = self._clock()
                lock.reacquire()
                lease.until = now + self._lease
            except redis.exceptions.LockError:
                held.lose()
                return
            except redis.exceptions.RedisError:
                # Redis is away. The lease is ours until it runs out, less a margin to stop in.
                if self._clock() > lease.until - self._lease / 3:
                    held.lose()
                    return


def _key(lane: str, recipe: str) -> str:
    return f"canonq:{lane}:{recipe}"


def _fence_of(lane: str, recipe: str) -> str:
    return f"{_key(lane, recipe)}:fence"


def read_fence(path: Path) -> int:
    """The newest fence on disk; 0 when there was none."""
    try:
        return int(path.read_text() or 0)
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise HostProblem(f"The fence {path} cannot be read: {error}.", mend="look at the disk.") from error


def _opened(stack: contextlib.ExitStack, path: Path) -> int:
    handle = os.open(path, os.O_RDONLY | (0 if path.is_dir() else os.O_CREAT), 0o644)
    stack.callback(os.close, handle)
    return handle


def _read_token(token: Any) -> dict[str, Any] | None:
    if not token:
        return None
    try:
        read = json_of(token)
    except ValueError:
        return {"holder": "unknown"}
    return read if isinstance(read, dict) else {"holder": "unknown"}


@contextlib.contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except redis.exceptions.LockError:
        raise
    except redis.exceptions.RedisError as error:
        raise redis_problem(str(error)) from error
