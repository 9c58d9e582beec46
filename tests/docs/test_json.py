"""The keys that docs/json.md lists for a command are those of its real output: none is missing, none is made up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from canonq.cli.commands import COMMANDS, canonq, command_named
from canonq.core.records import Canonical, Verdict
from canonq.flows.sweeps.closing import stop
from canonq.flows.sweeps.opening import open_sweep
from tests.flows.conftest import Place
from tests.support import ROOT, Installation, make_recipe

JSON = (ROOT / "docs" / "json.md").read_text()
#: Below these keys are values that have a section of their own, or whose keys are names.
ELSEWHERE = {
    "canonical",
    "runs",
    "tiers",
    "rungs",
    "images",
    "timings",
    "lowest_free",
    "services",
    "health",
    "verdict",
    "outcome",
    "decision",
    "promotion",
    "counts",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """One good enrolment that has a canonical and a verdict, one that was never run, and one that cannot be read."""
    place = Place(tmp_path)
    repo = place.recipe("good")
    place.recipe("fresh")
    place.enrol("broken", "", "weight = 3\n")
    commit = repo.head.commit.hexsha
    place.promote("good", "1.0.0+1.0", commit)
    run = "20260617T050314Z-good-abcdef"
    folder = place.world.runs.make("good", run)
    (folder / "logs").mkdir()
    (folder / "logs" / "app.log").write_text("up\n")
    verdict = {
        "recipe": "good",
        "run": run,
        "ts": "20260617T050314Z",
        "verdict": "green",
        "reason": "proven",
        "version": "1.0.0+1.0",
    }
    place.world.runs.record(
        Verdict.model_validate({**verdict, "commit": commit, "detail": "", "directory": str(folder), "enrolment": "0"})
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path / "state"))
    return place


def printed(*arguments: str) -> Any:
    return json.loads(CliRunner().invoke(canonq, [*arguments, "--json"]).stdout)


def documented(command: str) -> set[str]:
    """The words in code type of a command's section, or of its line in the list of the others."""
    found = re.search(rf"^## `canonq {command}[^\n]*\n(.*?)(?=^## )", JSON, re.MULTILINE | re.DOTALL)
    found = found or re.search(rf"^- `canonq {command}`:(.*?)(?=^- `|^## )", JSON, re.MULTILINE | re.DOTALL)
    assert found, command
    return set(re.findall(r"`([a-z_]+)`", re.sub(r"with `--[a-z]+`", "", found[1])))


def keys(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(keys, value))
    if isinstance(value, dict):
        return set(value) | set().union(*(keys(inner) for key, inner in value.items() if key not in ELSEWHERE))
    return set()


@pytest.mark.parametrize(
    ("command", "arguments", "unseen"),
    [
        ("plan", (), {"disk_need"}),
        ("status", ("good",), {"holder", "since", "pid", "instance", "run", "failures", "held", "due", "sweep", "state"}),
        ("why", ("good",), {"version", "commit", "tests", "red", "green"}),
        ("logs", ("good",), set()),
        ("watch", (), set()),
        ("check", (), {"enrolled"}),
        ("config", (), {"default"}),
        ("verify", (), set()),
        ("stop", (), set()),
        ("sync", (), set()),
        ("doctor", (), set()),
        pytest.param("janitor", ("--dry-run",), set(), marks=pytest.mark.real),
    ],
)
def test_the_documented_keys_of_a_command_are_those_it_prints(
    place: Place, command: str, arguments: tuple[str, ...], unseen: set[str]
) -> None:
    if command == "watch":
        open_sweep(place.world, ())
    assert keys(printed(command, *arguments)) == documented(command) - unseen


def test_enrol_prints_the_documented_keys(place: Place) -> None:
    files = {"compose.yml": "services: {app: {image: 'x:1'}}\n", ".env.sample": "TYPE=new\nDOMAIN=new.example.com\n"}
    upstream = make_recipe(place.folder / "upstreams" / "new", {"1.0.0+1.0": files})
    assert keys(printed("enrol", "new", "--upstream", str(upstream.working_dir))) == documented("enrol")


@pytest.mark.parametrize("command", ["plan", "status", "sync"])
def test_the_row_of_an_enrolment_that_cannot_be_read_has_every_key(place: Place, command: str) -> None:
    rows = {row["recipe"]: row for row in printed(command)["recipes"]}
    assert {"good", "broken"} <= set(rows)
    assert set(rows["broken"]) == set(rows["good"])


def test_the_example_report_of_a_sweep_has_the_keys_of_a_real_one(place: Place) -> None:
    opened = open_sweep(place.world, ())
    stop(place.world, opened.sweep, "A person stopped it.")
    (example,) = re.findall(r"^```json\n(.*?)^```", JSON, re.MULTILINE | re.DOTALL)
    real = json.loads((place.world.sweeps.folder(opened.sweep) / "report.json").read_text())
    wanted = json.loads(example)
    assert set(real) == set(wanted)
    assert real["outcomes"]
    assert {key for outcome in real["outcomes"] for key in outcome} == set(wanted["outcomes"][0])


def test_an_error_prints_the_documented_keys(place: Place) -> None:
    (said,) = re.findall(r'`\{"error": \{(.*?)\}\}`', JSON)
    assert set(re.findall(r'"(\w+)"', said)) == set(Installation(place.folder).canonq("status", "nobody", "--json").json["error"])


def _commands() -> list[tuple[str, bool]]:
    return [(name, any("--json" in option.opts for option in command_named(name).params)) for name in COMMANDS]


def test_every_command_takes_json() -> None:
    assert JSON.split("\n")[2].startswith("Every command takes `--json`")
    assert [name for name, takes in _commands() if not takes] == []


def test_a_record_has_the_documented_keys() -> None:
    assert {field.serialization_alias or name for name, field in Canonical.model_fields.items()} <= documented_record()


def documented_record() -> set[str]:
    (text,) = re.findall(r"^## `warm/.*?\n(.*?)(?=^## )", JSON, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"`([a-z_]+)`", text))
