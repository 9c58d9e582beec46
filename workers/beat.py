"""Beat's scheduler: a record of the future, left by a clock that was ahead, holds no night back."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

from celery.beat import PersistentScheduler

log = logging.getLogger("canonq")

_SLACK = timedelta(minutes=5)  #: clocks are put right by seconds now and then


class NightlyScheduler(PersistentScheduler):  # type: ignore[misc]  # Celery has no types
    """Celery's, which would wait for the date that a wrong clock once had."""

    def setup_schedule(self) -> None:
        """Have a place for its file: beat may be the first of all processes to begin."""
        Path(self.schedule_filename).parent.mkdir(parents=True, exist_ok=True)
        super().setup_schedule()

    def tick(self, *arguments: Any, **more: Any) -> Any:
        """Look at the clock first, at the start and while it runs, then do what is due."""
        if self.forget_the_future():
            self._heap = None  # its times were reckoned from that date
        return super().tick(*arguments, **more)

    def forget_the_future(self) -> list[str]:
        """Entries that say they last ran in the future have run now; their names."""
        found = []
        for name, entry in self.schedule.items():
            now = entry.default_now()
            if entry.last_run_at > now + _SLACK:
                log.error(
                    "The clock was ahead: %s last ran at %s by it. It is due at its usual time again.", name, entry.last_run_at
                )
                entry.last_run_at = now
                found.append(name)
        return found
