"""What the deployment tests do on the host: run programs, and provide those that are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import ROOT


def run(
    *command: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    timeout_s: float = 1800,
) -> subprocess.CompletedProcess[str]:
    """Run a program with no input, keep what it says; `env` is added to this process's own."""
    return subprocess.run(  # these tests judge programs, not canonq's own way to start them
        [str(word) for word in command],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def must(*command: str | Path, env: Mapping[str, str] | None = None, timeout_s: float = 1800) -> str:
    """Run a program that has to succeed; give what it printed."""
    done = run(*command, env=env, timeout_s=timeout_s)
    if done.returncode != 0:
        said = f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        pytest.fail(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{said}")
    return done.stdout


def provide(program: str, package: str) -> str:
    """The path of a program; installed when this is root on Debian. Fails, and never skips, when it cannot be had."""
    if not shutil.which(program) and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        install = ("apt-get", "install", "-y", "--no-install-recommends", package)
        if run(*install, env=quiet, timeout_s=600).returncode != 0:
            run("apt-get", "update", timeout_s=600)
            run(*install, env=quiet, timeout_s=600)
    found = shutil.which(program)
    if not found:
        pytest.fail(f"{program} is missing, and without it nothing is proven here. Install it: apt-get install {package}")
    return found


def compose_program() -> list[str]:
    """`docker-compose`, or the plugin where only that is there."""
    if not shutil.which("docker-compose") and run("docker", "compose", "version").returncode == 0:
        return ["docker", "compose"]
    return [provide("docker-compose", "docker-compose")]
