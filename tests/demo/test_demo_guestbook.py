"""The guestbook, whose database is in an overlay: what its repository holds, without deploying anything."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from git import Commit, Repo

from demo import upstreams

RELEASES = ["1.2.1+6.41.0-alpine", "1.3.0+6.42.0-alpine"]


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """Its repository."""
    return Repo(upstreams.make_upstreams(tmp_path_factory.mktemp("upstreams"), ["guestbook"])["guestbook"])


def text(commit: Commit, path: str) -> str:
    content = (commit.tree / path).data_stream.read()
    assert isinstance(content, bytes)
    return content.decode()


def composes(commit: Commit) -> list[dict[str, Any]]:
    return [yaml.safe_load(text(commit, path)) for path in ("compose.yml", "compose.postgres.yml")]


def test_the_guestbook_has_two_annotated_releases_and_nothing_after_them(repo: Repo) -> None:
    assert sorted(tag.name for tag in repo.tags) == RELEASES
    assert all(tag.tag is not None for tag in repo.tags)
    assert repo.active_branch.name == "main"
    assert [commit.hexsha for commit in repo.iter_commits(reverse=True)] == [repo.tags[tag].commit.hexsha for tag in RELEASES]


@pytest.mark.parametrize("tag", RELEASES)
def test_the_label_and_the_image_of_the_guestbook_are_those_of_its_tag(repo: Repo, tag: str) -> None:
    app = composes(repo.tags[tag].commit)[0]["services"]["app"]

    assert f"coop-cloud.${{STACK_NAME}}.version={tag}" in app["deploy"]["labels"]
    assert app["image"] == f"canonq-demo/guestbook:{tag.partition('+')[2]}"


@pytest.mark.parametrize("tag", RELEASES)
def test_the_sample_of_the_guestbook_chooses_the_overlay_and_generates_the_password(repo: Repo, tag: str) -> None:
    sample = text(repo.tags[tag].commit, ".env.sample")

    assert 'COMPOSE_FILE="compose.yml"\nCOMPOSE_FILE="$COMPOSE_FILE:compose.postgres.yml"\n' in sample
    assert "SECRET_DB_PASSWORD_VERSION=v1 # length=32\n" in sample


@pytest.mark.parametrize("tag", RELEASES)
def test_every_config_of_the_guestbook_is_a_file_with_a_version_in_abra_sh(repo: Repo, tag: str) -> None:
    commit = repo.tags[tag].commit

    for compose in composes(commit):
        for name, body in compose["configs"].items():
            assert body["name"] == f"${{STACK_NAME}}_{name}_${{{name.upper()}_VERSION}}"
            assert f"export {name.upper()}_VERSION=v" in text(commit, "abra.sh")
            assert text(commit, body["file"]).startswith("#!/bin/sh\n")


def test_only_the_test_overlay_of_the_guestbook_knows_of_this_kernel(repo: Repo) -> None:
    for tag in repo.tags:
        assert not any("endpoint_mode" in str(compose) for compose in composes(tag.commit))
    overlay = yaml.safe_load((upstreams.ENROLMENTS / "guestbook" / "compose.canonq.yml").read_text())
    assert overlay["services"]["db"]["deploy"]["endpoint_mode"] == "dnsrr"
