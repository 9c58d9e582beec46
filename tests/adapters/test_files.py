"""Files that canonq makes."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from canonq.adapters.files import copy_tree, told
from canonq.core.errors import HostProblem, NotReadable


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_for_a_file_is_told_as_full_and_where_to_look_when_bytes_are_free(number: int) -> None:
    with pytest.raises(HostProblem) as ended, told(Path("/state/runs")):
        raise OSError(number, "No space left on device")
    assert ended.value.code == "disk-full"
    assert "df -i" in ended.value.mend


@pytest.mark.parametrize("refused", ["source", "target"])
def test_a_file_that_may_not_be_read_is_told_when_a_folder_is_copied_and_no_disk_is_blamed(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"

    def copytree(*_: object, **__: object) -> None:
        where = {"source": source, "target": target}[refused] / "a"
        raise shutil.Error([(str(source / "a"), str(target / "a"), str(PermissionError(13, "Permission denied", str(where))))])

    monkeypatch.setattr(shutil, "copytree", copytree)
    with pytest.raises(HostProblem) as ended:
        copy_tree(source, target)
    assert isinstance(ended.value, NotReadable) == (refused == "source")
    assert str(tmp_path / refused) in ended.value.what
