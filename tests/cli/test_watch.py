"""Watching: a sweep from another terminal, drawn or in lines; to leave it ends only the watching."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.text import Text

from canonq.adapters.state.sweeps import Sweeps
from canonq.cli.commands import canonq
from canonq.cli.view import View
from canonq.cli.watching import show_open
from canonq.core.errors import WrongUse
from canonq.core.outcomes import Closed, Outcome
from canonq.core.sweeps.progress import Doing, Progress
from canonq.flows.looking.progress import Watcher
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.opening import open_sweep
from tests.core.test_gate import verdict
from tests.flows.conftest import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place(tmp_path)
    for name in ("site", "wiki"):
        place.recipe(name)
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://127.0.0.1:1/0")
    return place


def skip(place: Place, sweep: str, *names: str) -> None:
    for name in names:
        place.world.sweeps.settle(sweep, Outcome(recipe=name, outcome="skipped", reason="no-new-version", step="decide"))
    finish(place.world, sweep)


def typed(*words: str) -> Any:
    return CliRunner().invoke(canonq, list(words), standalone_mode=False)


def meanwhile(monkeypatch: pytest.MonkeyPatch, *deeds: Callable[[], None]) -> None:
    """Do these one after the other, whenever the command waits."""
    left: Iterator[Callable[[], None]] = iter(deeds)
    monkeypatch.setattr("canonq.cli.watching.time.sleep", lambda _: next(left)())


def test_a_sweep_is_joined_and_its_end_is_the_end_of_watching(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = open_sweep(place.world, ()).sweep
    meanwhile(monkeypatch, lambda: skip(place, sweep, "site"), lambda: skip(place, sweep, "wiki"))
    ended = typed("watch")
    assert ended.exception is None
    assert ended.return_value == 0
    lines = ended.stdout.splitlines()
    assert [line[10:] for line in lines[:2]] == [
        "site: skipped (no-new-version) after 0 s",
        "wiki: skipped (no-new-version) after 0 s",
    ]
    assert lines[2:] == [f"Sweep {sweep}: 2 skipped"]


def test_its_exit_status_is_the_sweeps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = open_sweep(place.world, ()).sweep
    red = Outcome(recipe="wiki", outcome="red", reason="rolled-back", fault="recipe", step="test")

    def end() -> None:
        place.world.sweeps.settle(sweep, red)
        skip(place, sweep, "site")

    meanwhile(monkeypatch, end)
    assert typed("watch", sweep).return_value == 1


def test_where_lines_are_written_a_run_has_one_and_not_one_for_each_tier(capsys: pytest.CaptureFixture[str]) -> None:
    with View() as view:
        for tier in ("install", "upgrade", "backup"):
            doing = Doing(recipe="site", state="under-way", step="test", tier=tier, usual=42.0)
            view.show(many(0).model_copy(update={"recipes": (doing,)}))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("site: test, usually 42 s ...")


def test_ctrl_c_ends_only_the_watching(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = open_sweep(place.world, ()).sweep

    def interrupt() -> None:
        raise KeyboardInterrupt

    meanwhile(monkeypatch, interrupt)
    ended = typed("watch")
    assert (ended.exception, ended.return_value) == (None, 0)
    assert "goes on" in ended.stderr
    assert place.world.sweeps.open_sweeps() == [sweep]


def test_a_run_called_by_hand_is_joined_where_no_sweep_is_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = place.world.sweeps.calls.journal("0b9a9b7e-0000-4000-8000-000000000000")
    now = place.world.stamp()
    journal.begin("site", "sync", now)
    journal.finish("site", "sync", {"recipe": "site"})
    journal.begin("site", "test", now)
    folder = place.world.runs.make("site", f"{now}-site-abcdef")
    (folder / "upgrade").mkdir()
    executing = contextlib.ExitStack()
    executing.enter_context(journal.executing("site"))
    doing = json.loads(typed("watch", "--json").stdout)["recipes"][0]
    assert (doing["step"], doing["tier"], doing["again"]) == ("test", "upgrade", False)
    place.world.runs.record(verdict(run=folder.name, verdict="red", ts=now))
    assert json.loads(typed("watch", "--json").stdout)["recipes"][0]["again"] is True
    meanwhile(monkeypatch, executing.close)
    ended = typed("watch")
    assert "site: tried again alone ..." in ended.stdout
    assert "has ended" in ended.stdout


def test_where_nothing_is_under_way_that_is_said_and_nothing_is_made(place: Place) -> None:
    ended = typed("watch")
    assert (ended.stdout, ended.return_value) == ("Nothing is under way.\n", 0)
    assert not (place.folder / "state").exists()
    assert json.loads(typed("watch", "--json").stdout)["state"] == "idle"


def test_a_sweep_that_is_none_names_the_nearest(place: Place) -> None:
    sweep = open_sweep(place.world, ()).sweep
    wrong = f"{sweep[:-1]}{'0' if sweep[-1] != '0' else '1'}"
    error = typed("watch", wrong).exception
    assert isinstance(error, WrongUse)
    assert f"did you mean '{sweep}'?" in str(error)
    assert isinstance(typed("watch", "../../etc").exception, WrongUse)


def test_up_tells_a_sweep_from_its_beginning_to_its_end_and_then_looks_at_it_no_more(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    world = place.world
    watcher = Watcher(world)
    with View() as view:
        show_open(view, watcher, world)
        sweep = open_sweep(world, ()).sweep
        show_open(view, watcher, world)
        skip(place, sweep, "site", "wiki")
        for _ in range(3):
            show_open(view, watcher, world)
    told = capsys.readouterr().err.splitlines()
    assert (told[0], told[-1]) == (f"Sweep {sweep} of 2 recipes.", f"Sweep {sweep}: 2 skipped")
    assert len(told) == 4


def test_what_is_closed_is_not_looked_into_each_second(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        skip(place, open_sweep(place.world, ()).sweep, "site", "wiki")
    world, asked = place.world, list[str]()
    closed = Sweeps.closed

    def counted(sweeps: Sweeps, name: str) -> Closed | None:
        asked.append(name)
        return closed(sweeps, name)

    monkeypatch.setattr(Sweeps, "closed", counted)
    watcher = Watcher(world)
    for _ in range(10):
        assert watcher.newest_open() is None
    assert len(asked) == 3
    opened = open_sweep(place.world, ()).sweep
    assert watcher.newest_open() == opened


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def many(count: int) -> Progress:
    rows = [
        Doing(
            recipe=f"recipe-with-a-long-name-{at}", state="under-way", step="test", tier="functional", elapsed=61.0, usual=3000.0
        )
        for at in range(count)
    ]
    waits = [Doing(recipe=f"w{at}", state="waiting", step="test", place=at, queue="light", usual=5.0) for at in range(count)]
    return Progress(
        sweep="s", state="open", started=None, enrolled=2 * count, done=0, counts={"red": 0}, recipes=(*rows, *waits),
        seconds_left=600.0, expected_end="20260617T031200Z",
    )  # fmt: skip


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 10), (20, 8), (200, 60)])
def test_what_is_drawn_is_never_larger_than_the_terminal(columns: int, lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(lines))
    monkeypatch.setenv("TERM", "xterm")
    drawn = View().drawn(many(100))
    assert max(line.cell_len for line in drawn) <= columns
    assert len(drawn) <= lines
    said = Text("\n").join(drawn).plain
    assert "0 of 200 done, 100 under way" in " ".join(said.split())
    if columns == 80:
        assert "recipe-with-a-long-name-0   test, functional" in said
        assert "... and" in said


def test_on_a_terminal_the_drawing_is_gone_when_it_is_over_and_outcomes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    over = Doing(recipe="site", state="done", outcome="red", reason="rolled-back", seconds=3.0)
    with View() as view:
        view.show(many(2))
        view.show(many(2).model_copy(update={"recipes": (over,), "state": "done"}))
    assert "under way" in out.getvalue()
    assert "site: red (rolled-back) after 3 s" in out.getvalue()


def test_progress_is_shown_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [0.0], []

    def ask() -> Progress:
        asked.append(now[0])
        return many(1)

    view = View(clock=lambda: now[0])
    for at in (0.0, 0.25, 0.5, 1.0, 1.25, 2.5):
        now[0] = at
        view.look(ask)
    assert asked == [0.0, 1.0, 2.5]
    quiet = View(quiet=True)
    quiet.look(ask)
    assert len(asked) == 3
