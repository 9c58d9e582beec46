"""The contracts of imports in pyproject.toml mean what they say: a module that goes astray breaks them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT

#: A stray module -> the contract that it breaks.
ASTRAY = {
    "canonq/utils.py": ("import subprocess\n", "every module of canonq has its layer"),
    "canonq/flows/asking.py": ("import socket\n", "flows touch the outside through ports and adapters"),
    "canonq/cli/shelling.py": ("import subprocess\n", "programs are started by adapters and workers"),
    "canonq/tiers/test_shells.py": ("import subprocess\n", "programs are started by adapters and workers"),
    "canonq/core/peeking.py": ("import os\n", "the core touches no outside world"),
    "canonq/adapters/deciding.py": ("from canonq.flows import sync\n", "imports point down"),
    "canonq/flows/queueing.py": ("import celery\n", "Celery stops at workers and the command line"),
}
#: What is added to a module that is there: an import that a function hides is one all the same.
HIDDEN = {
    "workers/steps.py": ("\n\ndef _later() -> None:\n    from workers import tasks\n", "workers have layers, and no circle"),
    "canonq/flows/sync.py": (
        "\n\ndef _later() -> None:\n    from canonq.flows import decide\n",
        "steps of the chain know nothing of each other",
    ),
}


def test_a_module_that_goes_astray_breaks_a_contract_also_where_a_function_hides_its_import(tmp_path: Path) -> None:
    for name in ("canonq", "workers"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("beat_schedule.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name, (text, _) in ASTRAY.items():
        (tmp_path / name).write_text(text)
    for name, (text, _) in HIDDEN.items():
        with (tmp_path / name).open("a") as file:
            file.write(text)
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    broken = set(re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE))
    assert broken >= {contract for _, contract in [*ASTRAY.values(), *HIDDEN.values()]}, done.stdout
