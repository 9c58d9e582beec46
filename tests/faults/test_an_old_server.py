"""The first two nights on a server that another system has kept: its recipes, their odd tags, its records and its one pin.

Its records are as it wrote them: five keys, no data, and a merge commit in place of the tag's here and there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from canonq.adapters.state.budget import Budget
from canonq.core.ladder import PROVEN_TIERS, TierResult
from canonq.core.outcomes import exit_status
from canonq.core.records import Decision, Verdict
from canonq.flows.decide import decide_recipe
from canonq.flows.promote import promote
from canonq.flows.sweeps.closing import finish
from canonq.flows.sweeps.opening import open_sweep
from canonq.flows.sweeps.settling import outcome_of
from canonq.flows.sync import sync
from canonq.flows.world import World
from canonq.settings import Settings
from canonq.wiring import live
from tests.fakes import FakeEngine
from tests.support import make_recipe

pytestmark = pytest.mark.long

FILES = {
    "compose.yml": 'services:\n  app:\n    image: site:1\n    volumes: ["data:/srv"]\nvolumes: {data: {}}\n',
    ".env.sample": "TYPE=site\nDOMAIN=site.example.com\n",
}
KEPT = ("recipe", "version", "commit", "status", "ts")  #: all that the records of the old server have
MERGE = "5" * 40  #: a commit that no tag names and no clone has

HEALTH = "[health]\nkind = 'exec'\ncommand = ['true']\nsoak = 0\n"


@dataclass(frozen=True)
class Had:
    """One recipe of the old server."""

    recipe: str
    tags: tuple[str, ...]  #: in the order in which they were made
    record: str | None = None  #: the version of its record
    merged: bool = False  #: whether the record names the merge commit in place of the tag's
    pin: str | None = None
    first: str = ""  #: what the first night does
    newest: str = ""  #: what is the canonical then
    base: str | None = None
    more: dict[str, Any] = field(default_factory=dict)  #: what else its record says, or says otherwise
    light: bool = False  #: whether its tags are no annotated ones


NEW, SEED, IDLE, NONE = "run new-version", "run seed", "skip no-new-version", "skip never-released"
SERVER = (
    Had("custom-html", ("1.12.0+1.29.0", "1.13.0+1.31.1"), "1.13.0+1.31.1", merged=True, first=IDLE, newest="1.13.0+1.31.1"),
    Had("custom-html-tiny", ("1.1.0+2.38.0", "1.2.0+2.43.0"), "1.1.0+2.38.0", first=NEW, newest="1.2.0+2.43.0",
        base="1.1.0+2.38.0"),
    Had("ghost", ("1.1.1+6-alpine", "1.3.0+6.42.0-alpine"), "1.1.1+6-alpine", first=NEW, newest="1.3.0+6.42.0-alpine",
        base="1.1.1+6-alpine"),
    Had("gitea", ("1.14.1-rootless_1", "3.5.2+1.24.2-rootless", "3.5.3+1.24.2-rootless"), "3.5.3+1.24.2-rootless", first=IDLE,
        newest="3.5.3+1.24.2-rootless"),
    Had("foodsharing-cms", ("v1.0.0", "v1.0.1", "v1.0.3"), first=NONE),
    Had("traefik", ("v2.4.8", "3.8.0+v3.4.1", "3.10.0+v3.5.0"), "3.8.0+v3.4.1", merged=True, first=NEW, newest="3.10.0+v3.5.0",
        base="3.8.0+v3.4.1"),
    Had("plausible", ("2.0.0+v1.5.1", "3.0.1+v2.0.0", "3.0.2+v2.0.0"), pin="3.0.1+v2.0.0", first=SEED, newest="3.0.2+v2.0.0",
        base="3.0.1+v2.0.0"),
    Had("nextcloud", ("5.0.2+27.0.1-fpm", "5.0.3+27.0.1-fpm"), "5.0.2+27.0.1-fpm", first=NEW, newest="5.0.3+27.0.1-fpm",
        base="5.0.2+27.0.1-fpm"),
    Had("mumble", ("1.0.0+v1.6.870-0",), first=SEED, newest="1.0.0+v1.6.870-0"),
    Had("calendar", ("1.9.0+2024.06.37", "1.10.0+2024.7.1"), "1.9.0+2024.06.37", first=NEW, newest="1.10.0+2024.7.1",
        base="1.9.0+2024.06.37"),
    Had("bonfire", ("0.1.0+0.9.10", "0.1.1+1.0.0-beta", "0.1.2+1.0.0-rc.3.2"), "0.1.1+1.0.0-beta", first=NEW,
        newest="0.1.2+1.0.0-rc.3.2", base="0.1.1+1.0.0-beta"),
    Had("minio", ("1.0.0+RELEASE.2024-01-20T22-58-05Z", "1.1.0+RELEASE.2025-01-20T14-49-07Z"),
        "1.0.0+RELEASE.2024-01-20T22-58-05Z", first=NEW, newest="1.1.0+RELEASE.2025-01-20T14-49-07Z",
        base="1.0.0+RELEASE.2024-01-20T22-58-05Z"),
    Had("wordpress", ("2.9.0+6.7.1", "2.10.0+6.7.2"), "2.9.0+6.7.1", first=NEW, newest="2.10.0+6.7.2", base="2.9.0+6.7.1"),
    Had("keycloak", ("10.6.0+26.0.7", "10.7.0+26.1.0"), "10.7.0+26.1.0", first=IDLE, newest="10.7.0+26.1.0"),
    Had("lemp", ("latest", "main-backup"), first=NONE),
    Had("abramon", (), first=NONE),
    Had("discourse", ("0.3.0+3.3.2", "0.4.0+3.4.0", "0.5.0-rc1+3.5.0"), "0.4.0+3.4.0", first=IDLE, newest="0.4.0+3.4.0"),
    Had("hedgedoc", ("1.0.0+1.9.9", "1.0.0+1.10.0"), "1.0.0+1.9.9", first=NEW, newest="1.0.0+1.10.0", base="1.0.0+1.9.9"),
    Had("mattermost", ("2.1.9+10.2.1", "2.1.10+10.4.2"), "2.1.10+10.4.2", merged=True, first=IDLE, newest="2.1.10+10.4.2"),
    Had("drone", ("1.1.0+2.26.0", "wip/1.2.0"), "1.1.0+2.26.0", first=IDLE, newest="1.1.0+2.26.0"),
    Had("bore", ("0.1.0+0.5.2", "0.2.0+0.6.0"), first=SEED, newest="0.2.0+0.6.0", base="0.1.0+0.5.2"),
)  # fmt: skip


def server(tmp_path: Path, redis_url: str, recipes: Sequence[Had]) -> World:
    """The old server's checkout, upstreams and records, on an Engine of files."""
    state = tmp_path / "state"
    for had in recipes:
        upstream = tmp_path / "upstreams" / had.recipe
        repo = make_recipe(upstream, {"first": {"README.md": had.recipe}})
        repo.git.tag("-d", "first")
        commits = {}
        for tag in had.tags:
            (upstream / "TAG").write_text(tag)
            for name, text in FILES.items():
                (upstream / name).write_text(text)
            repo.git.add("-A")
            repo.git.commit("-qm", tag)
            repo.create_tag(tag, message=None if had.light else tag)
            commits[tag] = repo.head.commit.hexsha
        folder = tmp_path / "checkout" / "tests" / had.recipe
        folder.mkdir(parents=True)
        pin = f'[upgrade]\nbase = "{had.pin}"\nwhy = "2.x cannot be brought up any more"\n' if had.pin else ""
        (folder / "recipe.toml").write_text(
            f"upstream = \"{upstream}\"\n{pin}[health]\nkind = 'exec'\ncommand = ['true']\nsoak = 0\n"
        )
        if had.record:
            warm = state / "warm" / had.recipe
            warm.mkdir(parents=True)
            kept = (had.recipe, had.record, MERGE if had.merged else commits.get(had.record, MERGE), "idle", "20260617T050314Z")
            (warm / "canonical.json").write_text(json.dumps(dict(zip(KEPT, kept, strict=True)) | had.more))
    settings = Settings(repo=tmp_path / "checkout", state=state, redis_url=redis_url, disk_need=1)
    budget = Budget(state / "locks" / "disk", lambda: 10**12, 0)
    return replace(live(settings), engine=FakeEngine(tmp_path / "docker"), budget=budget)


