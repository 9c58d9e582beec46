"""Nobody drops out of the enrolled in silence, and a sweep's reading of an enrolment stays as it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.checkout import Checkout
from canonq.core.errors import CanonqError, Fault, HollowSweep, HostProblem

TOML = 'upstream = "https://git.example.org/x.git"\n'


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """The folder of enrolments, with one recipe."""
    folder = tmp_path / "checkout" / "tests"
    (folder / "site").mkdir(parents=True)
    (folder / "site" / "recipe.toml").write_text(TOML)
    return folder


def checkout(tests: Path) -> Checkout:
    return Checkout(tests.parent)


def enrol(tests: Path, name: str, toml: str) -> None:
    (tests / name).mkdir(exist_ok=True)
    (tests / name / "recipe.toml").write_text(TOML + toml)


def test_recipes_that_need_each_other_are_refused_with_the_whole_circle(tests: Path) -> None:
    """None of them could ever have a canonical, and the mend of each named the next."""
    for name, needs in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("alone", "alone")):
        enrol(tests, name, f"deps = ['{needs}']\n")
    found = checkout(tests).enrolled()
    assert {name: error.code for name, error in found.broken.items()} == {
        "a": "deps-circle", "b": "deps-circle", "c": "deps-circle", "alone": "enrolment-invalid",
    }  # fmt: skip
    assert "b -> c -> a -> b" in str(found.broken["b"])
    assert {error.fault for error in found.broken.values()} == {Fault.ENROLMENT}
    assert sorted(found.recipes) == ["d", "site"], "d needs one of the circle, and is in none"


def test_a_dependency_that_is_not_enrolled_is_told_with_the_nearest_that_is(tests: Path) -> None:
    enrol(tests, "blog", "deps = ['siet']\n")
    with pytest.raises(CanonqError, match=r"deps names 'siet', which is not enrolled; did you mean 'site'\?") as told:
        checkout(tests).enrolment("blog")
    assert told.value.fault is Fault.ENROLMENT


def test_a_name_that_is_not_enrolled_is_told_with_the_nearest_that_is(tests: Path) -> None:
    with pytest.raises(CanonqError, match=r"did you mean 'site'\?"):
        checkout(tests).enrolment("sit")


def misspelt(folder: Path) -> None:
    (folder / "recipe.tml").write_text(TOML)


def hooks_only(folder: Path) -> None:
    (folder / "hooks.py").write_text("")


def dangling(folder: Path) -> None:
    (folder / "recipe.toml").symlink_to(folder / "nowhere")


def no_text(folder: Path) -> None:
    (folder / "recipe.toml").write_bytes(b"\xff\xfe")


def a_folder(folder: Path) -> None:
    (folder / "recipe.toml").mkdir()


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "recipe.toml")


def without_end(folder: Path) -> None:
    (folder / "recipe.toml").symlink_to("/dev/zero")


def too_large(folder: Path) -> None:
    with (folder / "recipe.toml").open("w") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize("make", [misspelt, hooks_only, dangling, no_text, a_folder, a_pipe, without_end, too_large])
def test_an_enrolment_that_is_none_is_accounted_for_and_says_why(tests: Path, make: Callable[[Path], None]) -> None:
    (tests / "blog").mkdir()
    make(tests / "blog")
    found = checkout(tests).enrolled()
    assert found.names == ["blog", "site"]
    assert "blog" in str(found.broken["blog"])
    with pytest.raises(CanonqError) as told:
        checkout(tests).enrolment("blog")
    assert told.value.code == found.broken["blog"].code
    assert found.broken["blog"].fault == told.value.fault == Fault.ENROLMENT


def test_an_unreadable_folder_and_a_link_to_nowhere_are_accounted_for(tests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tests / "blog").mkdir()
    (tests / "gone").symlink_to(tests.parent / "nowhere")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "blog":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert checkout(tests).enrolled().names == ["blog", "gone", "site"]


@pytest.mark.parametrize("name", ["_generic", "concurrency", "regression", "site-bad", ".cache"])
def test_folders_of_fixtures_are_not_enrolled(tests: Path, name: str) -> None:
    (tests / name).mkdir()
    (tests / name / "test_it.py").write_text("")
    (tests / name / "compose.yml").write_text("")
    (tests / "README.md").write_text("")
    found = checkout(tests).enrolled()
    assert (found.names, found.broken) == (["site"], {})


@pytest.mark.parametrize(("name", "enrolled"), [("_generic", False), (".cache", False), ("concurrency", True),
                                               ("regression", True), ("site-bad", True)])  # fmt: skip
def test_a_recipe_toml_enrols_whatever_the_folder_is_called_unless_no_recipe_can_be_called_so(
    tests: Path, name: str, enrolled: bool
) -> None:
    enrol(tests, name, "")
    found = checkout(tests).enrolled()
    assert (found.names, found.broken) == (sorted(["site", *([name] if enrolled else [])]), {})


def test_nobody_but_switched_off_recipes_is_hollow(tests: Path) -> None:
    (tests / "site" / "recipe.toml").write_text(f"{TOML}enrolled = false\n")
    with pytest.raises(HollowSweep, match="1 with enrolled = false"):
        checkout(tests).enrolled()


def test_a_reading_stays_as_it_was_also_when_the_checkout_goes_away(tests: Path, tmp_path: Path) -> None:
    folder, readings = tests / "site", tmp_path / "readings"
    (folder / "hooks.py").write_text("1")
    (folder / "data").mkdir()
    (folder / "data" / "page.html").write_text("old")
    (tests / "shared").mkdir()
    (tests / "shared" / "helper.py").write_text("shared")
    now = checkout(tests)
    digest = now.digest("site")
    now.keep_shared(readings)
    now.keep("site", readings)
    reading = now.reading(readings)
    (folder / "recipe.toml").write_text(f'{TOML}weight = "heavy"\n')
    (folder / "data" / "page.html").write_text("new")
    now.keep("site", readings)
    assert (reading.digest("site"), reading.enrolment("site").weight) == (digest, "light")
    assert now.digest("site") != digest
    assert (reading.folder("site") / "data" / "page.html").read_text() == "old"
    assert (reading.folder("site") / ".." / "shared" / "helper.py").resolve().read_text() == "shared"
    tests.rename(tests.parent / "away")
    assert reading.enrolment("site").recipe == "site"
    tests.parent.rename(tmp_path / "away")
    assert reading.enrolment("site").recipe == "site"
    assert reading.root == tests.parent
    assert [path.name for path in readings.iterdir() if path.name.startswith(".")] == []


def test_what_a_commit_has_removed_was_meant_and_what_is_just_gone_was_not(tests: Path) -> None:
    (tests / "blog").mkdir()
    (tests / "blog" / "recipe.toml").write_text(TOML)
    repo = Repo.init(tests.parent, initial_branch="main")
    repo.git.add("--all")
    repo.git.commit("--message", "both")
    before = checkout(tests).revision()
    assert len(before) == 12
    (tests / "blog" / "recipe.toml").unlink()
    assert checkout(tests).revision() == f"{before}+U"
    assert not checkout(tests).was_removed("blog", before)
    repo.git.commit("--all", "--message", "blog goes")
    assert checkout(tests).was_removed("blog", before)
    assert not checkout(tests).was_removed("site", before)
    assert not checkout(tests).was_removed("blog", "not a git checkout")


def test_a_checkout_says_when_it_is_behind_its_remote(tests: Path, tmp_path: Path) -> None:
    assert checkout(tests).behind() is None
    ours = Repo.init(tests.parent, initial_branch="main")
    ours.git.add("--all")
    ours.git.commit("--message", "one")
    theirs = ours.clone(tmp_path / "theirs")
    ours.create_remote("origin", str(tmp_path / "theirs"))
    assert checkout(tests).behind() is None
    theirs.git.commit("--allow-empty", "--message", "two")
    told = checkout(tests).behind()
    assert told is not None
    assert theirs.head.commit.hexsha[:12] in told


# -- going forward to what the remote has -------------------------------------------------------------------


@pytest.fixture
def theirs(tests: Path, tmp_path: Path) -> Repo:
    """The remote of the checkout, one commit ahead of it: `blog` is enrolled there."""
    ours = Repo.init(tests.parent, initial_branch="main")
    ours.git.add("--all")
    ours.git.commit("--allow-empty", "--message", "one")
    made = ours.clone(tmp_path / "theirs")
    ours.create_remote("origin", str(tmp_path / "theirs"))
    folder = tmp_path / "theirs" / "tests" / "blog"
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text('upstream = "/x"\n')
    made.git.add("--all")
    made.git.commit("--message", "two")
    return made


def test_a_pull_goes_forward_runs_no_hook_and_is_done_when_there_is_nothing_new(tests: Path, theirs: Repo) -> None:
    hook = tests.parent / ".git" / "hooks" / "post-merge"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tests.parent}/hooked\n")
    hook.chmod(0o755)
    for _ in range(2):
        checkout(tests).pull()
        assert checkout(tests).behind() is None
        assert "blog" in checkout(tests).enrolled().names
    assert not (tests.parent / "hooked").exists()


@pytest.mark.parametrize("way", ["diverged", "in the way", "remote is gone", "no branch"])
def test_a_checkout_that_cannot_go_forward_is_left_as_it_is_and_says_why(way: str, tests: Path, theirs: Repo) -> None:
    ours = Repo(tests.parent)
    if way == "diverged":
        ours.git.commit("--allow-empty", "--message", "mine")
    elif way == "in the way":
        (tests / "blog").mkdir(exist_ok=True)
        (tests / "blog" / "recipe.toml").write_text("mine = true\n")
    elif way == "remote is gone":
        shutil.rmtree(str(theirs.working_dir))
    else:
        ours.git.checkout("--detach")
    before = ours.head.commit.hexsha
    with pytest.raises(HostProblem) as caught:
        checkout(tests).pull()
    assert (caught.value.code, str(tests.parent) in caught.value.what) == ("checkout-not-pulled", True)
    assert ours.head.commit.hexsha == before
    if way == "in the way":
        assert (tests / "blog" / "recipe.toml").read_text() == "mine = true\n"
