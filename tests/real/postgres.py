"""A PostgreSQL of this host for a while, by Debian's programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import images

_NOBODY = 65534


def _programs_in(root: Path) -> Path:
    return root / "usr/lib/postgresql/15/bin"


@contextmanager
def serving(log: Path) -> Iterator[dict[str, str]]:
    """It runs as an image starts it, with one user and an empty database, for as long as the block lasts; the variables by which
    its clients find it, and canonq finds who may come in."""
    folder = Path(tempfile.mkdtemp(prefix="canonq-pg-"))
    os.chown(folder, _NOBODY, _NOBODY)
    root = Path("/")
    if not (_programs_in(root) / "initdb").exists():  # its package would make and start a server of this host's
        folder.chmod(0o755)
        root = images.unpacked(folder, images.POSTGRES_PACKAGES)
    programs = _programs_in(root)
    found = {"PATH": f"{programs}:{os.environ['PATH']}"}
    if root != Path("/"):
        found["LD_LIBRARY_PATH"] = ":".join(str(one) for one in (root / "usr/lib").glob("*-linux-gnu"))
    as_nobody = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []
    data = str(folder / "data")
    init = [*as_nobody, str(programs / "initdb"), "-D", data, "-U", "postgres", "-N"]
    subprocess.run(init, env=found, check=True, capture_output=True)
    command = [*as_nobody, str(programs / "postgres"), "-D", data, "-k", str(folder), "-c", "listen_addresses="]
    told = {**found, "PGHOST": str(folder), "POSTGRES_USER": "postgres", "PGUSER": "postgres"}
    with log.open("wb") as said, subprocess.Popen(command, env=found, stdout=said, stderr=said) as server:
        try:
            ends = time.monotonic() + 300
            while psql(told, "SELECT 1").returncode != 0:
                assert time.monotonic() < ends, "PostgreSQL"
                time.sleep(0.1)
            yield told
        finally:
            server.terminate()
            server.wait(timeout=120)
            shutil.rmtree(folder, ignore_errors=True)


def psql(env: dict[str, str], statement: str, database: str = "postgres") -> subprocess.CompletedProcess[bytes]:
    """Go on after errors, as `psql` does by itself."""
    command = ["psql", "-qXAt", "-d", database]
    return subprocess.run(command, input=statement.encode(), env=env, capture_output=True, check=False)
