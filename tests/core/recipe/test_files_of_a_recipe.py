"""Reading what recipes ship: .env.sample, abra.sh, compose files, and recipe.toml of the enrolment."""

from __future__ import annotations

import json
import random
import string
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from canonq.core.enrolment import parse_enrolment
from canonq.core.errors import CanonqError, RecipeProblem, WrongConfiguration
from canonq.core.recipe.compose import resolve, unset, written
from canonq.core.recipe.envfile import generate_secret, parse_env, parse_exports, render_env, secret_rules
from canonq.core.recipe.interpolate import interpolate_text
from canonq.core.recipe.shape import misshapen
from canonq.core.recipe.yamlfile import dump_yaml, load_yaml

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


@pytest.mark.parametrize("modifier", ["length=0", "length=99999", "charset=emoji"])
def test_a_secret_that_cannot_be_made_is_the_recipes_fault(modifier: str) -> None:
    sample = f"SECRET_X_VERSION=v1 # {modifier}\n"
    rule = secret_rules(sample, parse_env(sample))["x"]
    with pytest.raises(RecipeProblem, match="'x'"):
        generate_secret(rule, random.Random(1).choice)


@pytest.mark.parametrize("modifier", ["charset=emoji generate=false", "charset=alnum", "length=8 charset=alnum"])
def test_a_charset_that_need_not_be_made_is_nobodys_fault_and_alnum_is_the_usual_one(modifier: str) -> None:
    sample = f"SECRET_X_VERSION=v1 # {modifier}\n"
    rule = secret_rules(sample, parse_env(sample))["x"]
    assert not rule.generate or generate_secret(rule, random.Random(1).choice).isalnum()


def test_emoji_and_odd_characters_are_written_as_dockers_reader_of_yaml_takes_them() -> None:
    said = {"services": {"app": {"image": "x", "environment": {"A": "Garden \U0001f33b \x7f \x85 \u2028 \\ud83c"}}}}
    text = written(said)
    assert "\U0001f33b" in text
    assert "\\ud83c\\udf3b" not in text
    assert json.loads(text) == yaml.safe_load(text) == said


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$A/${A}", "1/1"),
        ("${B:-x}${B-y}${C-z}", "xz"),
        ("$$A", "$A"),
        ("${A:-}", "1"),
        ("Host(`$A`)", "Host(`1`)"),
        ("${C}", ""),
        # As Docker has it, and so whoever deploys the release:
        ("$A-rest.of.it", "1"),
        ("$C-rest.of.it", "rest.of.it"),
        ("${C:?must be non-empty}", "empty"),
        ("${C-a:-b}", "b"),
        ("${C:-${A}}", "${A}"),
    ],
)
def test_variables_have_the_forms_of_compose(text: str, filled: str) -> None:
    assert interpolate_text(text, {"A": "1", "B": ""}, where="x") == filled


@pytest.mark.parametrize("text", ["${A", "$1", "${C:?say why}", "a $ b", "${A:+x}", "${A+x}"])
def test_a_bad_or_missing_variable_is_named(text: str) -> None:
    with pytest.raises(RecipeProblem, match=r"compose\.yml"):
        interpolate_text(text, {"A": "1"}, where="compose.yml")


def test_yaml_is_read_as_docker_reads_it() -> None:
    read = load_yaml("a: yes\nb: 22:22\nc: 0555\nd: 2020-01-01\ne: 1e3\nf: ~\n", where="x")
    assert read == {"a": "yes", "b": "22:22", "c": 0o555, "d": "2020-01-01", "e": 1000.0, "f": None}
    assert load_yaml(dump_yaml({"a": "b"}), where="x") == {"a": "b"}


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(8)
)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "- a", "a: [", "a: !!python/object:os.system x", BOMB, "", "a: " + "[" * 200 + "]" * 200, "x" * (1 << 21)],
)
def test_a_file_that_is_no_mapping_or_a_bomb_is_refused(text: str) -> None:
    with pytest.raises(RecipeProblem, match=r"compose\.yml"):
        load_yaml(text, where="compose.yml")


@pytest.mark.parametrize(
    "text",
    [
        "services: []",
        "services: {}",
        "services: {app: [1]}",
        "services: {app: {build: .}}",
        "services: {app: {image: x}}\nservixes: {}",
        "services: {app: {image: x}}\nconfigs:",
        "services: {app: {image: x}, db: }",
        "services: {app: {image: x}}\nx-note: 5 $ a month",
        "version: 3.8\nservices: {app: {image: x}}",
        "version:\nservices: {app: {image: x}}",
        "services:\n" + "\n".join(f"  s{n}: {{image: x}}" for n in range(10_000)),
    ],
)
def test_a_stack_that_cannot_be_one_is_refused(text: str) -> None:
    with pytest.raises(RecipeProblem):
        resolve([("compose.yml", text)], {})


