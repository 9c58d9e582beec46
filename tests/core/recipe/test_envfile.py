""".env.sample and abra.sh, and the secrets that they ask for."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.envfile import generate_secret, parse_env, parse_exports, render_env, secret_rules

names = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)


def test_later_lines_build_on_earlier_ones() -> None:
    sample = (
        'COMPOSE_FILE="compose.yml"\n#COMPOSE_FILE="$COMPOSE_FILE:compose.no.yml"\nCOMPOSE_FILE="$COMPOSE_FILE:compose.db.yml"\n'
    )
    assert parse_env(sample)["COMPOSE_FILE"] == "compose.yml:compose.db.yml"


def test_an_override_that_names_its_own_key_builds_on_the_samples_value() -> None:
    sample = "COMPOSE_FILE=compose.yml\nCOMPOSE_FILE=$COMPOSE_FILE:compose.db.yml\nAFTER=$COMPOSE_FILE\n"
    env = parse_env(sample, forced={"COMPOSE_FILE": "$COMPOSE_FILE:compose.smtp.yml"})
    assert env["COMPOSE_FILE"] == env["AFTER"] == "compose.yml:compose.db.yml:compose.smtp.yml"


def test_an_override_of_what_is_given_is_expanded_once() -> None:
    env = parse_env("A=1\n", {"DOMAIN": "x.test"}, forced={"DOMAIN": "www.${DOMAIN}"})
    assert env == {"DOMAIN": "www.x.test", "A": "1"}


def test_dollars_in_a_given_value_stay_as_they_are() -> None:
    assert parse_env("A=$DOMAIN\n", {"DOMAIN": "$A"})["A"] == "$A"


def test_what_is_forced_stands_in_place_so_that_derived_values_follow() -> None:
    sample = "SUB=a\nDOMAIN=x.example.com\nURL=https://$SUB.$DOMAIN/\n"
    env = parse_env(sample, {"DOMAIN": "ch-1.canonq.test"}, forced={"SUB": "b", "EXTRA": "${SUB}!"})
    assert env == {"DOMAIN": "ch-1.canonq.test", "SUB": "b", "URL": "https://b.ch-1.canonq.test/", "EXTRA": "b!"}


def test_quotes_and_comments_are_read_as_people_write_them() -> None:
    env = parse_env("A='$B # c' # d\nB=\"x # y\" # z\nC=plain # comment\nexport D=e\nE=a#b\nF=\n")
    assert env == {"A": "$B # c", "B": "x # y", "C": "plain", "D": "e", "E": "a#b", "F": ""}


@pytest.mark.parametrize("bad", ["A='open\n", 'A="open\n', "rm -rf /\n", "a b=c\n"])
def test_what_is_no_assignment_is_named_with_its_line(bad: str) -> None:
    with pytest.raises(RecipeProblem, match="line 1"):
        parse_env(bad)


@given(st.dictionaries(names, st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)))
def test_env_files_round_trip(env: dict[str, str]) -> None:
    assert parse_env(render_env(env)) == env


def test_no_command_in_an_abra_sh_is_ever_run() -> None:
    text = "export A=v1\nexport B=$(touch /tmp/no)\nexport C=`id`\nfunction x { export D=v9; }\nexport E=$A-x\n"
    assert parse_exports(text, {}) == {"A": "v1", "E": "v1-x"}


def test_secret_rules_come_from_the_sample_with_their_modifiers() -> None:
    sample = (
        "SECRET_DB_PASSWORD_VERSION=v1        # length=64\nSECRET_KEY_VERSION=v2 # charset=hex length=8\n"
        "SECRET_API_VERSION=v1 # generate=false\nSECRET_PLAIN_VERSION=v1\n"
    )
    rules = secret_rules(sample, parse_env(sample))
    assert set(rules) == {"db_password", "key", "api", "plain"}
    assert (rules["db_password"].version, rules["db_password"].length) == ("v1", 64)
    assert not rules["api"].generate
    made = generate_secret(rules["key"], random.Random(1).choice)
    assert len(made) == 8
    assert set(made) <= set(string.hexdigits.lower())


def test_the_modifiers_of_a_line_that_is_commented_out_count_for_who_sets_it() -> None:
    sample = (
        '#COMPOSE_FILE="$COMPOSE_FILE:compose.oidc.yml"\n#SECRET_JWT_KEY_VERSION=v1 # length=64 charset=hex\n'
        "# SECRET_OIDC_CLIENT_VERSION=v1  # generate=false\nSECRET_A_VERSION=v1 # length=10\n#SECRET_A_VERSION=v2 # length=20\n"
        "SECRET_B_VERSION=v1\n# SECRET_B_VERSION=v1 # length=9\n"
    )
    own = dict.fromkeys(("SECRET_JWT_KEY_VERSION", "SECRET_OIDC_CLIENT_VERSION"), "v1")
    rules = secret_rules(sample, {**parse_env(sample), **own})
    assert (rules["jwt_key"].length, set(rules["jwt_key"].charset)) == (64, set("0123456789abcdef"))
    assert not rules["oidc_client"].generate
    assert (rules["a"].length, rules["b"].length) == (10, 32), "a line that is in force has the last word"


@pytest.mark.parametrize("modifier", ["length=0", "length=99999", "length=lots", "length=32x", "charset=emoji"])
def test_a_secret_that_cannot_be_made_is_the_recipes_fault(modifier: str) -> None:
    sample = f"SECRET_X_VERSION=v1 # {modifier}\n"
    rule = secret_rules(sample, parse_env(sample))["x"]
    with pytest.raises(RecipeProblem, match="'x'"):
        generate_secret(rule, random.Random(1).choice)


@pytest.mark.parametrize(
    "modifier", ["charset=emoji generate=false", "charset=alnum", "length=8 charset=alnum", "x/?charset=utf8&length=lots"]
)
def test_a_charset_that_need_not_be_made_is_nobodys_fault_and_alnum_is_the_usual_one(modifier: str) -> None:
    sample = f"SECRET_X_VERSION=v1 # {modifier}\n"
    rule = secret_rules(sample, parse_env(sample))["x"]
    assert not rule.generate or generate_secret(rule, random.Random(1).choice).isalnum()


@pytest.mark.parametrize("char", ["\u2028", "\x85", "\x0c", "\x0b", "\x1c"], ids=["2028", "85", "0c", "0b", "1c"])
def test_nothing_but_a_newline_ends_a_line(char: str) -> None:
    sample = f"DOMAIN=a.example.com\r\n# notes{char}of the maintainer\nB=2\n"
    assert parse_env(sample) == {"DOMAIN": "a.example.com", "B": "2"}
    assert parse_exports(f"# x{char}export A_VERSION=v1\nexport B_VERSION=v2\n", {}) == {"B_VERSION": "v2"}
    value = {"MOTD": f"one{char}two{char}"}
    assert parse_env(render_env(value)) == value
    assert parse_env(f"MOTD=one{char}two{char}\n") == value


def test_an_abra_sh_in_the_middle_of_a_merge_is_told_with_its_line() -> None:
    text = "<<<<<<< HEAD\nexport PAGE_VERSION=v2\n=======\nexport PAGE_VERSION=v3\n>>>>>>> main\n"
    with pytest.raises(RecipeProblem, match="line 1 begins with '<<<<<<<'"):
        parse_exports(text, {})
