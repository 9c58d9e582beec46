"""A real reverse proxy in front: nginx as a Swarm service on the shared network, as Co-op Cloud has traefik.

Known failures: healthy inside but not routed, and the proxy's own error page taken for the app.
"""

from __future__ import annotations

import secrets
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.core.stack.policy import SHARED_NETWORK
from demo import images
from tests.real.conftest import HEALTH, NEVER, answers, compose, enrol_small, installed, tree, until
from tests.support import Installation, make_recipe

pytestmark = pytest.mark.real

TAG = "1.0.0+1.29.0"
ZONE = "canonq.test"
#: `<stack>.<zone>` goes to that stack's app, wherever it runs; every other domain gets the proxy's own 404.
NGINX = """
user root;
pid /run/nginx.pid;
error_log stderr;
events { }
http {
  access_log off;
  resolver 127.0.0.11 valid=1s ipv6=off;
  ssl_certificate /certificate.pem;
  ssl_certificate_key /key.pem;
  server {
    listen 80 default_server;
    listen 443 ssl default_server;
    location / { return 404 "nobody has this domain\\n"; }
  }
  server {
    listen 80;
    listen 443 ssl;
    server_name ~^(?<stack>[a-z0-9-]+)\\.canonq\\.test$;
    location / {
      set $app tasks.${stack}_app;
      proxy_pass http://$app:80;
      proxy_set_header Host $host;
      proxy_connect_timeout 2s;
      proxy_intercept_errors on;
      error_page 502 503 504 =404 /nobody;
    }
    location = /nobody { internal; return 404 "nobody has this domain\\n"; }
  }
}
"""


