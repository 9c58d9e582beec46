"""The demonstration's recipes: what their repositories hold, without deploying anything."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from git import Blob, Commit, Repo

from canonq.core.enrolment import parse_enrolment
from demo import upstreams

RELEASES = {
    "custom-html": ["1.11.0+1.29.0", "1.12.0+1.30.0"],
    "forge": ["3.5.3+1.24.2-rootless", "3.6.0+1.25.0-rootless"],
    "tiny-html": ["1.1.0+2.42.0", "1.2.0+2.43.0"],
    "unreleased": ["v2.4.8"],
    "voice": ["0.9.0+v1.5.735-0", "1.0.0+v1.6.870-0"],
}
LATER = "1.13.0+1.31.1"
BRANCHES = dict.fromkeys(RELEASES, "main") | {"voice": "master"}
AHEAD = dict.fromkeys(RELEASES, 0) | {"tiny-html": 1}
every_recipe = pytest.mark.parametrize("name", sorted(RELEASES))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All repositories, before anything is published."""
    return upstreams.make_upstreams(tmp_path_factory.mktemp("upstreams"))


def text(commit: Commit, path: str) -> str:
    content = (commit.tree / path).data_stream.read()
    assert isinstance(content, bytes)
    return content.decode()


def compose(commit: Commit) -> dict[str, Any]:
    parsed = yaml.safe_load(text(commit, "compose.yml"))
    assert isinstance(parsed, dict)
    return parsed


def version_label(commit: Commit) -> str:
    prefix = "coop-cloud.${STACK_NAME}.version="
    found = [label for label in compose(commit)["services"]["app"]["deploy"]["labels"] if label.startswith(prefix)]
    assert len(found) == 1
    return str(found[0].removeprefix(prefix))


def refs(path: Path) -> dict[str, str]:
    return {ref.path: ref.object.hexsha for ref in Repo(path).refs}


def test_every_folder_with_a_history_becomes_a_repository(made: dict[str, Path]) -> None:
    assert sorted(made) == upstreams.recipe_names()
    assert set(RELEASES) <= set(made)


@every_recipe
def test_a_repository_has_the_expected_branch_tags_and_commits(made: dict[str, Path], name: str) -> None:
    repo = Repo(made[name])

    assert [head.name for head in repo.heads] == [BRANCHES[name]]
    assert repo.active_branch.name == BRANCHES[name]
    assert sorted(tag.name for tag in repo.tags) == RELEASES[name]
    commits = list(repo.iter_commits(reverse=True))
    assert [commit.hexsha for commit in commits[: len(RELEASES[name])]] == [
        repo.tags[tag].commit.hexsha for tag in RELEASES[name]
    ]
    assert len(commits) == len(RELEASES[name]) + AHEAD[name]
    assert not repo.is_dirty(untracked_files=True)


def test_only_the_hand_pushed_tag_is_lightweight(made: dict[str, Path]) -> None:
    lightweight = [tag.name for name in RELEASES for tag in Repo(made[name]).tags if tag.tag is None]

    assert lightweight == ["1.2.0+2.43.0"]


@every_recipe
def test_the_version_label_of_every_tag_is_the_tag(made: dict[str, Path], name: str) -> None:
    for tag in Repo(made[name]).tags:
        assert version_label(tag.commit) == tag.name


@every_recipe
def test_the_image_of_every_release_is_the_upstream_part_of_its_tag(made: dict[str, Path], name: str) -> None:
    for tag in Repo(made[name]).tags:
        image = compose(tag.commit)["services"]["app"]["image"]
        assert "+" not in tag.name or image == f"canonq-demo/static:{tag.name.split('+')[1]}"


@every_recipe
def test_every_commit_follows_the_conventions(made: dict[str, Path], name: str) -> None:
    for commit in Repo(made[name]).iter_commits():
        parsed = compose(commit)
        app = parsed["services"]["app"]
        assert parsed["version"] == "3.8"
        assert parsed["networks"]["proxy"] == {"external": True}
        assert "coop-cloud.${STACK_NAME}.timeout=${TIMEOUT:-120}" in app["deploy"]["labels"]
        assert app["deploy"]["update_config"] == {"failure_action": "rollback", "order": "start-first"}
        assert all("$" not in str(app["healthcheck"][key]) for key in ("interval", "timeout", "start_period"))
        assert app["stop_grace_period"] == "2s"
        readme = text(commit, "README.md")
        assert readme.index("<!-- metadata -->") < readme.index("<!-- endmetadata -->")
        sample = text(commit, ".env.sample")
        assert re.search(rf"^(TYPE|RECIPE)={name}$", sample, re.MULTILINE)
        assert all(f"\n{key}=" in sample for key in ("DOMAIN", "LETS_ENCRYPT_ENV", "COMPOSE_FILE"))


@every_recipe
def test_every_config_is_a_file_of_the_commit_with_a_version_in_abra_sh(made: dict[str, Path], name: str) -> None:
    for commit in Repo(made[name]).iter_commits():
        exported = dict(re.findall(r"^export (\w+)=(v\d+)$", text(commit, "abra.sh"), re.MULTILINE))
        for config, body in compose(commit)["configs"].items():
            variable = f"{config.upper()}_VERSION"
            assert body["name"] == f"${{STACK_NAME}}_{config}_${{{variable}}}"
            assert variable in exported
            assert text(commit, body["file"])


