"""What containers write beside the volumes that have a name: found by what Docker tells of them, or the kernel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from canonq.adapters.docker import containers, layers
from canonq.adapters.docker.disks import bytes_below
from canonq.adapters.docker.layers import layer_of, written_into
from canonq.adapters.engine import SwarmEngine
from canonq.ports import Beside, Roots

LOOKED: dict[str, Any] = {"Id": "4f" * 32, "State": {"Pid": 7}, "Mounts": [], "Config": {"Labels": {}}}


def of_docker(layer: Path, **more: Any) -> dict[str, Any]:
    """A container whose layer is an overlay of Docker's own, as it is inspected."""
    return {**LOOKED, "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": str(layer)}}, **more}


def of_containerd(root: Path, layer: str) -> tuple[dict[str, Any], Path]:
    """A container whose layer is containerd's, as it is inspected, and the processes of the host."""
    (processes := root / "proc").joinpath("7").mkdir(parents=True, exist_ok=True)
    (processes / "7" / "mountinfo").write_text(
        f"871 708 0:58 / / rw,relatime master:301 - overlay overlay rw,lowerdir=/x/1/fs:/x/2/fs,upperdir={layer},workdir=/x/9/w\n"
        "872 871 0:61 / /proc rw,nosuid - proc proc rw\n"
    )
    return {**LOOKED, "GraphDriver": {"Name": "overlayfs", "Data": None}}, processes


def test_a_layer_is_told_by_docker_or_by_the_mount_that_is_the_containers_root(tmp_path: Path) -> None:
    layer = tmp_path / "snapshots" / "9" / "fs"
    layer.mkdir(parents=True)
    assert layer_of(of_docker(layer), tmp_path / "elsewhere") == layer
    looked, processes = of_containerd(tmp_path, str(layer))
    assert layer_of(looked, tmp_path / "snapshots", processes) == layer


def test_a_layer_that_cannot_be_told_or_seen_is_none(tmp_path: Path) -> None:
    layer = tmp_path / "snapshots" / "9" / "fs"
    layer.mkdir(parents=True)
    looked, processes = of_containerd(tmp_path, str(layer))
    assert layer_of({**looked, "State": {"Pid": 0}}, tmp_path, processes) is None, "it has ended"
    assert layer_of({**looked, "State": {"Pid": 8}}, tmp_path, processes) is None, "its process is gone"
    assert layer_of(looked, tmp_path / "images", processes) is None, "it says that it is somewhere else"
    looked, processes = of_containerd(tmp_path, f"{tmp_path}/snapshots/../other")
    (tmp_path / "other").mkdir()
    assert layer_of(looked, tmp_path / "snapshots", processes) is None, "nor by a way round"
    assert layer_of(of_docker(tmp_path / "gone"), tmp_path) is None
    assert (
        layer_of({**LOOKED, "GraphDriver": {"Name": "zfs", "Data": {"Dataset": "x"}}}, tmp_path / "snapshots", processes) is None
    )


class Listed:
    """Docker's list of what was changed in a layer."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.given = list(pieces), 0

    def iter_content(self, size: int) -> Iterator[bytes]:
        del size
        for piece in self.pieces:
            self.given += len(piece)
            yield piece

    def raise_for_status(self) -> None:
        """It is there."""

    def close(self) -> None:
        """Nothing is left open."""


class Api:
    """As much of Docker's API as is asked."""

    def __init__(self, *containers: dict[str, Any]) -> None:
        self.looked = {looked["Id"]: looked for looked in containers}
        self.listed = Listed(b"null")

    def containers(self, **asked: Any) -> list[dict[str, Any]]:
        assert asked == {"all": True, "filters": {"label": ["canonq.owner=me"]}}
        return list(self.looked.values())

    def inspect_container(self, container: str) -> dict[str, Any]:
        return self.looked[container]

    base_url, api_version, timeout = "http+docker://localhost", "1.41", 60

    def get(self, address: str, **asked: Any) -> Listed:
        assert address == f"http+docker://localhost/v1.41/containers/{LOOKED['Id']}/changes"
        assert asked["stream"], "it is not read whole"
        return self.listed


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SwarmEngine:
    made = SwarmEngine()
    monkeypatch.setattr(made, "_roots", Roots(tmp_path, tmp_path, "graph driver", "told by Docker"))
    return made


