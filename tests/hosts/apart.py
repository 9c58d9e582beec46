"""What processes of hosts that are apart do before anything else: `TESTS_FIRST=tests.hosts.apart`.

They go into the network of their host (`TESTS_SPACE`), and have short leases and pauses: a cut of seconds is one of minutes.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

LEASE = 3.0  #: seconds
_CLONE_NEWNET = 0x40000000


def settings_in(space: int) -> dict[str, str]:
    """The settings of a process that goes there; `space`: a process in the network of its host."""
    return {"TESTS_FIRST": __name__, "TESTS_SPACE": str(space), "CANONQ_LEASE": f"{LEASE:.0f}"}


def first() -> None:
    """Do so."""
    enter(int(os.environ["TESTS_SPACE"]))
    quicken()


def enter(pid: int) -> None:
    """Go into the network of another process, with all that is started from here."""
    handle = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(handle, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(handle)


def quicken() -> None:
    """Have leases and pauses of seconds instead of minutes, in this process."""
    from canonq.adapters.state import hosts
    from canonq.core.sweeps import reconcile
    from canonq.flows.sweeps import shares
    from workers import supervise

    vars(hosts)["LEAST_LEASE"] = LEASE
    vars(reconcile)["GRACE"] = vars(shares)["GRACE"] = 2 * LEASE
    vars(supervise)["START_AFTER"] = LEASE / 6
    from canonq.cli import hosts as typed

    vars(typed)["_PATIENCE"] = 3 * LEASE
    from workers import upkeep

    vars(upkeep)["LEAST_LEASE"] = LEASE
    vars(upkeep)["RECONCILE_EVERY"] = LEASE / 3
    vars(upkeep)["_MOVE_AGAIN"] = LEASE


def space_of(pid: int) -> str:
    """The network of a process, to compare."""
    return os.readlink(Path(f"/proc/{pid}/ns/net"))
