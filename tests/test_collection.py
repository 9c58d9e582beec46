"""The names of the tests are the same in every process and in every folder: parallel ones refuse each other otherwise."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONGEST_FIRST
from tests.support import ROOT, ours

pytestmark = pytest.mark.long

FOREIGN = (
    "x.md", "docs/x.md", "docs/decisions/9999-x.md", ".pytest_cache/README.md", "stray/README.md", "stray/test_stray.py",
    "stray/x.nix", "nix/x.nix", "tests/stray/notes.txt", "tests/demo/x.md", "demo/recipes/stray/README.md",
    "demo/enrolments/stray/notes.txt", "canonq/stray/notes.txt", "deploy/x.env",
)  # fmt: skip


def collected(folder: Path, hash_seed: str) -> list[str]:
    """What pytest would run in this folder, in its order."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(folder)}
    for name in [name for name in environment if name.startswith(("PYTEST_", "CANONQ_"))]:
        del environment[name]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_what_is_collected_is_the_same_at_another_time_with_foreign_files_about_and_without_git(tmp_path: Path) -> None:
    for path in ours():
        (tmp_path / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, tmp_path / path.relative_to(ROOT), follow_symlinks=False)
    clean = collected(tmp_path, "1")
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("CANONQ_NOBODY_READS_THIS [nowhere](no/such/file.md)\n")
    assert collected(tmp_path, "2") == clean, "the second began seconds after the first"
    assert len(clean) > 1000


def test_what_is_begun_first_is_there() -> None:
    assert [name for name in LONGEST_FIRST if not (ROOT / "tests" / name).is_file()] == []
