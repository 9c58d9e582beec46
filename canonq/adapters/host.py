"""This host as something runs share: how loaded it is, and a way to have it for oneself."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from canonq.adapters.filelocks import is_held, let_go, lock_until, locked, opened_lock
from canonq.adapters.files import entries, table_in, told, write_json
from canonq.core.errors import Busy

log = logging.getLogger("canonq")

#: What somebody who has a place is shown as.
Kept: TypeAlias = Mapping[str, Any]

MOST_WAIT = 900.0  #: seconds that work waits for a red which is tried again alone; then it is deferred
UPKEEP = "upkeep"  #: what one process of a host does for all of its workers: see workers/upkeep.py
_PLACE_EVERY = 1.0  #: seconds between two looks at what others take
_TURN = "wait until others end; in a sweep it is tried again by itself."


class Host:
    """File locks in the state folder: they end with whoever holds them, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> float:
        """Load of the last minute for each processor; 1.0 is a host with nothing to spare."""
        return os.getloadavg()[0] / (os.cpu_count() or 1)

    def free_memory(self) -> int | None:
        """Bytes that programs can still have without anything being swapped out; None where the kernel does not say."""
        return _meminfo("MemAvailable")

    def processors(self) -> int:
        """Processors that there are."""
        return os.cpu_count() or 1

    def memory(self) -> int | None:
        """Bytes of memory that there are; None where the kernel does not say."""
        return _meminfo("MemTotal")

    @contextlib.contextmanager
    def place(
        self, what: str, share: Mapping[str, Any], why_not: Callable[[Sequence[Kept]], str], timeout: float = MOST_WAIT
    ) -> Iterator[None]:
        """Have a place beside others for the block: `share` is what they are shown. Busy when none came free within `timeout`.

        `why_not`: why there is none beside those that have one; empty when there is. Who waits is not passed by others. Nobody
        has a place twice. A place ends with the process that has it, however that ends.
        """
        folder, ends = self._folder / "places", time.monotonic() + timeout
        none = f"For {what} there was no place on this host within {timeout:.0f} s"
        path = folder / f"{secrets.token_hex(6)}.json"
        with contextlib.ExitStack() as stack:
            stack.callback(_forget, path)
            with opened_lock(self.lock_file("places")) as turn:
                if not lock_until(turn, ends):
                    raise Busy(f"{none}: others wait for one.", mend=_TURN)
                why = why_not(_kept(folder))
                if why:
                    log.info("%s waits for its place on this host: %s", what[:1].upper() + what[1:], why)
                while why:
                    if time.monotonic() > ends:
                        raise Busy(f"{none}: {why}.", mend=_TURN)
                    time.sleep(_PLACE_EVERY)
                    why = why_not(_kept(folder))
                with told(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(path.with_suffix(".lock")))
                write_json(path, dict(share))
            yield

    @contextlib.contextmanager
    def shared(self, timeout: float = MOST_WAIT) -> Iterator[None]:
        """Work beside others. Busy when somebody has, or waits for, the host alone for more than `timeout` seconds."""
        ends = time.monotonic() + timeout
        with opened_lock(self.lock_file("turnstile")) as turnstile, opened_lock(self.lock_file("host")) as host:
            if not (lock_until(turnstile, ends) and lock_until(host, ends, shared=True)):
                raise Busy("A failed run is being tried again with the host to itself.", mend="wait until it ends.")
            let_go(turnstile)
            yield

    @contextlib.contextmanager
    def alone(self, timeout: float) -> Iterator[bool]:
        """Work alone: new work waits, what is under way is waited for; False when that took longer than `timeout` seconds."""
        ends = time.monotonic() + timeout
        with opened_lock(self.lock_file("turnstile")) as turnstile, opened_lock(self.lock_file("host")) as host:
            yield lock_until(turnstile, ends) and lock_until(host, ends)

    @contextlib.contextmanager
    def claiming(self) -> Iterator[Claims]:
        """In the block, things of this host can be had for oneself: ports, volumes. They end with the process that has them."""
        with contextlib.ExitStack() as stack:
            yield Claims(self._folder / "claims", stack)

    @contextlib.contextmanager
    def sole(self, name: str) -> Iterator[None]:
        """Be the only one on this host that does `name`; waits for it."""
        with locked(self.lock_file(name)):
            yield

    def is_done(self, name: str) -> bool:
        """Whether somebody on this host does `name` now."""
        return is_held(self.lock_file(name))

    def lock_file(self, name: str) -> Path:
        """The file whose lock says that somebody does `name`."""
        path = self._folder / f"{name}.lock"
        with told(path):
            self._folder.mkdir(parents=True, exist_ok=True)
        return path


class Claims:
    """What some work has of its host for itself: a file lock for each thing."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._mine: set[str] = set()

    def take(self, names: Collection[str], timeout: float) -> None:
        """Have them, too, until the work ends. Busy when another has one of them for more than `timeout` seconds."""
        ends = time.monotonic() + timeout
        for name in sorted(set(names) - self._mine):  # in one order, so that no two wait for each other
            path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.lock"
            if not lock_until(self._stack.enter_context(opened_lock(path)), ends):
                raise Busy(
                    f"Another test or promotion on this host has {name}, and had not ended within {timeout:.0f} s.",
                    mend=_TURN,
                    code="host-shared",
                )
            self._mine.add(name)


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
    except (OSError, ValueError, IndexError):
        return None


def _kept(folder: Path) -> list[Kept]:
    """What those who have a place are shown as; what the dead left of theirs goes. Call it in one's turn."""
    found = []
    for path in entries(folder):
        lock = folder / f"{path.name.lstrip('.').partition('.')[0]}.lock"
        if not is_held(lock):
            path.unlink(missing_ok=True)
        elif path.suffix == ".json" and not path.name.startswith("."):
            found.append(table_in(path))
    return [one for one in found if one]


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_suffix(".lock").unlink(missing_ok=True)
