"""Python processes that have imported what they need once, and fork what is asked of them: a start costs milliseconds.

Whoever asks (`Preloaded`) and such a process (`serve`) talk over a socket. One thing is done at a time: a call is asked for, runs
in a process of its own, and is ended with all that it left; then the next may be asked for. Either side's death ends the other's.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn, Protocol

from canonq.adapters.processes.programs import BEGINS, Program, plain_environment
from canonq.adapters.processes.stopping import check_stop, current
from canonq.core.errors import CanonqError, TimedOut
from canonq.core.jsontext import json_of

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LENGTH = struct.Struct(">Q")
_MOST_FDS = 2
_LEFT = 10.0  #: seconds for what a call left to die
HOME = Path(__file__).parents[3]  #: where canonq is, and so its modules are found wherever we are asked
_LOST = -int(signal.SIGKILL)  #: the status of a call whose end nobody saw


class _Gone(Exception):
    """The other side is not there any more."""


# -- whoever asks -------------------------------------------------------------------------------------------


class Begun(Protocol):
    """A process that serves."""

    def kill(self) -> None: ...
    def wait(self) -> int: ...


def begin(module: str, control: socket.socket) -> Begun:
    """Start the process of a module that calls `serve`, at the other end of a socket."""
    return subprocess.Popen(
        [sys.executable, "-m", module, str(control.fileno())],
        env=environment(), cwd=HOME, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=None, start_new_session=True,
        pass_fds=[control.fileno()],
    )  # fmt: skip


def environment() -> dict[str, str]:
    """What it has as its environment; a call has its own."""
    return plain_environment(PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")


class Preloaded:
    """Processes of one module that calls `serve`. They are started when needed, and kept for the next call."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._idle: list[_Server] = []
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._forget)

    def prepare(self) -> None:
        """Have one at hand soon: its imports go on beside whatever is done until it is needed."""
        self._give_back(self._take())

    def start(self, call: str, arguments: Mapping[str, Any], *, env: Mapping[str, str], cwd: Path, until: float) -> Program:
        """Begin a call of `serve`, in `cwd` and with no other environment than `env`. It tells when it begins.

        TimedOut when there was no process to do it until `until` (monotonic), CanonqError when none can be had.
        """
        for _ in range(2):  # the one that was kept may have died meanwhile
            server = self._take()
            try:
                return server.start({"call": call, "arguments": dict(arguments), "env": dict(env), "cwd": str(cwd)}, until)
            except _Gone:
                server.close()
            except BaseException:  # it may begin what nobody waits for
                server.close()
                raise
        raise CanonqError(f"The process of {self._module} died before it could do anything.", code="process-died")

    def _take(self) -> _Server:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Server(self._module, self._give_back)

    def _give_back(self, server: _Server) -> None:
        with self._lock:
            if not self._idle:
                self._idle.append(server)
                return
        server.close()

    def _forget(self) -> None:
        """In a fork of ours: they are our parent's, and would live on if we held their sockets."""
        self._lock = threading.Lock()
        for server in self._idle:
            server.control.close()
        self._idle = []


class _Server:
    def __init__(self, module: str, idle: Callable[[_Server], None]) -> None:
        self.control, theirs = socket.socketpair()
        self._idle = idle
        with theirs:
            self._process = begin(module, theirs)

    def start(self, orders: Mapping[str, Any], until: float) -> Program:
        said, says = os.pipe()
        begins, tells = os.pipe()
        try:
            _send(self.control, orders, (says, tells))
            self._await(orders["call"], until)
            pid = _take(self.control)[0]["pid"]
        except BaseException:
            os.close(said)
            os.close(begins)
            raise
        finally:
            os.close(says)
            os.close(tells)
        return Program.of(_Call(self, pid, orders["call"], os.fdopen(said, "rb", buffering=0)), begins)

    def _await(self, call: str, until: float) -> None:
        stop = current()
        while True:
            check_stop()
            left = until - time.monotonic()
            if left <= 0:
                raise TimedOut(f"`{call}` did not begin before the time for it was over.")
            listened = [self.control.fileno(), *([stop.fileno()] if stop else [])]
            if self.control.fileno() in select.select(listened, [], [], min(left, 3600.0))[0]:
                return

    def ended(self) -> int:
        """End the call with all that it left, and be free for the next one; the call's status."""
        try:
            _send(self.control, {"end": True})
            status = int(_take(self.control)[0]["status"])
        except _Gone:
            self.close()
            return _LOST
        self._idle(self)
        return status

    def close(self) -> None:
        """Without us it ends, and so does what it has started."""
        self.control.close()
        self._process.kill()
        self._process.wait()


