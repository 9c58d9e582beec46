"""What is fed with bad input: a name, how it is made, what is asked, and what once broke it."""

from __future__ import annotations

import contextlib
import hmac
import io
import json
import math
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import requests
from hypothesis import strategies as st

from canonq.adapters.data import snapshots
from canonq.adapters.data.artifact import look_through
from canonq.adapters.git.clones import GitRepos, _read_listing
from canonq.adapters.network.forge import HttpForge
from canonq.adapters.network.http import Session, retry_after
from canonq.adapters.state.budget import Budget, PulledImages
from canonq.adapters.state.hosts import _lines
from canonq.adapters.state.registry import Registry
from canonq.adapters.state.runs import Runs
from canonq.adapters.state.sweeps import Sweeps
from canonq.core.backup import backup_plan
from canonq.core.budget import FileSystem
from canonq.core.deployable import Identity, deployable
from canonq.core.enrol.files import enrolment_text
from canonq.core.enrol.inspect import inspect
from canonq.core.enrolment import parse_enrolment
from canonq.core.errors import CanonqError
from canonq.core.names import commit_id, flat_ref, recipe_in, recipe_name, ref_name, ref_problem
from canonq.core.recipe.assembly import app_env, assemble
from canonq.core.recipe.compose import resolve
from canonq.core.recipe.envfile import generate_secret, parse_env, parse_exports, render_env, secret_rules
from canonq.core.recipe.interpolate import interpolate_text
from canonq.core.recipe.links import stays_inside
from canonq.core.records import Canonical, Snapshot
from canonq.core.stack.beside import asked_memory
from canonq.core.stack.databases import way_into_redis
from canonq.core.stack.dumps import closed_to_us, dump_problem
from canonq.core.stack.images import image_name
from canonq.core.stack.lint import LintFacts, lint
from canonq.core.stack.mounts import with_own
from canonq.core.stack.policy import refusals
from canonq.core.upstream.addresses import address, forge_repo, host_of, identity, masked, moved
from canonq.core.upstream.catalogue import find
from canonq.core.upstream.discovery import remembered
from canonq.core.upstream.webhook import read, recipes_of
from canonq.core.versions import NotARelease, parse, read_tags, version_key
from canonq.flows.deploying.answering import _routed_port
from canonq.flows.sweeps.summary import summary
from tests import memory
from tests.fuzz.words import misshapen, scalars, texts, values, words
from workers.factory import recipe_given, route
from workers.steps import StepFailed, recipe_of


@dataclass(frozen=True)
class Target:
    """Something that reads what others wrote."""

    made: st.SearchStrategy[Any]
    asked: Callable[[Any], object]
    broke: Sequence[Any] = field(default=())  #: what once ended in another error than the project's own, or in no time


TARGETS: dict[str, Target] = {}


def target(made: st.SearchStrategy[Any], *broke: Any) -> Callable[[Callable[[Any], object]], Callable[[Any], object]]:
    """Make a function a target, by its name."""

    def kept(asked: Callable[[Any], object]) -> Callable[[Any], object]:
        TARGETS[asked.__name__.replace("_", " ")] = Target(made, asked, broke)
        return asked

    return kept


@contextlib.contextmanager
def own_errors_only() -> Iterator[None]:
    """The project's own errors, and those of its tasks, are answers."""
    with contextlib.suppress(CanonqError, StepFailed):
        yield


def of_each(*asked: Callable[[], object]) -> None:
    """Ask all of them, whatever the others say."""
    for one in asked:
        with own_errors_only():
            one()


def in_json(value: Any) -> bytes:
    """As a program would write it that takes no care."""
    return json.dumps(value).encode(errors="surrogatepass")


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000

# -- what containers and other hosts say ---------------------------------------------------------------------------------


@target(
    texts(['redis-server --requirepass "$(cat "/run/x y")" &', "exec redis-server /etc/redis.conf", "--requirepass", "a b$c"]),
    'redis-server --requirepass "' + "$()" * 3000,
    "x" * 100_000,
)
def the_words_that_a_container_was_started_with(text: Any) -> None:
    found = way_into_redis(["sh", "-c", text, "--requirepass", text])
    assert all("\0" not in value for value in found.values())


