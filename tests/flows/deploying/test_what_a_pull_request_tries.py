"""What the author of a pull request may try on this host, attack by attack: each is refused by name, or contained.

A ref's files lie as they would after its checkout, and go through `prepare`, the one way to a deployment. Trees that are an
attack by themselves are made as git objects, and written out as for a run.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from canonq.adapters.git.program import GitProgram
from canonq.adapters.git.tree import write_out
from canonq.adapters.processes.stopping import stoppable
from canonq.core.deployable import Identity
from canonq.core.enrolment import Tree, parse_enrolment
from canonq.core.errors import CanonqError, Fault, RecipeProblem, TimedOut
from canonq.core.records import Verdict
from canonq.core.upstream.pulls import status_of
from canonq.flows.deploying.appetite import Appetite
from canonq.flows.deploying.deployment import prepare
from canonq.flows.deploying.stages import Account, Deployment, Prepared
from canonq.flows.world import World
from canonq.ports import Ended
from tests.fakes import FakeEngine
from tests.support import ROOT

APP = "services:\n  app:\n    image: site:1\n"
OWN = "s-1.canonq.test"
PLACES = {"sample": ".env.sample", "abra": "abra.sh"}
CPU = 1.0  #: seconds of this processor that a case under 64 KiB may take


@dataclass
class Ref:
    """The files of a pull request, about to be deployed on a host with an enrolment of its recipe."""

    root: Path
    trusted: bool = False

    def __post_init__(self) -> None:
        for name in ("enrolment", "tree", "work"):
            (self.root / name).mkdir()

    def says(self, compose: str | bytes = APP, *, toml: str = "", **files: str) -> Prepared:
        """Put its files in place and prepare it; with `toml` in the enrolment."""
        for name, text in {"compose.yml": compose, **files}.items():
            content = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
            (self.root / "tree" / PLACES.get(name, name)).write_bytes(content)
        return self.prepared(toml)

    def prepared(self, toml: str = "", *, seconds: float = 600) -> Prepared:
        """Prepare what lies in its tree."""
        enrolment = parse_enrolment("site", f'upstream = "/x"\n{toml}', where="recipe.toml")
        identity = Identity("i", "run", "site", "o", "s-1", OWN, "ref-0123", "c" * 40)
        allow, given = (None, None) if self.trusted else (tuple(enrolment.refs.allow), tuple(enrolment.refs.secrets))
        tree, work = self.root / "tree", self.root / "work"
        app = Deployment(identity, enrolment, tree, work, Account(), allow=allow, given=given)
        world = cast(World, SimpleNamespace(checkout=SimpleNamespace(folder=lambda _: self.root / "enrolment")))
        return prepare(world, app, time.monotonic() + seconds)

    def service(self, body: str, top: str = "", **more: str) -> Prepared:
        """The same, with more said of its only service."""
        return self.says(f"{APP}    {body}\n{top}", **more)

    def steps(self, script: str) -> None:
        """The enrolment has install steps."""
        (self.root / "enrolment" / "install_steps.sh").write_text(script)


@pytest.fixture
def ref(tmp_path: Path) -> Ref:
    return Ref(tmp_path)


def refused(act: Callable[[], object]) -> CanonqError:
    """The error of what is refused; whatever it is, it takes no second of a processor."""
    began = time.process_time()
    with pytest.raises(CanonqError) as told:
        act()
    assert time.process_time() - began < CPU
    return told.value


def app_of(prepared: Prepared) -> dict[str, Any]:
    return dict(prepared.stack.file["services"]["app"])


# -- running code on the host ---------------------------------------------------------------------------------

ORDERS = (
    'BASH_ENV="$RECIPE_DIR/evil"', "LD_PRELOAD=/x.so", "PYTHONPATH=/evil", "DOCKER_HOST=tcp://evil", "GIT_SSH_COMMAND=evil",
    "PATH=/evil", "HOME=/evil", "SITE_NAME=mine", "ENV=/evil", "PERL5OPT=-Mevil", "NODE_OPTIONS=--require=/evil", "IFS=x",
    "http_proxy=http://evil", "GLIBC_TUNABLES=x", "CURL_CA_BUNDLE=/evil", "NODE_TLS_REJECT_UNAUTHORIZED=0", "TAPE=evil:x",
)  # fmt: skip
NAMES = {line.partition("=")[0] for line in ORDERS}
KEEPS_ENV = 'env -0 > "$APP_ENV.seen"; pwd > "$APP_ENV.where"\n'


def seen(ref: Ref) -> dict[str, str]:
    pairs = (ref.root / "work" / "app.env.seen").read_bytes().decode().split("\0")
    return dict(pair.partition("=")[::2] for pair in pairs if pair)


def test_no_word_of_its_env_is_in_the_environment_of_install_steps(ref: Ref) -> None:
    ref.steps(KEEPS_ENV)
    evil = "touch " + str(ref.root / "ran")
    prepared = ref.says(sample="\n".join(("RECIPE_DIR=/evil", *ORDERS)) + "\n", evil=evil)
    assert not (ref.root / "ran").exists()
    got = seen(ref)
    assert not (set(got) & (NAMES - {"PATH", "HOME"}))
    assert (got["PATH"], got["HOME"]) == (os.environ["PATH"], os.environ["HOME"])
    assert (got["RECIPE_DIR"], got["STACK_NAME"]) == (str(ref.root / "tree"), "s-1")
    assert prepared.filled.env["SITE_NAME"] == "mine", "the app itself has it"


def test_a_release_hands_its_env_on_but_for_orders_to_programs_and_they_are_told(tmp_path: Path) -> None:
    release = Ref(tmp_path, trusted=True)
    release.steps(KEEPS_ENV)
    prepared = release.says(sample="\n".join(ORDERS) + "\n")
    got = seen(release)
    assert got["SITE_NAME"] == "mine"
    assert not set(got) & (NAMES - {"SITE_NAME", "PATH", "HOME"})
    (note,) = prepared.deployment.account.notes
    assert note.startswith("env-not-handed-on: ")
    assert "'BASH_ENV'" in note


def test_what_install_steps_write_beside_the_releases_files_is_told_as_no_change(tmp_path: Path) -> None:
    release = Ref(tmp_path, trusted=True)
    release.steps("echo more >> compose.yml\necho mine > notes.txt\n")
    (note,) = release.says().deployment.account.notes
    assert note.startswith("install-steps-astray: install_steps.sh has written 'compose.yml' into the folder it runs in")


def test_install_steps_that_wait_for_an_answer_are_told_with_their_question(tmp_path: Path) -> None:
    release = Ref(tmp_path, trusted=True)
    release.steps("echo 'Shall I go on?'\nuntil [ \"$answer\" = yes ]; do read -r answer; sleep 0.1; done\n")
    with pytest.raises(
        CanonqError, match=r"tests/enrolment/install_steps.sh did not end within 1 s .*: Shall I go on\?\."
    ) as told:
        release.says(toml="[limits]\nhook = 1\n")
    assert (told.value.code, told.value.fault) == ("install-steps-failed", Fault.USER)
    with pytest.raises(TimedOut, match=r"whole run is over: .*Shall I go on\?") as over:
        release.prepared("[limits]\nhook = 600\n", seconds=1)
    assert over.value.fault is Fault.ENROLMENT


def test_modules_and_programs_in_its_tree_are_not_found_by_name(ref: Ref) -> None:
    ran = ref.root / "ran"
    ref.steps("python3 -c 'import json'\ncommand -v steps.sh && exit 9\ntest ! -e json.py\n" + KEEPS_ENV)
    ref.says(**{"json.py": f"open({str(ran)!r}, 'w')", "steps.sh": "x"})
    assert not ran.exists()
    assert (ref.root / "work" / "app.env.where").read_text().strip() == str(ref.root / "work")
    assert seen(ref)["PYTHONSAFEPATH"] == "1"


# -- reading files of the host --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".env.sample", "abra.sh", "compose.yml", "page.txt"])
@pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "down/../../secret"])
def test_a_link_out_of_its_tree_is_never_opened(ref: Ref, name: str, target: str) -> None:
    (ref.root / "secret").write_text("WORDS=of the host")
    (ref.root / "tree" / "down").mkdir()
    page = "    configs: [page]\nconfigs: {page: {file: page.txt}}\n" if name == "page.txt" else ""
    (ref.root / "tree" / "compose.yml").write_text(APP + page)
    (ref.root / "tree" / name).unlink(missing_ok=True)
    (ref.root / "tree" / name).symlink_to(target)
    assert refused(ref.prepared).code == "path-outside-recipe"


def test_docker_is_given_copies_and_opens_nothing_of_its_tree(ref: Ref) -> None:
    (ref.root / "tree" / "there").mkdir()
    (ref.root / "tree" / "link").symlink_to("there/page")
    (ref.root / "tree" / "there" / "page").write_text("hello")
    body = "configs: [page]\n    env_file: more.env\n"
    prepared = ref.service(body, "configs: {page: {file: link}}\n", **{"more.env": "A=b\n"})
    file = prepared.stack.file
    copy = Path(file["configs"]["page"]["file"])
    assert copy.read_text() == "hello", "a link that stays in the tree is gone along"
    (named,) = file["services"]["app"]["env_file"]
    for path in (copy, Path(named)):
        assert path.parent == ref.root / "work" / "files"
        assert not path.is_symlink()
    assert stat.S_IMODE((ref.root / "work" / "files").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "sample", ["COMPOSE_FILE=/etc/passwd\n", "COMPOSE_FILE=compose.yml:../x.yml\n", "COMPOSE_FILE=a/../../x\n"]
)
def test_a_compose_file_elsewhere_is_not_read(ref: Ref, sample: str) -> None:
    assert refused(lambda: ref.says(sample=sample)).code == "path-outside-recipe"


@pytest.mark.parametrize("name", ["a" * 5000, "a\\nb", "compose.yml/x", "."])
def test_a_compose_file_of_an_impossible_name_is_its_own_fault(ref: Ref, name: str) -> None:
    assert refused(lambda: ref.says(sample=f'COMPOSE_FILE="{name}"\n')).code == "compose-missing"


# -- mounting the host, and what else it has --------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        'volumes: ["C:x/../../..:/host"]', 'volumes: ["é:x/../../..:/host"]', 'volumes: ["/:/host"]',
        "volumes: [{type: bind, source: /, target: /h}]",
        'volumes: ["../../..:/host"]', 'volumes: ["~:/host"]', 'volumes: ["data:/x"]\n    devices: [/dev/sda]',
        "volumes: [{type: image, source: x, target: /h}]", "volumes: [{type: cluster, source: x, target: /h}]",
        "ulimits: {core: -1}", "ulimits: {rtprio: 99}", "ulimits: {nice: 40}", "ulimits: {RTPRIO: 99}",
        "privileged: true", "pid: host", "network_mode: host", "cap_add: [ALL]", "userns_mode: host", "oom_score_adj: -1000",
        'ports: ["8080:80"]', 'ports: [{target: 80, published: 0}]', "stop_grace_period: 87600h", "stop_grace_period: 3650000m",
        "deploy: {resources: {reservations: {generic_resources: [{discrete_resource_spec: {kind: gpu, value: 9}}]}}}",
        "security_opt: ['apparmor:unconfined']", "credential_spec: {file: x}", "cgroup_parent: /",
        "logging: {driver: syslog, options: {syslog-address: 'udp://10.0.0.1'}}",
    ],
)  # fmt: skip
def test_what_reaches_for_the_host_is_refused(ref: Ref, body: str) -> None:
    told = refused(lambda: ref.service(body))
    assert told.code in ("policy-refused", "compose-invalid"), told.code
    assert not (ref.root / "work" / "resolved.json").exists()


@pytest.mark.parametrize(
    "top",
    [
        "volumes: {v: {external: true, name: warm-site_data}}", "volumes: {v: {driver_opts: {type: none, o: bind, device: /}}}",
        "networks: {n: {external: true, name: live_backend}}", "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}",
        "networks: {n: {driver_opts: {com.docker.network.bridge.name: docker0}}}",
        "secrets: {s: {external: true, name: live_key_v1}}",
        "secrets: {s: {driver: plugin}}", "configs: {c: {external: {name: live_conf_v1}}}",
        "networks: {" + ", ".join(f"n{i}: {{}}" for i in range(21)) + "}",
    ],
)  # fmt: skip
def test_what_is_others_or_would_crowd_them_out_is_refused(ref: Ref, top: str) -> None:
    assert refused(lambda: ref.says(f"{APP}{top}\n")).code == "policy-refused"


# -- taking over routes and names of live apps ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("traefik.http.routers.s-1.rule", f"!Host(`{OWN}`)"),
        ("traefik.http.routers.s-1.Rule", "Host(`live.example.org`)"),
        ("Traefik.HTTP.Routers.s-1.RULE", "PathPrefix(`/`)"),
        ("traefik.http.routers.s-1.rule", f"hostregexp(`^.*$$|.{OWN}`)"),
        ("traefik.http.routers.s-1.rule", f"Host(`{OWN}`) || PathPrefix(`/`)"),
        ("traefik.http.routers.s-1.rule", f"Host(`{OWN}`) && !Path(`/`) || ClientIP(`0.0.0.0/0`)"),
        ("traefik.http.routers.s-1.rule", f"(Host(`{OWN}`) || !Path(`/x`))"),
        ("traefik.http.routers.s-1.rule", f"Host(`{OWN}`,`live.example.org`)"),
        ("traefik.http.routers.s-1.rule", f"Host(`live.example.org/.{OWN}`)"),
        ("traefik.http.routers.s-1.service", "api@internal"),
        ("traefik.http.routers.s-1.service", "live_app@swarm"),
        ("traefik.http.routers.s-1.middlewares", "s-1-own,auth@file"),
        ("traefik.http.routers.s-1.tls.domains[0].main", "live.example.org"),
        ("traefik.http.routers.live.rule", f"Host(`{OWN}`)"),
        ("traefik.http.services.s-1.loadbalancer.server.url", "http://127.0.0.1:8080"),
        ("traefik.http.services.s-1.loadbalancer.servers[0].url", "http://169.254.169.254"),
        ("traefik.http.middlewares.s-1.forwardauth.address", "http://10.0.0.1/"),
        ("traefik.http.middlewares.s-1.basicauth.usersfile", "/etc/passwd"),
        ("traefik.http.middlewares.s-1.basicauth.users", f"a:$$2y$$31$${'x' * 53}"),
        ("traefik.http.middlewares.s-1.basicauth.users", f"a:{{SHA}}{'x' * 28},b:$$2y$$31$${'x' * 53}"),
        ("traefik.http.middlewares.s-1.basicauth.users", ",          ".join([f"a:{{SHA}}{'x' * 28}"] * 51) + "!"),
        ("traefik.http.middlewares.s-1.retry.attempts", "999999999"),
        ("traefik.http.middlewares.s-1.plugin.evil.x", "y"),
        ("traefik.http.middlewares.s-1.chain.middlewares", "live-auth"),
        ("traefik.http.middlewares.s-1.ratelimit.redis.endpoints", "10.0.0.1:6379"),
        ("traefik.http.middlewares.s-1.buffering.memrequestbodybytes", "99999999999"),
        ("traefik.http.routers.s-1@file.rule", f"Host(`{OWN}`)"),
        ("traefik.tcp.routers.s-1.rule", "HostSNI(`*`)"),
        ("traefik.udp.routers.s-1.entrypoints", "dns"),
        ("traefik.docker.network", "live_backend"),
        ("traefik.something.new", "x"),
        ("ofelia.job-run.x.volume", "/:/host"),
        ("caddy", "live.example.org"),
    ],
)
def test_labels_that_would_take_over_anything_are_refused(ref: Ref, label: str, value: str) -> None:
    labels = json.dumps({label: value})
    for where in (f"deploy: {{labels: {labels}}}", f"labels: {labels}"):
        assert refused(lambda where=where: ref.service(where)).code == "policy-refused"  # type: ignore[misc]


def test_a_host_that_is_allowed_does_not_let_another_in_beside_it(ref: Ref) -> None:
    rule = json.dumps({"traefik.http.routers.s-1.rule": "Host(`ours.example.org`, `live.example.org`)"})
    toml = '[refs]\nallow = ["route:ours.example.org"]\n'
    told = refused(lambda: ref.service(f"deploy: {{labels: {rule}}}", toml=toml))
    assert "live.example.org" in told.what
    assert "ours" not in told.what


def test_the_label_that_every_recipe_has_and_a_run_leaves_empty_passes(ref: Ref) -> None:
    label = json.dumps(["traefik.http.routers.${STACK_NAME}.tls.certresolver=${LETS_ENCRYPT_ENV}"])
    prepared = ref.service(f"deploy: {{labels: {label}}}", sample="LETS_ENCRYPT_ENV=production\n")
    assert app_of(prepared)["deploy"]["labels"]["traefik.http.routers.s-1.tls.certresolver"] == ""


def test_what_recipes_say_to_the_ingress_passes(ref: Ref) -> None:
    labels = {
        "traefik.enable": "true", "traefik.docker.network": "proxy",
        "traefik.http.routers.${STACK_NAME}.entrypoints": "web-secure",
        "traefik.http.routers.${STACK_NAME}.rule": "Host(`${DOMAIN}`,`w.${DOMAIN}`) && PathPrefix(`/`) || Host(`a.${DOMAIN}`)",
        "traefik.http.routers.${STACK_NAME}.tls.certresolver": "${LETS_ENCRYPT_ENV:-staging}",
        "traefik.http.services.${STACK_NAME}.loadbalancer.server.port": "80",
        "traefik.http.routers.${STACK_NAME}.middlewares": "${STACK_NAME}-redirect,${STACK_NAME}-headers",
        "traefik.http.middlewares.${STACK_NAME}-headers.headers.SSLForceHost": "true",
        "traefik.http.middlewares.${STACK_NAME}-redirect.redirectregex.regex": "^https://old/(.*)",
        "traefik.http.middlewares.${STACK_NAME}-auth.basicauth.users": f"a:$$2y$$05$${'x' * 53}, b:$$apr1$$salt$${'x' * 22}",
        "traefik.http.middlewares.${STACK_NAME}-retry.retry.attempts": "3",
        "coop-cloud.${STACK_NAME}.version": "1.0.0+1", "backupbot.backup": "true",
    }  # fmt: skip
    body = f"networks: [proxy, inner]\n    deploy: {{labels: {json.dumps([f'{key}={value}' for key, value in labels.items()])}}}"
    prepared = ref.service(body, "networks: {proxy: {external: true}, inner: {driver_opts: {encrypted: ''}}}\n")
    assert app_of(prepared)["deploy"]["labels"]["traefik.http.routers.s-1.rule"].startswith(f"Host(`{OWN}`")


@pytest.mark.parametrize("label", ["traefik.http.routers.s-1.tls.certresolver", "Traefik.HTTP.Routers.s-1.TLS.CertResolver"])
@pytest.mark.parametrize("place", ["deploy: {labels: LABELS}", "labels: LABELS"])
def test_no_certificate_is_ordered_in_the_operators_name(ref: Ref, label: str, place: str) -> None:
    body = place.replace("LABELS", json.dumps({label: "production"}))

    def resolver(prepared: Prepared) -> str:
        app = app_of(prepared)
        return str((app["deploy"]["labels"] if place.startswith("deploy") else app["labels"])[label])

    prepared = ref.service(body)
    assert resolver(prepared) == ""
    (note,) = prepared.deployment.account.notes
    assert note.startswith("certificate-not-ordered: app would have the ingress order certificates by 'production'")
    assert resolver(ref.prepared('[refs]\nallow = ["certresolver:production"]\n')) == "production"
    ref.trusted = True
    assert resolver(Ref.prepared(ref)) == "production"


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ({f"traefik.http.routers.s-1-{number}.rule": f"Host(`{OWN}`)" for number in range(51)}, "many-routers"),
        ({f"traefik.http.routers.s-1-{number}.tls": "true" for number in range(51)}, "many-routers"),
        (
            {
                f"traefik.http.routers.s-1-{one}.rule": f"Host(`{'`,`'.join(f'{two}.{one}.{OWN}' for two in range(40))}`)"
                for one in range(3)
            },
            "many-hosts",
        ),
    ],
    ids=["rules", "other labels", "hosts"],
)
def test_the_ingress_is_told_of_no_more_than_it_would_be_by_any_recipe(ref: Ref, labels: dict[str, str], word: str) -> None:
    told = refused(lambda: ref.service(f"deploy: {{labels: {json.dumps(labels)}}}"))
    assert (told.code, f'["{word}"]' in told.mend) == ("policy-refused", True), told
    ref.prepared(f'[refs]\nallow = ["{word}"]\n')
    fewer = dict(list(labels.items())[:-1])
    ref.service(f"deploy: {{labels: {json.dumps(fewer)}}}")


@pytest.mark.parametrize(
    "said",
    [
        "app: {image: 'x:1'}\n  db: {image: 'x:1', networks: [proxy]}\nnetworks: {proxy: {external: true}}",
        "app: {image: 'x:1'}\n  live_db: {image: 'x:1', networks: {p: {}}}\nnetworks: {p: {external: true, name: proxy}}",
        "app: {image: 'x:1'}\n  db: {image: 'x:1'}\nnetworks: {default: {external: {name: proxy}}}",
        "app: {image: 'x:1', networks: {proxy: {aliases: [live_db]}}}\nnetworks: {proxy: {external: true}}",
        "app: {image: 'x:1', networks: {proxy: {ipv4_address: 10.0.1.2}}}\nnetworks: {proxy: {external: true}}",
    ],
)
def test_no_name_of_another_apps_is_taken_in_the_network_of_all(ref: Ref, said: str) -> None:
    assert refused(lambda: ref.says(f"services:\n  {said}\n")).code == "policy-refused"


IN_PROXY = "networks: [proxy]\n    hostname: "
PROXY = "networks: {proxy: {external: true}}\n"


@pytest.mark.parametrize(
    "hostname",
    ["live_app", "mail.example.org", "'{{ .Node.Hostname }}'", '\'{{ if .Service.Name }}live_app{{ end }}\'',
     '\'{{ if false }}s-1{{ end }}live_app\'', '\'{{ index .Service.Labels "s-1" }}\'', "'{{/* s-1 */}}live_app'"],
)  # fmt: skip
def test_no_hostname_takes_the_name_of_another_app_in_the_network_of_all(ref: Ref, hostname: str) -> None:
    prepared = ref.service(IN_PROXY + hostname, PROXY)
    assert app_of(prepared)["hostname"] == "s-1-app"
    (note,) = prepared.deployment.account.notes
    assert note.startswith("hostname-replaced: app calls itself ")


@pytest.mark.parametrize(
    ("hostname", "kept"),
    [("${DOMAIN}", OWN), ("mail.${DOMAIN}", f"mail.{OWN}"), ("${STACK_NAME}_app", "s-1_app"), ("S-1", "S-1"),
     ("'{{ .Service.Name }}-{{ .Task.Slot }}'", "{{ .Service.Name }}-{{ .Task.Slot }}"),
     ("'{{.Task.Name}}.{{.Node.Hostname}}'", "{{.Task.Name}}.{{.Node.Hostname}}")],
)  # fmt: skip
def test_a_hostname_of_its_own_is_kept(ref: Ref, hostname: str, kept: str) -> None:
    prepared = ref.service(IN_PROXY + hostname, PROXY)
    assert app_of(prepared)["hostname"] == kept
    assert not prepared.deployment.account.notes


def test_a_hostname_is_kept_where_no_other_app_hears_it_or_the_enrolment_allows_it(ref: Ref, tmp_path: Path) -> None:
    assert app_of(ref.service("hostname: rabbit"))["hostname"] == "rabbit"
    toml = '[refs]\nallow = ["hostname:rabbit"]\n'
    assert (
        app_of(
            ref.service(
                f"{IN_PROXY}rabbit",
                PROXY,
            )
        )["hostname"]
        == "s-1-app"
    )
    assert app_of(ref.prepared(toml))["hostname"] == "rabbit"
    (tmp_path / "release").mkdir()
    release = Ref(tmp_path / "release", trusted=True)
    assert app_of(release.service(f"{IN_PROXY}rabbit", PROXY))["hostname"] == "rabbit"


def test_the_front_service_that_the_enrolment_names_may_be_there(ref: Ref) -> None:
    services = "app: {image: 'x:1', networks: [in]}, web: {image: 'x:1', networks: [proxy, in]}"
    both = f"services: {{{services}}}\nnetworks: {{proxy: {{external: true}}, in: {{}}}}\n"
    assert ref.says(both, toml='[health]\nservice = "web"\n').stack.networks == ("proxy",)


# -- values that a person gives ---------------------------------------------------------------------------------

WANTS = """services: {app: {image: 'x:1', secrets: [smtp, token]}}
secrets:
  smtp: {external: true, name: "${STACK_NAME}_smtp_v1"}
  token: {external: true, name: "${STACK_NAME}_token_v1"}
