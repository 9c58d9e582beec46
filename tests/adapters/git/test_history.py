"""What the history in a clone says about pull requests, on real git."""

from __future__ import annotations

from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.git.history import History
from canonq.adapters.git.program import GitProgram
from canonq.core.upstream.pulls import Landed, Pull, landed
from tests.support import make_recipe, release


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """A recipe, and a pull request on the branch `pull` of which one commit was picked upstream."""
    repo = make_recipe(tmp_path / "site", {"1.0.0+1.0": {"compose.yml": "a\n"}})
    repo.git.checkout("-qb", "pull")
    release(repo, "one", {"one.yml": "one\n"})
    repo.git.checkout("-q", "main")
    release(repo, "other", {"other.yml": "other\n"})
    return repo


def look(repo: Repo) -> Landed | None:
    head, main = repo.commit("pull").hexsha, repo.commit("main").hexsha
    found = History(GitProgram(), Path(repo.git_dir)).landing(main, head)
    return landed(Pull(1, head, "main"), "main", found)


def test_a_merge_that_only_takes_upstream_in_is_no_change_of_the_pull_requests(repo: Repo) -> None:
    repo.git.checkout("-q", "pull")
    repo.git.merge("-q", "--no-ff", "main", "-m", "take main in")
    repo.git.checkout("-q", "main")
    repo.git.cherry_pick("one")
    found = look(repo)
    assert found is not None
    assert found.how == "rebased"


def test_a_merge_that_brings_changes_of_its_own_is_one_that_upstream_has_not(repo: Repo) -> None:
    repo.git.checkout("-q", "pull")
    repo.git.merge("-q", "--no-ff", "--no-commit", "main")
    (Path(repo.working_dir) / "two.yml").write_text("two\n")
    repo.git.add("--all")
    repo.git.commit("-qm", "take main in, and what had to change with it")
    repo.git.checkout("-q", "main")
    repo.git.cherry_pick("one")
    assert look(repo) is None
    repo.git.checkout("-q", "main")
    (Path(repo.working_dir) / "two.yml").write_text("two\n")
    repo.git.add("--all")
    repo.git.commit("-qm", "two as well")
    assert look(repo) is None, "one change is in two commits, so nothing says that it is all there"


def write(repo: Repo, name: str, text: str, message: str) -> None:
    (Path(repo.working_dir) / name).write_text(text)
    repo.git.add("--all")
    repo.git.commit("-qm", message)


@pytest.mark.parametrize("squashed", [False, True], ids=["picked", "squashed"])
def test_what_upstream_took_and_took_back_has_not_landed(repo: Repo, squashed: bool) -> None:
    if squashed:
        repo.git.checkout("-q", "pull")
        write(repo, "two.yml", "two\n", "two")
        repo.git.checkout("-q", "main")
        repo.git.merge("-q", "--squash", "pull")
        repo.git.commit("-qm", "one and two")
    else:
        repo.git.cherry_pick("one")
    found = look(repo)
    assert found is not None
    assert found.how == ("squashed" if squashed else "rebased")
    repo.git.revert("--no-edit", "HEAD")
    assert look(repo) is None


def test_what_upstream_took_and_went_on_from_has_landed(repo: Repo) -> None:
    repo.git.cherry_pick("one")
    picked = repo.commit("main").hexsha
    write(repo, "one.yml", "another one\n", "go on")
    assert look(repo) == Landed("rebased", picked)


def test_the_same_words_with_another_indentation_are_another_change(repo: Repo) -> None:
    write(repo, "app.yml", "services:\n  app:\n    image: a\n  db:\n    image: b\n", "base")
    repo.git.branch("-f", "pull")
    repo.git.checkout("-q", "pull")
    write(repo, "app.yml", "services:\n  app:\n    image: a\n    deploy: {}\n  db:\n    image: b\n", "deploy below app")
    repo.git.checkout("-q", "main")
    write(repo, "app.yml", "services:\n  app:\n    image: a\n  deploy: {}\n  db:\n    image: b\n", "deploy beside app")
    assert look(repo) is None
