"""The one place that starts programs: no shell, always a time limit, nothing of it lives on."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol, Self

from canonq.adapters.docker.target import docker_variables
from canonq.adapters.processes.stopping import check_stop, current
from canonq.core.errors import HostProblem, TimedOut
from canonq.ports import Ended

_KEPT_BYTES = 4 << 20
_LONGEST_SELECT = 3600.0  #: seconds; it takes no infinity
_WATCHED_EVERY = 1.0  #: seconds
_MOST_DATA = 256 << 20  #: bytes of standard output that is data
_CUT = b"(the beginning was cut off)\n"
_TOGETHER = -1  #: in the place of a pipe's number: all that came from both
_COOKIE = "CANONQ_PROGRAM"  #: variable by which the daemons of a program are known
BEGINS = "CANONQ_BEGINS"  #: variable that names the pipe on which a program of ours tells that it begins


def run(
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    log: Path | None = None,
    strangers: bool = False,
    tells_begin: bool = False,
    until: float = math.inf,
    apart: bool = False,
) -> Ended:
    """Run a program to its end and return status and output; a status other than 0 is the caller's to judge.

    Of a long output the end is kept. `strangers`: the program is not ours, so daemons it forked are hunted down.
    `env` replaces the environment whole. `timeout` is in seconds; TimedOut when it is over, after the whole
    process group was killed; so it is when the work is asked to end (see `stopping`). `tells_begin`: it calls `begun` when
    its own start is over, and only from then on the time counts. `until` (monotonic) ends it in any case. `apart`: beside
    the output as it came, standard output and error are kept each by itself. HostProblem when the program is not there.
    """
    _still_time(command, min(timeout, until - time.monotonic()))
    program = Program(
        command, cwd=cwd, env=env, wants_input=stdin is not None, tells_begin=tells_begin, apart=apart, together=True
    )
    return program.finish(timeout=timeout, until=until, stdin=stdin, log=log, strangers=strangers)


def read(
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    harmless: bool = False,
    largest_file: int | None = None,
    stdin: bytes | None = None,
    most: int | None = None,
    watch: Callable[[], object] | None = None,
) -> Ended:
    """Like `run`, for a program whose standard output is data: it is kept whole, and apart from standard error.

    HostProblem (`too-much`) for more than `most` bytes of it; the program is killed then.

    Bytes of it that are not UTF-8 are kept as Python's surrogate escapes: they may be names, which go back to the program.

    `harmless`: it changes nothing, so it need not die with us, which makes its start cheaper.
    `largest_file`: bytes beyond which no file it writes may grow; it is then ended by the kernel.
    `watch` is called about each second while it goes on, and once it has ended: what that raises ends the program.
    """
    _still_time(command, timeout)
    program = Program(
        command, cwd=cwd, env=env, wants_input=stdin is not None, apart=True, harmless=harmless, largest_file=largest_file
    )
    return program.finish(timeout=timeout, stdin=stdin, most=most, watch=watch)


def _still_time(command: Sequence[str], seconds: float) -> None:
    if seconds <= 0:
        raise TimedOut(f"`{_shown(command)}` was not started: the time for it was over before.")


def begun() -> None:
    """Tell whoever started this process with `tells_begin` that its own start is over, and what was asked for begins."""
    if pipe := os.environ.pop(BEGINS, ""):
        os.write(int(pipe), b".")
        os.close(int(pipe))


class Program:
    """A program that has been started. Use `run` or `read` where nothing is to be done between its start and its end."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        wants_input: bool = False,
        apart: bool = False,
        together: bool = False,
        harmless: bool = False,
        largest_file: int | None = None,
        tells_begin: bool = False,
    ) -> None:
        """Start it. HostProblem when it is not there."""
        self._command = command
        self._cookie = f"{_COOKIE}={secrets.token_hex(12)}"
        self._process: _Process
        self._begins: int | None = None
        self._together = together
        tell: int | None = None
        if tells_begin:
            self._begins, tell = os.pipe()
        begins = {} if tell is None else {BEGINS: str(tell)}
        given = os.environ if env is None else env
        try:
            _require(command[0], cwd, given)
            self._process = _Spawned(
                # What a killed worker has started must not work on without it.
                command if harmless else with_parent(command, signal.SIGKILL, largest_file),
                cwd=cwd,
                env={**given, _COOKIE: self._cookie.partition("=")[2], **begins},
                stdin=subprocess.PIPE if wants_input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if apart else subprocess.STDOUT,
                start_new_session=True,
                pass_fds=() if tell is None else (tell,),
            )
            self._process.args = command  # what is told of it
        except BaseException:
            self._close()
            raise
        finally:
            if tell is not None:
                os.close(tell)

    @classmethod
    def of(cls, process: _Process, begins: int) -> Self:
        """A process that somebody else has started, and that tells on the pipe `begins` that it does."""
        self = cls.__new__(cls)
        self._command, self._cookie, self._process, self._begins = process.args, "", process, begins
        self._together = False
        return self

    def finish(
        self,
        *,
        timeout: float,
        until: float = math.inf,
        stdin: bytes | None = None,
        log: Path | None = None,
        strangers: bool = False,
        most: int | None = None,
        watch: Callable[[], object] | None = None,
    ) -> Ended:
        """Give it its input and wait for its end; see `run`, and for `most` and `watch` see `read`."""
        heard = _Heard(self._process, self._begins, together=self._together, most=most)
        began = time.monotonic()
        try:
            heard.to_the_end(stdin, timeout, until, watch)
            if watch is not None:
                watch()
        except subprocess.TimeoutExpired as error:
            took = min(timeout, time.monotonic() - began)
            raise TimedOut(
                f"`{_shown(self._command)}` did not end within {took:.{0 if took >= 1 else 1}f} s and was killed."
            ) from error
        finally:
            # Also when a soft time limit or a kill of the task ends us: nothing that we started may live on.
            self.end()
            if strangers and self._cookie:  # a process that somebody else has started is ended by them with all it left
                _kill_daemons(self._cookie.encode())
            if log is not None:
                log.write_text(heard.output)
        assert self._process.returncode is not None  # it was ended above
        return Ended(self._process.returncode, heard.output, heard.errors, heard.raw)

    def end(self) -> None:
        """Kill it with its whole process group, if it still lives."""
        self._process.end()
        self._close()

    def _close(self) -> None:
        if self._begins is not None:
            os.close(self._begins)
            self._begins = None


