"""A promotion that is asked for by hand, up to the gate; what a promotion does is tried in tests/faults and tests/real."""

from __future__ import annotations

import pytest

from canonq.flows.promote import promote
from tests.core.test_gate import verdict
from tests.flows.conftest import FIRST, Place


@pytest.mark.parametrize("quick", [False, True])
def test_a_quick_run_of_the_canonicals_own_version_is_refused_and_a_cold_one_is_promoted_already(
    place: Place, quick: bool
) -> None:
    commit = place.recipe().head.commit.hexsha
    place.promote("site", FIRST, commit)
    run = place.world.new_id("site")
    place.world.runs.make("site", run)
    place.world.runs.record(verdict(run=run, version=FIRST, commit=commit, quick=quick))
    answer = promote(place.world, "site")
    assert (answer.outcome, answer.reason) == (("refused", "not-cold") if quick else ("already", "already-promoted"))
