"""Bare clones of recipes on real git: by path, file:// and http, with everything that upstreams do to their tags."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.git import program
from canonq.adapters.git import tree as gittree
from canonq.adapters.git.clones import GitRepos
from canonq.adapters.git.program import GitLimits, GitProgram, failed
from canonq.core.enrolment import Tree
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem, SyncFailed, TagMoved, WrongUse
from canonq.core.sweeps.again import NEEDS_A_PERSON
from canonq.core.versions import read_tags
from canonq.ports import Ended
from tests.forge import never, serving, status, when
from tests.support import make_recipe, release

TAG = "1.0.0+1.0"
FILES = {"compose.yml": "services: {}\n"}


@pytest.fixture
def upstream(tmp_path: Path) -> Repo:
    return make_recipe(tmp_path / "upstream", {TAG: FILES})


@pytest.fixture
def repos(tmp_path: Path) -> GitRepos:
    return GitRepos(tmp_path / "repos")


@pytest.fixture(params=["path", "file"])
def url(request: pytest.FixtureRequest, upstream: Repo) -> str:
    folder = str(upstream.working_dir)
    return folder if request.param == "path" else f"file://{folder}"


def brought(repos: GitRepos, url: str) -> bool:
    return repos.update("site", url, repos.listing(url))


def test_a_clone_has_the_default_branch_and_every_tag_with_the_commit_it_peels_to(
    repos: GitRepos, upstream: Repo, url: str
) -> None:
    upstream.git.tag("0.9.0+0.9")  # a lightweight one
    assert brought(repos, url)
    commit = upstream.head.commit.hexsha
    assert repos.tags("site") == {TAG: commit, "0.9.0+0.9": commit}
    assert repos.is_annotated("site", TAG)
    assert not repos.is_annotated("site", "0.9.0+0.9")


def test_nothing_is_fetched_when_nothing_is_new(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    assert not brought(repos, url)
    release(upstream, "1.1.0+1.1", {"more": "x"})
    assert brought(repos, url)
    assert set(repos.tags("site")) == {TAG, "1.1.0+1.1"}


def test_the_default_branch_is_found_whatever_it_is_called(repos: GitRepos, upstream: Repo) -> None:
    upstream.git.branch("-m", "trunk")
    assert repos.listing(str(upstream.working_dir)).branch == "trunk"


def test_an_empty_upstream_has_no_head_and_no_tags(repos: GitRepos, tmp_path: Path) -> None:
    Repo.init(tmp_path / "empty")
    listing = repos.listing(str(tmp_path / "empty"))
    assert (listing.head, listing.tags) == (None, {})
    repos.update("site", str(tmp_path / "empty"), listing)
    assert repos.tags("site") == {}


def test_an_upstream_that_is_gone_is_named(repos: GitRepos, tmp_path: Path) -> None:
    with pytest.raises(SyncFailed, match="no-such-place"):
        repos.listing(str(tmp_path / "no-such-place"))


def test_a_repository_of_another_user_is_told_with_what_helps() -> None:
    said = "fatal: detected dubious ownership in repository at '/srv/site'\nTo add an exception for this directory, call: ..."
    told = failed("upstream", "/srv/site", Ended(128, "", said))
    assert told.cause == "upstream-owner"
    assert "chown" in told.mend
    assert "credential" not in told.mend


def test_a_damaged_repository_is_its_keepers_to_mend(repos: GitRepos, upstream: Repo) -> None:
    listing = repos.listing(str(upstream.working_dir))
    tree = upstream.head.commit.tree.hexsha
    (Path(upstream.git_dir) / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(SyncFailed) as told:
        repos.update("site", str(upstream.working_dir), listing)
    assert (told.value.cause, "git fsck" in told.value.mend) == ("upstream-damaged", True)
    assert told.value.cause in NEEDS_A_PERSON, "no few hours mend it"
    (Path(upstream.git_dir) / "config").write_text("[broken\n")
    with pytest.raises(SyncFailed) as told:
        repos.listing(str(upstream.working_dir))
    assert told.value.cause == "upstream-damaged"


def test_credentials_of_an_address_are_in_no_message(repos: GitRepos) -> None:
    with pytest.raises(SyncFailed) as caught:
        repos.listing("http://user:hunter2@127.0.0.1:1/site.git")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["ext::sh -c 'touch {0}'", "--upload-pack=touch {0}", "-u touch {0}", "fd::7"])
def test_an_address_that_would_run_something_is_refused_and_nothing_is_run(repos: GitRepos, tmp_path: Path, address: str) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(CanonqError):
        repos.listing(address.format(mark))
    assert not mark.exists()


def test_a_deleted_tag_goes_and_is_remembered(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    commit = upstream.head.commit.hexsha
    upstream.git.tag("-d", TAG)
    brought(repos, url)
    assert repos.tags("site") == {}
    assert repos.known("site") == {TAG: commit}


def test_a_tag_on_a_tree_is_no_release_and_does_not_stop_the_others(repos: GitRepos, upstream: Repo, url: str) -> None:
    upstream.git.tag("2.0.0+2", upstream.head.commit.tree.hexsha)
    brought(repos, url)
    assert set(repos.tags("site")) == {TAG}
    assert not brought(repos, url), "it is not fetched again every night"


def test_a_tag_of_a_tag_is_the_commit_in_the_end(repos: GitRepos, upstream: Repo, url: str) -> None:
    upstream.git.tag("-a", "2.0.0+2", TAG, "-m", "of a tag")
    brought(repos, url)
    assert repos.tags("site")["2.0.0+2"] == upstream.head.commit.hexsha
    assert not brought(repos, url)


def test_a_checkout_is_exactly_the_commit_and_the_clone_stays_bare(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    brought(repos, str(upstream.working_dir))
    release(upstream, "1.1.0+1.1", {"later": "x"})
    repos.checkout("site", repos.tags("site")[TAG], tmp_path / "tree")
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == ["compose.yml"]
    assert not (tmp_path / "repos" / "site" / "repo.git" / "compose.yml").exists()
    repos.drop_checkout("site", tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_no_hook_of_a_clone_is_run(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    brought(repos, str(upstream.working_dir))
    hook = tmp_path / "repos" / "site" / "repo.git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    repos.checkout("site", repos.tags("site")[TAG], tmp_path / "tree")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "a/../../outside"])
def test_a_link_that_leaves_the_recipe_is_refused(repos: GitRepos, upstream: Repo, tmp_path: Path, target: str) -> None:
    os.symlink(target, Path(upstream.working_dir) / "link")
    release(upstream, "1.1.0+1.1", {})
    brought(repos, str(upstream.working_dir))
    with pytest.raises(RecipeProblem, match="outside the recipe"):
        repos.checkout("site", repos.tags("site")["1.1.0+1.1"], tmp_path / "tree")
    assert not (tmp_path / "tree" / "link").exists()


def test_a_link_that_leaves_the_recipe_by_way_of_another_link_is_refused(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    folder = Path(upstream.working_dir)
    (folder / "deep" / "er").mkdir(parents=True)
    os.symlink("../..", folder / "deep" / "er" / "up")
    os.symlink("deep/er/up/../outside", folder / "link")
    release(upstream, "1.1.0+1.1", {})
    brought(repos, str(upstream.working_dir))
    with pytest.raises(RecipeProblem, match=r"'link' is a link to .*outside the recipe"):
        repos.checkout("site", repos.tags("site")["1.1.0+1.1"], tmp_path / "tree")


def test_a_submodule_is_refused(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    upstream.git.update_index("--add", "--cacheinfo", f"160000,{upstream.head.commit.hexsha},sub")
    upstream.git.commit("-qm", "sub")
    upstream.git.tag("-a", "1.1.0+1.1", "-m", "x")
    brought(repos, str(upstream.working_dir))
    with pytest.raises(RecipeProblem, match="submodule"):
        repos.checkout("site", repos.tags("site")["1.1.0+1.1"], tmp_path / "tree")


def test_a_clone_that_was_left_half_written_is_made_anew(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    brought(repos, str(upstream.working_dir))
    (tmp_path / "repos" / "site" / "repo.git" / "HEAD").write_text("")
    brought(repos, str(upstream.working_dir))
    assert set(repos.tags("site")) == {TAG}


def test_the_enrolments_address_is_followed_and_the_clones_own_origin_is_not(
    repos: GitRepos, upstream: Repo, tmp_path: Path
) -> None:
    brought(repos, str(upstream.working_dir))
    Repo(tmp_path / "repos" / "site" / "repo.git").create_remote("origin", str(upstream.working_dir))
    other = make_recipe(tmp_path / "other", {TAG: FILES, "3.0.0+3": FILES})
    assert set(repos.listing(str(other.working_dir)).tags) == {TAG, "3.0.0+3"}


# -- branches and pull requests -------------------------------------------------------------------------------


def test_a_branch_and_a_pull_requests_head_give_their_commits_and_become_no_tags(
    repos: GitRepos, upstream: Repo, url: str
) -> None:
    upstream.git.checkout("-q", "-b", "feature/x")
    upstream.git.commit("-q", "--allow-empty", "-m", "work")
    commit = upstream.head.commit.hexsha
    upstream.git.update_ref("refs/pull/7/head", commit)
    for ref in ("feature/x", "pull/7/head", "refs/pull/7/head", "refs/heads/feature/x"):
        assert repos.fetch_ref("site", url, ref) == commit
    assert repos.tags("site") == {}


def test_a_branch_that_moved_gives_its_new_commit(repos: GitRepos, upstream: Repo, url: str) -> None:
    first = repos.fetch_ref("site", url, "main")
    upstream.git.commit("-q", "--amend", "--allow-empty", "-m", "rewritten")
    second = repos.fetch_ref("site", url, "main")
    assert second == upstream.head.commit.hexsha != first


def test_a_full_commit_stands_for_itself(repos: GitRepos, upstream: Repo, url: str) -> None:
    commit = upstream.head.commit.hexsha
    assert repos.fetch_ref("site", url, commit) == commit


@pytest.mark.parametrize("ref", ["no-such-branch", "pull/99/head"])
def test_a_ref_that_is_not_there_is_named(repos: GitRepos, url: str, ref: str) -> None:
    with pytest.raises(WrongUse, match=ref):
        repos.fetch_ref("site", url, ref)


@pytest.mark.parametrize("ref", ["--upload-pack=x", "a b", "a;b", "../x", "a..b", "x:y", "+main", "$(id)", ""])
def test_a_ref_that_is_no_name_is_refused(repos: GitRepos, url: str, ref: str) -> None:
    with pytest.raises((WrongUse, SyncFailed)):
        repos.fetch_ref("site", url, ref)


def test_what_an_upstream_says_over_http_is_what_it_says_by_path(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    Repo.clone_from(str(upstream.working_dir), tmp_path / "served" / "coop" / "site.git", bare=True)
    with serving(tmp_path / "served") as forge:
        url = forge.address("coop/site")
        assert repos.listing(url).tags == repos.listing(str(upstream.working_dir)).tags
        assert brought(repos, url)
        assert repos.fetch_ref("site", url, "main") == upstream.head.commit.hexsha
    assert set(repos.tags("site")) == {TAG}


# -- what upstreams do ----------------------------------------------------------------------------------------


def cause_of(repos: GitRepos, url: str) -> str:
    with pytest.raises(SyncFailed) as caught:
        brought(repos, url)
    assert caught.value.code == "sync-failed"
    assert caught.value.mend
    return caught.value.cause


def test_every_way_in_which_an_upstream_fails_has_its_name(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    assert cause_of(repos, str(tmp_path / "nowhere")) == "upstream-gone"
    assert cause_of(repos, "http://127.0.0.1:1/coop/site.git") == "upstream-unreachable"
    Repo.init(tmp_path / "new", object_format="sha256").git.commit("--allow-empty", "-qm", "x")
    assert cause_of(repos, str(tmp_path / "new")) == "upstream-sha256"
    upstream.git.commit("--allow-empty", "-qm", "more")
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{upstream.working_dir}", tmp_path / "shallow"], check=True)
    assert cause_of(repos, str(tmp_path / "shallow")) == "upstream-shallow"


def test_what_git_could_not_write_on_a_full_disk_is_told_so_whatever_it_says(
    repos: GitRepos, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Ended(128, "", errors="fatal: cannot update ref 'refs/tags/1': couldn't write 'refs/tags/1.lock'")
    assert failed("upstream", url, said, tmp_path).cause == "upstream-unreachable"
    real = os.statvfs
    with monkeypatch.context() as patched:
        patched.setattr(
            os, "statvfs", lambda path: os.statvfs_result((*real(path)[:4], 1, *real(path)[5:])) if path != "/" else real(path)
        )
        assert failed("upstream", url, said, tmp_path / "not" / "there").cause == "upstream-disk-full"
        patched.setattr(repos.git, "local", lambda *words, **more: said)
        with pytest.raises(HostProblem) as told:
            brought(repos, url)
    assert (told.value.code, list(tmp_path.glob("**/.new-*"))) == ("disk-full", [])


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("fatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output", "upstream-disk-full"),
        ("error: unable to create temporary file: Read-only file system", "upstream-local"),
        ("fatal: unable to create temporary file: Permission denied", "upstream-local"),
        ("error: cannot run ssh: No such file or directory\nfatal: unable to fork", "upstream-local"),
        ("fatal: Unable to create '/var/lib/canonq/repos/a/repo.git/shallow.lock': No such file or directory", "upstream-local"),
        ("remote: fatal: write error: No space left on device\nfatal: the remote end hung up", "upstream-unreachable"),
        ("fatal: unable to access 'https://a.example/x/': server certificate verification failed. CAfile: none CRLfile: none",
         "upstream-certificate"),
        ("fatal: unable to access 'https://a.example/x/': SSL certificate problem: certificate has expired",
         "upstream-certificate"),
        ("git@a.example: Permission denied (publickey).", "upstream-denied"),
    ],
)  # fmt: skip
def test_what_git_says_is_told_by_where_it_happened(said: str, cause: str) -> None:
    assert failed("upstream", "https://a.example/x", Ended(128, "", errors=said)).cause == cause


def test_over_http_a_repository_that_is_gone_is_told_from_one_that_asks_for_a_password(repos: GitRepos, tmp_path: Path) -> None:
    with serving(tmp_path / "served") as forge:
        assert cause_of(repos, forge.address("coop/none")) == "upstream-gone"
        forge.order("info/refs", status(401, WWW_Authenticate='Basic realm="x"'), status(401, WWW_Authenticate='Basic realm="x"'))
        assert cause_of(repos, forge.address("coop/none")) == "upstream-denied"


def test_an_upstream_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    repos = GitRepos(tmp_path / "repos", GitProgram(GitLimits(listing=1)))
    with serving(tmp_path / "served") as forge:
        forge.order("info/refs", never())
        assert cause_of(repos, forge.address("coop/site")) == "upstream-timeout"


@pytest.mark.long
@pytest.mark.parametrize("files", [1, 5])
def test_a_fetch_that_would_bring_too_much_is_stopped_and_the_next_one_is_not_harmed(
    repos: GitRepos, upstream: Repo, tmp_path: Path, files: int
) -> None:
    """In one file, and in many, each of which is not too much: of few objects git makes no pack."""
    for number in range(files):
        (Path(upstream.working_dir) / f"large-{number}").write_bytes(os.urandom((3 << 20) // files))
    release(upstream, "1.1.0+1.1", {})
    narrow = GitRepos(tmp_path / "repos", GitProgram(GitLimits(largest=1 << 20)))
    assert cause_of(narrow, f"file://{upstream.working_dir}") == "upstream-too-large"
    assert brought(repos, f"file://{upstream.working_dir}")
    assert "1.1.0+1.1" in repos.tags("site")


def test_what_is_small_in_a_pack_and_large_in_memory_is_refused(
    repos: GitRepos, upstream: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "message").write_text("a" * (8 << 20))
    upstream.git.commit("--allow-empty", "--file", str(tmp_path / "message"))
    monkeypatch.setitem(program._ENVIRONMENT, "GIT_ALLOC_LIMIT", str(4 << 20))
    assert cause_of(GitRepos(tmp_path / "repos"), f"file://{upstream.working_dir}") == "upstream-too-large"


def test_a_listing_without_end_is_stopped(repos: GitRepos, upstream: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canonq.adapters.processes.programs._MOST_DATA", 100)
    assert cause_of(repos, str(upstream.working_dir)) == "upstream-too-large"


@pytest.mark.long
def test_thousands_of_tags_are_read_and_ordered(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    upstream.git.pack_refs("--all")
    packed = Path(upstream.git_dir) / "packed-refs"
    own = [line for line in packed.read_text().splitlines() if not line.startswith("#")]
    more = [f"{upstream.head.commit.hexsha} refs/tags/1.{n // 100}.{n % 100}+{n}" for n in range(5_000)]
    packed.write_text("\n".join(["# pack-refs with:", *own, *more, ""]))  # it says of none that it is sorted or peeled
    assert brought(repos, str(upstream.working_dir))
    releases, refused = read_tags(repos.tags("site"))
    assert (len(releases), refused) == (5_001, ())
    assert releases[-1].tag == "1.49.99+4999"
    assert not brought(repos, str(upstream.working_dir))


def test_tags_with_strange_names_are_told_apart_and_stop_nothing(repos: GitRepos, upstream: Repo) -> None:
    long = "1.0.1+" + "1" * 244
    for tag in ("1.0.2+ünïcode", "1.0.3+$(id)", long, "v1", "-x", "1.0.4+a;b"):
        upstream.git.update_ref(f"refs/tags/{tag}", upstream.head.commit.hexsha)
    # Names that git itself would not make, written where an upstream of another kind may have them.
    packed = Path(upstream.git_dir) / "packed-refs"
    upstream.git.pack_refs("--all")
    with packed.open("a") as file:
        file.write(f"{upstream.head.commit.hexsha} refs/tags/zz..1\n{upstream.head.commit.hexsha} refs/tags/zz 1\n")
    brought(repos, str(upstream.working_dir))
    releases, refused = read_tags(repos.tags("site"))
    assert [release.tag for release in releases] == [TAG]
    assert {no.tag for no in refused} == {"1.0.2+ünïcode", "1.0.3+$(id)", long, "v1", "-x", "1.0.4+a;b"}
    assert not brought(repos, str(upstream.working_dir)), "it is not fetched again every night"


def test_an_upstream_without_a_default_branch_has_its_tags(repos: GitRepos, upstream: Repo) -> None:
    upstream.git.branch("one")
    upstream.git.branch("two")
    upstream.git.symbolic_ref("HEAD", "refs/heads/nothing")
    upstream.git.branch("-D", "main")
    listing = repos.listing(str(upstream.working_dir))
    assert listing.head is None
    brought(repos, str(upstream.working_dir))
    assert set(repos.tags("site")) == {TAG}


def test_an_annotated_tag_written_anew_at_its_commit_has_not_moved(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    upstream.git.tag("-f", "-a", TAG, f"{TAG}^{{}}", "-m", "another text")
    assert brought(repos, url)
    assert not brought(repos, url)


def test_a_tag_that_moves_between_the_listing_and_the_fetch_is_not_followed(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    before = repos.known("site")
    release(upstream, "1.1.0+1.1", {})
    listing = repos.listing(url)
    upstream.git.tag("-f", TAG)
    with pytest.raises(TagMoved, match="not followed"):
        repos.update("site", url, listing)
    assert repos.known("site")[TAG] == before[TAG]


def test_a_rewritten_history_is_followed_on_the_branch_and_the_tags_stay(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    was = repos.tags("site")
    upstream.git.commit("--amend", "--allow-empty", "-qm", "rewritten")
    brought(repos, url)
    assert repos.tags("site") == was
    assert Repo(repos.clone("site")).commit("main").hexsha == upstream.head.commit.hexsha


def test_dates_of_commits_decide_nothing(repos: GitRepos, upstream: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for tag, date in (("2.0.0+1", "@86400 +0000"), ("1.5.0+1", "@4102444800 +0000")):  # 1970, 2100
        monkeypatch.setenv("GIT_COMMITTER_DATE", date)
        release(upstream, tag, {"f": tag})
    brought(repos, str(upstream.working_dir))
    assert read_tags(repos.tags("site"))[0][-1].tag == "2.0.0+1"


# -- what a killed git leaves behind --------------------------------------------------------------------------


def test_locks_and_packs_of_a_killed_git_are_in_nobodys_way(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    clone = repos.clone("site")
    left = [clone / "packed-refs.lock", clone / "HEAD.lock", clone / "refs" / "tags" / "1.1.0+1.1.lock",
            clone / "objects" / "pack" / "tmp_pack_abc"]  # fmt: skip
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    release(upstream, "1.1.0+1.1", {})
    assert brought(repos, url)
    assert set(repos.tags("site")) == {TAG, "1.1.0+1.1"}
    assert not any(path.exists() for path in left)


def test_a_clone_with_damaged_objects_is_made_anew(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    for path in repos.clone("site").glob("objects/**/*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"damaged")
    release(upstream, "1.1.0+1.1", {"more": "x"})
    assert brought(repos, url)
    assert set(repos.tags("site")) == {TAG, "1.1.0+1.1"}
    assert [path.name for path in repos.clone("site").parent.iterdir() if path.name.startswith(".")] == []


def test_a_clone_of_which_a_file_cannot_be_read_is_made_anew_though_its_refs_are_there(
    repos: GitRepos, upstream: Repo, url: str, tmp_path: Path
) -> None:
    brought(repos, url)
    repos.remember("site", {"digest": "x"})
    commit = repos.tags("site")[TAG]
    for blob in (blob for blob in upstream.commit(commit).tree.traverse() if blob.type == "blob"):  # type: ignore[union-attr]
        for path in repos.clone("site").glob(f"objects/{blob.hexsha[:2]}/{blob.hexsha[2:]}"):  # type: ignore[union-attr]
            path.chmod(0o644)
            path.write_bytes(b"damaged")
    with pytest.raises(HostProblem) as raised:
        repos.checkout("site", commit, tmp_path / "tree")
    assert "canonq sync site" in str(raised.value)
    assert repos.remembered("site") == {}, "an idle night would pass it over"
    assert brought(repos, url)
    repos.checkout("site", commit, tmp_path / "tree")
    assert (tmp_path / "tree" / "compose.yml").is_file()


def test_what_was_remembered_goes_with_the_clone_it_was_about(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    repos.remember("site", {"digest": "x"})
    assert repos.remembered("site") == {"digest": "x"}
    release(upstream, "1.1.0+1.1", {})
    brought(repos, url)
    assert repos.remembered("site") == {}


def test_a_deleted_tag_is_in_nobodys_way(repos: GitRepos, upstream: Repo, url: str) -> None:
    for make, drop in (("next", "next"), ("next/2", "next/2"), ("next", "next")):
        upstream.create_tag(make)
        brought(repos, url)
        upstream.git.tag("-d", drop)
        brought(repos, url)
    kept = Repo(repos.clone("site")).git.for_each_ref("refs/canonq/deleted", "--format=%(refname)")
    assert kept.splitlines() == ["refs/canonq/deleted/next", "refs/canonq/deleted/next%2F2"]


def test_a_tag_that_goes_gives_way_to_one_below_it_in_the_same_night(repos: GitRepos, upstream: Repo, url: str) -> None:
    upstream.create_tag("next")
    brought(repos, url)
    upstream.git.tag("-d", "next")
    upstream.create_tag("next/2")
    assert brought(repos, url)
    assert set(repos.tags("site")) == {TAG, "next/2"}


def test_a_default_branch_that_is_renamed_to_one_below_it_is_followed(repos: GitRepos, upstream: Repo, url: str) -> None:
    for name in ("stable", "stable/2", "stable"):
        brought(repos, url)
        upstream.git.branch("-m", "passing")  # git itself cannot rename it in one step
        upstream.git.branch("-m", name)
        assert brought(repos, url)
        assert Repo(repos.clone("site")).git.rev_parse("HEAD") == upstream.head.commit.hexsha


def test_refs_that_are_tried_one_below_the_other_are_in_nobodys_way(repos: GitRepos, upstream: Repo, url: str) -> None:
    upstream.git.branch("fix")
    assert repos.fetch_ref("site", url, "fix")
    upstream.git.branch("-m", "fix", "passing")
    upstream.git.branch("-m", "passing", "fix/2")
    assert repos.fetch_ref("site", url, "fix/2") == upstream.head.commit.hexsha


@pytest.mark.long
@pytest.mark.parametrize("name", [b"caf\xe9-1.0", "1.0.0+\u2028x".encode(), "1.0.0+\x85x".encode()], ids=["1", "2", "3"])
def test_a_tag_whose_name_is_no_text_comes_and_goes_and_stops_nothing(
    repos: GitRepos, upstream: Repo, url: str, name: bytes
) -> None:
    subprocess.run([b"git", b"tag", name], cwd=upstream.working_dir, check=True)
    assert brought(repos, url)
    assert not brought(repos, url), "it is not fetched again every night"
    assert set(repos.tags("site")) == {TAG, os.fsdecode(name)}
    assert repos.known("site") == repos.tags("site")
    subprocess.run([b"git", b"tag", b"-d", name], cwd=upstream.working_dir, check=True)
    release(upstream, "1.1.0+1.1", {"more": "x"})
    assert brought(repos, url)
    assert set(repos.tags("site")) == {TAG, "1.1.0+1.1"}


@pytest.mark.parametrize(
    "setting", ["[safe]\n\tbareRepository = explicit\n", "[core]\n\tbare = false\n", "[core]\n\tautocrlf = true\n"]
)
def test_the_settings_of_the_operators_git_change_nothing(
    upstream: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(setting)
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith("GIT_CONFIG")]:
        monkeypatch.delenv(name)
    repos = GitRepos(tmp_path / "repos")
    assert brought(repos, str(upstream.working_dir))
    repos.checkout("site", repos.tags("site")[TAG], tmp_path / "tree")
    assert (tmp_path / "tree" / "compose.yml").read_bytes() == FILES["compose.yml"].encode()


def test_every_byte_of_a_tree_is_as_git_stored_it_whatever_its_attributes_say(
    repos: GitRepos, upstream: Repo, tmp_path: Path
) -> None:
    folder = Path(upstream.working_dir)
    stored = {
        "entry.sh": b"#!/bin/sh\nexec httpd -f\n", "id.txt": b"$Id$\n", "wide.txt": "\ufeffwide\n".encode("utf-16-le"),
        "crlf.txt": b"one\r\ntwo\r\n", "empty": b"", "not-text": bytes(range(256)),
    }  # fmt: skip
    for name, content in stored.items():
        (folder / name).write_bytes(content)
    (folder / "entry.sh").chmod(0o755)
    upstream.git.add("--all")
    upstream.git.commit("-qm", "as they are")
    attributes = "*.sh text eol=crlf\nid.txt ident\nwide.txt working-tree-encoding=UTF-16LE\ncrlf.txt text\nempty export-ignore\n"
    (folder / ".gitattributes").write_text(attributes)
    upstream.git.add(".gitattributes")
    upstream.git.commit("-qm", "attributes")
    brought(repos, str(folder))
    repos.checkout("site", upstream.head.commit.hexsha, tmp_path / "tree")
    for name, content in stored.items():
        assert (tmp_path / "tree" / name).read_bytes() == content, name
    assert (tmp_path / "tree" / "entry.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "tree" / "empty").stat().st_mode & 0o777 == 0o644


def test_links_and_file_names_that_are_no_text_are_written_as_they_are(repos: GitRepos, upstream: Repo, tmp_path: Path) -> None:
    folder = Path(upstream.working_dir)
    (folder / "d").mkdir()
    odd = os.fsencode(folder) + b"/d/caf\xe9\n"
    Path(os.fsdecode(odd)).write_bytes(b"x")
    os.symlink(b"caf\xe9\n", os.fsencode(folder) + b"/d/link")
    os.symlink("d", folder / "to-a-folder")
    release(upstream, "1.1.0+1.1", {})
    brought(repos, str(folder))
    repos.checkout("site", repos.tags("site")["1.1.0+1.1"], tmp_path / "tree")
    assert os.readlink(os.fsencode(tmp_path) + b"/tree/d/link") == b"caf\xe9\n", "its last newline too"
    assert (tmp_path / "tree" / "to-a-folder" / "link").read_bytes() == b"x"


def test_a_tree_too_deep_or_too_large_is_refused_before_it_is_written(
    repos: GitRepos, upstream: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(upstream, "1.1.0+1.1", {"/".join("d" * 80): "x"})
    release(upstream, "1.2.0+1.2", {"/".join("d" * 80): "x", "more": "x" * 1000})
    upstream.git.rm("-rqf", "d")
    release(upstream, "1.3.0+1.3", {})
    brought(repos, str(upstream.working_dir))
    tags = repos.tags("site")
    with pytest.raises(RecipeProblem, match="79 folders deep"):
        repos.checkout("site", tags["1.1.0+1.1"], tmp_path / "tree")
    monkeypatch.setattr("canonq.adapters.git.tree._MOST_BYTES", 999)
    with pytest.raises(RecipeProblem, match="MiB of files"):
        repos.checkout("site", tags["1.3.0+1.3"], tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_tree_that_is_not_whole_afterwards_is_no_recipes_fault(
    repos: GitRepos, upstream: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought(repos, str(upstream.working_dir))
    real = gittree._write

    def disturbed(mode: str, content: bytes, place: Path) -> None:
        real(mode, content, place)
        place.write_bytes(b"somebody else's")

    monkeypatch.setattr(gittree, "_write", disturbed)
    with pytest.raises(HostProblem, match=r"compose\.yml") as caught:
        repos.checkout("site", repos.tags("site")[TAG], tmp_path / "tree")
    assert caught.value.code == "tree-differs"


def test_a_tag_that_was_fetched_and_not_noted_is_noted_by_the_next_sync(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    was = repos.tags("site")[TAG]
    (repos.clone("site").parent / "seen.json").unlink()
    assert not brought(repos, url)
    assert repos.known("site") == {TAG: was}


def test_a_tag_that_moves_while_it_is_fetched_is_not_in_the_clone(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    was = repos.tags("site")
    release(upstream, "1.1.0+1.1", {})
    listing = repos.listing(url)
    upstream.git.tag("-f", TAG)
    with pytest.raises(TagMoved):
        repos.update("site", url, listing)
    assert repos.tags("site") == was


def test_a_moved_tag_is_followed_after_a_person_has_accepted_it(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    release(upstream, "1.1.0+1.1", {})
    upstream.git.tag("-f", TAG)
    assert repos.accept("site", TAG, upstream.head.commit.hexsha)
    assert repos.known("site")[TAG] == upstream.head.commit.hexsha
    assert brought(repos, url)
    assert repos.tags("site")[TAG] == repos.known("site")[TAG] == upstream.head.commit.hexsha


def only_in_the_clone(repos: GitRepos, upstream: Repo, url: str) -> str:
    """The commit of a release that was brought, and is not upstream any more."""
    commit = release(upstream, "1.1.0+1.1", {"only": "here"})
    brought(repos, url)
    upstream.git.tag("-d", "1.1.0+1.1")
    upstream.git.reset("--hard", "HEAD~1")
    brought(repos, url)
    return commit


def test_a_damaged_clone_gives_what_only_it_had_to_the_new_one_or_is_kept(
    repos: GitRepos, upstream: Repo, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    commit = only_in_the_clone(repos, upstream, url)
    (repos.clone("site") / "HEAD").write_text("")
    brought(repos, url)
    assert Repo(repos.clone("site")).git.rev_parse("refs/canonq/deleted/1.1.0+1.1^{commit}") == commit
    for path in repos.clone("site").glob("objects/**/*"):
        if path.is_file():
            path.chmod(0o644)
            path.write_bytes(b"damaged")
    (repos.clone("site") / "HEAD").write_text("")
    brought(repos, url)
    assert [path.name for path in repos.clone("site").parent.glob("broken-*")], "the only copy is not thrown away"
    assert "only copy" in caplog.text


@pytest.mark.parametrize("at", ["full", "killed"])
def test_what_only_a_damaged_clone_has_outlives_a_full_disk_and_a_kill_while_it_is_made_anew(
    repos: GitRepos, upstream: Repo, url: str, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    commit = only_in_the_clone(repos, upstream, url)
    clone = repos.clone("site")
    (clone / "HEAD").write_text("")
    with monkeypatch.context() as patched:
        if at == "full":
            full = Ended(128, "", errors="fatal: write error: No space left on device")
            real = repos.git.local
            patched.setattr(
                repos.git, "local", lambda where, *words, **more: full if words[0] == "fetch" else real(where, *words, **more)
            )
            with pytest.raises(HostProblem, match="No space left") as told:
                brought(repos, url)
            assert told.value.code == "disk-full"
            assert clone.is_dir(), "it is where it was"
        else:
            killed = clone.parent / ".broken-x"
            killed.mkdir()
            clone.rename(killed / clone.name)
    brought(repos, url)
    assert Repo(clone).git.rev_parse("refs/canonq/deleted/1.1.0+1.1^{commit}") == commit
    assert {path.name for path in clone.parent.iterdir()} == {"lock", "repo.git", "seen.json"}, "and nothing is left over"


def test_a_clone_that_is_not_there_is_named_and_is_no_missing_program(repos: GitRepos, tmp_path: Path) -> None:
    with pytest.raises(HostProblem, match=r"canonq sync site") as caught:
        repos.checkout("site", "0" * 40, tmp_path / "tree")
    assert caught.value.code == "clone-missing"


def test_a_file_that_a_commit_has_not_is_told_from_a_commit_that_is_not_there(repos: GitRepos, upstream: Repo, url: str) -> None:
    brought(repos, url)
    commit = repos.tags("site")[TAG]
    assert (repos.show("site", commit, "compose.yml"), repos.show("site", commit, "no")) == (FILES["compose.yml"], None)
    with pytest.raises(HostProblem, match="no commit"):
        repos.show("site", "0" * 40, "compose.yml")


def test_a_file_that_is_data_is_not_read_out_of_a_commit(repos: GitRepos, upstream: Repo, url: str) -> None:
    release(upstream, "2.0.0+2.0", {"compose.yml": "#" * (2 << 20)})
    brought(repos, url)
    with pytest.raises(RecipeProblem) as told:
        repos.show("site", repos.tags("site")["2.0.0+2.0"], "compose.yml")
    assert told.value.code == "file-too-large"


# -- trees that are traps -------------------------------------------------------------------------------------


def tree_of(upstream: Repo, *entries: tuple[str, str, str]) -> str:
    """A tree made by hand, with names that git would not write; (mode, object, name)."""
    raw = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(found) for mode, found, name in entries)
    done = subprocess.run(
        ["git", "hash-object", "-t", "tree", "-w", "--literally", "--stdin"],
        cwd=upstream.working_dir, input=raw, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout.decode().strip()


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "git~1", ".git. "])
def test_a_path_that_leaves_the_worktree_or_writes_into_gits_own_files_is_refused(
    repos: GitRepos, upstream: Repo, tmp_path: Path, name: str
) -> None:
    blob = upstream.git.hash_object("-w", "--", str(Path(upstream.working_dir) / "compose.yml"))
    inner = tree_of(upstream, ("100644", blob, "config"))
    commit = upstream.git.commit_tree(tree_of(upstream, ("40000", inner, name)), "-m", "trap")
    upstream.git.tag("1.1.0+1.1", commit)
    brought(repos, str(upstream.working_dir))
    with pytest.raises(RecipeProblem, match="outside the recipe") as caught:
        repos.checkout("site", commit, tmp_path / "tree")
    assert caught.value.code == "unsafe-tree"
    assert not (tmp_path / "config").exists()


def test_submodules_and_lfs_are_refused_unless_the_enrolment_takes_them_as_they_are(
    repos: GitRepos, upstream: Repo, tmp_path: Path
) -> None:
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
    (Path(upstream.working_dir) / "image.png").write_text(pointer)
    release(upstream, "1.1.0+1.1", {".gitattributes": "*.png filter=lfs\n"})
    upstream.git.update_index("--add", "--cacheinfo", f"160000,{upstream.head.commit.hexsha},sub")
    upstream.git.commit("-qm", "sub")
    upstream.git.tag("1.2.0+1.2")
    brought(repos, str(upstream.working_dir))
    tags = repos.tags("site")
    with pytest.raises(RecipeProblem, match=r"image\.png.* Git LFS.*pointers"):
        repos.checkout("site", tags["1.1.0+1.1"], tmp_path / "tree")
    with pytest.raises(RecipeProblem, match="submodule"):
        repos.checkout("site", tags["1.2.0+1.2"], tmp_path / "tree", Tree(lfs="pointers"))
    repos.checkout("site", tags["1.2.0+1.2"], tmp_path / "tree", Tree(lfs="pointers", submodules="empty"))
    assert (tmp_path / "tree" / "image.png").read_text() == pointer
    assert list((tmp_path / "tree" / "sub").iterdir()) == []


# -- credentials ----------------------------------------------------------------------------------------------


def test_a_password_comes_from_a_file_and_is_in_no_process_list(upstream: Repo, tmp_path: Path) -> None:
    Repo.clone_from(str(upstream.working_dir), tmp_path / "served" / "coop" / "site.git", bare=True)
    with serving(tmp_path / "served") as forge:
        kept = tmp_path / "credentials"
        kept.write_text(forge.url.replace("://", "://canonq:hunter2@") + "\n")
        asks = status(401, WWW_Authenticate='Basic realm="forge"')
        looked = threading.Event()
        forge.order("info/refs", asks, when(looked))
        repos = GitRepos(tmp_path / "repos", GitProgram(GitLimits(credentials_file=kept)))
        seen: list[bytes] = []
        watcher = threading.Thread(target=lambda: seen.extend(watched(lambda: len(forge.asked) < 3, looked)))
        watcher.start()
        assert set(repos.listing(forge.address("coop/site")).tags) == {TAG}
        forge.asked += ["done"] * 3
        watcher.join()
        assert forge.tokens[1] == "Basic " + base64.b64encode(b"canonq:hunter2").decode()
        assert seen, "git was looked at while it ran"
        assert not any(b"hunter2" in line for line in seen)


def watched(go_on: Callable[[], bool], looked: threading.Event) -> list[bytes]:
    """Command lines and environments of every git that runs meanwhile; `looked` is set once there was one."""
    found: set[bytes] = set()
    while go_on():
        if found:
            looked.set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (folder / "cmdline").read_bytes()
                if b"git" in line:
                    found |= {line, (folder / "environ").read_bytes()}
    return list(found)


# -- what somebody proposes ---------------------------------------------------------------------------------


def propose(upstream: Repo, number: int, size: int, *, files: int = 1) -> str:
    """A pull request that brings so many bytes, which nothing makes smaller."""
    upstream.git.checkout("-q", "--detach", "main")
    for each in range(files):
        (Path(upstream.working_dir) / f"large-{each}").write_bytes(os.urandom(size // files))
    upstream.git.add("-A")
    upstream.git.commit("-q", "-m", f"pull {number}")
    head = upstream.head.commit.hexsha
    upstream.git.update_ref(f"refs/pull/{number}/head", head)
    upstream.git.checkout("-q", "main")
    return head


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("files", [1, 300], ids=["one file", "many files"])
def test_a_pull_request_that_is_too_large_harms_neither_the_clone_nor_other_pull_requests(
    tmp_path: Path, upstream: Repo, url: str, files: int
) -> None:
    repos = GitRepos(tmp_path / "repos", GitProgram(GitLimits(largest=300_000)))
    brought(repos, url)
    repos.remember("site", {"as": "it is"})
    large, small = propose(upstream, 1, 2_000_000, files=files), propose(upstream, 2, 1000)
    before = size_of(tmp_path / "repos")
    heads, failed = repos.fetch_pulls("site", url, {1: large, 2: small})
    assert (heads, list(failed), failed[1].cause) == ({2: small}, [1], "mirror-too-large")
    assert size_of(tmp_path / "repos") < before + 50_000, "nothing of it is left"
    with pytest.raises(SyncFailed):
        repos.fetch_ref("site", url, "refs/pull/1/head")
    assert size_of(tmp_path / "repos") < before + 50_000
    assert repos.remembered("site") == {"as": "it is"}, "the clone is the same"
    assert not brought(repos, url)
    assert list(repos.tags("site")) == [TAG]


def test_what_only_a_closed_pull_request_had_brought_is_removed(
    repos: GitRepos, upstream: Repo, url: str, tmp_path: Path
) -> None:
    brought(repos, url)
    before = size_of(tmp_path / "repos")
    first, second = propose(upstream, 1, 400_000), propose(upstream, 2, 1000)
    assert repos.fetch_pulls("site", url, {1: first, 2: second}) == ({1: first, 2: second}, {})
    assert size_of(tmp_path / "repos") > before + 400_000
    repos.forget_pulls("site", {2})
    assert size_of(tmp_path / "repos") < before + 50_000
    assert repos.fetch_pulls("site", "/nobody/asks/it", {2: second}) == ({2: second}, {}), "it is there still"
    assert not brought(repos, url)
    assert repos.tags("site") == {TAG: upstream.commit("main").hexsha}


def test_tags_of_tags_are_read_by_a_few_programs_however_many_there_are(
    repos: GitRepos, upstream: Repo, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = upstream.git.rev_parse("main^{tree}")
    upstream.git.tag("-a", "t0", tree, "-m", "of a tree")
    upstream.git.tag("-a", "t1", "t0", "-m", "of a tag of a tree")
    commit, name = upstream.head.commit.hexsha, TAG
    for number in range(30):
        upstream.git.tag("-a", f"1.{number}.0+1", name, "-m", "of a tag")
        name = f"1.{number}.0+1"
    brought(repos, url)
    asked: list[str] = []
    local = GitProgram.local

    def counted(git: GitProgram, clone: Path | None, *arguments: str, **more: object) -> Ended:
        asked.append(arguments[0])
        return local(git, clone, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(GitProgram, "local", counted)
    assert set(repos.tags("site").values()) == {commit}
    assert len(repos.tags("site")) == 31
    assert repos.odd_tags("site") == {"t0": "tree", "t1": "tree"}
    assert len(asked) < 10, asked


def test_a_clone_without_what_a_tag_of_a_tag_leads_to_is_made_anew(repos: GitRepos, upstream: Repo, url: str) -> None:
    upstream.git.tag("-a", "inner", TAG, "-m", "of a tag")
    upstream.git.tag("-a", "2.0.0+2", "inner", "-m", "of a tag of a tag")
    brought(repos, url)
    clone, lost = repos.clone("site"), upstream.git.rev_parse(f"refs/tags/{TAG}")
    for tag in (TAG, "inner"):
        Repo(clone).git.update_ref("-d", f"refs/tags/{tag}")
    (clone / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(HostProblem, match="missing object behind a tag"):
        repos.tags("site")
    assert brought(repos, url)
    assert repos.tags("site")["2.0.0+2"] == upstream.commit("main").hexsha
