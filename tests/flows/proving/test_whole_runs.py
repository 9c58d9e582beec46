"""Whole runs without Docker: base, upgrade, backup, restore and a recipe's own tests, to each kind of verdict there is."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from canonq.core.deployable import Deployable, Identity
from canonq.core.errors import RecipeProblem
from canonq.core.stack.convergence import Service, Task
from canonq.flows.deploying import appetite
from canonq.flows.deploying.deployment import bring_up, tear_down
from canonq.flows.deploying.stages import Account, Deployment
from canonq.flows.promote import promote
from canonq.flows.test import test_tag as prove_tag
from canonq.ports import Ended
from tests.fakes import LINEAGE
from tests.flows.sites import BASE, TARGET, Docker, Site, away, files, fills, is_fresh, statuses, wipe


def test_a_green_run_goes_through_every_tier_and_its_release_is_promoted_with_its_data(site: Site) -> None:
    world = site.prepare()
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert statuses(verdict) == dict.fromkeys(("install", "upgrade", "backup", "restore", "functional", "lint"), "pass")
    assert site.engine.deployed == [TARGET, BASE, TARGET]
    assert (verdict.base, verdict.level, verdict.deployments) == (BASE, 5, 2)
    assert [gap.partition(":")[0] for gap in verdict.gaps] == ["redeploy-unproven"], "hooks.py has no marker of its own"
    assert len(verdict.tiers["functional"].tests) == 2
    assert verdict.tiers["functional"].fresh == verdict.tiers["functional"].tests, "they run on both stacks"
    assert verdict.fresh == f"a stack of its own, beside the upgrade from {BASE}"
    for tier, kinds in (("upgrade", ["database", "file", "file"]), ("restore", ["database", "file"])):
        facts = json.loads((Path(verdict.directory) / tier / "facts.json").read_text())
        assert sorted(marker["kind"] for marker in facts["markers"]) == kinds, "as far as the backup covers it"
        assert facts["lost"] == []
    assert site.left() == {}
    assert promote(site.world, "site").outcome == "promoted"
    record = world.registry.read("site")
    assert record is not None
    assert site.left() == {"volumes": sorted(record.volumes)}
    assert set(record.images) == {"app", "db"}


@pytest.mark.parametrize(
    ("broken", "tier", "reason", "said"),
    [
        ({"starts": {TARGET: wipe}}, "upgrade", "upgrade-failed", "database of the service db (its table is not there)"),
        ({"target": files(TARGET, hook="dmup it")}, "backup", "backup-failed", "pre-hook of 'db' exited with 127"),
        ({"target": files(TARGET, hook="'true'")}, "backup", "backup-failed", "is empty or not there"),
        ({"target": files(TARGET, load="'true'")}, "restore", "restore-failed", "did not bring back what was destroyed"),
        ({"target": files(TARGET, load="laod it")}, "restore", "restore-failed", "post-hook of 'db' exited with 127"),
        ({"own": "def test_a():\n    assert False, 'no page'\n"}, "functional", "functional-failed", "test_a: no page"),
    ],
    ids=[
        "upgrade loses data", "backup hook fails", "dump is not written", "restore brings nothing back", "restore hook fails",
        "own test fails",
    ],
)  # fmt: skip
def test_a_red_run_says_at_which_tier_and_why_and_leaves_nothing(
    site: Site, broken: dict[str, Any], tier: str, reason: str, said: str
) -> None:
    site.engine.starts = broken.pop("starts", {})
    verdict = prove_tag(site.prepare(**broken), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", reason, "recipe"), verdict.detail
    assert said in verdict.detail
    order = ["install", "upgrade", "backup", "restore", "functional"]
    passed = order[: order.index(tier)]
    found = statuses(verdict)
    assert found == {**dict.fromkeys(passed, "pass"), tier: "fail", "lint": "pass"}, "lint is run beside a red"
    assert site.left() == {}
    assert not list(site.world.work.glob("[!.]*"))
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1


def test_a_release_that_names_a_missing_image_ends_before_any_deploy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known failure 37: a pull that failed was taken for a slow app."""

    def pulls(references: Sequence[str], timeout: float) -> dict[str, str]:
        if "site:1.1" in references:
            raise RecipeProblem("There is no image site:1.1.", code="image-unavailable")
        return there(references, timeout)

    there = site.engine.ensure_images
    world = site.prepare()
    monkeypatch.setattr(site.engine, "ensure_images", pulls)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("red", "image-unavailable", "recipe"), verdict.detail
    assert site.engine.deployed == []


