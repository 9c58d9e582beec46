"""Addresses of a Redis that sentinels know."""

from __future__ import annotations

import pytest

from canonq.core.sentinels import Sentinels, is_of_sentinels, sentinels_in
from canonq.settings import redis_address

MANY = "sentinel://:p%40ss@10.0.0.1:26379,[fd00::2]:26380,three/2?master=ours"


def test_an_address_names_those_who_are_asked_and_the_master() -> None:
    found = sentinels_in(MANY)
    places = (("10.0.0.1", 26379), ("fd00::2", 26380), ("three", 26379))
    assert found == Sentinels(places, "ours", 2, None, "p@ss")
    assert found.for_celery == (
        "sentinel://:p%40ss@10.0.0.1:26379/2;sentinel://:p%40ss@[fd00::2]:26380/2;sentinel://:p%40ss@three:26379/2"
    )
    assert sentinels_in("sentinel://ada:x@one?master=ours").user == "ada"
    assert redis_address(f" {MANY} ") == MANY
    assert is_of_sentinels(MANY)
    assert not is_of_sentinels("redis://127.0.0.1/0")


@pytest.mark.parametrize(
    "wrong",
    ["sentinel://one", "sentinel://one?master=", "sentinel://?master=x", "sentinel://one,?master=x", "sentinel://one:0?master=x",
     "sentinel://one:x?master=x", "sentinel://one/name?master=x", "sentinel://one?master=x&ssl=1", "sentinel://one?master=x#y",
     "sentinel://one?master=x&master=y"],
)  # fmt: skip
def test_one_that_is_none_is_refused_without_its_password(wrong: str) -> None:
    with pytest.raises(ValueError, match="address of sentinels"):
        redis_address(wrong)
