"""Alerts and the dashboard ask for measures that there are, and each alert has its heading in the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from canonq.flows.looking import report
from tests.flows.mornings import Mornings
from tests.support import ROOT

MONITORING = ROOT / "deploy" / "monitoring"
NAME = re.compile(r"\bcanonq_[a-z_]+")


@pytest.fixture
def measured(tmp_path: Path) -> set[str]:
    """The names of all measures, those without a value too."""
    world = Mornings(tmp_path).world
    known = report.seen(world)
    text = report.metrics(world, report.report(world, known=known), known)
    return set(re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE))


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_every_measure_that_is_asked_for_exists(measured: set[str], name: str) -> None:
    text = (MONITORING / name).read_text()
    asked = set(NAME.findall(text))
    assert len(asked) > 10
    assert asked - measured == set()


def test_every_alert_has_its_heading_in_the_runbook() -> None:
    rules = [rule for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    headings = re.findall(r"^#### `([a-z-]+)`$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE)
    assert sorted(rule["annotations"]["runbook"] for rule in rules) == sorted(headings)


def test_every_panel_of_the_dashboard_asks_for_something() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_takes_the_alerts() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: the alerts' expressions were not parsed")
    done = subprocess.run(
        [promtool, "check", "rules", str(MONITORING / "alerts.yml")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
