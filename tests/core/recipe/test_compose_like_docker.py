"""canonq's resolved stack beside that of Docker's own `stack config`, on the same files."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from canonq.core.recipe.compose import resolve
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.stack.resolved import Stack, stack_of

KEPT = Path(__file__).with_name("docker_stack_config.json")
ENV = {"STACK_NAME": "ch-1", "DOMAIN": "a.example.com", "X_VERSION": "v3", "REPLICAS": "2", "EMPTY": "", "ON": "true"}
BASE = """
version: "3.8"
services:
  app:
    image: ${REGISTRY:-x}/y:${TAG:-1.0}
    read_only: true
    init: true
    hostname: h
    dns: 1.1.1.1
    tmpfs: /t
    extra_hosts: ["a:1.1.1.1"]
    labels: {l: "1"}
    logging: {driver: json-file, options: {max-size: 1m}}
    ulimits: {nofile: {soft: 1, hard: 2}, nproc: 5}
    command: ["a", "$$HOME", "${DOMAIN}"]
    networks: [proxy, internal]
    environment: ["DOMAIN", "A=${EMPTY:-d}", "B=${EMPTY-d}"]
    volumes: ["data:/data", "/srv:/srv:ro", {type: tmpfs, target: /tmp}]
    configs: [{source: conf, target: /conf, mode: 0555}]
    secrets: [key]
    stop_grace_period: 1m30s
    healthcheck: {test: ["CMD", "true"], interval: 30s, retries: 3}
    deploy:
      replicas: ${REPLICAS}
      labels:
        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`${EXTRA})"
        - "backupbot.backup=${ENABLE:-true}"
      update_config: {failure_action: rollback, order: start-first}
      restart_policy: {condition: on-failure}
  web:
    image: x/web:1
    networks: [internal]
    ports: ["53:53/tcp", "53:53/udp", "70", "71"]
networks:
  proxy: {external: true}
  internal: {}
volumes:
  data: {}
configs:
  conf: {name: "${STACK_NAME}_conf_${X_VERSION}", external: true}
secrets:
  key: {name: "${STACK_NAME}_key_v1", external: true}
"""
OVERLAYS = {
    "nothing": None,
    "adds a service": "version: '3.8'\nservices:\n  db:\n    image: pg:1\n    networks: [internal]\n",
    "environment as mapping": "version: '3.8'\nservices:\n  app:\n    environment: {A: over, C: new}\n",
    "replaces the command": "version: '3.8'\nservices:\n  app:\n    command: run it\n",
    "mount at the same place": "version: '3.8'\nservices:\n  app:\n    volumes: ['other:/data']\nvolumes:\n  other: {}\n",
    "another mount": "version: '3.8'\nservices:\n  app:\n    volumes: ['other:/more']\nvolumes:\n  other: {}\n",
    "more labels": "version: '3.8'\nservices:\n  app:\n    deploy: {labels: {backupbot.backup: 'false', x: y}}\n",
    "deploy keys": "version: '3.8'\nservices:\n  app:\n    deploy: {update_config: {order: stop-first}, endpoint_mode: dnsrr}\n",
    "another network": "version: '3.8'\nservices:\n  app:\n    networks: [more]\nnetworks:\n  more: {}\n",
    "another config": """
version: '3.8'
services:
  app:
    configs: [{source: two, target: /two}]
configs:
  two: {external: true}
""",
    "same secret longer": "version: '3.8'\nservices:\n  app:\n    secrets: [{source: key, target: k, mode: 0400}]\n",
    "anchors": "version: '3.8'\nx-a: &a\n  environment: {Z: '1'}\nservices:\n  app:\n    <<: *a\n",
    "health": "version: '3.8'\nservices:\n  app:\n    healthcheck: {interval: 1s, retries: 9}\n",
    "ports": "version: '3.8'\nservices:\n  app:\n    ports: [{target: 80, published: 8080, mode: host}]\n",
    "ports in the short form": """
version: '3.8'
services:
  app:
    ports: ["8080:80", "3000-3001:4000-4001/udp", "9000-9001:90", "127.0.0.1:7000:70", ":88"]
""",
    "ports over ports": """
version: '3.8'
services:
  web:
    ports: ["9090:1", {target: 81, published: 53}, "89"]
""",
    "nothing that is empty": """
version: '3.8'
services:
  app:
    read_only: false
    init: false
    hostname: ""
    command: []
    labels: {l: ""}
    environment: {DOMAIN: "", A: , B: ""}
    stop_grace_period: 0s
    healthcheck: {disable: false, retries: 0, interval: 0s}
    deploy: {replicas: 0, labels: {backupbot.backup: ""}, update_config: {parallelism: 0}}
""",
    "one in a list over one that is a text": """
version: '3.8'
services:
  app:
    dns: [2.2.2.2]
    tmpfs: [/u]
    extra_hosts: {b: 2.2.2.2}
    healthcheck: {test: curl x}
    ulimits: {nofile: 7, nproc: {soft: 1, hard: 2}}
""",
    "another driver of logs": "version: '3.8'\nservices:\n  app:\n    logging: {driver: syslog}\n",
    "another option of logs": "version: '3.8'\nservices:\n  app:\n    logging: {options: {max-file: '3', max-size: ''}}\n",
    "aliases": "version: '3.8'\nservices:\n  app:\n    networks: {internal: {aliases: [b]}}\n",
    "what is declared again": """
version: '3.8'
volumes: {data: }
networks: {proxy: , internal: {external: true}}
configs: {conf: {external: true}}
""",
    "mounts in the short form": """
version: '3.8'
services:
  app:
    volumes: ["data:/a:ro,nocopy", "/anonymous", "/srv:/s:rshared", "C:x/../../..:/host", "./r:/r", "data:/data:z"]
""",
}  # fmt: skip


def docker_config(files: list[tuple[str, str]], folder: Path) -> Stack:
    """What Docker's command makes of the files."""
    command = ["docker", "stack", "config"]
    for name, text in files:
        (folder / name).write_text(text)
        command += ["-c", str(folder / name)]
    done = subprocess.run(command, env={**ENV, "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return stack_of(load_yaml(done.stdout, where="docker stack config"))


def normal(stack: Stack) -> dict[str, Any]:
    """What of a stack would be deployed."""
    found: dict[str, Any] = {key: sorted(stack.declared(key)) for key in ("networks", "volumes", "configs", "secrets")}
    for name, service in stack.services.items():
        body, deploy = service.body, dict(service.deploy)
        command = body.get("command")
        found[name] = {
            "image": service.image,
            "command": command.split() if isinstance(command, str) else command,
            "environment": {key: str(value) for key, value in (body.get("environment") or {}).items() if value is not None},
            "networks": sorted(service.networks),
            "mounts": sorted(
                [one.target, one.kind, one.source if one.kind == "volume" else "", one.read_only] for one in service.mounts
            ),
            "options": sorted(
                json.dumps([item["target"], item.get("bind"), item.get("volume")]) for item in _list(body, "volumes")
            ),
            "configs": sorted(json.dumps(item, sort_keys=True) for item in _list(body, "configs")),
            "secrets": sorted(json.dumps(item, sort_keys=True) for item in _list(body, "secrets")),
            "ports": sorted(
                json.dumps({"mode": "ingress", "protocol": "tcp", **port}, sort_keys=True) for port in _list(body, "ports")
            ),
            "labels": {key: str(value) for key, value in (deploy.pop("labels", None) or {}).items()},
            "deploy": deploy,
            "health": {key: value for key, value in service.healthcheck.items() if key != "test" and value is not False},
            "test": _words(service.healthcheck.get("test")),
            "aliases": {key: said["aliases"] for key, said in service.networks.items() if said and said.get("aliases")},
            "rest": {
                key: body[key]
                for key in ("read_only", "init", "hostname", "dns", "tmpfs", "extra_hosts", "labels", "logging", "ulimits")
                if body.get(key)
            },
            "grace": body.get("stop_grace_period"),
        }
        for section in ("networks", "volumes", "configs"):
            found[f"{section} of others"] = sorted(one.key for one in stack.declared(section).values() if one.external)
    return found


def _words(test: Any) -> Any:
    return ["CMD-SHELL", test] if isinstance(test, str) else test


def _list(body: Any, key: str) -> list[Any]:
    return body.get(key) or []


def files_of(overlay: str) -> list[tuple[str, str]]:
    text = OVERLAYS[overlay]
    return [("compose.yml", BASE), *([("compose.more.yml", text)] if text is not None else [])]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_it_resolves_to_what_docker_would_deploy(overlay: str) -> None:
    ours = normal(resolve(files_of(overlay), ENV))
    # A variable without a value is taken from the environment when the stack is fitted out, not when it is resolved.
    ours["app"]["environment"].setdefault("DOMAIN", ENV["DOMAIN"])
    assert json.loads(json.dumps(ours)) == json.loads(KEPT.read_text())[overlay]


@pytest.mark.real
def test_the_kept_answers_are_dockers_own(tmp_path: Path) -> None:
    """Run with CANONQ_ACCEPT=1 to keep Docker's present answers."""
    version = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    if re.search(r"version (?:1[0-9]|20)\.", version):
        return  # these have no `stack config`; the kept answers stand for them
    theirs = {overlay: normal(docker_config(files_of(overlay), tmp_path)) for overlay in OVERLAYS}
    if os.environ.get("CANONQ_ACCEPT"):
        KEPT.write_text(json.dumps(theirs, indent=1, sort_keys=True) + "\n")
    assert json.loads(json.dumps(theirs)) == json.loads(KEPT.read_text())
