"""External networks: what a release expects others to have made, and whose it is that nobody has. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable

from canonq.core.errors import CanonqError, EnrolmentProblem, HostProblem, RecipeProblem
from canonq.core.recipe.assembly import TEST_OVERLAY
from canonq.core.stack.policy import SHARED_NETWORK
from canonq.core.stack.resolved import Stack
from canonq.core.text import did_you_mean, ended, shown

#: Words of Docker's own, each of which is on every host.
BUILT_IN = ("none", "host", "bridge", "default")


def networks_of_others(stack: Stack) -> tuple[str, ...]:
    """Names of the networks that a stack is in and does not make; not the one that canonq makes where it is missing."""
    found = (network.name for network in stack.networks.values() if network.external)
    return tuple(sorted({name for name in found if name not in (SHARED_NETWORK, *BUILT_IN)}))


def missing_network(
    name: str, version: str, *, alone: bool = True, before: Collection[str] = (), there: Iterable[str] = ()
) -> CanonqError:
    """The error for a network of others that this host does not have.

    `alone`: whether the release itself asks for it, without the enrolment's files. `before`: those that the version before
    asks for. `there`: those of this host.

    Only a name that is nearly one which recipes share, or which the version before has, is known to be misspelt. What an
    operator has made, or not yet, is the host's: they give networks as they give labels and secrets.
    """
    make = f"`docker network create -d overlay --attachable {shlex.quote(name)}` makes it"
    lacks = f"{version} is to be in the network {shown(name)} of others (external), which this host does not have"
    known = did_you_mean(name, [SHARED_NETWORK, *(one for one in before if one != name)])
    near = known or did_you_mean(name, there)
    if not alone:
        return EnrolmentProblem(
            ended(f"{lacks}{near}") + " The release does not ask for it: [env] or the overlay does.",
            mend=f"correct its name in {TEST_OVERLAY} or [env]; where it is right, {make}.",
            code="network-missing",
            certain=True,
        )
    if known and name not in before:
        return RecipeProblem(
            ended(f"{lacks}{known}"),
            mend=f"the maintainer has to correct its name; where it is right, {make}.",
            code="network-missing",
            certain=True,
        )
    return HostProblem(
        ended(f"{lacks}{near}"),
        mend=f"{make}; or give the app another one in {TEST_OVERLAY}.",
        code="network-missing",
        certain=True,
    )