@target(texts(['["far: it is lost"]', "[1]"]) | values.map(in_json).map(bytes.decode), DEEP.decode())
def what_another_host_has_found(text: Any) -> None:
    assert all(isinstance(line, str) for line in _lines(text))


# -- names, addresses, versions ---------------------------------------------------------------------------------------------


@target(texts(["custom-html", "refs/pull/7/head", "20260617T050314Z-site-a1b2c3", "v1.0/x", "0" * 40]) | values)
def names(text: Any) -> None:
    of_each(lambda: recipe_name(text), lambda: ref_name(text), lambda: commit_id(text))
    if isinstance(text, str):
        ref_problem(text), recipe_in(text), flat_ref(text)
        of_each(lambda: image_name(text))


ADDRESSES = [
    "https://git.example.org/coop-cloud/site.git",
    "ssh://git@git.example.org:2222/a/b",
    "git@git.example.org:a/b.git",
    "file:///srv/git/a",
    "/srv/git/a",
    "./up/../a",
    "http://[::1]:80/x",
]


@target(
    texts(ADDRESSES),
    "file://]",
    "https://[",
    "https://a/\0",
    "./\0",
    "/a\ud800",
    "https://a:99999/b",
    "/srv\u2028x",
    "//[:²:1]:80/x",
    "//[/x",
)
def addresses(text: str) -> None:
    masked(text)
    with own_errors_only():
        url = address(text, "/srv/checkout")
        assert url.isprintable(), "git is given what a person can read"
        host_of(url), identity(url), moved("upstream", url, ADDRESSES[0]), forge_repo(url, "https://git.example.org/git")
        moved("upstream", ADDRESSES[0], url)


@target(
    st.lists(texts(["1.3.0+6.42.0-alpine", "3.0.1+v2.0.0", "1.0.0+v1.6.870-0", "2.0.0-rc1+2024.06.37"]), min_size=3, max_size=3)
)
def versions(tags: list[str]) -> None:
    releases, refused = read_tags(dict.fromkeys(tags, "0" * 40))
    assert len(releases) + len(refused) >= len({*tags}) - sum(not isinstance(parse(tag), NotARelease) for tag in tags)
    a, b, c = (version_key(tag) if not isinstance(parse(tag), NotARelease) else version_key("1.0.0+1") for tag in tags)
    assert (a < b) + (b < a) + (a == b) == 1, "one of them"
    assert not (a < b < c) or a < c


# -- an enrolment -------------------------------------------------------------------------------------------------------------

RECIPE_TOML = """upstream = "https://git.example.org/site.git"
mirror = "https://git.example.org/m/site.git"
weight = "heavy"
deps = ["other"]
[health]
kind = "http"
service = "app"
port = 80
path = "/"
status = [200, 302]
timeout = 300
[env]
SITE_NAME = "test"
[secrets]
key = { hex = 32 }
other = { file = "/run/x" }
[expected_na]
backup = "static"
[upgrade]
base = "1.0.0+1"
[limits]
run = 2400
[refs]
allow = ["port:8080"]
[promote]
data = "fresh"
"""


@target(
    texts([RECIPE_TOML]),
    f"upstream = {'9' * 5000}",
    f"upstream = {'[' * 5000}",
    f"{'[' * 5000}{']' * 5000}",
    f"upstream = 'x'\nport = {'{a=' * 3000}1{'}' * 3000}",
    "".join(f"k{number} = 1\n" for number in range(6000)),
    "upstream = 'x\0'",
    "upstream = 'x'\n[health]\ntimeout = inf",
    "upstream = 'x'\n[limits]\nrun = 1e400",
)
def recipe_toml(text: str) -> None:
    with own_errors_only():
        parse_enrolment("site", text, where="recipe.toml")


# -- a recipe's files ---------------------------------------------------------------------------------------------------------

