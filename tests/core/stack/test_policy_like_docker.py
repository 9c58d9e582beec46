"""The policy for refs beside Docker's own reader: what Docker sees in a file is judged by us, too, and given to it as judged.

Docker's answers are kept in a file beside this one, so that every test run compares; `real` looks whether they are its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from canonq.core.deployable import Identity, deployable
from canonq.core.errors import CanonqError
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.stack.containment import Allotment, contained
from canonq.core.stack.policy import refusals
from canonq.core.stack.resolved import Stack, Unreadable, stack_of

KEPT = Path(__file__).with_name("docker_reads.json")
ENV = {"STACK_NAME": "s-1", "DOMAIN": "s-1.test", "WHERE": "/etc", "B": "bind", "PORT": "8080"}
HEAD = "version: '3.8'\nservices:\n  app:\n    image: a:1\n"
SAID = {
    "a drive": "    volumes: ['C:x/../../..:/host']\n",
    "a drive of another letter": "    volumes: ['é:x/../../..:/host']\n",
    "a drive with a root": "    volumes: ['c:/:/host']\n",
    "a drive backwards": "    volumes: ['c:\\\\:/host']\n",
    "root": "    volumes: ['/:/host']\n",
    "up": "    volumes: ['../../../..:/host:ro']\n",
    "home": "    volumes: ['~/.ssh:/x']\n",
    "filled in": "    volumes: ['${WHERE}:/x']\n",
    "kind filled in": "    volumes: [{type: $B, source: $WHERE, target: /x}]\n",
    "long": "    volumes: [{type: bind, source: /etc, target: /x}]\n",
    "long without a kind of path": "    volumes: [{type: volume, source: /etc, target: /x}]\n",
    "merged": "    <<: {volumes: ['/etc:/x']}\n",
    "merged twice": "    <<: [{volumes: ['/etc:/x']}, {privileged: true}]\n",
    "aliased": "    volumes: &v ['/etc:/x']\nx-v: *v\n",
    "tagged": "    volumes: !!seq [!!str '/etc:/x']\n",
    "named pipe": "    volumes: [{type: npipe, source: /run/docker.sock, target: /x}]\n",
    "anonymous": "    volumes: ['/x', 'é:/y']\n",
    "options of a driver": "    volumes: ['vol:/x']\nvolumes: {vol: {driver_opts: {type: none, o: bind, device: /}}}\n",
    "another's volume": "    volumes: ['vol:/x']\nvolumes: {vol: {external: true, name: warm-site_data}}\n",
    "another's volume, the old way": "    volumes: ['vol:/x']\nvolumes: {vol: {external: {name: warm-site_data}}}\n",
    "external in words": "    volumes: ['vol:/x']\nvolumes: {vol: {external: 'true', name: theirs}}\n",
    "privileged in words": "    privileged: 'true'\n",
    "privileged, yes": "    privileged: yes\n",
    "rights": "    cap_add: [SYS_ADMIN]\n",
    "ports": "    ports: ['8080:80', '53:53/udp', '90-92:90-92', 70]\n",
    "a port filled in": "    ports: ['$PORT:80']\n",
    "a port in base 60": "    ports: [22:22]\n",
    "a port of an address": "    ports: ['127.0.0.1:8080:80']\n",
    "a port, long": "    ports: [{target: 80, published: 25, mode: host}]\n",
    "ports without one of the host": "    ports: ['80']\n",
    "another's network": "    networks: [n]\nnetworks: {n: {external: true, name: live}}\n",
    "its own name among all": "    networks: {n: {aliases: [live_db]}}\nnetworks: {n: {external: true, name: proxy}}\n",
    "default is for all": "  db: {image: 'b:1'}\nnetworks: {default: {external: true, name: proxy}}\n",
    "addresses": "    networks: [n]\nnetworks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}\n",
    "a driver of networks": "    networks: [n]\nnetworks: {n: {driver: macvlan, driver_opts: {parent: eth0}}}\n",
    "another's secret": "    secrets: [s]\nsecrets: {s: {external: true, name: live_key_v1}}\n",
    "labels as a list": "    deploy: {labels: ['traefik.http.routers.live.rule=Host(`live.test`)']}\n",
    "labels in capitals": "    deploy: {labels: {Traefik.HTTP.Routers.s-1.Rule: 'PathPrefix(`/`)'}}\n",
    "labels of containers": "    labels: {traefik.http.routers.s-1.rule: '!Host(`s-1.test`)'}\n",
    "grace": "    stop_grace_period: 100h\n",
    "killed last": "    oom_score_adj: -1000\n",
    "logs elsewhere": "    logging: {driver: syslog}\n",
    "processes of the host": "    pid: host\n",
    "the host's network": "    network_mode: host\n",
    "kernel": "    sysctls: ['kernel.shm_rmid_forced=1']\n",
    "devices": "    devices: ['/dev/sda:/dev/sda']\n",
    "nothing": "    environment: {A: b}\n",
}


def words(stack: Stack) -> set[str]:
    """What is refused; of a path of the host no more than that, as Docker's reader has made it absolute."""
    found = {no.what for no in refusals(stack, name="s-1", domain="s-1.test")}
    return {"bind" if word.startswith("bind:") else word for word in found}