@pytest.mark.parametrize(("one", "other"), [("3.8", "3.9"), ("3.8", None), (None, "3.8"), ("3", "3.8")])
def test_files_of_two_versions_are_refused_as_docker_refuses_them(one: str | None, other: str | None) -> None:
    texts = [
        f'version: "{version}"\n{services}' if version else services
        for version, services in ((one, "services: {app: {image: x}}"), (other, "services: {app: {tty: true}}"))
    ]
    with pytest.raises(RecipeProblem, match=r"over\.yml.* Docker takes files of one version only"):
        resolve([("compose.yml", texts[0]), ("over.yml", texts[1])], {})
    assert resolve([("compose.yml", texts[0])], {}, ("compose.canonq.yml", texts[1])).version, "the enrolment's own is no file"


def test_a_file_without_a_version_has_the_one_that_its_keys_need() -> None:
    def version(health: str) -> str:
        return resolve(
            [("compose.yml", f"services: {{app: {{image: x, healthcheck: {{test: [CMD, x], {health}}}}}}}")], {}
        ).version

    assert version("interval: 2s") == "3.8"
    assert version("start_interval: 2s") == "3.12"


def test_of_several_documents_and_tags_of_somebodys_own_docker_reads_what_is_plain() -> None:
    text = "a: !reset [x]\nb: !other {c: =}\n---\na: [\n"
    assert load_yaml(text, where="x") == {"a": ["x"], "b": {"c": "="}}


def test_an_orphan_service_in_an_overlay_is_named() -> None:
    """An overlay kept a service after the base file had dropped it."""
    with pytest.raises(RecipeProblem, match="sidekiq"):
        resolve([("compose.yml", "services: {app: {image: x}}"), ("over.yml", "services: {sidekiq: {environment: [A=b]}}")], {})


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


SHAPES = """version: "3.8"
services:
  app:
    image: x:1
    {line}
    networks: [inner]
networks:
  inner:
volumes:
  data:
"""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "volums: [data:/srv]",
            "compose.yml:5 services.app.volums: 'volums' is not a key of services.app; did you mean 'volumes'?",
        ),
        ("healthcheck: {intervall: 3s}", "did you mean 'interval'?"),
        ("healthcheck: {interval: 30}", "compose.yml:5 services.app.healthcheck.interval: 'interval' must be a duration"),
        ("ports: 80", "'ports' must be a list, and is 80"),
        ("environment:", "'environment' must be a list of texts, or a mapping of texts and numbers, and is empty"),
        ("deploy: {update_config: {order: start_first}}", "did you mean 'start-first'?"),
        ("deploy: {resources: {limits: {memory: a lot}}}", "must be a size such as 512M"),
        ("deploy: {replicas: two}", "'replicas' must be a whole number, and is 'two'"),
        ("deploy: {replicas: -1}", "'replicas' must be a whole number, and is -1"),
        ("tmpfs: [/a, /a]", "'tmpfs' has '/a' twice"),
        ("init: maybe", "'init' must be true or false, and is 'maybe'"),
        ("labels: [{a: b}]", "'labels' must be a list of texts, or a mapping of texts and numbers, and has a mapping in it"),
        ("depends_on: {db: {condition: service_healthy}}", "'depends_on' must be a list of texts, and is a mapping"),
        ("environment: [A=1, 5]", "and has 5, which needs quotes in it"),
        ("environment: {A: true}", "and has true, which needs quotes in it"),
        ("labels: [a=1, a=1]", "'labels' has 'a=1' twice"),
        ("deploy: {resources: {limits: {cpus: 8}}}", "'cpus' must be a text, and is 8"),
        ("environment: {5: x}", "has a key that is no text, '5'"),
        ("ulimits: {nofile: {soft: 1000}}", "'ulimits' must give 'nofile' as a number, or as a mapping of 'soft' and 'hard'"),
        ("ports: [{target: eighty, published: 80}]", "'eighty' is no port."),
        ("deploy: {mode: replicatd}", "'mode' must be one of replicated, global"),
        ("deploy: {restart_policy: {condition: always}}", "'condition' must be one of none, on-failure, any, and is 'always'"),
        ("deploy: {update_config: {failure_action: rolback}}", "and is 'rolback'; did you mean 'rollback'?"),
        ("deploy: {resources: {limits: {cpus: '0,5'}}}", "'cpus' must be a number such as '0.5', and is '0,5'"),
        (
            "healthcheck: {test: [curl, -f, x]}",
            "'test' must begin with NONE, CMD or CMD-SHELL where it is a list, and begins with 'curl'",
        ),
        ("hostname: {{ host }}", "compose.yml:5 is not YAML: a key is no text; what begins with '{' or '[' has to be in quotes"),
        ("mem_limit: 1g", "'mem_limit' is not in Swarm"),
        ("volumes: [dta:/srv]", "names the volume 'dta', which nothing declares under 'volumes'; did you mean 'data'?"),
        ("configs: [nowhere]", "names the config 'nowhere', which nothing declares under 'configs'."),
        ("hostname: ${HOST:?say who you are}", "compose.yml:5 services.app.hostname: the variable HOST is required"),
        (
            "volumes",
            "compose.yml:6 is not YAML: could not find expected ':' (while scanning a simple key, which begins in line 5)",
        ),
        ("\tvolumes: []", "cannot start any token; it is indented with a tab, and YAML takes spaces only"),
        ("hostname: a\n<<<<<<< HEAD\n    user: b\n=======\n", "; a merge was not finished in it: line 6 begins with '<<<<<<<'"),
    ],
)
def test_what_docker_would_refuse_is_said_with_its_line_and_the_nearest_right_word(line: str, said: str) -> None:
    with pytest.raises(RecipeProblem) as told:
        resolve([("compose.yml", SHAPES.format(line=line))], {})
    assert said in told.value.what
    assert told.value.code in ("compose-invalid", "env-missing")