SAMPLE = """TYPE=site
DOMAIN=site.example.com
## a comment
LETS_ENCRYPT_ENV=production
COMPOSE_FILE="compose.yml:compose.more.yml"
SITE_NAME='a site' # with a name
URL="https://${DOMAIN}/$SITE_NAME"
SECRET_PASSWORD_VERSION=v1 # length=20 charset=hex
"""
EXPORTS = "export APP_CONF_VERSION=v2\nexport DB_VERSION=$APP_CONF_VERSION\nf() {\n  echo\n}\n"
COMPOSE = """version: "3.8"
x-common: &common
  logging: {driver: json-file}
services:
  app:
    <<: *common
    image: nginx:${TAG:-1.27}
    command: ["nginx", "-g", "daemon off;"]
    entrypoint: /docker-entrypoint.sh
    environment:
      - DOMAIN
      - URL=https://${DOMAIN:?is needed}/
    env_file: more.env
    ports: ["8080:80", {target: 443, published: 8443, protocol: tcp, mode: host}, "9000-9002:9000-9002/udp"]
    volumes: ["files:/srv:ro", {type: volume, source: data, target: /data, volume: {nocopy: true}}, "./x:/y", "/cache"]
    networks: {proxy: {aliases: [a]}, internal: }
    configs: [{source: conf, target: /etc/x, mode: 0440}]
    secrets: [password]
    depends_on: [db]
    healthcheck: {test: [CMD, "true"], interval: 10s, retries: 3}
    stop_grace_period: 1m30s
    ulimits: {nofile: {soft: 1, hard: 2}}
    deploy:
      replicas: 1
      resources: {limits: {memory: 512M, cpus: "0.5"}, reservations: {memory: 20M}}
      update_config: {failure_action: rollback, order: start-first, delay: 5s}
      restart_policy: {condition: on-failure, max_attempts: 3}
      labels:
        - "traefik.enable=true"
        - "traefik.http.routers.${STACK_NAME}.rule=Host(`${DOMAIN}`)"
        - "traefik.http.services.${STACK_NAME}.loadbalancer.server.port=80"
        - "coop-cloud.${STACK_NAME}.version=1.0.0+1.27"
        - "backupbot.backup=true"
        - "backupbot.backup.path=/srv"
  db:
    image: postgres:16@sha256:0000000000000000000000000000000000000000000000000000000000000000
    volumes: ["rows:/var/lib/postgresql/data"]
    deploy:
      labels: {backupbot.backup: "true", backupbot.backup.pre-hook: "dump > /x.sql", backupbot.backup.volumes.rows.path: x.sql}
volumes: {files: , data: {driver: local, driver_opts: {type: none}}, rows: {external: true, name: rows}}
networks: {proxy: {external: true}, internal: {driver: overlay, ipam: {config: [{subnet: 10.1.0.0/24}]}}}
configs: {conf: {name: "${STACK_NAME}_conf_${APP_CONF_VERSION}", file: conf, template_driver: golang}}
secrets: {password: {external: true, name: "${STACK_NAME}_password_${SECRET_PASSWORD_VERSION}"}}
"""
#: The same as a value, of which parts may be anything.
STACK = {
    "services": {
        "app": {
            "image": "nginx:1",
            "labels": {"a": "b"},
            "ports": ["80:80"],
            "volumes": ["a:/a"],
            "networks": {"proxy": {}},
            "command": ["x"],
            "secrets": ["s"],
            "configs": [{"source": "c", "target": "/c"}],
            "environment": {"A": "1"},
            "healthcheck": {"test": ["CMD", "x"]},
            "ulimits": {"nproc": 5},
            "stop_grace_period": "5s",
            "tmpfs": ["/t"],
            "depends_on": ["db"],
            "sysctls": {"a": 1},
            "cap_add": ["X"],
            "deploy": {
                "replicas": 1,
                "labels": ["backupbot.backup=true", "traefik.http.routers.x.rule=Host(`x`)"],
                "mode": "replicated",
                "resources": {"limits": {"memory": "1G", "cpus": "1"}},
                "update_config": {"delay": "5s"},
                "placement": {"constraints": ["a==b"]},
                "restart_policy": {"condition": "any"},
            },
        }
    },
    "volumes": {"a": {"driver": "local"}},
    "networks": {"proxy": {"external": True}},
    "configs": {"c": {"file": "x", "name": "c1"}},
    "secrets": {"s": {"external": True, "name": "s1"}},
}
ENV = {"STACK_NAME": "site_1", "DOMAIN": "site.example.org", "APP_CONF_VERSION": "v1", "SECRET_PASSWORD_VERSION": "v1", "A": "a"}
IDENTITY = Identity(
    instance="0" * 16,
    kind="run",
    recipe="site",
    owner="20260617T050314Z-site-a1b2c3",
    stack="site_1",
    domain="site.example.org",
    version="1.0.0+1.27",
    commit="0" * 40,
)
#: What doubles with each line: 500 bytes of it would be 32 GiB.
BOMB = "A0=aaaaaaaaaaaaaaaa\n" + "".join(f"A{n + 1}=$A{n}$A{n}\n" for n in range(34))
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}, *a{n}]\n" for n in range(12)) + COMPOSE
MERGES = (
    "x0: &x0 {"
    + ", ".join(f"k{n}: v" for n in range(9))
    + "}\n"
    + "".join(f"x{n + 1}: &x{n + 1} {{<<: [{', '.join([f'*x{n}'] * 10)}]}}\n" for n in range(12))
    + COMPOSE
)


