"""Which tags are releases, and in which order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.names import ref_problem
from canonq.core.versions import NotARelease, Release, newest_older, parse, read_tags, tie_broken_by_app, version_key

IN_ORDER = [
    "0.2.0+v0.4",
    "0.9.9",
    "1.0.0-rc.2+8.2",
    "1.0.0-rc.10+8.2",
    "1.0.0+v1.6.870-0",
    "1.1.1+6-alpine",
    "1.3.0+6.42.0-alpine",
    "1.3.0+6.43.0-alpine",
    "1.9.0+1.0",
    "1.10.0+1.0",
    "1.13.0+1.31.1",
    "2.0.1+1.0.6-social-amd64",
    "2.1.12+10.11.19",
    "3.0.1+2024.06.37",
    "3.0.1+v9.0.0",
    "3.0.1+v10.0.0",
    "3.5.3+1.24.2-rootless",
    "5.0.3+27.0.1-fpm",
    "6.0.0+28.0.0-fpm",
]
tags = st.builds(
    "{}.{}.{}{}{}".format,
    st.integers(0, 12),
    st.integers(0, 12),
    st.integers(0, 12),
    st.sampled_from(["", "-rc.1", "-rc.2", "-beta.3"]),
    st.sampled_from(["", "+1.0", "+v1.0", "+1.0-alpine", "+2024.06.37", "+1.10.0", "+1.0-rc1", "+6-alpine"]),
)


def releases(*names: str) -> tuple[Release, ...]:
    found, _ = read_tags(dict.fromkeys(names, "c" * 40), prereleases=True)
    return found


def test_real_tags_are_ordered_as_a_person_orders_them() -> None:
    # 3.0.1+2024.06.37 stands before v9.0.0 only by its name here; equal recipe parts fall to the app part's numbers.
    by_hand = [tag for tag in IN_ORDER if tag != "3.0.1+2024.06.37"]
    assert [release.tag for release in releases(*reversed(by_hand))] == by_hand


@given(a=tags, b=tags, c=tags)
def test_the_order_is_total_and_ignores_the_order_of_input(a: str, b: str, c: str) -> None:
    x, y = version_key(a), version_key(b)
    assert [x < y, x == y, x > y].count(True) == 1
    assert all(sorted(p, key=version_key) == sorted([a, b, c], key=version_key) for p in itertools.permutations([a, b, c]))


@given(tag=tags)
def test_the_raw_tag_is_the_identity(tag: str) -> None:
    parsed = parse(tag, "c" * 40)
    assert isinstance(parsed, Release)
    assert parsed.tag == tag


@pytest.mark.parametrize(
    "tag", ["v2.4.8", "1.14.1-rootless_1", "2024.06.37", "1.2", "1.2.3.4+1", "main", "", "01.2.3+1", "1.2.3+"]
)
def test_legacy_tags_are_no_releases_and_say_why(tag: str) -> None:
    parsed = parse(tag)
    assert isinstance(parsed, NotARelease)
    assert parsed.reason


@pytest.mark.parametrize("tag", ["1.0.0+$(id)", "1.0.0+a b", "-1.0.0", "1.0.0+..", "1.0.0+ü", "1.0.0+;x", "1.0.0+" + "9" * 250])
def test_hostile_tags_are_no_releases(tag: str) -> None:
    assert isinstance(parse(tag), NotARelease)


@given(text=st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    parsed = parse(text)
    if isinstance(parsed, Release):
        version_key(text)


def test_pre_releases_are_releases_only_when_asked_for() -> None:
    both = {"1.0.0+1": "a" * 40, "1.1.0-rc.1+1": "b" * 40}
    found, refused = read_tags(both)
    assert [release.tag for release in found] == ["1.0.0+1"]
    assert "pre-release" in refused[0].reason
    assert len(read_tags(both, prereleases=True)[0]) == 2


def test_an_app_part_never_makes_a_pre_release() -> None:
    parsed = parse("1.3.0+6.42.0-alpine")
    assert isinstance(parsed, Release)
    assert not parsed.prerelease


def test_a_back_port_is_older_than_what_was_released_before_it() -> None:
    older = newest_older(releases("6.0.0+28.0.0-fpm", "5.0.3+27.0.1-fpm", "5.0.2+27.0.0-fpm"), "6.0.0+28.0.0-fpm")
    assert older is not None
    assert older.tag == "5.0.3+27.0.1-fpm"


def test_a_tie_that_the_app_part_decided_is_noticed() -> None:
    both = releases("1.0.0+1.0.5", "1.0.0+1.0.6", "0.9.0+1.0.5")
    assert tie_broken_by_app(both, "1.0.0+1.0.6") == "1.0.0+1.0.5"
    assert tie_broken_by_app(both, "1.0.0+1.0.5") is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("3.8.0b1-alpine3.10", "3.8.0-alpine3.10"), ("3.13.0a4", "3.13.0"), ("2024.1.0b3", "2024.1.0"), ("4.0.0-M1", "4.0.0"),
        ("25-ea.10", "25"), ("5.0.0.CR1", "5.0.0"), ("6.0.0-rc9", "6.0.0-rc10"), ("2.0.0-beta.2", "2.0.0"), ("1.0-m2", "1.0"),
        ("1.9.3", "1.9.3p551"), ("8.0.33", "8.0.33-1"), ("20240930", "20240930-a1b2c3d"), ("3.19", "3.19-alpine"),
        ("1.25", "1.25-bookworm"), ("9.0", "9.0-centos"), ("1.2", "1.2-mysql"), ("10.11.6-r2", "10.11.6-r10"),
    ],
)  # fmt: skip
def test_what_the_app_itself_calls_no_final_release_comes_before_it(older: str, newer: str) -> None:
    found, _ = read_tags({f"1.0.0+{newer}": "a" * 40, f"1.0.0+{older}": "b" * 40})
    assert [release.app_part for release in found] == [older, newer]


@given(st.from_regex(r"[0-9]{1,2}\.[0-9]\.[0-9](\+[0-9A-Za-z._-]{0,12}(\.lock)?)?", fullmatch=True))
def test_no_tag_is_a_release_whose_name_git_would_not_take(tag: str) -> None:
    if isinstance(parse(tag), Release):
        assert ref_problem(tag) is None
