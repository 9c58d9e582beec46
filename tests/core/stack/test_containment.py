"""By whose limit a container had too little memory: only that one is worth raising."""

from __future__ import annotations

import pytest

from canonq.core.stack.containment import Allotment, memory_mend
from canonq.core.stack.resolved import stack_of

OF = Allotment(memory=300 << 20, cpus=1, pids=100, log=1 << 20, replicas=1)


@pytest.mark.parametrize(("limit", "whose"), [("40M", "maintainer"), (None, "recipe.toml"), ("4G", "recipe.toml")])
def test_the_limit_that_was_too_low_is_named(limit: str | None, whose: str) -> None:
    deploy = {"resources": {"limits": {"memory": limit}}} if limit else {}
    told = memory_mend(stack_of({"services": {"app": {"image": "x", "deploy": deploy}}}).services["app"], OF)
    assert ("recipe.toml, [resources] memory" in told) is (whose == "recipe.toml")
    assert ("the release sets the limit" in told) is (whose == "maintainer")
    assert whose == "maintainer" or "300 MiB" in told
