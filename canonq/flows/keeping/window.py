"""What is not begun any more in a night whose window closes."""

from __future__ import annotations

from canonq.core.errors import Busy
from canonq.core.history import LATELY, expected_seconds
from canonq.core.sweeps.schedule import UNKNOWN
from canonq.core.sweeps.window import LATE, read_closing, why_late
from canonq.flows.world import World


def late(world: World, sweep: str | None, recipe: str, *, proven: bool = False) -> str:
    """Why work of a night is not begun any more; empty when it is. See `must_end_in_time`."""
    if sweep is None or (closes := read_closing(world.sweeps.read(sweep).get("closes"))) is None:
        return ""
    expected = 0.0 if proven else expected_seconds(world.runs.lately(recipe, LATELY)) or UNKNOWN
    return why_late(world.now().timestamp(), closes, expected)


def must_end_in_time(world: World, sweep: str | None, recipe: str, what: str, *, proven: bool = False) -> None:
    """Busy where work of a night would not end before its window closes; `proven`: it is only to be kept, which is soon done."""
    if why := late(world, sweep, recipe, proven=proven):
        raise Busy(
            f"{what} is not begun: {why}.",
            mend=f"the next night begins with it; `canonq sweep {recipe}` does it now, and a longer `window` every night.",
            code=LATE,
        )