@pytest.fixture
def world(tmp_path: Path, redis_url: str) -> World:
    return server(tmp_path, redis_url, SERVER)


def proof(world: World, decision: Decision) -> Verdict:
    """The verdict of a run that proved what was decided; nobody can climb on an Engine of files."""
    run = world.new_id(decision.recipe)
    world.runs.make(decision.recipe, run)
    record = world.registry.read(decision.recipe)
    verdict = Verdict(
        recipe=decision.recipe, run=run, sweep=decision.sweep, verdict="green", reason="proven", detail="",
        version=str(decision.version), commit=str(decision.commit), enrolment=world.checkout.digest(decision.recipe), level=4,
        base=decision.base, base_commit=decision.base_commit, base_from=decision.base_from, fence=record.fence if record else 0,
        tiers={tier: TierResult(status="pass") for tier in PROVEN_TIERS}, images=world.engine.ensure_images(["site:1"], 1),
        ts=world.stamp(), disk_bytes=1,
    )  # fmt: skip
    verdict = verdict.model_copy(update={"images": {"app": verdict.images["site:1"]}})
    world.runs.record(verdict)
    return verdict


def night(world: World, recipes: Sequence[Had] = SERVER) -> tuple[dict[str, Decision], dict[str, int], int]:
    """One sweep of all: what was decided of each, the sums of outcomes, and its exit status."""
    sweep = open_sweep(world, nightly=True).sweep
    decided = {}
    for had in recipes:
        synced = sync(world, had.recipe, sweep=sweep)
        decision = decided[had.recipe] = decide_recipe(world, synced)
        ends = promote(world, proof(world, decision)) if decision.action == "run" else decision
        outcome = outcome_of(world, ends)
        assert outcome, ends
        world.sweeps.settle(sweep, outcome)
    whole = finish(world, sweep)
    assert whole
    return decided, whole["counts"], int(exit_status(world.sweeps.outcomes(sweep).values()))


