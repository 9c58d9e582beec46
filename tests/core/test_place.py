"""What a state folder is: the same, one that was moved, or a copy."""

from __future__ import annotations

import pytest

from canonq.core.place import Place, found

NOTED = Place("/var/lib/canonq", 1, 10)
ELSEWHERE = "/srv/canonq"


@pytest.mark.parametrize(
    ("noted", "here", "other_lives", "what"),
    [
        (NOTED, NOTED, False, "same"),
        (None, NOTED, False, "moved"),
        (NOTED, Place(NOTED.path, 1, 11), False, "moved"),
        (NOTED, Place(NOTED.path, 2, 10), False, "moved"),
        (NOTED, Place(ELSEWHERE, 1, 10), False, "moved"),
        (NOTED, Place(ELSEWHERE, 1, 10), True, "moved"),
        (NOTED, Place(ELSEWHERE, 2, 10), False, "moved"),
        (NOTED, Place(ELSEWHERE, 1, 11), False, "moved"),
        (NOTED, Place(ELSEWHERE, 1, 11), True, "copied"),
        (NOTED, Place(ELSEWHERE, 2, 10), True, "copied"),
    ],
    ids=["where it was", "of an older canonq", "put back from a backup", "on another disk after a start", "renamed",
         "mounted elsewhere, and a new one in its place", "brought to another disk", "copied, and the old one removed",
         "copied", "copied to another disk"],
)  # fmt: skip
def test_a_folder_is_known_by_path_or_inode_and_a_copy_by_what_is_there_still(
    noted: Place | None, here: Place, other_lives: bool, what: str
) -> None:
    assert found(noted, here, other_lives=other_lives) == what
