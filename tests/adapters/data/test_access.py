"""Processes of a container and folders of a volume, as this host shows them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from canonq.adapters.data.access import folders_of, processes_below, use_of
from canonq.adapters.engine import pause_until
from canonq.core.stack.access import Process, Use


@pytest.mark.real  # only root can change users
def test_the_processes_of_a_container_are_those_of_its_namespace_that_nobody_else_has_begun() -> None:
    program = "import subprocess, sys; subprocess.Popen(['sleep', '600']); print('up', flush=True); sys.stdin.read()"
    user = ["setpriv", "--reuid=33", "--regid=33", "--clear-groups"]
    command = ["unshare", "--pid", "--fork", *user, sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"up\n"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        time.sleep(0.5)  # the time of its folder in /proc is that of the first look there
        # As a check of its health does, and as root.
        beside = subprocess.Popen(["nsenter", "--target", children[0], "--pid", "sleep", "600"])
        assert pause_until(lambda: Path(f"/proc/{beside.pid}/task/{beside.pid}/children").read_text() != "", 60)
        looked = time.time()
        found = processes_below(int(children[0]))
        assert [(one.uid, one.groups, one.overrides) for one in found] == 2 * [(33, frozenset({33}), False)]
        assert all(looked - 600 < one.began < looked - 0.4 for one in found)
        outer.communicate(b"")  # all that is in the namespace ends with its first process
        beside.wait(60)
    assert processes_below(outer.pid) == []


def test_the_folders_of_a_volume_are_those_of_its_tree_and_not_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("/etc")
    (tmp_path / "a").chmod(0o700)
    assert sorted(folder.mode & 0o777 for folder in folders_of(tmp_path)) == sorted(
        [tmp_path.stat().st_mode & 0o777, 0o700, 0o755]
    )


def test_what_an_image_brought_along_was_written_by_nobody(tmp_path: Path) -> None:
    root, web = (
        Process(0, frozenset({0}), overrides=True, began=1000.0),
        Process(4711, frozenset({4711}), overrides=False, began=1000.0),
    )
    page = tmp_path / "index.html"
    page.write_text("x")
    os.utime(page, (500, 500))
    mine = os.geteuid()
    (tmp_path / ".canonq-marker").write_text("ours")
    assert use_of(tmp_path, [root]).does is False
    assert use_of(tmp_path, [web]) == Use(may=False, does=False, users=(4711,), owner=mine)
    os.utime(page, (2000, 2000))
    assert use_of(tmp_path, [root]).does is True
