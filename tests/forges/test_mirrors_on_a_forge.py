"""What sync says and does about a mirror, in every state that its forge can put it: the stand-in and a real Gitea alike."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.core.errors import SyncFailed
from canonq.flows.sync import sync
from tests.flows.conftest import Place
from tests.forge import serving
from tests.forges.gitea import FOLDER, Gitea, running
from tests.forges.sides import Real, Side, StandIn, address, work_on
from tests.support import release

NEXT = "1.1.0+1.1"


@pytest.fixture(scope="module")
def gitea() -> Iterator[Gitea]:
    """A real one for all tests of this file."""
    built = os.environ.get(FOLDER)
    if not built:
        pytest.skip(f"NOT TRIED on a real Gitea: {FOLDER} names none. `scripts/engine build gitea` builds one; it needs Go")
    # Not in the folder of the tests: it runs as another user than root's tests, and pytest closes that folder again and again.
    with tempfile.TemporaryDirectory(prefix="canonq-gitea-") as folder:
        Path(folder).chmod(0o711)
        with running(Path(built), Path(folder) / "work") as gitea:
            yield gitea


@pytest.fixture(params=["stand-in", pytest.param("gitea", marks=pytest.mark.gitea)])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "gitea":
        yield Real(request.getfixturevalue("gitea"), tmp_path)
        return
    with serving(tmp_path / "forge") as forge:
        yield StandIn(forge, tmp_path)


@pytest.fixture
def enrolled(side: Side, tmp_path: Path) -> Callable[[str], tuple[Place, Repo]]:
    """Makes an empty mirror of a name, a recipe with it, and an installation that knows the forge's token."""

    def enrol(name: str) -> tuple[Place, Repo]:
        place = Place(tmp_path / "place")
        (tmp_path / "token").write_text(side.token)
        place.settings["forge"] = {"url": side.url, "token_file": tmp_path / "token"}
        side.make(name)
        return place, place.recipe(name, toml=f'mirror = "{address(side, name)}"\n')

    return enrol


def commit(repo: Repo, name: str, text: str) -> str:
    (Path(repo.working_dir) / name).write_text(text)
    repo.git.add("--all")
    repo.git.commit("-qm", f"{name}: {text}")
    return str(repo.head.commit.hexsha)


def proposal(work: Repo, branch: str, text: str) -> None:
    """Push one more branch with a change to the forge."""
    work.git.checkout("-q", "-B", branch, "origin/main")
    commit(work, branch, text)
    work.git.push("-q", "origin", branch)


def test_an_empty_mirror_and_one_without_pull_requests_have_nothing_to_tell(
    side: Side, enrolled: Callable[[str], tuple[Place, Repo]]
) -> None:
    place, _ = enrolled("plain")
    for _ in range(2):
        assert sync(place.world, "plain").notes == ()
    side.pulls_off("plain")
    assert sync(place.world, "plain").notes == ()


def test_an_archived_mirror_is_called_archived_also_when_there_is_something_to_push(
    side: Side, enrolled: Callable[[str], tuple[Place, Repo]]
) -> None:
    place, upstream = enrolled("old")
    sync(place.world, "old")
    side.archive("old")
    (note,) = sync(place.world, "old").notes
    assert "it is archived there" in note
    release(upstream, NEXT, {})
    with pytest.raises(SyncFailed, match="archived") as caught:
        sync(place.world, "old")
    assert caught.value.cause == "mirror-archived"


@pytest.mark.long
def test_a_renamed_mirror_is_followed_and_its_new_name_told(side: Side, enrolled: Callable[[str], tuple[Place, Repo]]) -> None:
    place, upstream = enrolled("before")
    sync(place.world, "before")
    side.rename("before", "after")
    release(upstream, NEXT, {})
    told = sync(place.world, "before")
    assert told.pushed == 2
    assert [
        note for note in told.notes if "the mirror has moved to" in note and address(side, "after").removesuffix(".git") in note
    ]


def test_a_protected_tag_is_named(side: Side, enrolled: Callable[[str], tuple[Place, Repo]]) -> None:
    place, upstream = enrolled("guarded")
    sync(place.world, "guarded")
    side.protect("guarded", NEXT)
    commit(upstream, "more", "x")
    release(upstream, NEXT, {})
    with pytest.raises(SyncFailed) as caught:
        sync(place.world, "guarded")
    assert caught.value.cause == "mirror-refused"
    assert f"It refused refs/tags/{NEXT}" in caught.value.what


def test_a_mirror_that_is_not_there_is_gone(side: Side, enrolled: Callable[[str], tuple[Place, Repo]]) -> None:
    place, upstream = enrolled("here")
    place.enrol("here", str(upstream.working_dir), f'mirror = "{address(side, "nowhere")}"\n')
    with pytest.raises(SyncFailed) as caught:
        sync(place.world, "here")
    assert caught.value.cause == "mirror-gone"


def test_a_mirror_that_the_forge_copies_itself_is_told(side: Side, enrolled: Callable[[str], tuple[Place, Repo]]) -> None:
    place, upstream = enrolled("source")
    sync(place.world, "source")
    side.copy("copied", "source")
    place.enrol("source", str(upstream.working_dir), f'mirror = "{address(side, "copied")}"\n')
    (note,) = sync(place.world, "source").notes
    assert "copies it from elsewhere" in note


@pytest.mark.long
def test_what_has_landed_is_closed_and_told_by_its_title_and_everything_else_stays(
    side: Side, enrolled: Callable[[str], tuple[Place, Repo]]
) -> None:
    place, upstream = enrolled("busy")
    sync(place.world, "busy")
    work = work_on(side, "busy")
    numbers = []
    for count in range(3):
        proposal(work, f"branch-{count}", "x")
        numbers.append(side.propose("busy", f"branch-{count}", f"später {count} \U0001f418"))
    assert sync(place.world, "busy").notes == ()
    upstream.git.fetch(str(work.working_dir), "branch-1")
    upstream.git.merge("-q", "--ff-only", "FETCH_HEAD")
    (note,) = sync(place.world, "busy").notes
    assert "'später 1 \U0001f418'" in note
    assert [side.state("busy", number) for number in numbers] == ["open", "closed", "open"]
    assert sync(place.world, "busy").notes == ()
    assert side.comments("busy", numbers[1]) == 1
