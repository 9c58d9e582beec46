"""What tests of faults share."""

from __future__ import annotations

import pytest

from canonq.core.ladder import TierResult
from canonq.flows.proving import marking


@pytest.fixture
def tiers_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is deployed passes its generic proofs."""
    monkeypatch.setattr(marking, "run_generic", lambda *_: TierResult(status="pass"))
