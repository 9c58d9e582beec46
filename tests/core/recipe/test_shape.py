"""What Docker would refuse, with its line and the nearest right word."""

from __future__ import annotations

import json
from typing import Any

import pytest

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.shape import misshapen

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
        ('command: "sh -c \'echo hi"', "'command' is no line that Docker can take apart, as a quote in it is not closed"),
        ("entrypoint: a\\", "compose.yml:5 services.app.entrypoint: 'entrypoint' is no line"),
        ("stop_signal: SIGWITCH", "'stop_signal' is 'SIGWITCH', which is no signal; did you mean 'SIGWINCH'?"),
        ("working_dir: srv/app", "'working_dir' must be an absolute path, and is 'srv/app'"),
        (f"hostname: {'h' * 65}", "'hostname' has 65 characters; the kernel takes 64"),
        ("healthcheck: {interval: 500us}", "'interval' must be 1ms or more, and is '500us'"),
        ("deploy: {mode: global, replicas: 2}", "services.app.deploy.replicas: 'replicas' says how many of 'app' there are"),
        (
            "restart: allways",
            "'restart' must be no, always, unless-stopped or on-failure, and is 'allways'; did you mean 'always'?",
        ),
        ("ulimits: {nofile: {soft: 9, hard: 3}}", "the soft limit of 'nofile' (9) is above its hard one (3)"),
        ("logging: {driver: json-flie}", "there is no driver 'json-flie' of logs; did you mean 'json-file'?"),
        ("ports: ['53:53/ucp']", "the port '53:53/ucp' has the protocol 'ucp', and there are tcp, udp, sctp"),
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


@pytest.mark.parametrize(
    "line",
    [
        "command: \"echo $$(a 'b c') `d ; x && \\\"y z\\\" #'\"", "command: echo (x)", "entrypoint: ''", "stop_signal: rtmin+3",
        "stop_signal: '9'", "stop_signal: KILL", "working_dir: /", f"hostname: '{{{{.Node.Hostname}}}}-{'h' * 60}'",
        "healthcheck: {interval: 0s}", "deploy: {mode: global}", "restart: on-failure:3",
        "ulimits: {nofile: {soft: 9, hard: -1}}", "ulimits: {nofile: -1}", "logging: {driver: loki}",
        "logging: {driver: 'grafana/loki-docker-driver:latest'}",
        "restart: whatever\n    deploy: {restart_policy: {condition: any}}",
    ],
)  # fmt: skip
def test_what_docker_takes_or_knows_by_a_plugin_is_taken(line: str) -> None:
    assert resolve([("compose.yml", SHAPES.format(line=line))], {})


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"configs": [{"source": "c", "uid": "www"}]}, "the uid of 'c' must be a number in quotes, and is 'www'"),
        ({"secrets": [{"source": "s", "gid": 103}]}, "the gid of 's' must be a number in quotes, and is '103'"),
        ({"networks": ["n"]}, "there is no driver 'overley' of networks; did you mean 'overlay'?"),
        ({"networks": ["mine"]}, None),
    ],
)
def test_what_is_declared_is_what_docker_can_make(said: dict[str, Any], why: str | None) -> None:
    drivers = {"n": {"driver": "overley"}} if said.get("networks") == ["n"] else {"mine": {"driver": "weave"}}
    body = {
        "services": {"app": {"image": "x:1", **said}},
        "configs": {"c": {"file": "./c"}},
        "secrets": {"s": {"file": "./s"}},
        "networks": drivers,
    }
    if why is None:
        assert resolve([("compose.yml", json.dumps(body))], {})
        return
    with pytest.raises(RecipeProblem) as told:
        resolve([("compose.yml", json.dumps(body))], {})
    assert why in told.value.what


def test_a_service_that_can_only_be_built_is_told_so() -> None:
    with pytest.raises(RecipeProblem, match=r"'app' has no image \('build' says how to make one, and Swarm makes none\)"):
        resolve([("compose.yml", "services:\n  app:\n    build: .\n")], {})


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


@pytest.mark.parametrize(
    ("other", "overlaps"),
    [("10.91.0.128/25", True), ("10.91.0.0/16", True), ("10.92.0.0/24", False), ("fd00:91::/64", False)],
)
def test_two_networks_of_a_stack_may_not_ask_for_the_same_addresses(other: str, overlaps: bool) -> None:
    subnets = {"front": "10.91.0.0/24", "back": other}
    networks = {name: {"ipam": {"config": [{"subnet": subnet}]}} for name, subnet in subnets.items()}
    body = json.dumps({"services": {"app": {"image": "x:1", "networks": ["front", "back"]}}, "networks": networks})
    if not overlaps:
        assert resolve([("compose.yml", body)], {})
        return
    with pytest.raises(RecipeProblem, match="the networks 'front' and 'back' ask for the same addresses: "):
        resolve([("compose.yml", body)], {})