@target(
    texts([SAMPLE, EXPORTS]),
    BOMB,
    "SECRET_A_VERSION=v1 # length=²",
    f"SECRET_A_VERSION=v1 # length={'9' * 5000}",
    "export A=" + "${A}" * 9000,
    "A='" + "\\" * 9000,
)
def env(text: str) -> None:
    def whole() -> None:
        found = parse_env(text, {"DOMAIN": "a.example.org"}, forced={"TYPE": "x:1", "SITE_NAME": "$DOMAIN $SITE_NAME"})
        assert parse_env(render_env(found)) == found, "written again it is the same"
        for rule in secret_rules(text, found).values():
            generate_secret(rule, lambda characters: characters[0])

    of_each(whole, lambda: parse_exports(text, ENV))


@target(
    texts(["$A ${A} ${A:-b} ${A-b} ${A:?no} ${A?no} $$ ${A:+c}", "a ${B:-${A:-${STACK_NAME}}}"]),
    "${" * 9000,
    "${A:-" * 3000 + "}" * 3000,
)
def interpolation(text: str) -> None:
    with own_errors_only():
        interpolate_text(text, ENV, where="compose.yml")


@target(
    texts([COMPOSE]),
    ALIASES,
    MERGES,
    "services: {app: {image: a, labels: 5}}",
    "services: {app: {image: a, deploy: [a]}}",
    "? [a, b]\n: c\nservices: {app: {image: a}}",
    "services: {app: {image: !!int ''}}",
    "services: !!set {app}",
    "services: {app: {image: !!timestamp '9999-99-99'}}",
    "services: {app: {image: !!float '.'}}",
    "services: {app: {image: !!bool maybe}}",
    "services: {app: {image: !!binary 'é'}}",
    "services: {app: {image: *nobody}}",
    "services:\n  app: &a\n    <<: *a\n    image: x",
    f"services: {{app: {{image: {'9' * 5000}}}}}",
    f"a: {'[' * 5000}",
    f"a: {'[' * 400}{'b, ' * 20000}",
    "services: {app: {image: a, ports: true, deploy: {resources: 1}}}",
    "services: {app: {image: a, volumes: ['C:x/../../..:/host', 'é:/x']}}",
    "\0",
    "services: {1: {image: a}, null: {image: b}, [1]: {image: c}}",
    "services: {app: {image: a, deploy: {labels: [1, null, {a: b}]}}}",
    f"services: {{app: {{image: a, deploy: {{resources: {{limits: {{memory: '{'9' * 400}'}}}}}}}}}}",
    f"services: {{app: {{image: a, deploy: {{labels: {{traefik.http.services.a.loadbalancer.server.port: '{'9' * 5000}'}}}}}}}}",
    "services: {app: {image: a, deploy: {labels: {traefik.http.services.a.loadbalancer.server.port: '²'}}}}",
    f"services: {{app: {{image: a, ports: [{{target: '{'9' * 5000}', published: '٣'}}]}}}}",
)
def compose(text: str) -> None:
    with own_errors_only():
        played(lambda: resolve([("compose.yml", text)], ENV))


