"""Runs on the canonical's own data, runs that can never promote, runs beside others, and reds that are tried again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND
from tests.real.conftest import compose, enrol_small, installed, record_of, tree
from tests.real.test_upgrades import NEW, sweep
from tests.support import Installation, release

pytestmark = pytest.mark.real


def retained(host: Installation, recipe: str, engine: SwarmEngine) -> Path:
    """The folder of a canonical's only volume."""
    (volume,) = record_of(host, recipe)["volumes"]
    folder = engine.volume_path(volume)
    assert folder is not None
    return folder


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file in a volume."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def last_verdict(host: Installation, recipe: str) -> dict[str, Any]:
    rows = {row["recipe"]: row for row in host.canonq("status", "--json").json["recipes"]}
    path = host.state / "runs" / recipe / rows[recipe]["last_run"]["id"] / "run.json"
    return dict(json.loads(path.read_text()))


def test_an_upgrade_that_breaks_on_real_data_is_red_and_the_data_is_untouched(host: Installation, engine: SwarmEngine) -> None:
    """A release that comes up on empty volumes, and does not on what the canonical has gathered."""
    repo = enrol_small(host, "real-data")
    assert sweep(host, "real-data")["outcome"] == "promoted"
    folder = retained(host, "real-data", engine)
    (folder / "gathered").write_text("over the years")
    before = state_of(folder)
    release(repo, NEW, tree(NEW, command="test ! -e /srv/gathered || exit 1; exec httpd -f -p 80 -h /srv"))

    outcome = sweep(host, "real-data")

    assert outcome["outcome"] == "red"
    verdict = last_verdict(host, "real-data")
    assert verdict["data"] == "a copy of the data of the canonical 1.0.0+1.29.0"
    assert verdict["tiers"]["install"]["status"] == "pass"
    assert state_of(folder) == before
    assert record_of(host, "real-data")["version"] == "1.0.0+1.29.0"


@pytest.fixture(scope="module")
def quick_host(host: Installation) -> Repo:
    """A recipe with a canonical, for runs that look at it."""
    repo = enrol_small(host, "looked-at", '[health]\ntimeout = 600\n[refs]\nallow = ["cap:NET_ADMIN"]\ndata = true\n')
    assert sweep(host, "looked-at")["outcome"] == "promoted"
    return repo


def test_a_quick_run_is_green_on_the_canonicals_data_and_gives_it_back(
    host: Installation, engine: SwarmEngine, quick_host: Repo
) -> None:
    folder, record = retained(host, "looked-at", engine), record_of(host, "looked-at")
    (folder / "index.html").write_text("what was gathered\n")
    before = state_of(folder)
    tests = host.checkout / "tests" / "looked-at" / "test_page.py"
    tests.write_text(
        "def test_page(app):\n    assert app.http.get('/').text == 'what was gathered\\n'\n"
        "    app.volume('data').write('index.html', 'spoilt')\n    app.volume('data').write('more', 'x')\n"
    )
    verdict = host.canonq("test", "looked-at", "--quick", "--json").json
    tests.unlink()
    assert (verdict["verdict"], verdict["quick"]) == ("green", True), verdict["detail"]
    assert verdict["tiers"]["functional"]["status"] == "pass"
    assert state_of(folder) == before
    assert record_of(host, "looked-at") == record
    refused = host.canonq("promote", "looked-at", "--json")
    assert refused.status != 3
    assert record_of(host, "looked-at") == record


def test_a_quick_run_that_fails_gives_the_data_back_too(host: Installation, engine: SwarmEngine, quick_host: Repo) -> None:
    folder, record = retained(host, "looked-at", engine), record_of(host, "looked-at")
    before = state_of(folder)
    tests = host.checkout / "tests" / "looked-at" / "test_page.py"
    tests.write_text("def test_page(app):\n    app.volume('data').write('index.html', 'spoilt')\n    assert False, 'mine'\n")
    ended = host.canonq("test", "looked-at", "--quick", "--json")
    tests.unlink()
    assert (ended.status, ended.json["verdict"], ended.json["reason"]) == (1, "red", "functional-failed")
    assert state_of(folder) == before
    assert record_of(host, "looked-at") == record


def test_a_branch_is_tested_from_the_canonical_and_never_promoted(host: Installation, quick_host: Repo) -> None:
    quick_host.git.checkout("-q", "-b", "feature", "1.0.0+1.29.0")
    body = compose("1.5.0+1.30.0").replace("    environment:", "    cap_add: [NET_ADMIN]\n    environment:")
    (Path(quick_host.working_dir) / "compose.yml").write_text(body)
    quick_host.git.commit("-qam", "a feature")
    commit = quick_host.head.commit.hexsha
    quick_host.git.checkout("-q", "main")
    record = record_of(host, "looked-at")

    verdict = host.canonq("test", "looked-at", "--ref", "feature", "--json").json

    assert (verdict["verdict"], verdict["ref"], verdict["commit"]) == ("green", "feature", commit), verdict["detail"]
    written = json.loads((Path(verdict["directory"]) / "upgrade" / "facts.json").read_text())["markers"]
    assert [marker["kind"] for marker in written] == ["file"], "the copies are marked as volumes of its own are"
    assert (verdict["base"], verdict["data"]) == ("1.0.0+1.29.0", "a copy of the data of the canonical 1.0.0+1.29.0")
    refused = host.canonq("promote", "looked-at", "--json")
    assert refused.status == 1
    assert {reason.partition(":")[0] for reason in refused.json["reasons"]} >= {"is-a-ref", "not-a-release"}
    assert record_of(host, "looked-at") == record