class _Call:
    """One call under way; to `Program` what a Popen is."""

    stdin: IO[bytes] | None = None
    stderr: IO[bytes] | None = None

    def __init__(self, server: _Server, pid: int, name: str, stdout: IO[bytes]) -> None:
        self.pid, self.args, self.stdout = pid, [name], stdout
        self.returncode: int | None = None
        self._server = server

    def end(self) -> None:
        """Kill it with all that it started, if that was not done."""
        if self.returncode is None:
            self.returncode = self._server.ended()
            self.stdout.close()


# -- the process that is asked ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Orders:
    call: str
    arguments: dict[str, Any]
    env: dict[str, str]
    cwd: str


def serve(calls: Mapping[str, Callable[..., int]]) -> int:
    """Fork each call that is asked for, until nobody can ask any more."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # What a call leaves behind is given to us, whatever it did to get away.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keep_shared()
    while True:
        try:
            asked, fds = _take(control)
            orders = _Orders(**asked)
            known, tells_known = os.pipe()
            us, pid = os.getpid(), os.fork()
            if pid == 0:
                control.close()
                os.close(tells_known)
                os.read(known, 1)  # until we are known to whoever asked: what we do may end the process above us
                os.close(known)
                leave(_begin, calls, orders, fds, us)
            for fd in fds:
                os.close(fd)
            os.close(known)
            try:
                _send(control, {"pid": pid})
                os.close(tells_known)
                _take(control)
            finally:
                status = _end(pid)
            _send(control, {"status": status})
        except _Gone:
            return 0


def keep_shared() -> None:
    """Before forks: what is there stays. A fork that looked for garbage in it would make a copy of nearly all of our memory."""
    gc.collect()
    gc.freeze()


def _begin(calls: Mapping[str, Callable[..., int]], orders: _Orders, fds: list[int], parent: int) -> int:
    os.setsid()
    die_with(parent)
    out, begins = fds
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.set_inheritable(begins, False)
    os.environ.clear()
    os.environ.update(orders.env | {BEGINS: str(begins)})
    os.chdir(orders.cwd)
    return calls[orders.call](**orders.arguments)


def die_with(parent: int) -> None:
    """In a fork: be killed when the process that forked us dies, however it dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def leave(work: Callable[..., int], *given: Any) -> NoReturn:
    """The rest of a fork: work that returns, exits or breaks, and the end that a Python would come to.

    Only that its memory is not taken apart first: it is shared with the process that forked, and nearly all of it would be
    copied for that.
    """
    status = 1
    try:
        status = _status_of(work, *given)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(status)


def _status_of(work: Callable[..., int], *given: Any) -> int:
    try:
        return work(*given)
    except SystemExit as told:
        if told.code is None or isinstance(told.code, int):
            return told.code or 0
        sys.stderr.write(f"{told.code}\n")
    except BaseException:  # noqa: BLE001 - it is told as the interpreter would
        traceback.print_exc()
    return 1


def _end(pid: int) -> int:
    """Kill a call and all that it has started; its status. It is reaped last, so that its number stays its own."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    ends = time.monotonic() + _LEFT
    while time.monotonic() < ends:
        try:
            left = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if left is not None:
                os.waitpid(left.si_pid, 0)
                continue
        except ChildProcessError:
            break
        for child in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return status


def _children() -> list[int]:
    """Processes whose parent we are."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # pid (name) state parent ...; the name may hold anything
            if int((folder / "stat").read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(folder.name))
    return found


# -- messages -----------------------------------------------------------------------------------------------


def _send(control: socket.socket, message: Mapping[str, Any], fds: tuple[int, ...] = ()) -> None:
    body = json.dumps(message).encode()
    whole = memoryview(_LENGTH.pack(len(body)) + body)
    try:
        sent = socket.send_fds(control, [whole], fds) if fds else control.send(whole)
        control.sendall(whole[sent:])
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _Gone from error


def _take(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    try:
        first, fds, _, _ = socket.recv_fds(control, _LENGTH.size, _MOST_FDS)
        size = _LENGTH.unpack(first + _exactly(control, _LENGTH.size - len(first), began=bool(first)))[0]
        return json_of(_exactly(control, size, began=True)), list(fds)
    except ConnectionResetError as error:
        raise _Gone from error


def _exactly(control: socket.socket, size: int, *, began: bool) -> bytes:
    found = b""
    if not began:
        raise _Gone
    while len(found) < size:
        chunk = control.recv(size - len(found))
        if not chunk:
            raise _Gone
        found += chunk
    return found
