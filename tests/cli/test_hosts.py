"""`canonq hosts` and its subcommands, as they are typed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from canonq.cli import hosts


@pytest.mark.parametrize("words", [["--json", "join"], ["join", "--json"]], ids=" ".join)
def test_json_may_be_asked_for_before_and_after_the_word(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    joined = SimpleNamespace(join=lambda stamp, **_: "ash")
    world = SimpleNamespace(hosts=joined, stamp=lambda: "20260617T050314Z")
    monkeypatch.setattr(hosts, "live", lambda settings: world)
    monkeypatch.setattr(hosts, "load_settings", lambda: None)
    monkeypatch.setattr("canonq.cli.hosts.hosts_flow.tell", lambda world: None)
    ended = CliRunner().invoke(hosts.hosts, words, standalone_mode=False)
    assert json.loads(ended.output) == {"host": "ash"}, ended.output
