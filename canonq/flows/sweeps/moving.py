"""A recipe goes from one host to another, with its canonicals, its runs and its clone.

Three facts on two disks, each written by its own host alone and read by the other, whatever messages say:

1. the old host notes that the canonical is leaving (`elsewhere.json`): it is in force nowhere then, and nobody changes it;
2. the new host notes that it is on the old one, brings all of it, proves it whole, and switches with one write of its own
   `canonical.json`, under a higher fence;
3. the old host reads that record on the new one's disk, and only then gives its own up.

Each step may be killed, and done again. A move that is taken back ends the same way: the new host notes that it refuses it.
Where both have a canonical and a person gives one up, nothing is brought: the second fact is that the other host notes that
its own stays.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.data import snapshots
from canonq.adapters.data.archives import sync_tree
from canonq.adapters.fetching import Fetcher, scratch
from canonq.adapters.files import remove_tree, told, write_json
from canonq.adapters.state.budget import Reservation
from canonq.adapters.state.hosts import Known
from canonq.adapters.state.records import readable_json
from canonq.adapters.state.registry import ELSEWHERE, RECORD, Registry
from canonq.adapters.state.work_folders import alive
from canonq.core.budget import Need
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER, LABEL_RECIPE
from canonq.core.errors import Busy, CanonqError, HostProblem, RecordUnreadable, WrongUse
from canonq.core.names import host_name, recipe_name, shown
from canonq.core.records import Arrived, Canonical, Elsewhere, Snapshot
from canonq.core.retention import KEPT
from canonq.core.sweeps.placement import Wanted, home, least_loaded
from canonq.flows import hosts as hosts_flow
from canonq.flows.keeping.data import unpack_retained
from canonq.flows.keeping.leftovers import drop_interrupted, is_in_force
from canonq.flows.keeping.room import make_room, room_for
from canonq.flows.world import World
from canonq.ports import Held

log = logging.getLogger("canonq")

REFUSED = "refused.json"  #: beside the record: the moves that are not to end here any more
KEEPS = "keeps.json"  #: beside it: those by which another host gives its canonical up, as the one here stays


def fetcher(world: World) -> Fetcher:
    """How this host reads what is on another's disk."""
    return Fetcher(world.settings.hosts.fetch, world.settings.hosts.timeout)


@contextlib.contextmanager
def _holding(world: World, recipe: str, what: str) -> Iterator[Held]:
    """Hold the recipe for a move, with nobody running it. Busy when somebody is at it."""
    with world.locks.hold(recipe, what, lane="run", moving=True) as run, world.locks.hold(recipe, what, moving=True) as held:
        if run is None or held is None:
            raise Busy(f"{recipe} is held by {world.held_by(recipe)}.", mend="wait until it ends.")
        yield held


# -- on the host that it leaves -----------------------------------------------------------------------------


def leave(world: World, recipe: str, to: str, *, by: str, give_up: bool = False) -> Elsewhere | None:
    """Note that a recipe's canonical goes to another host; the note. Named itself, this host takes it back.

    `give_up`: nothing is transferred, the canonical that `to` has stays; to take that back needs nobody else. WrongUse where it
    cannot go there.
    """
    recipe, to = recipe_name(recipe), host_name(to)
    fetcher(world).check()
    mark = world.registry.elsewhere(recipe)
    if to == world.hosts.own:
        return _take_back(world, recipe, mark)
    if mark is not None and mark.to == to:
        return mark
    _takes_new(world, to)
    if mark is not None:
        where = "is on its way" if mark.state == "leaving" else "has gone"
        raise WrongUse(
            f"The canonical of {recipe} {where} to {mark.to}.",
            mend=f"wait until it is there; `canonq move {recipe} {world.hosts.own}` takes it back as long as it is not."
            if mark.state == "leaving" else f"`canonq move {recipe} {to}` asks {mark.to}.",
            code="moving",
        )  # fmt: skip
    if give_up:
        _has_one(world, recipe, to)
    with _holding(world, recipe, f"move to {to}"):
        record = world.registry.read(recipe)
        if record is None or (record.snapshot is None and not give_up):
            raise WrongUse(
                f"{recipe} has no canonical with a snapshot on {world.hosts.own}, so there is nothing to move.",
                mend="set `host` in its recipe.toml: it is begun there.",
                code="no-canonical",
            )
        if not give_up and record.snapshot is not None and (problem := snapshots.problem_of(record.snapshot)):
            raise CanonqError(
                f"The snapshot of the canonical of {recipe} cannot be moved: {problem}.",
                mend=f"`canonq promote {recipe} --again --reason ...` makes a new one; `canonq verify {recipe}` says more.",
                code="snapshot-damaged",
            )
        mark = Elsewhere(
            recipe=recipe, state="leaving", to=to, move=world.new_id(), by=by, at=world.stamp(), fence=record.fence,
            parts=_parts(world, recipe), give_up=give_up,
        )  # fmt: skip
        world.registry.set_elsewhere(mark)
    hosts_flow.tell_of(world, recipe)
    log.info("%s: its canonical %s leaves for %s", recipe, record.version, to)
    return mark