class _Process(Protocol):
    """A process under way. Its number is its own until `end`, which kills its whole group."""

    @property
    def pid(self) -> int: ...
    @property
    def args(self) -> Any: ...
    @property
    def stdin(self) -> IO[bytes] | None: ...
    @property
    def stdout(self) -> IO[bytes] | None: ...
    @property
    def stderr(self) -> IO[bytes] | None: ...
    @property
    def returncode(self) -> int | None: ...
    def end(self) -> None: ...


class _Spawned(subprocess.Popen[bytes]):
    def end(self) -> None:
        _kill_group(self)


class _Feed:
    """What a process is told, written as it takes it: one that speaks before it has heard all must not wait for ever."""

    def __init__(self, process: _Process, text: bytes | None) -> None:
        self._left = memoryview(text or b"")
        self._pipe = process.stdin
        if self._pipe is not None:
            os.set_blocking(self._pipe.fileno(), False)
        if not self._left:
            self._close()

    @property
    def pipes(self) -> list[int]:
        """The pipe to wait for, while something is left to be told."""
        return [self._pipe.fileno()] if self._pipe is not None else []

    def go_on(self) -> None:
        """Write what it takes now, and close the pipe after the last of it."""
        if self._pipe is None:
            return
        try:
            self._left = self._left[os.write(self._pipe.fileno(), self._left[: 1 << 16]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it did not want it
            self._left = self._left[:0]
        if not self._left:
            self._close()

    def _close(self) -> None:
        if self._pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                self._pipe.close()
        self._pipe = None


class _Heard:
    """What a process says, read until the process itself has ended: a daemon it left may hold its pipes open for ever."""

    def __init__(self, process: _Process, begins: int | None = None, *, together: bool = False, most: int | None = None) -> None:
        assert process.stdout is not None
        self._process = process
        self._most = _MOST_DATA if most is None else most
        self._begins = begins
        self._kept: dict[int, bytearray] = {process.stdout.fileno(): bytearray()}
        if process.stderr is not None:
            self._kept[process.stderr.fileno()] = bytearray()
        if together and self._apart:
            self._kept[_TOGETHER] = bytearray()
        self._cut: set[int] = set()

    @property
    def output(self) -> str:
        """Standard output; with standard error in between, unless that is kept apart."""
        if _TOGETHER in self._kept:
            return self._text(2, "replace")
        return self._text(0, "surrogateescape" if self._apart else "replace")

    @property
    def errors(self) -> str:
        """Standard error where it is kept apart."""
        return self._text(1, "replace") if self._apart else ""

    @property
    def raw(self) -> bytes:
        """Standard output byte for byte, where it is kept apart."""
        return bytes(next(iter(self._kept.values()))) if self._apart else b""

    @property
    def _apart(self) -> bool:
        return len(self._kept) > 1

    def _text(self, which: int, undecodable: str) -> str:
        pipe = list(self._kept)[which]
        raw = bytes(self._kept[pipe])
        return (_CUT + raw if pipe in self._cut else raw).decode(errors=undecodable)

    def to_the_end(self, stdin: bytes | None, timeout: float, until: float, watch: Callable[[], object] | None = None) -> None:
        """Feed and read it, both as it comes. TimeoutExpired when it goes on for longer than `timeout` since it began, or
        beyond `until`.
        """
        watches = time.monotonic() + _WATCHED_EVERY
        ends = min(until, math.inf if self._begins is not None else time.monotonic() + timeout)
        ended, stop = os.pidfd_open(self._process.pid), current()
        pipes = set(self._kept) - {_TOGETHER}
        feed = _Feed(self._process, stdin)
        for pipe in pipes:
            os.set_blocking(pipe, False)
        try:
            while self._process.returncode is None and not select.select([ended], [], [], 0)[0]:
                left = ends - time.monotonic()
                if left <= 0:
                    raise subprocess.TimeoutExpired(self._process.args, 0)
                check_stop()
                begins = [] if self._begins is None else [self._begins]
                listened = [ended, *pipes, *begins, *([stop.fileno()] if stop else [])]
                if watch is not None and time.monotonic() >= watches:
                    watch()
                    watches = time.monotonic() + _WATCHED_EVERY
                wait = min(left, _LONGEST_SELECT if watch is None else _WATCHED_EVERY)
                talking, hungry, _ = select.select(listened, feed.pipes, [], wait)
                if self._begins in talking:
                    self._begins = None
                    ends = min(until, time.monotonic() + timeout)
                pipes -= self._read(talking)
                if hungry:
                    feed.go_on()
            ends = min(ends, time.monotonic() + timeout)  # it may have ended before it began
            while ready := pipes & set(select.select(pipes, [], [], 0)[0] if pipes else []):
                if time.monotonic() > ends:
                    return  # a daemon it left talks on
                pipes -= self._read(ready)
        finally:
            os.close(ended)

    def _read(self, ready: Iterable[int]) -> set[int]:
        """Take what is there; the pipes that are at their end."""
        over = set()
        for pipe in (pipe for pipe in ready if pipe in self._kept):
            chunk = os.read(pipe, 1 << 16)
            if not chunk:
                over.add(pipe)
            for one in {pipe, _TOGETHER} & set(self._kept):
                self._keep(one, chunk)
        return over

    def _keep(self, pipe: int, chunk: bytes) -> None:
        kept = self._kept[pipe]
        kept += chunk
        # Data that is read by programs is worth nothing without its beginning.
        is_data = self._apart and _TOGETHER not in self._kept
        if len(kept) > (self._most if is_data else 2 * _KEPT_BYTES):
            if is_data:
                raise HostProblem(
                    f"`{_shown(self._process.args)}` wrote more than {self._most >> 20} MiB and was killed.", code="too-much"
                )
            del kept[:-_KEPT_BYTES]
            self._cut.add(pipe)


def _shown(command: Any) -> str:
    return " ".join(str(part) for part in command[:3])


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


def await_group(group: int, limit: float) -> bool:
    """Wait for the end of a process group that was killed: until then its files stay locked. False: one has not ended in time."""
    ends = time.monotonic() + limit
    while _lives(group):
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


def _lives(group: int) -> bool:
    """Whether a process of a group lives; one that has ended and that nobody reaps does not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (name) state parent group ...; the name may hold anything
            state, _, found = path.read_bytes().rpartition(b")")[2].split()[:3]
            if int(found) == group and state not in (b"Z", b"X"):
                return True
    return False


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
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def plain_environment(**more: str) -> dict[str, str]:
    """A small environment for programs: PATH, HOME, which Docker is meant, a fixed locale; nothing of canonq's own settings."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "SSH_AUTH_SOCK") if key in os.environ}
    return {"PATH": os.defpath, "HOME": "/", "LC_ALL": "C.UTF-8", **kept, **docker_variables(), **more}


def with_parent(command: Sequence[str], number: signal.Signals, largest_file: int | None = None) -> list[str]:
    """The command as one that gets signal `number` when its parent dies, however it dies.

    With `largest_file`, no file it writes may grow beyond so many bytes. Programs of util-linux ask for it and then become the
    command. Python would do it in a fork of itself, which costs several times as much, and more the larger it has grown.
    """
    limit = [] if largest_file is None else [_of_the_system("prlimit"), f"--fsize={largest_file}:{largest_file}", "--"]
    return [*limit, _of_the_system("setpriv"), "--pdeathsig", number.name.removeprefix("SIG"), "--", *command]


@functools.cache
def _of_the_system(program: str) -> str:
    """Where our own PATH has a program of util-linux, whatever PATH the command gets."""
    if (found := shutil.which(program)) is None:
        raise HostProblem(f"The program '{program}' was not found.", mend="install util-linux.", code="program-missing")
    return os.path.abspath(found)


def _require(program: str, cwd: Path | None, env: Mapping[str, str]) -> None:
    if cwd is not None and not cwd.is_dir():
        raise HostProblem(f"The folder {cwd} does not exist.", code="folder-missing")
    named = str((cwd or Path()) / program) if os.path.dirname(program) else program
    if shutil.which(named, path=env.get("PATH")) is None:
        raise HostProblem(f"The program '{program}' was not found.", mend=f"install {program}.", code="program-missing")
