"""What a container takes, by the files of its control group, of both kinds and however the host names them."""

from __future__ import annotations

from pathlib import Path

import pytest

from canonq.adapters.docker.groups import group_of
from canonq.core.peaks import Taking

ID = "4f" * 32
FIRST = "cache 900\ntotal_cache 9000\nrss 1\nshmem 2\ntotal_rss 5000000\ntotal_shmem 700000\n"
SECOND = "anon 5000000\nfile 8000000\nshmem 700000\n"
EXPECTED = Taking(memory=5_700_000, cpu=1.5)


def host(folder: Path, lines: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A host whose process 7 is in these groups: where its groups are, and its processes."""
    (folder / "proc" / "7").mkdir(parents=True)
    (folder / "proc" / "7" / "cgroup").write_text(lines)
    for name, text in files.items():
        (folder / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "groups" / name).write_text(text)
    return folder / "groups", folder / "proc"


@pytest.mark.parametrize("own", ["", "/init.scope"])
@pytest.mark.parametrize("name", [f"docker/{ID}", f"system.slice/docker-{ID}.scope", f"canonq/{ID}"])
def test_both_kinds_of_control_groups_tell_memory_and_processors(tmp_path: Path, name: str, own: str) -> None:
    first = host(
        tmp_path / "first",
        f"9:name=systemd:/{name}{own}\n4:memory:/{name}{own}\n2:cpu,cpuacct:/{name}{own}\n0::/\n",
        {f"memory/{name}/memory.stat": FIRST, f"cpu,cpuacct/{name}/cpuacct.usage": "1500000000\n"},
    )
    second = host(
        tmp_path / "second",
        f"0::/{name}{own}\n",
        {f"{name}/memory.stat": SECOND, f"{name}/cpu.stat": "usage_usec 1500000\nuser_usec 1\n"},
    )
    for groups, processes in (first, second):
        found = group_of(ID, 7, groups, processes)
        assert found is not None
        assert found.taking() == EXPECTED


@pytest.mark.parametrize(
    "lines",
    ["", "0::/\n", "0::/../..\n", "nonsense", f"0::/docker/{'ab' * 32}\n", f"0::/docker/{ID}\n", f"4:memory:/docker/{ID}\n"],
)
def test_a_group_that_cannot_be_seen_from_here_is_none(tmp_path: Path, lines: str) -> None:
    groups, processes = host(tmp_path, lines, {f"docker/{'ab' * 32}/memory.stat": SECOND, "memory.stat": SECOND})
    assert group_of(ID, 7, groups, processes) is None
    assert group_of(ID, 8, groups, processes) is None, "no such process"


def test_one_that_has_ended_says_so(tmp_path: Path) -> None:
    files = {f"{ID}/memory.stat": SECOND, f"{ID}/cpu.stat": "usage_usec 1500000\n"}
    found = group_of(ID, 7, *host(tmp_path, f"0::/{ID}\n", files))
    assert found is not None
    found.memory.unlink()
    with pytest.raises(FileNotFoundError):
        found.taking()
