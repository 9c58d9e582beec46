"""Where a recipe is worked on, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from canonq.core.sweeps.placement import Claim, Member, Wanted, bound, least_loaded, place, place_anew

HERE = Claim("1.0.0+1", 4, "20260101T000000Z")
RAN = Claim(None, 0, "20260101T000000Z")
SAID = Claim(words="20260101T000000Z")
SAID_LATER = Claim(words="20260102T000000Z")


def member(name: str, claims: Mapping[str, Claim] | None = None, **more: Any) -> Member:
    return Member(name, claims={} if claims is None else claims, **more)


@pytest.mark.parametrize(
    ("pin", "members", "host", "reason"),
    [
        (None, [Member("a")], "a", "alone"),
        ("a", [Member("a", claims=None)], "a", "alone"),
        ("b", [Member("a")], None, "host-unknown"),
        ("b", [member("a"), member("b")], "b", "pinned"),
        ("b", [member("a"), member("b", alive=False)], None, "host-away"),
        ("c", [member("a"), member("b")], None, "host-unknown"),
        ("b", [member("a"), member("b", draining=True)], None, "host-draining"),
        ("b", [member("a"), member("b", {"site": HERE}, draining=True)], "b", "canonical"),
        ("b", [member("a"), member("c"), member("b", removed=True)], None, "host-removed"),
        (None, [member("a"), member("b", {"site": HERE})], "b", "canonical"),
        ("a", [member("a"), member("b", {"site": HERE})], "b", "canonical"),
        (None, [member("a"), member("b", {"site": HERE}, draining=True)], "b", "canonical"),
        (None, [member("a"), member("b", {"site": HERE}, alive=False)], None, "host-away"),
        (None, [member("a"), member("c"), member("b", {"site": HERE}, removed=True)], "a", "room"),
        (None, [member("a", {"site": HERE}), member("b", {"site": HERE})], None, "on-two-hosts"),
        (None, [member("a"), member("b", {"site": Claim("1.0.0+1", 4, "", "a")})], None, "moving"),
        (None, [member("a"), Member("b", claims=None)], None, "not-told-yet"),
        ("a", [member("a"), Member("b", claims=None)], None, "not-told-yet"),
        (None, [member("a", {"site": HERE}), Member("b", claims=None)], "a", "canonical"),
        (None, [member("a"), member("b", {"site": RAN})], "b", "history"),
        (None, [member("a", {"site": RAN}), member("b", {"site": SAID})], "b", "words"),
        (None, [member("a", {"site": SAID}), member("b", {"site": SAID_LATER})], "b", "words"),
        (None, [member("a", {"site": HERE}), member("b", {"site": SAID})], "a", "canonical"),
        (None, [member("a"), member("b", {"site": SAID}, alive=False)], None, "host-away"),
        (None, [member("a"), member("c"), member("b", {"site": SAID}, removed=True)], "a", "room"),
        ("a", [member("a"), member("b", {"site": SAID})], "a", "pinned"),
        (None, [member("a"), member("b", {"site": RAN}, draining=True)], "a", "room"),
        (None, [member("a"), member("b", {"site": RAN}, alive=False)], "a", "room"),
        (None, [member("a", disk=10), member("b", disk=1000)], "b", "room"),
        (None, [member("a", memory=10), member("b", memory=1000)], "b", "room"),
        (None, [member("a", load=2.0), member("b", load=0.5)], "b", "room"),
        (None, [member("a", light=0, heavy=0), member("b")], "b", "room"),
        (None, [member("a", disk=10), member("b", disk=10)], None, "no-host-fits"),
        (None, [member("a", draining=True), member("b", alive=False)], None, "no-host-fits"),
    ],
)  # fmt: skip
def test_a_recipe_goes_to_its_pin_else_to_its_canonical_else_where_there_is_room(
    pin: str | None, members: list[Member], host: str | None, reason: str
) -> None:
    found = place([Wanted("site", pin, 60.0, memory=100, disk=100)], members)["site"]
    assert (found.host, found.reason) == (host, reason), found
    assert "site" in found.detail or host is not None
    assert (host is None) == ("Mend: " in found.detail or reason == "moving")


def test_a_pin_that_its_canonical_is_not_on_is_told_with_the_way_there() -> None:
    found = place([Wanted("site", "a")], [member("a"), member("b", {"site": HERE})])["site"]
    assert "canonq move site a" in found.notes[0]


def test_what_was_said_where_it_does_not_count_any_more_is_told() -> None:
    found = place([Wanted("site", "a")], [member("a"), member("b", {"site": SAID})])["site"]
    assert "what people said of releases of site is not on a, where it is pinned: say it there" in found.notes[0]


@pytest.mark.parametrize(
    ("pin", "members", "host"),
    [
        (None, [member("a"), member("b")], None),
        (None, [member("a"), member("b", {"site": SAID}, alive=False)], "b"),
        ("a", [member("a", alive=False), member("b", {"site": SAID})], "a"),
        ("c", [member("a"), member("b")], None),
        (None, [member("a"), member("b", {"site": SAID}, removed=True)], None),
    ],
)
def test_where_words_are_to_be_said_is_known_also_while_that_host_is_away(pin: str, members: list[Member], host: str) -> None:
    assert bound(Wanted("site", pin), members) == host


def test_many_are_spread_by_what_they_take_beside_those_that_are_bound() -> None:
    bound = [Wanted(f"bound-{number}", seconds=600.0) for number in range(6)]
    free = [Wanted(f"free-{number}", seconds=600.0) for number in range(6)]
    claims = {one.recipe: HERE for one in bound}
    found = place([*bound, *free], [member("a", claims), member("b"), member("c")])
    assert [found[one.recipe].host for one in bound] == ["a"] * 6
    assert sorted(str(found[one.recipe].host) for one in free) == ["b", "b", "b", "c", "c", "c"]


def test_who_leaves_a_host_goes_to_the_least_loaded_that_may_have_it() -> None:
    members = [member("a"), member("b", load=3.0), member("c", load=1.0), member("d", draining=True)]
    assert least_loaded(Wanted("site"), members, other_than={"a"}).host == "c"
    assert least_loaded(Wanted("site"), members[:1], other_than={"a"}).reason == "no-host-fits"


@pytest.mark.parametrize(
    ("pin", "members", "host"),
    [
        (None, [member("a"), member("b", alive=False)], "a"),
        (None, [member("a"), member("b", {"site": RAN}, alive=False)], "a"),
        (None, [member("a"), member("b", {"site": RAN})], "a"),
        (None, [member("a"), member("b", removed=True)], "a"),
        (None, [member("a", alive=False), member("b", alive=False)], None),
        (None, [member("a", draining=True), member("b", alive=False)], None),
        (None, [member("a", disk=1), member("b", alive=False)], None),
        (None, [member("a"), member("b", {"site": HERE}, alive=False)], None),
        (None, [member("a"), member("b", {"site": SAID}, alive=False)], None),
        ("b", [member("a"), member("b", alive=False)], None),
        (None, [member("a"), Member("b", alive=False, claims=None)], None),
        (None, [member("a"), member("b", alive=False), member("c", {"site": HERE})], "c"),
    ],
)
def test_what_a_host_cannot_do_goes_to_another_unless_it_is_bound_to_it(
    pin: str | None, members: list[Member], host: str | None
) -> None:
    found = place_anew([Wanted("site", pin, 60.0, disk=2)], members, {"b"})
    assert (found["site"].host if "site" in found else None) == host


def test_a_recipe_whose_last_runs_were_on_a_host_that_is_full_by_now_is_placed_anew() -> None:
    members = [member("a", disk=9), member("b", {"site": RAN}, disk=1)]
    assert place([Wanted("site", disk=2)], members)["site"].host == "a"
    assert place([Wanted("site", disk=1)], members)["site"].reason == "history"
