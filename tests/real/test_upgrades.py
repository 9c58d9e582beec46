"""Releases that look well and are not: each is red, for its own reason, and leaves the canonical as it was."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from tests.real.conftest import compose, enrol_small, record_of, tree
from tests.support import Installation, release

pytestmark = pytest.mark.real

NEW = "1.1.0+1.30.0"


def sweep(host: Installation, recipe: str) -> dict[str, Any]:
    """Sweep one recipe; its outcome."""
    (outcome,) = host.canonq("sweep", recipe, "--wait", "--json").json["outcomes"]
    return dict(outcome)


def sweep_new(host: Installation, recipe: str, files: dict[str, str]) -> dict[str, Any]:
    """Promote a recipe's first release, publish another on top of it, and sweep again."""
    repo = enrol_small(host, recipe)
    assert sweep(host, recipe)["outcome"] == "promoted"
    release(repo, NEW, files)
    return sweep(host, recipe)


@pytest.mark.engines
def test_a_release_that_swarm_rolls_back_is_red_though_the_app_answers(host: Installation, engine: SwarmEngine) -> None:
    """Known failure 35: the old version answered, and the upgrade passed vacuously."""
    # On empty volumes it is well: the page is written on the first start only.
    outcome = sweep_new(host, "rolls-back", tree(NEW, check="! grep -q 1.0.0 /srv/index.html"))
    assert (outcome["outcome"], outcome["reason"]) == ("red", "rolled-back")
    assert record_of(host, "rolls-back")["version"] == "1.0.0+1.29.0"
    assert host.canonq("verify", "rolls-back").status == 0
    ours = {LABEL_INSTANCE: (host.state / "instance").read_text(), LABEL_KIND: "run"}
    assert not [names for names in engine.owned(ours).values() if names]


def test_a_release_that_names_a_missing_image_ends_before_any_deploy(host: Installation) -> None:
    """Known failure 37: a pull that failed was taken for a slow app."""
    outcome = sweep_new(host, "no-image", tree(NEW, image="127.0.0.1:1/no/such:1.0"))
    assert outcome["outcome"] in ("red", "error")
    assert outcome["reason"] in ("image-unavailable", "registry-unreachable")
    runs = [json.loads(path.read_text()) for path in (host.state / "runs" / "no-image").glob("*/run.json")]
    assert not [run for run in runs if run["version"] == NEW and "upgrade.deploy" in run["timings"]]
    assert record_of(host, "no-image")["version"] == "1.0.0+1.29.0"


def test_a_release_that_loses_the_volume_is_red(host: Installation) -> None:
    files = tree(NEW)
    files["compose.yml"] = files["compose.yml"].replace("data:/srv", "moved:/srv").replace("  data: {}", "  moved: {}")
    outcome = sweep_new(host, "loses-data", files)
    assert (outcome["outcome"], outcome["reason"]) == ("red", "upgrade-failed")
    assert "written before the upgrade is gone" in outcome["detail"]


def test_a_release_that_runs_as_a_user_who_may_write_nowhere_in_the_old_data_is_red_though_it_shows_pages(
    host: Installation,
) -> None:
    notes = "date >> /srv/notes"
    repo = enrol_small(host, "other-user")
    repo.git.tag("--delete", "1.0.0+1.29.0")
    release(repo, "1.1.0+1.29.0", tree("1.1.0+1.29.0", command=f"{notes}; exec httpd -f -p 80 -h /srv"))
    assert sweep(host, "other-user")["outcome"] == "promoted"
    files = tree(NEW)
    # It makes the data its user's on the first start only: what is there already stays as it is.
    user = "echo u:x:1000:1000::/:/bin/sh > /etc/passwd"
    begin = f"{user}; test -e /srv/index.html || chown 1000 /srv; exec su u -s /bin/sh -c"
    old = files["compose.yml"].partition("command: ")[2].partition("\n")[0]
    inner = f"trap 'exit 0' TERM; test -e /srv/index.html || echo {NEW} > /srv/index.html; {notes}; httpd -f -p 80 -h /srv & wait"
    files["compose.yml"] = files["compose.yml"].replace(old, json.dumps(["sh", "-c", f'{begin} "{inner}"']))
    release(repo, NEW, files)
    outcome = sweep(host, "other-user")
    assert (outcome["outcome"], outcome["reason"], outcome["fault"]) == ("red", "data-not-writable", "recipe"), outcome
    assert "the volume 'data'" in outcome["detail"]
    assert "1000" in outcome["detail"]


