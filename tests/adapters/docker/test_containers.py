"""What is run in containers, as Docker's command is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine


def test_a_secret_variable_is_given_to_dockers_command_by_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").write_text('#!/bin/sh\necho "$@"\necho "its own: $WORD"\n')
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ended = SwarmEngine._exec("abc", ["redis-cli", "PING"], 60, {"WORD": "s3cret"})
    assert ended.output.splitlines() == ["exec --env=WORD abc redis-cli PING", "its own: s3cret"]
    assert SwarmEngine._exec("abc", ["true"], 60).output.splitlines()[0] == "exec abc true"
