"""Which canonicals stay, and which one is the one before: by succession, not by clock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from canonq.core.records import Canonical, RolledBack
from canonq.core.retention import Generation, generation_of, going_back, lineage, retain, with_followers


def path(name: str) -> str:
    return f"/state/warm/site/canonicals/{name}/volumes.tar.zst"


def record(name: str, fence: int, before: str | None = None, **changes: Any) -> Canonical:
    """The record of a canonical `name`, promoted over `before`. Its clock says nothing: all have the same stamp."""
    checksum = "sha256:" + "0" * 64
    return Canonical.model_validate({
        "recipe": "site", "version": f"1.{ord(name[0]) - 96}.0+1", "commit": "a" * 40, "status": "idle", "ts": "20260617T050314Z",
        "promoted_at": "20260617T050314Z", "schema": 2, "fence": fence,
        "snapshot": {"path": path(name), "bytes": 1, "checksum": checksum},
        "previous": {"version": before, "snapshot": {"path": path(before)}} if before else None, **changes,
    })  # fmt: skip


def kept(name: str, fence: int, before: str | None = None) -> Generation:
    made = record(name, fence, before)
    return Generation(name, made, made)


def broken(name: str, fence: int) -> Generation:
    return Generation(name, None, record(name, fence) if fence else None, "damaged")


def names(found: list[Generation]) -> list[str]:
    return [one.name for one in found]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (path("one"), "one"),
        ("warm/site/canonicals/one/volumes", "one"),
        ("/x/volumes.tar.zst", None),
        ("canonicals/../x", None),
        ("canonicals/one/..", None),
        ("canonicals//x", None),
        ("", None),
    ],
)
def test_a_snapshots_path_names_its_generation_or_none(path: str, name: str | None) -> None:
    assert generation_of(path) == name


def test_what_was_rolled_back_does_not_push_out_the_one_before() -> None:
    """a, then b, back to a, then c: the everyday way."""
    found = [kept("a", 1), kept("b", 2, "a"), kept("c", 4, "a")]
    assert names(lineage("c", found)) == ["c", "a"]
    retention = retain("c", found, 2)
    assert (names(retention.keep), [one.name for one, _ in retention.drop]) == (["c", "a"], ["b"])
    assert names(going_back(record("c", 4, "a"), "c", found)) == ["a"]


def test_what_was_rolled_back_stays_where_there_is_a_place() -> None:
    found = [kept("a", 1), kept("b", 2, "a")]
    assert names(retain("a", found, 2).keep) == ["a", "b"]
    assert names(retain("a", [*found, kept("c", 3, "b")], 2).keep) == ["a", "c"]


def test_one_that_a_rollback_went_past_is_not_pushed_out_by_the_one_it_left() -> None:
    """a, b, c; from c back to a; then d: b was never rolled back, c was."""
    left = RolledBack(by="ada", at="20260617T050314Z", reason="x", version=record("c", 3).version, commit="a" * 40, fence=4)
    back = record("a", 4, rolled_back=[left])
    found = [Generation("a", record("a", 1), back), kept("b", 2, "a"), kept("c", 3, "b"), kept("d", 5, "a")]
    retention = retain("d", found, 3)
    assert (names(retention.keep), [one.name for one, _ in retention.drop]) == (["d", "a", "b"], ["c"])
    gone_forward = Generation("c", record("c", 3, "b"), record("c", 5, "b"))
    found = [found[0], found[1], gone_forward, kept("d", 6, "c")]
    assert names(retain("d", found, 2).keep) == ["d", "c"], "who went to it again did not leave it"


def test_going_back_never_goes_forward() -> None:
    found = [kept("a", 1), kept("b", 2, "a"), kept("c", 3, "b")]
    assert names(going_back(record("c", 3), "c", found)) == ["b", "a"]
    assert names(going_back(record("b", 4), "b", found)) == ["a"]
    assert names(going_back(record("a", 5), "a", found)) == []


def test_one_made_anew_has_the_same_version_before_it() -> None:
    found = [kept("a", 1), kept("b", 2, "a"), kept("b-again", 3, "b")]
    assert names(retain("b-again", found, 2).keep) == ["b-again", "b"]
    assert names(going_back(record("b-again", 3), "b-again", found)) == ["b", "a"]


def test_of_two_of_one_version_a_rollback_left_the_one_that_was_there(keep: int = 3) -> None:
    """a, b, b made anew; from that back to a; then c: the first b was left by nobody."""
    left = RolledBack(by="ada", at="20260617T050314Z", reason="x", version=record("b", 2).version, commit="a" * 40, fence=4)
    back = Generation("a", record("a", 1), record("a", 4, rolled_back=[left]))
    found = [back, kept("b", 2, "a"), kept("b-again", 3, "b"), kept("c", 5, "a")]
    retention = retain("c", found, keep)
    assert (names(retention.keep), [one.name for one, _ in retention.drop]) == (["c", "a", "b"], ["b-again"])


def test_a_lost_mark_is_made_up_for_by_whoever_came_after() -> None:
    unmarked = [Generation("a", record("a", 1)), Generation("b", record("b", 2, "a")), Generation("c", record("c", 3, "b"))]
    known = with_followers(unmarked, record("b", 2, "a"))
    assert [one.was_in_force("b") for one in known] == [True, True, False], "c died before its switch: nobody came after it"
    # What a rollback left is named by the record that it made.
    known = with_followers(unmarked[:2], record("a", 4, "b"))
    assert [one.was_in_force("a") for one in known] == [True, True]


def test_the_present_one_is_kept_whatever_keep_says_and_wherever_it_stands() -> None:
    found = [kept("a", 1), kept("b", 2, "a"), kept("c", 3, "b")]
    assert names(retain("a", found, 1).keep) == ["a"]
    assert names(retain("c", found, 1).keep) == ["c"]


def test_a_record_that_cannot_be_read_takes_nobodys_place_and_goes_when_all_kept_are_newer() -> None:
    found = [kept("a", 1), broken("b", 2), kept("c", 3, "b")]
    retention = retain("c", found, 2)
    assert (names(retention.keep), retention.drop) == (["c", "a"], [])
    assert names(going_back(record("c", 3), "c", found)) == ["a"]
    later = [broken("b", 2), kept("c", 3, "b"), kept("d", 4, "c")]
    assert [one.name for one, _ in retain("d", later, 2).drop] == ["b"]


def test_one_whose_snapshot_is_gone_takes_nobodys_place_and_goes_when_all_kept_are_newer() -> None:
    gone = replace(kept("b", 2, "a"), missing=True)
    found = [kept("a", 1), gone, kept("c", 3, "b")]
    assert names(retain("c", found, 2).keep) == ["c", "a"]
    assert retain("c", found, 2).drop == []
    assert names(going_back(record("c", 3), "c", found)) == ["a", "b"], "it is still named where it is asked for"
    later = [*found, kept("d", 4, "c")]
    assert sorted(one.name for one, _ in retain("d", later, 2).drop) == ["a", "b"]
    assert names(retain("b", found, 1).keep) == ["b"], "the present one has its place, whatever became of its snapshot"


def test_one_that_was_made_anew_as_its_snapshot_was_damaged_takes_nobodys_place() -> None:
    again = record("b-again", 3, "b", remade={"by": "ada", "at": "20260617T050314Z", "reason": "bits", "damaged": "b"})
    found = [kept("a", 1), kept("b", 2, "a"), Generation("b-again", again, again)]
    assert names(retain("b-again", found, 2).keep) == ["b-again", "a"]
    assert names(going_back(again, "b-again", found)) == ["a", "b"]


def test_one_of_which_nothing_can_be_read_is_left_for_a_person() -> None:
    assert retain("c", [broken("x", 0), kept("b", 2), kept("c", 3, "b")], 2).drop == []


def test_beyond_a_record_that_cannot_be_read_nothing_that_was_rolled_back_is_gone_back_to() -> None:
    found = [kept("a", 1), kept("r", 2, "a"), broken("b", 4), kept("c", 5, "b")]
    left = RolledBack(by="ada", at="20260617T050314Z", reason="x", version=record("r", 2).version, commit="a" * 40)
    assert names(going_back(record("c", 5, rolled_back=[left]), "c", found)) == ["a"]


def test_a_circle_of_records_ends() -> None:
    found = [kept("a", 1, "b"), kept("b", 2, "a")]
    assert names(lineage("b", found)) == ["b", "a"]


def test_one_made_anew_left_and_gone_back_to_is_the_one_that_was_left_and_not_the_one_before_it() -> None:
    """b is made anew as bb, left for a, gone back to, and left for a again: b was never left by anybody."""
    left = {"by": "ada", "at": "20260617T050314Z", "reason": "x", "version": "1.2.0+1", "commit": "a" * 40}
    back = record("bb", 6, "a", rolled_back=[{**left, "version": "1.1.0+1", "fence": 5}])
    now = record("a", 7, rolled_back=[{**left, "fence": 4}, {**left, "fence": 7}])
    found = [
        Generation("a", record("a", 1), now),
        kept("b", 2, "a"),
        Generation("bb", record("bb", 3, "b"), back),
        kept("c", 9, "a"),
    ]
    assert [one.name for one, _ in retain("c", found, 3).drop] == ["bb"]