def ours(said: str) -> Stack | None:
    """What we make of it; None for what is refused before anything is judged."""
    try:
        return resolve([("compose.yml", HEAD + SAID[said])], ENV)
    except CanonqError:
        return None


def dockers(text: str, folder: Path) -> dict[str, Any] | None:
    """What Docker's command makes of it; None for what it refuses."""
    (folder / "compose.yml").write_text(text)
    command = ["docker", "stack", "config", "-c", "compose.yml"]
    done = subprocess.run(
        command, cwd=folder, env={**ENV, "PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None
    found = load_yaml(done.stdout, where="docker stack config")
    for service in found["services"].values():
        for mount in service.get("volumes") or ():
            if mount["type"] == "bind":
                mount["source"] = "/of/the/host"  # it is absolute, and where this test lies
    return found


def read(found: dict[str, Any]) -> Stack | None:
    try:
        return stack_of(found)
    except Unreadable:
        return None


@pytest.mark.parametrize("said", SAID)
def test_whatever_docker_sees_in_it_is_refused_by_us_too(said: str) -> None:
    kept = json.loads(KEPT.read_text())[said]["said"]
    mine = ours(said)
    if kept is None or mine is None:
        return  # it never gets there
    theirs = read(kept)
    assert theirs is not None
    assert words(theirs) <= words(mine)


@pytest.mark.parametrize("said", SAID)
def test_docker_sees_in_what_it_is_given_what_was_judged(said: str) -> None:
    kept, mine = json.loads(KEPT.read_text())[said]["given"], ours(said)
    if kept is None or mine is None:
        return
    theirs = read(kept)
    assert theirs is not None
    assert {no for no in words(theirs) if not no.startswith("label:canonq")} <= words(mine)


def given(said: str) -> str | None:
    """What Docker would be given, if nobody judged it."""
    if (mine := ours(said)) is None:
        return None
    who = Identity("i", "run", "site", "o", "s-1", "s-1.test", "1.0.0+1", "a" * 40)
    within, _ = contained(mine, Allotment(2**30, 1.0, 100, 2**20, 1), trusted=False, name="s-1")
    try:
        made = deployable(within, who, {}, folder="/folder", volume_names={key: f"s-1_{key}" for key in within.volumes})
    except CanonqError:
        return None
    return json.dumps(made.file)


@pytest.mark.long
@pytest.mark.real
def test_the_kept_readings_are_dockers_own(tmp_path: Path) -> None:
    """Run with CANONQ_ACCEPT=1 to keep Docker's present answers."""
    version = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=True).stdout
    if re.search(r"version (?:1[0-9]|20)\.", version):
        return  # these have no `stack config`; the kept answers stand for them
    found = {}
    for said, text in SAID.items():
        mine = given(said)
        found[said] = {"said": dockers(HEAD + text, tmp_path), "given": None if mine is None else dockers(mine, tmp_path)}
    if os.environ.get("CANONQ_ACCEPT"):
        KEPT.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert found == json.loads(KEPT.read_text())
