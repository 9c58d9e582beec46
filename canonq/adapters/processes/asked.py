"""Which processes were asked to end: what one of them was at when it was killed then is not what it died of."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from canonq.adapters.processes.signals import ENDING

_WORDS = (*ENDING, signal.SIGQUIT)  #: a person's, systemd's, Docker's, a terminal's that was closed
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_REMEMBERED = 7 * 24 * 3600.0  #: seconds; no order is gone on with for longer


class Asked:
    """An empty file for each process that was asked: whoever is killed a moment later has no time for more."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "locks" / "asked"

    def note(self, process: str) -> None:
        """It is asked to end. What cannot be written ends nobody: then its death counts."""
        if process:
            with contextlib.suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True)
                (self._folder / process).touch()

    def any_of(self, processes: object) -> bool:
        """Whether one of them was; `processes` as somebody has written them down."""
        names = processes if isinstance(processes, list) else []
        return any(isinstance(name, str) and name == Path(name).name and (self._folder / name).is_file() for name in names)

    def begin(self) -> None:
        """This process begins, and may be another program than before: nobody has asked it. Very old words are forgotten."""
        with contextlib.suppress(OSError):
            for path in self._folder.iterdir():
                if path.name == name_of(os.getpid()) or path.stat().st_mtime < time.time() - _REMEMBERED:
                    path.unlink(missing_ok=True)

    def listen(self) -> None:
        """From now on, note it when this process is asked, and then do what it would do without that."""
        own = os.getpid()
        for number in _WORDS:
            self._listen_to(number, own)

    def _listen_to(self, number: signal.Signals, own: int) -> None:
        before = signal.getsignal(number)
        if before in (signal.SIG_IGN, None):
            return

        def asked(taken: int, frame: FrameType | None) -> None:
            if os.getpid() == own:  # a fork of it is another process
                self.note(name_of(own))
            if callable(before):
                before(taken, frame)
            else:
                signal.signal(taken, signal.SIG_DFL)
                signal.raise_signal(taken)

        signal.signal(number, asked)


def name_of(pid: int) -> str:
    """A process, as no other on this host is called, before or after; empty when it has gone."""
    try:
        # pid (name) state parent ... start; the name may hold anything
        start = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
        return f"{_BOOT.read_text().strip()}-{pid}-{start}"
    except (OSError, IndexError):
        return ""


def names_here() -> Sequence[str]:
    """Who does what this process does: itself, and whoever has it do so."""
    return [name for name in map(name_of, (os.getpid(), os.getppid())) if name]
