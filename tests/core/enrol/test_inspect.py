"""The first guess at an enrolment."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from canonq.core.enrol.inspect import Guess, Inspected, enrolment_text, inspect
from canonq.core.enrolment import parse_enrolment
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.envfile import secret_rules


def looked_into(compose: str, sample: str = "") -> Inspected:
    env = {"SECRET_KEY_VERSION": "v1", "SECRET_SMTP_VERSION": "v1", "SMTP_HOST": "", "DOMAIN": "x"}
    return inspect(resolve([("compose.yml", compose)], {**env, "STACK_NAME": "s"}), secret_rules(sample, env), env, name="s")


WEB = """
services:
  app:
    image: org/app:1.0
    secrets: [key, smtp]
    volumes: ["data:/data", "shared:/shared"]
    healthcheck: {test: ["CMD", "curl", "-f", "http://localhost:8080/health?deep=1"]}
    deploy:
      labels:
        - traefik.enable=true
        - traefik.http.services.s.loadbalancer.server.port=8080
        - backupbot.backup=true
  db: {image: "postgres:16", volumes: ["db:/var/lib/postgresql/data"]}
volumes: {data: {}, db: {}, shared: {external: true, name: elsewhere}}
secrets:
  key: {external: true, name: "s_key_v1"}
  smtp: {external: true, name: "s_smtp_v1"}
"""
SAMPLE = "SECRET_KEY_VERSION=v1 # length=32\nSECRET_SMTP_VERSION=v1 # generate=false\nSMTP_HOST=\n"


def test_a_web_app_tells_its_port_path_volumes_backup_and_the_secrets_it_wants() -> None:
    told = looked_into(WEB, SAMPLE)
    assert told.services == {"app": "org/app:1.0", "db": "postgres:16"}
    assert told.volumes == ("data", "db")
    assert told.wanted_secrets == ("smtp",)
    assert (told.kind.value, told.service.value, told.port.value, told.path.value) == ("http", "app", 8080, "/health")
    assert told.backup.value is True
    assert told.weight.value == "light"
    assert told.empty_env == ("SMTP_HOST",)


def test_an_app_that_publishes_a_port_and_is_not_routed_is_asked_over_tcp() -> None:
    told = looked_into('services: {app: {image: "mumble:1", ports: ["64738:64738/tcp"]}}')
    assert (told.kind.value, told.port.value) == ("tcp", 64738)
    told = looked_into("services: {app: {image: x, ports: [{target: 25, published: 25, mode: host}]}}")
    assert (told.kind.value, told.port.value) == ("tcp", 25)


def test_the_service_that_is_routed_to_is_asked_when_it_is_not_called_app() -> None:
    told = looked_into(
        "services: {app: {image: x}, web: {image: nginx, deploy: {labels: "
        '{"traefik.http.services.s.loadbalancer.server.port": "80"}}}}'
    )
    assert told.service.value == "web"


@pytest.mark.parametrize(
    ("services", "why"),
    [
        (", ".join(f"s{n}: {{image: x}}" for n in range(5)), "5 services"),
        ('app: {image: "matrixdotorg/synapse:v1"}', "synapse"),
        ('app: {image: x, deploy: {resources: {limits: {memory: "3G"}}}}', "3.0 GiB"),
    ],
)
def test_many_services_a_heavy_image_or_much_memory_make_a_recipe_heavy_and_say_so(services: str, why: str) -> None:
    told = looked_into(f"services: {{{services}}}")
    assert told.weight.value == "heavy"
    assert why in told.weight.why


@pytest.mark.parametrize("test", ['"NONE"', "[]", '["CMD"]', '"curl http://localhost:99999/x"', '"curl http://localhost:0/x"'])
def test_a_health_check_that_tells_nothing_is_no_trap(test: str) -> None:
    told = looked_into(f"services: {{app: {{image: x, healthcheck: {{test: {test}}}}}}}")
    assert (told.port.value, told.path.value) == (80, "/")


def test_the_file_is_a_valid_enrolment_with_its_reasons_as_comments() -> None:
    text = enrolment_text("site", "https://h/site.git", looked_into(WEB, SAMPLE), version="1.0.0+1.0", description="A site")
    read = parse_enrolment("site", text, where="x")
    assert (read.upstream, read.weight, read.health.port, read.health.path) == ("https://h/site.git", "light", 8080, "/health")
    assert "# smtp = { file" in text
    assert '# SMTP_HOST = ""' in text


def test_hostile_texts_of_a_recipe_stay_inside_their_comments() -> None:
    evil = 'services: {app: {image: "x\\nenrolled = false\\n[env]\\nA = \\"b\\"\\n"}}'
    text = enrolment_text(
        "site", 'https://h/"x', looked_into(evil), version="1", description='d"\n[secrets]\nx = { env = "Y" }\n'
    )
    found = tomllib.loads(text)
    assert set(found) == {"upstream", "weight", "health", "env"}
    assert found["env"] == {}
    assert found["upstream"] == 'https://h/"x'


@pytest.mark.parametrize("path", ["/é", "/\U0001f600", "/\x7f\x01", '/"\\'])
def test_a_guess_of_any_characters_is_written_as_it_is(path: str) -> None:
    found = replace(looked_into(WEB, SAMPLE), path=Guess(path, "its health check asks for it"))
    assert tomllib.loads(enrolment_text("site", "/x", found, version="1.0.0+1"))["health"]["path"] == path


def test_what_could_not_be_looked_into_says_so_in_the_file() -> None:
    text = enrolment_text("site", "/x", "compose.yml: is not\nYAML", version="1.0.0+1")
    assert parse_enrolment("site", text, where="x").upstream == "/x"
    assert "# The recipe could not be looked into: compose.yml: is not YAML" in text
