"""Which troubles of a service the enrolment's overlay may be behind."""

from __future__ import annotations

from typing import Any

import pytest

from canonq.core.recipe.overlay import says, suspects

LIMITED = {"deploy": {"resources": {"limits": {"memory": "32M"}, "reservations": {"memory": "64G"}}}}


@pytest.mark.parametrize(
    ("said", "code", "check_failed", "found"),
    [
        ({"command": ["no"]}, "cannot-start", False, ["command"]),
        ({"user": "nobody-here", "environment": {"A": "b"}}, "cannot-start", False, ["user"]),
        ({"environment": {"A": "b"}}, "cannot-start", False, []),
        ({"healthcheck": {"test": "false"}}, "crash-loop", True, ["healthcheck"]),
        ({"healthcheck": {"test": "false"}}, "crash-loop", False, []),
        ({"command": ["no"]}, "crash-loop", True, []),
        ({"volumes": ["/nowhere:/x"]}, "mount-invalid", False, ["volumes"]),
        ({"deploy": {"placement": {"constraints": ["node.labels.ssd==1"]}}}, "no-node-fits", False, ["deploy.placement"]),
        ({"deploy": {"labels": ["a=b"]}}, "no-node-fits", False, []),
        (LIMITED, "host-too-small", False, ["deploy.resources.reservations"]),
        (LIMITED, "deploy-refused", False, ["deploy"]),
        ({"command": ["no"]}, "port-taken", False, []),
        ({}, "deploy-refused", False, []),
    ],
)
def test_the_overlay_is_suspected_of_what_it_says_alone(
    said: dict[str, Any], code: str, check_failed: bool, found: list[str]
) -> None:
    assert suspects(said, code, check_failed=check_failed) == found


def test_what_an_overlay_says_is_asked_by_its_place() -> None:
    assert says(LIMITED, "deploy.resources.limits.memory")
    assert not says(LIMITED, "deploy.resources.limits.cpus")
    assert not says({"deploy": "much"}, "deploy.resources.limits.memory"), "what is misshapen says nothing"
