"""A canonical goes from host to host: whatever is killed, and whenever, it is whole, and in force on one of them alone."""

from __future__ import annotations

import contextlib
import errno
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import workers.tasks
from canonq.adapters.data import archives
from canonq.adapters.data.snapshots import problem_of
from canonq.adapters.state.registry import RECORD
from canonq.core.deployable import LABEL_INSTANCE
from canonq.core.errors import Busy, CanonqError, HostProblem, WrongConfiguration, WrongUse
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.records import Canonical, Promotion, Verdict
from canonq.flows import hosts as hosts_flow
from canonq.flows.keeping.janitor import clean
from canonq.flows.promote import promote
from canonq.flows.promoting import transaction
from canonq.flows.promoting.rollback import rollback
from canonq.flows.promoting.transaction import Transaction
from canonq.flows.sweeps import moving
from canonq.flows.sweeps.moving import arrive, begin_anew, drained, leave, leaving, settle
from canonq.flows.sync import sync
from canonq.flows.world import World
from canonq.settings import HostsSettings
from tests.fakes import LINEAGE
from tests.faults.scenario import Faults, breaking
from tests.hosts.house import House, Machine, house_in

pytestmark = pytest.mark.long

FORKS = multiprocessing.get_context("fork")


@pytest.fixture
def house(tmp_path: Path, redis_url: str) -> Iterator[House]:
    with house_in(tmp_path, redis_url, "ash", "birch") as made:
        made.redis.flushall()
        made.enrol("site")
        made.join()
        yield made


def proven(machine: Machine, version: str, minutes: int) -> Promotion:
    """Promote a release by a green verdict, so many minutes from now: ids sort by the second."""
    world = replace(machine.world, now=lambda: datetime.now(UTC) + timedelta(minutes=minutes))
    sync(world, "site")
    run = world.new_id("site")
    world.runs.make("site", run)
    now = world.registry.read("site")
    verdict = Verdict(
        recipe="site", run=run, verdict="green", reason="proven", detail="", version=version,
        commit=world.repos.tags("site")[version], enrolment=world.checkout.digest("site"), level=5,
        base=now.version if now else None, base_commit=now.commit if now else None,
        base_from="canonical" if now else "none", fence=now.fence if now else 0,
        tiers={tier: TierResult(status="pass") for tier in PROVEN_TIERS},
        images=world.engine.ensure_images(["site:1"], 1), ts=world.stamp(), disk_bytes=1,
    )  # fmt: skip
    verdict = verdict.model_copy(update={"images": {"app": verdict.images["site:1"]}})
    world.runs.record(verdict)
    return promote(world, "site")


def with_two(house: House) -> Canonical:
    """Two canonicals on ash; the present one."""
    assert proven(house["ash"], "1.0.0+1", 0).outcome == "promoted"
    house.release("site", "1.1.0+2")
    assert proven(house["ash"], "1.1.0+2", 1).outcome == "promoted"
    record = house["ash"].world.registry.read("site")
    assert record is not None
    return record


def in_force(world: World) -> Canonical | None:
    """The canonical that this host may do anything with."""
    return world.registry.read("site") if world.registry.elsewhere("site") is None else None


def is_whole(house: House, where: str, lived: list[str]) -> str | None:
    """Who has the canonical in force, if anybody: it is whole there. On its way it is whole where it leaves."""
    found = {name: record for name, one in house.machines.items() if (record := in_force(one.world)) is not None}
    assert len(found) <= 1, f"{where}: on {sorted(found)}"
    for name, one in house.machines.items():
        record = one.world.registry.read("site")
        if record is None or (name not in found and found):
            continue  # what is given up goes bit by bit
        assert record.snapshot is not None, where
        assert problem_of(record.snapshot) is None, where
        for volume in record.volumes:
            path = one.world.engine.volume_path(volume)
            assert path is not None, f"{where}: {volume} on {name}"
            assert (path / LINEAGE).read_text().split() == lived, where
    assert found or any(one.record("site") for one in house.machines.values()), f"{where}: it is nowhere"
    return next(iter(found), None)