"""
GIVES = "[secrets]\nsmtp = {env = 'THE_SMTP'}\ntoken = {env = 'THE_TOKEN'}\n"


def test_the_operators_secrets_are_made_up_but_for_those_it_may_have(ref: Ref, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SMTP", "given-smtp")
    monkeypatch.setenv("THE_TOKEN", "given-token")
    made = ref.says(WANTS, toml=f"{GIVES}[refs]\nsecrets = ['token']\n")
    assert made.secrets["token"] == "given-token"
    assert made.secrets["smtp"] != "given-smtp"
    assert len(made.secrets["smtp"]) > 20
    assert [note.partition(":")[0] for note in made.deployment.account.notes] == ["secrets-made-up"]


def test_no_word_of_an_app_is_in_the_status_that_a_forge_shows() -> None:
    verdict = Verdict(
        recipe="site", version="v", commit="c" * 40, enrolment="e", ts="20260617T050314Z", verdict="red", level=1,
        reason="not-answering", detail="it said THE-SECRET", run="r1",
    )  # fmt: skip
    state, said = status_of(verdict)
    assert (state, said) == ("failure", "red, level 1: not-answering (run r1)")


# -- taking all of the host -------------------------------------------------------------------------------------


def test_what_it_is_given_has_limits_whatever_it_says(ref: Ref) -> None:
    body = """ports: ["80", "443"]
    logging: {driver: local, options: {max-size: 100g}}
    deploy:
      replicas: 100000
      resources: {limits: {memory: 900G}, reservations: {memory: 900G, cpus: '64'}}"""
    prepared = ref.service(body, toml='[resources]\nmemory = "1 GiB"\ncpus = 0.5\npids = 100\nlog = "1 MiB"\nreplicas = 2\n')
    app = app_of(prepared)
    assert app["deploy"]["resources"] == {"limits": {"memory": str(2**30), "cpus": "0.5", "pids": 100}}
    assert (app["deploy"]["replicas"], app["ports"]) == (2, [])
    assert app["logging"] == {"driver": "json-file", "options": {"max-size": "512k", "max-file": "2"}}
    assert [note.partition(":")[0] for note in prepared.deployment.account.notes] == ["resources-capped"] * 2


@pytest.mark.parametrize(("weight", "memory"), [("light", 4 * 2**30), ("heavy", 8 * 2**30)])
def test_a_release_has_limits_by_default_and_keeps_lower_ones_of_its_own(tmp_path: Path, weight: str, memory: int) -> None:
    release = Ref(tmp_path, trusted=True)
    body = """ports: ['80']
    logging: {driver: gelf}
    deploy: {resources: {limits: {cpus: '0.25'}, reservations: {memory: 50M}}}"""
    app = app_of(release.service(body, toml=f'weight = "{weight}"\n'))
    assert app["deploy"]["resources"]["limits"] == {"cpus": "0.25", "memory": str(memory), "pids": 4096}
    assert app["deploy"]["resources"]["reservations"] == {"memory": "50M"}
    assert app["logging"] == {"driver": "gelf"}
    assert app["ports"] == [{"target": 80, "protocol": "tcp"}]


def test_docker_is_not_kept_busy_by_checks_and_starts_without_end(ref: Ref) -> None:
    body = """healthcheck: {test: [CMD, x], interval: 1ms, timeout: 3s, start_interval: 2s}
    deploy: {restart_policy: {delay: 0s, condition: any}}"""
    app = app_of(ref.service(body))
    assert app["healthcheck"] == {"test": ["CMD", "x"], "interval": "1s", "timeout": "3s", "start_interval": "2s"}
    assert app["deploy"]["restart_policy"] == {"delay": "1s", "condition": "any"}


def test_many_services_and_endless_refusals_are_told_in_short(ref: Ref) -> None:
    many = "".join(f"  s{i}: {{image: 'x:1', privileged: true}}\n" for i in range(190))
    told = refused(lambda: ref.says(f"{APP}{many}"))
    assert len(told.what) < 5000
    assert "more." in told.what


PADS = '{{ printf "%1000000d" 1 }}'


@pytest.mark.parametrize(
    ("body", "top"),
    [
        (f"environment: {{A: '{PADS}'}}", ""), (f"hostname: '{PADS}'", ""), ("environment: [PADS]", ""),
        (f"volumes: ['data:/x/{PADS.replace(' ', '')}']", "volumes: {data: {}}\n"), ("env_file: pads", ""),
        ("volumes: ['data:/x']", f"volumes: {{data: {{labels: {{coop-cloud.x: '{PADS}'}}}}}}\n"),
        ("configs: [c]", "configs: {c: {file: pads, template_driver: golang}}\n"),
        ("secrets: [c]", "secrets: {c: {file: pads, template_driver: golang}}\n"),
    ],
)  # fmt: skip
def test_docker_is_given_nothing_to_fill_in_that_would_take_its_own_memory(ref: Ref, body: str, top: str) -> None:
    told = refused(lambda: ref.service(body, top, pads=f"A={PADS}\n", sample=f"PADS='{PADS}'\n" if "[PADS]" in body else ""))
    assert told.code == "policy-refused"
    assert '[refs] allow = ["template:printf"]' in told.mend
    ref.prepared('[refs]\nallow = ["template:printf"]\n')


ALL_LABELS = "{{.Service.Labels}}"
LARGE = "y" * 100_000
TEMPLATE = "configs: {c: {file: page, template_driver: golang}}\n"
VARIABLES = "environment: " + json.dumps({f"V{number}": ALL_LABELS * 20 for number in range(10)})


@pytest.mark.parametrize(
    ("body", "top", "page"),
    [
        (VARIABLES, "", ""),
        (f"environment: ['A={'{{ $$ }}' * 150}']", "", ""),
        (f"environment: ['A={'{{with $$a := .Service}}{{$$a}}{{end}}' * 60}']", "", ""),
        ("volumes: ['data:/x', 'data:/y']", f"volumes: {{data: {{labels: {{coop-cloud.x: '{ALL_LABELS * 90}'}}}}}}\n", ""),
        ("configs: [{source: c, target: /a}, {source: c, target: /b}]", TEMPLATE, '{{ env "LARGE" }}' * 199),
        ("configs: [c, d]", "configs: {c: {file: page, template_driver: golang}, d: {file: large}}\n", '{{ config "d" }}' * 70),
        ("configs: [c]", TEMPLATE, f'{{{{ $a := "{LARGE}" }}}}' + "{{$a}}" * 190),
    ],
    ids=["variables", "all there is", "by a name", "labels of a volume", "env", "a config", "a text"],
)
def test_what_docker_fills_in_for_all_of_a_stack_has_a_limit(ref: Ref, body: str, top: str, page: str) -> None:
    """No text has a word by which it grows, and each takes no more than 200 values; together they would take gigabytes."""
    labels = json.dumps({"coop-cloud.note": LARGE})
    said = f"{APP}    deploy: {{replicas: 5, labels: {labels}}}\n    {body}\n{top}"
    told = refused(lambda: ref.says(said, page=page, large=LARGE, sample=f"LARGE={LARGE[:60_000]}\n"))
    assert (told.code, "template:much" in told.mend) == ("policy-refused", True), told
    ref.prepared('[refs]\nallow = ["template:much"]\n')


def test_each_of_several_files_with_an_environment_is_looked_into(ref: Ref) -> None:
    for files in ("[bad.env, good.env]", "[good.env, bad.env]"):
        said = f"{APP}    env_file: {files}\n"
        told = refused(partial(ref.says, said, **{"bad.env": f"A={PADS}\n", "good.env": "B=1\n"}))
        assert (told.code, "template:printf" in told.mend) == ("policy-refused", True), told


@pytest.mark.parametrize(
    "files",
    [
        {"env": f"#{{{{/*\nA={PADS}\n#*/}}}}\n"},
        {"env": "  # {{/*\nB=1\n", "more": f"A={PADS}\n#*/}}}}\n"},
        {"env": f"B={{{{`\nA={PADS}\n#`}}}}\n"},
    ],
    ids=["a comment", "in several files", "a text"],
)
def test_remarks_of_an_environment_hide_nothing_of_what_lies_between_them(ref: Ref, files: dict[str, str]) -> None:
    """Docker reads such a file by its lines."""
    told = refused(lambda: ref.says(f"{APP}    env_file: [{', '.join(files)}]\n", **files))
    assert told.code == "policy-refused" and ("template:printf" in told.mend or "template:?" in told.mend), told


def test_remarks_of_an_environment_are_no_templates(ref: Ref) -> None:
    for remark in ("# {{{ passwords", "\ufeff# {{ range }}", " \u00a0\v# {{ printf }}"):
        assert ref.says(f"{APP}    env_file: [env]\n", env=f"{remark}\nA=1\n").stack
    for line in (f"\x1c#A={PADS}", f"A={PADS}", f"# x\n\u200b#A={PADS}"):
        told = refused(partial(ref.says, f"{APP}    env_file: [env]\n", env=f"{line}\n"))
        assert told.code == "policy-refused", line


def test_what_a_variable_becomes_is_what_a_config_takes_of_it(ref: Ref) -> None:
    """Swarm fills the environment in first, and the files after it."""
    labels = json.dumps({"backupbot.note": "y" * 90_000})
    body = f"environment: {{A: '{ALL_LABELS * 100}'}}\n    configs: [c]\n    deploy: {{labels: {labels}}}"
    told = refused(lambda: ref.service(body, TEMPLATE, page='{{ env "A" }}' * 100))
    assert (told.code, "template:much" in told.mend) == ("policy-refused", True), told


def test_a_text_that_many_mounts_name_is_read_once_and_one_without_end_is_none(ref: Ref) -> None:
    mounts = ", ".join(f"{{source: c, target: /c{number}}}" for number in range(2000))
    page = '{{""}}' * 5000
    assert ref.service(f"configs: [{mounts}]", TEMPLATE, page=page).stack.file["configs"]["c"]
    told = refused(lambda: ref.service("configs: [c]", TEMPLATE, page='{{""}}' * 100_000))
    assert "template:many" in told.mend


def test_many_templates_of_what_recipes_take_pass(ref: Ref) -> None:
    page = "".join(f'{{{{ env "V{i}" }}}} {{{{ secret "key" }}}}\n' for i in range(90))
    names = [f"c{i}" for i in range(20)]
    config = f"configs: {{{', '.join(f'{name}: {{file: page, template_driver: golang}}' for name in names)}}}\n"
    key = "secrets: {key: {external: true, name: s-1_key_v1}}\n"
    variables = ", ".join(f"V{i}: '{{{{ .Task.Name }}}}.{{{{ .Node.Hostname }}}}'" for i in range(90))
    body = f"environment: {{{variables}}}\n    secrets: [key]\n    configs: [{', '.join(names)}]\n    deploy: {{replicas: 5}}"
    sample = "SECRET_KEY_VERSION=v1\n" + "".join(f"N{i}={'x' * 1000}\n" for i in range(90))
    assert ref.service(body, config + key, page=page, sample=sample).stack.file["configs"]["c0"]


def test_what_recipes_have_swarm_fill_in_passes(ref: Ref) -> None:
    page = '{{ if eq (env "MODE") "1" }}{{ secret "key" }}{{ end }}'
    config = "configs: {c: {file: page, template_driver: golang}, plain: {file: other}}\n"
    body = "hostname: '{{ .Service.Name }}-{{ .Task.Slot }}'\n    configs: [c, plain]"
    assert ref.service(body, config, page=page, other=PADS).stack.file["configs"]["c"]["template_driver"] == "golang"


def doubled(first: str, line: str, count: int) -> str:
    return first + "".join(line.format(i, i - 1) for i in range(1, count))


@pytest.mark.parametrize(
    "said",
    [
        {"sample": doubled("V0=12345678\n", "V{0}=$V{1}$V{1}\n", 40)},
        {"sample": doubled("V0='12345678'\n", 'V{0}="$V{1}$V{1}"\n', 40)},
        {"abra": doubled("export V0=12345678\n", "export V{0}=$V{1}$V{1}\n", 40)},
        {"sample": "A=" + "x" * 60_000 + "\nB=" + "$A" * 2000 + "\n"},
        {"sample": "".join(f"N{i}=\n" for i in range(9000))},
        {"sample": "A=" + "x" * 60_000 + "\n", "compose": f"{APP}    command: {'$A' * 20_000}\n"},
        {"sample": "A=a\0b\n"},
    ],
    ids=["doubles", "doubles in quotes", "exports double", "one long value", "many names", "filled in", "no text"],
)  # fmt: skip
def test_words_that_double_end_early(ref: Ref, said: dict[str, str]) -> None:
    assert refused(lambda: ref.says(**said)).code in ("env-too-large", "env-unreadable")


def test_a_name_that_docker_does_not_take_is_told_at_once(ref: Ref) -> None:
    for top in (f"networks: {{{'a' * 40}.: {{}}}}\n", f"configs: {{{'a' * 40}.: {{file: compose.yml}}}}\n"):
        assert refused(lambda top=top: ref.says(f"{APP}{top}")).code == "name-invalid"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("sample", "last"),
    [
        ("".join(f"PASSWORD_{number}=long-enough-{number}\n" for number in range(4000)), "long-enough-3999"),
        (
            'KEY="' + "\\n".join(f"line {number} of it that is long" for number in range(1500)) + '"\n',
            "line 1499 of it that is long",
        ),
        ("A=" + "".join(f"://a:b{number:07}@" for number in range(3000)) + "\n", "b0002999"),
    ],
    ids=["names", "lines", "addresses"],
)
def test_values_without_end_that_would_be_looked_for_in_all_that_is_kept_are_refused(ref: Ref, sample: str, last: str) -> None:
    told = refused(lambda: ref.says(sample=sample))
    assert (told.code, '["many-values"]' in told.mend) == ("policy-refused", True), told
    for trusted in (False, True):
        ref.trusted = trusted
        masks = ref.prepared('[refs]\nallow = ["many-values"]\n').deployment.account.secrecy.masks
        assert last not in masks.text(f"it said {last} then"), "none is passed over"


def tenfold(line: str) -> str:
    """Ten names for each of those before, level by level."""
    lines = [line.format(0, ", ".join(["*a"] * 10))]
    lines += [line.format(level, ", ".join([f"*b{level - 1}"] * 10)) for level in range(1, 9)]
    return "".join(lines) + APP


ODD: dict[str, str | bytes] = {
    "aliases": "x-a: &a [a, a, a, a, a, a, a, a, a, a]\n" + tenfold("x-{0}: &b{0} [{1}]\n"),
    "deep": f"{APP}x-a: {'[' * 20_000}\n", "twice": f"{APP}    image: b:1\n", "int": f"{APP}x-a: !!int ''\n",
    "set": f"{APP}x-a: !!set {{a}}\n",
    "list as key": f"{APP}x-a: {{[a]: b}}\n", "time": f"{APP}x-a: !!timestamp x\n", "bytes": f"{APP}x-a: !!binary YQ==\n",
    "pairs": f"{APP}x-a: !!pairs [a: b]\n", "labels": f"{APP}    labels: 5\n", "deploy": f"{APP}    deploy: [a]\n",
    "nul": f'{APP}    command: "a\\0"\n', "surrogate": f'{APP}    command: "\\ud800"\n',
    "huge": f"{APP}x-a: 0x{'f' * 9000}\n", "ports": f"{APP}    ports: [{', '.join(['1-65535'] * 900)}]\n",
    "services": "services:\n" + "".join(f"  s{i}: {{image: 'a:1'}}\n" for i in range(900)), "latin-1": b"services: {\xff: {}}\n",
}  # fmt: skip


@pytest.mark.parametrize("compose", list(ODD))
def test_compose_files_that_would_break_or_stop_a_reader_are_its_own_fault(ref: Ref, compose: str) -> None:
    told = refused(lambda: ref.says(ODD[compose]))
    assert isinstance(told, RecipeProblem)
    assert told.code in ("compose-invalid", "not-text")


def test_merge_keys_that_multiply_take_no_time(ref: Ref) -> None:
    """Readers of before 6.0.4 make ten times as much of each level, and are stopped; those of today bring each key in once."""
    began = time.process_time()
    with contextlib.suppress(RecipeProblem):
        ref.says("x-a: &a {" + ", ".join(f"k{i}: v" for i in range(10)) + "}\n" + tenfold("x-{0}: &b{0} {{<<: [{1}]}}\n"))
    assert time.process_time() - began < CPU


def test_a_number_that_is_filled_in_is_one_that_docker_has(ref: Ref) -> None:
    for number in ("0" + "7" * 60_000, "9" * 5000, "nan", "1e400"):
        said = f"{APP}    deploy: {{update_config: {{max_failure_ratio: $N, parallelism: $N}}}}\n"
        assert refused(lambda said=said, number=number: ref.says(said, sample=f"N={number}\n")).code == "compose-invalid"  # type: ignore[misc]


@pytest.mark.parametrize("name", ["compose.yml", ".env.sample", "abra.sh", "page"])
def test_files_that_are_data_are_refused_before_they_are_read_whole(ref: Ref, name: str) -> None:
    (ref.root / "tree" / "compose.yml").write_text(f"{APP}    configs: [page]\nconfigs: {{page: {{file: page}}}}\n")
    (ref.root / "tree" / "page").touch()
    with (ref.root / "tree" / name).open("wb") as file:
        file.truncate(1 << 34)
    assert refused(ref.prepared).code == "file-too-large"


def test_a_file_named_often_is_read_within_the_runs_time(ref: Ref) -> None:
    told = refused(lambda: ref.says(sample=f"COMPOSE_FILE={':'.join(['compose.yml'] * 300)}\n"))
    assert "at most 50" in told.what
    (ref.root / "tree" / ".env.sample").unlink()
    with pytest.raises(TimedOut):
        ref.prepared(seconds=-1)


# -- trees ------------------------------------------------------------------------------------------------------


class Objects:
    """A bare clone whose trees are made of objects, of any names."""

    def __init__(self, folder: Path) -> None:
        self.clone = folder / "repo.git"
        subprocess.run(["git", "init", "-q", "--bare", str(self.clone)], check=True)

    def git(self, *words: str, said: bytes = b"") -> str:
        """A command of git's in it; what it answers."""
        env = {
            "PATH": os.environ["PATH"],
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a",
        }
        done = subprocess.run(["git", "-C", str(self.clone), *words], input=said, env=env, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", said=content)

    def tree(self, *entries: tuple[str, bytes, str]) -> str:
        """A tree of (mode, name, object)."""
        lines = [
            b"%s %s %s\t%s" % (mode.encode(), b"tree" if mode == "040000" else b"blob", of.encode(), name)
            for mode, name, of in entries
        ]
        return self.git("mktree", "-z", said=b"\0".join(lines) + b"\0")

    def write(self, tree: str, folder: Path) -> None:
        """Write it out as for a run."""
        write_out(GitProgram(), self.clone, self.git("commit-tree", tree, "-m", "x"), folder, Tree())


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path)