def _has_joined(world: World, host: str) -> Known:
    """What is known of a host. WrongUse where nobody knows it: a message may name any, and its word would be believed."""
    there = {one.name: one for one in world.hosts.learn()}
    if host not in there or there[host].removed:
        known = ", ".join(name for name, one in there.items() if not one.removed)
        raise WrongUse(f"No host called {shown(host)} has joined.", mend=f"there are: {known}.", code="host-unknown")
    return there[host]


def _takes_new(world: World, host: str) -> None:
    """WrongUse for one that is not known, or from where all would leave again."""
    if not _has_joined(world, host).takes_new:
        raise WrongUse(
            f"The host {host} is being drained, so that all would leave it again.",
            mend=f"name another one, or `canonq drain {host} --undo` first.",
            code="host-draining",
        )


def _has_one(world: World, recipe: str, host: str) -> None:
    """WrongUse where a host has said that it has no canonical in force, for which this one's could be given up. Of one that has
    said nothing it is found out when it is asked."""
    there = _has_joined(world, host)
    claim = (there.claims or {}).get(recipe)
    if there.told and (claim is None or claim.version is None):
        raise WrongUse(
            f"The host {host} has no canonical of {recipe}, so this host's is not given up.",
            mend=f"`canonq hosts` says who has one; `canonq move {recipe} {host}` moves it there.",
            code="no-canonical",
        )
    if claim is not None and claim.leaving is not None:
        raise WrongUse(
            f"The canonical that {host} has of {recipe} is on its way to {claim.leaving} itself, so this host's is not given up.",
            mend=f"wait until it is there, or take that back: `canonq move {recipe} {host}`, typed on {host}.",
            code="moving",
        )


def _take_back(world: World, recipe: str, mark: Elsewhere | None) -> Elsewhere | None:
    if mark is None:
        return None
    if mark.state == "gone":
        raise WrongUse(
            f"The canonical of {recipe} has gone to {mark.to}.",
            mend=f"`canonq move {recipe} {world.hosts.own}` on any host asks {mark.to} to move it.",
            code="moving",
        )
    with _holding(world, recipe, "take a move back"):
        if world.registry.elsewhere(recipe) != mark:
            raise Busy(f"The move of {recipe} to {mark.to} has just ended.", mend="look at `canonq hosts`.", code="moving")
        if not mark.give_up:
            back = mark.model_copy(update={"taken_back": True})
            world.registry.set_elsewhere(back)
            return back
        world.registry.is_here_again(recipe)  # nobody brings it anywhere
    hosts_flow.tell_of(world, recipe)
    log.info("%s: its canonical is not given up for that of %s", recipe, mark.to)
    return None


def _parts(world: World, recipe: str) -> list[str]:
    """What goes with a canonical, below the state folder."""
    return [path for path in _all_parts(recipe) if (world.settings.state / path).exists()]


