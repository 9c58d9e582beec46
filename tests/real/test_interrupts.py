"""A person's Ctrl-C, once or twice, at any step of a sweep: it says what it does, leaves nothing, and nothing of it goes on."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE
from tests.forks import program
from tests.real.conftest import compose, installed, until
from tests.support import Installation, make_recipe, release

pytestmark = pytest.mark.real

FIRST, NEXT = "1.0.0+1.29.0", "1.1.0+1.30.0"
TIERS = ("install", "upgrade", "backup", "restore", "functional")
EACH = [(step, times) for step in ("sync", "deploy", *TIERS, "promote") for times in (1, 2)]
#: Of all of them (`--interrupts all`), those that every change is tried with, one night after the other: a run that is broken
#: off, one that may end, whose release is promoted the next time, and that promotion.
SOME = [("backup", 2), ("upgrade", 1), ("promote", 2)]
Moments = list[tuple[str, int]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All moments, each on an installation of its own, or some on one."""
    if "moments" not in metafunc.fixturenames:
        return
    told = [[one] for one in EACH] if metafunc.config.getoption("--interrupts") == "all" else [SOME]
    metafunc.parametrize("moments", told, ids=[" ".join(f"{step}-{times}" for step, times in moments) for moments in told])


def files(tag: str) -> dict[str, str]:
    """A release with a volume that is backed up."""
    label = f'version={tag}"'
    return {
        "compose.yml": compose(tag).replace(label, f'{label}, "backupbot.backup=true"'),
        ".env.sample": "TYPE=small\nDOMAIN=small.example.com\n",
    }


def is_at(made: Installation, step: str, earlier: set[Path]) -> bool:
    """Whether the sweep has come to a step: by the folder that the step works in. Runs that were there earlier say nothing."""
    if step == "sync":
        return any(not (begun.parent / "closed.json").is_file() for begun in made.state.glob("sweeps/*/begun.json"))
    if step == "promote":
        return bool(list(made.state.glob("work/*/promotion.json")))
    begun = set(made.state.glob("runs/*/*")) - earlier
    under_way = [run for run in begun if run.is_dir() and not (run / "run.json").is_file()]
    return any(step == "deploy" or (run / step).is_dir() for run in under_way)


def test_ctrl_c_leaves_nothing_and_nothing_goes_on(engine: SwarmEngine, tmp_path: Path, moments: Moments) -> None:
    with installed(engine, tmp_path) as made:
        recipe = f"site-{secrets.token_hex(3)}"  # its warm stack is this engine's only one of that name
        repo = make_recipe(tmp_path / "site", {FIRST: files(FIRST)})
        folder = made.enrol(recipe, f'upstream = "{tmp_path}/site"\n[health]\ntimeout = 600\n')
        (folder / "test_page.py").write_text("def test_page(app):\n    assert app.http.get('/').text\n")
        record = made.state / "warm" / recipe / "canonical.json"
        if moments[0][0] != "install":
            assert made.canonq("sweep", "--wait", "--json").json["outcomes"][0]["outcome"] == "promoted"
            release(repo, NEXT, files(NEXT))
        for step, times in moments:
            before = record.read_text() if record.is_file() else None
            ended, said = interrupted(made, step, times)
            assert ended == 3, said
            assert "Nothing more of it starts" in said
            sweep = sorted(made.state.glob("sweeps/*/sweep.json"))[-1].parent
            assert json.loads((sweep / "closed.json").read_text())["state"] == "stopped"
            now = record.read_text() if record.is_file() else None
            assert now in (before, promoted(record)), "whole: the old one, or the new one"
            assert left(engine, made, record) == {}, said
            assert made.canonq("verify", "--json").status == 0
        assert made.canonq("sweep", "--wait", "--json").json["outcomes"][0]["outcome"] in ("promoted", "skipped")


def test_a_run_that_a_person_stops_cleans_up_and_counts_for_nothing(engine: SwarmEngine, tmp_path: Path) -> None:
    """`canonq stop RUN`, from another terminal than the sweep's."""
    with installed(engine, tmp_path) as made:
        recipe = f"site-{secrets.token_hex(3)}"
        make_recipe(tmp_path / "site", {FIRST: files(FIRST)})
        made.enrol(recipe, f'upstream = "{tmp_path}/site"\n[health]\npath = "/nobody-has-this"\ntimeout = 900\n')
        with (tmp_path / "said").open("wb") as said:
            sweep = subprocess.Popen(
                [sys.executable, "-m", "canonq", "sweep", "--wait", "--json"], env=made.environment, cwd=tmp_path, stdout=said
            )
        try:
            until("a run waits for an app that does not come up", lambda: sweep.poll() is not None or services(engine, made))
            (run,) = [path.name for path in made.state.glob("work/*")]
            stopped = made.canonq("stop", run, "--reason", "it is the wrong one")
            assert (stopped.status, stopped.out) == (0, f"Stopped {run}. Nothing is left of it.\n"), stopped.err
            assert sweep.wait(900) == 1, "it waits for a person, and no machinery has failed"
        finally:
            sweep.kill()
            sweep.wait()
        (outcome,) = json.loads((tmp_path / "said").read_text())["outcomes"]
        assert (outcome["outcome"], outcome["reason"], outcome["tries"]) == ("error", "run-stopped", [])
        assert "stopped it: it is the wrong one." in outcome["detail"]
        assert left(engine, made, made.state / "none") == {}
        assert made.canonq("plan", "--json").json["recipes"][0]["action"] == "run", "it counts for nothing"


def services(engine: SwarmEngine, made: Installation) -> bool:
    """Whether anything of the installation's runs."""
    instance = made.state / "instance"
    return instance.is_file() and bool(engine.owned({LABEL_INSTANCE: instance.read_text()})["stacks"])


def promoted(record: Path) -> str | None:
    """The record, when it is the next release's: a promotion is not stopped after its switch."""
    if not record.is_file():
        return None
    return record.read_text() if json.loads(record.read_text())["version"] == NEXT else None


def interrupted(made: Installation, step: str, times: int) -> tuple[int, str]:
    """Sweep, and interrupt as a terminal does, so many times, at a step; exit status and standard error."""
    log, earlier = made.root / "swept", set(made.state.glob("runs/*/*"))
    with log.open("wb") as said:
        process = program(("canonq", "sweep", "--wait"), env=made.environment, cwd=made.root, said=said.fileno())
        try:
            while process.poll() is None and not is_at(made, step, earlier):  # some steps are short, so it is looked often
                time.sleep(0.03)
            assert process.poll() is None, log.read_text()
            process.send_signal(signal.SIGINT)
            if times == 2:
                while process.poll() is None and "Nothing more" not in log.read_text():
                    time.sleep(0.01)
                process.send_signal(signal.SIGINT)
            return process.wait(900), log.read_text()
        finally:
            process.kill()
            process.wait()


def left(engine: SwarmEngine, made: Installation, record: Path) -> dict[str, list[str]]:
    """What is left of a run or promotion: in Docker, and in the state folder."""
    kept = set(json.loads(record.read_text())["volumes"]) if record.is_file() else set()
    owned = engine.owned({LABEL_INSTANCE: (made.state / "instance").read_text()})
    found = {kind: [name for name in names if name not in kept] for kind, names in owned.items()}
    return {kind: names for kind, names in {**found, "work": [str(path) for path in made.state.glob("work/*")]}.items() if names}
