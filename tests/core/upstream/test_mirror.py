"""What a mirror lacks to equal its upstream."""

from __future__ import annotations

import pytest

from canonq.core.upstream.mirror import Change, changes, kept_as, losses, told

MAIN, TAG = "refs/heads/main", "refs/tags/1.0.0"


@pytest.mark.parametrize(
    ("ours", "theirs", "todo"),
    [
        ({MAIN: "b"}, {MAIN: "a"}, [Change(MAIN, "a", "b")]),
        ({MAIN: "b", TAG: "t"}, {}, [Change(MAIN, None, "b"), Change(TAG, None, "t")]),
        ({MAIN: "b", TAG: "t"}, {MAIN: "b", TAG: "t"}, []),
        ({MAIN: "b"}, {MAIN: "b", TAG: "t"}, [Change(TAG, "t", None)]),
        ({MAIN: "b", TAG: "u"}, {MAIN: "b", TAG: "t"}, [Change(TAG, "t", "u")]),
        ({TAG: "t"}, {MAIN: "a", TAG: "t"}, []),
        ({MAIN: "b", "refs/heads/mine": "x"}, {MAIN: "b", "refs/heads/theirs": "y", "refs/pull/1/head": "z"}, []),
    ],
    ids=["moved", "empty", "equal", "tag-gone", "tag-other", "no-default-branch", "other-branches-are-theirs"],
)
def test_only_the_default_branch_and_the_tags_are_brought_in_line(
    ours: dict[str, str], theirs: dict[str, str], todo: list[Change]
) -> None:
    assert list(changes("main", ours, theirs)) == todo


def test_what_is_taken_from_a_mirror_is_kept_and_told() -> None:
    new, gone, other = Change(TAG, None, "t" * 40), Change(TAG, "t" * 40, None), Change(TAG, "t" * 40, "u" * 40)
    assert losses([new, gone, other]) == (gone, other)
    assert kept_as(gone) == f"refs/canonq/replaced/tags%2F1.0.0/{'t' * 12}"
    assert [line.partition(";")[0] for line in told([new, gone, other, Change(MAIN, "a", "b")])] == [
        "the tag 1.0.0 was taken from the mirror, as upstream has none",
        "the tag 1.0.0 of the mirror was not upstream's and is now",
    ]
    many = [Change(f"refs/tags/1.0.{number}", "t", None) for number in range(13)]
    assert told(many)[10:] == ("and 3 more tags of the mirror",)
