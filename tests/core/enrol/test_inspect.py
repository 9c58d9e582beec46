"""The first guess at an enrolment."""

from __future__ import annotations

import pytest

from canonq.core.enrol.inspect import Inspected, inspect
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
