"""Whether the version under test looks at the data at all (docs/rules.md 3): where its own fresh install keeps its data."""

from __future__ import annotations

from collections.abc import Mapping

from canonq.core.errors import RecipeProblem
from canonq.core.ladder import TierResult
from canonq.core.stack.census import abandoned, filled
from canonq.flows.counting import take_census
from canonq.flows.run import Run
from canonq.flows.stages import Running


def in_use(run: Run, running: Running) -> dict[str, int]:
    """How much of each volume and database what runs has filled; see `filled`."""
    run.findings.phase = "census"
    return filled(take_census(run.world.data, running, run.servers(running)))


def first_start_of_base(run: Run, base: Running) -> Mapping[str, int]:
    """What the base's own first start filled: counted now where it is that, else by the run that proved it, if it has counted.

    To be asked before anything is written to it.
    """
    if run.target.data is None:
        return in_use(run, base)
    record = run.target.data
    verdict = run.world.runs.verdict(run.enrolment.recipe, record.run) if record.run else None
    return verdict.first_start if verdict is not None and verdict.version == record.version else {}


def is_looked_at(run: Run, base: Mapping[str, int], fresh: Mapping[str, int]) -> None:
    """RecipeProblem, on record with the upgrade, where the fresh install leaves empty what the base's first start had filled."""
    left = abandoned(base, fresh, run.enrolment.data.volatile)
    if not left:
        return
    version, was = run.target.version, run.findings.base.version
    listed = " and ".join(f"'{key}' ({base[key]} there)" for key in left)
    what = (
        f"{version} leaves {listed} empty where it is installed anew, and the first start of {was} had filled it: the data is "
        "still there, and the app looks somewhere else"
    )
    upgrade = run.findings.tiers.get("upgrade") or TierResult(status="pass")
    run.findings.tiers["upgrade"] = upgrade.model_copy(update={"status": "fail", "reason": what})
    raise RecipeProblem(
        f"{what}.",
        mend="look at settings and paths that have another name now; what is rightly empty is declared under [data] volatile.",
        code="data-abandoned",
    )
