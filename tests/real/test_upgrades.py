"""Releases that look well and are not: each is red, for its own reason, and leaves the canonical as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from tests.real.conftest import compose, enrol_small, record_of, tree
from tests.support import Installation, release

pytestmark = pytest.mark.real

FIRST, NEW = "1.0.0+1.29.0", "1.1.0+1.30.0"
NOTES, SERVE = "date >> /srv/notes", "exec httpd -f -p 80 -h /srv"


def sweep(host: Installation, recipe: str) -> dict[str, Any]:
    """Sweep one recipe; its outcome."""
    (outcome,) = host.canonq("sweep", recipe, "--wait", "--json").json["outcomes"]
    return dict(outcome)


Sweeps = Callable[[str, dict[str, str]], dict[str, Any]]


@pytest.fixture(scope="module")
def after_first(host: Installation) -> Sweeps:
    """Publish a release that is not good on top of one canonical, which all of them leave as it is, and sweep: the outcome."""
    repo = enrol_small(host, "upgraded", command=f"{NOTES}; {SERVE}")
    assert sweep(host, "upgraded")["outcome"] == "promoted"
    before = record_of(host, "upgraded")

    def swept(tag: str, files: dict[str, str]) -> dict[str, Any]:
        release(repo, tag, files)
        outcome = sweep(host, "upgraded")
        assert outcome["version"] == tag
        assert record_of(host, "upgraded") == before
        assert host.canonq("verify", "upgraded").status == 0
        repo.git.tag("--delete", tag)
        return outcome

    return swept


@pytest.mark.engines
def test_a_release_that_swarm_rolls_back_is_red_though_the_app_answers(
    host: Installation, engine: SwarmEngine, after_first: Sweeps
) -> None:
    """Known failure 35: the old version answered, and the upgrade passed vacuously."""
    # On empty volumes it is well: the page is written on the first start only.
    outcome = after_first(NEW, tree(NEW, check="! grep -q 1.0.0 /srv/index.html"))
    assert (outcome["outcome"], outcome["reason"]) == ("red", "rolled-back")
    ours = {LABEL_INSTANCE: (host.state / "instance").read_text(), LABEL_KIND: "run"}
    assert not [names for names in engine.owned(ours).values() if names]


def test_a_release_that_loses_the_volume_is_red(after_first: Sweeps) -> None:
    files = tree("1.2.0+1.30.0")
    files["compose.yml"] = files["compose.yml"].replace("data:/srv", "moved:/srv").replace("  data: {}", "  moved: {}")
    outcome = after_first("1.2.0+1.30.0", files)
    assert (outcome["outcome"], outcome["reason"]) == ("red", "upgrade-failed")
    assert "written before the upgrade is gone" in outcome["detail"]


def test_a_release_that_runs_as_a_user_who_may_write_nowhere_in_the_old_data_is_red_though_it_shows_pages(
    after_first: Sweeps,
) -> None:
    tag = "1.3.0+1.30.0"
    files = tree(tag)
    # It makes the data its user's on the first start only: what is there already stays as it is.
    user = "echo u:x:1000:1000::/:/bin/sh > /etc/passwd"
    begin = f"{user}; test -e /srv/index.html || chown 1000 /srv; exec su u -s /bin/sh -c"
    old = files["compose.yml"].partition("command: ")[2].partition("\n")[0]
    inner = f"trap 'exit 0' TERM; test -e /srv/index.html || echo {tag} > /srv/index.html; {NOTES}; httpd -f -p 80 -h /srv & wait"
    files["compose.yml"] = files["compose.yml"].replace(old, json.dumps(["sh", "-c", f'{begin} "{inner}"']))
    outcome = after_first(tag, files)
    assert (outcome["outcome"], outcome["reason"], outcome["fault"]) == ("red", "data-not-writable", "recipe"), outcome
    assert "the volume 'data'" in outcome["detail"]
    assert "1000" in outcome["detail"]


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


def test_a_release_that_only_works_on_old_data_is_red(after_first: Sweeps) -> None:
    tag = "1.4.0+1.30.0"
    outcome = after_first(tag, tree(tag, command=f"grep -q 1.0.0 /srv/index.html && {SERVE}"))
    assert (outcome["outcome"], outcome["reason"]) == ("red", "install-failed"), outcome


def test_only_tags_are_released_data_lives_through_all_of_them_and_one_that_moves_stops_the_recipe(
    host: Installation, engine: SwarmEngine
) -> None:
    """Known failures 7 and 8; the proof is a byte-identical registry."""
    repo = enrol_small(host, "carries")
    assert sweep(host, "carries")["outcome"] == "promoted"
    path = host.state / "warm" / "carries" / "canonical.json"
    before = path.read_bytes()
    (host.root / "carries" / "compose.yml").write_text("broken: [")
    repo.git.commit("--all", "--quiet", "--message", "work in progress")
    outcome = sweep(host, "carries")
    assert (outcome["outcome"], outcome["reason"]) == ("skipped", "no-new-version")
    assert path.read_bytes() == before

    release(repo, NEW, tree(NEW))
    assert sweep(host, "carries")["outcome"] == "promoted"
    (volume,) = record_of(host, "carries")["volumes"]
    folder = engine.volume_path(volume)
    assert folder is not None
    assert (folder / "index.html").read_text().strip() == FIRST, "the page is written on the first start only"

    before = path.read_bytes()
    release(repo, "1.2.0+1.31.1", tree("1.2.0+1.31.1"))
    repo.git.tag("--force", "--annotate", NEW, "--message", "moved")
    ended = host.canonq("sweep", "carries", "--wait", "--json")
    assert ended.status == 1, "for a person to look at"
    assert ended.json["outcomes"][0]["reason"] == "tag-moved"
    assert path.read_bytes() == before


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
