"""A short search each time, and two faults made on purpose that it has to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.locks import redis_client
from canonq.core.records import Canonical, RolledBack
from canonq.core.retention import Generation, Retention
from canonq.flows import promote
from canonq.flows.keeping import leftovers
from tests import memory
from tests.search.house import House
from tests.search.moves import Move
from tests.search.search import Search, make
from tests.search.stage import staged

pytestmark = pytest.mark.long

#: Changed now and then, so that in the course of time other sequences are played; each failure names its own.
SEED = 20261128
SHORT = 4  #: sequences
PATIENCE = 300.0  #: seconds; the faults made on purpose are found in a few
ORDERS = ("release", "night", "rollback", "clock")


@pytest.fixture(scope="module")
def search() -> Iterator[Search]:
    with embedded_redis() as url, TemporaryDirectory(dir=memory.place()) as folder:
        yield Search(url, Path(folder))


def test_nothing_is_broken_by_random_orders_of_what_may_happen(search: Search) -> None:
    """`make search` goes on for hours."""
    found = search.run(SEED, seconds=PATIENCE, most=SHORT)
    assert not found.broken, found
    assert found.moves >= 60


#: What the search has found in times before, each a few lines: the next one finds these at once.
FOUND = {
    "a sweep that waited is no word for what was rolled back since": [
        "night 0", "release 0", "night 0", "sweep 1", "rollback 0", "night 0",
    ],
    "a share that waited is none, either": [
        "night 0", "release 0", "night 0", "second 0", "move 0", "deliver 0", "deliver 0", "sweep 1", "rollback 0", "night 0",
    ],
    "a call that waits for a worker is none, either": ["night 0", "release 0", "night 0", "call 0", "rollback 0", "night 0"],
    "who has a release tested when it was gone back from may promote it": [
        "prove+promote 0", "release 0", "prove+promote 0", "rollback 0 beside 47 prove+promote", "promote 0",
    ],
    "a lock file that is removed lets nobody in beside the writer": [
        "prove 0", "promote 0", "release 0", "prove 0", "night 0 beside 246 lose_locks+rollback",
    ],
    "a lost mark of one that others came from costs it nothing": [
        "night 0", "release 0", "night 0", "spoil_record 0", "rollback 0", "spoil_kept 2",
    ],
    "one gone back to itself still says where it came from": [
        "night 0", "again 0", "spoil_kept 1", "lose_record 0", "rollback 0", "spoil_kept 2",
    ],
    "one made anew and left pushes out nobody": [
        "night 0", "release 0", "night 0", "again 0", "rollback 1", "release 0", "night 0",
    ],
    "one made anew, left and gone back to, is the one that was left": [
        "night 0", "release 0", "night 0", "prove 0", "again 0", "rollback 3",
        "rollback 1 beside 1 lose_locks+rollback", "rollback 1",
    ],
    "one made anew and left leaves the one before it where it is, also when it is gone itself": [
        "prove 0", "promote 0", "release 0", "night 0", "again 0", "rollback 1",
        "release 0", "prove 0", "promote 0", "rollback 0",
    ],
    "one rolled back stays so when a newer one that went past it is rolled back as well": [
        "prove 0", "promote 0", "release 0", "night 0 docker-away 20", "night 0", "rollback 0",
        "release 0", "night 0", "upkeep 0", "rollback 0", "night 0",
    ],
    "one that a rollback went past makes room for those that the present one came from": [
        "night 0", "release 0", "night 0", "release 0", "night 0", "prove 0", "again 3 killed 213", "rollback 2",
    ],
    "what leaves a host again is not in force there when it is told once more that it has come": [
        "night 0", "second 0", "move 0", "deliver 0", "go_over 0", "move 0",
    ],
    "a host that gives its canonical up while Docker is away keeps none of its volumes": [
        "night 0", "second 0", "move 0", "deliver 0", "deliver 0 docker-away 1",
    ],
    "a host that gives its canonical up keeps no scratch folder of the promotion that was killed behind its switch": [
        "release+prove 0", "second 0", "promote 0 killed 216", "move 0",
    ],
}  # fmt: skip


@pytest.mark.parametrize("moves", FOUND.values(), ids=list(FOUND))
def test_what_was_found_is_mended(search: Search, moves: list[str]) -> None:
    assert search.broken_by([Move.read(line) for line in moves]) is None


def test_a_chain_that_was_lost_is_sent_again_while_it_is_searched(redis_url: str, tmp_path: Path) -> None:
    """Upkeep passes over what fails for one recipe, so a stand-in that no longer takes what it is given would not show."""
    house = House(tmp_path, redis_client(redis_url), redis_url).prepare()
    with staged(house):
        house.sweep()
        house.lose()
        house.upkeep(1)
        assert [(one.step, one.sweep) for one in house.queue] == [("sync", house.world().sweeps.open_sweeps()[0])]


def by_the_clock(present: str | None, found: Sequence[Generation], keep: int) -> Retention:
    """The newest by their dates are kept: what a clock that was ahead has made pushes out what came after."""
    dated = sorted(found, key=lambda one: str(one.record.promoted_at) if one.record else "")
    stay = [one for one in dated if one in dated[-keep:] or one.name == present]
    return Retention(stay, [(one, "older") for one in dated if one not in stay])


def only_the_last(self: Canonical, version: str, commit: str) -> RolledBack | None:
    """A record has room for one release that was rolled back."""
    return next((back for back in self.rolled_back[-1:] if (back.version, back.commit) == (version, commit)), None)


@pytest.mark.parametrize(
    ("make_it", "rules", "seed"),  # not far before the one that finds it: what is shown is that it is found
    [
        (lambda patched: patched.setattr(leftovers, "retain", by_the_clock), ("4 the last `keep` stay", "4 no more than"), 7),
        (lambda patched: patched.setattr(Canonical, "held", only_the_last), ("5.2 nothing comes back",), 90),
    ],
    ids=["kept-by-the-clock", "one-room-for-rollbacks"],
)
def test_a_fault_made_on_purpose_is_found_and_shrunk_to_a_few_lines_that_show_it_again(
    search: Search,
    monkeypatch: pytest.MonkeyPatch,
    make_it: Callable[[pytest.MonkeyPatch], None],
    rules: tuple[str, ...],
    seed: int,
) -> None:
    with monkeypatch.context() as patched:
        make_it(patched)
        found = search.run(seed, seconds=PATIENCE, moves=20, only=ORDERS, shrink_seconds=PATIENCE)
        assert found.broken.startswith(rules), found
        assert len(found.shrunk) <= 12, found
        lines = [str(move) for move in found.shrunk]
        assert search.broken_by([Move.read(line) for line in lines]) == found.broken
    assert search.broken_by(found.shrunk) is None, "without the fault the same lines break nothing"


def test_a_gate_that_is_not_asked_again_under_the_lock_is_found_by_what_comes_in_between(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = ["night 0", "release 0", "night 0", "release+prove 0", "promote 0 beside 1 rollback"]
    sequence, asked = [Move.read(line) for line in moves], promote._ask_gate
    assert search.broken_by(sequence) is None
    with monkeypatch.context() as patched:
        patched.setattr(
            promote, "_ask_gate", lambda world, recipe, *more: () if world.locks.is_held(recipe) else asked(world, recipe, *more)
        )
        assert (search.broken_by(sequence) or "").startswith("2 proven from what it came from")


def test_a_seed_makes_the_same_sequence_again() -> None:
    assert make(7) == make(7) != make(8)
    assert [Move.read(str(move)) for move in make(7)] == make(7)
