"""What a container takes, by the files of its control group, of both kinds and however the host names them."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from canonq.adapters.docker.groups import Group, group_of
from canonq.adapters.engine import SwarmEngine
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


class Containers:
    """Docker's API for containers, which tells what each takes when it is asked for it."""

    def __init__(self, *processes: int) -> None:
        self.processes, self.asked = list(processes), 0

    def containers(self, filters: object) -> list[dict[str, str]]:
        """The one there is."""
        return [{"Id": ID}]

    def inspect_container(self, container: str) -> dict[str, dict[str, int]]:
        """Its process, which is another each time."""
        return {"State": {"Pid": self.processes.pop(0) if len(self.processes) > 1 else self.processes[0]}}

    def stats(self, container: str, **options: object) -> dict[str, object]:
        """What Docker says."""
        self.asked += 1
        return {"memory_stats": {"stats": {"anon": 1, "shmem": 2}}, "cpu_stats": {"cpu_usage": {"total_usage": 10**9}}}


def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *processes: int) -> tuple[SwarmEngine, Containers]:
    """An Engine with one container, whose control group is in `tmp_path`."""
    roots = host(tmp_path, f"0::/{ID}\n", {f"{ID}/memory.stat": SECOND, f"{ID}/cpu.stat": "usage_usec 1500000\n"})
    monkeypatch.setattr("canonq.adapters.docker.ownership.group_of", lambda one, process: group_of(one, process, *roots))
    engine, api = SwarmEngine(), Containers(*processes)
    engine._client = SimpleNamespace(api=api)  # type: ignore[assignment]
    return engine, api


def test_docker_is_asked_only_where_the_files_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, api = looks(tmp_path, monkeypatch, 0, 7)
    assert engine.takings({}) == {ID: Taking(3, 1.0)}, "it has no process yet"
    assert engine.takings({}) == engine.takings({}) == {ID: EXPECTED}
    assert api.asked == 1
    (tmp_path / "groups" / ID / "memory.stat").write_text("")
    assert engine.takings({}) == engine.takings({}) == {ID: Taking(3, 1.0)}, "nothing that one could know"


def test_one_whose_files_are_gone_has_ended_and_any_other_trouble_is_not_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, api = looks(tmp_path, monkeypatch, 7)
    assert engine.takings({}) == {ID: EXPECTED}
    with monkeypatch.context() as patched:
        patched.setattr(Group, "taking", lambda self: (_ for _ in ()).throw(OSError(errno.EMFILE, "too many")))
        assert engine.takings({}) == {ID: Taking(3, 1.0)}
    assert engine.takings({}) == {ID: EXPECTED}
    (tmp_path / "groups" / ID / "memory.stat").unlink()
    assert engine.takings({}) == {}
    assert api.asked == 1
