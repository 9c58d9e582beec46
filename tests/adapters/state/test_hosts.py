"""Who has joined a broker, on a real Redis: also after it has forgotten everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from canonq.adapters.state.hosts import Facts, Hosts
from canonq.adapters.state.locks import redis_client
from canonq.core.errors import CanonqError, WrongConfiguration, WrongUse
from canonq.core.sweeps.placement import Claim

NOW = "20260101T000000Z"
SITE = {"site": Claim("1.0.0+1", 3, NOW)}


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis_client(redis_url) as found:
        found.flushall()
        yield found


def hosts(place: Path, name: str, client: redis.Redis) -> Hosts:
    (place / name).mkdir(exist_ok=True)
    return Hosts(place / name, lambda: client, f"instance-of-{name}", lease=60.0, wanted=name)


@pytest.fixture
def both(tmp_path: Path, client: redis.Redis) -> tuple[Hosts, Hosts]:
    ash, birch = hosts(tmp_path, "ash", client), hosts(tmp_path, "birch", client)
    ash.join(NOW)
    birch.join(NOW, asked=True)
    ash.tell(SITE)
    birch.tell({})
    for one in (ash, birch):
        one.beat(Facts())
        one.learn()
    return ash, birch


def test_the_first_joins_by_itself_and_a_stranger_only_when_asked(tmp_path: Path, client: redis.Redis) -> None:
    ash, birch = hosts(tmp_path, "ash", client), hosts(tmp_path, "birch", client)
    assert ash.join(NOW) == ash.own == "ash"
    assert ash.join(NOW) == "ash", "again, it is the same"
    with pytest.raises(WrongConfiguration) as refused:
        birch.join(NOW)
    assert refused.value.code == "host-not-joined"
    assert "ash" in str(refused.value)
    assert birch.own is None
    with pytest.raises(WrongConfiguration) as taken:
        birch.join(NOW, asked=True, name="ash")
    assert taken.value.code == "host-name-taken"
    assert birch.join(NOW, asked=True) == "birch"
    assert birch.join(NOW, asked=True, name="elm") == "elm"
    assert [one.name for one in ash.learn()] == ["ash", "elm"], "the old name is gone with all that it had"


def test_a_redis_that_has_forgotten_everything_is_told_again(
    both: tuple[Hosts, Hosts], client: redis.Redis, tmp_path: Path
) -> None:
    ash, birch = both
    client.flushall()
    found = {one.name: one for one in birch.all()}
    assert found["ash"].claims == SITE, "known from its own disk"
    assert not found["ash"].alive
    assert birch.join(NOW) == "birch"
    assert {one.name: one.claims for one in birch.learn()}["ash"] == SITE
    with pytest.raises(WrongConfiguration):
        hosts(tmp_path, "stranger", client).join(NOW)
    ash.must_be_known()
    assert ash.join(NOW) == "ash"


def test_who_was_removed_does_not_start_again_and_is_in_again_when_asked(both: tuple[Hosts, Hosts]) -> None:
    ash, birch = both
    ash.mark("birch", "removed", "its disk broke")
    with pytest.raises(WrongConfiguration) as refused:
        birch.join(NOW)
    assert refused.value.code == "host-removed"
    assert "its disk broke" in str(refused.value)
    assert not ash.are_several()
    assert birch.join(NOW, asked=True) == "birch"
    ash.learn()
    assert ash.are_several()
    with pytest.raises(WrongUse):
        ash.mark("nobody", "removed")


def test_who_lives_is_told_by_the_clock_of_redis_and_without_redis_nobody_does(both: tuple[Hosts, Hosts]) -> None:
    ash, _ = both
    assert [one.alive for one in ash.learn()] == [True, True]
    away = Hosts(ash._state, lambda: redis_client("redis://127.0.0.1:1/0"), "instance-of-ash", lease=60.0, wanted=None)
    assert away.own == "ash"
    assert [(one.name, one.alive) for one in away.all()] == [("ash", False), ("birch", False)]
    with pytest.raises(CanonqError) as told:
        away.learn()
    assert told.value.code == "redis-unreachable"


def test_claims_that_cannot_be_read_are_not_told_yet_and_never_none(both: tuple[Hosts, Hosts], client: redis.Redis) -> None:
    _, birch = both
    client.hset("canonq:claims:ash", "site", "{]")
    assert {one.name: one.claims for one in birch.learn()}["ash"] == SITE, "what was known before stays"
    client.hset("canonq:hosts", "../x", '{"instance": "x", "joined": "x"}')
    client.hset("canonq:hosts", "elm", "{]")
    assert [one.name for one in birch.learn()] == ["ash", "birch"]


def test_a_copied_state_folder_is_no_host(tmp_path: Path, client: redis.Redis) -> None:
    ash = hosts(tmp_path, "ash", client)
    ash.join(NOW)
    other = Hosts(tmp_path / "ash", lambda: client, "another-instance", lease=60.0, wanted=None)
    assert other.own is None


def test_what_is_told_after_redis_has_forgotten_everything_counts_beside_what_was_known_before(
    both: tuple[Hosts, Hosts], client: redis.Redis
) -> None:
    ash, birch = both
    client.flushall()
    birch.learn()
    assert not ash.has_told()
    ash.tell_one("wiki", Claim("2.0.0+1", 1, NOW))
    (known,) = [one for one in birch.learn() if one.name == "ash"]
    assert known.claims == {**SITE, "wiki": Claim("2.0.0+1", 1, NOW)}
    assert not known.told, "there may be more by now"
    (of_wiki,) = [one for one in birch.learn_of("wiki") if one.name == "ash"]
    assert (of_wiki.claims, of_wiki.told) == ({"wiki": Claim("2.0.0+1", 1, NOW)}, False)
    (of_site,) = [one for one in birch.learn_of("site") if one.name == "ash"]
    assert (of_site.claims and of_site.claims["site"], of_site.told) == (SITE["site"], False)
    ash.tell(SITE)
    assert ash.has_told()
    (of_site,) = [one for one in birch.learn_of("site") if one.name == "ash"]
    assert of_site.told


def test_of_two_that_remember_a_host_who_has_heard_the_later_word_is_right(
    both: tuple[Hosts, Hosts], client: redis.Redis
) -> None:
    ash, birch = both
    ash.mark("birch", "draining")  # which ash has heard, and birch has not, as it is cut off
    client.flushall()
    birch.learn()
    assert {one.name: one.joined.state for one in ash.learn()} == {"ash": "in", "birch": "draining"}
    assert {one.name: one.joined.state for one in birch.learn()} == {"ash": "in", "birch": "draining"}
    ash.mark("birch", "in")
    client.flushall()
    ash.learn()
    assert {one.name: one.joined.state for one in birch.learn()} == {"ash": "in", "birch": "in"}