def test_a_merge_that_was_not_finished_is_told_of_env_and_enrolment_too() -> None:
    with pytest.raises(
        RecipeProblem, match=r"line 2 is neither a comment nor KEY=value; a merge was not finished in it: line 2 "
    ):
        parse_env("A=1\n<<<<<<< HEAD\nB=1\n=======\nB=2\n>>>>>>> main\n")
    with pytest.raises(WrongConfiguration, match=r"is not TOML: .*; a merge was not finished in it: line 2 begins"):
        enrol('upstream = "/x"\n<<<<<<< HEAD\n')


def test_every_key_of_a_service_that_docker_knows_is_taken() -> None:
    """Seen to be taken by `docker stack config`, value by value."""
    body = {
        "image": "x:1", "build": ".", "cap_add": ["A"], "command": "a", "container_name": "c", "credential_spec": {"file": "f"},
        "depends_on": ["app"], "devices": [], "dns": "1.1.1.1", "entrypoint": ["a"], "env_file": "a.env", "environment": ["A=b"],
        "extra_hosts": {"a": "b"}, "init": True, "ipc": "host", "labels": {"a": "b"}, "network_mode": "host", "oom_score_adj": 1,
        "pid": None, "privileged": "true", "shm_size": 1024, "stop_grace_period": "1m30s", "sysctls": ["a=1"], "tmpfs": "/tmp",
        "ulimits": {"nofile": 1}, "user": "1", "x-mine": 1, "logging": {"driver": "d", "options": {"a": "b"}},
        "healthcheck": {"test": ["NONE"], "interval": "1.5s", "retries": 3, "start_interval": "0s", "disable": False},
        "deploy": {
            "mode": "global-job", "replicas": 2, "labels": ["a=b"], "endpoint_mode": "vip",
            "update_config": {"parallelism": 0, "delay": "1us", "max_failure_ratio": 0.5, "order": "stop-first", "monitor": "1h"},
            "resources": {"limits": {"cpus": "0.5", "memory": "1.5 GiB", "pids": 3}, "reservations": {"memory": "20M"}},
            "restart_policy": {"condition": "any", "window": "2m"}, "placement": {"constraints": ["a==b"], "preferences": []},
        },
    }  # fmt: skip
    assert not list(misshapen({"services": {"app": body}}))


def test_variables_that_nothing_sets_are_told_once_with_their_line() -> None:
    text = 'services:\n  app:\n    image: x:1\n    environment: ["A=${ADMIN_MAIL}", "B=${ADMIN_MAIL}", "C=${C:-}", "D=$$E"]\n'
    assert unset([("compose.yml", text)], {"ADMIN_EMAIL": "x"}) == [
        "compose.yml:4 services.app.environment.0: nothing sets ADMIN_MAIL; did you mean 'ADMIN_EMAIL'?"
    ]


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
