"""An Engine whose images lie on a small disk: run by test_small_disk.py in namespaces of its own, prints what was seen.

With a graph driver that disk is Docker's root; with containerd's image store it is containerd's root, and Docker's is elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import docker

from canonq.adapters.engine import SwarmEngine
from tests.real.registry import Registry, serving
from tests.support import Installation, make_recipe, release

MIB = 2**20
SIZE, FLOOR = 400 * MIB, 100 * MIB
OLD, NEW = "1.0.0+1", "1.1.0+2"
COMPOSE = """
services:
  app:
    image: {image}
    command: ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/srv"]
    stop_grace_period: 1s
    volumes: ["data:/data"]
    deploy: {{labels: ["coop-cloud.${{STACK_NAME}}.version={version}"]}}
volumes: {{data: {{}}}}
"""


def layer(*files: tuple[str, bytes, int]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, body, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(body), mode
            archive.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


@contextlib.contextmanager
def program(folder: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (folder / f"{Path(command[0]).name}.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def until_there(path: Path, process: subprocess.Popen[bytes]) -> None:
    while not path.exists():
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended; its log is beside {path}")
        time.sleep(0.05)


@contextlib.contextmanager
def engine(folder: Path, small: Path, *, containerd_store: bool) -> Iterator[None]:
    """Docker and a containerd of its own; only what holds images lies on the small disk."""
    containerd = small / "containerd" if containerd_store else folder / "containerd"
    data = folder / "docker" if containerd_store else small / "docker"
    address, door = folder / "containerd.sock", folder / "docker.sock"
    arguments = ("--root", str(containerd), "--state", "/run/containerd", "--address", str(address), "--log-level", "error")
    with program(folder, "containerd", *arguments) as one:
        until_there(address, one)
        options = ("--data-root", str(data), "--exec-root", "/run/docker", "--pidfile", "/run/docker.pid")
        with program(folder, "dockerd", *options, "--containerd", str(address), "-H", f"unix://{door}") as two:
            until_there(door, two)
            os.environ["DOCKER_HOST"] = f"unix://{door}"
            docker.from_env().swarm.init(advertise_addr="127.0.0.1")
            yield
            subprocess.run(["docker", "swarm", "leave", "--force"], check=True, capture_output=True)


def seen(folder: Path, small: Path, registry: Registry) -> dict[str, object]:
    busybox = shutil.which("busybox")
    assert busybox
    base = layer(("bin/busybox", Path(busybox).read_bytes(), 0o755), ("srv/index.html", b"here", 0o644))
    light = registry.serve([base], "light")
    # Its last part never comes, so that nobody's speed decides; what comes goes well below the floor, and not to the end.
    registry.stall_after = shutil.disk_usage(small).free - FLOOR + 30 * MIB
    heavy = registry.serve([base, layer(("heavy", os.urandom(registry.stall_after + 20 * MIB), 0o644))], "heavy")
    floor = {"CANONQ_DISK_FLOOR": str(FLOOR), "CANONQ_DISK_NEED": str(MIB)}
    made = Installation(folder, floor)
    repo = make_recipe(folder / "site", {OLD: {"compose.yml": COMPOSE.format(image=light, version=OLD), ".env.sample": ""}})
    made.enrol("site", f'upstream = "{folder}/site"\n[health]\ntimeout = 600\n')
    first = made.canonq("sweep", "--wait", "--json").json
    release(repo, NEW, {"compose.yml": COMPOSE.format(image=heavy, version=NEW)})
    second = made.canonq("sweep", "--wait", "--json").json
    run = made.state / "runs" / "site" / str(second["outcomes"][0]["run"]) / "run.json"
    limit = time.monotonic() + 900
    while shutil.disk_usage(small).free < FLOOR and time.monotonic() < limit:
        time.sleep(0.5)
    (planned,) = made.canonq("plan", "--json").json["recipes"]
    images = subprocess.run(["docker", "image", "ls", "-q", heavy], check=True, capture_output=True, text=True).stdout
    return {
        "small": str(small),
        "came": registry.stall_after,
        "roots": {"images": str(SwarmEngine().roots().images), "how": SwarmEngine().roots().how},
        "outcomes": [sweep["outcomes"][0] for sweep in (first, second)],
        "planned": planned,
        "verdict": json.loads(run.read_text()) if run.is_file() else None,
        "canonical": json.loads((made.state / "warm" / "site" / "canonical.json").read_text())["version"],
        "verified": made.canonq("verify", "--json").json["recipes"][0]["ok"],
        "free": shutil.disk_usage(small).free,
        "heavy_image": images.strip(),
        "left": subprocess.run(["docker", "ps", "-aq"], check=True, capture_output=True, text=True).stdout.split(),
        "doctor": made.canonq("doctor", "--json").json["checks"],
    }


def main() -> None:
    folder = Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    small, image = folder / "small", folder / "small.img"
    small.mkdir()
    with image.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(small)], check=True)
    store = subprocess.run(["dockerd", "--version"], check=True, capture_output=True, text=True).stdout
    newer = int(store.split("version ")[1].split(".")[0]) >= 29
    with serving() as registry, engine(folder, small, containerd_store=newer):
        sys.stdout.write(f"{json.dumps(seen(folder, small, registry))}\n")


if __name__ == "__main__":
    main()
