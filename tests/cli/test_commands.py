"""The list of commands, which is shown without a look into them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from canonq.cli.commands import COMMANDS, command_named


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_line_of_the_list_is_how_the_help_of_the_command_begins(name: str) -> None:
    command = command_named(name)
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name][1].removesuffix("."))


LIST_AND_MODULES = """
import sys
from canonq.cli import main
sys.argv = ["canonq", "--help"]
try:
    main()
finally:
    print(*sys.modules)
"""


def test_the_list_imports_no_celery_docker_git_redis_or_pydantic() -> None:
    told = subprocess.run([sys.executable, "-c", LIST_AND_MODULES], capture_output=True, text=True, check=True).stdout
    assert "doctor" in told
    assert not {"celery", "docker", "git", "redis", "pydantic"} & set(told.splitlines()[-1].split())
