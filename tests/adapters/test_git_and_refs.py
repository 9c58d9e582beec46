"""Bare clones of recipes on real git: by path, file:// and http, with everything that upstreams do to their tags."""

from __future__ import annotations

import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from git.repo import Repo

from canonq.adapters.git import GitRepos
from canonq.core.errors import CanonqError, RecipeProblem, SyncFailed, WrongUse
from tests.support import make_recipe, release

TAG = "1.0.0+1.0"
FILES = {"compose.yml": "services: {}\n"}


@pytest.fixture
def upstream(tmp_path: Path) -> Repo:
    return make_recipe(tmp_path / "upstream", {TAG: FILES})


@pytest.fixture
def repos(tmp_path: Path) -> GitRepos:
    return GitRepos(tmp_path / "repos")


class _Smart(BaseHTTPRequestHandler):
    """git's own smart http, through `git http-backend`."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.server.folder),  # type: ignore[attr-defined]
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        said = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=True).stdout
        head, _, rest = said.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(lines.pop("Status", "200").split()[0]))
        for name, value in lines.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(rest)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


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
    assert sorted(path.name for path in (tmp_path / "tree").iterdir()) == [".git", "compose.yml"]
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
    Repo.clone_from(str(upstream.working_dir), tmp_path / "bare.git", bare=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), _Smart) as server:
        server.folder = tmp_path  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/bare.git"
        assert repos.listing(url).tags == repos.listing(str(upstream.working_dir)).tags
        assert brought(repos, url)
        assert repos.fetch_ref("site", url, "main") == upstream.head.commit.hexsha
        server.shutdown()
    assert set(repos.tags("site")) == {TAG}
