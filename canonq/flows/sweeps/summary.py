"""What a sweep has come to so far, as one JSON object: the report, and what everybody looks at while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from canonq.core.names import RECIPE_NAME
from canonq.core.outcomes import HELD, Closed, Outcome, counts, exit_status, is_proven, shared_troubles
from canonq.core.records import STAMP_FORMAT
from canonq.core.sweeps.again import waits
from canonq.core.sweeps.reconcile import awaits_promotion
from canonq.flows.world import World


def summary(world: World, sweep: str, closed: Closed | None = None) -> dict[str, Any]:
    """The sweep as one JSON object; recipes without an outcome yet are under `pending`. `closed`: how it is being closed."""
    record = world.sweeps.read(sweep)
    closed = closed or world.sweeps.closed(sweep)
    outcomes = world.sweeps.outcomes(sweep)
    pending = [name for name in record.get("enrolled", []) if name not in outcomes]
    listed = [outcomes[name] for name in record.get("enrolled", []) if name in outcomes]
    findings = [*record.get("findings", []), *world.sweeps.shares.findings(sweep)]
    told = exit_status(listed, findings)
    return {
        "sweep": sweep,
        "whole": record.get("whole", not record.get("named")),
        "state": closed.state if closed else "open",
        "started": record.get("started"),
        "ended": closed.ended or None if closed else None,
        "seconds": _seconds(record.get("started"), closed.ended) if closed else None,
        "checkout": record.get("checkout"),
        "revision": record.get("revision"),
        "enrolled": len(record.get("enrolled", [])),
        "outcomes": [outcome.model_dump(mode="json") for outcome in listed],
        "counts": counts(listed),
        "held": [outcome.recipe for outcome in listed if outcome.reason in HELD],
        "proven": _proven(world, sweep, listed, pending),
        "yanked": [outcome.recipe for outcome in listed if outcome.reason == "yanked"],
        "findings": findings,
        "pending": pending,
        "hosts": world.sweeps.shares.elsewhere(sweep),
        "waiting": {} if closed else {outcome.recipe: outcome.retry_at for outcome in listed if waits(outcome)},
        "troubles": [trouble.model_dump(mode="json") for trouble in shared_troubles(listed)],
        "failed": closed.why if closed and closed.state != "done" else None,
        "exit_status": int(told) if closed is None or closed.exit_status is None else closed.exit_status,
    }


def _proven(world: World, sweep: str, outcomes: Sequence[Outcome], pending: Sequence[str]) -> list[str]:
    """Recipes whose release is green and waits to be promoted."""
    journal = world.sweeps.journal(sweep)
    under_way = [name for name in pending if RECIPE_NAME.fullmatch(name) and awaits_promotion(journal.steps(name))]
    return sorted([*under_way, *(outcome.recipe for outcome in outcomes if is_proven(outcome))])


def _seconds(started: object, ended: str) -> float | None:
    """How long it took by the clock; None when that cannot be said, as when the clock was set back meanwhile."""
    try:
        began, over = (datetime.strptime(str(stamp), STAMP_FORMAT).replace(tzinfo=UTC) for stamp in (started, ended))
        took = (over - began).total_seconds()
    except ValueError:
        return None
    return took if took >= 0 else None
