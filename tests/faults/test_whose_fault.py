"""Broken releases, enrolments and hosts, thought out apart from what judges them: whose fault each is, and in which words.

All of it on the Engine of files: what it takes Docker itself to break is in the tests of real engines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.logs import install
from canonq.adapters.state.budget import Budget
from canonq.core.blame import deploy_problem
from canonq.core.deployable import Deployable, version_label
from canonq.core.enrolment import Health
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.ladder import TierResult
from canonq.core.records import Verdict
from canonq.core.stack.convergence import Service, Task
from canonq.flows.proving import marking
from canonq.flows.sync import sync
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.world import World
from canonq.ports import Answer
from canonq.settings import Settings
from canonq.wiring import live
from tests.fakes import FakeEngine
from tests.support import make_recipe

pytestmark = pytest.mark.long

COMPOSE = """version: "3.8"
services:
  app:
    image: registry.example/site:${TAG}
    environment: ["MAIL=${MAIL:-nobody}"]
    volumes: ["data:/srv"]
    configs: [{source: page, target: /page}]
    deploy: {labels: ["traefik.http.services.${STACK_NAME}.loadbalancer.server.port=80"]}
volumes: {data: {}}
configs: {page: {name: "${STACK_NAME}_page_${PAGE_VERSION}", file: page.html}}
"""
SAMPLE = "TYPE=site\nDOMAIN=site.example.com\nTAG=1\n"
FILES = {"compose.yml": COMPOSE, ".env.sample": SAMPLE, "abra.sh": "export PAGE_VERSION=v1\n", "page.html": "hello"}
TOML = "[health]\ntimeout = 1\nsoak = 0\n"


#: What takes Docker time, or changes something there; logs and leftovers are looked for after every run.
DOCKERS = {"preflight", "ensure_images", "image_sizes", "strangers", "ensure_network", "put_secret", "make_volume", "deploy",
           "observe", "changes", "probe"}  # fmt: skip


class Engine(FakeEngine):
    """The Engine of files, which breaks as it is told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.raises: dict[str, Exception] = {}
        self.task: dict[str, Any] = {}
        self.answer: Answer | None = None
        self.ports: list[int] = [80]
        self.check = ""  #: what a health check says last
        self.words = ""  #: what a dead container has logged last
        self.killed = False  #: for want of memory
        self.restarts = True  #: whether what died is started again
        self.removes_itself = False
        self.refuses = ""  #: what Docker says to whatever is deployed
        self.deploys = 0
        self.asked: list[str] = []  #: the names of what was asked of it
        self.only = ""  #: the version that is broken, where not all are

    def __getattribute__(self, name: str) -> Any:
        if name in DOCKERS:
            self.asked.append(name)
        return super().__getattribute__(name)

    def _may(self, name: str) -> None:
        if name in self.raises:
            raise self.raises[name]

    def preflight(self) -> None:
        self._may("preflight")

    def ensure_images(self, references: Sequence[str], timeout: float) -> dict[str, str]:
        self._may("pull")
        return super().ensure_images(references, timeout)

    def strangers(self, stack: Deployable, labels: Any) -> list[str]:
        self._may("strangers")
        return super().strangers(stack, labels)

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        self._may("deploy")
        if self.refuses:
            raise refused(f"failed to create service {stack.stack}_app: {self.refuses}")
        self.deploys += 1
        super().deploy(stack, folder, timeout)

    def version(self, stack: str) -> str:
        """The version that is deployed now."""
        services, _ = super().observe(stack)
        return next(((service.labels or {})[version_label(stack)] for service in services), "")

    def is_broken(self, stack: str) -> bool:
        """Whether what is deployed now is what is broken."""
        return self.only in ("", self.version(stack))

    def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
        services, tasks = super().observe(stack)
        if self.removes_itself:
            return [], []
        services = [replace(service, restarts=self.restarts) for service in services]
        return services, [replace(task, **self.task) for task in tasks] if self.is_broken(stack) else tasks

    def probe(self, stack: str, health: Health, domain: str, timeout: float) -> Answer:
        broken = self.answer if self.is_broken(stack) else None
        return broken or super().probe(stack, health, domain, timeout)

    def listening(self, stack: str, service: str) -> list[int]:
        return self.ports

    def logs(self, stack: str, lines: int) -> dict[str, str]:
        return {"app": self.words}

    def last_words(self, stack: str, service: str) -> str:
        return self.words

    def out_of_memory(self, stack: str) -> frozenset[str]:
        return frozenset(task.container for task in super().observe(stack)[1]) if self.killed else frozenset()

    def failing_checks(self, stack: str) -> dict[str, str]:
        if self.check:
            return {"app": f"Its health check `curl -f /` failed once, last with exit status -1: {self.check}"}
        said = "Its health check `wget -q /` failed 3 times in a row, last with exit status 1: 404 Not Found"
        return {"app": said} if self.task else {}


