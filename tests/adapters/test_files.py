"""Files that canonq makes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from canonq.adapters.files import told
from canonq.core.errors import HostProblem


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_without_room_for_a_file_is_told_as_full_and_where_to_look_when_bytes_are_free(number: int) -> None:
    with pytest.raises(HostProblem) as ended, told(Path("/state/runs")):
        raise OSError(number, "No space left on device")
    assert ended.value.code == "disk-full"
    assert "df -i" in ended.value.mend
