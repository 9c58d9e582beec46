"""Reading what is on another host's disk, by the command that `[hosts] fetch` says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from canonq.adapters.filelocks import is_held
from canonq.adapters.files import entries, remove_tree, told
from canonq.adapters.host import Host
from canonq.adapters.processes.programs import run
from canonq.core.errors import HostProblem, WrongConfiguration
from canonq.core.names import host_name

ARRIVING = "arriving"  #: in the state folder: what was brought, and is not in its place yet
_SHOWN = 400  #: characters of what the command said


class Fetcher:
    """Nobody writes into another host's state folder: each reads what it needs, with rights that can be to read alone."""

    def __init__(self, command: Sequence[str], timeout: float) -> None:
        self._command = command
        self._timeout = timeout  #: seconds for one path

    def check(self) -> None:
        """WrongConfiguration where no command is set."""
        if not self._command:
            raise WrongConfiguration(
                "No way is set in which this host reads what is on another's disk.",
                mend="set [hosts] fetch on every host (docs/configuration.md has one for rsync over ssh).",
                code="no-fetch",
            )

    def fetch(self, host: str, path: str, target: Path) -> Path:
        """Bring a file or folder of a host's state folder into the folder `target`; where it is now. HostProblem when it did not
        come: that says nothing of whether it is there."""
        self.check()
        with told(target):
            target.mkdir(parents=True, exist_ok=True)
        given = {"{host}": host_name(host), "{path}": path, "{target}": str(target)}
        command = [self._filled(part, given) for part in self._command]
        ended = run(command, timeout=self._timeout)
        came = target / Path(path).name
        if ended.status or not came.exists():
            said = ended.output.strip()[-_SHOWN:] or f"it ended with {ended.status}"
            raise HostProblem(
                f"{path} of the host {host} could not be read by `{command[0]}`: {said}.",
                mend="look at the way between the hosts, and at [hosts] fetch; it is tried again.",
                code="fetch-failed",
            )
        return came

    @staticmethod
    def _filled(part: str, given: dict[str, str]) -> str:
        for word, value in given.items():
            part = part.replace(word, value)
        return part


@contextlib.contextmanager
def scratch(state: Path, host: Host, name: str) -> Iterator[Path]:
    """A folder for what comes from another host: for this user's eyes only, as secrets are in it."""
    folder = state / ARRIVING / name
    with host.sole(f"{ARRIVING}-{name}"):
        remove_tree(folder)
        with told(folder):
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove_tree(folder)


def left_behind(state: Path, host: Host) -> list[Path]:
    """What was brought by somebody who died over it."""
    return [path for path in entries(state / ARRIVING) if not is_held(host.lock_file(f"{ARRIVING}-{path.name}"))]