def _all_parts(recipe: str) -> list[str]:
    return [
        f"warm/{recipe}/{RECORD}", f"warm/{recipe}/{KEPT}", f"repos/{recipe}", f"runs/{recipe}", f"steering/{recipe}.json",
        f"steering/{recipe}.seen.json",
    ]  # fmt: skip


def leaving(world: World) -> list[Elsewhere]:
    """What is on its way from here, or has gone and left something; what cannot be read is told elsewhere."""
    found = []
    for recipe in world.registry.begun():
        with contextlib.suppress(CanonqError):
            mark = world.registry.elsewhere(recipe)
            if mark is not None and (mark.state == "leaving" or _something_left(world, recipe)):
                found.append(mark)
    return found


def _something_left(world: World, recipe: str) -> bool:
    return recipe in world.registry.recipes()


def begin_anew(world: World) -> list[str]:
    """Let recipes be worked on here again that have gone to another host, where nobody has them any more: that host was lost, and
    somebody has said so. What is on its way, or not told by now, is somebody's; so is what has gone to a host that is away,
    whatever is told of it: it may have been cut off before it could say so."""
    done = list[str]()
    members = [one for one in hosts_flow.known(world) if not one.removed]
    if not all(one.told for one in members if one.name != world.hosts.own):
        return done
    for recipe in world.registry.begun():
        with contextlib.suppress(CanonqError):
            mark = world.registry.elsewhere(recipe)
            if mark is None or mark.state != "gone" or _something_left(world, recipe):
                continue
            if home(recipe, [one.member() for one in members]) or any(one.name == mark.to and not one.alive for one in members):
                continue
            with _holding(world, recipe, "begin anew"):
                world.registry.is_here_again(recipe)
            hosts_flow.tell_of(world, recipe)
            done.append(recipe)
            log.warning("%s: its canonical had gone to %s, and is nowhere any more: it may be begun anew here", recipe, mark.to)
    return done


def settle(world: World, recipe: str) -> str:
    """Look on the new host's disk how a move stands, and end it here where it has ended there.

    "here": it was taken back, or refused; "gone": it is there, and nothing is left here; "leaving": it is not there yet.
    """
    recipe = recipe_name(recipe)
    mark = world.registry.elsewhere(recipe)
    if mark is None:
        return "here"
    if mark.state == "leaving":
        if _is_removed(world, mark.to) or _stays(world, mark):
            with _holding(world, recipe, "take a move back"):
                if world.registry.elsewhere(recipe) != mark:
                    return "leaving"
                world.registry.is_here_again(recipe)
            hosts_flow.tell_of(world, recipe)
            log.info("%s: its move to %s was taken back or refused, or that host was removed", recipe, mark.to)
            return "here"
        if not _has_arrived(world, mark):
            return "leaving"
    with _holding(world, recipe, f"move to {mark.to}"):
        if world.registry.elsewhere(recipe) != mark:
            return "leaving"
        world.registry.set_elsewhere(mark.model_copy(update={"state": "gone"}))
        warm = {LABEL_INSTANCE: world.instance, LABEL_KIND: "warm", LABEL_RECIPE: recipe}
        world.ownership.remove_owned(warm, world.settings.teardown_timeout)
        _drop_kept(world, recipe)
        drop_interrupted(world, recipe)  # no janitor may hold a recipe that is elsewhere
        world.registry.drop_record(recipe)  # last: as long as it is there, it is known that something is left
    hosts_flow.tell_of(world, recipe)
    log.info("%s: its canonical is on %s, and was given up here", recipe, mark.to)
    return "gone"


def _drop_kept(world: World, recipe: str) -> None:
    for one in world.registry.all_generations(recipe):
        world.registry.drop_generation(recipe, one.name)


def _has_arrived(world: World, mark: Elsewhere) -> bool:
    """Whether the new host's own registry holds what left here; what is left here may be damaged since. False where that cannot
    be seen."""
    with scratch(world.settings.state, world.host, f"look-{mark.move}") as place:
        try:
            fetcher(world).fetch(mark.to, f"warm/{mark.recipe}/{RECORD}", place / "warm" / mark.recipe)
        except HostProblem as error:
            log.info("%s: whether it is on %s is not known: %s", mark.recipe, mark.to, error)
            return False
        there = Registry(place / "warm").read(mark.recipe)
        if there is not None and mark.give_up:
            return mark.move in _moves_there(world, mark, KEEPS, place)
    if there is None:
        return False
    return there.arrived is not None and there.arrived.move == mark.move and there.fence > mark.fence


