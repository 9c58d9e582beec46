"""recipe.toml of the enrolment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.enrolment import parse_enrolment
from canonq.core.errors import CanonqError, RecipeProblem, WrongConfiguration
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.envfile import parse_env, parse_exports


def enrol(text: str) -> Any:
    return parse_enrolment("site", text, where="tests/site/recipe.toml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('DOMAIN = "notes.example.org"', "DOMAIN is canonq's to give"),
        ('DOMAIN = "$DOMAINS"', "DOMAIN is canonq's to give"),
        ('STACK_NAME = "notes"', "STACK_NAME is canonq's to give"),
    ],
)
def test_no_enrolment_gives_a_fixed_name_or_domain_which_others_may_have(line: str, said: str) -> None:
    with pytest.raises(CanonqError, match=said):
        enrol(f'upstream = "/x"\n[env]\n{line}\n')


def test_a_domain_that_builds_on_the_runs_own_may_be_given() -> None:
    assert enrol('upstream = "/x"\n[env]\nDOMAIN = "www.${DOMAIN}"\n').env == {"DOMAIN": "www.${DOMAIN}"}
    assert enrol('upstream = "/x"\n[env]\nDOMAIN = "www.$DOMAIN"\n').env == {"DOMAIN": "www.$DOMAIN"}


def test_a_byte_order_mark_that_an_editor_put_in_front_is_passed_over() -> None:
    assert enrol('\ufeffupstream = "/x"\n').upstream == "/x"


WHOLE = """
upstream = "https://git.example.org/coop-cloud/custom-html.git"
mirror   = "https://git.example.org/mirror/custom-html.git"
weight   = "light"
enrolled = true
prereleases = false
deps = ["keycloak"]
[health]
kind    = "http"
service = "app"
port    = 80
path    = "/"
status  = [200]
timeout = 300
[env]
SITE_NAME = "test"
[secrets]
rotation_key = { hex = 32 }
other = { file = "/x" }
third = { env = "X" }
[expected_na]
backup = "stateless static server"
[upgrade]
base = "3.0.1+v2.0.0"
[limits]
run = 2400
[promote]
data = "carry"
"""


def test_the_whole_example_of_the_spec_is_read() -> None:
    enrolment = enrol(WHOLE)
    assert enrolment.secrets["rotation_key"].hex == 32
    assert enrolment.upgrade.base == "3.0.1+v2.0.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "upstream: is required"),
        ('upstream = "/x"\nwieght = "light"', "wieght: unknown key (allowed: data, deps, enrolled"),
        ('upstream = "/x"\nweight = "medium"', "weight: "),
        ('upstream = "/x"\nweight = 3', "weight: "),
        ('upstream = "/x"\n[health]\nstatus = []', "health.status: "),
        ('upstream = "/x"\n[health]\nstatus = [200, 1000]', "health.status.1: "),
        ('upstream = "/x"\n[health]\nport = "80"', "health.port: "),
        ('upstream = "/x"\n[health]\ntimeout = 0', "health.timeout: "),
        ('upstream = "/x"\n[health]\nkind = "exec"', "command = [...]"),
        ('upstream = "/x"\n[health]\npaths = "/"', "health.paths: unknown key (allowed: allow_empty, command, kind"),
        ('upstream = "/x"\n[secrets]\nx = {}', "exactly one of hex"),
        ('upstream = "/x"\n[secrets]\nx = { hexa = 1 }', "unknown key (allowed: env, file, hex)"),
        ('upstream = "/x"\n[upgrade]\nbase = "../x"', "upgrade: "),
        ('upstream = "/x"\n[limits]\nrun = 999999', "limits.run: "),
        ('upstream = "/x"\n[promote]\ndata = "keep"', "promote.data: "),
        ('upstream = "/x"\nrecipe = "y"', "recipe: not a key here"),
        ('upstream = "/x"\n[expected_na]\nbackups = "x"', "expected_na.backups"),
        ("upstream = ", "is not TOML"),
        ('upstream = "/x"\n\n[health]\nprot = 80', "line 4, health.prot: unknown key"),
        ('upstream = "/x"\n[health]\nprot = 80', "did you mean 'port'?"),
        ('upstream = "/x"\n[health]\nstatus = 200', "line 3, health.status: must be a list, such as [200]"),
        ('upstream = "/x"\n[health]\nport = 0', "line 3, health.port: must be 1 or more"),
        ('upstream = "/x"\n[health]\nstatus = [2000]', "line 3, health.status.0: must be 599 or less"),
        ('upstream = "/x"\n[health]\nstatus = []', "line 3, health.status: must not be an empty list"),
        ('upstream = "/x"\n[health]\npath = "up"', "line 3, health.path: must begin with / and have no spaces"),
        ('upstream = "/x"\n[health]\nservice = "my app"', "line 3, health.service: must be letters, digits"),
        ('upstream = "/x"\n[env]\n"A B" = "x"', "env.A B: must be letters, digits and _"),
        ('upstream = "/x"\nweight = "Heavy"', "line 2, weight: must be 'light' or 'heavy'"),
        (
            'upstream = "/x"\n[secrets]\nkey = "abc"',
            "line 3, secrets.key: must be a table, such as { key = ... }, with keys of env, file, hex",
        ),
        ('upstream = "/x"\n[resources]\nmemory = "2 bananas"', 'line 3, resources.memory: must be a size, such as "512 MiB"'),
        ('upstream = "/x"\n[resources]\nmemory = 512', "line 3, resources.memory: must be 16 MiB or more"),
        ('upstream = "/x"\n[expected_na]\nbackup = ""', "line 3, expected_na.backup: must not be empty"),
        ('upstream = "/x"\nenv.PORT = 80', 'line 2, env.PORT: must be a text in quotes, such as "80"'),
        ('upstream = "/x"\ndeps = ["site"]', "site cannot depend on itself"),
        ('upstream = "/x"\ndeps = ["a", "a"]', "a stands there twice"),
    ],
)
def test_a_wrong_key_is_told_with_its_file_and_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(WrongConfiguration) as told:
        enrol(text)
    assert "tests/site/recipe.toml" in str(told.value)
    assert said in str(told.value)


def test_a_merge_that_was_not_finished_is_told_of_env_and_enrolment_too() -> None:
    with pytest.raises(
        RecipeProblem, match=r"line 2 is neither a comment nor KEY=value; a merge was not finished in it: line 2 "
    ):
        parse_env("A=1\n<<<<<<< HEAD\nB=1\n=======\nB=2\n>>>>>>> main\n")
    with pytest.raises(WrongConfiguration, match=r"is not TOML: .*; a merge was not finished in it: line 2 begins"):
        enrol('upstream = "/x"\n<<<<<<< HEAD\n')


@given(st.text(max_size=200))
def test_no_text_crashes_a_reader(text: str) -> None:
    for read in (
        lambda: enrol(text),
        lambda: resolve([("compose.yml", text)], {}),
        lambda: parse_env(text),
        lambda: parse_exports(text, {}),
    ):
        try:
            read()
        except CanonqError as error:
            assert error.what  # noqa: PT017 - any of our errors will do; another kind would fail the test
