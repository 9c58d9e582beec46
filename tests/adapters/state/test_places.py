"""Places on a host and things of it that only one may have: they end with who has them, however that ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.host import Host
from canonq.core.errors import Busy

LIGHT, HEAVY = {"heavy": False}, {"heavy": True}


def no_second_heavy(kept: Sequence[Mapping[str, Any]]) -> str:
    return "a heavy one is at work" if any(one["heavy"] for one in kept) else ""


def nobody_else(kept: Sequence[Mapping[str, Any]]) -> str:
    return "somebody is there" if kept else ""


def never(_: Sequence[Mapping[str, Any]]) -> str:
    return ""


def killed_in(block: Callable[[int], None]) -> None:
    """A process is killed once it has written a byte from within the block."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        block(writer)
        os._exit(1)
    assert os.read(reader, 1) == b"x"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def test_who_has_a_place_is_shown_to_others_as_long_as_it_has_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with host.place("the test of a", HEAVY, never):
        with pytest.raises(Busy, match=r"no place on this host within 0 s: a heavy one is at work"):
            host.place("the test of b", HEAVY, no_second_heavy, timeout=0).__enter__()
        with host.place("the test of c", LIGHT, never):
            pass
    with host.place("the test of b", HEAVY, nobody_else, timeout=0):
        pass
    assert [path.name for path in (tmp_path / "places").iterdir()] == []


def test_who_waits_first_is_not_passed_by_others(tmp_path: Path) -> None:
    host, waits, began = Host(tmp_path), threading.Event(), threading.Event()
    let_in = False

    def why_not(_: Sequence[Mapping[str, Any]]) -> str:
        waits.set()
        return "" if let_in else "it takes all there is"

    def large() -> None:
        with host.place("the test of large", HEAVY, why_not, timeout=600):
            began.set()

    thread = threading.Thread(target=large)
    thread.start()
    assert waits.wait(600)
    with pytest.raises(Busy, match="others wait for one"):
        host.place("the test of small", LIGHT, never, timeout=0).__enter__()
    let_in = True
    assert began.wait(600)
    thread.join()


def test_the_place_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    host = Host(tmp_path)

    def has_one(writer: int) -> None:
        with host.place("the test of a", HEAVY, never):
            os.write(writer, b"x")
            signal.pause()

    killed_in(has_one)
    with host.place("the test of b", HEAVY, nobody_else, timeout=0):
        assert len(list((tmp_path / "places").glob("*.json"))) == 1, "what the dead left of theirs is gone"


def test_a_port_is_had_by_one_at_a_time_and_by_the_same_one_twice(tmp_path: Path) -> None:
    host = Host(tmp_path)
    with host.claiming() as mine, host.claiming() as theirs:
        mine.take({"the port 8080", "the volume shared"}, 0)
        mine.take({"the port 8080", "the port 22"}, 0)
        theirs.take({"the port 8081"}, 0)
        with pytest.raises(Busy, match="the port 8080") as refused:
            theirs.take({"the port 8080"}, 0)
        assert refused.value.code == "host-shared"
    with host.claiming() as theirs:
        theirs.take({"the port 8080", "the port 22", "the volume shared"}, 0)


def test_the_port_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    host = Host(tmp_path)

    def has_it(writer: int) -> None:
        with host.claiming() as claims:
            claims.take({"the port 8080"}, 0)
            os.write(writer, b"x")
            signal.pause()

    killed_in(has_it)
    with host.claiming() as claims:
        claims.take({"the port 8080"}, 0)