def test_a_pull_request_that_wants_the_host_is_refused_before_anything_is_deployed(host: Installation, quick_host: Repo) -> None:
    quick_host.git.checkout("-q", "-b", "wants", "1.0.0+1.29.0")
    body = compose("1.5.0+1.30.0").replace('["data:/srv"]', '["data:/srv", "/var/run/docker.sock:/s", "/etc:/host"]')
    (Path(quick_host.working_dir) / "compose.yml").write_text(body)
    quick_host.git.commit("-qam", "give me your host")
    quick_host.git.update_ref("refs/pull/7/head", "wants")
    quick_host.git.checkout("-q", "main")

    verdict = host.canonq("test", "looked-at", "--ref", "pull/7/head", "--quick", "--json").json

    assert (verdict["verdict"], verdict["reason"]) == ("red", "policy-refused")
    assert "docker-socket" in verdict["detail"]
    assert "bind:/etc" in verdict["detail"]
    assert verdict["deployments"] == 1
    assert "install.deploy" not in verdict["timings"]


def left_of_runs(host: Installation, engine: SwarmEngine) -> dict[str, list[str]]:
    """What is in Docker of runs that are over."""
    found = engine.owned({LABEL_INSTANCE: (host.state / "instance").read_text(), LABEL_KIND: "run"})
    return {kind: names for kind, names in found.items() if names}


def test_a_recipe_is_tested_beside_what_it_depends_on(host: Installation, engine: SwarmEngine, quick_host: Repo) -> None:
    enrol_small(host, "depends", '[health]\ntimeout = 600\n[env]\nNEXT = "${DEP_LOOKED_AT_DOMAIN}"\n')
    folder = host.checkout / "tests" / "depends"
    toml = (folder / "recipe.toml").read_text()
    (folder / "recipe.toml").write_text(f'deps = ["looked-at"]\n{toml}')
    (folder / "test_next.py").write_text(
        "def test_next(app):\n    env = app.exec('app', 'env').output\n    assert 'NEXT=la-' in env, env\n"
    )
    overlay = "services: {app: {environment: {BESIDE: '${DEP_LOOKED_AT_STACK:?no neighbour}'}}}\n"
    (folder / "compose.canonq.yml").write_text(overlay)
    verdict = host.canonq("test", "depends", "--json").json
    assert verdict["verdict"] == "green", verdict["detail"]
    assert (Path(verdict["directory"]) / "dependency-looked-at" / "logs" / "app.log").is_file()
    assert left_of_runs(host, engine) == {}

    promoted = host.canonq("promote", "depends", "--json").json

    assert promoted["outcome"] == "promoted", promoted["detail"]
    kept = (host.state / record_of(host, "depends")["snapshot"]["path"]).parent / "resolved.json"
    assert json.loads(kept.read_text())["services"]["app"]["environment"]["BESIDE"].startswith("la-")
    assert left_of_runs(host, engine) == {}


def test_a_dependency_without_a_canonical_is_an_error_that_names_it(host: Installation, quick_host: Repo) -> None:
    enrol_small(host, "lonely", "[health]\ntimeout = 600\n")
    path = host.checkout / "tests" / "lonely" / "recipe.toml"
    host.enrol("nobody", path.read_text())
    path.write_text(f'deps = ["nobody"]\n{path.read_text()}')
    verdict = host.canonq("test", "lonely", "--json").json
    assert (verdict["verdict"], verdict["reason"]) == ("error", "dependency-missing")
    assert "nobody" in verdict["detail"]


def test_a_red_on_a_loaded_host_is_tried_again_alone_and_both_are_kept(engine: SwarmEngine, tmp_path: Path) -> None:
    """Known failures 21 and 22: a flake under load was recorded as a red, with the wrong cause."""
    with installed(engine, tmp_path) as made:
        made.settings["CANONQ_LOADED_ABOVE"] = "0.0001"
        enrol_small(made, made.recipe)
        mark = tmp_path / "was-here"
        (made.checkout / "tests" / "small" / "test_flake.py").write_text(
            f"import pathlib\n\ndef test_flake(app):\n    mark = pathlib.Path({str(mark)!r})\n"
            "    if not mark.exists():\n        mark.touch()\n        assert False, 'the first time'\n"
        )
        ended = made.canonq("test", "small", "--json")
        verdict = ended.json
        assert (ended.status, verdict["verdict"]) == (0, "green"), verdict["detail"]
        runs = sorted(path.parent.name for path in (made.state / "runs" / "small").glob("*/run.json"))
        assert runs == [verdict["first_run"], verdict["run"]]
        first = json.loads((made.state / "runs" / "small" / runs[0] / "run.json").read_text())
        assert (first["verdict"], first["superseded_by"]) == ("red", verdict["run"])
        assert "the first time" in first["detail"]
