"""A signal that comes while `canonq` still imports what it needs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

#: As the `canonq` program begins, but that it stays at its first import until it is ended, and says when it is there.
STARTED = """
import sys, time
from canonq.__main__ import main
class Slow:
    def find_spec(self, name, path, target=None):
        if name == "canonq.cli":
            print("it imports", file=sys.stderr, flush=True)
            while True:  # one long sleep would miss a signal that comes just before it begins
                time.sleep(0.01)
sys.meta_path.insert(0, Slow())
sys.argv[0] = "canonq"
main()
"""


def hangs_up() -> None:
    """Let SIGHUP end the process, also where the tests themselves were begun by nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["plain", "json"])
def test_a_signal_before_the_command_has_begun_is_answered_as_one_behind_it(number: signal.Signals, options: list[str]) -> None:
    started = subprocess.Popen(
        [sys.executable, "-c", STARTED, "status", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=hangs_up,
    )  # fmt: skip
    assert started.stderr
    assert started.stderr.readline() == "it imports\n"
    started.send_signal(number)
    out, said = started.communicate(timeout=600)
    assert (started.returncode, said) == (3, "Stopped.\n")
    if options:
        assert json.loads(out)["error"]["code"] == "interrupted"
    else:
        assert out == ""


def test_a_terminal_that_closes_does_not_end_what_nohup_began() -> None:
    started = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", STARTED, "status"], stderr=subprocess.PIPE, text=True
    )
    assert started.stderr
    assert started.stderr.readline() == "it imports\n"
    started.send_signal(signal.SIGHUP)
    started.send_signal(signal.SIGTERM)
    assert (started.communicate(timeout=600)[1], started.returncode) == ("Stopped.\n", 3)