@target(misshapen(STACK).map(json.dumps))
def whole_stack(text: str) -> None:
    compose(text)


_NAMES = defaultdict[str, str](lambda: "site_1_v")


def played(made: Callable[[], Any]) -> None:
    """All that is asked of a stack: by policy, deployment, backup, lint and `canonq enrol`."""
    stack = made()
    plain, _ = with_own(stack)

    def enrolled() -> str:
        told = inspect(stack, secret_rules(SAMPLE, ENV), ENV, name="site_1")
        text = enrolment_text("site", ADDRESSES[0], told, version="1.0.0+1")
        assert set(tomllib.loads(text)) <= {"upstream", "weight", "health", "env", "secrets"}
        return text

    facts = LintFacts("1.0.0+1.27", stack, "site_1", ENV, SAMPLE, {"x": "0"}, stack, {}, True)
    of_each(
        lambda: refusals(stack, allow=["port:80-90"], name="site_1", domain="site.example.org"),
        lambda: json.dumps(
            deployable(plain, IDENTITY, ENV, folder="/srv/tree", volume_names=defaultdict(lambda: "site_1_v")).file
        ),
        lambda: backup_plan(stack),
        lambda: [(asked_memory(one), _routed_port(one)) for one in stack.services.values()],
        lambda: lint(facts),
        enrolled,
    )


@target(
    st.tuples(texts(["compose.yml:compose.more.yml", "compose.yml"]), texts([COMPOSE]), texts([EXPORTS])),
    ("../x", COMPOSE, ""),
    ("a\0b", COMPOSE, ""),
    ("a" * 5000, COMPOSE, ""),
    (":".join(["compose.yml"] * 3000), COMPOSE, ""),
    ("compose.yml", COMPOSE, BOMB.replace("A", "export A")),
)
def compose_file(given: tuple[str, str, str]) -> None:
    listed, text, exports = given
    files = {"compose.yml": text, "compose.more.yml": "services: {app: {deploy: {replicas: 2}}}", "abra.sh": exports}
    with own_errors_only():
        own = app_env(f"COMPOSE_FILE={listed}\n", named="site:1", domain="site.example.org", stack="site_1")
        played(lambda: assemble(files.get, own).stack)


_PARTS = st.sampled_from(["a", "b", "c", "..", ".", "d\udcfe", "d\udcff", "\n", "a\n", ""])
_PATHS = st.lists(_PARTS, min_size=1, max_size=5).map("/".join)


@target(
    st.dictionaries(_PATHS, _PATHS | words, min_size=1, max_size=8),
    {f"l{n}": f"l{n + 1}/l{n + 1}" for n in range(40)},
    {"a": "a"},
    {"a": "../" * 2000},
)
def links(found: dict[str, str]) -> None:
    for path in found:
        stays_inside(path, found)


# -- what other programs send -------------------------------------------------------------------------------------------------

PUSH = {
    "ref": "refs/tags/1.0.0+1",
    "repository": {"full_name": "a/b", "clone_url": ADDRESSES[0], "ssh_url": ADDRESSES[1], "html_url": "x", "git_url": "y"},
}
_ENROLLED = [parse_enrolment("site", f"upstream = '{text}'", where="x") for text in ADDRESSES]


@target(
    misshapen(PUSH).map(in_json)
    | st.binary(max_size=200)
    | texts([json.dumps(PUSH)]).map(lambda t: t.encode(errors="surrogatepass")),
    DEEP,
    b'{"repository": {"clone_url": "http://["}}',
    b'{"repository": [["clone_url", 1]]}',
    b'{"repository": 1' + b"0" * 5000 + b"}",
)
def webhook(body: bytes) -> None:
    headers = {"X-Gitea-Signature": hmac.new(b"secret", body, "sha256").hexdigest(), "X-Gitea-Event": "push"}
    with own_errors_only():
        if (told := read(headers, body, "secret")) is not None:
            recipes_of(told, _ENROLLED)
    with own_errors_only():
        read({"x-hub-signature-256": body.decode("latin-1"), "X-Gitea-Event": "push"}, body, "secret")


