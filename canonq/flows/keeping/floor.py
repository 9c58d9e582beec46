"""The floor of every disk holds while work goes on: who has taken more than was kept for it ends, and the others go on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from canonq.adapters.processes.stopping import Stop, stoppable
from canonq.adapters.state.budget import Budget, Reservation
from canonq.core.budget import Disk, who_ends
from canonq.core.errors import CanonqError, NoRoom

_EVERY = 0.5  #: seconds between two looks


class Watch:
    """Looks at the disks beside one piece of work."""

    def __init__(
        self, budget: Budget, room: Reservation, stop: Stop, what: str, measure: Callable[[], object],
        stopped: Callable[[], CanonqError | None] = lambda: None,
    ) -> None:  # fmt: skip
        """`measure` says to `room` what the work has taken by now; `stopped` whether a person wants it to end."""
        self._stopped = stopped
        self._budget, self._room, self._stop, self._what, self._measure = budget, room, stop, what, measure
        self._was_low = False
        self._over = threading.Event()
        self._turn = threading.Lock()
        self.lowest: dict[str, int] = {}  #: folder -> bytes that were free when least were

    @property
    def ended(self) -> CanonqError | None:
        """Why the work was ended, if it was: for want of room, or by a person."""
        return self._stop.error

    def look(self) -> None:
        """Look once. Below the floor at two looks in a row, the work ends if it is the one to end; all have measured by then."""
        with self._turn:
            disks = self._budget.disks()
            for disk in disks:
                self.lowest[disk.path] = min(disk.free + disk.reserved, self.lowest.get(disk.path, disk.free + disk.reserved))
            low = next((disk for disk in disks if disk.below_floor), None)
            if low is None or self._stop.error is not None:
                self._was_low = False
                return
            with contextlib.suppress(CanonqError, OSError):  # Docker is away: what was measured before has to do
                self._measure()
            if self._was_low and who_ends(self._budget.standings(low.holds)) == self._room.name:
                self._room.ends()
                self._stop.ask(_below(self._what, low))
            self._was_low = True

    def run(self) -> None:
        """Look again and again until `end`."""
        while not self._over.wait(_EVERY):
            if (said := self._stopped()) is not None:
                self._stop.ask(said)
            with contextlib.suppress(CanonqError, OSError):  # a look that failed; the next is soon
                self.look()

    def end(self) -> None:
        """No more looks; and whoever looks just now is waited for."""
        self._over.set()
        with self._turn:
            self._stop.close()


def _below(what: str, disk: Disk) -> NoRoom:
    return NoRoom(
        f"{what} was ended, since it took more than was kept for it: {disk.why_below}. What it had made was removed; nothing "
        "that is kept was touched.",
        mend="free some disk there; `canonq doctor` names what takes most.",
    )


@contextlib.contextmanager
def floor_held(
    budget: Budget,
    room: Reservation,
    what: str,
    measure: Callable[[], object],
    stopped: Callable[[], CanonqError | None] = lambda: None,
) -> Iterator[Watch]:
    """In the block, the work of this thread ends where it waits: with NoRoom, if it is the one to end (see `who_ends`), or with
    what `stopped` gives, when a person has stopped it."""
    with stoppable() as stop:
        watch = Watch(budget, room, stop, what, measure, stopped)
        thread = threading.Thread(target=watch.run, daemon=True, name="floor")
        thread.start()
        try:
            with contextlib.suppress(CanonqError, OSError):
                watch.look()  # however short the work is, it is known how much room there was
            yield watch
        finally:
            watch.end()
            thread.join(timeout=30)
