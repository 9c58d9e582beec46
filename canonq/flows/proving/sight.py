"""Beside a piece of work, a look at Docker and at the clocks every few seconds: what is judged must have been seen."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from canonq.core.errors import CanonqError
from canonq.core.seeing import Blind, Look, blind

_EVERY = 2.0  #: seconds between two looks


class Sight:
    """Looks again and again, and keeps what could not be seen."""

    def __init__(
        self,
        ask: Callable[[], object],
        monotonic: Callable[[], float] = time.monotonic,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`ask`: Docker's shortest answer, CanonqError or OSError without one."""
        self._ask, self._monotonic, self._clock = ask, monotonic, clock
        self._over = threading.Event()
        self._before: Look | None = None
        self._asking: Look | None = None  #: a look that has begun and not ended
        self._seen: list[Blind] = []

    def look(self, due: float | None = None) -> None:
        """Look once; it was `due` then."""
        began = self._monotonic()
        self._asking = Look(began if due is None else due, began, began, self._clock())
        answered = True
        try:
            self._ask()
        except (CanonqError, OSError):
            answered = False
        ended = Look(self._asking.due, began, self._monotonic(), self._clock(), answered)
        self._seen += blind(ended, self._before)
        self._before, self._asking = ended, None

    @property
    def blinds(self) -> list[Blind]:
        """What was not seen so far, also by a look that has not come back yet."""
        pending = self._asking
        still = [] if pending is None else blind(replace(pending, ended=self._monotonic(), clock=self._clock()), self._before)
        return [*self._seen, *still]

    def run(self) -> None:
        """Look until `end`."""
        due = self._monotonic()
        while not self._over.is_set():
            self.look(due)
            due = self._monotonic() + _EVERY
            self._over.wait(_EVERY)

    def end(self) -> None:
        """No more looks."""
        self._over.set()


@contextlib.contextmanager
def seeing(ask: Callable[[], object]) -> Iterator[Sight]:
    """In the block, Docker and the clocks are looked at."""
    sight = Sight(ask)
    thread = threading.Thread(target=sight.run, daemon=True, name="sight")
    thread.start()
    try:
        yield sight
    finally:
        sight.end()  # a look that hangs is not waited for