@dataclass(frozen=True)
class Broken:
    """One thing that is broken, and what has to be said of it."""

    what: str
    fault: str
    code: str
    said: str  #: a part of the sentence
    release: dict[str, str | None] = field(default_factory=dict)  #: files of the release that differ from those of the one before
    toml: str = TOML
    own: dict[str, str] = field(default_factory=dict)  #: files of the enrolment
    engine: dict[str, Any] = field(default_factory=dict)
    deploys: int = 0  #: how often Docker was given anything
    kind: str = "red"


def app(line: str) -> dict[str, str | None]:
    return {"compose.yml": COMPOSE.replace("    volumes: [", f"    {line}\n    volumes: [")}


def died(error: str, state: str = "rejected") -> dict[str, Any]:
    return {"task": {"state": state, "error": error, "desired": "running" if state == "pending" else "shutdown"}}


#: It has ended, and is not started again.
GIVEN_UP = {"task": {"state": "failed", "error": "task: non-zero exit (1)", "desired": "shutdown"}, "restarts": False}
#: Only the release under test is broken, and not its base.
RELEASE = {"only": "1.1.0+1.1"}


def refused(text: str, what: str = "`docker stack deploy` of s-1") -> CanonqError:
    return deploy_problem(text, what)


RECIPE: list[Broken] = [
    Broken(
        "a key is misspelt",
        "recipe",
        "compose-invalid",
        "compose.yml:6 services.app.comand: 'comand' is not a key of services.app; did you mean 'command'?",
        app("comand: x"),
    ),
    Broken("a colon is missing", "recipe", "compose-invalid", "compose.yml:7 is not YAML", app("hostname")),
    Broken(
        "a volume is misspelt",
        "recipe",
        "compose-invalid",
        "names the volume 'dta', which nothing declares under 'volumes'; did you mean 'data'?",
        {"compose.yml": COMPOSE.replace("data:/srv", "dta:/srv")},
    ),
    Broken(
        "a duration is a number",
        "recipe",
        "compose-invalid",
        "'stop_grace_period' must be a duration",
        app("stop_grace_period: 5"),
    ),
    Broken(
        "the file of a config is not there",
        "recipe",
        "file-missing",
        "configs.page is made from the file 'page.htm', which this version does not have; did you mean 'page.html'?",
        {"compose.yml": COMPOSE.replace("page.html", "page.htm")},
    ),
    Broken(
        "a config changed and kept its name",
        "recipe",
        "config-not-bumped",
        "'page.html' changed since the base and is still called 'page_v1'",
        {"page.html": "bye"},
    ),
    Broken(
        "an image in upper case",
        "recipe",
        "image-name-invalid",
        "it must be in lower case",
        {"compose.yml": COMPOSE.replace("example/site", "example/Site")},
    ),
    Broken(
        "an image's tag that nothing sets",
        "recipe",
        "image-name-invalid",
        "its tag is empty",
        {".env.sample": SAMPLE.replace("TAG=1", "TAGG=1")},
    ),
    Broken(
        "a name that only the canonical could not have",
        "recipe",
        "name-too-long",
        "It could never be promoted",
        {"compose.yml": COMPOSE.replace("_page_$", f"_{'p' * 52}_$")},
    ),
    Broken(
        "a config's version is exported under another name",
        "recipe",
        "name-invalid",
        "nothing sets SITE_PAGE_VERSION; did you mean 'PAGE_VERSION'?",
        {"compose.yml": COMPOSE.replace("${PAGE_VERSION}", "${SITE_PAGE_VERSION}")},
    ),
    Broken(
        "a config's version is raised under another name, and the one its name takes has a default",
        "recipe",
        "config-not-bumped",
        "configs.page.name: nothing sets SITE_PAGE_VERSION, so it stays at its default 'v1'; did you mean 'PAGE_VERSION'?",
        {
            "compose.yml": COMPOSE.replace("${PAGE_VERSION}", "${SITE_PAGE_VERSION:-v1}"),
            "abra.sh": "export PAGE_VERSION=v2\n",
            "page.html": "bye",
        },
    ),
    Broken(
        "nothing is called app",
        "recipe",
        "no-app-service",
        "no service called 'app'",
        {"compose.yml": COMPOSE.replace("  app:", "  web:")},
    ),
    Broken(
        "COMPOSE_FILE names what is not there",
        "recipe",
        "compose-missing",
        "'compose.smtp.yml', which this version",
        {".env.sample": f"{SAMPLE}COMPOSE_FILE=compose.yml:compose.smtp.yml\n"},
    ),
    Broken(
        "a file outside the recipe",
        "recipe",
        "path-outside-recipe",
        "lies outside the recipe",
        {"compose.yml": COMPOSE.replace("file: page.html", "file: ../../etc/passwd")},
    ),
    Broken("a quote is not closed", "recipe", "env-unreadable", "is not closed", {".env.sample": f'{SAMPLE}A="b\n'}),
    Broken(
        "a secret of letters that nobody knows",
        "recipe",
        "secret-charset",
        "known are",
        {
            ".env.sample": f"{SAMPLE}SECRET_KEY_VERSION=v1 # charset=klingon\n",
            "compose.yml": f"{COMPOSE}secrets: {{key: {{external: true, name: '${{STACK_NAME}}_key_v1'}}}}\n",
        },
    ),
    Broken(
        "no registry has the image",
        "recipe",
        "image-unavailable",
        "manifest unknown",
        engine={
            "raises": {"pull": refused("manifest for x:1.7 not found: manifest unknown: manifest unknown", "The pull of x:1.7")}
        },
    ),
    Broken(
        "its command is not in its image",
        "recipe",
        "cannot-start",
        "executable file not found",
        deploys=2,
        engine=RELEASE | died('starting container failed: exec: "no": executable file not found in $PATH'),
    ),
    Broken(
        "its entrypoint is a config that may not be run",
        "recipe",
        "cannot-start",
        "`mode: 0555` where it is a config",
        deploys=2,
        engine=RELEASE | died('OCI runtime create failed: unable to start: exec: "/page": permission denied: unknown'),
    ),
    Broken(
        "its entrypoint has line ends of Windows",
        "recipe",
        "install-failed",
        "'page.html' has line ends of Windows (CRLF), so Linux looks for a program '/bin/sh\\r' to run it with.",
        {"page.html": "#!/bin/sh\r\nexec web\r\n", "abra.sh": "export PAGE_VERSION=v2\n"},
        deploys=2,
        engine=RELEASE | GIVEN_UP,
    ),
    Broken(
        "it listens on another port than its label says",
        "recipe",
        "install-failed",
        "port 80: refused; nothing listens on 80 in it, and something does on 3000",
        deploys=2,
        engine={**RELEASE, "answer": Answer(False, "port 80: refused", reached=False), "ports": [3000]},
    ),
    Broken(
        "it says itself why it ends",
        "recipe",
        "install-failed",
        "Its last words: page 3: no such table / bye",
        deploys=2,
        engine=RELEASE | GIVEN_UP | {"words": "page 3: no such table\nbye"},
    ),
    Broken(
        "it waits for something that is not there and never listens",
        "recipe",
        "install-failed",
        "port 80: refused. It logged last: waiting for db:5432",
        deploys=2,
        engine={
            **RELEASE,
            "answer": Answer(False, "port 80: refused", reached=False),
            "ports": [],
            "words": "waiting for db:5432\n" * 3,
        },
    ),
    Broken(
        "it needs more memory than it gives itself",
        "recipe",
        "out-of-memory",
        "A container of 'app' was killed for want of memory. ",
        deploys=2,
        engine=RELEASE | GIVEN_UP | {"killed": True},
    ),
    Broken(
        "its health check is killed with it for want of memory",
        "recipe",
        "out-of-memory",
        "A container of 'app' was killed for want of memory. ",
        deploys=2,
        engine={**RELEASE, **died("task: non-zero exit (137): dockerexec: unhealthy container", "failed"), "killed": True},
    ),
    Broken(
        "it sets itself less memory than it needs, and less than the enrolment gives it",
        "recipe",
        "out-of-memory",
        "the release sets the limit; the maintainer has to raise it",
        {"compose.yml": COMPOSE.replace("deploy: {", "deploy: {resources: {limits: {memory: 32M}}, ")},
        toml=f"{TOML}[resources]\nmemory = '64 MiB'\n",
        deploys=2,
        engine=RELEASE | GIVEN_UP | {"killed": True},
    ),
    Broken(
        "the network of all apps is misspelt",
        "recipe",
        "network-missing",
        "is to be in the network 'prxy' of others (external), which this host does not have; did you mean 'proxy'?",
        {"compose.yml": f"{app('networks: [prxy]')['compose.yml']}networks: {{prxy: {{external: true}}}}\n"},
    ),
    Broken(
        "a volume is to be mounted at a relative path",
        "recipe",
        "compose-invalid",
        "compose.yml:6 services.app.volumes: the mount 'data:srv' has the target 'srv', which is no absolute path",
        {"compose.yml": COMPOSE.replace("data:/srv", "data:srv")},
    ),
    Broken(
        "two volumes are to be mounted at one place",
        "recipe",
        "compose-invalid",
        "compose.yml:6 services.app.volumes: two volumes of the service 'app' have the target '/srv': 'data' and 'more'",
        {
            "compose.yml": COMPOSE.replace('"data:/srv"', '"data:/srv", "more:/srv/"').replace(
                "{data: {}}", "{data: {}, more: {}}"
            )
        },
    ),
    Broken(
        "two of its services publish one port",
        "recipe",
        "port-twice",
        "The services 'app' and 'mail' both publish the port 8080/tcp of the host",
        {
            "compose.yml": COMPOSE.replace("    volumes: [", '    ports: ["8080:80"]\n    volumes: [').replace(
                "volumes: {data",
                "  mail:\n    image: x:1\n    ports: [{target: 25, published: 8080, mode: host}]\nvolumes: {data",
            )
        },
    ),
    Broken(
        "a constraint asks for what no node has",
        "recipe",
        "compose-invalid",
        "'node.rol == manager' asks for what no node has: 'node.rol'; did you mean 'node.role'?",
        {"compose.yml": COMPOSE.replace("deploy: {", "deploy: {placement: {constraints: [node.rol == manager]}, ")},
    ),
    Broken(
        "it sets itself less memory than Docker starts anything with",
        "recipe",
        "cannot-start",
        "has to be 6M or more",
        {"compose.yml": COMPOSE.replace("deploy: {", "deploy: {resources: {limits: {memory: 5M}}, ")},
        deploys=2,
        engine=RELEASE | died("Minimum memory limit allowed is 6MB"),
    ),
    Broken(
        "each of two replicas publishes one port of the host",
        "recipe",
        "port-twice",
        "Each of the 2 replicas of 'app' publishes the port 2222/tcp of the host itself (mode: host), and Docker gives it to one",
        {
            "compose.yml": COMPOSE.replace(
                "    volumes: [", "    ports: [{target: 22, published: 2222, mode: host}]\n    volumes: ["
            ).replace("deploy: {", "deploy: {replicas: 2, ")
        },
    ),
    Broken(
        "nothing of its front runs",
        "recipe",
        "nothing-runs",
        "services.app.deploy.replicas is 0, so nothing of 'app' runs, which [health] asks.",
        {"compose.yml": COMPOSE.replace("deploy: {", "deploy: {replicas: 0, ")},
    ),
    Broken(
        "its health check never passes",
        "recipe",
        "install-failed",
        "failed 3 times in a row, last with exit status 1: 404",
        deploys=2,
        engine={**RELEASE, **died("task: non-zero exit (143): dockerexec: unhealthy container", "failed")},
    ),
    Broken(
        "its health check asks with a program that its image lacks",
        "recipe",
        "install-failed",
        "has to name a program for the health check that the image has",
        deploys=2,
        toml="[health]\ntimeout = 600\n",
        engine={**RELEASE, "task": {"state": "starting"}, "check": 'exec: "curl": executable file not found in $PATH: unknown'},
    ),
    Broken(
        "it answers with an error",
        "recipe",
        "install-failed",
        "/ answered 500",
        deploys=2,
        engine={**RELEASE, "answer": Answer(False, "/ answered 500, allowed is 200")},
    ),
]
ENROLMENT: list[Broken] = [
    Broken(
        "the overlay lets nothing of the front run",
        "enrolment",
        "nothing-runs",
        "Without the enrolment's own files the release can be read.",
        own={"compose.canonq.yml": "services:\n  app:\n    deploy: {replicas: 0}\n"},
    ),
    Broken(
        "a variable is new and required",
        "enrolment",
        "env-missing",
        "compose.yml:6 services.app.hostname: the variable ADMIN is required: say who",
        app("hostname: ${ADMIN:?say who}"),
    ),
    Broken(
        "a secret's file is empty",
        "enrolment",
        "secret-missing",
        "comes from /dev/null, which is empty",
        {"compose.yml": f"{COMPOSE}secrets: {{api_key: {{external: true, name: '${{STACK_NAME}}_api_key_v1'}}}}\n"},
        kind="error",
        toml=f"{TOML}[secrets]\napi_key = {{ file = '/dev/null' }}\n",
    ),
    Broken(
        "the overlay switches a health check off that has a test",
        "enrolment",
        "compose-invalid",
        "the health check of 'app' is switched off and has a test",
        app("healthcheck: {test: [CMD, 'true']}"),
        own={"compose.canonq.yml": "services:\n  app:\n    healthcheck: {disable: true}\n"},
    ),
    Broken(
        "the overlay makes a config from a file that lies beside it",
        "enrolment",
        "file-missing",
        "counts from the recipe's folder, into which install_steps.sh may copy what lies beside it",
        own={"compose.canonq.yml": "configs:\n  motd: {file: ./motd.txt}\n", "motd.txt": "hello"},
    ),
    Broken(
        "[health] asks for a page that leads elsewhere",
        "enrolment",
        "health-wrong",
        "with this enrolment no version ever answered as [health] wants it",
        deploys=2,
        engine={"answer": Answer(False, "/home answered 302 and leads to '/setup', allowed is 200", status=302)},
    ),
    Broken(
        "the overlay gives it too little memory",
        "enrolment",
        "out-of-memory",
        "compose.canonq.yml sets its limit of 8 MiB: raise it there",
        own={"compose.canonq.yml": "services:\n  app:\n    deploy: {resources: {limits: {memory: 8M}}}\n"},
        deploys=2,
        engine=GIVEN_UP | {"killed": True},
    ),
    Broken(
        "the overlay starts what is not in the image",
        "enrolment",
        "cannot-start",
        "compose.canonq.yml sets services.app.command, and with this enrolment nothing was ever green.",
        own={"compose.canonq.yml": "services:\n  app:\n    command: [no]\n"},
        deploys=2,
        engine=died('starting container failed: exec: "no": executable file not found in $PATH'),
    ),
    Broken(
        "the overlay asks a health check that never passes",
        "enrolment",
        "not-healthy",
        "compose.canonq.yml sets services.app.healthcheck",
        own={"compose.canonq.yml": "services:\n  app:\n    healthcheck: {test: [CMD, wget, -q, /]}\n"},
        deploys=2,
        engine=died("task: non-zero exit (143): dockerexec: unhealthy container", "failed"),
    ),
    Broken(
        "the overlay asks for a node that is not there",
        "enrolment",
        "no-node-fits",
        "compose.canonq.yml sets services.app.deploy.placement",
        own={"compose.canonq.yml": "services:\n  app:\n    deploy: {placement: {constraints: [node.labels.ssd == 1]}}\n"},
        deploys=2,
        engine=died("no suitable node (scheduling constraints not satisfied on 1 node)", "pending"),
    ),
    Broken(
        "[resources] gives it too little memory",
        "enrolment",
        "out-of-memory",
        "it may have 64 MiB: raise [resources] memory in recipe.toml",
        toml=f"{TOML}[resources]\nmemory = '64 MiB'\n",
        deploys=2,
        engine=GIVEN_UP | {"killed": True},
    ),
    Broken(
        "[resources] gives it less memory than it asks for",
        "enrolment",
        "out-of-memory",
        "it may have 64 MiB, and the release asks for 512 MiB: raise",
        {"compose.yml": COMPOSE.replace("deploy: {", "deploy: {resources: {limits: {memory: 512M}}, ")},
        toml=f"{TOML}[resources]\nmemory = '64 MiB'\n",
        deploys=2,
        engine=RELEASE | GIVEN_UP | {"killed": True},
    ),
    Broken(
        "a key of the overlay is misspelt",
        "enrolment",
        "compose-invalid",
        "compose.canonq.yml:3 services.app.enviroment: 'enviroment' is not a key of services.app; did you mean 'environment'?",
        own={"compose.canonq.yml": "services:\n  app:\n    enviroment: {A: b}\n"},
    ),
    Broken(
        "the overlay names a network that is not there",
        "enrolment",
        "network-missing",
        "The release does not ask for it: [env] or the overlay does.",
        own={"compose.canonq.yml": "services: {app: {networks: [inside]}}\nnetworks: {inside: {external: true}}\n"},
    ),
    Broken(
        "the overlay replaces the image",
        "enrolment",
        "overlay-replaces-image",
        "replaces the image of 'app'",
        kind="error",
        own={"compose.canonq.yml": "services:\n  app:\n    image: mine:1\n"},
    ),
    Broken(
        "[env] names a file that is not there",
        "enrolment",
        "compose-missing",
        "'compose.nope.yml'",
        toml=f"{TOML}[env]\nCOMPOSE_FILE = 'compose.nope.yml'\n",
    ),
    Broken(
        "[health] names another service",
        "enrolment",
        "health-service-unknown",
        "service = 'ap', which 1.1.0+1.1 does not have; did you mean 'app'?",
        toml=f"{TOML}service = 'ap'\n",
    ),
    Broken(
        "[health] names another port",
        "enrolment",
        "health-wrong",
        "nothing listens on 8080 in it, and something does on 80",
        toml=f"{TOML}port = 8080\n",
        deploys=2,
        engine={"answer": Answer(False, "port 8080: refused", reached=False)},
    ),
    Broken(
        "[health] runs a program that is not there",
        "enrolment",
        "health-wrong",
        "its image has no program 'curl'",
        deploys=2,
        toml=f"{TOML}kind = 'exec'\ncommand = ['curl']\n",
        engine={"answer": Answer(False, '`curl` exited with 126: exec: "curl": executable file not found in $PATH')},
    ),
    Broken(
        "a secret has another name under [secrets]",
        "enrolment",
        "secret-missing",
        "[secrets] does not give it; is it 'api_kye'?",
        {"compose.yml": f"{COMPOSE}secrets: {{api_key: {{external: true, name: '${{STACK_NAME}}_api_key_v1'}}}}\n"},
        kind="error",
        toml=f"{TOML}[secrets]\napi_kye = {{ hex = 8 }}\n",
    ),
    Broken(
        "hooks.py is no Python",
        "enrolment",
        "hooks-invalid",
        "tests/site/hooks.py cannot be read as Python",
        own={"hooks.py": "def before(:\n"},
        kind="error",
    ),
    Broken(
        "hooks.py returns outside of a function",
        "enrolment",
        "hooks-invalid",
        "tests/site/hooks.py cannot be read as Python: 'return' outside function",
        own={"hooks.py": "return 1\n"},
        kind="error",
    ),
    Broken(
        "install_steps.sh fails",
        "enrolment",
        "install-steps-failed",
        "ended with status 7: no such thing",
        kind="error",
        own={"install_steps.sh": "echo no such thing; exit 7\n"},
    ),
    Broken(
        "install_steps.sh writes what is no env",
        "enrolment",
        "install-steps-failed",
        "What install_steps.sh has left cannot be read: $APP_ENV line",
        own={"install_steps.sh": 'echo "no key" >> "$APP_ENV"\n'},
    ),
    Broken(
        "install_steps.sh breaks the release's files",
        "enrolment",
        "compose-invalid",
        "tests/site/install_steps.sh has changed 'compose.yml' before.",
        own={"install_steps.sh": 'cd "$RECIPE_DIR"; echo "  a: b: c" >> compose.yml\n'},
    ),
    Broken(
        "install_steps.sh takes a file of the release away",
        "enrolment",
        "compose-missing",
        "tests/site/install_steps.sh has changed 'compose.yml' before.",
        own={"install_steps.sh": 'rm "$RECIPE_DIR/compose.yml"\n'},
    ),
    Broken(
        "install_steps.sh fails and says nothing",
        "enrolment",
        "install-steps-failed",
        "ended with status 1: nothing was printed.",
        kind="error",
        own={"install_steps.sh": 'read answer\ntest -n "$answer"\n'},
    ),
    Broken(
        "install_steps.sh has line ends of Windows",
        "enrolment",
        "install-steps-failed",
        "has line ends of Windows (CRLF)",
        own={"install_steps.sh": "true\r\n"},
        kind="error",
    ),
    Broken(
        "the overlay asks Docker for what it refuses",
        "enrolment",
        "deploy-refused",
        "compose.canonq.yml sets services.app.deploy, and with this enrolment nothing was ever green.",
        own={"compose.canonq.yml": "services:\n  app:\n    deploy: {resources: {limits: {memory: 2M}}}\n"},
        engine={"refuses": "rpc error: code = InvalidArgument desc = invalid memory value 2097152: Must be at least 4MiB"},
    ),
    Broken(
        "a folder of the host that nobody gave it",
        "enrolment",
        "foreign-mount",
        "mounts '/etc' of the host",
        kind="error",
        release={"compose.yml": COMPOSE.replace("data:/srv", "/etc:/srv")},
    ),
]
HOST: list[Broken] = [
    Broken(
        "the registry cannot be reached",
        "host",
        "registry-unreachable",
        "no such host",
        kind="error",
        engine={"raises": {"pull": refused("dial tcp: lookup registry.example on 10.0.0.1:53: no such host", "The pull of x")}},
    ),
    Broken(
        "the registry is in trouble",
        "host",
        "registry-unavailable",
        "503",
        kind="error",
        engine={"raises": {"pull": refused("received unexpected HTTP status: 503 Service Unavailable", "The pull of x")}},
    ),
    Broken(
        "words of Docker that nobody knows",
        "host",
        "docker-unknown",
        "in words that canonq does not know",
        kind="error",
        engine={"raises": {"deploy": refused("the frobnicator is out of phase")}},
    ),
    Broken(
        "another stack has the port",
        "host",
        "port-taken",
        "already in use by service",
        kind="error",
        engine={"raises": {"deploy": refused("port '2222' is already in use by service 'live_app' (x) as an ingress port")}},
    ),
    Broken(
        "the host is too small",
        "host",
        "host-too-small",
        "insufficient resources",
        kind="error",
        deploys=2,
        engine=died("no suitable node (insufficient resources on 1 node)", "pending"),
    ),
    Broken(
        "a network has no address left",
        "host",
        "addresses-used-up",
        "Swarm has not given 'app' its network addresses: 1 of its tasks are new, none has come further",
        kind="error",
        deploys=2,
        engine={"task": {"state": "new", "error": "", "desired": "running"}},
    ),
    Broken(
        "another network has the subnet that the release asks for",
        "host",
        "addresses-used-up",
        "of its networks, 'inner' asks for the subnet 10.77.0.0/24, which another network here may have",
        {"compose.yml": f"{COMPOSE}networks: {{inner: {{ipam: {{config: [{{subnet: 10.77.0.0/24}}]}}}}}}\n"},
        kind="error",
        deploys=2,
        engine=RELEASE | {"task": {"state": "new", "error": "", "desired": "running"}},
    ),
    Broken(
        "a network that nobody here has made",
        "host",
        "network-missing",
        "is to be in the network 'intranet' of others (external), which this host does not have. Mend: `docker network create",
        {"compose.yml": f"{app('networks: [intranet]')['compose.yml']}networks: {{intranet: {{external: true}}}}\n"},
        kind="error",
    ),
    Broken(
        "the program that it logs to is not there",
        "host",
        "log-driver-away",
        "connection refused",
        kind="error",
        deploys=2,
        engine=died("failed to initialize logging driver: dial tcp 127.0.0.1:24224: connect: connection refused"),
    ),
    Broken(
        "the node is drained",
        "host",
        "node-unavailable",
        "1 node not available for new tasks",
        kind="error",
        deploys=2,
        engine=died("no suitable node (1 node not available for new tasks)", "pending"),
    ),
    Broken(
        "the disk is full",
        "host",
        "disk-full",
        "no space left",
        kind="error",
        engine={"raises": {"pull": refused("write /x: no space left on device", "The pull of x")}},
    ),
    Broken(
        "somebody removes the stack",
        "host",
        "no-services",
        "was removed while canonq worked with it",
        kind="error",
        deploys=2,
        engine={"removes_itself": True},
    ),
    Broken(
        "Docker is away",
        "host",
        "docker-unreachable",
        "does not answer",
        kind="error",
        engine={"raises": {"preflight": HostProblem("The Docker Engine does not answer.", code="docker-unreachable")}},
    ),
]
CANONQ: list[Broken] = [
    Broken(
        "a mistake of canonq's own",
        "canonq",
        "canonq-failed",
        "KeyError in 'install': 'x'",
        kind="error",
        engine={"raises": {"strangers": KeyError("x")}},
    ),
]
ALL = [*RECIPE, *ENROLMENT, *HOST, *CANONQ]
FILES_SAY = [
    one
    for one in (*RECIPE, *ENROLMENT)
    if not one.deploys and not one.engine and "install_steps.sh" not in one.own and one.code != "network-missing"
]


