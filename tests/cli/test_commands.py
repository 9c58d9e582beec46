"""The list of commands, which is shown without a look into them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from canonq.cli.commands import COMMANDS, canonq, command_named


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_line_of_the_list_is_how_the_help_of_the_command_begins(name: str) -> None:
    command = command_named(name)
    assert command.name == name
    assert (command.help or "").startswith(COMMANDS[name].line.removesuffix("."))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_a_command_ends_with_an_example_of_it_that_click_takes(name: str) -> None:
    command = command_named(name)
    told = command.get_help(click.Context(command, info_name=f"canonq {name}", max_content_width=80))
    for example in COMMANDS[name].examples:
        assert f"\n    {example}\n" in told
        words = shlex.split(example)
        arguments = words[words.index("canonq") + 1 :]
        assert arguments[0] == name
        command.make_context(name, arguments[1:])


@pytest.mark.parametrize(
    ("typed", "meant"), [("swep", "did you mean 'sweep'?"), ("log", "did you mean 'logs'?"), ("zzzzz", "No such command 'zzzzz'")]
)
def test_a_command_that_is_none_names_the_nearest(typed: str, meant: str) -> None:
    ended = CliRunner().invoke(canonq, [typed])
    assert ended.exit_code == 2
    assert meant in ended.output


def test_shells_complete_recipes_and_are_told_nothing_of_a_broken_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("site", "sound"):
        (tmp_path / "tests" / name).mkdir(parents=True)
        (tmp_path / "tests" / name / "recipe.toml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANONQ_REPO", str(tmp_path))

    def proposed(*typed: str) -> list[str]:
        return [one.value for one in ShellComplete(canonq, {}, "canonq", "_").get_completions(list(typed[:-1]), typed[-1])]

    assert proposed("status", "si") == ["site"]
    assert proposed("sweep", "site", "so") == ["sound"]
    assert proposed("st") == ["status", "stop"]
    monkeypatch.setenv("CANONQ_KEEP", "none")
    assert proposed("why", "") == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_reason_is_text_that_every_record_takes_for_each_command_that_asks_for_one(name: str) -> None:
    command = command_named(name)
    below = command.commands.values() if isinstance(command, click.Group) else [command]
    for one in below:
        for option in (each for each in one.params if each.name == "reason"):
            read = option.process_value(click.Context(one), "j\udcfcngst")
            assert read == r"j\udcfcngst", f"{one.name} {option.opts}"


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


@pytest.mark.long
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
