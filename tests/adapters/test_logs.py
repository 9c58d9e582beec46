"""What log lines carry, and which of them are for a person."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from canonq.adapters.logs import FIELDS, FORMAT, about, install

_PROCESS = """
import logging
from canonq.adapters.logs import about, to_standard_error
to_standard_error("Test")
log = logging.getLogger("canonq")
with about(sweep="20260101T000000Z-aaaaaa", recipe="site", step="test"):
    with about(run="20260101T000000Z-site-bbbbbb"):
        log.info("green")
    log.debug("not shown")
log.warning("look at this")
logging.getLogger("another").info("not shown either")
"""


def test_lines_carry_what_they_are_about_and_canonqs_progress_is_shown() -> None:
    said = subprocess.run([sys.executable, "-c", _PROCESS], check=True, capture_output=True, text=True).stderr.splitlines()
    assert [line.partition("] ")[2] for line in said] == [
        "sweep=20260101T000000Z-aaaaaa recipe=site run=20260101T000000Z-site-bbbbbb step=test green",
        "look at this",
    ]
    assert [line.partition(": ")[2].partition("/")[0] for line in said] == ["INFO", "WARNING"]


def test_every_record_has_every_field_for_whoever_writes_them_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    install()
    install()
    with caplog.at_level(logging.INFO), about(recipe="site", sweep=None):
        logging.getLogger("another").warning("x")
    (record,) = caplog.records
    assert {name: getattr(record, name) for name in FIELDS} == {"sweep": "", "recipe": "site", "run": "", "step": ""}
    assert logging.Formatter(FORMAT.format(process="Test")).format(record).endswith("/Test] recipe=site x")


def test_what_acts_on_a_terminal_is_escaped_and_lines_stay_lines(caplog: pytest.LogCaptureFixture) -> None:
    install()
    with caplog.at_level(logging.INFO, logger="canonq"):
        logging.getLogger("canonq").info("said: %s", "\x1b]0;x\x07 a\nb \x9b2J")
    assert caplog.messages[-1] == "said: \\x1b]0;x\\x07 a\nb \\x9b2J"
