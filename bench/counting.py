"""Census and marks of one volume's SQLite file, in a process whose memory nothing else has touched."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from canonq.adapters.data import counting


def main(folder: Path) -> None:
    """Print seconds, MB that it took beyond its imports, and MB of the process that it starts."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    found = counting.count(folder)
    assert counting.ask_sqlite(folder, "count", found.sqlite)["app.db"].get("tables"), "it was counted"
    assert counting.ask_sqlite(folder, "write", found.sqlite, "canonq-bench")["app.db"].get("done")
    assert counting.ask_sqlite(folder, "read", found.sqlite)["app.db"]["texts"] == ["canonq-bench"]
    took = time.monotonic() - began
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(f"{took:.3f} {own / 1024:.1f} {child / 1024:.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
