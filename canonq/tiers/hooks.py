"""Calls one function of a recipe's hooks.py, in a process of its own: `python -m canonq.tiers.hooks FILE FUNCTION [ARGUMENT]`.

What the function returns goes as JSON into the file that CANONQ_ANSWER names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.programs import begun
from canonq.tiers.app import DeployedApp
from canonq.tiers.facts import read_facts

ANSWER = "CANONQ_ANSWER"


def main(path: str, function: str, *arguments: str) -> None:
    """Load the file and call the function with the app."""
    sys.path.insert(0, str(Path(path).parent))
    begun()
    spec = importlib.util.spec_from_file_location("hooks", path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app = DeployedApp(read_facts(), SwarmEngine())
    try:
        answer = getattr(module, function)(app, *arguments)
    finally:
        app.close()
    Path(os.environ[ANSWER]).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
