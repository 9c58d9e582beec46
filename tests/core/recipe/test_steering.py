"""Names of variables that are orders to programs of the host."""

from __future__ import annotations

import pytest

from canonq.core.recipe.steering import steering, steers


@pytest.mark.parametrize("name", ["PATH", "ld_preload", "GIT_SSH_COMMAND", "PYTHONPATH", "http_proxy", "DOCKER_HOST", "BASH_ENV"])
def test_what_steers_bash_python_git_or_docker_is_known_in_any_case(name: str) -> None:
    assert steers(name)


@pytest.mark.parametrize("name", ["DOMAIN", "APP_PATH", "GITEA_URL", "SMTP_HOST", "LANGUAGE"])
def test_an_apps_own_word_is_not(name: str) -> None:
    assert not steers(name)


def test_they_are_listed_in_order() -> None:
    assert steering(["TZ", "PATH", "LD_LIBRARY_PATH", "DOMAIN"]) == ("LD_LIBRARY_PATH", "PATH")
