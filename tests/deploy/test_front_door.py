"""What somebody finds who comes by for the first time: the licence, the hooks of a clone, what a forge shows and runs."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from canonq import __version__
from tests.support import ROOT

#: Of the text that the Free Software Foundation gives out.
AGPL = "0d96a4ff68ad6d4b6f1f30f713b18d5184912ba8dd389f86aa7710db079abcb0"


def test_the_licence_is_the_one_that_the_project_names_word_for_word() -> None:
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert named == "AGPL-3.0-or-later"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == AGPL


def test_the_list_of_changes_knows_the_version() -> None:
    versions = re.findall(r"^## (\d+\.\d+\.\d+)\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:1] == [__version__]


def test_a_forge_runs_what_ci_runs_on_each_push_and_pull_request() -> None:
    workflow = yaml.safe_load((ROOT / ".gitea" / "workflows" / "ci.yml").read_text())
    assert set(workflow[True]) == {"push", "pull_request"}, "YAML 1.1 takes `on` for true, and so does PyYAML"
    (job,) = workflow["jobs"].values()
    assert job["steps"][-1]["run"].endswith("&& .ci/run")
    assert not [step for step in job["steps"] if "uses" in step], "nothing of anybody else's is run"


def test_what_a_forge_shows_asks_for_what_the_documents_have() -> None:
    forms = sorted((ROOT / ".gitea" / "ISSUE_TEMPLATE").glob("*.md"))
    heads = [yaml.safe_load(form.read_text().split("---")[1]) for form in forms]
    assert all({"name", "about", "labels"} <= head.keys() for head in heads)
    asked = "".join(path.read_text() for path in [*forms, ROOT / ".gitea" / "pull_request_template.md"])
    assert all((ROOT / name).exists() for name in re.findall(r"\b(?:docs/decisions|[A-Z]+\.md)\b", asked))


# -- hooks --------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with the hooks in place, and this checkout's tools."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / ".venv").symlink_to(ROOT / ".venv")
    (folder / "scripts").mkdir()
    shutil.copytree(ROOT / "scripts" / "hooks", folder / "scripts" / "hooks")
    shutil.copy(ROOT / "pyproject.toml", folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "pyproject.toml")
    made = subprocess.run(
        ["make", "--file", str(ROOT / "Makefile"), "--old-file=setup", "hooks"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "core.hooksPath" in made.stdout
    return folder


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *who, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def committed(folder: Path, text: str, name: str = "one.py") -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(text)
    git(folder, "add", name)
    return git(folder, "commit", "--quiet", "--message", "one")


def test_a_commit_that_is_well_is_made(clone: Path) -> None:
    done = committed(clone, "ONE = 1\n")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("one.py", "ONE  =  1\n", "ruff format"),
        ("one.py", "import os\n", "F401"),
        ("one.txt", "blank \n", "blanks"),
        ("one.txt", "<<<<<<< ours\n", "conflict"),
    ],
    ids=["not formatted", "unused import", "ends in a blank", "a conflict"],
)
def test_a_commit_that_ci_would_refuse_is_not_made_and_says_why(clone: Path, name: str, text: str, said: str) -> None:
    done = committed(clone, text, name)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert git(clone, "rev-parse", "--verify", "HEAD").returncode != 0, "nothing was committed"


def test_what_is_looked_at_is_what_is_staged(clone: Path) -> None:
    (clone / "one.py").write_text("ONE = 1\n")
    git(clone, "add", "one.py")
    (clone / "one.py").write_text("ONE  =  2\n")
    assert git(clone, "commit", "--quiet", "--message", "one").returncode == 0
    git(clone, "add", "one.py")
    (clone / "one.py").write_text("ONE = 2\n")
    assert git(clone, "commit", "--quiet", "--message", "two").returncode != 0
