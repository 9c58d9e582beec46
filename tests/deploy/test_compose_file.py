"""What docker-compose.yml promises, read from the file itself."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from canonq.settings import Settings
from tests.support import ROOT

from .host import compose_program, run

CANONQ_SERVICES = ("beat", "light", "heavy", "flower", "web", "webhook")
WORKERS = ("light", "heavy")
REQUIRED = {"CANONQ_REPO": "/srv/recipes", "CANONQ_FLOWER_LOGIN": "operator:password"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    return loaded


def script(service: dict[str, Any]) -> str:
    """A service's command as one text."""
    command = service["command"]
    return command if isinstance(command, str) else "\n".join(command)


def test_redis_is_not_published(services: dict[str, Any]) -> None:
    assert "ports" not in services["redis"]
    assert "network_mode" not in services["redis"]


@pytest.mark.parametrize("line", ["appendonly yes", "maxmemory 512mb", "maxmemory-policy noeviction", "requirepass $$password"])
def test_redis_keeps_its_data_and_asks_for_a_password(services: dict[str, Any], line: str) -> None:
    assert line in script(services["redis"]).splitlines()


def test_redis_is_judged_by_a_health_check_that_the_others_wait_for(services: dict[str, Any]) -> None:
    assert services["redis"]["healthcheck"]["test"]
    for name in CANONQ_SERVICES:
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_only_flower_the_page_and_the_webhook_are_published_and_on_loopback_only(services: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert list(published) == ["flower", "web", "webhook"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_the_webhook_and_the_page_are_off_unless_it_is_asked_for(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if service.get("profiles")} == {"web", "webhook"}


def test_flower_changes_nothing(services: dict[str, Any]) -> None:
    assert "read_only" not in script(services["flower"]), "a word there would overrule the configuration"
    assert "read_only = True" in (ROOT / "workers" / "flowerconfig.py").read_text().splitlines()


def test_all_processes_run_on_one_image(services: dict[str, Any]) -> None:
    assert len({services[name]["image"] for name in CANONQ_SERVICES}) == 1


def test_all_processes_run_with_one_environment(services: dict[str, Any]) -> None:
    own = ("REMAP_SIGTERM", "FLOWER_BASIC_AUTH", "CANONQ_WEB__", "CANONQ_WEBHOOK__")
    shared = [
        {key: value for key, value in services[name]["environment"].items() if not key.startswith(own)}
        for name in CANONQ_SERVICES
    ]
    assert shared[0]
    assert all(environment == shared[0] for environment in shared)


def test_the_checkout_cannot_be_written(services: dict[str, Any]) -> None:
    for name in CANONQ_SERVICES:
        (checkout,) = [volume for volume in services[name]["volumes"] if isinstance(volume, dict)]
        assert checkout["read_only"] is True


@pytest.mark.parametrize("name", ["beat", "flower", "web", "webhook"])
def test_what_needs_no_docker_has_no_power_over_the_host(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["cap_add"] == (["DAC_READ_SEARCH"] if name in ("flower", "web") else ["DAC_OVERRIDE"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert (service["read_only"], service["tmpfs"]) == (True, ["/tmp"])
    assert "pid" not in service


def test_flower_has_no_way_to_the_registry(services: dict[str, Any]) -> None:
    (checkout,) = services["flower"]["volumes"]
    assert checkout["read_only"] is True


def test_the_page_only_looks(services: dict[str, Any]) -> None:
    checkout, state = services["web"]["volumes"]
    assert checkout["read_only"] is True
    assert state.endswith(":ro")


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_given_time_to_put_its_step_back(services: dict[str, Any], name: str) -> None:
    assert services[name]["stop_grace_period"] == "2m"
    assert services[name]["environment"]["REMAP_SIGTERM"] == "SIGQUIT"


@pytest.mark.parametrize("name", ["redis", *CANONQ_SERVICES])
def test_every_process_comes_back_after_a_crash(services: dict[str, Any], name: str) -> None:
    assert services[name]["restart"] == "unless-stopped"
    assert "stop_grace_period" in services[name]


def test_only_the_workers_may_touch_docker(services: dict[str, Any]) -> None:
    with_socket = {name for name in CANONQ_SERVICES if "docker.sock" in str(services[name]["volumes"])}
    assert with_socket == set(WORKERS)


def config(folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """What docker-compose makes of the file with this environment; any .env of the tree is left out."""
    nothing = folder / "env"
    nothing.touch()
    command = [*compose_program(), "--env-file", str(nothing), "--file", str(ROOT / "docker-compose.yml"), "config"]
    clean = dict.fromkeys(REQUIRED, "")
    done = run(*command, env={**clean, **environment})
    return done.returncode, done.stdout + done.stderr


@pytest.mark.real
def test_the_file_is_accepted_when_all_that_is_required_is_set(tmp_path: Path) -> None:
    status, said = config(tmp_path, REQUIRED)
    assert status == 0, said


@pytest.mark.real
@pytest.mark.parametrize(
    ("missing", "advice"), [("CANONQ_REPO", "tests/<recipe>/recipe.toml"), ("CANONQ_FLOWER_LOGIN", "user:password")]
)
def test_a_missing_required_variable_is_refused_with_what_to_do(tmp_path: Path, missing: str, advice: str) -> None:
    status, said = config(tmp_path, {name: value for name, value in REQUIRED.items() if name != missing})
    assert status != 0
    assert missing in said
    assert advice in said


@pytest.mark.parametrize("name", CANONQ_SERVICES)
def test_celery_typed_in_any_container_is_canonqs(services: dict[str, Any], name: str) -> None:
    assert services[name]["environment"]["CELERY_APP"] == "canonq"
    assert "-A canonq" not in script(services[name])


def test_every_setting_reaches_the_containers_or_is_said_not_to(services: dict[str, Any]) -> None:
    said = {"CANONQ_REDIS_URL"}  # its file is the way in
    tables = {
        "CANONQ_CHECKOUT",
        "CANONQ_INGRESS",
        "CANONQ_GIT",
        "CANONQ_FORGE",
        "CANONQ_WEBHOOK",
        "CANONQ_REPORT",
        "CANONQ_WEB",
        "CANONQ_NOTIFY",
        "CANONQ_HOSTS",
        "CANONQ_REGISTRIES",
    }
    plain = {f"CANONQ_{name.upper()}" for name in Settings.model_fields}
    assert plain - tables - said - set(services["light"]["environment"]) == set()
    documented = (ROOT / "docs" / "configuration.md").read_text()
    for table in tables:
        wanted = set(re.findall(rf"`({table}__[A-Z_]+)`", documented))
        assert wanted
        assert wanted - set(services["webhook"]["environment"]) - set(services["web"]["environment"]) == set()
