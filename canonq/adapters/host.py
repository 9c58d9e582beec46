"""This host as something runs share: how loaded it is, and a way to have it for oneself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from canonq.adapters.files import is_held, locked, told
from canonq.core.errors import Busy

MOST_WAIT = 900.0  #: seconds that work waits for a red which is tried again alone; then it is deferred
UPKEEP = "upkeep"  #: what one process of a host does for all of its workers: see workers/upkeep.py
_LOOK_EVERY = 0.2  #: seconds


class Host:
    """File locks in the state folder: they end with whoever holds them, however that ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self) -> float:
        """Load of the last minute for each processor; 1.0 is a host with nothing to spare."""
        return os.getloadavg()[0] / (os.cpu_count() or 1)

    def free_memory(self) -> int | None:
        """Bytes that programs can still have without anything being swapped out; None where the kernel does not say."""
        try:
            lines = Path("/proc/meminfo").read_text().splitlines()
            return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
        except (OSError, ValueError, IndexError):
            return None

    @contextlib.contextmanager
    def shared(self, timeout: float = MOST_WAIT) -> Iterator[None]:
        """Work beside others. Busy when somebody has, or waits for, the host alone for more than `timeout` seconds."""
        ends = time.monotonic() + timeout
        with self._open("turnstile") as turnstile, self._open("host") as host:
            if not (_taken(turnstile, ends) and _taken(host, ends, fcntl.LOCK_SH)):
                raise Busy("A failed run is being tried again with the host to itself.", mend="wait until it ends.")
            fcntl.flock(turnstile, fcntl.LOCK_UN)
            yield

    @contextlib.contextmanager
    def alone(self, timeout: float) -> Iterator[bool]:
        """Work alone: new work waits, what is under way is waited for; False when that took longer than `timeout` seconds."""
        ends = time.monotonic() + timeout
        with self._open("turnstile") as turnstile, self._open("host") as host:
            yield _taken(turnstile, ends) and _taken(host, ends)

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

    def _open(self, name: str) -> IO[str]:
        path = self.lock_file(name)
        with told(path):
            return path.open("a")


def _taken(file: IO[str], ends: float, kind: int = fcntl.LOCK_EX) -> bool:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > ends:
                return False
            time.sleep(_LOOK_EVERY)