@pytest.mark.parametrize(("name", "forgotten"), [("custom-html", []), ("voice", []), ("tiny-html", []), ("forge", ["app_ini"])])
def test_only_forge_changes_a_config_without_bumping_its_version(made: dict[str, Path], name: str, forgotten: list[str]) -> None:
    old, new = (Repo(made[name]).tags[tag].commit for tag in RELEASES[name])

    def changed_in_place(config: str, body: dict[str, str]) -> bool:
        bumped = [re.findall(rf"{config.upper()}_VERSION=(\w+)", text(commit, "abra.sh")) for commit in (old, new)]
        return text(old, body["file"]) != text(new, body["file"]) and bumped[0] == bumped[1]

    assert [config for config, body in compose(new)["configs"].items() if changed_in_place(config, body)] == forgotten


def test_the_branch_of_tiny_html_names_an_image_that_no_release_has(made: dict[str, Path]) -> None:
    repo = Repo(made["tiny-html"])
    released = [compose(tag.commit)["services"]["app"]["image"] for tag in repo.tags]

    assert compose(repo.head.commit)["services"]["app"]["image"] not in released


def test_making_them_a_second_time_gives_the_same_commits_and_tags(made: dict[str, Path], tmp_path: Path) -> None:
    again = upstreams.make_upstreams(tmp_path)

    assert {name: refs(path) for name, path in again.items()} == {name: refs(path) for name, path in made.items()}


@every_recipe
def test_every_commit_holds_its_folder_byte_for_byte(made: dict[str, Path], name: str) -> None:
    told = upstreams.history(name).commit
    for commit, source in zip(Repo(made[name]).iter_commits(reverse=True), told, strict=False):
        folder = upstreams.RECIPES / name / source.tree
        files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
        assert {
            str(blob.path): text(commit, str(blob.path)) for blob in commit.tree.traverse() if isinstance(blob, Blob)
        } == files


def test_git_settings_of_the_host_do_not_change_the_commits(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "gitconfig"
    settings.write_text("[commit]\n\tgpgsign = true\n[tag]\n\tgpgsign = true\n[core]\n\tautocrlf = true\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))

    path = upstreams.make_upstreams(tmp_path / "upstreams", ["forge"])["forge"]

    assert refs(path) == refs(made["forge"])


def test_making_them_over_a_published_release_takes_it_back(made: dict[str, Path], tmp_path: Path) -> None:
    upstreams.make_upstreams(tmp_path, ["custom-html"])
    upstreams.publish(tmp_path, "custom-html")

    path = upstreams.make_upstreams(tmp_path, ["custom-html"])["custom-html"]

    assert refs(path) == refs(made["custom-html"])


def test_a_folder_that_is_no_repository_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "voice" / "precious"
    precious.parent.mkdir()
    precious.touch()

    with pytest.raises(ValueError, match="no git repository"):
        upstreams.make_upstreams(tmp_path, ["voice"])

    assert precious.exists()


def test_publish_adds_exactly_the_later_release(tmp_path: Path) -> None:
    path = upstreams.make_upstreams(tmp_path, ["custom-html"])["custom-html"]
    before = refs(path)
    newest = Repo(path).head.commit

    assert upstreams.publish(tmp_path, "custom-html") == LATER

    repo = Repo(path)
    tag = repo.tags[LATER]
    assert tag.tag is not None
    assert tag.commit == repo.head.commit
    assert repo.head.commit.parents == (newest,)
    assert version_label(tag.commit) == LATER
    assert compose(tag.commit)["services"]["app"]["image"] == "canonq-demo/static:1.31.1"
    moved = {"refs/heads/main": tag.commit.hexsha, f"refs/tags/{LATER}": tag.object.hexsha}
    assert refs(path) == before | moved


def test_publishing_a_second_time_says_that_it_is_done(tmp_path: Path) -> None:
    upstreams.make_upstreams(tmp_path, ["custom-html"])
    upstreams.publish(tmp_path, "custom-html")

    with pytest.raises(ValueError, match="published already"):
        upstreams.publish(tmp_path, "custom-html")


def test_publishing_without_a_later_release_or_a_repository_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'voice' has no later release"):
        upstreams.publish(tmp_path, "voice")
    with pytest.raises(ValueError, match="make it first"):
        upstreams.publish(tmp_path, "custom-html")
    with pytest.raises(ValueError, match="no demo recipe 'nothing'"):
        upstreams.publish(tmp_path, "nothing")


def test_the_checkout_holds_valid_enrolments_that_point_at_the_upstreams(made: dict[str, Path], tmp_path: Path) -> None:
    sources = made["voice"].parent

    checkout = upstreams.make_checkout(tmp_path / "checkout", sources)

    repo = Repo(checkout)
    assert not repo.is_dirty(untracked_files=True)
    for name in RELEASES:
        path = f"tests/{name}/recipe.toml"
        enrolment = parse_enrolment(name, text(repo.head.commit, path), where=path)
        assert enrolment.upstream == str(made[name])
        assert enrolment.health.timeout == (60 if name == "voice" else 300)


def test_a_checkout_of_one_recipe_holds_no_other(made: dict[str, Path], tmp_path: Path) -> None:
    upstreams.make_checkout(tmp_path, made["voice"].parent)

    checkout = upstreams.make_checkout(tmp_path, made["voice"].parent, ["voice"])

    assert [path.name for path in (checkout / "tests").iterdir()] == ["voice"]
    with pytest.raises(ValueError, match="no demo enrolment for 'nothing'"):
        upstreams.make_checkout(tmp_path, made["voice"].parent, ["nothing"])
