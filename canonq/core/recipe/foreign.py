"""What a release expects others to have made, networks and configs, and whose it is that nobody has. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from canonq.core.errors import CanonqError, EnrolmentProblem, HostProblem, RecipeProblem
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.stack.policy import SHARED_NETWORK
from canonq.core.stack.resolved import Stack
from canonq.core.text import did_you_mean, ended, shown

#: Words of Docker's own, each of which is on every host.
BUILT_IN = ("none", "host", "bridge", "default")


@dataclass(frozen=True, order=True)
class Others:
    """One thing that a stack uses and does not make."""

    kind: Literal["network", "config"]
    name: str  #: in Docker

    @property
    def made_by(self) -> str:
        """What makes it, for people."""
        name = shlex.quote(self.name)
        if self.kind == "config":
            return f"`docker config create {name} FILE` makes it"
        return f"`docker network create -d overlay --attachable {name}` makes it"


def of_others(stack: Stack) -> tuple[Others, ...]:
    """The networks and configs that services of a stack use and it does not make; not the network that canonq makes itself.

    What is declared and used by nobody, Docker does not look for. Secrets are not among them: canonq makes all of them up.
    """
    networks = {key for service in stack.services.values() for key in service.networks}
    configs = {key for service in stack.services.values() for key in service.configs}
    found = {Others("network", one.name) for key, one in stack.networks.items() if one.external and key in networks}
    found -= {Others("network", name) for name in (SHARED_NETWORK, *BUILT_IN)}
    found |= {Others("config", one.name) for key, one in stack.configs.items() if one.external and key in configs}
    return tuple(sorted(found))


def missing(
    one: Others,
    version: str,
    *,
    alone: bool = True,
    before: Collection[Others] = (),
    there: Iterable[str] = (),
    stack: str = "",
    steps: str = "",
) -> CanonqError:
    """The error for what is others' and this host does not have.

    `alone`: whether the release itself asks for it, without the enrolment's files. `before`: what the version before asks for.
    `there`: what this host has of the kind. `stack`: the name of the stack, which nobody could know before. `steps`: the
    enrolment's install steps where they were run, and did not make it.

    Only a name that is nearly one which recipes share, or which the version before has, is known to be misspelt. What an
    operator has made, or not yet, is the host's: they give networks and configs as they give labels and secrets.
    """
    lacks = {
        "network": f"{version} is to be in the network {shown(one.name)} of others (external), which this host does not have",
        "config": f"{version} takes the config {shown(one.name)} of others (external), which this host does not have",
    }[one.kind]
    code, make = {"network": "network-missing", "config": "config-missing"}[one.kind], one.made_by
    shared = [SHARED_NETWORK] if one.kind == "network" else []
    known = did_you_mean(one.name, [*shared, *(other.name for other in before if other.kind == one.kind and other != one)])
    near = known or did_you_mean(one.name, there)
    if not alone:
        return EnrolmentProblem(
            ended(f"{lacks}{near}")
            + (
                f" {steps} or the overlay asks for it."
                if steps
                else " The release does not ask for it: [env] or the overlay does."
            ),
            mend=f"correct its name in {TEST_OVERLAY} or [env]; where it is right, {make}.",
            code=code,
            certain=True,
        )
    if known and one not in before:
        return RecipeProblem(
            ended(f"{lacks}{known}"),
            mend=f"the maintainer has to correct its name; where it is right, {make}.",
            code=code,
            certain=True,
        )
    if stack and one.name.startswith(f"{stack}_"):
        return EnrolmentProblem(
            f"{lacks}. Its name begins with the stack's, so whoever deploys the app makes it each time"
            + (f", and {steps} has not." if steps else "."),
            mend=f"make it the stack's own in {TEST_OVERLAY}: `external: false`"
            + (" and a `file:`, which install_steps.sh may write into the recipe's folder." if one.kind == "config" else "."),
            code=code,
            certain=True,
        )
    return HostProblem(
        ended(f"{lacks}{near}"),
        mend=f"{make}; or give the app another one in {TEST_OVERLAY}.",
        code=code,
        certain=True,
    )
