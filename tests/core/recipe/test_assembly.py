"""The one assembly of env, exports and compose files: what a run deploys and what `canonq enrol` looks into."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from canonq.core.errors import RecipeProblem, WrongConfiguration
from canonq.core.recipe.assembly import Assembled, app_env, assemble, own_hosts
from canonq.core.recipe.compose import unset
from canonq.core.stack.routes import strange_labels

FILES = {
    ".env.sample": "TYPE=site\nDOMAIN=site.example.com\nCOMPOSE_FILE=compose.yml:compose.mail.yml\nMAIL_HOST=\n",
    "abra.sh": "export CONF_VERSION=v3\nexport MAIL_HOST=from-abra\n",
    "compose.yml": "services: {app: {image: 'x:1', environment: [DOMAIN], volumes: ['data:/data']}}\nvolumes: {data: {}}\n",
    "compose.mail.yml": "services: {app: {environment: {CONF: '${CONF_VERSION}', HOST: '${MAIL_HOST}', NONE: '${MAIL_HSOT}'}}}\n",
}


def put_together(files: Mapping[str, str], overlay: str | None = None, own: Mapping[str, str] | None = None) -> Assembled:
    env = app_env(files[".env.sample"], named="site:1.0.0+1", domain="s.test", stack="site-1", own=own or {})
    return assemble(files.get, env, overlay)


def test_the_sample_the_exports_and_all_compose_files_come_together() -> None:
    made = put_together(FILES)
    environment = made.stack.services["app"].body["environment"]
    assert environment == {"DOMAIN": None, "CONF": "v3", "HOST": "from-abra", "NONE": ""}
    assert (made.env["DOMAIN"], made.env["TYPE"], made.env["STACK_NAME"]) == ("s.test", "site:1.0.0+1", "site-1")
    assert made.variables["CONF_VERSION"] == "v3"
    (told,) = made.unset
    assert "compose.mail.yml" in told
    assert "did you mean MAIL_HOST?" in told.replace("'", "")


def test_the_enrolments_env_wins_and_its_overlay_lies_over_all() -> None:
    made = put_together(FILES, "services: {app: {volumes: ['other:/data']}}\nvolumes: {other: {}}\n", {"DOMAIN": "mine.test"})
    assert made.env["DOMAIN"] == "mine.test"
    assert made.stack.services["app"].volumes == {"other"}


@pytest.mark.parametrize("listed", ["../elsewhere.yml", "/etc/passwd", "a/../../x.yml", ".."])
def test_a_compose_file_outside_the_recipe_is_not_read(listed: str) -> None:
    asked: list[str] = []

    def read(name: str) -> str | None:
        asked.append(name)
        return FILES.get(name)

    with pytest.raises(RecipeProblem) as told:
        assemble(read, app_env(f"COMPOSE_FILE={listed}\n", named="site:1", domain="s.test", stack="site-1"))
    assert told.value.code == "path-outside-recipe"
    assert asked == ["abra.sh"]


@pytest.mark.parametrize("listed", ["compose.yml:gone.yml", "..elsewhere.yml", "a\\0b"])
def test_a_compose_file_that_is_not_there_is_named(listed: str) -> None:
    with pytest.raises(RecipeProblem, match=r"COMPOSE_FILE names .*does not have") as told:
        put_together({**FILES, ".env.sample": f"COMPOSE_FILE={listed}\n"})
    assert told.value.code == "compose-missing"


def test_a_compose_file_is_not_read_any_number_of_times() -> None:
    with pytest.raises(RecipeProblem, match="names 51 files; at most 50 are read"):
        put_together({**FILES, ".env.sample": f"COMPOSE_FILE={':'.join(['compose.yml'] * 51)}\n"})
    assert put_together({**FILES, ".env.sample": f"COMPOSE_FILE={':'.join(['compose.yml'] * 50)}\n"}).stack.services


def test_a_compose_file_may_be_named_in_any_spelling_of_its_path() -> None:
    made = put_together({**FILES, ".env.sample": "COMPOSE_FILE=./compose.yml:x/../compose.mail.yml\n"})
    assert set(made.stack.services) == {"app"}


def test_a_compose_file_under_another_name_of_it_is_told() -> None:
    other = {("docker-compose.yml" if name == "compose.yml" else name): text for name, text in FILES.items()}
    with pytest.raises(RecipeProblem, match=r"does not have; there is 'docker-compose\.yml', which nobody looks for"):
        put_together({**other, ".env.sample": ""})


def test_an_overlay_of_comments_alone_is_none() -> None:
    assert put_together(FILES, "# services:\n\n  # app: {}\n").stack == put_together(FILES).stack


def test_an_overlay_that_replaces_the_image_under_test_is_refused() -> None:
    with pytest.raises(WrongConfiguration, match="replaces the image of 'app'") as told:
        put_together(FILES, "services: {app: {image: 'mine:1'}}\n")
    assert told.value.code == "overlay-replaces-image"
    assert set(put_together(FILES, "services: {mail: {image: 'mail:1'}}\n").stack.services) == {"app", "mail"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("EXTRA_DOMAINS=', `www.example.org`'", ", `extra1.s.test`"),
        (
            "EXTRA_DOMAINS=', `www.example.org`, `example.org`, `www.example.org`'",
            ", `extra1.s.test`, `extra2.s.test`, `extra1.s.test`",
        ),
        ('EXTRA_DOMAINS=", \\`www.${DOMAIN}\\`"', ", `www.s.test`"),
        ("EXTRA_DOMAINS=' || Host(`www.example.org`)'", " || Host(`extra1.s.test`)"),
        ("EXTRA_DOMAINS=", ""),
        ("#EXTRA_DOMAINS=', `www.example.org`'", None),
    ],
)
def test_further_hosts_of_a_sample_are_the_runs_own_so_that_no_live_app_loses_its_requests(line: str, value: str | None) -> None:
    sample = f'TYPE=site\nDOMAIN=site.example.com\n{line}\nALL="$DOMAIN$EXTRA_DOMAINS"\n'
    env = app_env(sample, named="site:1", domain="s.test", stack="site-1")
    assert env.get("EXTRA_DOMAINS") == value
    assert env["ALL"] == f"s.test{value or ''}", "later lines build on it"
    files = {
        "compose.yml": "services:\n  app:\n    image: x:1\n    deploy:\n      labels:\n"
        '        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`${EXTRA_DOMAINS})"\n',
    }
    labels = assemble(files.get, env).stack.services["app"].labels
    assert labels["traefik.http.routers.site-1.rule"] == f"Host(`s.test`{value or ''})"
    told = list(strange_labels(labels, stack="site-1", domain="s.test", network="proxy"))
    assert told == [] or "||" in line, "a pull request may have it, too"


@pytest.mark.parametrize("piece", ["a", "a.", ".a", "a.b ", "*_-"])
def test_further_hosts_of_a_sample_are_found_in_a_time_that_grows_as_their_text_does(piece: str) -> None:
    def took(length: int, times: int) -> float:
        text, began = piece * (length // len(piece)), time.process_time()
        for _ in range(times):
            own_hosts(text, "s.test")
        return time.process_time() - began

    assert took(1 << 13, 50) < 20 * took(1 << 9, 800)


def test_no_export_of_a_release_gives_it_anothers_name_or_domain() -> None:
    """A live app would lose its requests, and its secrets' names, to a test at night."""
    abra = (
        "export DOMAIN=live.example.org\nexport STACK_NAME=live_app\nexport LETS_ENCRYPT_ENV=production\n"
        "export ADDRESS=https://$DOMAIN\nexport EXTRA_DOMAINS=www.example.org\n"
    )
    made = put_together({**FILES, "abra.sh": abra})
    assert {name: made.variables[name] for name in ("DOMAIN", "STACK_NAME", "LETS_ENCRYPT_ENV", "ADDRESS", "EXTRA_DOMAINS")} == {
        "DOMAIN": "s.test", "STACK_NAME": "site-1", "LETS_ENCRYPT_ENV": "", "ADDRESS": "https://s.test",
        "EXTRA_DOMAINS": "extra1.s.test",
    }  # fmt: skip


