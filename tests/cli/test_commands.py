"""The list of commands, which is shown without a look into them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def test_status_imports_no_celery_docker_redis_or_http_client(tmp_path: Path) -> None:
    folder = tmp_path / "checkout" / "tests" / "site"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text('upstream = "/nowhere"\n')
    settings = {"CANONQ_REPO": str(tmp_path / "checkout"), "CANONQ_STATE": str(tmp_path / "state")}
    asked = LIST_AND_MODULES.replace('"--help"', '"status"')
    told = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, env=os.environ | settings, check=True
    ).stdout
    assert "site" in told
    assert not {"celery", "docker", "redis", "requests"} & set(told.splitlines()[-1].split())


def test_what_is_imported_later_is_the_very_module_that_others_import() -> None:
    """Two classes of one exception would be caught by nobody: whoever imports a submodule first."""
    asked = """
import canonq.adapters.lazily as later
import docker.errors, redis.exceptions, requests.exceptions
import docker.api.client, redis.client
assert later.docker.errors.DockerException is docker.errors.DockerException is docker.api.client.DockerException
assert later.redis.exceptions.ConnectionError is redis.exceptions.ConnectionError is redis.client.ConnectionError
assert later.requests.exceptions.RequestException is requests.exceptions.RequestException is requests.RequestException
"""
    subprocess.run([sys.executable, "-c", asked], check=True)
