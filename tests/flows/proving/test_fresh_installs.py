"""Whole runs without Docker: what the fresh install beside the upgrade shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from canonq.flows.test import test_tag as prove_tag
from tests.flows.sites import BASE, SAMPLE, TARGET, Site, files, on_nothing, statuses


def test_a_release_that_cannot_be_installed_on_empty_volumes_is_red_though_it_upgrades_well(site: Site) -> None:
    site.engine.starts = {TARGET: on_nothing}
    verdict = prove_tag(site.prepare(toml=""), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.cause) == ("red", "install-failed", "not-answering"), verdict.detail
    assert "On empty volumes, as somebody new installs it, 1.1.0+1.1 did not come up" in verdict.detail
    assert (verdict.rungs["install"].status, verdict.rungs["upgrade"].status, verdict.level) == ("fail", "not-reached", 0)
    assert site.engine.deployed == [TARGET, BASE], "nothing is upgraded that cannot be installed"
    assert site.left() == {}


@pytest.mark.parametrize(
    ("fails", "reason", "cause", "fault"),
    [
        ("app.fresh and app.version == '1.1.0+1.1'", "install-failed", "hook-failed", "recipe"),
        ("True", "hook-failed", None, "enrolment"),
    ],
)
def test_a_hook_that_the_base_is_content_with_shows_a_new_install_that_nobody_can_use(
    site: Site, fails: str, reason: str, cause: str | None, fault: str
) -> None:
    world = site.prepare()
    hook = f"def after_install(app):\n    assert not ({fails}), 'there is no such page'\n"
    (site.root / "checkout" / "tests" / "site" / "hooks.py").write_text(hook)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.cause or None, verdict.fault) == ("red", reason, cause, fault), (
        verdict.detail
    )
    assert "there is no such page" in verdict.detail
    assert statuses(verdict)["install"] == "fail"
    assert site.left() == {}


def test_a_secret_that_only_the_bases_sample_makes_is_the_releases_to_mend(site: Site) -> None:
    lacking = files(TARGET)
    lacking[".env.sample"] = lacking[".env.sample"].replace("SECRET_PASSWORD_VERSION=v1\n", "")
    lacking["compose.yml"] = lacking["compose.yml"].replace("${SECRET_PASSWORD_VERSION}", "v1")
    verdict = prove_tag(site.prepare(target=lacking), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "install-failed", "recipe"), verdict.detail
    assert "'password'" in verdict.detail
    assert verdict.rungs["install"].status == "fail"


@pytest.mark.long
def test_what_a_new_install_leaves_open_is_found_by_the_recipes_own_tests_on_the_fresh_stack(site: Site) -> None:
    own = "def test_nobody_can_register(app):\n    assert not app.fresh, 'registration is open'\n"
    site.engine.says = lambda stack: "said by the fresh one" if len(stack) == len("s-012345f") else "said by the other"
    verdict = prove_tag(site.prepare(own=own), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "functional-failed"), verdict.detail
    assert "on the fresh install: test_nobody_can_register: registration is open" in verdict.detail
    assert verdict.log_tail == ("said by the fresh one",), "the log is the fresh one's too"
    assert (Path(verdict.directory) / "fresh" / "functional" / "facts.json").is_file()
    assert statuses(verdict)["restore"] == "pass"


def test_a_fresh_install_that_cannot_be_beside_the_base_comes_before_it(site: Site) -> None:
    ports = {version: files(version) for version in (BASE, TARGET)}
    for tree in ports.values():
        tree["compose.yml"] = tree["compose.yml"].replace(
            "    secrets: [password]", '    secrets: [password]\n    ports: ["8080:80"]', 1
        )
    up: list[int] = []
    site.engine.starts = dict.fromkeys(ports, lambda engine, _: up.append(len(list((engine.folder / "stacks").glob("[!.]*")))))
    verdict = prove_tag(site.prepare(base=ports[BASE], target=ports[TARGET]), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed == [TARGET, BASE, TARGET, TARGET], "the last one for the backup alone"
    assert up == [1, 1, 1, 1], "one after the other"
    assert verdict.deployments == 2
    assert verdict.fresh == f"a stack of its own, before the upgrade from {BASE}: both publish the port 8080 of this host"
    assert len(verdict.tiers["functional"].fresh) == len(verdict.tiers["functional"].tests) == 2
    assert site.left() == {}


@pytest.mark.long
def test_a_secret_that_has_to_be_made_in_another_way_by_now_is_made_anew_for_a_fresh_install(site: Site) -> None:
    longer = files(TARGET)
    longer[".env.sample"] = SAMPLE.replace("VERSION=v1", "VERSION=v1  # length=90")
    own = "def test_it(app):\n    assert len(app.secret('password')) == 90 or not app.fresh or app.version == '1.0.0+1.0'\n"
    verdict = prove_tag(site.prepare(target=longer, own=own), "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert site.engine.deployed == [TARGET, BASE, TARGET, TARGET], "the backup is restored into one with the secrets of its data"