PULL = {"number": 7, "title": "a", "state": "open", "head": {"sha": "0" * 40}, "base": {"ref": "main"}, "body": "x"}
FORGE = {"version": "1.22.0", "full_name": "a/b", "empty": False, "archived": True, "items": [PULL], "message": "no"}


class _Answers:
    """Stands for a session with a forge that says one thing, whatever it is asked."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.sockets: list[Any] = []
        self._answer = requests.Response()
        self._answer.status_code = status
        self._answer.headers.update(headers)
        self._answer.raw = io.BytesIO()
        self._answer.url = "https://git.example.org/api/v1/version"
        self._answer.iter_content = lambda size: iter([body])  # type: ignore[method-assign,assignment,misc]

    def request(self, *_: Any, **__: Any) -> requests.Response:
        return self._answer


@target(
    st.tuples(
        st.sampled_from([200, 200, 200, 301, 403, 404, 422, 500]),
        misshapen(FORGE).map(in_json) | misshapen([PULL]).map(in_json) | st.binary(max_size=100),
        texts(["3", "Wed, 21 Oct 2026 07:28:00 GMT"]),
    ),
    (200, b'["a"]', ""),
    (200, b'{"version": [1]}', ""),
    (200, b'[{"number": Infinity, "head": {"sha": "0"}, "base": {"ref": "m"}}]', ""),
    (200, b'[{"number": 1e999, "head": {"sha": "0"}, "base": {"ref": "m"}}]', ""),
    (200, b"[1]", "inf"),
    (500, b"[]", "1" * 400),
    (200, DEEP, ""),
    (404, DEEP, ""),
    (301, b"", "http://["),
)
def forge(given: tuple[int, bytes, str]) -> None:
    status, body, more = given
    headers = {"Retry-After": more, "Location": more, "Link": f"<{more}>; rel=next" if "\n" not in more else ""}
    asked = HttpForge("https://git.example.org", None, total=0.0, backoff=0.0)
    asked._session = cast("Session", _Answers(status, headers, body))
    of_each(
        asked.version,
        lambda: asked.hosted("a/b"),
        lambda: asked.open_pulls("a/b"),
        lambda: asked.close("a/b", 1),
        lambda: asked.comment_once("a/b", 1, "mark", "text"),
    )
    wait = retry_after(asked._session.request("GET", ""))
    assert wait >= 0
    assert not math.isnan(wait)


@target(
    texts(
        [
            "ref: refs/heads/main\tHEAD\n"
            + "0" * 39
            + "1\tHEAD\n"
            + "0" * 39
            + "1\trefs/heads/main\n"
            + "1" * 40
            + "\trefs/tags/1.0.0+1\n"
        ]
    )
)
def listing(text: str) -> None:
    with own_errors_only():
        _read_listing(text.split("\n"), "upstream", None)


@target(
    misshapen({"site": {"repository": ADDRESSES[0], "description": "x", "category": "Apps"}}).map(in_json), DEEP, b"[]", b"\0"
)
def catalogue(text: bytes) -> None:
    with own_errors_only():
        find(text, "site", where="the list")


@target(
    st.tuples(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 2**40))
    | st.tuples(
        st.sampled_from(
            [b"SQLite format 3\0" + b"\xff" * 90, b"-- PostgreSQL database dump", b"PK\x03\x04", b"\0" * 257 + b"ustar"]
        ),
        st.binary(max_size=50),
        st.integers(0, 4096),
    )
)
def dumps(given: tuple[bytes, bytes, int]) -> None:
    closed_to_us(given[0]), dump_problem(*given)


# -- what canonq itself has written, after a disk has failed -----------------------------------------------------------------

RECORD = {
    "recipe": "site",
    "version": "1.0.0+1",
    "commit": "0" * 40,
    "status": "idle",
    "ts": "20260617T050314Z",
    "schema": 2,
    "fence": 3,
    "images": {"app": "sha256:0"},
    "volumes": ["a"],
    "run": "20260617T050314Z-site-a1b2c3",
    "level": 5,
    "previous": {"version": "0.9.0+1"},
    "snapshot": {"path": "warm/site/canonicals/x/volumes.tar.zst", "bytes": 1, "checksum": "sha256:" + "0" * 64},
    "rolled_back": [{"by": "a", "at": "20260617T050314Z", "reason": "b", "version": "1.1.0+1", "commit": "1" * 40, "fence": 2}],
}
JOURNAL = {
    "sync": {"attempts": 1, "started": "x", "result": {"recipe": "site"}, "outcome": {"recipe": "site", "outcome": "skip"}}
}
SWEEP = {
    "recipes": ["site"],
    "enrolled": ["site"],
    "named": True,
    "fences": {"site": 3},
    "broken": {},
    "failed": "x",
    "tries": [],
    "resent": 1,
}
FAILURES = '{"at": "20260617T050314Z", "cause": "x", "detail": "y"}\n'
OWN = [
    RECORD,
    JOURNAL,
    SWEEP,
    {"site": "0" * 40},
    {"outcomes": [{"recipe": "site", "outcome": "promoted", "seconds": 1}], "sweep": "x"},
]
_DAMAGED = (
    misshapen(OWN[0]).map(in_json)
    | st.sampled_from(OWN).flatmap(misshapen).map(in_json)
    | texts([json.dumps(one) for one in OWN] + [FAILURES]).map(lambda text: text.encode(errors="surrogatepass"))
    | st.binary(max_size=100)
)
BROKEN_FILES = (
    DEEP,
    b"[]",
    b"1",
    b"null",
    b'"x"',
    b"",
    b"\0" * 100,
    b"{",
    b'{"path": 1}',
    b"[1]\n[2]\n",
    b'{"a": NaN}',
    b'{"a": "\\ud800"}',
)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder for one case, in memory where there is such a place."""
    with tempfile.TemporaryDirectory(prefix="canonq-", dir=memory.place()) as made:
        yield Path(made)


