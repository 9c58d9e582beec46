"""Census and marks of one database, in a process whose memory nothing else has touched: of a volume's SQLite file, or of a
PostgreSQL that the environment names."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from canonq.adapters.data import counting
from canonq.adapters.processes.programs import run
from canonq.ports import Data, Ended
from canonq.tiers import markers, servers


class Here:
    """A container that is this host."""

    def execute(
        self, stack: str, service: str, command: Sequence[str], timeout: float, env: Mapping[str, str] | None = None
    ) -> Ended:
        """As Docker's command is run, without Docker."""
        del stack, service
        return run(command, timeout=timeout, env={**os.environ, **(env or {})}, apart=True)

    def volumes_in_use(self, stack: str) -> dict[str, Path]:
        """No volume is looked at."""
        del stack
        return {}


def of_file(folder: Path) -> None:
    """Of app.db in a folder."""
    found = counting.count(folder)
    assert counting.ask_sqlite(folder, "count", found.sqlite)["app.db"].get("tables"), "it was counted"
    assert counting.ask_sqlite(folder, "write", found.sqlite, "canonq-bench")["app.db"].get("done")
    assert counting.ask_sqlite(folder, "read", found.sqlite)["app.db"]["texts"] == ["canonq-bench"]


def of_server() -> None:
    """Of the PostgreSQL."""
    data, images = cast("Data", Here()), {"db": "postgres:15"}
    counted = servers.count(data, "s", "db", "postgres")
    assert counted is not None and counted.tables.get("posts"), "it was counted"
    made = markers.write(data, "s", images, "canonq-bench")
    assert len(made) == 1 and markers.missing(data, "s", made, None, images) == []


def main(measured: Callable[[], None]) -> None:
    """Print seconds, MB that it took beyond its imports, and MB of the largest process that it started."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    measured()
    took = time.monotonic() - began
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{took:.3f} {own / 1024:.1f} {child / 1024:.1f}")


if __name__ == "__main__":
    main((lambda: of_file(Path(sys.argv[1]))) if sys.argv[1:] else of_server)
