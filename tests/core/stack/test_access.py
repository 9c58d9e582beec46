"""Who may write where: by owner, group and others as the kernel goes by them, and who has lost it."""

from __future__ import annotations

import pytest

from canonq.core.stack.access import Folder, Process, Use, locked_out, may_write, some_may_write

ROOT = Process(0, frozenset({0}), overrides=True)
BARE = Process(0, frozenset({0}), overrides=False)
WEB = Process(33, frozenset({33, 100}), overrides=False)


@pytest.mark.parametrize(
    ("process", "folder", "may"),
    [
        (ROOT, Folder(33, 33, 0o700), True),
        (BARE, Folder(33, 33, 0o700), False),
        (BARE, Folder(0, 0, 0o755), True),
        (WEB, Folder(0, 0, 0o755), False),
        (WEB, Folder(0, 0, 0o777), True),
        (WEB, Folder(33, 0, 0o755), True),
        (WEB, Folder(33, 33, 0o077), False),
        (WEB, Folder(0, 100, 0o775), True),
        (WEB, Folder(0, 100, 0o757), False),
        (WEB, Folder(0, 0, 0o755, acl=True), True),
    ],
)
def test_the_first_of_owner_group_and_others_that_fits_decides(process: Process, folder: Folder, may: bool) -> None:
    assert may_write(process, folder) is may


def test_one_folder_below_is_enough_to_write_to() -> None:
    assert some_may_write([WEB], [Folder(0, 0, 0o755), Folder(33, 33, 0o755)])
    assert not some_may_write([], [Folder(0, 0, 0o777)])


def use(may: bool, does: bool = True, users: tuple[int, ...] = (0,)) -> Use:
    return Use(may, does, users, 0)


def test_only_what_could_be_written_before_and_is_mounted_still_is_lost() -> None:
    before = {"data": use(True), "gone": use(True), "seed": use(False), "fine": use(True)}
    lost = locked_out(before, {"data": use(False, users=(1000,)), "seed": use(False), "fine": use(True)})
    assert [(one.key, one.before.does) for one in lost] == [("data", True)]
    assert "belongs to user 0, and user 1000 runs now" in str(lost[0])