def whole_move(house: House, source: str, to: str) -> None:
    """What tasks and upkeep do, one after the other; done again from the beginning after a crash."""
    a, b = house[source].world, house[to].world
    if a.registry.read("site") is not None or a.registry.elsewhere("site") is not None:
        for mark in leaving(a) or [found for found in [leave(a, "site", to, by="ada")] if found]:
            if mark.state == "leaving":
                arrive(b, "site", source, mark.move)
            settle(a, "site")


def killed(at: int, names: Path, act: Callable[[], Any]) -> bool:
    """Do it in a process of its own that is killed at a point; whether it came that far."""

    def child() -> None:
        with breaking(Faults("kill", at, names), "kill"):
            act()
        os._exit(0)

    names.unlink(missing_ok=True)
    process = FORKS.Process(target=child)
    process.start()
    process.join(600)
    if process.exitcode == -signal.SIGKILL:
        return True
    assert process.exitcode == 0, f"{process.exitcode}: {names.read_text().splitlines()[-3:]}"
    return False


def test_a_canonical_moves_with_all_that_is_kept_of_it_and_its_fence_goes_on(house: House) -> None:
    before = with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None
    assert leave(ash, "site", "birch", by="ada") == mark, "asked again, it is the same"
    assert in_force(ash) is None
    with pytest.raises(Busy):
        rollback(ash, "site", to=None, reason="it lost mail", who="ada")
    assert promote(ash, "site").outcome == "already"
    assert settle(ash, "site") == "leaving", "it is not there yet, so nothing is given up"
    assert arrive(birch, "site", "ash", "20260101T000000Z-abcdef") == "not-leaving", "what a message says is not believed"
    with pytest.raises(WrongUse, match="No host called 'elder' has joined"):
        arrive(birch, "site", "elder", mark.move)  # whose disk would say whatever it likes
    assert birch.registry.read("site") is None
    assert arrive(birch, "site", "ash", mark.move) == arrive(birch, "site", "ash", mark.move) == "arrived"
    assert settle(ash, "site") == "gone"
    assert settle(ash, "site") == "gone"
    after = in_force(birch)
    assert after is not None
    assert (after.version, after.commit, after.run) == (before.version, before.commit, before.run)
    assert after.fence > before.fence
    assert [one.version for one in birch.registry.generations("site")] == ["1.0.0+1", "1.1.0+2"]
    assert len(birch.runs.verdicts("site")) == 2
    assert birch.repos.known("site") == birch.repos.tags("site")
    assert house["ash"].record("site") == {}
    assert not list((ash.settings.state / "warm" / "site" / "canonicals").glob("*"))
    assert ash.engine.owned({LABEL_INSTANCE: ash.instance})["volumes"] == []
    clean(ash)
    clean(birch)
    assert is_whole(house, "after the janitor", ["1.0.0+1", "1.1.0+2"]) == "birch"

    # It lives on there: back to the one before, on to a newer one, and home again.
    rollback(birch, "site", to=None, reason="it lost mail", who="ada")
    house.release("site", "1.2.0+3")
    assert proven(house["birch"], "1.2.0+3", 2).outcome == "promoted"
    whole_move(house, "birch", "ash")
    back = in_force(house["ash"].world)
    assert back is not None
    assert (back.version, [one.version for one in back.rolled_back]) == ("1.2.0+3", ["1.1.0+2"])
    assert back.fence > after.fence
    assert hosts_flow.where_is(house["birch"].world, "site") == "ash"
    assert proven(house["birch"], "1.2.0+3", 3).outcome == "busy", "nobody seeds a second one"


def taken_back(house: House, source: str, to: str) -> None:
    """A move that a person takes back at once."""
    a, b = house[source].world, house[to].world
    mark = leave(a, "site", to, by="ada")
    assert mark is not None
    leave(a, "site", source, by="ada")
    arrive(b, "site", source, mark.move)
    settle(a, "site")


