"""The end of a run's time."""

from __future__ import annotations

import time

from canonq.core.errors import RunOver


def left(deadline: float, during: str = "", said: str = "") -> float:
    """Seconds left until `deadline`; RunOver when there are none, with what had not ended by then, and what that had said."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise RunOver(
            f"The limit for the whole run is over{f': {during} had not ended' if during else ''}"
            f"{f'; its last words: {said}' if said else ''}.",
            mend=f"{f'see what {during} waits for, or ' if during else ''}raise [limits] run in recipe.toml.",
        )
    return seconds
