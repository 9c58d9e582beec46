"""A worker of canonq's whose Engine is of files: `python -m tests.hosts.worker FOLDER celery ...`. Its tiers pass."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

from canonq import wiring
from canonq.core.ladder import TierResult
from canonq.flows.proving import marking
from tests.fakes import FakeEngine


def main() -> None:
    """Be that program, or another of canonq's."""
    folder, *command = sys.argv[1:]

    def engine(*_: Any) -> FakeEngine:
        return FakeEngine(Path(folder))

    vars(wiring)["SwarmEngine"] = engine
    vars(marking)["run_generic"] = lambda *_: TierResult(status="pass")
    sys.argv = command
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