def test_further_hosts_that_a_person_gives_are_taken_as_they_are() -> None:
    given = {"EXTRA_DOMAINS": ", `other.s.test`"}
    env = app_env("EXTRA_DOMAINS=', `www.example.org`'\n", named="site:1", domain="s.test", stack="site-1", own=given)
    assert env["EXTRA_DOMAINS"] == ", `other.s.test`"


def test_a_version_that_is_empty_is_told_of_the_name_that_it_spoils() -> None:
    secrets = 'secrets: {db: {external: true, name: "${STACK_NAME}_db_${SECRET_DB_VERSION}"}}\n'
    files = [("compose.yml", "services:\n  app:\n    image: x:${TAG}\n" + secrets)]
    told = unset(files, {"STACK_NAME": "s", "SECRET_DB_VERSION": "", "TAG": ""})
    assert told == ["compose.yml:4 secrets.db.name: SECRET_DB_VERSION is empty."]


def test_what_docker_loses_of_two_files_and_what_abra_refuses_of_one_is_told() -> None:
    base = (
        "services:\n  app:\n    image: x:1\n    ports: ['53:53/tcp', '53:53/udp', '80', '81', '${PORT:-90}:90']\n"
        "    configs: [{source: c, target: /a}, {source: c, target: /b}]\n    stop_grace_period: ${GRACE:-1m}\n"
        "    hostname: ${GRACE:-h}\n    deploy: {replicas: '${N:-1}'}\nconfigs: {c: {file: ./c}}\n"
    )
    files = {"compose.yml": base, "more.yml": "services: {app: {hostname: h}}\n", "other.yml": "services: {two: {image: y:1}}\n"}
    made = assemble(files.get, {"COMPOSE_FILE": "compose.yml:other.yml"})
    assert made.lost == ()
    assert made.typed == (
        (
            "compose.yml:6 services.app.stop_grace_period",
            "'stop_grace_period' must be a duration such as 30s, and is '${GRACE:-1m}': abra looks at it before it is filled in, "
            "and refuses it; write the value.",
        ),
        (
            "compose.yml:8 services.app.deploy.replicas",
            "'replicas' must be a whole number, and is '${N:-1}': abra looks at it before it is filled in, and refuses it; "
            "write the value.",
        ),
        (
            "compose.yml:4 services.app.ports.4",
            "a port must be a number, and is '${PORT:-90}:90': abra looks at it before it is filled in, and refuses it; "
            "write the value.",
        ),
    )
    made = assemble(files.get, {"COMPOSE_FILE": "compose.yml:other.yml:more.yml"})
    assert [(place, what.split(" Docker")[0]) for place, what in made.lost] == [
        ("services.app.ports", "Of two entries (published 53)"),
        ("services.app.configs", "Of two entries ('c')"),
    ]