def test_a_compose_file_that_does_not_parse_is_red_and_named(host: Installation) -> None:
    outcome = sweep_new(host, "unparsed", {"compose.yml": "services: [unclosed"})
    assert (outcome["outcome"], outcome["reason"]) == ("red", "compose-invalid")
    assert "compose.yml" in outcome["detail"]


def test_a_crash_loop_ends_long_before_the_time_out(host: Installation) -> None:
    """Known failure 33: a crash loop held the runner for the full 1,200 s."""
    repo = enrol_small(host, "crashes", "[health]\ntimeout = 600\n")
    body = compose("2.0.0+1.0", command="exec false").replace("& wait", "")
    body = body.replace("    deploy:\n", "    deploy:\n      restart_policy: {condition: any, delay: 100ms}\n")
    repo.git.tag("--delete", "1.0.0+1.29.0")
    release(repo, "2.0.0+1.0", {"compose.yml": body})
    outcome = sweep(host, "crashes")
    assert (outcome["outcome"], outcome["reason"]) == ("red", "crash-loop")
    assert outcome["seconds"] < 600, "the time-out"


def test_a_tag_that_moved_stops_that_recipe_and_is_not_followed(host: Installation) -> None:
    assert sweep_new(host, "moves", tree(NEW))["outcome"] == "promoted"
    before = record_of(host, "moves")
    repo = Repo(host.root / "moves")
    release(repo, "1.2.0+1.31.1", tree("1.2.0+1.31.1"))
    repo.git.tag("--force", "--annotate", NEW, "--message", "moved")
    ended = host.canonq("sweep", "moves", "--wait", "--json")
    assert ended.status == 1, "for a person to look at"
    assert ended.json["outcomes"][0]["reason"] == "tag-moved"
    assert record_of(host, "moves") == before


def test_carried_data_has_lived_through_every_release(host: Installation, engine: SwarmEngine) -> None:
    """The page is written on the first start only, so a later release that still shows it has the first one's data."""
    assert sweep_new(host, "carries", tree(NEW))["outcome"] == "promoted"
    assert page_of(host, "carries", engine) == "1.0.0+1.29.0"


def test_a_release_that_only_works_on_old_data_is_red_and_the_canonical_stays(host: Installation) -> None:
    outcome = sweep_new(host, "only-old", tree(NEW, command="grep -q 1.0.0 /srv/index.html && exec httpd -f -p 80 -h /srv"))
    assert (outcome["outcome"], outcome["reason"]) == ("red", "install-failed"), outcome
    assert record_of(host, "only-old")["version"] == "1.0.0+1.29.0"


def test_fresh_data_is_chosen_by_the_enrolment(host: Installation, engine: SwarmEngine) -> None:
    repo = enrol_small(host, "fresh", '[health]\ntimeout = 600\n[promote]\ndata = "fresh"\n')
    assert sweep(host, "fresh")["outcome"] == "promoted"
    release(repo, NEW, tree(NEW))
    assert sweep(host, "fresh")["outcome"] == "promoted"
    assert page_of(host, "fresh", engine) == NEW


def page_of(host: Installation, recipe: str, engine: SwarmEngine) -> str:
    """The page in a canonical's retained volume."""
    (volume,) = record_of(host, recipe)["volumes"]
    folder = engine.volume_path(volume)
    assert folder is not None
    return (folder / "index.html").read_text().strip()


def test_an_untagged_commit_after_the_release_is_neither_a_new_version_nor_promoted(host: Installation) -> None:
    """Known failures 7 and 8; the proof is a byte-identical registry."""
    repo = enrol_small(host, "untagged")
    assert sweep(host, "untagged")["outcome"] == "promoted"
    path = host.state / "warm" / "untagged" / "canonical.json"
    before = path.read_bytes()
    (host.root / "untagged" / "compose.yml").write_text("broken: [")
    repo.git.commit("--all", "--quiet", "--message", "work in progress")
    outcome = sweep(host, "untagged")
    assert (outcome["outcome"], outcome["reason"]) == ("skipped", "no-new-version")
    assert path.read_bytes() == before


