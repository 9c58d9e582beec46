"""The upkeep of a worker: started with it, started again when it ends, and ended with it. One is at work on a host."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading

from canonq.adapters.host import UPKEEP, Host
from canonq.adapters.processes.programs import with_parent
from canonq.settings import load_settings

log = logging.getLogger("canonq")

START_AFTER = 10  #: seconds


def start() -> None:
    """Start the upkeep of this worker, and again whenever it ends; it is killed when the worker ends, however it ends."""
    threading.Thread(target=_keep_running, daemon=True, name="upkeep").start()


#: What waits for its turn without the imports of what it becomes then: of the workers on a host, one is kept up by all.
#: A while later: the workers of one short command are gone before there is anything to keep up.
_IN_TURN = """
import fcntl, os, sys, time
after, file, *command = sys.argv[1:]
time.sleep(float(after))
turn = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
fcntl.flock(turn, fcntl.LOCK_EX)
os.set_inheritable(turn, True)
os.execv(command[0], command)
"""


def _keep_running() -> None:
    python = sys.executable
    turn = Host(load_settings().state.absolute() / "locks").lock_file(UPKEEP)
    command = [python, "-I", "-S", "-c", _IN_TURN, str(START_AFTER), str(turn), python, "-P", "-m", "workers.upkeep"]
    while True:
        process = subprocess.Popen(with_parent(command, signal.SIGKILL), stdin=subprocess.DEVNULL)
        log.warning("The upkeep ended with %s and is started again.", process.wait())
