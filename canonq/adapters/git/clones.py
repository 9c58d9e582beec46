"""Git: one bare clone for each recipe, never checked out; every run gets a tree of its own."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.filelocks import locked, locked_to_read
from canonq.adapters.files import copy_tree, is_there, not_readable, remove_tree, table_in, told, write_durably, write_json
from canonq.adapters.git.history import History
from canonq.adapters.git.program import GitProgram, failed, local_problem, sync_failed, timed_out
from canonq.adapters.git.tree import remove, write_out
from canonq.adapters.state.records import readable_json
from canonq.core.enrolment import Tree
from canonq.core.errors import CanonqError, HostProblem, RecipeProblem, SyncFailed, TimedOut, WrongUse, tag_moved
from canonq.core.jsontext import table_of
from canonq.core.names import COMMIT, flat_ref, ref_name, ref_problem, shown
from canonq.core.text import did_you_mean, ended
from canonq.core.upstream.addresses import masked
from canonq.core.upstream.pulls import Landing
from canonq.ports import Listing

log = logging.getLogger("canonq")

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
_CONDEMNED = "canonq-damaged"
_BROKEN = ".broken-"  #: how the names of folders begin in which a clone lies that is made anew
_CLOSED = "closed-pulls.json"
_NOT_LANDED = "open-pulls.json"
_KEPT_PULL = re.compile(r"refs/canonq/pull/([0-9]{1,18})/head")
_INCOMING_TAGS, _INCOMING_HEAD = "refs/canonq/incoming/tags/", "refs/canonq/incoming/head"
_LARGEST_SHOWN = 1 << 20  #: bytes of a file that is read out of a commit
_DELETED = "refs/canonq/deleted/"
#: What no remote has any more; the last is where an older canonq kept deleted tags.
_ONLY_HERE = (_DELETED, "refs/canonq/replaced/", "refs/canonq/gone/")
_MANY_REFS = 500  #: more of them are kept in one file
_KINDS = ("commit", "tree", "blob")  #: what a tag leads to in the end
_PULLS = "refs/canonq/pull/"
_TIDIED = 1800.0  #: seconds within which what nobody refers to is removed from a clone


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
        found = _read_listing(ended.output.split("\n"), f"{which} {masked(url)}", ended.moved_to)
        if not found.refs and _OTHER_FORMAT.search(ended.output):
            raise sync_failed(which, url, "sha256", "It names its objects by SHA-256, which canonq does not read.")
        return found

    def tags(self, recipe: str) -> dict[str, str]:
        """See ports.Repos.tags; tags on trees or blobs are left out."""
        self._there(recipe)
        return _commits(self._peeled_tags(recipe))

    def odd_tags(self, recipe: str) -> dict[str, str]:
        """Tags of the clone that name no commit: tag -> "tree" or "blob"."""
        return {tag: kind for tag, (kind, _) in self._peeled_tags(recipe).items() if kind != "commit"}

    def _peeled_tags(self, recipe: str, below: str = TAGS) -> dict[str, tuple[str, str]]:
        clone = self.clone(recipe)
        if not is_there(clone):
            return {}
        fields = "%(refname)%09%(objecttype)%09%(objectname)%09%(*objecttype)%09%(*objectname)"
        found = {}
        for line in self._lines(clone, "for-each-ref", f"--format={fields}", below):
            ref, kind, name, inner_kind, inner = line.split("\t")
            found[ref.removeprefix(below)] = (inner_kind or kind, inner or name)
        inside = self._inside(clone, {name for kind, name in found.values() if kind == "tag"})  # tags of tags
        return {ref: inside.get(name, (kind, name)) for ref, (kind, name) in found.items()}

    def _inside(self, clone: Path, tags: Collection[str]) -> dict[str, tuple[str, str]]:
        """Name of a tag's object -> kind and name of what it leads to in the end. One program is asked for all, however many."""
        if not tags:
            return {}
        named = sorted(tags)
        asked = "".join(f"{name}^{{}}\n" for name in named).encode()
        ended = self.git.local(clone, "cat-file", "--batch-check=%(objecttype) %(objectname)", stdin=asked)
        found = [line.split(" ") for line in ended.output.splitlines()]
        if ended.status != 0 or len(found) != len(named) or any(kind not in _KINDS for kind, _ in found):
            what = f"`git cat-file` failed in {clone}: missing object behind a tag"
            raise local_problem(ended, what, clone)
        return {name: (kind, inner) for name, (kind, inner) in zip(named, found, strict=True)}

    def known(self, recipe: str) -> dict[str, str]:
        """Every tag ever fetched with the commit it had then."""
        path = self._seen(recipe)
        try:
            return {str(tag): str(commit) for tag, commit in table_of(path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except PermissionError as error:
            raise not_readable(path) from error
        except (OSError, ValueError) as error:
            raise CanonqError(
                f"{path} cannot be read: {error}.",
                mend="restore the file, or remove it: the clone's tags are then believed as they are.",
            ) from error

    def accept(self, recipe: str, tag: str, commit: str | None) -> bool:
        """See ports.Repos.accept. The tag itself follows with the next sync."""
        with self.alone(recipe):
            known = self.known(recipe)
            was = known.pop(tag, None) is not None
            if commit is not None:
                known[tag] = commit
            self._note(recipe, known)
            if self.clone(recipe).is_dir():
                self._drop_tags(recipe, [tag])  # the next sync would take what it names for what it has always named
            return was

    def remembered(self, recipe: str) -> dict[str, Any]:
        """What `remember` kept; empty when there is no clone, or it was made anew since."""
        return table_in(self.clone(recipe) / _REMEMBERED)

    def remember(self, recipe: str, value: dict[str, Any]) -> None:
        """Keep something about the clone as it is now, for as long as it is this clone."""
        write_json(self.clone(recipe) / _REMEMBERED, value)

    def closed_pulls(self, recipe: str) -> dict[int, str]:
        """See ports.Repos.closed_pulls."""
        kept = readable_json(self._root / recipe / _CLOSED)
        return {int(number): str(head) for number, head in kept.items() if number.isdecimal()}

    def note_closed(self, recipe: str, number: int, head: str) -> None:
        """See ports.Repos.note_closed."""
        write_json(self._root / recipe / _CLOSED, {**self.closed_pulls(recipe), number: head})

    def not_landed(self, recipe: str, main: str) -> frozenset[str]:
        """See ports.Repos.not_landed."""
        kept = table_in(self._root / recipe / _NOT_LANDED)
        heads = kept.get("heads")
        return frozenset(map(str, heads)) if kept.get("main") == main and isinstance(heads, list) else frozenset()

    def note_not_landed(self, recipe: str, main: str, heads: Iterable[str]) -> None:
        """See ports.Repos.note_not_landed."""
        write_json(self._root / recipe / _NOT_LANDED, {"main": main, "heads": sorted(heads)})

    def fetch_pulls(self, recipe: str, url: str, heads: Mapping[int, str]) -> tuple[dict[int, str], dict[int, SyncFailed]]:
        """See ports.Repos.fetch_pulls."""
        clone = self.clone(recipe)
        with self.alone(recipe):
            self._make_whole(recipe)
            here, failed = self._pulls(clone), dict[int, SyncFailed]()
            new = [number for number, head in heads.items() if here.get(number) != head]
            if new:
                # One that is gone would let the fetch of all the others fail.
                there = self._listed("mirror", url, "refs/pull/*/head")
                refspecs = {
                    number: f"+{ref}:{_PULLS}{number}/head" for number in new if (ref := f"refs/pull/{number}/head") in there
                }
                failed = self._fetch_each(clone, url, refspecs)
                here = self._pulls(clone)
                gone = {number for number in new if f"refs/pull/{number}/head" not in there}
                here = {number: head for number, head in here.items() if number not in gone and number not in failed}
        return {number: here[number] for number in heads if number in here}, failed

    def _fetch_each(self, clone: Path, url: str, refspecs: Mapping[int, str]) -> dict[int, SyncFailed]:
        """All at once; where that fails, each by itself, so that none is in the way of others. Why some were not fetched."""
        failed: dict[int, SyncFailed] = {}
        try:
            if refspecs:
                self._fetch_others(clone, url, *refspecs.values(), which="mirror")
        except SyncFailed as error:
            if len(refspecs) == 1 or error.cause != "mirror-too-large":
                return dict.fromkeys(refspecs, error)
            for number, refspec in refspecs.items():
                failed |= self._fetch_each(clone, url, {number: refspec})
        return failed

    def _fetch_others(self, clone: Path, url: str, *refspecs: str, which: str) -> None:
        """Fetch what somebody proposes. The clone is none the worse where that fails, and has no more in it."""
        packs = clone / "objects" / "pack"
        before = set(os.listdir(packs)) if packs.is_dir() else set()
        try:
            self._fetch(clone, url, *refspecs, which=which, is_ours=False)
        except SyncFailed:
            for name in set(os.listdir(packs)) - before if packs.is_dir() else ():
                with contextlib.suppress(OSError):
                    (packs / name).unlink()
            self._tidy(clone, "prune", "--expire=now")
            raise

    def forget_pulls(self, recipe: str, but: Collection[int]) -> None:
        """See ports.Repos.forget_pulls."""
        clone = self.clone(recipe)
        if not is_there(clone):
            return
        with self.alone(recipe):
            gone = [number for number in self._pulls(clone) if number not in but]
            if gone:
                self._change_refs(clone, [f"delete {_PULLS}{number}/head\0\0" for number in gone])
                self._tidy(clone, "gc", "--quiet", "--prune=now")

    def _tidy(self, clone: Path, *command: str) -> None:
        """Remove what nothing refers to. All that is in use has a ref; where it cannot be done, it takes room and no more."""
        with contextlib.suppress(HostProblem):
            ended = self.git.local(clone, *command, timeout=_TIDIED)
            if ended.status != 0:
                log.warning("`git %s` on %s: %s", command[0], clone, ended.errors.strip()[-300:])

    def _pulls(self, clone: Path) -> dict[int, str]:
        kept = self.refs(clone, _PULLS).items()
        return {int(found[1]): head for ref, head in kept if (found := _KEPT_PULL.fullmatch(ref))}

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
        known, here = self.known(recipe), self.tags(recipe)
        if here.keys() - known.keys():  # a sync that was killed, or a lost file: what the clone has was seen
            self._note(recipe, {**here, **known})
        if self._has(recipe, listing):
            return False
        with contextlib.suppress(FileNotFoundError):  # until the fetch has ended, nothing is known of this clone
            (self.clone(recipe) / _REMEMBERED).unlink()
        self._fetch_all(recipe, url, listing)
        return True

    def _has(self, recipe: str, listing: Listing) -> bool:
        branch = f"{HEADS}{listing.branch}"
        ours = self.refs(self.clone(recipe), TAGS, branch)
        theirs = {ref: name for ref, name in listing.refs.items() if ref.startswith(TAGS)}
        # An upstream that has lost its default branch takes none from us.
        return _below(ours, TAGS) == theirs and listing.head in (None, ours.get(branch))

    def _fetch_all(self, recipe: str, url: str, listing: Listing) -> None:
        """Fetch to a place apart, look at it, put on record what was seen, and only then let tags and branch follow.

        So a tag that moved since the listing is in no clone, and one that a killed sync brought is on record.
        """
        clone = self.clone(recipe)
        refspecs = [f"+{TAGS}*:{_INCOMING_TAGS}*"]
        if listing.head is not None:
            refspecs.append(f"+{HEADS}{listing.branch}:{_INCOMING_HEAD}")
        ended = self._fetch(clone, url, "--prune", *refspecs)
        if _SHALLOW.search(ended.errors):  # git leaves such refs out, and calls that a success
            raise sync_failed("upstream", url, "shallow", "It has only a part of its history (a shallow clone).")
        found, known = _commits(self._peeled_tags(recipe, _INCOMING_TAGS)), self.known(recipe)
        for tag, commit in found.items():
            if known.get(tag, commit) != commit:
                raise tag_moved(recipe, tag, known[tag], commit)
        if found.keys() - known.keys():
            self._note(recipe, {**known, **found})
        every = self.refs(clone, TAGS, HEADS, _INCOMING_TAGS, _INCOMING_HEAD)
        here = _below(every, TAGS)
        there = {f"{TAGS}{ref.removeprefix(_INCOMING_TAGS)}": name for ref, name in _below(every, _INCOMING_TAGS).items()}
        # In two steps: a tag that goes may be in the way of one that comes, as `next` is of `next/2`.
        self._drop_tags(recipe, [ref.removeprefix(TAGS) for ref in here if ref not in there])
        changed = {ref: name for ref, name in there.items() if here.get(ref) != name}
        if listing.head is not None:
            changed[f"{HEADS}{listing.branch}"] = every[_INCOMING_HEAD]
            self._drop_branches_in_the_way(clone, listing.branch, _below(every, HEADS))
        self._change_refs(clone, [f"update {ref}\0{name}\0\0" for ref, name in changed.items()])
        if _content_of(clone / "HEAD") != os.fsencode(f"ref: {HEADS}{listing.branch}\n"):
            self.must(clone, "symbolic-ref", "HEAD", f"{HEADS}{listing.branch}")
        if len(changed) > _MANY_REFS:
            self.must(clone, "pack-refs", "--all")

    def _drop_tags(self, recipe: str, tags: Iterable[str]) -> None:
        """Take tags from the clone; what they named stays: a canonical may have been made from it."""
        if not (tags := list(tags)):
            return
        clone = self.clone(recipe)
        here = self.refs(clone, TAGS)
        named = {tag: here[f"{TAGS}{tag}"] for tag in tags if f"{TAGS}{tag}" in here}
        kept = [f"update {_DELETED}{flat_ref(tag)}\0{name}\0\0" for tag, name in named.items()]
        self._change_refs(clone, [*kept, *(f"delete {TAGS}{tag}\0\0" for tag in named)])

    def _drop_branches_in_the_way(self, clone: Path, branch: str, here: Iterable[str]) -> None:
        """The clone has one branch, upstream's default one; an earlier one of another name may be in its way."""
        others = [ref for ref in here if ref != f"{HEADS}{branch}"]
        in_the_way = [ref for ref in others if f"{HEADS}{branch}/".startswith(f"{ref}/") or ref.startswith(f"{HEADS}{branch}/")]
        self._change_refs(clone, [f"delete {ref}\0\0" for ref in in_the_way])

    def _change_refs(self, clone: Path, commands: Sequence[str]) -> None:
        """Change refs, all or none."""
        if not commands:
            return
        text = "".join(commands).encode(errors="surrogateescape")
        ended = self.git.local(clone, "update-ref", "--stdin", "-z", stdin=text)
        if ended.status != 0:
            raise local_problem(ended, f"`git update-ref` failed in {clone}", clone)

    def _note(self, recipe: str, known: Mapping[str, str]) -> None:
        # In ASCII: names of tags are bytes, and need not be text.
        write_durably(self._seen(recipe), (json.dumps(dict(known), indent=2) + "\n").encode())

    def _fetch(self, clone: Path, url: str, *arguments: str, which: str = "upstream", is_ours: bool = True) -> Any:
        """`is_ours`: whether it is the recipe's own history, which the clone is there for."""
        options = [argument for argument in arguments if argument.startswith("--")]
        refspecs = [argument for argument in arguments if not argument.startswith("--")]
        command = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *options, "--", url, *refspecs)
        try:
            ended = self.git.transfer(clone, url, *command)
        except TimedOut as error:
            raise timed_out(which, url, error) from error
        except HostProblem as error:
            if error.code != "too-much":
                raise
            if is_ours:
                _mark_damaged(clone)  # what it has brought would stay, and the next fetch would bring as much again
            raise sync_failed(which, url, "too-large", error.what) from error
        if ended.status != 0:
            for half in (clone / "objects" / "pack").glob("tmp_*"):  # as large as a fetch may be, and one more each night
                half.unlink(missing_ok=True)
            raise failed(which, url, ended, clone)
        return ended

    def fetch_ref(self, recipe: str, url: str, ref: str, *, which: str = "upstream") -> str:
        """See ports.Repos.fetch_ref. Kept below refs/canonq/, where no release is looked for."""
        clone = self.clone(recipe)
        wanted = self.find_ref(url, ref_name(ref), which=which)
        kept = f"refs/canonq/fetched/{flat_ref(wanted.removeprefix('refs/'))}"
        with self.alone(recipe):
            self._make_whole(recipe)
            self._fetch_others(clone, url, f"+{wanted}:{kept}", which=which)
            return self.must(clone, "rev-parse", "--verify", f"{kept}^{{commit}}")

    def keep_refs(self, recipe: str, url: str, refs: dict[str, str], *, which: str) -> None:
        """Fetch refs of a remote under other names: theirs -> ours, below refs/canonq/."""
        self._fetch(self.clone(recipe), url, *(f"+{theirs}:{ours}" for theirs, ours in refs.items()), which=which)

    def find_ref(self, url: str, ref: str, *, which: str = "upstream") -> str:
        """See ports.Repos.find_ref."""
        if COMMIT.fullmatch(ref):
            return ref
        names = [ref] if ref.startswith("refs/") else [f"{HEADS}{ref}", f"{TAGS}{ref}", f"refs/{ref}"]
        there = self._listed(which, url, *names)
        found = next((name for name in names if name in there), None)
        if found is None:
            others = [name.removeprefix(HEADS).removeprefix(TAGS) for name in self._listed(which, url)]
            raise WrongUse(
                ended(f"{masked(url)} has no ref {shown(ref)}{did_you_mean(ref, others)}"),
                mend="name a branch, a full commit, or a pull request's head such as pull/7/head.",
                code="no-such-ref",
            )
        return found

    def _listed(self, which: str, url: str, *patterns: str) -> set[str]:
        """Names of a remote's refs."""
        try:
            ended = self.git.listing(url, *patterns)
        except TimedOut as error:
            raise timed_out(which, url, error) from error
        if ended.status != 0:
            raise failed(which, url, ended)
        return {line.partition("\t")[2] for line in ended.output.split("\n")}

    def checkout(self, recipe: str, commit: str, folder: Path, tree: Tree | None = None) -> None:
        """See ports.Repos.checkout."""
        self.drop_checkout(recipe, folder)
        try:
            write_out(self.git, self._there(recipe), commit, folder, tree or Tree())
        except HostProblem as error:
            if error.code == "git-failed":  # its refs are there, so that no sync would see it by itself
                self._condemn(recipe)
                error.mend = f"nothing, if it was the clone: the next sync makes it again; `canonq sync {recipe}` is one."
            raise

    def drop_checkout(self, recipe: str, folder: Path) -> None:
        """See ports.Repos.drop_checkout."""
        del recipe  # nothing in its clone knows of the tree
        remove(folder)

    def landing(self, recipe: str, main: str, head: str) -> Landing:
        """See ports.Repos.landing."""
        return History(self.git, self.clone(recipe)).landing(main, head)

    def elsewhere(self, root: Path) -> GitRepos:
        """See ports.Repos.elsewhere."""
        return GitRepos(root, self.git)

    def copied(self, recipe: str, root: Path) -> GitRepos:
        """See ports.Repos.copied. Whoever is changing the clone is waited for."""
        folder = self._root / recipe
        with contextlib.suppress(FileNotFoundError), locked_to_read(folder / "lock"):
            copy_tree(folder, root / recipe)
        return self.elsewhere(root)

    def is_annotated(self, recipe: str, tag: str) -> bool:
        """Whether the tag is an object of its own, with an author and a message."""
        ended = self.git.local(self.clone(recipe), "cat-file", "-t", f"{TAGS}{tag}")
        return ended.status == 0 and ended.output.strip() == "tag"

    def show(self, recipe: str, commit: str, path: str) -> str | None:
        """One file of a commit, or None when it has none there.

        RecipeProblem when it is too large to be configuration; HostProblem when the clone or the commit cannot be read.
        """
        asked = f"{commit}^{{commit}}\n{commit}:{path}\n".encode()
        clone = self._there(recipe)
        sizes = self.git.local(clone, "cat-file", "--batch-check=%(objectsize)", stdin=asked).output.split("\n")
        if any(int(size) > _LARGEST_SHOWN for size in sizes if size.isdecimal()):
            raise RecipeProblem(
                f"The recipe's file {shown(path)} has more than {_LARGEST_SHOWN} bytes.",
                mend="a recipe is configuration: keep data out of it.",
                code="file-too-large",
            )
        ended = self.git.local(clone, "cat-file", "--batch", stdin=asked)
        head, _, rest = ended.raw.partition(b"\n")
        if ended.status != 0 or not head.split()[1:2] == [b"commit"]:
            raise HostProblem(f"{clone} has no commit {commit[:12]}: {ended.errors.strip() or 'missing'}.", code="git-failed")
        said, _, content = rest[int(head.split()[2]) + 1 :].partition(b"\n")
        if said.split()[1:2] != [b"blob"]:
            return None
        return content[: int(said.split()[2])].decode(errors="replace")

    def clone(self, recipe: str) -> Path:
        """Where the recipe's bare clone is, or will be."""
        return self._root / recipe / "repo.git"

    def _there(self, recipe: str) -> Path:
        """The recipe's clone. HostProblem where there is none."""
        clone = self.clone(recipe)
        if not is_there(clone):
            raise HostProblem(
                f"The clone of {recipe} is missing: {clone}.", mend=f"run `canonq sync {recipe}`.", code="clone-missing"
            )
        return clone

    def _seen(self, recipe: str) -> Path:
        return self._root / recipe / "seen.json"

    def _make_whole(self, recipe: str) -> None:
        """Have a clone that git accepts; the caller holds the recipe's clone."""
        clone = self.clone(recipe)
        if not clone.is_dir():
            for killed in clone.parent.glob(f"{_BROKEN}*/{clone.name}"):  # while it was made anew: that begins again
                killed.rename(clone)
                break
        if clone.is_dir():
            _drop_leftovers(clone)
            if (
                not (clone / _CONDEMNED).exists()
                and self.git.local(clone, "rev-parse", "--is-bare-repository").output.strip() == "true"
            ):
                return
            self._discard(recipe)
            return
        self._make_new(clone)

    def _condemn(self, recipe: str) -> None:
        """Note that objects of the clone cannot be read: the next sync takes nothing of it for there."""
        with self.alone(recipe):
            _mark_damaged(self.clone(recipe))

    def _make_new(self, clone: Path) -> None:
        self._new(clone).rename(clone)

    def _new(self, clone: Path) -> Path:
        """An empty clone, beside the place that it is for."""
        with told(clone):
            half = Path(tempfile.mkdtemp(prefix=".new-", dir=clone.parent))
        try:
            self.must(None, "init", "--quiet", "--bare", "--template=", "--", str(half))
        except HostProblem:
            remove_tree(half)
            raise
        return half

    def _discard(self, recipe: str) -> None:
        """Make a clone that is no good again. What nobody else has, deleted and replaced refs, is brought over if it can be.

        The old one stays in its place until the new one has all that it gets: a disk that is full takes nothing away.
        """
        clone = self.clone(recipe)
        new = self._new(clone)
        try:
            saved = self._salvage(clone, new)
        except HostProblem:
            remove_tree(new)
            raise
        with told(clone):
            aside = Path(tempfile.mkdtemp(prefix=_BROKEN if saved else _BROKEN.removeprefix("."), dir=clone.parent))
        clone.rename(aside / clone.name)
        new.rename(clone)
        if saved:
            for left in [*clone.parent.glob(f"{_BROKEN}*"), *clone.parent.glob(".new-*")]:
                remove_tree(left)
            return
        log.warning(
            "The clone of %s was damaged and is made again. It may hold the only copy of tags that were deleted upstream, "
            "or replaced in the mirror, and they could not be read: it is kept in %s. Remove it when nobody misses them.",
            recipe, aside,
        )  # fmt: skip

    def _salvage(self, old: Path, clone: Path) -> bool:
        """Bring over the refs that only a damaged clone has; whether none of them is lost."""
        packed = old / "packed-refs"
        named = packed.read_bytes() if packed.is_file() else b""
        there = [p for p in _ONLY_HERE if p.encode() in named or any(path.is_file() for path in (old / p).glob("**/*"))]
        if not there:
            return True
        with told(old):
            (old / "HEAD").write_text("ref: refs/heads/main\n")  # it may be what was damaged, and git refuses a folder without
        refspecs = [f"+{prefix}*:{prefix}*" for prefix in there]
        ended = self.git.local(clone, "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", str(old), *refspecs)
        if ended.status != 0 and (problem := local_problem(ended, f"{clone} cannot be made", clone)).code == "disk-full":
            raise problem
        return ended.status == 0

    def refs(self, clone: Path, *prefixes: str) -> dict[str, str]:
        """All refs of a clone below these prefixes, as a remote would list them, not peeled."""
        # The kind is asked for so that git looks whether the objects are there.
        lines = self._lines(clone, "for-each-ref", "--format=%(objectname) %(objecttype) %(refname)", *prefixes)
        return {ref: name for name, _, ref in (line.split(" ", 2) for line in lines)}

    @contextlib.contextmanager
    def alone(self, recipe: str) -> Iterator[None]:
        """Hold the recipe's clone; whoever else wants to change it waits."""
        with locked(self._root / recipe / "lock"):
            yield

    def must(self, clone: Path | None, *arguments: str) -> str:
        """What a command on a clone says. HostProblem when it fails."""
        ended = self.git.local(clone, *arguments)
        if ended.status != 0:
            raise local_problem(ended, f"`git {arguments[0]}` failed in {clone or self._root}", clone or self._root)
        return ended.output.removesuffix("\n")

    def _lines(self, clone: Path, *arguments: str) -> list[str]:
        """The same as lines: at nothing else than a newline does a name end."""
        said = self.must(clone, *arguments)
        return said.split("\n") if said else []


def _mark_damaged(clone: Path) -> None:
    with contextlib.suppress(OSError):
        (clone / _CONDEMNED).touch()
        (clone / _REMEMBERED).unlink(missing_ok=True)  # else an idle night would pass it over


def _content_of(file: Path) -> bytes | None:
    with contextlib.suppress(OSError):
        return file.read_bytes()
    return None


def _below(refs: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {ref: name for ref, name in refs.items() if ref.startswith(prefix)}


def _commits(peeled: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    return {tag: name for tag, (kind, name) in peeled.items() if kind == "commit"}


def _read_listing(lines: Collection[str], where: str, elsewhere: str | None) -> Listing:
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
        moved_to=elsewhere,
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

    So are the notes of worktrees, which an older canonq made.
    """
    remove_tree(clone / "worktrees")
    for pattern in ("*.lock", "refs/**/*.lock", "objects/**/*.lock"):
        for path in clone.glob(pattern):
            path.unlink(missing_ok=True)
    for path in [*clone.glob("objects/pack/tmp_*"), *clone.glob("objects/tmp_*"), *clone.glob("objects/incoming-*")]:
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