def test_what_containers_write_into_themselves_and_into_volumes_without_a_name_is_found(
    engine: SwarmEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("layer", "unnamed", "named"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_bytes(b"x" * 50_000)
    mounts = [
        {"Type": "volume", "Name": "ab" * 32, "Source": str(tmp_path / "unnamed"), "Destination": "/cache"},
        {"Type": "volume", "Name": "s-1_data", "Source": str(tmp_path / "named"), "Destination": "/data"},
        {"Type": "bind", "Source": "/etc", "Destination": "/x"},
    ]
    one = of_docker(tmp_path / "layer", Mounts=mounts)
    other = {**of_docker(tmp_path / "gone", Mounts=mounts), "Id": "5f" * 32}
    monkeypatch.setattr(engine, "_client", SimpleNamespace(api=Api(one, other)))
    found = engine.written_beside({"canonq.owner": "me"})
    assert found == Beside((tmp_path / "layer",), (tmp_path / "unnamed",))
    assert bytes_below(found.layers[0]) >= 50_000


def test_what_is_in_a_layer_is_named_by_its_place_in_the_container(tmp_path: Path) -> None:
    (tmp_path / "srv" / "notes").mkdir(parents=True)
    for name in ("srv/notes/one", "srv/two", "three"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "srv" / "removed")  # as the device by which an overlay hides a file that was removed
    (tmp_path / "link").symlink_to("/etc")
    assert sorted(written_into(tmp_path)) == ["/srv/notes/one", "/srv/two", "/three"]


@pytest.mark.parametrize("most", ["_MOST_FILES", "_MOST_NAMES"])
def test_a_layer_of_files_without_end_is_not_gone_through_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: str
) -> None:
    for folder in range(10):
        (tmp_path / str(folder)).mkdir()
        for name in range(10):
            (tmp_path / str(folder) / str(name)).touch()
    monkeypatch.setattr(layers, most, 30)
    assert len(written_into(tmp_path)) == 30


def running(engine: SwarmEngine, monkeypatch: pytest.MonkeyPatch, looked: dict[str, Any]) -> Api:
    """An engine on which one container of the service `app` runs."""
    api, task = Api(looked), SimpleNamespace(service="app")
    monkeypatch.setattr(engine, "_client", SimpleNamespace(api=api))
    monkeypatch.setattr(engine, "_running_tasks", lambda stack: [(LOOKED["Id"], task)])
    return api


def test_what_a_container_holds_beside_volumes_is_looked_at_in_its_layer(
    engine: SwarmEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "layer" / "srv").mkdir(parents=True)
    (tmp_path / "layer" / "srv" / "notes").write_text("x")
    api = running(engine, monkeypatch, of_docker(tmp_path / "layer"))
    (found,) = engine.outside_volumes("s-1")
    assert (found.service, found.pid, found.paths, found.why_not) == ("app", 7, ("/srv/notes",), "")
    assert not api.listed.given, "Docker puts all of its list together before it gives any of it"


def test_where_a_layer_cannot_be_seen_dockers_list_of_it_is_read_up_to_a_limit(
    engine: SwarmEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    api = running(engine, monkeypatch, of_docker(tmp_path / "gone"))
    assert engine.outside_volumes("s-1")[0].paths == ()
    said = [{"Path": "/srv", "Kind": 0}, {"Path": "/srv/notes", "Kind": 1}, {"Path": "/srv/old", "Kind": 2}]
    api.listed = Listed(*(json.dumps(said).encode()[at : at + 7] for at in range(0, 200, 7)))
    assert engine.outside_volumes("s-1")[0].paths == ("/srv", "/srv/notes")
    monkeypatch.setattr(containers, "_LONGEST_LIST", 1 << 20)
    api.listed = Listed(*[b"[" + b"x" * 100_000] * 1000)
    (found,) = engine.outside_volumes("s-1")
    assert found.why_not == "it has changed so much that Docker's list of it has more than 1 MiB"
    assert api.listed.given < 2 << 20
