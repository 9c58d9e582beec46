"""What a release expects others to have made, and whose it is that nobody has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from canonq.core.errors import Fault
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.foreign import Others, missing, of_others


def asked(service: dict[str, Any], **sections: Any) -> tuple[Others, ...]:
    body = {"services": {"app": {"image": "x:1", **service}}, **sections}
    return of_others(resolve([("compose.yml", json.dumps(body))], {}))


def test_what_no_service_uses_is_not_looked_for_as_docker_does_not() -> None:
    declared = {"networks": {"mail": {"external": True}}, "configs": {"motd": {"external": True, "name": "site_motd"}}}
    assert asked({}, **declared) == ()
    assert asked({"networks": ["mail"], "configs": ["motd"]}, **declared) == (
        Others("config", "site_motd"),
        Others("network", "mail"),
    )


def test_the_network_of_the_proxy_and_dockers_own_are_no_others() -> None:
    there = {"proxy": {"external": True}, "out": {"external": True, "name": "host"}, "own": {}}
    assert asked({"networks": ["proxy", "out", "own"]}, networks=there) == ()


@pytest.mark.parametrize(
    ("one", "known", "fault", "said"),
    [
        (Others("config", "site_motd"), {}, Fault.HOST, "`docker config create site_motd FILE` makes it"),
        (Others("config", "site_mtd"), {"before": [Others("config", "site_motd")]}, Fault.RECIPE, "did you mean 'site_motd'?"),
        (Others("config", "proxy_"), {}, Fault.HOST, "takes the config 'proxy_'"),
        (Others("network", "prxy"), {"before": [Others("network", "prxy")]}, Fault.HOST, "did you mean 'proxy'?"),
        (Others("network", "prxy"), {}, Fault.RECIPE, "did you mean 'proxy'?"),
        (Others("config", "site_motd"), {"alone": False}, Fault.ENROLMENT, "[env] or the overlay does."),
        (Others("config", "s-1_motd"), {"stack": "s-1"}, Fault.ENROLMENT, "whoever deploys the app makes it each time."),
        (Others("network", "intern"), {"there": ["interna"]}, Fault.HOST, "did you mean 'interna'?"),
    ],
)
def test_whose_it_is_that_nobody_has_made_it(one: Others, known: dict[str, Any], fault: Fault, said: str) -> None:
    found = missing(one, "1.1.0+1.1", **known)
    assert (found.fault, found.code, found.certain) == (fault, f"{one.kind}-missing", True)
    assert said in str(found)
