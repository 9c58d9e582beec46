"""A worker of canonq's whose Engine is of files: typed as `tests.hosts.worker FOLDER celery ...`. Its tiers pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import celery.__main__

from canonq import wiring
from canonq.cli import main as canonq
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
    {"canonq": canonq, "celery": celery.__main__.main}[command[0]]()