def test_a_red_is_held_after_so_many_nights_and_a_new_tag_releases_it(host: Installation) -> None:
    """Known failure 16: a red recipe was tried again for ever."""
    repo = enrol_small(host, "held")
    release(repo, NEW, {"compose.yml": "services: []"})
    for _ in range(3):
        assert sweep(host, "held")["outcome"] == "red"
    rows = {row["recipe"]: row for row in host.canonq("plan", "--json").json["recipes"]}
    assert (rows["held"]["action"], rows["held"]["reason"]) == ("skip", "held-red")
    assert sweep(host, "held")["outcome"] == "red", "naming the recipe releases it"
    release(repo, "1.1.1+1.30.0", tree("1.1.1+1.30.0"))
    assert {row["recipe"]: row["action"] for row in host.canonq("plan", "--json").json["recipes"]}["held"] == "run"


class StandInIngress(BaseHTTPRequestHandler):
    """A proxy's answers over real HTTP: its own 404 for whom it does not route."""

    routed = False

    def do_GET(self) -> None:
        known = self.routed and not self.headers["Host"].startswith("canonq-nobody")
        body = b"hello" if known else b"404 page not found\n"
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def ingress(small: Installation) -> Iterator[Callable[[bool], None]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandInIngress)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    small.settings["CANONQ_INGRESS__SCHEME"] = "http"
    small.settings["CANONQ_INGRESS__ADDRESS"] = f"127.0.0.1:{server.server_address[1]}"

    def route(on: bool) -> None:
        StandInIngress.routed = on

    yield route
    server.shutdown()


def test_healthy_inside_but_not_routed_is_a_reason_of_its_own(small: Installation, ingress: Callable[[bool], None]) -> None:
    """Known failure 11: the app was healthy inside, and the domain answered nothing."""
    ingress(False)
    small.enrol(small.recipe, f'upstream = "{small.root}/{small.recipe}"\n[health]\ntimeout = 30\n')
    verdict = small.canonq("test", small.recipe, "--json").json
    assert (verdict["verdict"], verdict["reason"]) == ("red", "not-routed")
    assert "healthy inside but not routed" in verdict["detail"]


def test_behind_an_ingress_the_probes_go_through_it(small: Installation, ingress: Callable[[bool], None]) -> None:
    ingress(True)
    verdict = small.canonq("test", small.recipe, "--json").json
    assert (verdict["verdict"], verdict["routing_tested"]) == ("green", True)
    assert verdict["domain"].endswith(".canonq.test")


def test_install_steps_and_given_secrets_reach_the_app(host: Installation, engine: SwarmEngine) -> None:
    """Known failure 3: the promotion deployed without the steps and secrets that the cold run had."""
    repo = enrol_small(host, "stepped", '[health]\ntimeout = 600\npath = "/token"\n[secrets]\ntoken = { hex = 8 }\n')
    folder = host.checkout / "tests" / "stepped"
    (folder / "install_steps.sh").write_text('echo "COMPOSE_FILE=compose.yml:compose.more.yml" >> "$APP_ENV"\n')
    more = {
        "compose.more.yml": 'version: "3.8"\nservices:\n  app:\n    secrets: [token]\nsecrets:\n  token: {external: true, '
        "name: '${STACK_NAME}_token_${SECRET_TOKEN_VERSION}'}\n",
        ".env.sample": "TYPE=small\nDOMAIN=x\nSECRET_TOKEN_VERSION=v1 # generate=false\n",
        "compose.yml": compose(NEW, command="cp /run/secrets/token /srv/token; exec httpd -f -p 80 -h /srv"),
    }
    repo.git.tag("--delete", "1.0.0+1.29.0")
    release(repo, NEW, more)
    outcome = sweep(host, "stepped")
    assert outcome["outcome"] == "promoted", outcome
    (volume,) = record_of(host, "stepped")["volumes"]
    path = engine.volume_path(volume)
    assert path is not None
    token = (path / "token").read_text().strip()
    assert len(token) == 16
    kept = [p for p in host.state.rglob("*") if p.is_file() and p.name != "secrets.json" and token.encode() in p.read_bytes()]
    assert kept == []
