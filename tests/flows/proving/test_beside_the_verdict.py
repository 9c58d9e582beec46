"""What is beside a run's verdict: a lint that cannot be run has no say in it, and what runs beside the app takes its room too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from canonq.core.deployable import Identity
from canonq.core.errors import CanonqError, RecipeProblem, TimedOut
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.masks import Masks
from canonq.flows.deploying.stages import Account
from canonq.flows.proving import proof
from canonq.flows.proving.evidence import volume_bytes
from canonq.flows.proving.run import Run
from canonq.flows.world import World
from tests.fakes import FakeEngine

RED = RecipeProblem("The app does not answer.", code="not-healthy")


@pytest.mark.parametrize("climbed", [None, RED], ids=["green", "red"])
@pytest.mark.parametrize("trouble", [TimedOut("lint took too long."), MemoryError(), OSError(5, "Input/output error")])
def test_a_lint_that_cannot_be_run_is_told_and_changes_nothing(
    climbed: CanonqError | None, trouble: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers: dict[str, TierResult] = {}
    findings = SimpleNamespace(tiers=tiers, phase="functional")
    run: Any = SimpleNamespace(
        id="a run", findings=findings, account=Account(), masks=Masks([]), pictures=[], enrolment=SimpleNamespace(recipe="site")
    )

    def climb(run: Run) -> None:
        run.findings.tiers.update(dict.fromkeys(PROVEN_TIERS, TierResult(status="pass")))
        if climbed is not None:
            raise climbed

    def lint(run: Run) -> None:
        run.findings.phase = "lint"
        raise trouble

    monkeypatch.setattr(proof, "climb", climb)
    monkeypatch.setattr(proof, "run_lint", lint)
    assert proof._climb(run) is climbed
    assert findings.phase == "functional", "what is told later is not of lint"
    assert tiers["lint"].status == "unverified"
    assert "lint could not be run" in tiers["lint"].reason
    assert all(tiers[tier].status == "pass" for tier in PROVEN_TIERS)


def test_what_runs_beside_an_app_counts_in_the_room_that_its_run_takes(tmp_path: Path) -> None:
    engine = FakeEngine(tmp_path)
    own = Identity("i", "run", "site", "20260101T000000Z-site-abcdef", "s-abcdef", "x.test", "1.0.0+1", "0" * 40)
    beside, another = replace(own, recipe="login", stack="l-abcdefd0"), replace(own, owner="20260101T000000Z-site-fedcba")
    for identity, mib in ((own, 1), (beside, 8), (replace(another, stack="s-fedcba"), 32)):
        folder = engine.make_volume(f"{identity.stack}_data", identity.labels, identity.stack)
        (folder / "file").write_bytes(bytes(mib << 20))
    world = cast(World, SimpleNamespace(ownership=engine, volumes=engine))
    assert volume_bytes(world, own) >> 20 == 9
