"""The two commands of a fresh machine, and what stands under them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT

from .host import must, run

WITH_ENGINE = ROOT / "scripts" / "with-engine"

# A machine on which no engine runs: own processes, network and /run, and empty roots for Docker and containerd.
_BARE = (
    'mount -t tmpfs none /run && mkdir -p /var/lib/containerd && mount --bind "$1/docker" /var/lib/docker && '
    'mount --bind "$1/containerd" /var/lib/containerd && ip link set lo up && shift && exec "$@"'
)

# How many processes of an engine run. One that has ended and that nobody has waited for yet (state Z) is none: the first
# process of a machine takes a moment for those that its children leave to it.
_ENGINES_LEFT = r"cat /proc/[0-9]*/stat 2>/dev/null | grep -cE '\((dockerd|containerd)[^)]*\) [^Z]'"


@pytest.fixture
def bare_machine(tmp_path: Path) -> tuple[str, ...]:
    """The words before a command that make it run where no engine runs."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        pytest.skip("only root, on a machine with dockerd installed, can start an engine")
    (tmp_path / "docker").mkdir()
    (tmp_path / "containerd").mkdir()
    apart = ("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
    return (*apart, "bash", "-ec", _BARE, "bare", str(tmp_path))


def engine() -> tuple[str, str]:
    """What tells one running engine from another: its id, and its swarm node's."""
    told = must("docker", "info", "--format", "{{.ID}} {{.Swarm.NodeID}}").split()
    return told[0], told[1]


@pytest.mark.real
@pytest.mark.parametrize("status", [0, 1, 3, 77])
def test_with_engine_gives_the_command_s_exit_status(status: int) -> None:
    assert run(WITH_ENGINE, "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.real
def test_with_engine_uses_a_running_engine_and_leaves_it_as_it_was() -> None:
    before = engine()
    done = run(WITH_ENGINE, WITH_ENGINE, "docker", "info", "--format", "{{.ID}}")
    assert done.stdout.strip() == before[0]
    assert done.stderr.count("using the Docker Engine that runs") == 2
    assert engine() == before


@pytest.mark.long
@pytest.mark.real
def test_with_engine_starts_an_engine_with_a_swarm_and_stops_it(bare_machine: tuple[str, ...]) -> None:
    # Twice in a row, and the second with a nested call; then nothing of it may be left but the shell itself.
    inner = f"{WITH_ENGINE} docker node ls -q && {WITH_ENGINE} {WITH_ENGINE} sh -c 'exit 9'"
    done = run(*bare_machine, "bash", "-c", f"{inner}; echo status $?; echo left $({_ENGINES_LEFT})", timeout_s=1800)
    node, *rest = done.stdout.splitlines()
    assert node
    assert rest == ["status 9", "left 0"], done.stderr
    assert done.stderr.count("started dockerd") == 2
    assert done.stderr.count("left the swarm") == 2
    assert done.stderr.count("using the Docker Engine that runs") == 1


@pytest.mark.long
@pytest.mark.real
def test_with_engine_hands_on_a_signal_and_still_stops_the_engine(bare_machine: tuple[str, ...]) -> None:
    command = "trap 'echo asked to end; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    driver = f"""
        coproc engine {{ exec {WITH_ENGINE} bash -c "{command}"; }}
        read -r line <&"${{engine[0]}}"; echo "$line"
        pid=$engine_PID; exec 5<&"${{engine[0]}}"
        kill -TERM "$pid"; wait "$pid"; echo status $?
        cat <&5
        echo left $({_ENGINES_LEFT})
    """
    done = run(*bare_machine, "bash", "-c", driver, timeout_s=1800)
    assert done.stdout.splitlines() == ["ready", "status 5", "asked to end", "left 0"], done.stderr


def test_with_engine_says_what_to_do_when_the_chosen_engine_does_not_answer(tmp_path: Path) -> None:
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = run(WITH_ENGINE, "true", env=nowhere)
    assert done.returncode == 3
    assert "DOCKER_HOST" in done.stderr


def test_with_engine_wants_a_command() -> None:
    done = run(WITH_ENGINE)
    assert done.returncode == 3
    assert "no command" in done.stderr


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what scripts/venv reads."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements", ignore=shutil.ignore_patterns("wheels"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def venv(tree: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run(tree / "scripts" / "venv", env=env, cwd=tree)


def test_venv_refuses_a_python_that_is_not_one(tree: Path) -> None:
    done = venv(tree, CANONQ_PYTHON="/nonexistent/python")
    assert done.returncode == 1
    assert "CANONQ_PYTHON" in done.stderr
    assert not (tree / ".venv").exists()


@pytest.mark.parametrize("file", ["pyproject.toml", "requirements/dev.txt"])
def test_venv_names_the_file_that_an_incomplete_checkout_lacks(tree: Path, file: str) -> None:
    (tree / file).unlink()
    done = venv(tree)
    assert done.returncode == 1
    assert file in done.stderr


def test_make_alone_lists_the_verbs() -> None:
    listed = must("make", "--no-print-directory")
    for verb in ("setup", "demo", "test", "test-fast", "check", "bench", "requirements", "clean"):
        assert re.search(rf"^  make {verb} ", listed, re.MULTILINE)


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_every_requirement_is_pinned_by_hash_and_names_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    assert len(blocks) > 1
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)
    assert "://" not in text


@pytest.mark.parametrize("name", ["build", "run", "dev"])
def test_every_requirement_asked_for_is_pinned(name: str) -> None:
    asked = (ROOT / "requirements" / f"{name}.in").read_text().splitlines()
    pinned = (ROOT / "requirements" / f"{name}.txt").read_text().lower()
    for line in asked:
        if re.match(r"[A-Za-z]", line):
            project = re.split(r"[\[<>=]", line)[0].lower()
            assert re.search(rf"^{project}==", pinned, re.MULTILINE), line
