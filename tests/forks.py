"""Processes of canonq that need not import it: forks of one that has imported it whole, before there was anything to do.

Tests type hundreds of commands, start dozens of workers, and let as many runs climb: most of each would be its imports. Each is
a process of its own all the same, with its own environment and folder, from its first line to its exit status. That the installed
programs start by themselves is seen where tests, the demo and the stack of containers run them as they are.

Whoever tests starts that one process, `tests.commands`, and every fork of it may ask for more of them, as a command does for the
process of its tiers, and a worker for its upkeep.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.processes import preloaded
from canonq.tiers.facts import RUNNER

COMMANDS = "tests.commands"
LARGEST = 1 << 18  #: bytes of what is asked
_FORKED = (COMMANDS, RUNNER)  #: modules that serve

_start_anew = preloaded.begin


class _Origin:
    """The process that all are forked of, started when the first is asked for."""

    def __init__(self) -> None:
        self.asking: socket.socket | None = None  #: where a fork is asked for
        self._held: socket.socket | None = None  #: closed by the end of whoever tests, and then all of them end
        self._once = threading.Lock()

    def ask(self, orders: Mapping[str, Any], given: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """What it answers."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine:
            with theirs:
                socket.send_fds(self._there(), [json.dumps(orders).encode()], [theirs.fileno(), *given])
            answer, handles, _, _ = socket.recv_fds(mine, LARGEST, 1)
        assert answer, "the process that all are forked of has ended"
        return json.loads(answer), list(handles)

    def _there(self) -> socket.socket:
        with self._once:
            if self.asking is None:
                asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                self._held, ends = socket.socketpair()
                passed = [one.fileno() for one in (asking, answering, ends)]
                with answering, ends:
                    subprocess.Popen(
                        [sys.executable, "-m", COMMANDS, *map(str, passed)],
                        env=preloaded.environment(), cwd=preloaded.HOME, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                        start_new_session=True, pass_fds=passed,
                    )  # fmt: skip
                self.asking = asking
            return self.asking


_ORIGIN = _Origin()


class Forked:
    """A process that was forked for us; to whoever asked what a Popen is."""

    def __init__(self, number: int, pid: int, handle: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._number, self._handle = number, handle

    def poll(self) -> int | None:
        """Its status, if it has ended."""
        if self.returncode is None and select.select([self._handle], [], [], 0)[0]:
            self.returncode = int(_ORIGIN.ask({"status": self._number})[0]["status"])
            os.close(self._handle)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status, once it has ended. TimeoutExpired when it has not by then."""
        if self.returncode is None and not select.select([self._handle], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)


def begin(module: str, control: socket.socket) -> preloaded.Begun:
    """The process of a module that serves: a fork, where its module is one of ours."""
    if module not in _FORKED:
        return _start_anew(module, control)
    return forked({"serve": module, "env": preloaded.environment(), "cwd": str(preloaded.HOME)}, control.fileno())


def program(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, said: int) -> Forked:
    """What `python -m COMMAND...` does, of `canonq`, `celery` or a program of the tests; what it says goes to the file `said`."""
    return forked({"program": list(command), "env": dict(env), "cwd": str(cwd)}, said)


def forked(orders: Mapping[str, Any], *given: int) -> Forked:
    """A fork that does so; see `tests.commands`."""
    answer, (handle,) = _ORIGIN.ask(orders, given)
    return Forked(answer["number"], answer["pid"], handle)


def of(asking: socket.socket) -> None:
    """In the process that all are forked of: have forks ask it for more."""
    _ORIGIN.asking = asking


preloaded.begin = begin