def _is_removed(world: World, name: str) -> bool:
    """Whether somebody has said that a host never comes back."""
    return any(one.name == name and one.removed for one in world.hosts.learn())


def _stays(world: World, mark: Elsewhere) -> bool:
    """Whether a move was taken back and the new host has noted that it does not end there. A give-up is taken back by this host
    alone, and the other one refuses it where it has no whole canonical in force."""
    if mark.give_up and mark.taken_back:
        return True
    if not (mark.give_up or mark.taken_back):
        return False
    with scratch(world.settings.state, world.host, f"look-{mark.move}") as place:
        return mark.move in _moves_there(world, mark, REFUSED, place)


def _moves_there(world: World, mark: Elsewhere, name: str, place: Path) -> set[str]:
    """The moves in a file of the new host; none where it cannot be read."""
    try:
        return _moves_in(fetcher(world).fetch(mark.to, f"warm/{mark.recipe}/{name}", place))
    except HostProblem:
        return set()


# -- on the host that it comes to ---------------------------------------------------------------------------


def arrive(world: World, recipe: str, source: str, move: str) -> str:
    """Bring a canonical from the host that it leaves, as that one's disk says; "arrived", "refused" or "not-leaving". Of one that
    is given up for the canonical here nothing is brought: "kept", "refused" or "not-yet".

    What was brought is proven whole before anything is switched. Done again, it is done once.
    """
    recipe, source = recipe_name(recipe), host_name(source)
    unreadable: RecordUnreadable | None = None
    try:
        record = world.registry.read(recipe)
    except RecordUnreadable as error:
        record, unreadable = None, error
    if record is not None and record.arrived is not None and record.arrived.move == move:
        mark = world.registry.elsewhere(recipe)
        if mark is not None and mark.fence < record.fence:  # of before it came; one made since says that it leaves again
            world.registry.is_here_again(recipe)
        return "arrived"
    _has_joined(world, source)
    with scratch(world.settings.state, world.host, recipe) as stage:
        mark = _mark(world, recipe, source, stage)
        if mark.state != "leaving" or mark.to != world.hosts.own or mark.move != move:
            return "not-leaving"
        if mark.give_up:
            return "not-leaving" if mark.taken_back else _keep(world, mark, source)
        if unreadable is not None:  # what may be here is not to be written over
            raise unreadable
        if mark.taken_back:
            with _holding(world, recipe, f"refuse a move from {source}"):
                _note(world, recipe, REFUSED, move)
                if record is None and world.registry.elsewhere(recipe) is not None:
                    _drop_kept(world, recipe)  # it had come half-way
            return "refused"
        if record is not None and world.registry.elsewhere(recipe) is None:
            raise CanonqError(
                f"{recipe} has a canonical here on {world.hosts.own}, too ({record.version}); what {source} has was not taken.",
                mend=f"look at both; `canonq move {recipe} {source} --give-up`, here, leaves that of {source}.",
                code="on-two-hosts",
            )
        _bring(world, mark, source, stage)
    hosts_flow.tell_of(world, recipe)
    return "arrived"


def _keep(world: World, mark: Elsewhere, source: str) -> str:
    """Note that the canonical here stays, so that the one of `source` may go, or that there is none for which it could.

    What is on its way from here is neither: it is seen when it is there. Where both are given up for each other, the one of the
    host whose name comes first stays.
    """
    recipe = mark.recipe
    with _holding(world, recipe, f"stay, as {source} gives its own up"):
        own = world.registry.elsewhere(recipe)
        why = _why_not_kept(world, recipe, own)
        if why is None and own is not None:
            if not (own.give_up and own.to == source and str(world.hosts.own) < source):
                return "not-yet"
            world.registry.is_here_again(recipe)
        _note(world, recipe, REFUSED if why else KEEPS, mark.move)
    hosts_flow.tell_of(world, recipe)
    if why:
        log.warning("%s: what %s has of it is not given up for the canonical here: %s", recipe, source, why)
    return "refused" if why else "kept"


