"""Files beside recipe.toml that were meant to be others."""

from __future__ import annotations

import pytest

from canonq.core.enrol.misnamed import misnamed


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["recipe.toml", "hooks.py", "install_steps.sh", "compose.canonq.yml", "conftest.py", "test_page.py"], []),
        (["recipe.toml", "install-steps.sh"], ["install-steps.sh is read by nobody; did you mean 'install_steps.sh'?"]),
        (["recipe.toml", "compose.canonq.yaml"], ["compose.canonq.yaml is read by nobody; did you mean 'compose.canonq.yml'?"]),
        (["recipe.toml", "hook.py"], ["hook.py is read by nobody; did you mean 'hooks.py'?"]),
        (["recipe.toml", "hook.py", "hooks.py"], []),
        (["recipe.toml", "login_test.py"], ["login_test.py is read by nobody; own tests are called test_*.py"]),
        (["recipe.toml", "tests_site.py"], ["tests_site.py is read by nobody; own tests are called test_*.py"]),
        (["recipe.toml", "test-site.py"], ["test-site.py is read by nobody; own tests are called test_*.py"]),
        (["recipe.toml", "Test_site.py"], ["Test_site.py is read by nobody; own tests are called test_*.py"]),
        (["recipe.toml", "site_tests.py"], ["site_tests.py is read by nobody; own tests are called test_*.py"]),
        (["recipe.toml", "testing.py", "helpers.py"], []),
        (["recipe.toml", "README.md", "page.html", ".gitignore", "shared"], []),
    ],
)
def test_a_name_that_is_nearly_right_is_told_with_the_right_one(names: list[str], told: list[str]) -> None:
    assert list(misnamed(names)) == told