def test_a_database_whose_engine_cannot_read_its_data_is_told_with_its_own_last_words(site: Site) -> None:
    class Paused(Docker):
        """An Engine whose newer database dies at once on older data."""

        def last_words(self, stack: str, service: str) -> str:
            return self.said.get(service, "")

        def observe(self, stack: str) -> tuple[list[Service], list[Task]]:
            services, tasks = super().observe(stack)
            if self.deployed[-1:] != [TARGET] or is_fresh(stack) or len(self.deployed) < 3:
                return services, tasks
            paused = replace(next(one for one in services if one.name == "db"), update="paused", update_message="update paused")
            old = Task("old", "db", "running", "running", current=False, slot=1, container="old")
            dead = Task("new", "db", "failed", "shutdown", True, 1, "task: non-zero exit (1)", 1, "new")
            return [one for one in services if one.name != "db"] + [paused], [t for t in tasks if t.service != "db"] + [old, dead]

    site.engine = Paused(site.root / "docker2")
    site.engine.said = {"db": "FATAL:  database files are incompatible with server\nDETAIL:  initialized by version 14"}
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.service) == ("red", "update-paused", "db"), verdict.detail
    assert (
        "Its last words: FATAL:  database files are incompatible with server / DETAIL:  initialized by version 14"
        in verdict.detail
    )


def test_what_a_run_takes_is_seen_though_it_ends_before_a_look_is_due(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for between in ("_EVERY", "_AT_LEAST_EVERY"):
        monkeypatch.setattr(appetite, between, 3600.0)
    site.engine.taken = 2**29
    verdict = prove_tag(site.prepare(own=None), "site", None)
    assert max(peak.memory_bytes for peak in verdict.peaks.values()) == 2**29


def test_a_tier_that_was_skipped_without_a_word_is_a_gap_and_a_declaration_that_does_not_hold_is_stale(site: Site) -> None:
    world = site.prepare(own=None)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert [gap.split()[0] for gap in verdict.gaps] == ["functional", "redeploy-unproven:"]
    recipe = site.root / "checkout" / "tests" / "site" / "recipe.toml"
    recipe.write_text(f'{recipe.read_text()}[expected_na]\nbackup = "has nothing to keep"\nfunctional = "a page"\n')
    verdict = prove_tag(site.world, "site", None)
    assert (verdict.verdict, statuses(verdict)["backup"]) == ("green", "pass"), verdict.detail
    assert [stale.split()[1] for stale in verdict.stale] == ["backup"], verdict.stale
    assert [gap.split()[0] for gap in verdict.gaps] == ["redeploy-unproven:"]


@pytest.mark.long
def test_fresh_data_is_chosen_by_the_enrolment(site: Site) -> None:
    """Where it is not, the data of the first release lives on in every later one."""
    site.engine.starts = {BASE: fills("first"), TARGET: lambda *_: None}
    site.prepare(own=None, toml='[promote]\ndata = "fresh"\n')
    for tag in (BASE, TARGET):
        assert prove_tag(site.world, "site", tag).verdict == "green"
        assert promote(site.world, "site").outcome == "promoted"
    record = site.world.registry.read("site")
    assert record is not None
    assert record.version == TARGET
    (folder,) = [site.engine.volume_path(name) for name in record.volumes if "_files." in name]
    assert folder is not None
    assert not (folder / "first").exists()


def test_a_run_whose_docker_goes_away_is_an_error_of_the_hosts_and_no_red(site: Site) -> None:
    site.engine.starts = {TARGET: away}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "docker-unreachable", "host")
    assert verdict.outside == "Docker"
    assert statuses(verdict) == {}, "the release itself is what was deployed first"
    assert site.left() == {}
    assert site.world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0


def test_an_unforeseen_error_within_a_run_is_canonqs_and_leaves_nothing(site: Site) -> None:
    def breaks(engine: Docker, stack: Deployable) -> None:
        raise KeyError("not foreseen")

    site.engine.starts = {TARGET: breaks}
    verdict = prove_tag(site.prepare(), "site", None)
    assert (verdict.verdict, verdict.fault) == ("error", "canonq")
    assert "not foreseen" in verdict.detail
    assert site.left() == {}