def _why_not_kept(world: World, recipe: str, own: Elsewhere | None) -> str | None:
    """Why no other canonical may be given up for the one here; None where it is whole."""
    if own is not None and own.state == "gone":
        return f"it has gone to {own.to}"
    try:
        record = world.registry.read(recipe)
    except RecordUnreadable as error:
        return error.what
    if record is None or record.snapshot is None:
        return "there is none with a snapshot"
    return snapshots.problem_of(record.snapshot)


def _note(world: World, recipe: str, name: str, move: str) -> None:
    """Put a move into one of the files of them. The caller holds the recipe."""
    path = world.registry.folder(recipe) / name
    write_json(path, {"moves": sorted({*_moves_in(path), move})})


def _mark(world: World, recipe: str, source: str, stage: Path) -> Elsewhere:
    """What the other host's disk says of where the recipe goes."""
    path = fetcher(world).fetch(source, f"warm/{recipe}/{ELSEWHERE}", stage / "mark")
    try:
        return Elsewhere.model_validate(readable_json(path))
    except ValueError as error:
        raise HostProblem(f"What {source} says of where {recipe} goes cannot be read: {error}.", code="fetch-failed") from error


def _bring(world: World, mark: Elsewhere, source: str, stage: Path) -> None:
    recipe = mark.recipe
    fetch = fetcher(world)
    if strange := sorted(set(mark.parts) - set(_all_parts(recipe))):
        raise HostProblem(f"{source} would send {shown(strange[0])}, which is not a part of {recipe}.", code="fetch-failed")
    came = Registry(stage / "warm")
    fetch.fetch(source, f"warm/{recipe}/{RECORD}", stage / "warm" / recipe)
    record = came.read(recipe)
    name = came.name_of(record)
    if record is None or record.snapshot is None or name is None or record.fence != mark.fence:
        raise HostProblem(
            f"What {source} has of {recipe} is not what it said that leaves: its record was changed since, by somebody else.",
            mend=f"`canonq move {recipe} {source}` takes it back; look at `canonq status {recipe}` there, then move it again.",
            code="fetch-failed",
        )
    room = Need(state=record.snapshot.bytes * (world.settings.keep + 1), volumes=record.snapshot.unpacked)
    with room_for(world, f"the move of {recipe} from {source}", room, otherwise=make_room) as kept_free:
        for part in mark.parts:
            fetch.fetch(source, part, (stage / part).parent)
        _prove(came, record, record.snapshot, source)
        world.locks.carry(recipe, max(mark.fence, came.newest_fence(recipe)))
        with _holding(world, recipe, f"move from {source}") as held:
            if mark.move in _moves_in(world.registry.folder(recipe) / REFUSED):
                return
            if world.registry.elsewhere(recipe) is None:
                # What is put in place would be taken for this host's own, whose record was lost. It is that of the other one.
                there = mark.model_copy(update={"state": "gone", "to": source, "at": world.stamp(), "parts": []})
                world.registry.set_elsewhere(there)
            _put_in_place(world, recipe, stage)
            sync_tree(world.registry.folder(recipe))  # the other host lets go of its own for the record that is written next
            here = str(world.registry.generation(recipe, name) / Path(record.snapshot.path).name)
            _switch(world, record, record.snapshot.model_copy(update={"path": here}), mark, source, held, stage, kept_free)


def _prove(came: Registry, record: Canonical, snapshot: Snapshot, source: str) -> None:
    """CanonqError when the canonical did not come whole; older ones that did not are left out."""
    if problem := snapshots.problem_of(snapshot):
        raise HostProblem(
            f"The canonical of {record.recipe} did not come whole from {source}: {problem}. Nothing was switched.",
            mend="look at the way between the hosts: owners, times, links and attributes of files have to come as they are "
            "(`rsync -aHAX --numeric-ids`, as root). It is tried again.",
            code="fetch-failed",
        )
    present = came.name_of(record)
    for one in came.all_generations(record.recipe):
        kept = one.record.snapshot if one.record else None
        if one.name != present and (kept is None or snapshots.problem_of(kept)):
            log.warning("%s: the kept canonical %s is damaged on %s, and is left out", record.recipe, one.name, source)
            remove_tree(came.generation(record.recipe, one.name))


