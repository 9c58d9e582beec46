"""Hosts with networks of their own, a Redis between them, and links that can be cut. This machine's network stays as it is."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from canonq.adapters.processes.programs import with_parent
from canonq.adapters.redis_server import redis_server_program
from tests.hosts.apart import space_of

NEEDED = ("ip", "iptables", "nsenter", "unshare")
_MIDDLE = "10.77.0.1"
_PORT = 6379


def what_is_missing() -> list[str]:
    """Programs and rights without which there are no such networks here."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    return [*missing, *(["root"] if os.geteuid() != 0 else [])]


class Links:
    """A bridge with a Redis in the middle, and a link from there to each host."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder, self._names = folder, list(names)
        self._processes: list[subprocess.Popen[bytes]] = []
        self.spaces: dict[str, int] = {}  #: host -> a process in its network
        self.url = f"redis://{_MIDDLE}:{_PORT}/0"  #: for hosts
        self.socket = folder / "redis.sock"
        self.url_here = f"redis+socket://{self.socket}"  #: for who tests, whatever is cut

    def __enter__(self) -> Links:
        try:
            self._make()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._hub = self._space()
        for line in ("link set lo up", "link add br0 type bridge", f"addr add {_MIDDLE}/24 dev br0", "link set br0 up"):
            self._ip(self._hub, line)
        for number, name in enumerate(self._names, start=1):
            space = self.spaces[name] = self._space()
            self._ip(self._hub, f"link add to-{name} type veth peer name eth0 netns {space}")
            for line in (f"link set to-{name} master br0", f"link set to-{name} up"):
                self._ip(self._hub, line)
            for line in ("link set lo up", f"addr add {self._address(number)}/24 dev eth0", "link set eth0 up"):
                self._ip(space, line)
        command = [
            *self._in(self._hub), redis_server_program(), "--port", str(_PORT), "--bind", _MIDDLE, "--protected-mode", "no",
            "--unixsocket", str(self.socket), "--save", "", "--dir", str(self._folder), "--daemonize", "no",
        ]  # fmt: skip
        with (self._folder / "redis.log").open("wb") as log:
            self._processes.append(subprocess.Popen(with_parent(command, signal.SIGKILL), stdout=log, stderr=log))
        _until(self.socket.exists)

    @staticmethod
    def _address(number: int) -> str:
        return f"10.77.0.{10 + number}"

    def _space(self) -> int:
        """A process in a network of its own."""
        holder = subprocess.Popen(with_parent(["unshare", "--net", "sleep", "infinity"], signal.SIGKILL))
        self._processes.append(holder)
        mine = space_of(os.getpid())

        def is_apart() -> bool:
            assert holder.poll() is None, "no network of its own can be made here"
            with contextlib.suppress(OSError):
                return space_of(holder.pid) != mine
            return False

        _until(is_apart)
        return holder.pid

    @staticmethod
    def _in(space: int) -> list[str]:
        return ["nsenter", "--target", str(space), "--net"]

    def _ip(self, space: int, line: str) -> None:
        subprocess.run([*self._in(space), "ip", *line.split()], check=True, capture_output=True)

    def _table(self, *words: str) -> None:
        subprocess.run([*self._in(self._hub), "iptables", "-w", *words], check=True, capture_output=True)

    @contextlib.contextmanager
    def cut(self, name: str, how: str = "down") -> Iterator[None]:
        """Cut a host off for the block: its link is `down`, or it is `mute` (nothing comes from it), or `deaf`."""
        address = self._address(self._names.index(name) + 1)
        rule = {"mute": ("INPUT", "-s"), "deaf": ("OUTPUT", "-d")}.get(how)
        if rule is None:
            self._ip(self._hub, f"link set to-{name} down")
        else:
            self._table("-A", rule[0], rule[1], address, "-j", "DROP")
        try:
            yield
        finally:
            if rule is None:
                self._ip(self._hub, f"link set to-{name} up")
            else:
                self._table("-D", rule[0], rule[1], address, "-j", "DROP")

    def _end(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


def _until(done: Callable[[], object], most: float = 60.0) -> None:
    ends = time.monotonic() + most
    while not done():
        assert time.monotonic() < ends, "it did not come up"
        time.sleep(0.02)