def world_of(folder: Path, redis_url: str, engine: FakeEngine) -> World:
    settings = Settings(
        repo=folder / "checkout", state=folder / "state", redis_url=redis_url, disk_need=1, loaded_above=0, screenshots=False
    )
    budget = Budget(settings.state / "locks" / "disk", lambda: 10**12, 0)
    return replace(live(settings), engine=engine, budget=budget)


def prove(folder: Path, redis_url: str, broken: Broken) -> tuple[Verdict, Engine]:
    """Two releases, the second of which is broken, or the enrolment or the host of both; its verdict."""
    second = {name: text for name, text in {**FILES, **broken.release}.items() if text is not None}
    make_recipe(folder / "site", {"1.0.0+1.0": FILES, "1.1.0+1.1": second})
    own = folder / "checkout" / "tests" / "site"
    own.mkdir(parents=True)
    (own / "recipe.toml").write_text(f'upstream = "{folder / "site"}"\n{broken.toml}')
    for name, text in broken.own.items():
        (own / name).write_text(text)
    engine = Engine(folder / "docker")
    vars(engine).update(broken.engine)
    world = world_of(folder, redis_url, engine)
    sync(world, "site")
    return prove_tag(world, "site", "1.1.0+1.1"), engine


@pytest.fixture(autouse=True)
def tiers_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiers' own tests ask a real Engine; here is about what goes wrong before them."""
    monkeypatch.setattr(marking, "run_generic", lambda *_: TierResult(status="pass"))