@pytest.mark.parametrize("act", [whole_move, taken_back])
def test_killed_at_any_point_it_is_whole_on_one_host_and_done_again_it_ends(
    house: House, act: Callable[[House, str, str], None], request: pytest.FixtureRequest
) -> None:
    with_two(house)
    lived = ["1.0.0+1", "1.1.0+2"]
    stride = 11 * int(request.config.getoption("--crash-stride"))
    names, at, points = house.below / "points", 1, 0
    source, to = "ash", "birch"
    while killed(at, names, functools.partial(act, house, source, to)):
        where = f"{act.__name__}, point {at}: {names.read_text().splitlines()[-1]}"
        points, at = points + 1, at + stride
        is_whole(house, where, lived)
        house.redis.delete("canonq:registry:site", "canonq:run:site")  # the dead one's lease ends; others wait for it
        act(house, source, to)
        if act is whole_move:
            source, to = to, source
        assert is_whole(house, where, lived) == source, where
        for one in house.machines.values():
            clean(one.world)
            assert list((one.world.settings.state / "arriving").glob("*")) == [], where
            record = one.world.registry.read("site")
            owned = one.world.engine.owned({LABEL_INSTANCE: one.world.instance})["volumes"]
            assert owned == (sorted(record.volumes) if record else []), where
        assert is_whole(house, f"{where}, after the janitor", lived) == source
    assert points >= 3, points


def test_a_move_is_taken_back_as_long_as_it_has_not_ended(house: House) -> None:
    before = with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None
    assert leave(ash, "site", "ash", by="ada") is not None
    assert settle(ash, "site") == "leaving", "the other host may be at it: it has to refuse it first"
    assert arrive(birch, "site", "ash", mark.move) == "refused"
    assert settle(ash, "site") == "here"
    assert in_force(ash) == before
    whole_move(house, "ash", "birch")
    assert is_whole(house, "moved after all", ["1.0.0+1", "1.1.0+2"]) == "birch"
    with pytest.raises(WrongUse):
        leave(ash, "site", "ash", by="ada")


