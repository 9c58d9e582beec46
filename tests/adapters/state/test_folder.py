"""The state folder's id: one, whoever begins first."""

from __future__ import annotations

import threading
from pathlib import Path

from canonq.adapters.state.folder import give_instance, instance_of


def test_programs_that_begin_at_the_same_moment_have_one_id(tmp_path: Path) -> None:
    for number in range(20):
        state = tmp_path / str(number)
        state.mkdir()
        begin = threading.Barrier(8)
        found: list[str] = []

        def one(state: Path = state, begin: threading.Barrier = begin, found: list[str] = found) -> None:
            begin.wait()
            give_instance(state)
            found.append(instance_of(state))

        threads = [threading.Thread(target=one) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert set(found) == {instance_of(state)}
