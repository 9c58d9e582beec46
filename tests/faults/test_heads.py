"""From which version a pull request's head is upgraded, through the flow: it may not have bumped its version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.core.bases import HEAD, named_version
from canonq.core.gate import gate
from canonq.flows.promote import promote
from canonq.flows.test import test_ref as prove_ref
from canonq.flows.world import World
from tests.faults.test_broken_bases import TAGS, Bases, prepared, with_canonical
from tests.faults.test_whose_fault import COMPOSE

pytestmark = pytest.mark.usefixtures("tiers_that_pass")

LABEL = "coop-cloud.${STACK_NAME}.version"


def in_a_list(version: str) -> str:
    return json.dumps([f"{LABEL}={version}"])


def in_a_mapping(version: str) -> str:
    return json.dumps({LABEL: version})


def in_a_quoted_line_of_a_list(version: str) -> str:
    return f"\n        - 'coop-cloud.${{STACK_NAME}}.version={version}'  # bumped by abra"


FORMS = [in_a_list, in_a_mapping, in_a_quoted_line_of_a_list]


def compose(labels: str) -> str:
    lines = COMPOSE.splitlines(keepends=True)
    return "".join(f"    deploy:\n      labels: {labels}\n" if line.startswith("    deploy:") else line for line in lines)


def head(world: World, folder: Path, labels: str) -> str:
    """A commit on a branch of its own, with no tag."""
    repo = Repo(folder / "site")
    repo.git.checkout("-b", "topic")
    (folder / "site" / "compose.yml").write_text(compose(labels))
    repo.git.commit("--all", "--quiet", "--message", "work in progress")
    return str(repo.head.commit.hexsha)


@pytest.mark.long
@pytest.mark.parametrize("form", FORMS, ids=[form.__name__ for form in FORMS])
@pytest.mark.parametrize(
    ("says", "canonical", "base", "source"),
    [
        ("1.4.0+1", "1.4.0+1", "1.3.0+1", "older-release"),
        ("1.4.0+1", "1.5.0+1", "1.3.0+1", "older-release"),
        ("1.6.0+2", "1.5.0+1", "1.5.0+1", "canonical"),
    ],
    ids=["not bumped", "of an older line", "bumped"],
)
def test_a_head_is_upgraded_from_what_is_older_than_it_calls_itself(
    tmp_path: Path, redis_url: str, form: Callable[[str], str], says: str, canonical: str, base: str, source: str
) -> None:
    engine = Bases(tmp_path / "docker", ())
    world = prepared(tmp_path, redis_url, engine)
    with_canonical(world, canonical, {})
    commit = head(world, tmp_path, form(says))
    before = world.registry.folder("site").joinpath("canonical.json").read_bytes()
    verdict = prove_ref(world, "site", "topic")
    assert (verdict.verdict, verdict.commit) == ("green", commit), verdict.detail
    assert (verdict.base, verdict.base_from) == (base, source)
    assert engine.deployed[1] == base
    # Green, and of no tag: nothing of it can become the canonical.
    assert [one.code for one in gate(enrolled=True, verdict=verdict, tags=world.repos.tags("site"), canonical=None)] == [
        "is-a-ref",
        "not-a-release",
    ]
    assert promote(world, "site").outcome == "refused"
    assert world.registry.folder("site").joinpath("canonical.json").read_bytes() == before
    assert sorted(path.name for path in world.registry.folder("site").iterdir() if path.suffix == ".json") == ["canonical.json"]


def test_a_head_of_the_oldest_release_has_nothing_to_be_upgraded_from(tmp_path: Path, redis_url: str) -> None:
    engine = Bases(tmp_path / "docker", ())
    world = prepared(tmp_path, redis_url, engine)
    with_canonical(world, TAGS[0], {})
    head(world, tmp_path, in_a_mapping(TAGS[0]))
    verdict = prove_ref(world, "site", "topic")
    assert (verdict.verdict, verdict.base, verdict.base_from) == ("green", None, "none"), verdict.detail
    assert verdict.tiers["upgrade"].status == "skip"
    assert "no older release" in verdict.tiers["upgrade"].reason


@pytest.mark.parametrize("form", FORMS, ids=[form.__name__ for form in FORMS])
def test_a_version_is_read_in_every_form_in_which_labels_are_written(form: Callable[[str], str]) -> None:
    assert named_version(compose(form("1.2.0+3.4"))) == "1.2.0+3.4"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "services: [",
        "services: {}",
        "services: {app: null}",
        "services: {app: {deploy: {labels: [1, null]}}}",
        "services: {app: {deploy: {labels: {coop-cloud.x.version: latest}}}}",
        "services: {app: {deploy: {labels: {org.version: 1.2.0+3}}}}",
        "# coop-cloud.x.version=1.2.0+3\nservices: {app: {}}",
    ],
)
def test_a_head_that_does_not_say_which_version_it_is_comes_after_all_releases(text: str | None) -> None:
    assert named_version(text) == HEAD


def test_the_main_service_is_asked_first() -> None:
    assert named_version(
        "services:\n"
        "  aaa: {deploy: {labels: {coop-cloud.x.version: 1.0.0+1}}}\n"
        "  app: {deploy: {labels: {coop-cloud.x.version: 2.0.0+1}}}\n"
    ) == "2.0.0+1"  # fmt: skip