def test_links_with_nearly_one_name_are_each_judged(objects: Objects, tmp_path: Path) -> None:
    out, here = objects.blob(b"/"), objects.blob(b".")
    tree = objects.tree(("120000", b"d\xfe", out), ("120000", b"d\xff", here))
    assert refused(lambda: objects.write(tree, tmp_path / "out")).code == "unsafe-tree"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", [b"/etc\n", b"..\n/x\n/../../..", b"a/../..", b"\xff/../..", b"x\n/../../etc"])
def test_a_link_is_judged_by_every_byte_that_git_stored(objects: Objects, tmp_path: Path, target: bytes) -> None:
    tree = objects.tree(("120000", b"link", objects.blob(target)))
    assert refused(lambda: objects.write(tree, tmp_path / "out")).code == "unsafe-tree"


def test_folders_deep_in_each_other_are_never_written(objects: Objects, tmp_path: Path) -> None:
    top = objects.tree(("100644", b"f", objects.blob(b"x")))
    for _ in range(70):
        top = objects.tree(("040000", b"d", top))
    assert refused(lambda: objects.write(top, tmp_path / "out")).code == "unsafe-tree"


def test_a_small_clone_of_a_large_tree_is_refused_by_what_git_says_of_it(objects: Objects, tmp_path: Path) -> None:
    blob = objects.blob(b"\0" * (8 << 20))
    tree = objects.tree(*((("100644", b"f%d" % number, blob)) for number in range(70)))
    assert "MiB are the most" in refused(lambda: objects.write(tree, tmp_path / "out")).what


