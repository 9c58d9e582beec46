"""The end of a run's time."""

from __future__ import annotations

import time

from canonq.core.errors import TimedOut


def left(deadline: float) -> float:
    """Seconds left until `deadline`; TimedOut when there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimedOut("The limit for the whole run is over.", mend="raise [limits] run in recipe.toml.")
    return seconds