def test_no_secret_is_in_anything_that_a_run_leaves(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    given, made = "given-to-this-host-1234", list[str]()

    def learns(engine: Docker, stack: Deployable) -> None:
        made.extend(json.loads(path.read_text())["value"] for path in (engine.folder / "secrets").glob("[!.]*"))
        engine.said = {service: f"connected with {' and '.join(made)}" for service in ("app", "db")}
        engine.programs["leak"] = lambda *_: Ended(1, f"cannot log in with {made[0]} {given}")

    monkeypatch.setenv("SMTP_PASSWORD", given)
    site.engine.starts = {TARGET: learns}
    toml = (
        "[secrets]\nsmtp = {env = 'SMTP_PASSWORD'}\n"
        "[env]\nSMTP_TOKEN = 'in-the-env-567890'\nDATABASE_URL = 'postgres://app:in-an-address-1234@db/app'\n"
    )
    verdict = prove_tag(site.prepare(target=files(TARGET, hook="leak"), toml=toml), "site", None)
    assert (verdict.verdict, verdict.reason) == ("red", "backup-failed"), verdict.detail
    assert "cannot log in with ***password*** ***smtp***" in verdict.detail
    secret = [given, "in-the-env-567890", "in-an-address-1234", *made]
    assert len(made[0]) > 20
    kept = [path for path in Path(verdict.directory).rglob("*") if path.is_file()]
    assert {"verdict.json", "app.log", "env.txt"} <= {path.name for path in kept} | {"verdict.json"}
    for path in kept:
        assert not [one for one in secret if one.encode() in path.read_bytes()], path
    assert not [one for one in secret if one in verdict.model_dump_json()]


def test_what_all_recipes_share_is_a_part_of_each_enrolment(site: Site) -> None:
    world, shared = site.prepare(), site.root / "checkout" / "tests" / "_shared"
    before = world.checkout.digest("site")
    shared.mkdir()
    (shared / "everywhere.py").write_text("A = 1\n")
    with_it = site.world.checkout.digest("site")
    (shared / "everywhere.py").write_text("A = 2\n")
    assert len({before, with_it, site.world.checkout.digest("site")}) == 3


def test_one_piece_of_work_may_have_two_stacks_of_a_recipe_which_know_nothing_of_each_other(site: Site) -> None:
    world, ends = site.prepare(), time.monotonic() + 600
    commits, enrolment, account = world.repos.tags("site"), world.checkout.enrolment("site"), Account()

    def tree(app: Deployment) -> Deployment:
        folder = site.root / f"tree-{app.identity.stack}-{app.identity.version}"
        world.repos.checkout("site", app.identity.commit, folder)
        return replace(app, tree=folder)

    def planned(stack: str, version: str) -> Deployment:
        identity = Identity(world.instance, "run", "site", "one-owner", stack, f"{stack}.test", version, commits[version])
        work = site.root / "work" / stack
        work.mkdir(parents=True)
        return account.begins(Deployment(identity, enrolment, work, work, account))

    below, fresh = (
        bring_up(world, tree(planned(*which)), which[0], ends) for which in (("site-below", BASE), ("site-fresh", TARGET))
    )
    upgraded = bring_up(world, tree(below.over(TARGET, commits[TARGET])), "upgrade", ends)
    assert upgraded.prepared.secrets == below.prepared.secrets, "in place it keeps what it has"
    assert upgraded.prepared.secrets["password"] != fresh.prepared.secrets["password"]
    assert not set(upgraded.stack.volumes.values()) & set(fresh.stack.volumes.values())
    assert upgraded.deployment.answered
    assert not fresh.deployment.answered
    assert [one.identity.stack for one in account.begun] == ["site-below", "site-fresh"]
    for running in (upgraded, fresh):
        assert account.images(running.identity.stack) == running.images
        assert account.filled(running.identity.stack, commits[TARGET]) is running.prepared.filled
        lived = (site.engine.place(running.identity.stack, "app", "/srv/files") / LINEAGE).read_text().split()
        assert lived == ([BASE, TARGET] if running is upgraded else [TARGET])
    said = account.secrecy.masks.text(" ".join(one.prepared.secrets["password"] for one in (below, fresh)))
    assert said == "***password*** ***password***"
    assert {"site-below.healthy", "site-fresh.healthy", "upgrade.healthy"} <= set(account.timings)
    tear_down(world, fresh.identity)
    assert site.left() == {}, "they are of one owner, and end together"
