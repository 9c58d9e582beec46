"""`canonq up` and `canonq sweep` that a person ends say what they do, leave nothing, and tell what goes on later."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
import redis
from click.testing import CliRunner

from canonq.adapters.state.work_folders import alive
from canonq.cli import keeping, running, sweeps, waiting
from canonq.core.errors import redis_problem
from canonq.flows.sweeps.closing import stop
from canonq.flows.sweeps.opening import open_sweep
from canonq.settings import Settings
from tests.core.test_decide import canonical
from tests.flows.conftest import Place, Whoever


class Ended:
    """A process tree at which a person types Ctrl-C."""

    def __init__(self, last: Any) -> None:
        self._last = last

    def keep_up(self) -> list[str]:
        """What is looked at all the time."""
        self._last()
        raise KeyboardInterrupt


@pytest.mark.parametrize("broken_off", [True, False])
def test_up_ended_by_a_person_removes_what_was_broken_off_and_names_the_open_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: bool
) -> None:
    place = Place(tmp_path)
    place.recipe("site")
    world, cleaned = place.world, list[Settings]()
    sweep = open_sweep(world).sweep

    def a_run_that_was_broken_off() -> None:
        with alive(world.work / world.new_id("site")):
            pass

    @contextlib.contextmanager
    def tree(*_: object, **__: object) -> Iterator[Ended]:
        yield Ended(a_run_that_was_broken_off if broken_off else lambda: None)

    monkeypatch.setattr(running, "load_settings", lambda: world.settings)
    monkeypatch.setattr(running, "live", lambda _: world)
    monkeypatch.setattr("workers.tree.running", tree)
    monkeypatch.setattr(running, "clean_up", cleaned.append)
    with alive(world.work / world.new_id("other")):  # of workers that are not its own
        ended = CliRunner().invoke(running.up, standalone_mode=False)
    assert ended.exception is None
    assert ended.return_value == 0
    assert "Stopping. Steps under way get 30 s to end, then they are removed. Ctrl-C again to end them at once." in ended.stderr
    assert f"The sweep {sweep} is open, and goes on when there are workers again. `canonq stop {sweep}` ends it." in ended.stderr
    assert cleaned == ([world.settings] if broken_off else [])


@pytest.mark.parametrize("at", ["open_sweep", "enqueue"])
def test_a_sweep_that_a_person_stops_before_anybody_works_at_it_is_begun_by_nobody_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    place = Place(tmp_path)
    place.recipe("site")
    world = place.world

    @contextlib.contextmanager
    def workers(*_: object, **__: object) -> Iterator[object]:
        yield "a tree of processes"

    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweeps, "load_settings", lambda: world.settings)
    monkeypatch.setattr(sweeps, "live", lambda *_: world)
    monkeypatch.setattr(sweeps, "workers_for", workers)
    monkeypatch.setattr(sweeps, at, ctrl_c)
    ended = CliRunner().invoke(sweeps.sweep, standalone_mode=False)
    assert isinstance(ended.exception, click.Abort)
    assert "Stopping the sweep " in ended.stderr
    assert world.sweeps.open_sweeps() == []
    if at == "enqueue":
        (sweep,) = world.sweeps.newest_first()
        closed = world.sweeps.closed(sweep)
        assert closed is not None
        assert closed.state == "stopped"


def test_what_was_promoted_before_the_workers_of_a_command_had_ended_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = Place(tmp_path).world

    def promote(recipe: str, stamp: str) -> None:
        record = canonical("1.1.0+2").model_copy(update={"recipe": recipe, "promoted_at": stamp})
        world.registry.write(record, Whoever())

    @contextlib.contextmanager
    def workers(*_: object, **__: object) -> Iterator[None]:
        try:
            yield
        finally:  # within the time that they get
            promote("site", world.stamp())

    monkeypatch.setattr("workers.tree.running", workers)
    monkeypatch.setattr(waiting, "clean_up", lambda *_, **__: None)
    promote("other", "20260617T050314Z")
    with pytest.raises(KeyboardInterrupt), waiting.workers_for(world.settings, quiet=True):
        raise KeyboardInterrupt
    told = capsys.readouterr().err
    assert told.startswith("The canonical of site is 1.1.0+2 since ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("living", [False, True])
def test_what_is_still_at_work_is_not_told_as_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], living: bool
) -> None:
    """A killed pool may take its time to die: its lock is held as long, and nobody cleans up under it."""
    world = Place(tmp_path).world
    run = world.new_id("site")
    monkeypatch.setattr(waiting, "locks_for", lambda _: contextlib.nullcontext(world))
    monkeypatch.setattr(waiting, "clean", lambda *_, **__: [])
    with alive(world.work / run) if living else contextlib.nullcontext():
        waiting.clean_up(world.settings)
    told = capsys.readouterr().err
    assert (f"Left alone, as whoever is at it has not ended: {run}. `canonq janitor`" in told) is living
    assert ("Nothing is left of what was under way." in told) is not living
    assert ("Nothing else is left" in told) is living


class Asked:
    """A task that a person stops after some looks; its Redis may be away at each."""

    def __init__(self, parent: Asked | None = None, looks: Sequence[Exception] = ()) -> None:
        self.id, self.parent, self.looks, self.app = "x", parent, list(looks), "an app"
        self.backend: Any = SimpleNamespace(always_retry=True)
        self.revoked = False

    def ready(self) -> bool:
        """A person does not wait for it."""
        if self.looks:
            raise self.looks.pop()
        raise KeyboardInterrupt

    def revoke(self) -> None:
        """No worker has begun it."""
        self.revoked = True


def test_nobody_asks_a_redis_that_has_ended_for_a_task_that_a_person_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery does when such a task goes, and its traceback is the last that is said."""
    monkeypatch.setattr(waiting, "check_broker", lambda _: None)
    task = Asked(parent=Asked())
    with pytest.raises(KeyboardInterrupt):
        waiting.await_result(cast(Any, task), None, 1.0)
    assert [task.backend, task.parent and task.parent.backend] == [None, None]


