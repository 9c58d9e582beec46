"""Programs that canonq starts: they end, with all that they started, and nobody else does."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from canonq.adapters.processes.programs import Program, plain_environment, read, run
from canonq.core.errors import HostProblem, TimedOut
from canonq.ports import Ended


def lives(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def dies(pid: int) -> bool:
    ends = time.monotonic() + 120
    while lives(pid) and time.monotonic() < ends:
        time.sleep(0.02)
    return not lives(pid)


def test_status_and_output_are_given_back() -> None:
    ended = run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=300)
    assert (ended.status, sorted(ended.output.split())) == (3, ["err", "out"])


def test_a_program_reads_what_it_is_given_and_one_that_does_not_want_it_is_no_problem() -> None:
    assert run(["cat"], timeout=300, stdin=b"hello").output == "hello"
    assert run(["true"], timeout=300, stdin=b"x" * (1 << 20)).status == 0


def test_a_program_that_is_not_there_is_the_hosts_problem() -> None:
    with pytest.raises(HostProblem, match="no-such-program"):
        run(["no-such-program"], timeout=300)


def test_what_a_program_leaves_in_its_group_is_killed_when_it_ends() -> None:
    ended = run(["sh", "-c", "sleep 3600 & echo $!"], timeout=300)
    assert dies(int(ended.output))


def test_a_program_that_takes_too_long_is_killed_with_its_group(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(TimedOut, match="did not end within 1 s"):
        run(["sh", "-c", f"exec 3>{fifo}; sleep 3600 & sleep 3600"], timeout=1)
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "nobody has it open any more"
    os.close(reader)


@pytest.mark.parametrize("start", [run, read])
@pytest.mark.parametrize("timeout", [0, -3.0])
def test_a_program_whose_time_was_over_before_is_not_started_and_that_is_what_is_told(
    start: Callable[..., Ended], timeout: float, tmp_path: Path
) -> None:
    with pytest.raises(TimedOut, match=r"`touch .*` was not started: the time for it was over before"):
        start(["touch", str(tmp_path / "mark")], timeout=timeout)
    assert not (tmp_path / "mark").exists()


def test_no_program_goes_on_beyond_the_end_of_what_it_is_part_of() -> None:
    with pytest.raises(TimedOut, match=r"did not end within 0\.\d s"):
        run(["sleep", "3600"], timeout=3600, until=time.monotonic() + 0.3)
    with pytest.raises(TimedOut, match="was not started"):
        run(["sleep", "3600"], timeout=3600, until=time.monotonic() - 1)


@pytest.mark.long
def test_the_time_of_a_program_that_tells_when_it_begins_counts_from_then() -> None:
    """What is canonq's own start, on a busy machine the longest part of it, is not the recipe's."""
    slow_start = "import time; from canonq.adapters.processes.programs import begun; time.sleep(6); begun(); "
    assert run([sys.executable, "-c", f"{slow_start} print('done')"], timeout=5, tells_begin=True).output == "done\n"
    with pytest.raises(TimedOut, match="did not end within 1 s"):
        run([sys.executable, "-c", f"{slow_start} time.sleep(3600)"], timeout=1, tells_begin=True)
    with pytest.raises(TimedOut):
        run([sys.executable, "-c", "import time; time.sleep(3600)"], timeout=1, until=time.monotonic() + 1, tells_begin=True)
    assert run([sys.executable, "-c", "raise SystemExit(4)"], timeout=5, tells_begin=True).status == 4


def test_a_strangers_daemon_that_left_the_group_is_hunted_down(tmp_path: Path) -> None:
    daemon = f"setsid sh -c 'echo $$ > {tmp_path}/pid; sleep 3600' >/dev/null 2>&1"
    command = f"{daemon} & while ! test -s {tmp_path}/pid; do sleep 0.05; done"
    run(["sh", "-c", command], timeout=300, strangers=True)
    assert dies(int((tmp_path / "pid").read_text()))


def test_once_it_has_ended_its_number_is_nobodys_and_no_signal_is_sent_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are given out again: a signal sent late would end somebody else's group."""
    program = Program(["true"])
    program.finish(timeout=300)
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(pid))
    program.end()
    program.end()
    assert sent == []


def test_its_number_is_kept_until_its_group_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    killpg = os.killpg

    def look_first(pid: int, number: int) -> None:
        seen.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        killpg(pid, number)

    monkeypatch.setattr(os, "killpg", look_first)
    assert run(["true"], timeout=300).status == 0
    assert seen == ["Z"], "it had ended, and was not reaped"


def test_of_a_long_output_the_end_is_kept_and_the_cut_is_told() -> None:
    ended = run([sys.executable, "-c", "print('x' * 30_000_000); print('the end')"], timeout=600)
    assert ended.output.startswith("(the beginning was cut off)")
    assert ended.output.endswith("the end\n")
    assert len(ended.output) < 9 << 20


def test_a_program_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys; from canonq.adapters.processes.programs import run\n"
        f"run(['sh', '-c', 'echo $$ > {tmp_path}/pid; sleep 3600'], timeout=600)"
    )
    parent = Program([sys.executable, "-c", code])
    ends = time.monotonic() + 300
    while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < ends
        time.sleep(0.05)
    os.kill(parent._process.pid, signal.SIGKILL)
    assert dies(int((tmp_path / "pid").read_text()))
    parent.end()


def test_nothing_of_canonqs_settings_reaches_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://:hunter2@127.0.0.1/0")
    assert "hunter2" not in run(["env"], timeout=300, env=plain_environment()).output


def test_a_program_that_speaks_before_it_has_heard_all_is_fed_to_the_end() -> None:
    text = os.urandom(4 << 20)
    assert read(["cat"], timeout=600, stdin=text).raw == text


def test_a_program_that_does_not_listen_is_ended_at_its_limit() -> None:
    with pytest.raises(TimedOut):
        run(["sleep", "1000"], timeout=0.5, stdin=b"x" * (1 << 20))


def test_a_folder_that_is_not_there_is_no_missing_program(tmp_path: Path) -> None:
    with pytest.raises(HostProblem, match=r"folder .*/away does not exist"):
        run(["true"], timeout=600, cwd=tmp_path / "away")
