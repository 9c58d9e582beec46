"""Upgrade bases that do not come up: nothing is known of the release, so it is never its red (docs/rules.md 2, test)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from canonq.core.deployable import Deployable
from canonq.core.errors import ExitStatus
from canonq.core.outcomes import ended_by, exit_status
from canonq.core.records import Canonical, Verdict
from canonq.core.sweeps.again import Trouble, again
from canonq.flows.sync import sync
from canonq.flows.test import test_tag as prove_tag
from canonq.flows.world import World
from tests.faults.test_whose_fault import FILES, TOML, Engine, died, world_of
from tests.support import make_recipe

pytestmark = pytest.mark.usefixtures("tiers_that_pass")

TAGS = ("1.0.0+1", "1.1.0+1", "1.2.0+1", "1.3.0+1", "1.4.0+1", "1.5.0+1")
NEWEST = TAGS[-1]


class Bases(Engine):
    """The Engine of files, on which some versions do not come up."""

    def __init__(self, folder: Path, broken: tuple[str, ...], digests: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.task, self.broken = died("task: non-zero exit (1)", "failed")["task"], broken
        self.deployed: list[str] = []
        self.left: list[str] = []  #: what the volumes had when a version was deployed

    def is_broken(self, stack: str) -> bool:
        return self.version(stack) in self.broken

    def deploy(self, stack: Deployable, folder: Path, timeout: float) -> None:
        self.left.append(",".join(self.owned({})["volumes"]))
        super().deploy(stack, folder, timeout)
        self.deployed.append(self.version(stack.stack))


def prepared(folder: Path, redis_url: str, engine: Engine, toml: str = "") -> World:
    make_recipe(folder / "site", dict.fromkeys(TAGS, FILES))
    own = folder / "checkout" / "tests" / "site"
    own.mkdir(parents=True)
    (own / "recipe.toml").write_text(f'upstream = "{folder / "site"}"\n{TOML}{toml}')
    world = world_of(folder, redis_url, engine)
    sync(world, "site")
    return world


def with_canonical(world: World, version: str, images: Mapping[str, str]) -> None:
    with world.locks.hold("site", "a test") as held:
        assert held is not None
        record = Canonical(recipe="site", version=version, commit=world.repos.tags("site")[version], status="canonical",
                           ts=world.stamp(), images=dict(images), run="20260101T000000Z-site-aaaaaa")  # fmt: skip
        world.registry.write(record, held)


@pytest.mark.long
def test_a_seed_steps_back_from_older_releases_that_do_not_come_up(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", ("1.4.0+1", "1.3.0+1"))
    world = prepared(tmp_path, redis_url, engine)
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert engine.deployed == [NEWEST, "1.4.0+1", "1.3.0+1", "1.2.0+1", NEWEST], "the fresh install stays, and begins none anew"
    fresh = engine.left[1]
    assert engine.left[:4] == ["", fresh, fresh, fresh], "each begins on empty volumes, and what stood before is gone"
    assert (verdict.base, verdict.base_from, verdict.deployments) == ("1.2.0+1", "older-release", 4)
    assert verdict.base_commit == world.repos.tags("site")["1.2.0+1"]
    passed = [note for note in verdict.notes if note.startswith("base-passed-over: ")]
    assert [note.split()[1] for note in passed] == ["1.4.0+1", "1.3.0+1"]
    assert "non-zero exit" in passed[0]
    folder = Path(verdict.directory)
    assert (folder / "base-1" / "base" / "resolved.json").is_file()
    assert (folder / "base-2" / "logs").is_dir()


@pytest.mark.long
def test_with_nothing_left_to_begin_from_it_is_an_error_that_names_the_ways_out(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", TAGS[:-1])
    world = prepared(tmp_path, redis_url, engine)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "base-not-healthy", "recipe")
    assert engine.deployed == [NEWEST, "1.4.0+1", "1.3.0+1", "1.2.0+1", "1.1.0+1"], "three steps back, and no more"
    assert "[upgrade] base" in verdict.detail
    assert "[expected_na] upgrade" in verdict.detail
    assert (verdict.rungs["install"].status, verdict.rungs["upgrade"].status) == ("pass", "not-reached")
    assert world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0, (
        "it is no red, and holds nothing"
    )
    outcome = ended_by(verdict, None)
    assert outcome is not None
    assert exit_status([outcome]) == ExitStatus.ATTENTION, "a person has to look, and no machinery has failed"


@pytest.mark.long
def test_declared_the_tier_is_left_out_and_the_release_is_proven_by_itself(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", TAGS[:-1])
    world = prepared(tmp_path, redis_url, engine, "[expected_na]\nupgrade = 'older ones need an image that is gone'\n")
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert engine.deployed.count(NEWEST) == 1, "the fresh install goes up itself"
    assert (verdict.base, verdict.tiers["upgrade"].status) == (None, "skip")
    assert "older ones need an image that is gone" in verdict.tiers["upgrade"].reason
    assert "1.1.0+1" in verdict.tiers["upgrade"].reason


@pytest.mark.long
def test_an_image_that_moved_and_works_is_green_and_told_with_both_digests(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", ())
    world = prepared(tmp_path, redis_url, engine)
    image = "registry.example/site:1"
    now, was = engine.ensure_images([image], 1)[image], f"sha256:{'1' * 64}"
    with_canonical(world, "1.4.0+1", {"app": was})
    verdict = prove_tag(world, "site", None)
    assert verdict.verdict == "green", verdict.detail
    assert f"image-moved: app: {image} was {was} and is {now}, since the canonical 1.4.0+1 was proven" in verdict.notes
    with_canonical(world, "1.4.0+1", {"app": now})
    assert not [note for note in prove_tag(world, "site", None).notes if note.startswith("image-moved")]


@pytest.mark.long
@pytest.mark.parametrize("moved", [True, False], ids=["its image moved", "its images are the same"])
def test_a_canonical_that_does_not_come_up_is_an_error_with_the_images_that_moved(
    tmp_path: Path, redis_url: str, moved: bool
) -> None:
    engine = Bases(tmp_path / "docker", ("1.4.0+1",))
    world = prepared(tmp_path, redis_url, engine)
    image = "registry.example/site:1"
    now, was = engine.ensure_images([image], 1)[image], f"sha256:{'1' * 64}"
    with_canonical(world, "1.4.0+1", {"app": was if moved else now})
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason) == ("error", "base-not-healthy")
    assert verdict.fault == ("recipe" if moved else "host")
    assert engine.deployed == [NEWEST, "1.4.0+1"], (
        "the canonical's data has to leave from the canonical: nothing is stepped back from"
    )
    assert "non-zero exit" in verdict.detail
    assert (f"app: {image} was {was} and is {now}" in verdict.detail) is moved
    assert world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0
    assert verdict.service == "app"
    trouble = Trouble(verdict.fault, verdict.reason)
    tried_again = again(trouble, tried=0, now=0, began=0, first=60).at is not None
    assert tried_again is not moved, "what may be the host's is tried again in the night; no time mends an image"
    outcome = ended_by(verdict, None)
    assert outcome is not None
    assert exit_status([outcome]) == ExitStatus.ATTENTION


@pytest.mark.long
def test_a_pinned_base_that_does_not_come_up_is_the_enrolments_to_mend(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", ("1.2.0+1",))
    world = prepared(tmp_path, redis_url, engine, "[upgrade]\nbase = '1.2.0+1'\n")
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "base-not-healthy", "enrolment")
    assert engine.deployed == [NEWEST, "1.2.0+1"]


@pytest.mark.long
def test_what_is_wrong_with_a_bases_own_files_is_the_bases(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", ())
    broken = {**FILES, "compose.yml": FILES["compose.yml"].replace("    volumes: [", "    comand: x\n    volumes: [")}
    make_recipe(tmp_path / "site", {"1.0.0+1": FILES, "1.1.0+1": broken, "1.2.0+1": FILES})
    own = tmp_path / "checkout" / "tests" / "site"
    own.mkdir(parents=True)
    (own / "recipe.toml").write_text(f'upstream = "{tmp_path / "site"}"\n{TOML}')
    world = world_of(tmp_path, redis_url, engine)
    sync(world, "site")
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.base) == ("green", "1.0.0+1"), verdict.detail
    assert any("did you mean 'command'?" in note for note in verdict.notes)


@pytest.mark.long
def test_the_release_itself_stays_red_when_only_it_is_broken(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", (NEWEST,))
    world = prepared(tmp_path, redis_url, engine)
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.fault, verdict.base) == ("red", "recipe", "1.4.0+1")
    assert (verdict.reason, verdict.cause, verdict.tiers["install"].status) == ("install-failed", "not-healthy", "fail")
    assert set(verdict.tiers) == {"install", "lint"}
    assert world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 1


@pytest.mark.long
def test_a_base_that_did_not_come_up_under_load_is_tried_once_more_alone(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Bases(tmp_path / "docker", ("1.4.0+1",))
    prepared_world = prepared(tmp_path, redis_url, engine)
    with_canonical(prepared_world, "1.4.0+1", {})
    world = replace(prepared_world, settings=prepared_world.settings.model_copy(update={"loaded_above": 0.5}))
    monkeypatch.setattr(type(world.host), "load", lambda _: 9.0)
    verdict: Verdict = prove_tag(world, "site", None)
    assert engine.deployed == [NEWEST, "1.4.0+1"] * 2
    assert verdict.first_run is not None


@pytest.mark.long
def test_a_release_and_its_canonical_that_both_do_not_come_up_are_no_red(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", ("1.4.0+1", NEWEST))
    world = prepared(tmp_path, redis_url, engine)
    with_canonical(world, "1.4.0+1", {})
    verdict = prove_tag(world, "site", None)
    assert (verdict.verdict, verdict.reason, verdict.fault) == ("error", "base-not-healthy", "host"), verdict.detail
    assert verdict.tiers["install"].status == "unverified"
    assert world.runs.reds("site", str(verdict.version), str(verdict.commit), verdict.enrolment) == 0
