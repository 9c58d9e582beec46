"""Whatever fails prints its code, and by that code the runbook says what it means."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from canonq import cli
from canonq.cli import asjson
from canonq.core.errors import CanonqError
from tests.support import ROOT

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one recipe, in this process."""
    folder = tmp_path / "checkout" / "tests" / "site"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text('upstream = "/nowhere"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path / "checkout"))
    monkeypatch.setenv("CANONQ_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("CANONQ_REDIS_URL", raising=False)
    return tmp_path


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["canonq", *words])
    monkeypatch.setattr("canonq.cli.interrupts.install", lambda: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (("status", "nobody"), "not-enrolled", 2),
        (("status", "../etc"), "bad-recipe-name", 2),
        (("nope",), "wrong-use", 2),
        (("plan", "--no-such"), "wrong-use", 2),
        (("test",), "wrong-use", 2),
        (("test", "site", "--tag", "1", "--ref", "main"), "wrong-use", 2),
        (("promote", "site", "--again"), "wrong-use", 2),
        (("rollback", "site", "--reason", "x"), "no-canonical", 2),
        (("sync", "--accept-moved", "1.0.0"), "wrong-use", 2),
        (("stop", "no-such-sweep"), "bad-identifier", 2),
        (("stop", "20261123T030000Z-4f1c2a"), "no-such-sweep", 2),
        (("watch", "20261123T030000Z-4f1c2a"), "no-such-sweep", 2),
        (("webhook",), "no-webhook", 2),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_fails_prints_its_code_and_the_runbook_has_it(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: str,
    status: int,
) -> None:  # fmt: skip
    assert typed(monkeypatch, *words) == status
    said = capsys.readouterr().err
    (found,) = re.findall(r"^canonq: \[([a-z-]+)\] .*[.?!]$", said, re.MULTILINE)
    assert found == code
    assert f"\n### `{found}`\n" in RUNBOOK
    assert "Traceback" not in said


def test_a_hollow_sweep_prints_its_code(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANONQ_REPO", str(settings / "nowhere"))
    assert typed(monkeypatch, "sweep") == 2
    assert "canonq: [hollow-sweep] " in capsys.readouterr().err


def test_a_fault_of_canonqs_own_prints_its_code_too(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("canonq.flows.sweeps.plan.plan", broken)
    assert typed(monkeypatch, "plan") == 3
    assert "canonq: [canonq-failed] canonq broke: KeyError: 'x'." in capsys.readouterr().err


@pytest.mark.parametrize("at", ["before anything was printed", "after its value was printed"])
def test_a_command_that_a_person_stops_prints_one_json_value_too(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: str
) -> None:
    def ctrl_c(*_: object) -> int:
        if at.startswith("after"):
            asjson.print_json({"web": "here"})
        raise KeyboardInterrupt

    monkeypatch.setattr("canonq.flows.sweeps.plan.plan", ctrl_c)
    assert typed(monkeypatch, "plan", "--json") == 3
    said = capsys.readouterr()
    value = json.loads(said.out)
    assert "Stopped." in said.err
    assert value == {"web": "here"} if at.startswith("after") else value["error"]["code"] == "interrupted"


def test_up_beside_a_redis_that_is_away_says_so_before_it_starts_anything(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CANONQ_REDIS_URL", "redis://127.0.0.1:1/0")
    assert typed(monkeypatch, "up", "--json") == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["code"] == "redis-unreachable"
    assert "Traceback" not in said.err
    assert not (settings / "state" / "logs").exists()


def test_every_class_of_errors_has_a_code_with_a_heading() -> None:
    classes = [CanonqError]
    for known in classes:
        classes += known.__subclasses__()
    assert len(classes) > 15
    assert [known.__name__ for known in classes if f"\n### `{known.code}`\n" not in RUNBOOK] == []


def test_an_error_that_quotes_a_container_does_nothing_to_the_terminal() -> None:
    assert (
        CanonqError("it said \x1b[2J\x9bA", mend="look\nthere.", code="x").line
        == "canonq: [x] it said \\x1b[2J\\x9bA Mend: look\nthere."
    )


def test_a_reader_that_has_enough_is_no_trouble(settings: Path) -> None:
    words = [sys.executable, "-m", "canonq", "config"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None and command.stderr is not None
        command.stdout.close()
        assert (command.stderr.read(), command.wait(60)) == ("", 0)


PROGRAM = """
import click
from canonq import cli
from canonq.cli import asjson
from canonq.core.errors import ExitStatus

@click.command()
def work():
    input()
    for line in range(3):
        click.echo(f"told {line}")
        click.echo(f"said {line}", err=True)
    open("done", "w").close()
    return ExitStatus.ATTENTION

cli.canonq = work
cli.main()
"""


@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")], ids="-and-".join)
def test_work_goes_on_when_nobody_reads_what_is_said_of_it_and_its_exit_status_is_the_works(
    settings: Path, streams: tuple[str, ...]
) -> None:
    """As in `canonq sweep --wait 2>&1 | head -1`."""
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=pipe, stdout=pipe, stderr=pipe) as command:
        for stream in streams:
            getattr(command, stream).close()
        assert command.stdin is not None
        command.stdin.write(b"\n")
        command.stdin.close()
        assert command.wait(60) == 1
        for stream in {"stdout", "stderr"} - set(streams):
            assert getattr(command, stream).read().count(b"\n") == 3
    assert (settings / "done").exists()


def test_work_goes_on_to_its_end_after_its_terminal_is_gone(settings: Path) -> None:
    near, far = os.openpty()
    words = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=far, stderr=far
    ) as command:
        os.close(far)
        os.close(near)
        command.communicate(b"\n", 60)
        assert command.returncode == 1
    assert (settings / "done").exists()


@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        (">&- 2>&-", 1, ""),
        ("<&- >&-", 1, "said 0\nsaid 1\nsaid 2\n"),
        (
            ">/dev/full",
            3,
            "said 0\nsaid 1\nsaid 2\ncanonq: [disk-full] standard output cannot be written: No space left on device.",
        ),
    ],
    ids=["nowhere", "no-input", "full"],
)
def test_what_cannot_be_printed_stops_no_work_and_only_where_it_was_asked_for_is_that_a_failure(
    settings: Path, streams: str, status: int, said: str
) -> None:
    program = PROGRAM.replace("input()", "import sys; sys.stdin.read()")
    ended = subprocess.run(
        ["bash", "-c", f'exec "$@" {streams}', "-", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, input="", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == status, ended.stderr
    assert ended.stderr.startswith(said)
    assert ended.stderr.count("\n") == said.count("\n") + (status == 3)
    assert (settings / "done").read_text() == "", "nothing that was printed got into it"


def test_a_pipe_that_breaks_elsewhere_is_no_reader_that_has_enough(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("canonq.cli.looking.load_settings", breaks)
    assert typed(monkeypatch, "status") == 3
    assert "Broken pipe" in capsys.readouterr().err


def test_canonq_alone_shows_what_there_is(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: canonq ")
    assert ("wrong-use" in said, said.count("Usage:"), "canonq enrol RECIPE" in said) == (False, 1, True)


def test_a_promotion_of_nothing_is_refused_before_any_worker_is_started(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("no worker is needed to know it")

    monkeypatch.setattr("canonq.cli.proofs.workers_for", nobody)
    assert typed(monkeypatch, "promote", "site") == 1
    assert (
        capsys.readouterr().out
        == "site: refused (no-verdict). no run of this recipe has a verdict yet; run `canonq test` first\n"
    )