def test_an_old_server_of_21_recipes_goes_through_two_nights(world: World) -> None:
    assert len(SERVER) == 21
    first, counts, status = night(world)
    assert {recipe: f"{one.action} {one.reason}" for recipe, one in first.items()} == {had.recipe: had.first for had in SERVER}
    assert {recipe: one.base for recipe, one in first.items() if one.action == "run"} == {
        had.recipe: had.base for had in SERVER if had.first in (NEW, SEED)
    }
    runs = sum(had.first in (NEW, SEED) for had in SERVER)
    assert counts == {"promoted": runs, "skipped": 21 - runs, "red": 0, "error": 0, "deferred": 0}
    assert status == 0, "an old record is no error, and a merge commit in it no moved tag"
    differs = {had.recipe for had in SERVER if had.merged}
    assert {recipe for recipe, one in first.items() if any("record-commit-differs" in note for note in one.notes)} == differs

    def canonicals() -> dict[str, str]:
        return {had.recipe: record.version for had in SERVER if (record := world.registry.read(had.recipe))}

    kept = {had.recipe: had.newest for had in SERVER if had.newest}
    assert canonicals() == kept
    promoted = world.registry.read("traefik")
    assert promoted
    assert promoted.commit == world.repos.tags("traefik")["3.10.0+v3.5.0"] != MERGE
    assert promoted.has_data, "what the old server had no data for has some from its first promotion on"

    second, counts, status = night(world)
    assert {one.action for one in second.values()} == {"skip"}
    assert counts == {"promoted": 0, "skipped": 21, "red": 0, "error": 0, "deferred": 0}
    assert (status, canonicals()) == (0, kept)
    assert any("stale-pin" in note and "2.x cannot be brought up" in note for note in second["plausible"].notes)


#: Odder ones: what stands there is what must come of them.
ODD = (
    Had("tag-gone", ("1.0.0+1", "1.1.0+1"), "1.2.0+1", first="skip yanked", newest="1.2.0+1"),
    Had("lightweight", ("1.0.0+1", "1.1.0+1"), "1.0.0+1", light=True, first=NEW, newest="1.1.0+1", base="1.0.0+1"),
    Had("more-said", ("1.0.0+1", "1.1.0+1"), "1.0.0+1", first=NEW, newest="1.1.0+1", base="1.0.0+1",
        more={"note": "ask ada", "status": "deployed", "ts": "20990101T000000Z", "digest": None}),
    Had("same-app", ("1.0.0+1.0", "1.0.0+1.0.0"), first=SEED, newest="1.0.0+1.0.0", base="1.0.0+1.0"),
    Had("builds", ("1.0.0+2.0.0-9", "1.0.0+2.0.0-10"), "1.0.0+2.0.0-9", first=NEW, newest="1.0.0+2.0.0-10",
        base="1.0.0+2.0.0-9"),
    Had("alpine", ("1.0.0+3-alpine3.18", "1.0.0+3-alpine3.9"), "1.0.0+3-alpine3.9", first=NEW, newest="1.0.0+3-alpine3.18",
        base="1.0.0+3-alpine3.9"),
    Had("no-releases", ("1.0+2", "01.0.0+1", "1.0.0.0+1", "v1.0.0+1", "1.0.0+", "release/1.0.0+1", "1.0.0+\u00fc"),
        first=NONE),
    Had("of-today", ("9.9.9+2026.11.29", "10.0.0+2026.1.2"), "9.9.9+2026.11.29", first=NEW, newest="10.0.0+2026.1.2",
        base="9.9.9+2026.11.29"),
)  # fmt: skip


def test_odder_recipes_of_an_old_server_go_through_two_nights(tmp_path: Path, redis_url: str) -> None:
    world = server(tmp_path, redis_url, ODD)
    first, counts, status = night(world, ODD)
    assert {recipe: (f"{one.action} {one.reason}", one.base) for recipe, one in first.items()} == {
        had.recipe: (had.first, had.base) for had in ODD
    }
    assert (counts["error"], counts["red"], counts["deferred"], status) == (0, 0, 0, 0)
    kept = {had.recipe: had.newest for had in ODD if had.newest}
    assert {had.recipe: record.version for had in ODD if (record := world.registry.read(had.recipe))} == kept
    said = json.loads((world.settings.state / "warm" / "more-said" / "canonical.json").read_text())
    assert (said["note"], said["digest"]) == ("ask ada", None), "what nobody knows survives"
    second, counts, status = night(world, ODD)
    assert {one.action for one in second.values()} == {"skip"}
    assert status == 0
