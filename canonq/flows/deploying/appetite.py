"""What the containers of some work take together: each has its limit, and so have all of them; and the peaks are kept."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from canonq.adapters.processes.stopping import Stop, current
from canonq.core.budget import gib
from canonq.core.errors import CanonqError, Fault, RecipeProblem
from canonq.core.ladder import TierName
from canonq.core.peaks import Look, Peak, Taking, tier_of, with_look
from canonq.core.stack.containment import allotment
from canonq.flows.deploying.stages import Account
from canonq.ports import Ownership

_EVERY, _AT_LEAST_EVERY = 2.0, 10.0  #: seconds between two looks
_SHARE = 0.05  #: of its time that is spent on looking, at the most: on a busy host a look takes long, and is one more burden
_TOO_LONG = 3.0  #: seconds for which a stack may take more than it has


class Appetite:
    """Looks at each stack of some work. One that takes more memory than it may, for a while, ends it; what is seen is kept."""

    def __init__(
        self, ownership: Ownership, account: Account, stop: Stop,
        phase: Callable[[], str] = lambda: "", clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`phase` tells what is being done just now, whose tier has the peak."""
        self._ownership, self._account, self._stop, self._phase, self._clock = ownership, account, stop, phase, clock
        self._high: dict[str, float] = {}  #: stack -> since when it takes too much
        self._before: Look | None = None
        self._tier: TierName = "install"
        self._looks = threading.Lock()

    def look(self) -> None:
        """Look once; whoever else is looking is waited for."""
        with self._looks:
            self._look()

    def _look(self) -> None:
        now, all_of_them = self._clock(), dict[str, Taking]()
        for app in self._account.begun:
            found = self._ownership.takings(app.identity.labels)
            all_of_them |= found
            taken, most = sum(one.memory for one in found.values()), allotment(app.enrolment, 1).memory
            if taken <= most:
                self._high.pop(app.identity.stack, None)
            elif now - self._high.setdefault(app.identity.stack, now) >= _TOO_LONG:
                self._stop.ask(
                    RecipeProblem(
                        f"The containers of {app.identity.recipe} {app.identity.version} took {gib(taken)} of memory together, "
                        f"and may have {gib(most)}: it was ended.",
                        mend="if it needs so much, say so in recipe.toml: [resources] memory.",
                        code="too-much-memory",
                        fault=Fault.RECIPE if app.enrolment.resources.memory is None else Fault.ENROLMENT,
                    )
                )
        self._keep(Look(now, all_of_them))

    def _keep(self, look: Look) -> None:
        self._tier, peaks = tier_of(self._phase(), self._tier), self._account.peaks
        if look.containers:
            peaks[self._tier] = with_look(peaks.get(self._tier, Peak()), look, self._before)
        self._before = look


@contextlib.contextmanager
def memory_held(ownership: Ownership, account: Account, phase: Callable[[], str] = lambda: "") -> Iterator[None]:
    """In the block, the work of this thread ends with RecipeProblem where it waits, once one of its stacks takes too much."""
    stop, over = current(), threading.Event()
    if stop is None:
        raise AssertionError("work that nobody can stop is not watched")
    appetite = Appetite(ownership, account, stop, phase)

    def look() -> None:
        with contextlib.suppress(CanonqError, OSError):  # a look that failed; the next is soon
            appetite.look()

    def go_on() -> None:
        took = 0.0
        while not over.wait(min(max(_EVERY, took / _SHARE), _AT_LEAST_EVERY)):
            began = time.monotonic()
            look()
            took = time.monotonic() - began

    thread = threading.Thread(target=go_on, daemon=True, name="appetite")
    thread.start()
    account.look = look
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=30)
