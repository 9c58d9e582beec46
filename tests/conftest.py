"""What all tests share: who commits in their repositories, and the options of the fault suites."""

from __future__ import annotations

import os

import pytest

# A fresh machine has told git nobody's name.
for role in ("AUTHOR", "COMMITTER"):
    os.environ.setdefault(f"GIT_{role}_NAME", "Tests")
    os.environ.setdefault(f"GIT_{role}_EMAIL", "tests@localhost")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How thorough the fault suites are; the defaults are for every change, more is for a night."""
    group = parser.getgroup("canonq")
    group.addoption("--crash-stride", default="1", help="try every n-th crash point (default: each)")
    group.addoption("--kills", default="25", help="how many real processes are killed (default: 25)")
    group.addoption("--seed", default="1", help="what decides which, and when (default: 1)")
