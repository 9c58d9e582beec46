"""What the containers of a stack take of memory together: each has its limit, and so have all of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from canonq.adapters.processes.stopping import Stop, current
from canonq.core.budget import gib
from canonq.core.errors import CanonqError, Fault, RecipeProblem
from canonq.core.stack.containment import allotment
from canonq.flows.deploying.stages import Account
from canonq.ports import Ownership

_EVERY = 3.0  #: seconds between two looks


class Appetite:
    """Looks at the memory of each stack of some work; one that takes more than it may, at two looks in a row, ends it."""

    def __init__(self, ownership: Ownership, account: Account, stop: Stop) -> None:
        self._ownership, self._account, self._stop = ownership, account, stop
        self._high: set[str] = set()

    def look(self) -> None:
        """Look once."""
        high = set()
        for app in self._account.begun:
            taken, most = self._ownership.memory_taken(app.identity.labels), allotment(app.enrolment, 1).memory
            if taken <= most:
                continue
            high.add(app.identity.stack)
            if app.identity.stack in self._high:
                self._stop.ask(
                    RecipeProblem(
                        f"The containers of {app.identity.recipe} {app.identity.version} took {gib(taken)} of memory together, "
                        f"and may have {gib(most)}: it was ended.",
                        mend="if it needs so much, say so in recipe.toml: [resources] memory.",
                        code="too-much-memory",
                        fault=Fault.RECIPE if app.enrolment.resources.memory is None else Fault.ENROLMENT,
                    )
                )
        self._high = high


@contextlib.contextmanager
def memory_held(ownership: Ownership, account: Account) -> Iterator[None]:
    """In the block, the work of this thread ends with RecipeProblem where it waits, once one of its stacks takes too much."""
    stop, over = current(), threading.Event()
    if stop is None:
        raise AssertionError("work that nobody can stop is not watched")
    appetite = Appetite(ownership, account, stop)

    def go_on() -> None:
        while not over.wait(_EVERY):
            with contextlib.suppress(CanonqError, OSError):  # a look that failed; the next is soon
                appetite.look()

    thread = threading.Thread(target=go_on, daemon=True, name="appetite")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)