_DISK = FileSystem("/", ("state", "volumes", "images"), 10**12)


def put(path: Path, content: bytes) -> None:
    """Write a damaged file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@target(_DAMAGED, *BROKEN_FILES)
def records(content: bytes) -> None:
    with folder() as state:
        registry = Registry(state / "warm")
        kept = state / "warm" / "site" / "canonicals" / "20260617T050314Z-site-a1b2c3"
        for name in ("record.json", "in-force.json", "secrets.json", "manifest.jsonl", "volumes.tar.zst"):
            put(kept / name, content)
        put(state / "warm" / "site" / "canonical.json", content)
        good = Canonical.model_validate(RECORD)
        place = str(kept / "volumes.tar.zst")
        assert good.snapshot is not None
        good = good.model_copy(update={"snapshot": good.snapshot.model_copy(update={"path": place})})
        of_each(
            lambda: registry.read("site"),
            lambda: registry.generations("site"),
            lambda: registry.newest_fence("site"),
            lambda: registry.last_in_force("site"),
            lambda: registry.half_built("site"),
            registry.recipes,
            lambda: registry.secrets(good),
        )


@target(_DAMAGED, *BROKEN_FILES, b'{"path": "volumes/a", "x": 1}\n5\n', b'{"path": "x", "sha256": 5}')
def manifests(content: bytes) -> None:
    import hashlib

    with folder() as kept:
        put(kept / "manifest.jsonl", content)
        put(kept / "volumes" / "a" / "f", b"x")
        summed = f"sha256:{hashlib.sha256(content).hexdigest()}"
        for kind, place in (("tree", kept / "volumes"), ("archive", kept / "manifest.jsonl")):
            given = {"path": str(place), "bytes": len(content), "checksum": summed, "kind": kind, "manifest": summed}
            of_each(lambda given=given: snapshots.problem_of(Snapshot.model_validate(given)))  # type: ignore[misc]
        look_through(kept / "manifest.jsonl", ["mark"], dumps=True)


@target(
    _DAMAGED,
    *BROKEN_FILES,
    json.dumps({"sync": [1]}).encode(),
    b'{"enrolled": [[], "site"]}',
    b'{"enrolled": 5}',
    b'{"enrolled": ["site"], "findings": 1}',
    json.dumps({"sync": {"attempts": 1, "result": 5}}).encode(),
)
def journal(content: bytes) -> None:
    sweep, run = "20260617T030000Z-a1b2c3", "20260617T050314Z-site-a1b2c3"
    with folder() as state:
        sweeps, runs, root = Sweeps(state / "sweeps"), Runs(state / "runs"), state / "sweeps" / sweep
        for name in (
            "sweep.json",
            "steps/site.json",
            "resent/site.json",
            "outcomes/site.json",
            "retries/site.json",
            "discovered.json",
        ):
            put(root / name, content)
        for name in ("nights.json", "enrolled.json"):
            put(state / "sweeps" / name, content)
        put(state / "calls" / "a-task" / "sweep.json", content)
        for name in ("run.json", "promotions.jsonl", "number"):
            put(state / "runs" / "site" / run / name, content)
        put(state / "runs" / "site" / "reds.json", content)
        steps, world = sweeps.journal(sweep), cast("Any", SimpleNamespace(sweeps=sweeps, runs=runs))
        of_each(
            lambda: steps.result("site", "sync"),
            lambda: steps.outcome("site", "sync"),
            lambda: steps.begin("site", "sync", "x"),
            lambda: steps.resent("site"),
            lambda: sweeps.outcomes(sweep),
            lambda: sweeps.read(sweep),
            lambda: sweeps.fence_at(sweep, "site"),
            lambda: sweeps.tries(sweep, "site"),
            lambda: sweeps.calls.sweep_of("a-task"),
            lambda: sweeps.calls.sweep_for("a-task", "new"),
            sweeps.nights.claimed,
            lambda: sweeps.nights.claim("a night", "a-task"),
            sweeps.last_enrolled,
            lambda: sweeps.closed(sweep),
            lambda: summary(world, sweep),
            lambda: runs.verdicts("site"),
            lambda: runs.unread_since("site", None),
            lambda: runs.failures("site", run),
            lambda: runs.note_failure("site", run, {"x": 1}),
            lambda: runs.reds("site", "1.0.0+1", "0" * 40, "x"),
        )
        put(root / "closed.json", content)
        of_each(lambda: sweeps.closed(sweep), sweeps.open_sweeps)


@target(_DAMAGED, *BROKEN_FILES)
def clones(content: bytes) -> None:
    with folder() as state:
        repos = GitRepos(state / "repos")
        for name in ("seen.json", "closed-pulls.json", "open-pulls.json", "repo.git/canonq.json"):
            put(state / "repos" / "site" / name, content)
        of_each(
            lambda: repos.known("site"),
            lambda: remembered(repos.remembered("site")),
            lambda: repos.closed_pulls("site"),
            lambda: repos.not_landed("site", "0" * 40),
        )
        for name in ("images/site.json", "disk/a.json", "disk/a"):
            put(state / name, content)
        of_each(
            PulledImages(state / "images").all,
            lambda: Budget(state / "disk", lambda: [_DISK], 0).disk(1),
        )


# -- tasks ----------------------------------------------------------------------------------------------------------------------

DECISION = {
    "recipe": "site",
    "action": "run",
    "reason": "x",
    "detail": "y",
    "version": "1.0.0+1",
    "commit": "0" * 40,
    "sweep": None,
}


@target(
    st.tuples(values | misshapen(DECISION), values, scalars),
    (5, None, None),
    ({"recipe": ["x"]}, [], "y"),
    ({}, {"recipe": 1}, 1),
)
def task_arguments(given: tuple[Any, Any, Any]) -> None:
    from canonq.core.records import Decision, Synced, Verdict
    from workers.tasks import _again, _read

    first, second, third = given
    for kind in (Synced, Decision, Verdict):
        of_each(lambda kind=kind: _read(first, kind))  # type: ignore[misc]
    of_each(lambda: recipe_of(first), lambda: _again(second))
    for name in ("canonq.sweep", "canonq.sync", "canonq.test", "canonq.promote", "canonq.decide"):
        for args, kwargs in (([first], {}), ([], {"decided": first, "proven": third}), ([third, second], None)):
            of_each(lambda n=name, a=args, k=kwargs: (recipe_given(n, a, k), route(n, a, k, {})))  # type: ignore[misc]
