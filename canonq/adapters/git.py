"""Git: one bare clone for each recipe, never checked out; every run gets a worktree of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from canonq.adapters.files import told, write_json
from canonq.adapters.gitprogram import GitProgram, failed, sync_failed, timed_out
from canonq.adapters.history import History
from canonq.core.addresses import masked
from canonq.core.enrolment import Tree
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem, SyncFailed, TimedOut, WrongUse, tag_moved
from canonq.core.links import stays_inside
from canonq.core.names import COMMIT, ref_name, ref_problem, shown
from canonq.core.pulls import Landing
from canonq.ports import Listing

TAGS, HEADS = "refs/tags/", "refs/heads/"
_LINE = re.compile(r"([0-9a-f]{40})\t(HEAD|refs/[^\t]+)")
_NOTHING = "0" * 40  #: what a server says of refs that are broken
_OTHER_FORMAT = re.compile(r"[0-9a-f]{64}\tHEAD")
#: What git says when the clone itself, and not the remote, is at fault.
_CORRUPT = re.compile(
    r"bad object|corrupt|loose object|unable to read|invalid sha1|bad signature|not a valid object|in packed-refs"
    r"|did not send all necessary objects|missing (?:object|blob|tree|commit|necessary)|unexpected line|unresolved deltas",
    re.I,
)
_SHALLOW = re.compile(r"shallow roots are not allowed")
_REMEMBERED = "canonq.json"
_CLOSED = "closed-pulls.json"
_POINTER = "^version https://git-lfs.github.com/spec/"


class GitRepos:
    """Repos (see ports) below one folder: `<root>/<recipe>/repo.git` and `<root>/<recipe>/seen.json`."""

    def __init__(self, root: Path, git: GitProgram | None = None) -> None:
        self._root = root
        self.git = git or GitProgram()

    def listing(self, url: str, *, which: str = "upstream") -> Listing:
        """One look at the remote: default branch, its head, and all tags peeled."""
        try:
            ended = self.git.listing(url, "HEAD", "refs/heads/*", "refs/tags/*")
        except TimedOut as error:
            raise timed_out(which, url, error) from error
        except HostProblem as error:
            if error.code != "too-much":
                raise
            raise sync_failed(which, url, "too-large", error.what) from error
        if ended.status != 0:
            raise failed(which, url, ended)
        found = _read_listing(ended.output.splitlines(), f"{which} {masked(url)}")
        if not found.refs and _OTHER_FORMAT.search(ended.output):
            raise sync_failed(which, url, "sha256", "It names its objects by SHA-256, which canonq does not read.")
        return found

    def tags(self, recipe: str) -> dict[str, str]:
        """Tags of the clone with the commits they peel to; tags on trees or blobs are left out."""
        return {tag: name for tag, (kind, name) in self._peeled_tags(recipe).items() if kind == "commit"}

    def odd_tags(self, recipe: str) -> dict[str, str]:
        """Tags of the clone that name no commit: tag -> "tree" or "blob"."""
        return {tag: kind for tag, (kind, _) in self._peeled_tags(recipe).items() if kind != "commit"}

    def _peeled_tags(self, recipe: str) -> dict[str, tuple[str, str]]:
        clone = self.clone(recipe)
        if not clone.is_dir():
            return {}
        fields = "%(refname:strip=2)%09%(objecttype)%09%(objectname)%09%(*objecttype)%09%(*objectname)"
        found = {}
        for line in self.must(clone, "for-each-ref", f"--format={fields}", "refs/tags").splitlines():
            tag, kind, name, inner_kind, inner = line.split("\t")
            kind, name = inner_kind or kind, inner or name
            if kind == "tag":  # a tag of a tag
                name = self.must(clone, "rev-parse", f"{name}^{{}}")
                kind = self.must(clone, "cat-file", "-t", name)
            found[tag] = (kind, name)
        return found

    def known(self, recipe: str) -> dict[str, str]:
        """Every tag ever fetched with the commit it had then."""
        path = self._seen(recipe)
        try:
            seen = json.loads(path.read_text())
            return {str(tag): str(commit) for tag, commit in dict(seen).items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError) as error:
            raise CanonqError(
                f"{path} cannot be read: {error}.", mend="restore the file, or remove it to accept the tags as they are."
            ) from error

    def forget(self, recipe: str, tag: str) -> bool:
        """Accept whatever commit a tag names from now on; whether it was known."""
        with self.alone(recipe):
            known = self.known(recipe)
            if known.pop(tag, None) is None:
                return False
            write_json(self._seen(recipe), known)
            return True

    def remembered(self, recipe: str) -> dict[str, Any]:
        """What `remember` kept; empty when there is no clone, or it was made anew since."""
        try:
            value = json.loads((self.clone(recipe) / _REMEMBERED).read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def remember(self, recipe: str, value: dict[str, Any]) -> None:
        """Keep something about the clone as it is now, for as long as it is this clone."""
        write_json(self.clone(recipe) / _REMEMBERED, value)

    def closed_pulls(self, recipe: str) -> dict[int, str]:
        """See ports.Repos.closed_pulls."""
        try:
            kept = json.loads((self._root / recipe / _CLOSED).read_text())
            return {int(number): str(head) for number, head in dict(kept).items()}
        except (FileNotFoundError, ValueError, TypeError):
            return {}

    def note_closed(self, recipe: str, number: int, head: str) -> None:
        """See ports.Repos.note_closed."""
        write_json(self._root / recipe / _CLOSED, {**self.closed_pulls(recipe), number: head})

    def update(self, recipe: str, url: str, listing: Listing) -> bool:
        """Fetch what `listing` names and the clone has not. TagMoved when a tag moved since the listing."""
        with self.alone(recipe):
            try:
                return self._bring(recipe, url, listing)
            except HostProblem as error:
                if error.cause not in ("", "upstream-unreachable") or not _CORRUPT.search(error.what):
                    raise
                self._discard(recipe)
                return self._bring(recipe, url, listing)

    def _bring(self, recipe: str, url: str, listing: Listing) -> bool:
        self._make_whole(recipe)
        if self._has(recipe, listing):
            return False
        with contextlib.suppress(FileNotFoundError):  # until the fetch has ended, nothing is known of this clone
            (self.clone(recipe) / _REMEMBERED).unlink()
        self._fetch_all(recipe, url, listing)
        return True

    def _has(self, recipe: str, listing: Listing) -> bool:
        clone = self.clone(recipe)
        ours = self.refs(clone, TAGS)
        theirs = {ref: name for ref, name in listing.refs.items() if ref.startswith(TAGS)}
        # An upstream that has lost its default branch takes none from us.
        return ours == theirs and listing.head in (None, self._head(clone, listing.branch))

    def _fetch_all(self, recipe: str, url: str, listing: Listing) -> None:
        clone = self.clone(recipe)
        # Forced, as an annotated tag may be written anew at the same commit. That none names another commit was
        # seen in the listing, and is looked at again below.
        refspecs = ["+refs/tags/*:refs/tags/*"]
        if listing.head is not None:
            refspecs.append(f"+{HEADS}{listing.branch}:{HEADS}{listing.branch}")
        for tag in self._peeled_tags(recipe).keys() - listing.tags.keys():
            # A canonical may have been made from it, and the next upgrade begins there.
            self.must(clone, "update-ref", f"refs/canonq/gone/{tag}", f"{TAGS}{tag}")
        ended = self._fetch(clone, url, "--prune", *refspecs)
        found, known = self.tags(recipe), self.known(recipe)
        if _SHALLOW.search(ended.errors):  # git leaves such refs out, and calls that a success
            raise sync_failed("upstream", url, "shallow", "It has only a part of its history (a shallow clone).")
        for tag, commit in found.items():
            if known.get(tag, commit) != commit:
                raise tag_moved(recipe, tag, known[tag], commit)
        self.must(clone, "symbolic-ref", "HEAD", f"{HEADS}{listing.branch}")
        if found.keys() - known.keys():
            write_json(self._seen(recipe), {**known, **found})

    def _fetch(self, clone: Path, url: str, *arguments: str, which: str = "upstream") -> Any:
        options = [argument for argument in arguments if argument.startswith("--")]
        refspecs = [argument for argument in arguments if not argument.startswith("--")]
        command = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *options, "--", url, *refspecs)
        try:
            ended = self.git.transfer(clone, url, *command)
        except TimedOut as error:
            raise timed_out(which, url, error) from error
        if ended.status != 0:
            raise failed(which, url, ended)
        return ended

    def fetch_ref(self, recipe: str, url: str, ref: str, *, which: str = "upstream") -> str:
        """See ports.Repos.fetch_ref. Kept below refs/canonq/, where no release is looked for."""
        clone = self.clone(recipe)
        wanted = self._full_ref(url, ref_name(ref), which)
        kept = f"refs/canonq/{wanted.removeprefix('refs/')}"
        with self.alone(recipe):
            self._make_whole(recipe)
            self._fetch(clone, url, f"+{wanted}:{kept}", which=which)
            return self.must(clone, "rev-parse", "--verify", f"{kept}^{{commit}}")

    def keep_refs(self, recipe: str, url: str, refs: dict[str, str], *, which: str) -> None:
        """Fetch refs of a remote under other names: theirs -> ours, below refs/canonq/."""
        self._fetch(self.clone(recipe), url, *(f"+{theirs}:{ours}" for theirs, ours in refs.items()), which=which)

    def _full_ref(self, url: str, ref: str, which: str) -> str:
        """What a remote calls the ref; a commit stands for itself."""
        if COMMIT.fullmatch(ref):
            return ref
        names = [ref] if ref.startswith("refs/") else [f"{HEADS}{ref}", f"{TAGS}{ref}", f"refs/{ref}"]
        try:
            ended = self.git.listing(url, *names)
        except TimedOut as error:
            raise timed_out(which, url, error) from error
        if ended.status != 0:
            raise failed(which, url, ended)
        there = {line.partition("\t")[2] for line in ended.output.splitlines()}
        found = next((name for name in names if name in there), None)
        if found is None:
            raise WrongUse(
                f"{masked(url)} has no ref {shown(ref)}.",
                mend="name a branch, a full commit, or a pull request's head such as pull/7/head.",
                code="no-such-ref",
            )
        return found

    def checkout(self, recipe: str, commit: str, folder: Path, tree: Tree | None = None) -> None:
        """Make a worktree of `commit` and prove that it is exactly the commit's tree."""
        clone = self.clone(recipe)
        self._refuse_traps(clone, commit, tree or Tree())
        self.drop_checkout(recipe, folder)
        with told(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
        self.must(clone, "worktree", "add", "--quiet", "--force", "--detach", str(folder), commit)
        head = self.must(folder, "rev-parse", "HEAD")
        differs = self.must(folder, "status", "--porcelain", "--untracked-files=all", "--ignored")
        if head != commit or differs:
            raise CanonqError(
                f"The worktree {folder} is not exactly commit {commit[:12]}: {differs or f'HEAD is {head}'}.",
                mend="look for attributes or filters in the recipe that change files on checkout.",
                code="tree-differs",
            )

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        """Remove a worktree and git's note of it."""
        clone = self.clone(recipe)
        if folder.exists():
            shutil.rmtree(folder)
        if clone.is_dir():
            self.must(clone, "worktree", "prune", "--expire=now")

    def landing(self, recipe: str, main: str, head: str) -> Landing:
        """See ports.Repos.landing."""
        return History(self.git, self.clone(recipe)).landing(main, head)

    def elsewhere(self, root: Path) -> GitRepos:
        """See ports.Repos.elsewhere."""
        return GitRepos(root, self.git)

    def is_annotated(self, recipe: str, tag: str) -> bool:
        """Whether the tag is an object of its own, with an author and a message."""
        ended = self.git.local(self.clone(recipe), "cat-file", "-t", f"{TAGS}{tag}")
        return ended.status == 0 and ended.output.strip() == "tag"

    def show(self, recipe: str, commit: str, path: str) -> str | None:
        """One file of a commit, or None when it is not there."""
        ended = self.git.local(self.clone(recipe), "show", f"{commit}:{path}")
        return ended.output if ended.status == 0 else None

    def clone(self, recipe: str) -> Path:
        """Where the recipe's bare clone is, or will be."""
        return self._root / recipe / "repo.git"

    def _seen(self, recipe: str) -> Path:
        return self._root / recipe / "seen.json"

    def _make_whole(self, recipe: str) -> None:
        """Have a clone that git accepts; the caller holds the recipe's clone."""
        clone = self.clone(recipe)
        if clone.is_dir():
            _drop_leftovers(clone)
            if self.git.local(clone, "rev-parse", "--is-bare-repository").output.strip() == "true":
                return
            self._discard(recipe)
        half = Path(tempfile.mkdtemp(prefix=".new-", dir=clone.parent))
        self.must(half, "init", "--quiet", "--bare")
        half.rename(clone)

    def _discard(self, recipe: str) -> None:
        """Take a clone that is no good out of the way; all that is in it can be fetched again."""
        clone = self.clone(recipe)
        broken = Path(tempfile.mkdtemp(prefix=".broken-", dir=clone.parent))
        clone.rename(broken / clone.name)
        for old in [broken, *clone.parent.glob(".new-*")]:
            shutil.rmtree(old, ignore_errors=True)

    def refs(self, clone: Path, prefix: str) -> dict[str, str]:
        """All refs of a clone below a prefix, as a remote would list them, not peeled."""
        # The kind is asked for so that git looks whether the objects are there.
        lines = self.must(clone, "for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", prefix).splitlines()
        return {ref: name for name, _, ref in (line.split(" ", 2) for line in lines)}

    def _head(self, clone: Path, branch: str) -> str | None:
        ended = self.git.local(clone, "rev-parse", "--verify", "--quiet", f"{HEADS}{branch}")
        return ended.output.strip() if ended.status == 0 else None

    def _refuse_traps(self, clone: Path, commit: str, allowed: Tree) -> None:
        attributes = False
        links: dict[str, str] = {}
        for entry in self.must(clone, "ls-tree", "-r", "-z", commit).split("\0"):
            meta, _, path = entry.partition("\t")
            mode, _, rest = meta.partition(" ")
            parts = path.split("/")
            if any(part.lower().rstrip(". ") in ("", ".git", "git~1") for part in parts if path):
                raise _trap(path, "would be written outside the recipe, or into git's own files")
            attributes = attributes or parts[-1] == ".gitattributes"
            if mode == "160000" and allowed.submodules == "refuse":
                raise _trap(path, "is a submodule, which canonq does not fetch", 'or leave it empty: [tree] submodules = "empty"')
            if mode == "120000":
                links[path] = self.must(clone, "cat-file", "blob", rest.split(" ")[1])
        for path, target in links.items():
            if not stays_inside(path, links):
                raise _trap(path, f"is a link to {shown(target)}, outside the recipe")
        if attributes and allowed.lfs == "refuse":
            found = self.git.local(clone, "grep", "-l", "-e", _POINTER, commit).output.splitlines()
            if found:
                path = found[0].removeprefix(f"{commit}:")
                raise _trap(
                    path, "is kept in Git LFS, which canonq does not fetch", 'or take the pointer: [tree] lfs = "pointers"'
                )

    @contextlib.contextmanager
    def alone(self, recipe: str) -> Iterator[None]:
        """Hold the recipe's clone; whoever else wants to change it waits."""
        folder = self._root / recipe
        with told(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def must(self, folder: Path, *arguments: str) -> str:
        """What a command on a clone says. HostProblem when it fails."""
        ended = self.git.local(folder, *arguments)
        if ended.status != 0:
            said = ended.errors.strip() or ended.output
            raise HostProblem(f"`git {arguments[0]}` failed in {folder}: {said}.", code="git-failed")
        return ended.output.removesuffix("\n")


def _read_listing(lines: Collection[str], where: str) -> Listing:
    refs: dict[str, str] = {}
    branch, head = "", None
    for line in lines:
        if line.startswith("ref: ") and line.endswith("\tHEAD"):
            branch = line.removeprefix("ref: ").removesuffix("\tHEAD").removeprefix(HEADS)
        elif (found := _LINE.fullmatch(line)) and found[1] != _NOTHING:  # whatever else a server may say is no ref
            refs[found[2]] = found[1]
    if not branch or f"{HEADS}{branch}" not in refs:
        branch = _guess_branch(refs) or branch
    if branch and ref_problem(branch):
        raise SyncFailed(
            f"The default branch {shown(branch)} of the {where} {ref_problem(branch)}.",
            mend="give it another name there.",
            cause="upstream-bad-branch",
        )
    head = refs.get(f"{HEADS}{branch}")
    tagged = {ref: name for ref, name in refs.items() if ref.startswith(TAGS)}
    return Listing(
        branch=branch or "main",
        head=head,
        tags=_peeled(tagged),
        refs={ref: name for ref, name in refs.items() if not ref.endswith("^{}") and ref != "HEAD"},
    )


def _peeled(refs: dict[str, str]) -> dict[str, str]:
    """refs/tags/... (and refs/tags/...^{} beside the annotated ones) -> tag: what it points to in the end."""
    start = len(TAGS)
    return {ref[start:]: refs.get(f"{ref}^{{}}", name) for ref, name in refs.items() if not ref.endswith("^{}")}


def _guess_branch(refs: Iterable[str]) -> str | None:
    heads = [name.removeprefix(HEADS) for name in refs if name.startswith(HEADS)]
    for usual in ("main", "master"):
        if usual in heads:
            return usual
    return heads[0] if len(heads) == 1 else None


def _drop_leftovers(clone: Path) -> None:
    """Remove what a git that was killed left behind: locks that nobody holds, packs that nobody finishes.

    Worktrees are left alone: runs under way work on theirs.
    """
    for pattern in ("*.lock", "refs/**/*.lock", "objects/**/*.lock"):
        for path in clone.glob(pattern):
            path.unlink(missing_ok=True)
    for path in [*clone.glob("objects/pack/tmp_*"), *clone.glob("objects/tmp_*"), *clone.glob("objects/incoming-*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _trap(path: str, why: str, instead: str = "") -> RecipeProblem:
    return RecipeProblem(
        f"The recipe's file {shown(path)} {why}.",
        mend=f"remove it from the release{', ' + instead if instead else ''}.",
        code="unsafe-tree",
    )
