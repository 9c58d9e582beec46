"""Running the `canonq` command as its users do: in a process of its own, with an environment of its own."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from git.repo import Repo

from canonq.adapters.processes.preloaded import Preloaded
from tests.forks import COMMANDS

COMMAND_LIMIT = 3600  #: seconds
_COMMANDS = Preloaded(COMMANDS)
_made: list[tuple[int, Path]] = []  #: who keeps repositories that were made before, and where


def _kept() -> Path:
    """Where repositories are that were made before, by their content."""
    if not _made:
        _made.append((os.getpid(), Path(tempfile.mkdtemp(prefix="canonq-recipes-"))))
        atexit.register(forget_made)
    return _made[0][1]


def forget_made() -> None:
    """Remove them, where this process keeps them and is no fork of that one."""
    for maker, folder in _made:
        if maker == os.getpid():
            shutil.rmtree(folder, ignore_errors=True)


ROOT = Path(__file__).resolve().parents[1]
#: What the project consists of, for an archive that git knows nothing of.
_FOLDERS = ("canonq", "workers", "tests", "demo", "bench", "docs", "deploy", "nix", "scripts", "requirements", ".ci", ".gitea")
_FILES = (
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "Dockerfile", "docker-compose.yml", "pyproject.toml",
    "beat_schedule.py", "LICENSE", "SECURITY.md", ".editorconfig",
)  # fmt: skip


def ours() -> list[Path]:
    """The project's own files, in order; what else lies about in its folder is not looked at.

    Not for names of tests: these are the same whatever lies there, so that processes that collect them agree.
    """
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if (ROOT / ".git").exists() and listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        below = [path for folder in _FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
        found = [*below, *(ROOT / name for name in _FILES)]
    return sorted(path for path in found if path.is_file())


@dataclass(frozen=True)
class Ended:
    """A `canonq` command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one JSON value it must be; an object tells what else was said where a key is not in it."""
        found = json.loads(self.out)
        return _Told(found, self) if isinstance(found, dict) else found


class _Told(dict[str, Any]):
    def __init__(self, found: dict[str, Any], ended: Ended) -> None:
        super().__init__(found)
        self.ended = ended

    def __missing__(self, key: str) -> Any:
        raise AssertionError(f"there is no {key} in what was printed: {self.ended}")


@dataclass
class Installation:
    """A checkout, a state folder, and the settings that name them."""

    root: Path
    settings: dict[str, str] = field(default_factory=dict)
    recipe: str = "small"  #: the one that is enrolled where there is but one

    @property
    def checkout(self) -> Path:
        """The folder CANONQ_REPO names."""
        return self.root / "checkout"

    @property
    def state(self) -> Path:
        """The folder CANONQ_STATE names."""
        return self.root / "state"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands: nothing of the caller's CANONQ_* settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CANONQ_", "CELERY_"))}
        kept.pop("PYTHONDONTWRITEBYTECODE", None)  # the commands start many times: let them keep their bytecode
        # These machines are always loaded; the tests of trying again set a threshold of their own.
        # Nor does a test wait for the world to mend itself, unless it is about that.
        own = {
            "CELERY_APP": "canonq",
            "CANONQ_REPO": str(self.checkout),
            "CANONQ_STATE": str(self.state),
            "CANONQ_LOADED_ABOVE": "0",
            "CANONQ_RETRY_PAUSE": "0",
            "CANONQ_SCREENSHOTS": "false",
        }
        return {**kept, **own, **self.settings}

    def enrol(self, recipe: str, toml: str) -> Path:
        """Write a recipe's enrolment. Its runs end when all is proven, but where `toml` says how long an app has to stay up."""
        if "soak" not in toml:
            table = "[health]\n"
            toml = toml.replace(table, f"{table}soak = 0\n", 1) if table in toml else f"{toml}{table}soak = 0\n"
        folder = self.checkout / "tests" / recipe
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text(toml)
        return folder

    def canonq(self, *arguments: str, timeout: float = COMMAND_LIMIT) -> Ended:
        """Run a command to its end."""
        return typed(["canonq", *arguments], env=self.environment, cwd=self.root, timeout=timeout)

    def celery(self, *arguments: str, timeout: float = COMMAND_LIMIT) -> Ended:
        """Run `celery ...` to its end, as it is typed."""
        return typed(["celery", *arguments], env=self.environment, cwd=self.root, timeout=timeout)

    def anew(self, *command: str, timeout: float = COMMAND_LIMIT) -> Ended:
        """Run `python -m ...` to its end, in a Python that was just started: where its first imports matter."""
        line = [sys.executable, "-m", *command]
        done = subprocess.run(
            line, env=self.environment, cwd=self.root, capture_output=True, text=True, timeout=timeout, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)


def typed(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, timeout: float = COMMAND_LIMIT) -> Ended:
    """Run a program of `tests.forks` to its end, as it is typed."""
    with tempfile.NamedTemporaryFile("r", errors="replace") as errors:
        orders = {"command": list(command), "errors": errors.name}
        done = _COMMANDS.start("typed", orders, env=env, cwd=cwd, until=time.monotonic() + timeout).finish(timeout=timeout)
        return Ended(done.status, done.output, errors.read())


def make_recipe(folder: Path, releases: dict[str, dict[str, str]]) -> Repo:
    """A recipe's repository with one commit and annotated tag for each release (tag -> file -> text).

    What was made before is copied: a dozen of git's processes are spared.
    """
    made = _kept() / hashlib.sha256(json.dumps(releases).encode()).hexdigest()
    if not made.exists():
        new = made.with_name(f"{made.name}.{os.getpid()}")
        repo = Repo.init(new, initial_branch="main")
        for tag, files in releases.items():
            release(repo, tag, files)
        new.rename(made)
    shutil.copytree(made, folder, symlinks=True)
    return Repo(folder)


def release(repo: Repo, tag: str, files: dict[str, str]) -> str:
    """Commit files and tag them; the commit."""
    folder = Path(repo.working_dir)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    repo.git.add("--all")
    repo.git.commit("--allow-empty", "--quiet", "--message", tag)
    repo.git.tag("--annotate", tag, "--message", tag)
    return str(repo.head.commit.hexsha)
