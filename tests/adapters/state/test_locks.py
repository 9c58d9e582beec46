"""Leases, file locks and fences, with a real Redis and real files (docs/decisions/0005-locks.md)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.locks import HeldRecipe, RedisLocks, read_fence, redis_client
from canonq.core.errors import HostProblem, LockLost, WrongUse
from tests.support import ROOT

OFTEN = 0.05  #: seconds between two renewals of a lease that itself is long: no test waits for one to run out
KEY = "canonq:registry:site"
HOLDER = """
import sys, time
from pathlib import Path
from canonq.adapters.state.locks import RedisLocks, redis_client

url, warm, instance, lease = sys.argv[1:]
with RedisLocks(lambda: redis_client(url), Path(warm), instance=instance, lease=float(lease)).hold("site", "the dead") as held:
    print("held" if held else "busy", flush=True)
    time.sleep(3600)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded_redis() as found:
        yield found


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with redis_client(url) as found:
        found.flushall()
        yield found


@pytest.fixture
def warm(tmp_path: Path) -> Path:
    return tmp_path / "warm"


def locks(
    client: redis.Redis,
    warm: Path,
    *,
    instance: str = "here",
    renew_every: float = OFTEN,
    clock: Callable[[], float] = time.monotonic,
) -> RedisLocks:
    return RedisLocks(lambda: client, warm, instance=instance, lease=600.0, renew_every=renew_every, clock=clock)


def eventually(true: Callable[[], bool]) -> bool:
    ends = time.monotonic() + 120
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def can_be_had(of: RedisLocks, recipe: str = "site") -> bool:
    with of.hold(recipe, "asking") as held:
        return held is not None


def fence_of(of: RedisLocks) -> int:
    with of.hold("site", "counting") as held:
        assert held is not None
        return held.fence


def is_lost(held: HeldRecipe) -> bool:
    try:
        held.check()
    except LockLost:
        return True
    return False


