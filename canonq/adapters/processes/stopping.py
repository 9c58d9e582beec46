"""Work that is to end before its end: its programs are killed and its loops stop, where it waits and never in between."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextvars import ContextVar

from canonq.core.errors import CanonqError


class Stop:
    """A word to the work of one thread, which any other may say."""

    def __init__(self) -> None:
        self.error: CanonqError | None = None  #: why it is to end
        self._once = threading.Lock()
        self._reader, self._writer = os.pipe()

    def ask(self, error: CanonqError) -> None:
        """Have the work end with `error`; the first word counts."""
        with self._once:
            if self.error is None and self._writer >= 0:
                self.error = error
                os.write(self._writer, b"x")

    def fileno(self) -> int:
        """Can be read from once the word was said; for `select`."""
        return self._reader

    def close(self) -> None:
        """From now on nobody is asked any more."""
        with self._once:
            for pipe in (self._reader, self._writer):
                if pipe >= 0:
                    os.close(pipe)
            self._reader = self._writer = -1


_current: ContextVar[Stop | None] = ContextVar("stop", default=None)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """What this thread does in the block may be asked to end."""
    stop = Stop()
    token = _current.set(stop)
    try:
        yield stop
    finally:
        _current.reset(token)
        stop.close()


def current() -> Stop | None:
    """Who may stop this thread's work, if anybody may still."""
    stop = _current.get()
    return stop if stop is not None and stop.fileno() >= 0 else None


def check_stop() -> None:
    """Raise the error with which this thread's work is to end, if it is."""
    if (stop := _current.get()) is not None and stop.error is not None:
        raise stop.error
