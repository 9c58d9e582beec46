"""By whose limit a container had too little memory: only that one is worth raising."""

from __future__ import annotations

import pytest

from canonq.core.enrolment import Enrolment, parse_enrolment
from canonq.core.errors import Fault
from canonq.core.stack.containment import short_of_memory
from canonq.core.stack.resolved import stack_of


def enrolment(memory: str | None) -> Enrolment:
    said = f'[resources]\nmemory = "{memory}"\n' if memory else ""
    return parse_enrolment("site", f'upstream = "/x"\n{said}', where="recipe.toml")


@pytest.mark.parametrize(
    ("limit", "allotted", "fault", "said"),
    [
        ("40M", "300 MiB", Fault.RECIPE, "the release sets the limit; the maintainer"),
        ("300M", "300 MiB", Fault.RECIPE, "the release sets the limit; the maintainer"),
        ("40M", None, Fault.RECIPE, "the release sets the limit; the maintainer"),
        (None, None, Fault.RECIPE, "it may have 4096 MiB, which is canonq's limit and not the release's"),
        # Whoever wrote a limit, or left it below what the release says that it needs, has to raise it.
        (None, "300 MiB", Fault.ENROLMENT, "it may have 300 MiB: raise [resources] memory in recipe.toml"),
        ("4G", "300 MiB", Fault.ENROLMENT, "it may have 300 MiB, and the release asks for 4096 MiB: raise [resources] memory"),
        ("6G", None, Fault.ENROLMENT, "4096 MiB, as recipe.toml does not say, and the release asks for 6144 MiB: raise"),
    ],
)
def test_whose_limit_was_too_low_is_told_with_what_to_raise(
    limit: str | None, allotted: str | None, fault: Fault, said: str
) -> None:
    deploy = {"resources": {"limits": {"memory": limit}}} if limit else {}
    service = stack_of({"services": {"app": {"image": "x", "deploy": deploy}}}).services["app"]
    whose, mend = short_of_memory(service, enrolment(allotted))
    assert (whose, said in mend) == (fault, True), mend


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("40M", "compose.canonq.yml sets its limit of 40 MiB: raise it there"),
        ("4G", "it may have 300 MiB, and compose.canonq.yml asks for 4096 MiB: raise [resources] memory"),
    ],
)
def test_a_limit_of_the_enrolments_overlay_is_the_enrolments(limit: str, said: str) -> None:
    service = stack_of({"services": {"app": {"image": "x", "deploy": {"resources": {"limits": {"memory": limit}}}}}}).services[
        "app"
    ]
    whose, mend = short_of_memory(service, enrolment("300 MiB"), overlay="compose.canonq.yml")
    assert (whose, said in mend) == (Fault.ENROLMENT, True), mend
