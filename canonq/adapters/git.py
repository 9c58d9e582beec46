"""Git: one bare clone for each recipe, never checked out; every run gets a worktree of its own.

Through GitPython's command wrapper, with no hooks, no prompts, no foreign protocols and always a time limit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from git.cmd import Git
from git.exc import GitCommandNotFound

from canonq.adapters.files import told, write_json
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem, SyncFailed, WrongConfiguration, WrongUse
from canonq.core.names import COMMIT, ref_name, ref_problem, shown
from canonq.ports import Listing

_URL = re.compile(r"(?:https?|ssh|git|file)://[^\s]+|/[^\s]*|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:[^\s]+")
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C.UTF-8",
}
#: Asks nothing: a host that is not known, or a key that is missing, is an error and not a hang.
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20"
_OPTIONS = ("core.hooksPath=/dev/null", "core.autocrlf=false", "gc.auto=0", "maintenance.auto=false",
            "advice.detachedHead=false", "core.fsmonitor=false")  # fmt: skip
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def masked(url: str) -> str:
    """A URL without its user and password, for messages."""
    return _CREDENTIALS.sub("***@", url)


def upstream_url(text: str, checkout: Path) -> str:
    """The address git is given for `upstream`: a URL, an absolute path, or a path below the checkout.

    WrongConfiguration for `ext::` and anything else that could make git start a program.
    """
    if text.startswith(("./", "../")):
        return str((checkout / text).resolve())
    if not _URL.fullmatch(text):
        raise WrongConfiguration(
            f"upstream = {shown(masked(text))} is not an address canonq uses.",
            mend="give an https, ssh, git or file URL, user@host:path, or a path that begins with '/' or './'.",
            code="bad-upstream",
        )
    return text


class GitRepos:
    """Repos (see ports) below one folder: `<root>/<recipe>/repo.git` and `<root>/<recipe>/seen.json`."""

    def __init__(self, root: Path, *, timeout: float = 120.0) -> None:
        self._root = root
        self._timeout = timeout  #: seconds for one git command

    def listing(self, url: str) -> Listing:
        """One look at the remote: default branch, its head, and all tags peeled."""
        status, out, err = _git(None, self._timeout, "ls-remote", "--symref", "--", url, "HEAD", "refs/heads/*", "refs/tags/*")
        if status != 0:
            raise _unreachable(url, err)
        refs: dict[str, str] = {}
        branch = ""
        for line in out.splitlines():
            value, _, name = line.partition("\t")
            if value.startswith("ref: ") and name == "HEAD":
                branch = value.removeprefix("ref: refs/heads/")
            else:
                refs[name] = value
        if not branch or f"refs/heads/{branch}" not in refs:
            branch = _guess_branch(refs) or branch
        if branch and ref_problem(branch):
            raise SyncFailed(f"The default branch {shown(branch)} of {masked(url)} {ref_problem(branch)}.")
        tags = _peeled({name: commit for name, commit in refs.items() if name.startswith("refs/tags/")})
        return Listing(branch or "main", refs.get(f"refs/heads/{branch}"), tags)

    def tags(self, recipe: str) -> dict[str, str]:
        """Tags of the clone with the commits they peel to; tags on trees or blobs are left out."""
        clone = self._clone(recipe)
        if not clone.is_dir():
            return {}
        kinds = self._must(clone, "for-each-ref", "--format=%(refname:strip=2)%09%(objecttype)%09%(*objecttype)", "refs/tags")
        listed, found = self._listed(clone), {}
        for line in kinds.splitlines():
            name, own, inner = line.split("\t")
            kind = inner or own
            if kind == "tag":  # a tag of a tag
                kind = self._must(clone, "cat-file", "-t", listed[name])
            if kind == "commit":
                found[name] = listed[name]
        return found

    def known(self, recipe: str) -> dict[str, str]:
        """Every tag ever fetched with the commit it had then."""
        path = self._root / recipe / "seen.json"
        try:
            seen = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise CanonqError(
                f"{path} cannot be read: {error}.", mend="restore the file, or remove it to accept the tags as they are."
            ) from error
        return {str(tag): str(commit) for tag, commit in dict(seen).items()}

    def update(self, recipe: str, url: str, listing: Listing) -> bool:
        """Fetch what `listing` names and the clone has not. A tag that moved meanwhile is refused by git."""
        clone = self._clone(recipe)
        with self._alone(recipe):
            self._make_whole(recipe)
            if self._listed(clone) == listing.tags and self._head(clone, listing.branch) == listing.head:
                return False
            refspecs = ["refs/tags/*:refs/tags/*"]
            if listing.head is not None:
                refspecs.append(f"+refs/heads/{listing.branch}:refs/heads/{listing.branch}")
            status, out, err = _git(
                clone,
                self._timeout * 5,
                "fetch",
                "--quiet",
                "--no-tags",
                "--prune",
                "--no-write-fetch-head",
                "--",
                url,
                *refspecs,
            )
            if status != 0:
                raise _unreachable(url, err or out)
            self._must(clone, "symbolic-ref", "HEAD", f"refs/heads/{listing.branch}")
            write_json(self._root / recipe / "seen.json", {**self.known(recipe), **self.tags(recipe)})
            return True

    def fetch_ref(self, recipe: str, url: str, ref: str) -> str:
        """See ports.Repos.fetch_ref. Kept below refs/canonq/, where no release is looked for."""
        clone = self._clone(recipe)
        wanted = self._full_ref(url, ref_name(ref))
        kept = f"refs/canonq/{wanted.removeprefix('refs/')}"
        with self._alone(recipe):
            self._make_whole(recipe)
            arguments = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", url, f"+{wanted}:{kept}")
            status, out, err = _git(clone, self._timeout * 5, *arguments)
            if status != 0:
                raise _unreachable(url, err or out)
            return self._must(clone, "rev-parse", "--verify", f"{kept}^{{commit}}")

    def _full_ref(self, url: str, ref: str) -> str:
        """What a remote calls the ref; a commit stands for itself."""
        if COMMIT.fullmatch(ref):
            return ref
        names = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/{ref}"]
        status, out, err = _git(None, self._timeout, "ls-remote", "--", url, *names)
        if status != 0:
            raise _unreachable(url, err)
        there = {line.partition("\t")[2] for line in out.splitlines()}
        found = next((name for name in names if name in there), None)
        if found is None:
            raise WrongUse(
                f"{masked(url)} has no ref {shown(ref)}.",
                mend="name a branch, a full commit, or a pull request's head such as pull/7/head.",
                code="no-such-ref",
            )
        return found

    def checkout(self, recipe: str, commit: str, folder: Path) -> None:
        """Make a worktree of `commit` and prove that it is exactly the commit's tree."""
        clone = self._clone(recipe)
        self._refuse_traps(clone, commit)
        self.drop_checkout(recipe, folder)
        with told(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
        self._must(clone, "worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)
        head = self._must(folder, "rev-parse", "HEAD")
        differs = self._must(folder, "status", "--porcelain", "--untracked-files=all", "--ignored")
        if head != commit or differs:
            raise CanonqError(
                f"The worktree {folder} is not exactly commit {commit[:12]}: {differs or f'HEAD is {head}'}.",
                mend="look for attributes or filters in the recipe that change files on checkout.",
                code="tree-differs",
            )

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        """Remove a worktree and git's note of it."""
        clone = self._clone(recipe)
        if folder.exists():
            shutil.rmtree(folder)
        if clone.is_dir():
            self._must(clone, "worktree", "prune", "--expire=now")

    def is_annotated(self, recipe: str, tag: str) -> bool:
        """Whether the tag is an object of its own, with an author and a message."""
        status, out, _ = _git(self._clone(recipe), self._timeout, "cat-file", "-t", f"refs/tags/{tag}")
        return status == 0 and out == "tag"

    def show(self, recipe: str, commit: str, path: str) -> str | None:
        """One file of a commit, or None when it is not there."""
        status, out, _ = _git(self._clone(recipe), self._timeout, "show", f"{commit}:{path}")
        return out if status == 0 else None

    def _clone(self, recipe: str) -> Path:
        return self._root / recipe / "repo.git"

    def _make_whole(self, recipe: str) -> None:
        clone = self._clone(recipe)
        if clone.is_dir():
            status, _, _ = _git(clone, self._timeout, "rev-parse", "--is-bare-repository")
            if status == 0:
                return
            clone.rename(clone.with_name(f"broken-{tempfile.mktemp(prefix='', dir='')}.git"))  # noqa: S306 - a name only
        half = Path(tempfile.mkdtemp(prefix=".new-", dir=clone.parent))
        self._must(half, "init", "--quiet", "--bare")
        half.rename(clone)

    def _listed(self, clone: Path) -> dict[str, str]:
        """All tags of the clone as a remote would list them: those on trees and blobs too."""
        status, out, _ = _git(clone, self._timeout, "show-ref", "--tags", "--dereference")
        lines = [line.split(" ", 1) for line in out.splitlines()] if status == 0 else []
        return _peeled({name: commit for commit, name in lines})

    def _head(self, clone: Path, branch: str) -> str | None:
        status, out, _ = _git(clone, self._timeout, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
        return out if status == 0 else None

    def _refuse_traps(self, clone: Path, commit: str) -> None:
        for entry in self._must(clone, "ls-tree", "-r", "-z", commit).split("\0"):
            meta, _, path = entry.partition("\t")
            mode, _, rest = meta.partition(" ")
            if mode == "160000":
                raise _trap(path, "is a submodule, which canonq does not fetch")
            if mode == "120000":
                target = self._must(clone, "cat-file", "blob", rest.split(" ")[1])
                whole = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
                if target.startswith("/") or whole.startswith("../") or whole == "..":
                    raise _trap(path, f"is a link to {shown(target)}, outside the recipe")

    @contextlib.contextmanager
    def _alone(self, recipe: str) -> Iterator[None]:
        folder = self._root / recipe
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _must(self, folder: Path, *arguments: str) -> str:
        status, out, err = _git(folder, self._timeout, *arguments)
        if status != 0:
            raise HostProblem(f"`git {arguments[0]}` failed in {folder}: {err.strip() or out}.", code="git-failed")
        return out


def _git(folder: Path | None, timeout: float, *arguments: str) -> tuple[int, str, str]:
    options = [part for option in _OPTIONS for part in ("-c", option)]
    try:
        status, out, err = Git(str(folder) if folder else None).execute(
            ["git", *options, *arguments],
            with_extended_output=True,
            with_exceptions=False,
            kill_after_timeout=timeout,
            env={"GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", _SSH), **_ENVIRONMENT},
            strip_newline_in_stdout=True,
        )
    except GitCommandNotFound as error:
        raise HostProblem("The program 'git' is not there.", mend="install git.", code="program-missing") from error
    return int(status), str(out), str(err)


def _peeled(refs: dict[str, str]) -> dict[str, str]:
    """refs/tags/... (and refs/tags/...^{} beside the annotated ones) -> tag: what it points to in the end."""
    inner = {name.removesuffix("^{}"): commit for name, commit in refs.items() if name.endswith("^{}")}
    return {name.removeprefix("refs/tags/"): inner.get(name, commit) for name, commit in refs.items() if not name.endswith("^{}")}


def _guess_branch(refs: dict[str, str]) -> str | None:
    heads = [name.removeprefix("refs/heads/") for name in refs if name.startswith("refs/heads/")]
    for usual in ("main", "master"):
        if usual in heads:
            return usual
    return heads[0] if len(heads) == 1 else None


def _unreachable(url: str, err: str) -> SyncFailed:
    said = " ".join(masked(err).split())[-400:]
    return SyncFailed(
        f"The upstream {masked(url)} could not be read: {said or 'git gave no reason'}.",
        mend="check the address in recipe.toml, the network and the credentials; nothing was decided on old tags.",
    )


def _trap(path: str, why: str) -> RecipeProblem:
    return RecipeProblem(f"The recipe's file {shown(path)} {why}.", mend="remove it from the release.", code="unsafe-tree")
