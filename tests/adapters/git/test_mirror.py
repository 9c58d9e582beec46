"""Mirrors on real git: equal to upstream in branch and tags, other branches untouched, nothing lost, nobody overrun."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.git.clones import GitRepos
from canonq.adapters.git.mirror import Mirrors
from canonq.adapters.git.program import GitLimits, GitProgram
from canonq.core.errors import SyncFailed
from canonq.ports import Listing, Mirrored
from tests.forge import TOKEN, Forge, serving, status
from tests.support import make_recipe, release

TAG, NEXT = "1.0.0+1.0", "1.1.0+1.1"
FILES = {"compose.yml": "services: {}\n"}


class Sides:
    """An upstream, a mirror and canonq between them."""

    def __init__(self, folder: Path, mirror: str, git: GitProgram | None = None) -> None:
        self.upstream = make_recipe(folder / "upstream", {TAG: FILES})
        self.mirror = mirror
        self.repos = GitRepos(folder / "repos", git)

    def bring(self, *, dry_run: bool = False, branch: str = "main") -> Mirrored:
        url = str(self.upstream.working_dir)
        self.repos.update("site", url, self.repos.listing(url))
        return Mirrors(self.repos).bring("site", self.mirror, branch, dry_run)

    def seen(self) -> Listing:
        return self.repos.listing(self.mirror)

    def commit(self, text: str = "more") -> str:
        self.upstream.git.commit("--allow-empty", "-qm", text)
        return str(self.upstream.head.commit.hexsha)


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    Repo.init(tmp_path / "mirror.git", bare=True, initial_branch="main")
    return Sides(tmp_path, str(tmp_path / "mirror.git"))


@pytest.fixture
def there(sides: Sides) -> Repo:
    return Repo(sides.mirror)


def equal(sides: Sides) -> bool:
    ours, theirs = sides.repos.listing(str(sides.upstream.working_dir)), sides.seen()
    tags = [{ref: name for ref, name in listing.refs.items() if ref.startswith("refs/tags/")} for listing in (ours, theirs)]
    return ours.head == theirs.head and tags[0] == tags[1]


def theirs(repo: Repo, *, on: str = "main") -> str:
    """A commit that only the mirror has, on one of its branches."""
    commit = str(repo.git.commit_tree(f"{on}^{{tree}}", "-p", on, "-m", "only on the mirror"))
    repo.git.update_ref(f"refs/heads/{on}", commit)
    return commit


def test_an_empty_mirror_becomes_equal_and_the_second_time_nothing_is_pushed(sides: Sides, there: Repo) -> None:
    sides.upstream.git.tag("light")
    assert {change.ref for change in sides.bring().changes} == {"refs/heads/main", f"refs/tags/{TAG}", "refs/tags/light"}
    assert equal(sides)
    assert there.git.cat_file("-t", f"refs/tags/{TAG}") == "tag", "an annotated tag stays annotated"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in Path(sides.mirror).rglob("*"))
    assert sides.bring() == Mirrored((), (), sides.seen().digest("main"))
    assert sorted((path.name, path.stat().st_mtime_ns) for path in Path(sides.mirror).rglob("*")) == before


def test_other_branches_and_pull_requests_of_the_mirror_are_left_alone(sides: Sides, there: Repo) -> None:
    sides.bring()
    work = there.git.commit_tree(there.git.rev_parse("main^{tree}"), "-p", "main", "-m", "work")
    there.git.update_ref("refs/heads/feature/x", work)
    there.git.update_ref("refs/pull/1/head", work)
    sides.commit()
    release(sides.upstream, NEXT, {})
    sides.bring()
    assert equal(sides)
    assert there.git.rev_parse("feature/x") == there.git.rev_parse("refs/pull/1/head") == work


def test_a_branch_that_upstream_rewrote_is_followed(sides: Sides) -> None:
    sides.bring()
    sides.upstream.git.commit("--amend", "--allow-empty", "-qm", "rewritten")
    sides.bring()
    assert equal(sides)


def test_a_diverged_branch_becomes_upstreams_again_and_what_it_had_is_kept_and_told(sides: Sides, there: Repo) -> None:
    sides.bring()
    stray = theirs(there)
    done = sides.bring()
    assert equal(sides)
    kept = f"refs/canonq/replaced/heads%2Fmain/{stray[:12]}"
    assert Repo(sides.repos.clone("site")).git.rev_parse(kept) == stray
    assert len(done.notes) == 1
    assert "1 commit(s) that upstream has not" in done.notes[0]
    assert kept in done.notes[0]


def test_tags_that_upstream_deleted_or_never_had_go_and_are_kept_and_told(sides: Sides, there: Repo) -> None:
    sides.bring()
    there.git.tag("1.9.0+mine", "main")
    there.git.tag("-f", TAG, theirs(there, on="main"))
    sides.upstream.git.tag("-d", TAG)
    release(sides.upstream, NEXT, {})
    done = sides.bring()
    assert equal(sides)
    told = "\n".join(done.notes)
    assert "the tag 1.9.0+mine was taken from the mirror" in told
    assert f"the tag {TAG} was taken from the mirror" in told
    kept = Repo(sides.repos.clone("site")).git.for_each_ref("refs/canonq/replaced", "--format=%(refname)")
    assert len([ref for ref in kept.splitlines() if "/tags%2F" in ref]) == 2


def test_a_tag_that_moved_on_the_mirror_is_upstreams_again(sides: Sides, there: Repo) -> None:
    sides.bring()
    there.git.tag("-f", TAG, theirs(there, on="main"))
    assert any(f"the tag {TAG} of the mirror was not upstream's" in note for note in sides.bring().notes)
    assert equal(sides)


def test_a_dry_run_says_what_would_be_done_and_does_nothing(sides: Sides) -> None:
    assert {change.ref for change in sides.bring(dry_run=True).changes} == {"refs/heads/main", f"refs/tags/{TAG}"}
    assert sides.seen().refs == {}


def test_a_mirror_that_moves_while_it_is_pushed_to_is_looked_at_again(
    sides: Sides, there: Repo, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides.bring()
    sides.commit()
    asked = sides.repos.listing
    moved: list[str] = []

    def listing(url: str, *, which: str = "upstream") -> Listing:
        found = asked(url, which=which)
        if which == "mirror" and not moved:  # somebody pushes between our look and our push
            moved.append(theirs(there))
        return found

    monkeypatch.setattr(sides.repos, "listing", listing)
    done = sides.bring()
    assert equal(sides)
    assert moved[0][:12] in done.notes[0], "what they pushed meanwhile was seen and kept, not overrun"


def test_a_mirror_that_always_moves_is_given_up_and_named(sides: Sides, there: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    sides.bring()
    sides.commit()
    asked = sides.repos.listing

    def listing(url: str, *, which: str = "upstream") -> Listing:
        found = asked(url, which=which)
        if which == "mirror":
            theirs(there)
        return found

    monkeypatch.setattr(sides.repos, "listing", listing)
    with pytest.raises(SyncFailed) as caught:
        sides.bring()
    assert caught.value.cause == "mirror-moving"


def test_a_mirror_that_refuses_is_named_with_its_own_words(sides: Sides) -> None:
    hook = Path(sides.mirror) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'this branch is protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SyncFailed, match="this branch is protected") as caught:
        sides.bring()
    assert (caught.value.code, caught.value.cause) == ("sync-failed", "mirror-refused")
    assert "protected branches" in caught.value.mend


def test_a_mirror_that_is_gone_is_named(sides: Sides, tmp_path: Path) -> None:
    sides.mirror = str(tmp_path / "nowhere.git")
    with pytest.raises(SyncFailed) as caught:
        sides.bring()
    assert caught.value.cause == "mirror-gone"


@pytest.mark.long
def test_many_tags_go_in_pushes_of_a_size_that_git_and_a_forge_take(sides: Sides) -> None:
    head = sides.upstream.head.commit.hexsha
    tags = "".join(f"create refs/tags/1.{number}.0+1 {head}\n" for number in range(1000))
    subprocess.run(["git", "update-ref", "--stdin"], cwd=sides.upstream.working_dir, input=tags.encode(), check=True)
    assert len(sides.bring().changes) == 1002
    assert equal(sides)


def test_a_protected_tag_is_named_also_where_the_branch_falls_with_it(sides: Sides, there: Repo) -> None:
    hook = Path(there.git_dir) / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\necho 'Forge: Tag {TAG} is protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(SyncFailed) as caught:
        sides.bring()
    assert caught.value.cause == "mirror-refused"
    assert f"It refused refs/tags/{TAG} (and 1 more ref with it)" in caught.value.what


# -- over HTTP, with the forge's token -------------------------------------------------------------------------


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with serving(tmp_path / "forge") as forge:
        forge.repo("mirror/site")
        yield forge


def git_with_token(forge: Forge, folder: Path, token: str = TOKEN) -> GitProgram:
    kept = folder / "token"
    kept.write_text(f"{token}\n")
    return GitProgram(GitLimits(tokens={forge.url: kept}))


def test_the_forges_token_pushes_to_its_repositories(forge: Forge, tmp_path: Path) -> None:
    sides = Sides(tmp_path, forge.address("mirror/site"), git_with_token(forge, tmp_path))
    sides.bring()
    assert equal(sides)


def test_a_token_that_may_not_push_is_named_and_shown_nowhere(forge: Forge, tmp_path: Path) -> None:
    sides = Sides(tmp_path, forge.address("mirror/site"), git_with_token(forge, tmp_path, "wrong-t0ken"))
    with pytest.raises(SyncFailed) as caught:
        sides.bring()
    assert caught.value.cause == "mirror-denied"
    assert "wrong-t0ken" not in str(caught.value)


def test_the_token_is_not_sent_where_a_redirect_points(forge: Forge, tmp_path: Path) -> None:
    with serving(tmp_path / "other") as other:
        other.repo("mirror/site")
        sides = Sides(tmp_path, forge.address("mirror/site"), git_with_token(forge, tmp_path))
        away = f"{other.address('mirror/site')}/info/refs?service=git-receive-pack"
        forge.order("git-receive-pack", *[status(302, Location=away)] * 3)
        with pytest.raises(SyncFailed):
            sides.bring()
        assert not other.asked, "git does not follow"


def test_another_host_that_an_upstream_names_is_told_and_asked_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "here") as here, serving(tmp_path / "other") as other:
        other.repo("place/site")
        credentials = tmp_path / "credentials"
        credentials.write_text(other.address("x").replace("://", "://canonq:passw0rd@") + "\n")
        repos = GitRepos(tmp_path / "repos", GitProgram(GitLimits(credentials_file=credentials)))
        away = f"{other.address('place/site')}/info/refs?service=git-upload-pack"
        here.order("git-upload-pack", *[status(301, Location=away)] * 9)
        with pytest.raises(SyncFailed) as caught:
            repos.listing(here.address("place/site"))
        assert caught.value.cause == "upstream-moved"
        assert f"it leads to another host, {other.address('place/site')}" in caught.value.what
        assert not other.asked
