"""Any one file of a sweep that is empty, cut off, of a wrong kind or huge costs that file's word only: the sweep still ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from celery.exceptions import Ignore

import workers.chains
import workers.steps
import workers.tasks
import workers.upkeep
from canonq.core.errors import CanonqError
from canonq.core.outcomes import Outcome, Tried
from canonq.core.records import Decision
from canonq.flows.looking.status import status
from canonq.flows.sweeps.closing import give_up
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.summary import summary
from canonq.wiring import live
from tests.flows.conftest import Place

NIGHT = "20260615T030000Z"
DAMAGE = {
    "empty": "",
    "cut": '{"a": ',
    "list": "[]",
    "number": "3",
    "null": "null",
    "kinds": '{"names": 3, "behind_since": "x", "nights": [], "outcomes": 7, "tries": {"a": 1}, "resent": [], "sync": 3, '
    '"decide": {}}',
    "deep": "[" * 100_000,
    "huge": '{"x": "' + "y" * 3_000_000 + '"}',
}


def swept(place: Place) -> str:
    """A sweep with each kind of file."""
    world = place.world
    world.sweeps.nights.claim(NIGHT, "task-1")
    sweep = world.sweeps.calls.sweep_for("task-1", world.new_id())
    open_sweep(world, (), sweep, nightly=True)
    world.sweeps.begin(sweep)
    skipped = Outcome(recipe="wiki", outcome="skipped", reason="no-new-version")
    world.sweeps.settle_all(sweep, [skipped])
    world.sweeps.settle(sweep, skipped.model_copy(update={"recipe": "blog"}))
    journal = world.sweeps.journal(sweep)
    journal.begin("site", "sync", NIGHT)
    journal.count_resend("site")
    world.sweeps.keep_try(sweep, "site", Tried(ts=NIGHT, outcome="deferred", reason="busy"))
    return sweep


@pytest.mark.long
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_sweep_with_one_damaged_file_ends_and_the_next_one_begins(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    place.settings["redis_url"] = "redis://127.0.0.1:1/0"
    for name in ("site", "blog", "wiki"):
        place.recipe(name)
    monkeypatch.setattr(workers.steps, "live", lambda: place.world)
    monkeypatch.setattr(workers.tasks, "start_chain", lambda *_, **more: None)
    monkeypatch.setattr(workers.upkeep, "queued", lambda app: set())
    sweep = swept(place)
    files = [path for path in (tmp_path / "state").rglob("*.json") if not {"repos", "locks"} & set(path.parts)]
    assert {"sweep.json", "discovered.json", "nights.json", "enrolled.json", "site.json", "blog.json"} <= {p.name for p in files}
    for path in files:
        whole = path.read_text()
        path.write_text(DAMAGE[kind])
        told(lambda: status(place.world))
        told(lambda: summary(place.world, sweep))
        workers.upkeep.reconcile(place.world, None)
        told(lambda: open_sweep(place.world))
        path.write_text(whole)
    for path in files:
        if path.name != "sweep.json":  # who is enrolled; without it the sweep is told as failed
            path.write_text(DAMAGE[kind])
    skip = Decision(recipe="site", sweep=sweep, action="skip", reason="no-new-version", detail="")
    told(lambda: workers.steps.take(Task(), "decide", "site", sweep, lambda world: skip))
    give_up(place.world, sweep, "the sweep was open for long.")
    assert place.world.sweeps.closed(sweep), "nothing keeps it open"


def told(act: Callable[[], object]) -> None:
    """What canonq says in its own words is an answer; anything else is a fault."""
    with contextlib.suppress(CanonqError, workers.steps.StepFailed, Ignore):
        act()


class Task:
    """As much of a Celery task as a step needs."""

    class request:  # noqa: N801
        id = root_id = "task-2"
        chain = None


def test_an_empty_instance_is_told_and_not_taken_for_another_installation(place: Place) -> None:
    path = place.folder / "state" / "instance"
    assert place.world.instance
    path.write_text("")
    with pytest.raises(CanonqError) as caught:
        live(place.world.settings)
    assert "instance" in caught.value.what