@pytest.mark.parametrize("broken", ALL, ids=lambda broken: broken.what)
def test_the_fault_is_found_and_told(broken: Broken, tmp_path: Path, redis_url: str) -> None:
    verdict, engine = prove(tmp_path, redis_url, broken)
    assert (verdict.verdict, verdict.fault, verdict.reason) == (broken.kind, broken.fault, broken.code), verdict.detail
    assert broken.said in verdict.detail
    assert str(verdict.version) in verdict.detail
    assert engine.deploys == broken.deploys, "what the files say is said before anything is deployed"
    if broken in FILES_SAY:
        assert engine.asked == [], "Docker was not needed to know it"


def test_what_is_broken_is_each_partys_at_least_once_and_thirty_in_all() -> None:
    assert {broken.fault for broken in ALL} == {"recipe", "enrolment", "host", "canonq"}
    assert len({broken.what for broken in ALL}) == len(ALL) >= 30


def test_a_proven_base_that_does_not_answer_under_a_changed_enrolment_is_the_enrolments_fault(
    tmp_path: Path, redis_url: str
) -> None:
    broken = Broken("", "", "", "", engine={"answer": Answer(False, "/ answered 404, allowed is 200")})
    verdict, engine = prove(tmp_path, redis_url, broken)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "install-failed", "recipe")
    world = world_of(tmp_path, redis_url, engine)
    base = {
        "version": verdict.base,
        "commit": verdict.base_commit,
        "run": world.new_id("site"),
        "verdict": "green",
        "fault": None,
    }
    world.runs.make("site", str(base["run"]))
    world.runs.record(verdict.model_copy(update={**base, "enrolment": "another"}))
    again = prove_tag(world, "site", "1.1.0+1.1")
    assert (again.verdict, again.reason, again.fault) == ("red", "health-wrong", "enrolment")
    assert "1.0.0+1.0 was proven; its enrolment was changed since" in again.detail


def test_what_is_logged_within_a_run_says_which_run_it_is(
    tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    install()
    verdict, _ = prove(tmp_path, redis_url, CANONQ[0])
    (record,) = [one for one in caplog.records if "broke in" in one.getMessage()]
    assert vars(record)["run"] == verdict.run