def test_a_redis_that_goes_away_is_told_once_and_a_stop_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where `canonq up` is stopped while somebody waits for a test: each word to its workers would be tried for minutes."""

    def away(_: object) -> None:
        raise redis_problem("Error 2 connecting to it")

    monkeypatch.setattr(waiting, "check_broker", away)
    monkeypatch.setattr(waiting, "_LOOK_EVERY", 0.0)
    task = Asked(looks=[redis.ConnectionError("Error 2 connecting to it"), ConnectionResetError(), redis.TimeoutError("no")])
    with pytest.raises(KeyboardInterrupt):
        waiting.await_result(cast(Any, task), None, 60.0)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("Redis does not answer: no. Mend: ")
    assert told[0].endswith("What was asked for goes on when it answers again; Ctrl-C waits no longer.")
    assert told[1].startswith("Stopping this call. It could not be told to its workers: Redis does not answer: Error 2")
    assert len(told) == 2
    assert not task.revoked


@pytest.mark.parametrize("up", [False, True])
def test_who_waits_for_a_sweep_is_told_once_that_its_workers_have_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], up: bool
) -> None:
    place = Place(tmp_path)
    place.recipe("site")
    world = place.world
    sweep, looks = open_sweep(world).sweep, list[float]()

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            stop(world, sweep, "it was long enough.")

    monkeypatch.setattr(waiting, "_COLLECT_EVERY", -1.0)
    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=pause, monotonic=time.monotonic))
    monkeypatch.setattr(waiting, "nobody_works", lambda _: not up)
    waiting.await_sweep(world, sweep, None, quiet=True)
    assert capsys.readouterr().err.count("No worker is there any more. The sweep goes on with the next `canonq up`") == (not up)


def test_a_rollback_that_is_stopped_says_what_is_the_canonical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.recipe("site")
    world = place.world
    world.registry.write(canonical("1.1.0+2"), Whoever())

    def ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(keeping, "load_settings", lambda: world.settings)
    monkeypatch.setattr(keeping, "locks_for", lambda _: contextlib.nullcontext(world))
    monkeypatch.setattr("canonq.flows.promoting.rollback.rollback", ctrl_c)
    ended = CliRunner().invoke(keeping.rollback, ["site", "--reason", "it lost mail"], standalone_mode=False)
    assert isinstance(ended.exception, click.Abort)
    assert ended.stderr.startswith("Stopping the rollback of site. Its canonical is 1.1.0+2.\n")
