"""What is done with a promoted stack while it is up: its own tests, content for the first one, marks for the runs after it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from canonq.core.errors import RecipeProblem
from canonq.core.ladder import TierName, TierResult
from canonq.core.records import Canonical
from canonq.core.stack.databases import REDIS
from canonq.core.stack.ledger import LedgerMark, continued, named, wanted
from canonq.flows.deploying.answering import await_answer
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.hooks import POPULATE, are_one, call_hook, hook_names
from canonq.flows.proving.staying import Vigil
from canonq.flows.proving.tiers import facts_of, run_own
from canonq.flows.world import World
from canonq.tiers import ledger, servers
from canonq.tiers.markers import Patience

_TESTED: TierName = "functional"
#: Hooks of a run that make what tests need. They are not called here: what they make would stay in the canonical.
_PREPARING = frozenset({"after_install", "before_functional"})


@dataclass(frozen=True)
class Promoted:
    """A promoted stack that is up, at the warm domain."""

    world: World
    running: Running
    carried: Canonical | None  #: on a copy of whose data it has started; None: on empty volumes
    evidence: Path  #: a folder
    mark: str  #: what its marks say
    deadline: float  #: monotonic


@dataclass(frozen=True)
class Warmed:
    """What a promoted stack was found to be, while it was up."""

    ledger: list[LedgerMark]
    fits: str | None  #: digest of the enrolment whose tests find what `populate` of its hooks made; None where none was seen to


def warmed(it: Promoted) -> Warmed:
    """Look for what earlier promotions left, run the recipe's own tests, fill the first canonical, and leave marks.

    RecipeProblem where something of it fails: it is not to be the canonical then.
    """
    world, running, account = it.world, it.running, it.running.deployment.account
    enrolment, stack = running.deployment.enrolment, running.stack.stack
    kinds, volatile = servers.found_in(world.data, stack, running.stack.images).kinds, enrolment.data.volatile
    patience = Patience(min(enrolment.health.timeout, left(it.deadline)))
    vigil = Vigil(world)
    vigil.came_up(running, running.up.dead)
    before = wanted(it.carried.ledger, volatile) if it.carried is not None else []
    if missing := ledger.missing(world.data, stack, before, kinds, patience):
        raise RecipeProblem(
            f"On a copy of the canonical's data, {running.identity.version} has lost {named(missing)}.",
            mend="look at what the release does to its data when it starts; what may go is declared under [data] volatile.",
            code="data-lost",
        )
    own = world.checkout.folder(enrolment.recipe)
    prepared = sorted(hook_names(own) & _PREPARING)
    fills = bool(prepared) and are_one(own, POPULATE, *prepared)  # what tests need is what the first canonical is filled with
    if it.carried is None and fills:
        _populate(it)
    filled = fills and (it.carried is None or it.carried.populated is not None)
    code = world.checkout.code_digest(enrolment.recipe)
    tested = _own_tests(it, vigil, () if filled else prepared, code if fills else None)
    if it.carried is None and not fills:
        _populate(it)
    vigil.see()
    with account.timed("promote.ledger"):
        new = ledger.enter(world.data, stack, running.stack.volumes, kinds, it.mark, running.identity.version, volatile, patience)
    marked = {mark.place for mark in new}
    account.notes += [
        f"no-ledger: {service} ({kind}) took no mark, so that later runs look for none in it"
        for service, kind in kinds.items() if kind != REDIS and service not in {*marked, *volatile}
    ]  # fmt: skip
    return Warmed(continued(before, new), code if filled and tested else None)


def _own_tests(it: Promoted, vigil: Vigil, lacking: Sequence[str], fills: str | None) -> bool:
    """The recipe's own tests, on what is to be the canonical; whether they passed.

    `lacking`: hooks that prepare for them and are not called here; `fills`: where what these make is what `populate` makes, the
    digest of the enrolment's code.
    """
    world, enrolment = it.world, it.running.deployment.enrolment
    folder = world.checkout.folder(enrolment.recipe)
    files = sorted(folder.glob("test_*.py"))
    if not files:
        return False
    if lacking:
        it.running.deployment.account.note(
            "promotion-untested: the recipe's own tests were not run at the warm domain, since "
            f"{' and '.join(lacking)} of hooks.py prepares for them, and what it makes would stay in the canonical; they are "
            f"run there where they make what they need themselves, and where `{' = '.join([*lacking, POPULATE])} = ...` has the "
            "first canonical filled with it"
        )
        return False
    facts = facts_of(world, it.running, _TESTED, fresh=it.carried is None)
    masks = it.running.deployment.account.secrecy.masks

    def prove() -> TierResult:
        return run_own(facts, it.evidence, files, enrolment.limits.tests, it.deadline, masks)

    with it.running.deployment.account.timed("promote.tests"):
        result = vigil.undisturbed("the tests", it.running, prove, it.deadline, lambda found: found.status == "fail")
    if result.status != "fail":
        return True
    vigil.see()  # a dying app is the reason then
    if fills is not None and it.carried is not None and it.carried.populated_for != fills:
        # They passed in the run, on what today's hook makes; what this canonical was filled with another one has made.
        it.running.deployment.account.note(
            f"promotion-untested: the recipe's own tests fail at the warm domain ({masks.text(result.reason)}), and that is not "
            f"held against {it.running.identity.version}: what the canonical was filled with at {it.carried.populated} is of "
            "another state of the enrolment's hooks and tests, and was not seen to be what these tests need"
        )
        return False
    raise RecipeProblem(
        f"The recipe's own tests fail at the warm domain: {masks.text(result.reason)}.",
        mend=f"they passed in the run; what is another there are domain, data and neighbours. See {it.evidence}.",
        code="functional-failed",
    )


def _populate(it: Promoted) -> None:
    """Have the enrolment's hooks fill the first canonical with content, which its successors carry on."""
    world, deployment = it.world, it.running.deployment
    own = world.checkout.folder(deployment.enrolment.recipe)
    if POPULATE not in hook_names(own):
        return
    facts = facts_of(world, it.running, "promote", fresh=True)
    limit, masks = deployment.enrolment.limits.hook, deployment.account.secrecy.masks
    with deployment.account.timed("promote.populate"):
        call_hook(own, POPULATE, facts, it.evidence, limit, it.deadline, masks)
        ends = min(it.deadline, time.monotonic() + deployment.enrolment.health.timeout)
        await_answer(world, it.running.prepared, ends, it.deadline, cold=False)
    deployment.account.note(f"populated: {POPULATE} of hooks.py has filled the first canonical")
