"""The fresh install deployed once more, and whether it finds what was written to it before (docs/rules.md 3, in use).

Its containers are replaced while the other stack climbs, and looked at when that has arrived: it costs what it takes to ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from canonq.adapters.data import counting
from canonq.core.errors import RecipeProblem
from canonq.core.stack.census import Census, begun_beside, begun_empty, newcomers
from canonq.core.stack.databases import are_alone
from canonq.core.stack.passing import begun_anew
from canonq.core.text import shown
from canonq.flows.deploying.answering import NotHealthy, await_answer
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.counting import marks_of_sqlite, sqlite_files, take_census
from canonq.flows.proving.run import Run
from canonq.flows.proving.using import note_use
from canonq.flows.proving.witnesses import files_of, folders, lost_of, witness
from canonq.tiers.facts import Marker

_MOST_TOLD = 10
_MEND = (
    "data belongs in a volume, below a name that stays (set `hostname:` where names are made of it), and keys into secrets; what "
    "need not be kept is declared under [data] volatile in recipe.toml."
)


@dataclass(frozen=True)
class Redeployed:
    """A stack whose containers were told to make room for new ones, and what was known of it before."""

    running: Running
    markers: tuple[Marker, ...]  #: written before
    held: Census  #: what it held before
    names: frozenset[str]  #: of its containers, which are gone with them


def redeploy(run: Run, running: Running, leave: Callable[[], Sequence[Marker]]) -> Redeployed:
    """Have all containers of a stack replaced, once marks are in it; nothing is waited for. `leave`: writes them."""
    run.findings.phase = "redeploy"
    with run.account.timed("redeploy.begin"):
        held = take_census(run.world.data, running, run.servers(running))
        run.findings.later_files = files = files_of(run, running)
        note_use(run, held, files)  # which says where marks have to be
        markers = tuple(leave())
        run.findings.phase = "redeploy"
        names = run.world.containers.container_names(running.identity.stack)
        run.vigil(running.deployment).goes_down(comes_back=True)
        run.world.stacks.redeploy(running.identity.stack)
    return Redeployed(running, markers, held, names)


def not_looked_at(run: Run, it: Redeployed) -> tuple[str, ...]:
    """A gap where nobody asks the app itself whether it can read what it wrote: its key may be another one at each start."""
    keeps = set(folders(run.world, it.running)) - set(run.enrolment.data.volatile)
    if not keeps or any(marker.kind == "own" for marker in it.markers):
        return ()
    return (
        "redeploy-unproven: whether the app can read, after it was deployed once more, what it wrote before (a key that is made "
        "anew at each start) was not looked at; write_marker and read_marker in hooks.py show it",
    )


def await_back(run: Run, it: Redeployed) -> None:
    """Wait until it is up again. RecipeProblem (`not-redeployed`) when it does not come up a second time."""
    run.findings.phase = "redeploy"
    vigil = run.vigil(it.running.deployment)
    ends = min(run.deadline, time.monotonic() + run.enrolment.health.timeout)
    try:
        with run.account.timed("redeploy.healthy"):
            up = await_answer(run.world, it.running.prepared, ends, run.deadline)
    except NotHealthy as error:
        raise RecipeProblem(
            f"It came up once, and not again when its containers were replaced by new ones: {error.what}",
            mend=error.mend or "look at what its first start leaves in the volumes, and what the second makes of it.",
            code="not-redeployed",
            cause=error.code,
            service=error.service,
            fault=error.fault,
        ) from error
    if vigil.is_awaited:
        vigil.came_up(it.running, up.dead)


def found_again(run: Run, it: Redeployed, missing: Sequence[str]) -> None:
    """RecipeProblem (`lost-on-redeploy`) where the new containers have not what the old ones had; `missing`: of marks."""
    with run.account.timed("redeploy.look"):
        _nothing_lost(it, [*missing, *_less(run, it, begun=True), *_begun_again(run, it)])


def goes_on(run: Run, it: Redeployed) -> None:
    """The same, when somebody has used the new ones: what new files there are may well be of that use, or of a restore."""
    with run.account.timed("redeploy.look"):
        _nothing_lost(it, [*_less(run, it, begun=False), *_begun_again(run, it)])


def _nothing_lost(it: Redeployed, told: Sequence[str]) -> None:
    if told:
        raise RecipeProblem(
            f"Deployed once more, {it.running.identity.version} does not find what was written to it before: "
            f"{'; '.join(told[:_MOST_TOLD])}.",
            mend=_MEND,
            code="lost-on-redeploy",
        )


def files_gone(run: Run, it: Redeployed) -> list[str]:
    """A phrase for each volume in which files that somebody's use had made are gone, or are as a new install makes them."""
    found = run.findings
    by = replace(witness(run), first=None)
    return lost_of(run, it.running, by, found.later_files, it.held, lambda: it.held)


def _less(run: Run, it: Redeployed, *, begun: bool) -> list[str]:
    now = take_census(run.world.data, it.running, run.servers(it.running))
    may_go, told = run.enrolment.data.volatile, begun_empty(it.held, now, run.enrolment.data.volatile)
    if begun and newcomers(it.held, now, may_go):
        marks = marks_of_sqlite(run.world.data, it.running, it.markers)
        told += begun_beside(it.held, now, may_go, marks, sqlite_files(run.world.data, it.running))
    return told


def _begun_again(run: Run, it: Redeployed) -> list[str]:
    """A phrase for what has begun anew in a volume under the new container's name, beside what it had under the old one's."""
    after = run.world.containers.container_names(it.running.identity.stack)
    told = []
    own = are_alone(run.servers(it.running), it.running.stack.images)
    servers = {volume for volume, service, _ in run.world.containers.mounted(it.running.identity.stack) if service in own}
    for key, folder in folders(run.world, it.running).items():
        # A database server names logs after its host; whether it has its rows is known.
        if key in run.enrolment.data.volatile or it.running.stack.volumes[key] in servers:
            continue
        if anew := begun_anew(counting.paths(folder), it.names, after):
            listed = ", ".join(shown(path, 100) for path in anew[:3])
            told.append(f"in the volume {key}, {listed} has the name of the container that wrote it, and the new one began anew")
    return told
