"""Room is counted where Docker fills it: an Engine with its images on a small disk, and a release too heavy for that.

Which folder that is, engines differ in: Docker's root, or containerd's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real import small_disk

pytestmark = [pytest.mark.real, pytest.mark.engines]


def test_a_pull_too_heavy_for_the_disk_of_images_is_ended_deferred_and_told_by_that_disk(tmp_path: Path) -> None:
    assert shutil.which("mkfs.ext4"), "this test makes a small file system: install e2fsprogs"
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
         sys.executable, "-m", "tests.real.small_disk", str(tmp_path)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    logs = "".join(f"\n{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in tmp_path.glob("*.log"))
    assert done.returncode == 0, done.stderr[-3000:] + logs
    seen = json.loads(done.stdout.splitlines()[-1])
    promoted, ended = seen["outcomes"]
    assert seen["verdict"], seen["outcomes"]
    assert seen["roots"]["images"].startswith(seen["small"]), seen["roots"]
    assert promoted["outcome"] == "promoted", promoted
    # It was begun, since nobody knew how heavy it is, and ended when the floor was reached.
    assert (ended["outcome"], ended["reason"]) == ("deferred", "disk-below-budget"), ended
    assert seen["roots"]["images"] in ended["detail"]
    assert "images" in ended["detail"]
    assert seen["verdict"]["fault"] == "host"
    assert seen["verdict"]["image_bytes"] > seen["came"] // 2
    assert any(seen["roots"]["images"] in folder for folder in seen["verdict"]["lowest_free"])
    # Now it is known, so it is not begun again.
    assert (seen["planned"]["action"], seen["planned"]["reason"]) == ("defer", "disk-below-budget"), seen["planned"]
    assert seen["roots"]["images"] in seen["planned"]["detail"]
    # The floor holds, nothing is left of it, and what is kept was not touched.
    assert seen["free"] >= small_disk.FLOOR
    assert (seen["heavy_image"], seen["left"]) == ("", [])
    assert (seen["canonical"], seen["verified"]) == (small_disk.OLD, True)
    disks = [check for check in seen["doctor"] if check["check"] == "disk"]
    assert any(seen["roots"]["images"] in check["detail"] for check in disks), disks
