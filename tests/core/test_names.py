"""Names from outside are safe or refused; texts of Docker find whose fault they are."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from canonq.core.errors import Fault, RecipeProblem, WrongUse
from canonq.core.names import (
    DOCKER_NAME_LIMIT,
    RECIPE_NAME,
    RUN_ID,
    check_docker_name,
    cold_stack,
    commit_id,
    identifier,
    recipe_name,
    ref_name,
    ref_problem,
    shown,
    warm_stack,
)

SAFE_RECIPE = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?", re.ASCII)
SAFE_REF = re.compile(r"[A-Za-z0-9_+@%=,\]][A-Za-z0-9_+@%=,\]./-]*", re.ASCII)
SHELL = [f"a{character}b" for character in "$`;&|<>(){}[!#*?~'\"\\\n\t\0 "]
recipe_names = st.from_regex(RECIPE_NAME, fullmatch=True)
likely = st.text(st.sampled_from("aZ09-_./@{}\\:^~ \n\0$;ä")) | st.text()

REFUSED_NAMES: list[object] = [
    "../x", "a/b", "a b", "-x", "x-", "_x", "", "UPPER", "a.b", ".", "..", "site\n", "\nsite", "ä", "\uff53ite", "٣", "a" * 41,
    "a" * 300, "a]b", None, 7, b"site", ["site"], *SHELL,
]  # fmt: skip


def accepted(check: Callable[[object], str], text: object) -> str | None:
    try:
        return check(text)
    except WrongUse:
        return None


@pytest.mark.parametrize("name", ["site", "a", "0", "custom-html", "a_b-c", "a" * 40])
def test_recipe_names_are_taken(name: str) -> None:
    assert recipe_name(name) == name


@pytest.mark.parametrize("name", REFUSED_NAMES, ids=ascii)
def test_what_is_no_recipe_name_is_refused_with_a_mend(name: object) -> None:
    with pytest.raises(WrongUse) as told:
        recipe_name(name)
    assert (told.value.code, told.value.fault, told.value.exit_status) == ("bad-recipe-name", Fault.USER, 2)
    assert told.value.mend


@given(likely)
@example("site\n")
@example("a" * 41)
def test_any_text_is_a_safe_recipe_name_or_refused(text: str) -> None:
    taken = accepted(recipe_name, text)
    assert taken is None or (taken == text and SAFE_RECIPE.fullmatch(taken) and len(taken) <= 40)


@pytest.mark.parametrize(
    "ref", ["main", "1.13.0+1.31.1", "1.3.0+6.42.0-alpine", "feature/x_1", "refs/pull/7/head", "a" * 40, "v2.4.8", "a" * 200]
)
def test_refs_are_taken(ref: str) -> None:
    assert ref_name(ref) == ref


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "--upload-pack=x", "/a", "a/", "a//b", "a..b", ".a", "a.", "a/.b", "a.lock", "a.lock/b", "a@{1}", "a^", "a~1",
     "a:b", "HEAD\n", "é", "a" * 201, None, 7, b"main", *SHELL],
    ids=ascii,
)  # fmt: skip
def test_what_is_no_ref_is_refused(ref: object) -> None:
    with pytest.raises(WrongUse) as told:
        ref_name(ref)
    assert told.value.code == "bad-ref-name"


@given(likely)
@example("main\n")
def test_any_text_is_a_safe_ref_or_refused(text: str) -> None:
    taken = accepted(ref_name, text)
    assert taken is None or (taken == text and SAFE_REF.fullmatch(taken) and ".." not in taken and len(taken) <= 200)
    assert (taken is None) == (ref_problem(text) is not None)


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from("ab1.-_/+@{}%=,"), min_size=1, max_size=8))
@example("a.lock")
@example("a/.b")
def test_git_takes_every_ref_that_is_taken(text: str) -> None:
    if ref_problem(text) is None:
        assert subprocess.run(["git", "check-ref-format", f"refs/tags/{text}"], check=False).returncode == 0


def test_full_commit_ids_are_taken() -> None:
    assert commit_id("0123456789abcdef" * 2 + "01234567") == "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize("commit", ["", "abc1234", "a" * 39, "a" * 41, "A" * 40, "g" * 40, "a" * 40 + "\n", "٣" * 40, None, 7])
def test_what_is_no_full_commit_id_is_refused(commit: object) -> None:
    with pytest.raises(WrongUse):
        commit_id(commit)


@pytest.mark.parametrize("run", ["20260617T050314Z-site-aaaaaa\n", "../x", "20260617T050314Z-../x-aaaaaa", "", None])
def test_what_is_no_run_id_is_refused_by_name(run: object) -> None:
    assert identifier("20260617T050314Z-a_b-c-0a1b2c", RUN_ID, "run id")
    with pytest.raises(WrongUse, match="not a run id"):
        identifier(run, RUN_ID, "run id")


@given(st.text(min_size=0))
def test_hostile_text_is_shown_on_one_line_in_reading_order_and_cut(text: str) -> None:
    said = shown(text)
    assert len(said) <= 60
    assert said.encode(), "any output takes it"
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in said)
    assert not any(
        unicodedata.bidirectional(one) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI") for one in said
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("WIP: sp\u00e4ter \U0001f418 \U0001f468\u200d\U0001f469", "'WIP: sp\u00e4ter \U0001f418 \U0001f468\u200d\U0001f469'"),
        ("\u05e9\u05dc\u05d5\u05dd, \u4f60\u597d\u3000\u00a0!", "'\u05e9\u05dc\u05d5\u05dd, \u4f60\u597d\u3000\u00a0!'"),
        ("it's C:\\new", '"it\'s C:\\new"'),
        ("red\x1b[31m\n\u202egnp\u2028", "'red\\x1b[31m\\n\\u202egnp\\u2028'"),
        ("half \ud83d", "'half \\ud83d'"),
        (None, "None"),
        (["\u00e4\u202e"], "['\u00e4\\u202e']"),
    ],
)
def test_peoples_words_are_shown_as_they_are_written(text: object, said: str) -> None:
    assert shown(text) == said


@given(recipe_names)
@example("a" * 40)
@example("a-b-c-d-e-f-g-h")
@example("a--_b")
def test_stack_names_leave_room_in_dockers_64_characters(recipe: str) -> None:
    cold, warm = cold_stack(recipe, "0a1b2c"), warm_stack(recipe)
    assert re.fullmatch(r"[a-z0-9]{1,6}-0a1b2c", cold)
    assert re.fullmatch(r"warm-[a-z0-9_-]{1,40}", warm)
    assert DOCKER_NAME_LIMIT - len(warm) >= 19


def test_a_cold_stack_is_called_by_the_recipes_initials() -> None:
    assert cold_stack("custom-html_tiny", "0a1b2c") == "cht-0a1b2c"
    assert cold_stack("a-b-c-d-e-f-g-h", "0a1b2c") == "abcdef-0a1b2c"


def test_64_characters_are_allowed_and_65_are_told() -> None:
    check_docker_name("config", "a" * 64)
    with pytest.raises(RecipeProblem, match="has 65 characters") as told:
        check_docker_name("config", "a" * 65)
    assert told.value.code == "name-too-long"
