"""A worker of canonq's whose Engine is of files: typed as `tests.hosts.worker FOLDER celery ...`. Its tiers pass.

How long a recipe's install takes stands in `seconds.json` of that folder, where it is to take any time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import celery.__main__

from canonq import wiring
from canonq.adapters.files import table_in
from canonq.cli import main as canonq
from canonq.core.ladder import TierResult
from canonq.flows.proving import marking
from canonq.tiers.facts import TierFacts
from tests.fakes import FakeEngine

SECONDS = "seconds.json"


def main() -> None:
    """Be that program, or another of canonq's."""
    folder, *command = sys.argv[1:]

    def engine(*_: Any) -> FakeEngine:
        return FakeEngine(Path(folder))

    vars(wiring)["engine_of"] = engine
    seconds = table_in(Path(folder) / SECONDS)

    def passes(tier: str, facts: TierFacts, *_: Any) -> TierResult:
        time.sleep(float(seconds.get(facts.recipe, 0)) if tier == "install" else 0)
        return TierResult(status="pass")

    vars(marking)["run_generic"] = passes
    sys.argv = command
    {"canonq": canonq, "celery": celery.__main__.main}[command[0]]()
