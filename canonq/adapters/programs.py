"""The one place that starts programs: no shell, always a time limit, nothing of it lives on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from canonq.core.errors import HostProblem, TimedOut
from canonq.ports import Ended

_KEPT_BYTES = 4 << 20
_CUT = b"(the beginning was cut off)\n"
_PR_SET_PDEATHSIG = 1
_COOKIE = "CANONQ_PROGRAM"  #: variable by which the daemons of a program are known


def run(
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    log: Path | None = None,
    strangers: bool = False,
) -> Ended:
    """Run a program to its end and return status and output; a status other than 0 is the caller's to judge.

    Of a long output the end is kept. `strangers`: the program is not ours, so daemons it forked are hunted down.
    `env` replaces the environment whole. `timeout` is in seconds; TimedOut when it is over, after the whole
    process group was killed. HostProblem when the program is not there.
    """
    program = Program(command, cwd=cwd, env=env, wants_input=stdin is not None)
    return program.finish(timeout=timeout, stdin=stdin, log=log, strangers=strangers)


class Program:
    """A program that has been started. Use `run` where nothing is to be done between its start and its end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        wants_input: bool = False,
    ) -> None:
        """Start it. HostProblem when it is not there."""
        self._command = command
        self._cookie = f"{_COOKIE}={secrets.token_hex(12)}"
        try:
            self._process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**(os.environ if env is None else env), _COOKIE: self._cookie.partition("=")[2]},
                stdin=subprocess.PIPE if wants_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # What a killed worker has started must not work on without it.
                preexec_fn=with_parent(signal.SIGKILL),
            )
        except FileNotFoundError as error:
            raise HostProblem(
                f"The program '{command[0]}' is not there.", mend=f"install {command[0]}.", code="program-missing"
            ) from error

    def finish(self, *, timeout: float, stdin: bytes | None = None, log: Path | None = None, strangers: bool = False) -> Ended:
        """Give it its input and wait for its end; see `run`."""
        raw = b""
        try:
            raw = _read_to_end(self._process, stdin, time.monotonic() + timeout)
        except subprocess.TimeoutExpired as error:
            raw = bytes(error.output)
            raise TimedOut(f"`{' '.join(self._command[:3])}` did not end within {timeout:.0f} s and was killed.") from error
        finally:
            # Also when a soft time limit or a kill of the task ends us: nothing that we started may live on.
            self.end()
            if strangers:
                _kill_daemons(self._cookie.encode())
            if log is not None:
                log.write_text(raw.decode(errors="replace"))
        return Ended(self._process.returncode, raw.decode(errors="replace"))

    def end(self) -> None:
        """Kill it with its whole process group, if it still lives."""
        _kill_group(self._process)


def _read_to_end(process: subprocess.Popen[bytes], stdin: bytes | None, ends: float) -> bytes:
    """Read until the process itself has ended: a daemon it left may hold the pipe open for ever."""
    assert process.stdout is not None
    if stdin is not None and process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it did not want it
            process.stdin.write(stdin)
            process.stdin.close()
    pipe = process.stdout.fileno()
    os.set_blocking(pipe, False)
    kept, dropped, open_ = bytearray(), False, True
    while True:
        over = _has_ended(process)
        if open_ and select.select([pipe], [], [], 0 if over else 0.05)[0]:
            chunk = os.read(pipe, 1 << 16)
            open_ = bool(chunk)
            kept += chunk
            if len(kept) > 2 * _KEPT_BYTES:
                del kept[:-_KEPT_BYTES]
                dropped = True
            if chunk and time.monotonic() <= ends:
                continue
        elif not open_ and not over:
            time.sleep(0.02)
        if over:
            return _CUT + bytes(kept) if dropped else bytes(kept)
        if time.monotonic() > ends:
            raise subprocess.TimeoutExpired(process.args, 0, output=bytes(kept))


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has ended. It is not reaped: until it is, no other process can have its number."""
    if process.returncode is not None:
        return True
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_daemons(cookie: bytes) -> None:
    """Kill what left the process group to live on; it is known by a variable it inherited."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found = cookie in (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # ended, or another user's
            continue
        if found and folder.name != str(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(folder.name), signal.SIGKILL)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is not None:
        return  # reaped: by now its number may be another group's
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    except PermissionError:  # the group has only zombies of another user left
        return
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def plain_environment(**more: str) -> dict[str, str]:
    """A small environment for programs: PATH, HOME and a fixed locale, nothing of canonq's own settings."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST", "SSH_AUTH_SOCK") if key in os.environ}
    return {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", **kept, **more}


def with_parent(number: signal.Signals) -> Callable[[], None]:
    """What a child does before it becomes a program: ask for signal `number` when its parent dies, however it dies."""

    def ask() -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)

    return ask