@pytest.mark.long
def test_a_tree_that_is_in_itself_ten_times_at_each_level_is_not_listed_to_its_end(objects: Objects, tmp_path: Path) -> None:
    top = objects.tree(*(("100644", b"f%d" % number, objects.blob(b"x")) for number in range(10)))
    for _ in range(9):
        top = objects.tree(*(("040000", b"d%d" % number, top) for number in range(10)))
    told = refused(lambda: objects.write(top, tmp_path / "out"))
    assert (told.code, told.fault) == ("unsafe-tree", Fault.RECIPE)
    assert "more names than fit" in told.what


def test_folders_so_deep_that_git_breaks_off_are_the_recipes_fault(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git before 2.43 calls itself for each level, until its stack is used up."""
    top = objects.tree(("100644", b"f", objects.blob(b"x")))
    monkeypatch.setattr(GitProgram, "local", lambda *said, **more: Ended(-signal.SIGSEGV, "", "", b""))
    told = refused(lambda: write_out(GitProgram(), objects.clone, top, tmp_path / "out", Tree()))
    assert (told.code, told.fault) == ("unsafe-tree", Fault.RECIPE)


def test_many_links_are_read_by_few_programs(objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, asked = objects.blob(b"f0"), list[tuple[str, ...]]()
    tree = objects.tree(("100644", b"f0", objects.blob(b"x")), *(("120000", b"l%d" % number, here) for number in range(600)))
    real = GitProgram.local

    def counted(self: GitProgram, clone: Path, *words: str, **more: Any) -> Any:
        asked.append(words)
        return real(self, clone, *words, **more)

    monkeypatch.setattr(GitProgram, "local", counted)
    objects.write(tree, tmp_path / "out")
    assert len(asked) < 10
    assert (tmp_path / "out" / "l599").read_text() == "x"


# -- memory, of many containers together ------------------------------------------------------------------------


def test_many_containers_within_their_limits_do_not_take_all_memory_together(ref: Ref, tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    engine, app = FakeEngine(tmp_path / "docker"), ref.says(toml='[resources]\nmemory = "1 GiB"\n').deployment
    (tmp_path / "docker" / "stacks" / "s-1").write_text(json.dumps({"app": {"labels": app.identity.labels}}))
    account = app.account
    account.begins(app)
    with stoppable() as stop:
        seconds = itertools.count(0.0, 2.0)
        appetite = Appetite(engine, account, stop, clock=lambda: next(seconds))
        for taken in (2**31, 2**31, 2**30, 2**31, 2**31):
            engine.taken = taken
            appetite.look()
        assert stop.error is None, "it has to be so for a while"
        appetite.look()
        assert account.peaks["install"].memory_bytes == 2**31
        assert stop.error is not None
        assert (stop.error.code, "2.0 GiB" in stop.error.what, "1.0 GiB" in stop.error.what) == ("too-much-memory", True, True)
        assert stop.error.fault is Fault.ENROLMENT, "who wrote the limit has to say whether it is right"


# -- what it tries while it runs, or by its repository ------------------------------------------------------------

#: Each of these is tried where it can be shown best.
ELSEWHERE = {
    "an answer that drips holds a worker": (
        "adapters/network/test_exchange.py", "test_an_answer_that_drips_is_cut_off_at_the_limit_of_the_whole"
    ),
    "many networks hold a worker": ("adapters/network/test_exchange.py", "test_many_addresses_hold_a_probe_no_longer_than_two"),
    "it does not stop": (
        "real/test_containment.py", "test_a_stack_has_its_limits_and_is_gone_in_the_time_for_that_whatever_it_wants"
    ),
    "folders without end in its volume break run and janitor": (
        "adapters/data/test_inside.py", "test_folders_without_end_in_one_another_break_nothing_that_looks_into_a_volume"
    ),
    "links in its volume lead canonq to the host": (
        "flows/proving/test_markers.py", "test_no_link_on_the_way_to_a_parts_marker_is_followed"
    ),
    "a backup of any size": (
        "core/test_backup.py", "test_a_sparse_file_is_kept_whole_and_takes_no_more_room_than_it_has_content"
    ),
    "a dump that unpacks for ever": (
        "core/test_backup.py", "test_a_look_into_a_packed_file_ends_with_the_run_however_large_it_becomes"
    ),
    "it fills the disk": ("flows/keeping/test_floor.py", "test_below_the_floor_the_work_ends_and_the_disk_is_named"),
    "it makes files until there can be no more": (
        "flows/keeping/test_floor.py", "test_a_disk_on_which_no_file_can_be_made_ends_the_work_however_many_bytes_are_free"
    ),
    "its image is too large for the disk": (
        "real/test_small_disk.py", "test_a_pull_too_heavy_for_the_disk_of_images_is_ended_deferred_and_told_by_that_disk"
    ),
    "it has the canonical's data": (
        "flows/proving/test_runs_of_refs.py",
        "test_a_pull_request_has_the_canonicals_data_and_secrets_only_where_the_enrolment_says_so",
    ),
    "it prints its secrets": ("flows/proving/test_whole_runs.py", "test_no_secret_is_in_anything_that_a_run_leaves"),
    "it writes to a terminal": ("adapters/test_logs.py", "test_what_acts_on_a_terminal_is_escaped_and_lines_stay_lines"),
    "it calls everybody in a chat": (
        "flows/looking/test_messages.py", "test_what_a_container_says_calls_nobody_in_a_chat"
    ),
    "it becomes the canonical": (
        "faults/test_heads.py", "test_a_head_is_upgraded_from_what_is_older_than_it_calls_itself"
    ),
}  # fmt: skip


@pytest.mark.parametrize("tried", ELSEWHERE)
def test_what_it_tries_while_it_runs_has_a_test_of_its_own(tried: str) -> None:
    file, name = ELSEWHERE[tried]
    assert f"def {name}(" in (ROOT / "tests" / file).read_text()
