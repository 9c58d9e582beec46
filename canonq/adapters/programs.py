"""The one place that starts programs: no shell, always a time limit, the whole process group ends with it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from canonq.core.errors import HostProblem, TimedOut

_KEPT_LINES = 25
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Ended:
    """A program that has ended."""

    status: int
    output: str  #: standard output and error as they came, undecodable bytes replaced

    @property
    def tail(self) -> str:
        """The last lines, for a message."""
        return "\n".join(self.output.splitlines()[-_KEPT_LINES:])


def run(
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    log: Path | None = None,
) -> Ended:
    """Run a program to its end and return status and output; a status other than 0 is the caller's to judge.

    `env` replaces the environment whole. `timeout` is in seconds; TimedOut when it is over, after the whole
    process group was killed. HostProblem when the program is not there.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise HostProblem(
            f"The program '{command[0]}' is not there.", mend=f"install {command[0]}.", code="program-missing"
        ) from error
    try:
        raw, _ = process.communicate(stdin, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"`{' '.join(command[:3])}` did not end within {timeout:.0f} s and was killed.") from error
    finally:
        # Also when a soft time limit or a kill of the task ends us: nothing that we started may live on.
        _kill_group(process)
    output = raw.decode(errors="replace")
    if log is not None:
        log.write_text(output)
    return Ended(process.returncode, output)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:  # the group has only zombies of another user left
        return
    process.wait()
    if process.stdout:
        process.stdout.close()


def plain_environment(**more: str) -> dict[str, str]:
    """A small environment for programs: PATH, HOME and a fixed locale, nothing of canonq's own settings."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST", "SSH_AUTH_SOCK") if key in os.environ}
    return {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", **kept, **more}


def with_parent(number: signal.Signals) -> Callable[[], None]:
    """What a child does before it becomes a program: ask for signal `number` when its parent dies, however it dies."""

    def ask() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)

    return ask