def _put_in_place(world: World, recipe: str, stage: Path) -> None:
    """Put what came where it belongs. None of it is in force by that; what was here of an earlier time gives way."""
    state = world.settings.state
    moved = [(path, state / "warm" / recipe / KEPT / path.name) for path in sorted((stage / "warm" / recipe / KEPT).glob("*"))]
    moved += [(path, state / "runs" / recipe / path.name) for path in sorted((stage / "runs" / recipe).glob("*"))]
    moved += [(stage / "repos" / recipe, state / "repos" / recipe)]
    moved += [(path, state / "steering" / path.name) for path in sorted((stage / "steering").glob("*"))]
    for source, target in moved:
        if not source.exists():
            continue
        with told(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                remove_tree(target)
            os.rename(source, target)


def _switch(
    world: World, record: Canonical, kept: Snapshot, mark: Elsewhere, source: str, held: Held, stage: Path, room: Reservation
) -> None:
    """Make its volumes of the snapshot that is kept here now, look once more that it still leaves, and write the record: from
    then on it is here."""
    owner = world.new_id(record.recipe)
    with alive(world.work / owner, stoppable=False):
        try:
            volumes = unpack_retained(world, record, kept, owner, room, f"The move of {record.recipe} from {source}")
            if _mark(world, record.recipe, source, stage) != mark:
                raise Busy(
                    f"The move of {record.recipe} from {source} was taken back.", mend="nothing has to be done.", code="moving"
                )
            stamp = world.stamp()
            arrived = Arrived(move=mark.move, came_from=source, at=stamp, fence=record.fence)
            new = record.model_copy(
                update={"volumes": volumes, "snapshot": kept, "fence": held.fence, "ts": stamp, "arrived": arrived}
            )
            hosts_flow.tell_coming(world, new.recipe, new.version, new.fence)
            world.registry.write(new, held)
        except BaseException:
            if not is_in_force(world, record.recipe, held):
                with contextlib.suppress(CanonqError):
                    world.ownership.remove_owned({LABEL_OWNER: owner}, world.settings.teardown_timeout)
                hosts_flow.tell_of(world, record.recipe)
                raise
        finally:
            remove_tree(world.work / owner)
    world.registry.is_here_again(record.recipe)
    if (now := world.registry.read(record.recipe)) is not None:
        world.registry.mark(now)
    log.info("%s: its canonical %s has come from %s", record.recipe, record.version, source)


def _moves_in(path: Path) -> set[str]:
    found = readable_json(path).get("moves", [])
    return {str(one) for one in found} if isinstance(found, list) else set()


# -- a host that is to have nothing any more ----------------------------------------------------------------


def drained(world: World) -> list[tuple[str, str]]:
    """What leaves this host next as it is being drained: one recipe and where it goes, or nothing. One at a time."""
    known = hosts_flow.known(world)
    own = next((one for one in known if one.name == world.hosts.own), None)
    if own is None or own.joined.state != "draining" or leaving(world):
        return []
    members = [one.member() for one in known]
    for recipe, claim in sorted((own.claims or {}).items()):
        if claim.version is None or claim.leaving is not None:
            continue
        try:
            enrolment = world.checkout.enrolment(recipe)
            wanted = hosts_flow.wanted(world, enrolment)
        except CanonqError:  # it is enrolled no more; its canonical goes all the same
            wanted = Wanted(recipe)
        placed = least_loaded(wanted, members, other_than={own.name})
        pin = wanted.pin if wanted.pin in {one.name for one in members if one.alive and not one.draining} else None
        if (host := pin or placed.host) is not None:
            return [(recipe, host)]
        log.warning("%s: %s", recipe, placed.detail)
    return []
