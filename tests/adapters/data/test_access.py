"""Processes of a container and folders of a volume, as this host shows them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from canonq.adapters.data.access import folders_of, processes_beside
from canonq.core.stack.access import Process


@pytest.mark.real  # only root can change users
def test_the_processes_of_a_container_are_those_of_its_namespace() -> None:
    command = ["unshare", "--pid", "--fork", "setpriv", "--reuid=33", "--regid=33", "--clear-groups", sys.executable, "-c",
               "import sys; print('up', flush=True); sys.stdin.read()"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"up\n"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        assert processes_beside(int(children[0])) == [Process(33, frozenset({33}), overrides=False)]
        outer.communicate(b"")
    assert processes_beside(outer.pid) == []


def test_the_folders_of_a_volume_are_those_of_its_tree_and_not_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "etc").symlink_to("/etc")
    (tmp_path / "a").chmod(0o700)
    assert sorted(folder.mode & 0o777 for folder in folders_of(tmp_path)) == sorted(
        [tmp_path.stat().st_mode & 0o777, 0o700, 0o755]
    )
