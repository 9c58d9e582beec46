"""Names from outside are safe or refused; texts of Docker find whose fault they are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from canonq.core.blame import PATTERNS, Pattern, deploy_problem, known
from canonq.core.errors import CanonqError, Fault, HostProblem, RecipeProblem, WrongUse
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
HUB = "registry-1.docker.io"
DOCKER_SAYS = [
    ("failed to update config s_conf: Error response from daemon: rpc error: code = InvalidArgument desc = "
     "only updates to Labels are allowed", "config-not-bumped", RecipeProblem),
    ("Error response from daemon: toomanyrequests: You have reached your pull rate limit.", "registry-rate-limit", HostProblem),
    ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
     "docker-unreachable", HostProblem),
    ('this node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try '
     "again", "no-swarm", HostProblem),
    ("failed to register layer: write /usr/lib/x: no space left on device", "disk-full", HostProblem),
    ("Error response from daemon: manifest for nginx:none not found: manifest unknown: manifest unknown",
     "image-unavailable", RecipeProblem),
    ("Error response from daemon: pull access denied for x, repository does not exist or may require 'docker login'",
     "image-unavailable", RecipeProblem),
    ("Error: No such image: nginx:none", "image-unavailable", RecipeProblem),
    ("no suitable node (host-mode port already in use on 1 node)", "port-taken", HostProblem),
    ("driver failed programming external connectivity on endpoint x: Bind for 0.0.0.0:80 failed: port is already allocated",
     "port-taken", HostProblem),
    ("Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use", "port-taken", HostProblem),
    ('invalid mount config for type "bind": bind source path does not exist: /no', "mount-invalid", RecipeProblem),
    ('starting container failed: exec: "no": executable file not found in $PATH', "cannot-start", RecipeProblem),
    ("OCI runtime create failed: runc create failed: unable to start container process", "cannot-start", RecipeProblem),
    ("exec /bin/app: exec format error", "cannot-start", RecipeProblem),
    (f'Error response from daemon: Get "https://{HUB}/v2/": dial tcp: lookup {HUB}: no such host',
     "registry-unreachable", HostProblem),
    (f'Error response from daemon: Get "https://{HUB}/v2/": dial tcp 1.2.3.4:443: i/o timeout',
     "registry-unreachable", HostProblem),
    ('Error response from daemon: Get "http://localhost:5000/v2/": dial tcp 127.0.0.1:5000: connect: connection refused',
     "registry-unreachable", HostProblem),
    ('Error response from daemon: Head "https://ghcr.io/v2/x/manifests/1": unauthorized', "registry-refused", HostProblem),
    ('network "proxy" is declared as external, but could not be found. You need to create a swarm-scoped network before the '
     "stack can be deployed", "network-missing", HostProblem),
    ("services.app.healthcheck.interval Does not match format 'duration'", "compose-invalid", RecipeProblem),
    ("failed to create config x: Error response from daemon: rpc error: code = InvalidArgument desc = invalid config name, only "
     "64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]", "name-too-long", RecipeProblem),
    ("failed to create config s_conf: Error response from daemon: config s_conf already exists", "leftovers", HostProblem),
    ("failed to create service s_app: Error response from daemon: rpc error: code = AlreadyExists desc = name conflicts with an "
     "existing object", "leftovers", HostProblem),
]  # fmt: skip


def problem(output: str, **more: Any) -> CanonqError:
    return deploy_problem(output, "`docker stack deploy` of s", **more)


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
def test_hostile_text_is_shown_escaped_and_cut(text: str) -> None:
    assert shown(text).isascii()
    assert shown(text).isprintable()
    assert len(shown(text)) <= 60


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


@pytest.mark.parametrize(("said", "code", "kind"), DOCKER_SAYS, ids=[said[:30] for said, *_ in DOCKER_SAYS])
def test_what_docker_says_finds_whose_fault_it_is(said: str, code: str, kind: type[CanonqError]) -> None:
    found = problem(f"Creating network s_default\nCreating service s_app\n{said}\n")
    assert (type(found), found.code) == (kind, code)
    assert found.mend
    assert said in found.what


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.text)
def test_every_pattern_is_found_in_a_text_of_dockers(pattern: Pattern) -> None:
    assert pattern in [known(said) for said, *_ in DOCKER_SAYS]
    assert pattern.text == pattern.text.lower()


def test_an_unknown_text_is_the_recipes_with_its_last_lines_kept() -> None:
    said = "\n".join(f"line {number}" for number in range(200)) + "\nservices.app.deploy Additional property x is not allowed"
    found = problem(said)
    assert (type(found), found.code) == (RecipeProblem, "deploy-refused")
    assert found.what.endswith("line 198 line 199 services.app.deploy Additional property x is not allowed.")
    assert len(found.what) < 600


def test_an_unknown_text_takes_the_code_of_its_caller() -> None:
    assert problem("who knows", default="image-unavailable").code == "image-unavailable"


def test_dockers_notices_about_itself_are_left_out() -> None:
    said = (
        "Since --detach=false was not specified, tasks will be created in the background.\n"
        "In a future release, --detach=false will become the default.\n"
        "Ignoring unsupported options: restart\nCreating network s_default\n"
        "Updating service s_app (id: x)\nRemoving service s_old\n"
        "\n  the reason  \n"
    )
    assert problem(said).what == "`docker stack deploy` of s failed: the reason."


def test_no_output_at_all_is_still_a_problem() -> None:
    assert isinstance(problem(""), RecipeProblem)