def killed_holder(url: str, warm: Path, *, instance: str) -> None:
    """A process that held the recipe and died by SIGKILL."""
    command = [sys.executable, "-c", HOLDER, url, str(warm), instance, "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert said == "held\n"


@pytest.mark.parametrize(("query", "database"), [("", 0), ("?virtual_host=3", 3)])
def test_a_socket_is_named_as_celery_names_it_with_its_database(query: str, database: int) -> None:
    asked = redis_client(f"redis+socket:///run/a%20folder/redis.sock{query}").connection_pool.connection_kwargs
    assert (asked["path"], asked.get("db", 0)) == ("/run/a folder/redis.sock", database)


def test_who_is_alone_needs_neither_redis_nor_a_fence_and_keeps_others_out(client: redis.Redis, warm: Path) -> None:
    away = RedisLocks(lambda: redis_client("redis://127.0.0.1:1/0"), warm, instance="here")
    with away.alone("site") as first:
        assert first
        assert not can_be_had(locks(client, warm))
    assert not (warm / "site" / "registry.fence").exists()
    with locks(client, warm).hold("site", "a promotion"), away.alone("site") as second:
        assert not second
    moved = RedisLocks(lambda: client, warm, instance="here", elsewhere=lambda _: "it has gone to birch")
    with moved.alone("site") as third:
        assert not third


def test_the_second_holder_is_told_busy_and_by_whom(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "promote run-1") as first:
        assert first is not None
        with locks(client, warm).hold("site", "promote run-2") as second:
            assert second is None
        holder = locks(client, warm).holder("site")
        assert holder is not None
        assert holder["holder"] == "promote run-1"
        assert abs(holder["since"] - time.time()) < 60
        first.check()


def test_another_installation_on_the_same_redis_is_busy_too(client: redis.Redis, warm: Path, tmp_path: Path) -> None:
    with locks(client, warm).hold("site", "first") as first:
        assert first is not None
        assert not can_be_had(locks(client, tmp_path / "other", instance="there"))
    assert can_be_had(locks(client, tmp_path / "other", instance="there"))


def test_after_release_it_can_be_had_and_nobody_holds_it(client: redis.Redis, warm: Path) -> None:
    assert can_be_had(locks(client, warm))
    assert locks(client, warm).holder("site") is None
    assert can_be_had(locks(client, warm))


def test_it_is_released_when_the_work_fails(client: redis.Redis, warm: Path) -> None:
    with pytest.raises(RuntimeError, match="the work"), locks(client, warm).hold("site", "failing"):
        raise RuntimeError("the work")
    assert can_be_had(locks(client, warm))


def test_of_many_at_once_one_gets_it(client: redis.Redis, warm: Path) -> None:
    got: list[bool] = []
    all_tried = threading.Barrier(8)

    def try_it() -> None:
        with locks(client, warm).hold("site", "one of many") as held:
            got.append(held is not None)
            all_tried.wait(300)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [False] * 7 + [True]


def test_recipes_do_not_block_each_other(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "first") as held:
        assert held is not None
        assert can_be_had(locks(client, warm), "blog")


def test_a_run_and_a_promotion_do_not_block_each_other(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "test", lane="run") as running:
        assert running is not None
        with locks(client, warm).hold("site", "promote") as promoting:
            assert promoting is not None
            running.check()
            promoting.check()
            with locks(client, warm).hold("site", "test again", lane="run") as second:
                assert second is None


def test_who_runs_a_recipe_is_told_as_its_holder(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "test 1.0.0+1", lane="run"):
        assert (locks(client, warm).holder("site") or {})["holder"] == "test 1.0.0+1"


def test_fences_only_grow(client: redis.Redis, warm: Path) -> None:
    fences = [fence_of(locks(client, warm)) for _ in range(3)]
    assert fences == sorted(set(fences))


def test_fences_grow_after_redis_was_flushed(client: redis.Redis, warm: Path) -> None:
    before = [fence_of(locks(client, warm)) for _ in range(3)][-1]
    client.flushall()
    after = [fence_of(locks(client, warm)) for _ in range(2)]
    assert before < after[0] < after[1]


def test_fences_grow_on_a_redis_that_came_back_empty(client: redis.Redis, warm: Path) -> None:
    before = [fence_of(locks(client, warm)) for _ in range(3)][-1]
    with embedded_redis() as other, redis_client(other) as empty:
        assert fence_of(locks(empty, warm)) > before


def test_fences_grow_when_the_disk_forgot_but_redis_did_not(client: redis.Redis, warm: Path) -> None:
    before = [fence_of(locks(client, warm)) for _ in range(3)][-1]
    (warm / "site" / "registry.fence").unlink()
    assert fence_of(locks(client, warm)) > before


def test_the_newest_fence_is_on_disk(client: redis.Redis, warm: Path) -> None:
    assert read_fence(warm / "site" / "registry.fence") == 0
    assert read_fence(warm / "site" / "registry.fence") < fence_of(locks(client, warm))
    assert read_fence(warm / "site" / "registry.fence") == 1


def test_a_fence_that_cannot_be_read_is_told_with_its_path(client: redis.Redis, warm: Path) -> None:
    fence_of(locks(client, warm))
    (warm / "site" / "registry.fence").write_text("many")
    with pytest.raises(HostProblem, match=r"registry\.fence"):
        can_be_had(locks(client, warm))


def test_who_could_not_get_a_fence_does_not_stay_on_show_as_the_holder(client: redis.Redis, warm: Path) -> None:
    fence_of(locks(client, warm))
    (warm / "site" / "registry.fence").write_text("many")
    with pytest.raises(HostProblem):
        can_be_had(locks(client, warm))
    assert locks(client, warm).holder("site") is None


@pytest.mark.parametrize("lose", ["delete", "flush", "replace"])
def test_a_holder_whose_lease_was_lost_cannot_write(client: redis.Redis, warm: Path, lose: str) -> None:
    with locks(client, warm).hold("site", "first") as held:
        assert held is not None
        held.check()
        if lose == "delete":
            client.delete(KEY)
        elif lose == "flush":
            client.flushall()
        else:
            client.set(KEY, json.dumps({"holder": "second", "instance": "there"}))
        assert eventually(lambda: is_lost(held))


def test_who_lost_the_lease_leaves_the_next_ones_alone(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "first") as held:
        assert held is not None
        client.set(KEY, json.dumps({"holder": "second", "instance": "there"}))
        assert eventually(lambda: is_lost(held))
    assert (locks(client, warm).holder("site") or {})["holder"] == "second"


def test_a_holder_is_lost_before_its_lease_runs_out_when_redis_dies(warm: Path) -> None:
    now = 0.0
    tried: list[float] = []

    def clock() -> float:
        tried.append(now)
        return now

    with embedded_redis() as mortal:
        hold = locks(redis_client(mortal), warm, clock=clock).hold("site", "first")
        held = hold.__enter__()
    assert held is not None
    now = 390.0  # of the lease's 600 s
    assert eventually(lambda: tried.count(390.0) > 5)
    assert not is_lost(held), "a Redis that is away for a moment ends nobody's work"
    now = 410.0
    assert eventually(lambda: is_lost(held))
    hold.__exit__(None, None, None)


def test_a_holder_that_slept_through_its_lease_cannot_write_though_nobody_has_told_it_yet(
    client: redis.Redis, warm: Path
) -> None:
    now = 0.0
    with locks(client, warm, renew_every=3600, clock=lambda: now).hold("site", "first") as held:
        assert held is not None
        now = 599.0
        held.check()
        now = 601.0
        with pytest.raises(LockLost):
            held.check()


def test_a_flushed_redis_does_not_make_two_writers(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "first") as held:
        assert held is not None
        client.flushall()
        assert not can_be_had(locks(client, warm))


def test_another_redis_does_not_make_two_writers(client: redis.Redis, warm: Path) -> None:
    with embedded_redis() as other, redis_client(other) as empty, locks(client, warm).hold("site", "first") as held:
        assert held is not None
        assert not can_be_had(locks(empty, warm))


def test_a_stale_lock_file_that_is_removed_makes_no_second_writer(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "first") as held:
        assert held is not None
        for path in (warm / "site").iterdir():
            path.unlink()
        assert locks(client, warm).is_held("site")
        assert not can_be_had(locks(client, warm))


@pytest.mark.long
def test_who_only_looks_keeps_nobody_from_the_recipe(client: redis.Redis, warm: Path) -> None:
    ours = locks(client, warm)
    assert can_be_had(ours)
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            ours.is_held("site")

    looker = threading.Thread(target=look)
    looker.start()
    try:
        assert [can_be_had(ours) for _ in range(50)] == [True] * 50
    finally:
        over.set()
        looker.join()


def test_a_holder_that_wakes_up_behind_a_later_one_cannot_write(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm, renew_every=3600).hold("site", "late") as late:
        assert late is not None
        (warm / "site").rename(warm / "aside")  # as where a file system has forgotten its locks
        shutil.copytree(warm / "aside", warm / "site")
        client.flushall()
        with locks(client, warm).hold("site", "later") as later:
            assert later is not None
            later.check()
            with pytest.raises(LockLost, match=f"fence {later.fence}"):
                late.check()


def test_who_has_given_the_recipe_back_cannot_write(client: redis.Redis, warm: Path) -> None:
    with locks(client, warm).hold("site", "first") as held:
        assert held is not None
    with pytest.raises(LockLost):
        held.check()


def test_a_killed_holder_frees_the_recipe_at_once(url: str, client: redis.Redis, warm: Path) -> None:
    killed_holder(url, warm, instance="here")
    assert client.ttl(KEY) > 60
    assert can_be_had(locks(client, warm, instance="here"))


def test_a_killed_holder_of_another_installation_frees_it_when_its_lease_ends(
    url: str, client: redis.Redis, warm: Path, tmp_path: Path
) -> None:
    killed_holder(url, tmp_path / "other", instance="there")
    assert not can_be_had(locks(client, warm, instance="here"))
    assert 60 < client.ttl(KEY) <= 600, "it ends by itself"
    client.pexpire(KEY, 1)
    assert eventually(lambda: can_be_had(locks(client, warm, instance="here")))


def test_the_lease_is_renewed_while_it_is_held_longer_than_it_lasts(client: redis.Redis, warm: Path, tmp_path: Path) -> None:
    with locks(client, warm).hold("site", "slow") as held:
        assert held is not None
        for _ in range(3):
            assert client.expire(KEY, 300)
            assert eventually(lambda: client.ttl(KEY) > 300)
        held.check()
        assert not can_be_had(locks(client, tmp_path / "other", instance="there"))


def test_no_renewal_goes_on_after_the_release(client: redis.Redis, warm: Path) -> None:
    assert can_be_had(locks(client, warm))
    assert not [thread for thread in threading.enumerate() if thread.name == "lease-site"]


def test_a_token_nobody_can_read_is_an_unknown_holder(client: redis.Redis, warm: Path) -> None:
    for token in ("not json", "[]"):
        client.set(KEY, token)
        assert locks(client, warm).holder("site") == {"holder": "unknown"}
        assert not can_be_had(locks(client, warm))


def test_a_redis_that_is_away_is_the_hosts_problem(warm: Path, tmp_path: Path) -> None:
    nowhere = redis_client(f"redis+socket://{tmp_path}/no.sock")
    for ask in (lambda: can_be_had(locks(nowhere, warm)), lambda: locks(nowhere, warm).holder("site")):
        with pytest.raises(HostProblem) as told:
            ask()
        assert told.value.code == "redis-unreachable"


def test_a_bad_name_touches_neither_disk_nor_redis(client: redis.Redis, warm: Path) -> None:
    with pytest.raises(WrongUse), locks(client, warm).hold("../site", "evil"):
        pass
    assert not warm.exists()
    assert not client.keys()
