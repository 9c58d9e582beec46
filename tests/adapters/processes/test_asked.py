"""Whether a process was asked to end before it died."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from canonq.adapters.processes.asked import Asked, name_of, names_here

WORDS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


@pytest.fixture
def handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in WORDS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("word", WORDS)
def test_a_process_notes_that_it_is_asked_to_end_and_does_what_it_would_have_done(word: signal.Signals, tmp_path: Path) -> None:
    asked, taken = Asked(tmp_path), list[int]()
    for number in WORDS:
        signal.signal(number, lambda number, _: taken.append(number))
    asked.listen()
    assert not asked.any_of(names_here())
    signal.raise_signal(word)
    assert taken == [word]
    assert asked.any_of(names_here())
    asked.begin()  # as a worker that HUP has started again under the same number
    assert not asked.any_of(names_here())


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("ignored", [False, True])
def test_who_has_no_handler_ends_as_without_it_and_a_fork_notes_nothing_for_it(
    word: signal.Signals, ignored: bool, tmp_path: Path
) -> None:
    asked = Asked(tmp_path)
    pid = os.fork()
    if pid == 0:
        for number in WORDS:
            signal.signal(number, signal.SIG_IGN if ignored else signal.SIG_DFL)
        asked.listen()
        if (fork := os.fork()) == 0:
            signal.raise_signal(word)
            os._exit(0)
        os.waitpid(fork, 0)
        if asked.any_of([name_of(os.getpid())]):
            os._exit(3)
        signal.raise_signal(word)
        os._exit(0)
    name, status = name_of(pid), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (0 if ignored else -word)
    assert asked.any_of([name]) is not ignored


def test_what_somebody_else_wrote_down_is_no_process_and_old_words_are_forgotten(tmp_path: Path) -> None:
    asked = Asked(tmp_path)
    asked.note("")
    (tmp_path / "a-file").touch()
    assert not any(
        asked.any_of(odd) for odd in (None, "x", 5, [], [None], [5], [""], ["../../a-file"], [str(tmp_path / "a-file")])
    )
    for name in ("old", "new"):
        asked.note(name)
    long_ago = time.time() - 8 * 24 * 3600
    os.utime(tmp_path / "locks" / "asked" / "old", (long_ago, long_ago))
    asked.begin()
    assert [asked.any_of([name]) for name in ("old", "new")] == [False, True]


def test_a_process_has_a_name_that_no_other_has_and_one_that_is_gone_has_none() -> None:
    assert name_of(os.getpid()) == name_of(os.getpid()) != name_of(os.getppid())
    assert names_here() == [name_of(os.getpid()), name_of(os.getppid())]
    assert name_of(2**22 + 1) == ""