@pytest.mark.parametrize("then", ["goes on", "is taken back"])
def test_what_has_come_half_way_is_still_the_other_hosts(house: House, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    """Kept canonicals without a record look like a host's own whose record was lost: nobody may go back to one of them there."""
    before = with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(moving, "_switch", full)
        with pytest.raises(OSError, match="No space left"):
            arrive(birch, "site", "ash", mark.move)
    assert birch.registry.all_generations("site")
    assert hosts_flow.claim(birch, "site").version is None
    for back in (None, "1.0.0+1", "1.1.0+2"):
        with pytest.raises(Busy, match="ash"):
            rollback(birch, "site", to=back, reason="it lost mail", who="ada")
    if then == "goes on":
        assert arrive(birch, "site", "ash", mark.move) == "arrived"
        assert settle(ash, "site") == "gone"
        assert in_force(ash) is None
        assert (now := in_force(birch)) is not None
        assert now.version == before.version
    else:
        leave(ash, "site", "ash", by="ada")
        assert arrive(birch, "site", "ash", mark.move) == "refused"
        assert settle(ash, "site") == "here"
        assert birch.registry.all_generations("site") == [], "it takes no room"
        assert in_force(ash) == before
        assert (again := leave(ash, "site", "birch", by="ada")) is not None
        assert arrive(birch, "site", "ash", again.move) == "arrived"


def test_a_host_that_never_had_it_seeds_no_second_one(house: House) -> None:
    with_two(house)
    answer = proven(house["birch"], "1.1.0+2", 3)
    assert (answer.outcome, answer.reason) == ("refused", "kept-elsewhere")
    assert house["birch"].record("site") == {}


def test_a_first_canonical_that_nobody_heard_of_is_known_all_the_same_and_no_second_one_is_made(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its host was cut off between the switch and its word about it, so that all it has ever said is that it would make one."""
    ash, birch = house["ash"].world, house["birch"].world
    with monkeypatch.context() as cut:
        cut.setattr("canonq.flows.promote.tell_of", lambda *_: None)
        assert proven(house["ash"], "1.0.0+1", 0).outcome == "promoted"
    house.silence("ash")
    placed = hosts_flow.place_one(birch, birch.checkout.enrolment("site"))
    assert placed is not None
    assert placed.reason == "host-away"
    answer = proven(house["birch"], "1.0.0+1", 1)
    assert (answer.outcome, answer.reason) == ("refused", "kept-elsewhere")
    assert house["birch"].record("site") == {}
    assert not list(birch.work.glob("*")), "nothing is left of what was not begun"
    House.tell(house["birch"])
    House.tell(house["ash"])
    assert hosts_flow.canonicals_elsewhere(birch, "site") == ["ash"]
    assert hosts_flow.canonicals_elsewhere(ash, "site") == [], "who gave way has taken its word back"


def test_of_two_hosts_that_make_a_first_canonical_at_once_not_both_do(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease of the first ran out while its process slept between its word and its work."""
    answers: list[Promotion] = []
    monkeypatch.setattr("canonq.flows.promote.canonicals_elsewhere", lambda *_: [])  # both have asked before either spoke

    def sleeps(tx: Transaction) -> None:
        house.redis.delete("canonq:registry:site")
        with monkeypatch.context() as awake:
            awake.setattr("canonq.flows.promote.carry_out", transaction.carry_out)
            answers.append(proven(house["birch"], "1.0.0+1", 1))
        transaction.carry_out(tx)

    with monkeypatch.context() as asleep:
        asleep.setattr("canonq.flows.promote.carry_out", sleeps)
        answers.append(proven(house["ash"], "1.0.0+1", 0))
    (birch, ash) = answers
    assert (birch.outcome, birch.reason) == ("refused", "kept-elsewhere")
    assert ash.outcome in ("promoted", "failed"), "its lease may have run out by now"
    assert house["birch"].record("site") == {}


def test_a_promotion_that_fails_takes_its_word_back(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(tx: Transaction) -> None:
        del tx
        raise HostProblem("the disk is full", code="disk-full")

    with monkeypatch.context() as full:
        full.setattr("canonq.flows.promote.carry_out", fails)
        assert proven(house["ash"], "1.0.0+1", 0).outcome == "failed"
    assert hosts_flow.canonicals_elsewhere(house["birch"].world, "site") == []
    assert proven(house["birch"], "1.0.0+1", 1).outcome == "promoted"


def test_what_a_person_says_where_nobody_would_hear_it_is_refused_with_the_host_that_would(house: House) -> None:
    with_two(house)
    house.join()
    for typed in (("block", "site", "1.1.0+2", "--reason", "it loses mail"), ("sync", "site", "--accept-moved", "1.1.0+2")):
        said = house["birch"].canonq(*typed)
        assert said.status == 2, said
        assert "is on the host ash" in said.err
        assert f"canonq {typed[0]} site" in said.err
    assert house["birch"].world.steering.words("site") == house["ash"].world.steering.words("site") == ()


def test_what_is_said_before_there_is_a_canonical_counts_as_the_recipe_is_worked_on_where_it_was_said(house: House) -> None:
    for one in house.machines.values():
        sync(one.world, "site")
    word = ("block", "site", "1.0.0+1", "--reason", "it loses mail")
    assert house["birch"].canonq(*word).status == 0
    placed = hosts_flow.place_one(house["ash"].world, house["ash"].world.checkout.enrolment("site"))
    assert placed is not None
    assert (placed.host, placed.reason) == ("birch", "words")
    said = house["ash"].canonq(*word)
    assert (said.status, "is on the host birch" in said.err) == (2, True), said
    assert house["ash"].world.steering.words("site") == ()
    house.enrol("site", 'host = "ash"\n')
    assert "pins site to the host ash" in house["birch"].canonq("hurry", "site", "1.0.0+1", "--reason", "now").err
    assert house["ash"].canonq(*word).status == 0


def test_what_does_not_come_whole_is_not_switched_and_nothing_is_lost(house: House) -> None:
    with_two(house)
    lived = ["1.0.0+1", "1.1.0+2"]
    ash, birch = house["ash"].world, house["birch"].world
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None
    spoil = 'cp -a -- "$1" "$2"; find "$2" -name "volumes.tar.zst" -exec sh -c \'echo x >>"$1"\' - {} \\;'
    spoiling = [f"{house.below}/{{host}}/state/{{path}}", "{target}"]
    broken = replace(
        birch, settings=birch.settings.model_copy(update={"hosts": HostsSettings(fetch=["sh", "-c", spoil, "-", *spoiling])})
    )
    cut = replace(
        birch, settings=birch.settings.model_copy(update={"hosts": HostsSettings(fetch=["false", "{path}", "{target}"])})
    )
    for world in (broken, cut):
        with pytest.raises(CanonqError) as told:
            arrive(world, "site", "ash", mark.move)
        assert told.value.code == "fetch-failed"
        assert birch.registry.read("site") is None
    assert settle(replace(ash, settings=cut.settings), "site") == "leaving", "what cannot be seen is not given up"
    assert arrive(birch, "site", "ash", mark.move) == "arrived"
    # A record on the other host that did not come by this move gives nothing up.
    path = birch.settings.state / "warm" / "site" / RECORD
    kept = path.read_text()
    path.write_text(kept.replace(mark.move, "20260101T000000Z-abcdef"))
    assert settle(ash, "site") == "leaving"
    path.write_text(kept)
    # What is left here is damaged by then: it is given up all the same.
    (ash.settings.state / "warm" / "site" / RECORD).write_text("{")
    assert settle(ash, "site") == "gone"
    assert is_whole(house, "after all", lived) == "birch"


def test_where_it_cannot_go_and_what_cannot_be_moved_is_told(house: House) -> None:
    ash = house["ash"].world
    with pytest.raises(WrongUse) as told:
        leave(ash, "site", "birch", by="ada")
    assert told.value.code == "no-canonical"
    with_two(house)
    for to, code in (("elm", "host-unknown"), ("../x", "bad-host-name")):
        with pytest.raises(WrongUse) as told:
            leave(ash, "site", to, by="ada")
        assert told.value.code == code
    mute = replace(ash, settings=ash.settings.model_copy(update={"hosts": HostsSettings()}))
    with pytest.raises(WrongConfiguration) as unset:
        leave(mute, "site", "birch", by="ada")
    assert unset.value.code == "no-fetch"
    assert in_force(ash) is not None


def test_a_drained_host_names_what_leaves_it_next_and_where_to(house: House) -> None:
    with_two(house)
    house.join()
    ash = house["ash"].world
    assert drained(ash) == []
    ash.hosts.mark("ash", "draining")
    assert drained(ash) == [("site", "birch")]
    whole_move(house, "ash", "birch")
    assert drained(ash) == []
    assert is_whole(house, "drained", ["1.0.0+1", "1.1.0+2"]) == "birch"


def test_who_is_cut_off_when_a_canonical_has_come_has_said_before_that_it_comes(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the switch and its word about it: nobody may take the recipe for one that is nowhere."""
    with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    house.join()
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None
    with monkeypatch.context() as cut:
        cut.setattr(hosts_flow, "tell_of", lambda *_: None)
        assert arrive(birch, "site", "ash", mark.move) == "arrived"
    assert settle(ash, "site") == "gone"
    assert begin_anew(ash) == []
    house.redis.hdel("canonq:claims:birch", "site")  # as where Redis itself has lost its last seconds
    house.silence("birch")
    assert begin_anew(ash) == [], "it is away, and may have it"
    House.tell(house["birch"])
    assert begin_anew(ash) == []
    assert hosts_flow.canonicals_elsewhere(ash, "site") == ["birch"]


def test_what_has_come_is_on_the_disk_before_it_is_in_force(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other host gives its own up for that record: power that is lost just then must not cost both."""
    with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None
    warm, made_durable = birch.settings.state / "warm" / "site", []
    runs = archives.run_checked

    def noted(command: list[str], what: str) -> None:
        runs(command, what)
        if command == ["sync", "--file-system", str(warm)]:
            made_durable.append((len(list((warm / "canonicals").glob("*"))), (warm / RECORD).exists()))

    monkeypatch.setattr(archives, "run_checked", noted)
    assert arrive(birch, "site", "ash", mark.move) == "arrived"
    assert made_durable == [(2, False)]


def test_what_cannot_be_said_to_come_is_not_switched(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    house.join()
    mark = leave(ash, "site", "birch", by="ada")
    assert mark is not None

    def away(*_: object) -> None:
        raise HostProblem("Redis is away.")

    with monkeypatch.context() as cut:
        cut.setattr(type(birch.hosts), "tell_one", away)
        with pytest.raises(HostProblem, match="Redis is away"):
            arrive(birch, "site", "ash", mark.move)
    assert house["birch"].record("site") == {}
    assert birch.engine.owned({LABEL_INSTANCE: birch.instance})["volumes"] == []

    def full(*_: object) -> None:
        raise HostProblem("The disk is full.")

    with monkeypatch.context() as broken:
        broken.setattr(type(birch.registry), "write", full)
        with pytest.raises(HostProblem, match="The disk is full"):
            arrive(birch, "site", "ash", mark.move)
    assert hosts_flow.canonicals_elsewhere(ash, "site") == [], "it has taken its word back"
    assert arrive(birch, "site", "ash", mark.move) == "arrived"
    assert settle(ash, "site") == "gone"


def on_both(house: House) -> None:
    """A canonical on each host, as when each was alone before."""
    with_two(house)
    ash, birch = house["ash"].world, house["birch"].world
    house.redis.flushall()
    (birch.settings.state / "hosts.json").unlink()
    (birch.settings.state / "host.json").unlink()
    birch.hosts.join(birch.stamp())
    assert proven(house["birch"], "1.1.0+2", 5).outcome == "promoted"
    house.redis.flushall()
    ash.hosts.join(ash.stamp(), asked=True)
    house.join()


def damage(machine: Machine) -> None:
    """A bit of its present snapshot is lost."""
    record = machine.world.registry.read("site")
    assert record is not None
    assert record.snapshot is not None
    with Path(record.snapshot.path).open("ab") as file:
        file.write(b"x")


def test_of_two_canonicals_one_is_given_up_by_a_person_alone(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    on_both(house)
    ash, birch = house["ash"].world, house["birch"].world
    placed = hosts_flow.place_one(ash, ash.checkout.enrolment("site"))
    assert placed is not None
    assert placed.reason == "on-two-hosts"
    mark = leave(ash, "site", "birch", by="ada", give_up=True)
    assert mark is not None
    sent = list[tuple[object, ...]]()
    with monkeypatch.context() as queues:
        queues.setattr(workers.tasks, "_send", lambda *word: sent.append(word))
        workers.tasks.send_move(ash, mark)
    assert sent == [("birch", "canonq.arrive", "site", "ash", mark.move)], "birch is asked"
    assert settle(ash, "site") == "leaving", "birch has not said that it keeps its own"
    with pytest.raises(WrongUse, match="on its way to birch") as told:
        leave(birch, "site", "ash", by="ben", give_up=True)
    assert told.value.code == "moving"
    assert arrive(birch, "site", "ash", mark.move) == arrive(birch, "site", "ash", mark.move) == "kept"
    assert settle(ash, "site") == "gone"
    assert house["ash"].record("site") == {}
    assert in_force(birch) is not None


@pytest.mark.parametrize("first", ["ash", "birch"])
def test_where_each_of_two_is_given_up_for_the_other_the_one_whose_host_comes_first_stays(
    house: House, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    on_both(house)
    worlds = {name: house[name].world for name in ("ash", "birch")}
    other = {"ash": "birch", "birch": "ash"}
    with monkeypatch.context() as cut:
        cut.setattr(hosts_flow, "tell_of", lambda *_: None)  # at the same moment: neither has heard of the other's
        marks = {name: leave(worlds[name], "site", other[name], by="ada", give_up=True) for name in other}
    for name in (first, other[first]):
        assert settle(worlds[name], "site") == "leaving"
    for name in (first, other[first]):
        mark = marks[name]
        assert mark is not None
        with contextlib.suppress(HostProblem):  # it has been taken back by now
            arrive(worlds[other[name]], "site", name, mark.move)
        settle(worlds[name], "site")
    for name in (first, other[first]):  # as upkeep asks again
        for one in leaving(worlds[name]):
            arrive(worlds[other[name]], "site", name, one.move)
            settle(worlds[name], "site")
    assert in_force(worlds["ash"]) is not None
    assert settle(worlds["ash"], "site") == "here"
    assert house["birch"].record("site") == {}


def test_a_give_up_is_taken_back_at_once_also_while_the_other_host_cannot_be_read(house: House) -> None:
    on_both(house)
    ash, birch = house["ash"].world, house["birch"].world
    before = in_force(ash)
    cut = ash.settings.model_copy(update={"hosts": HostsSettings(fetch=["false", "{path}", "{target}"])})
    alone = replace(ash, settings=cut)
    mark = leave(alone, "site", "birch", by="ada", give_up=True)
    assert mark is not None
    assert settle(alone, "site") == "leaving"
    assert arrive(birch, "site", "ash", mark.move) == "kept"
    assert leave(alone, "site", "ash", by="ada") is None
    assert in_force(ash) == before
    assert settle(ash, "site") == "here"
    with pytest.raises(HostProblem):
        arrive(birch, "site", "ash", mark.move)
    assert in_force(ash) == before
    # As an older canonq has noted it.
    ash.registry.set_elsewhere(mark.model_copy(update={"taken_back": True}))
    assert arrive(birch, "site", "ash", mark.move) == "not-leaving"
    assert settle(ash, "site") == "here"
    assert in_force(ash) == before


def test_nothing_is_given_up_for_a_canonical_that_is_not_there_or_not_whole(house: House) -> None:
    before = with_two(house)
    house.join()
    ash, birch = house["ash"].world, house["birch"].world
    with pytest.raises(WrongUse, match="birch has no canonical of site") as told:
        leave(ash, "site", "birch", by="ada", give_up=True)
    assert told.value.code == "no-canonical"
    house.redis.flushall()  # what it has is not known
    mark = leave(ash, "site", "birch", by="ada", give_up=True)
    assert mark is not None
    assert arrive(birch, "site", "ash", mark.move) == "refused"
    assert settle(ash, "site") == "here"
    assert in_force(ash) == before
    house.redis.flushall()
    house.redis.delete("canonq:cluster")
    (birch.settings.state / "hosts.json").unlink()
    (birch.settings.state / "host.json").unlink()
    birch.hosts.join(birch.stamp())
    assert proven(house["birch"], "1.1.0+2", 5).outcome == "promoted"
    house.redis.flushall()
    ash.hosts.join(ash.stamp(), asked=True)
    house.join()
    damage(house["birch"])
    mark = leave(ash, "site", "birch", by="ada", give_up=True)
    assert mark is not None
    assert arrive(birch, "site", "ash", mark.move) == "refused"
    assert settle(ash, "site") == "here"
    assert in_force(ash) == before
    record = birch.registry.folder("site") / "canonical.json"
    was = record.read_bytes()
    record.write_bytes(b"{")
    hosts_flow.tell_of(birch, "site")
    mark = leave(ash, "site", "birch", by="ada", give_up=True)
    assert mark is not None
    assert arrive(birch, "site", "ash", mark.move) == "refused"
    assert settle(ash, "site") == "here"
    assert (in_force(ash), record.read_bytes()) == (before, b"{")
    record.write_bytes(was)
    hosts_flow.tell_of(birch, "site")
    # The damaged one itself may go.
    mark = leave(birch, "site", "ash", by="ada", give_up=True)
    assert mark is not None
    assert arrive(ash, "site", "birch", mark.move) == "kept"
    assert settle(birch, "site") == "gone"
    assert in_force(ash) == before


def test_while_redis_has_forgotten_what_another_host_has_no_first_canonical_is_made(house: House) -> None:
    ash, birch = house["ash"].world, house["birch"].world
    assert proven(house["ash"], "1.0.0+1", 0).outcome == "promoted"
    house.redis.flushall()  # before birch has heard of it
    hosts_flow.known(birch)
    answer = proven(house["birch"], "1.0.0+1", 1)
    assert (answer.outcome, answer.reason) == ("busy", "not-told-yet")
    assert house["birch"].record("site") == {}
    hosts_flow.tell(ash, everything=False)  # what the upkeep of each host does all the time
    answer = proven(house["birch"], "1.0.0+1", 2)
    assert (answer.outcome, answer.reason) == ("refused", "kept-elsewhere")
    house.release("site", "1.1.0+2")
    house.redis.flushall()
    hosts_flow.known(ash)
    assert proven(house["ash"], "1.1.0+2", 3).outcome == "promoted", "of one that is here nobody else needs to speak"


def test_what_was_on_its_way_to_a_host_that_is_removed_is_in_force_again(house: House) -> None:
    before = with_two(house)
    ash = house["ash"].world
    assert leave(ash, "site", "birch", by="drain") is not None
    assert settle(ash, "site") == "leaving"
    ash.hosts.mark("birch", "removed", "its disk is broken")
    assert settle(ash, "site") == "here"
    assert in_force(ash) == before


def test_a_host_that_was_removed_is_not_let_in_by_a_drain_and_the_only_one_is_not_drained(house: House) -> None:
    ash = house["ash"].world
    for undo in (False, True):
        with pytest.raises(WrongUse) as told:
            hosts_flow.drain(ash, "elm", undo=undo)
        assert told.value.code == "host-unknown"
    hosts_flow.drain(ash, "birch")
    with pytest.raises(WrongUse) as told:
        hosts_flow.drain(ash, "ash")
    assert told.value.code == "no-other-host"
    with_two(house)
    with pytest.raises(WrongUse) as told:
        leave(ash, "site", "birch", by="ada")
    assert told.value.code == "host-draining"
    hosts_flow.drain(ash, "birch", undo=True)
    ash.hosts.mark("birch", "removed", "its disk is broken")
    for undo in (False, True):
        with pytest.raises(WrongUse) as told:
            hosts_flow.drain(ash, "birch", undo=undo)
        assert told.value.code == "host-removed"


def test_what_was_lost_with_the_host_that_it_had_gone_to_may_be_begun_anew_where_it_was_before(house: House) -> None:
    with_two(house)
    ash = house["ash"].world
    whole_move(house, "ash", "birch")
    house.join()
    assert begin_anew(ash) == [], "birch has it"
    house.redis.flushall()
    assert begin_anew(ash) == [], "and is believed to have it until it has told all again"
    House.tell(house["birch"])
    assert begin_anew(ash) == []
    house.redis.delete("canonq:host:birch")  # it is away, and does not come back
    assert begin_anew(ash) == []
    ash.hosts.mark("birch", "removed", "its disk is broken")
    assert begin_anew(ash) == ["site"]
    assert begin_anew(ash) == []
    assert proven(house["ash"], "1.1.0+2", 5).outcome == "promoted"