@dataclass(frozen=True)
class Proxy:
    """The reverse proxy and the authority that signed its certificate."""

    http: str
    https: str
    authority: Path

    def stands_before(self, made: Installation, scheme: str = "http") -> None:
        """Have an installation ask through it."""
        made.settings["CANONQ_INGRESS__SCHEME"] = scheme
        made.settings["CANONQ_INGRESS__ADDRESS"] = self.http if scheme == "http" else self.https
        if scheme == "https":
            made.settings["CANONQ_INGRESS__CA_FILE"] = str(self.authority)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def authority(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate authority of its own: key and certificate."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}",
        "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    return key, certificate


def signed(folder: Path, by: tuple[Path, Path]) -> tuple[Path, Path]:
    """A key and a certificate for every domain of the zone."""
    key, request, certificate, names = (folder / name for name in ("site.key", "site.csr", "site.pem", "site.names"))
    names.write_text(f"subjectAltName=DNS:*.{ZONE}\n")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=site", "-keyout", str(key), "-out", str(request))
    openssl(
        "x509", "-req", "-days", "2", "-in", str(request), "-CA", str(by[1]), "-CAkey", str(by[0]), "-CAcreateserial",
        "-extfile", str(names), "-out", str(certificate),
    )  # fmt: skip
    return key, certificate


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture(scope="module")
def proxy(engine: SwarmEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """nginx in front of every stack on the shared network."""
    images.build(["proxy"])
    engine.ensure_network(SHARED_NETWORK)
    folder, name = tmp_path_factory.mktemp("proxy"), f"canonq-test-proxy-{secrets.token_hex(3)}"
    ca = authority(folder, "ca")
    key, certificate = signed(folder, ca)
    files = {"/etc/nginx/nginx.conf": NGINX, "/certificate.pem": certificate.read_text(), "/key.pem": key.read_text()}
    http, https = free_port(), free_port()
    configs = {f"{name}-{number}": path for number, path in enumerate(files)}
    try:
        for config, path in configs.items():
            docker("config", "create", config, "-", said=files[path])
        docker(
            "service", "create", "--detach", "--name", name, "--network", SHARED_NETWORK,
            *(f"--config=source={config},target={path}" for config, path in configs.items()),
            f"--publish=mode=host,published={http},target=80", f"--publish=mode=host,published={https},target=443",
            "canonq-demo/nginx:1",
        )  # fmt: skip
        until("the proxy", lambda: answers(f"127.0.0.1:{https}"))
        yield Proxy(f"127.0.0.1:{http}", f"127.0.0.1:{https}", ca[1])
    finally:
        for kind, names in {"service": [name], "config": list(configs)}.items():
            subprocess.run(["docker", kind, "rm", *names], check=False, capture_output=True)


def docker(*arguments: str, said: str = "") -> None:
    subprocess.run(["docker", *arguments], input=said, text=True, check=True, capture_output=True)


@pytest.fixture
def made(engine: SwarmEngine, tmp_path: Path) -> Iterator[Installation]:
    with installed(engine, tmp_path) as made:
        yield made


def enrol_apart(made: Installation, more: str = "") -> None:
    """A recipe whose app is on no network that the proxy is on."""
    body = (
        compose(TAG)
        .replace("    networks: [proxy]\n", "    networks: [inside]\n")
        .replace("  proxy: {external: true}", "  inside: {}")
    )
    make_recipe(made.root / "apart", {TAG: {**tree(TAG), "compose.yml": body}})
    made.enrol("apart", f'upstream = "{made.root}/apart"\n[health]\ntimeout = 30\n{more}')


def test_behind_a_real_proxy_recipes_are_tested_and_promoted_at_their_own_domains(proxy: Proxy, made: Installation) -> None:
    """Where the enrolment allows a 404, the app's own counts."""
    enrol_small(made, "routed", HEALTH)
    (made.checkout / "tests" / "routed" / "test_domain.py").write_text(
        f'def test_domain(app):\n    assert app.domain.endswith(".{ZONE}")\n    assert "{TAG}" in app.http.get("/").text\n'
    )
    enrol_small(made, "api", HEALTH + 'path = "/nothing-here"\nstatus = [404]\n')
    proxy.stands_before(made)
    outcomes = {one["recipe"]: one for one in made.canonq("sweep", "--wait", "--json").json["outcomes"]}
    assert [(outcomes[name]["outcome"], outcomes[name]["version"]) for name in ("routed", "api")] == [("promoted", TAG)] * 2, (
        outcomes
    )


def test_healthy_inside_but_not_routed_is_a_reason_of_its_own_and_the_proxys_404_is_not_the_app(
    proxy: Proxy, made: Installation
) -> None:
    enrol_apart(made, "status = [404, 200]\n")
    proxy.stands_before(made)
    verdict = made.canonq("test", "apart", "--json").json
    assert (verdict["verdict"], verdict["reason"], verdict["service"]) == ("red", "not-routed", "app"), verdict["detail"]
    assert "nobody" in verdict["detail"]


def test_https_is_checked_against_the_authority_that_is_named(proxy: Proxy, made: Installation) -> None:
    enrol_small(made, "routed", HEALTH)
    proxy.stands_before(made, "https")
    verdict = made.canonq("test", "routed", "--json").json
    assert verdict["verdict"] == "green", verdict["detail"]
    made.enrol("routed", f'upstream = "{made.root}/routed"\n{NEVER}')
    _, stranger = authority(made.root, "stranger")
    made.settings["CANONQ_INGRESS__CA_FILE"] = str(stranger)
    verdict = made.canonq("test", "routed", "--json").json
    assert (verdict["verdict"], verdict["reason"]) == ("red", "not-routed"), verdict["detail"]
    assert "certificate" in verdict["detail"].lower()


def test_a_proxy_that_is_gone_is_the_hosts_fault_and_the_doctor_says_so_beforehand(made: Installation) -> None:
    enrol_small(made, "routed", "[health]\ntimeout = 30\n")
    made.settings |= {"CANONQ_INGRESS__SCHEME": "http", "CANONQ_INGRESS__ADDRESS": f"127.0.0.1:{free_port()}"}
    checks = made.canonq("doctor", "--json").json["checks"]
    (told,) = (check for check in checks if check["check"] == "ingress")
    assert told["state"] == "broken"
    assert told["mend"]
    verdict = made.canonq("test", "routed", "--json").json
    assert (verdict["verdict"], verdict["reason"]) == ("error", "ingress-down"), verdict["detail"]
