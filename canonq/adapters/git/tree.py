"""A commit's tree, read from git's objects and written out byte for byte as git stored it.

Git's own checkout converts what it writes, by the recipe's attributes and the host's settings, and its `status` compares
with the same eyes. So nothing of it is used: every file is written from its blob and proven by the blob's name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from canonq.adapters.files import remove_tree, told
from canonq.adapters.git.program import GitProgram
from canonq.core.enrolment import Tree
from canonq.core.errors import HostProblem, RecipeProblem
from canonq.core.names import shown
from canonq.core.recipe.links import stays_inside

_EXECUTABLE, _LINK, _SUBMODULE = "100755", "120000", "160000"
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024  #: bytes, by the LFS specification
_MOST_FILES = 50_000
_MOST_LISTED = 32 << 20  #: bytes of git's list of them
_MOST_BYTES = 512 << 20  #: of all files of a tree
_DEEPEST = 64  #: folders in one another
_LONGEST_TARGET = 4096  #: bytes of a link's target; the kernel takes no more
_AT_ONCE = 32 << 20  #: bytes of blobs that are read by one git
#: What the kernel says when the fault lies in the names of a tree, not in the disk.
_OF_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP)


@dataclass(frozen=True)
class Entry:
    """One entry of a tree that is no folder."""

    path: str  #: bytes that are not UTF-8 as Python's surrogate escapes, which its file functions turn back
    mode: str
    name: str  #: of the object: a blob, or the commit of a submodule
    size: int  #: bytes; 0 for a submodule


def write_out(git: GitProgram, clone: Path, commit: str, folder: Path, allowed: Tree) -> None:
    """Write the tree of `commit` to `folder`, which must not be there, and prove that it is there whole.

    RecipeProblem for what could leave the folder or is too large, and for what `allowed` does not allow: before anything
    is written. HostProblem when the clone or the disk is at fault.
    """
    entries = _entries(git, clone, commit)
    _refuse_shapes(entries, allowed)
    links = {
        entry.path: os.fsdecode(content)
        for entry, content in _contents(git, clone, [entry for entry in entries if entry.mode == _LINK])
    }
    for path, target in links.items():
        if not stays_inside(path, links):
            raise _trap(path, f"is a link to {shown(target)}, outside the recipe")
    if allowed.lfs == "refuse":
        _refuse_pointers(git, clone, entries)
    with told(folder):
        folder.mkdir(parents=True)
    for entry in entries:
        if entry.mode == _SUBMODULE:
            _made(folder, entry.path, partial(Path.mkdir, parents=True))
    for entry, content in _contents(git, clone, [entry for entry in entries if entry.mode not in (_LINK, _SUBMODULE)]):
        _made(folder, entry.path, partial(_write, entry.mode, content))
    # Last, so that no file is ever written through one.
    for path, target in links.items():
        _made(folder, path, partial(_link, target))
    _prove(folder, entries)


def _entries(git: GitProgram, clone: Path, commit: str) -> list[Entry]:
    try:
        ended = git.local(clone, "ls-tree", "-r", "-z", "-l", "--full-tree", commit, most=_MOST_LISTED)
    except HostProblem as error:
        if error.code != "too-much":
            raise
        # A folder may be in another one ten times, which may be in another one ten times: no clone is too small for that.
        raise _too_large(f"more names than fit into {_MOST_LISTED >> 20} MiB; {_MOST_FILES} files are the most") from error
    if ended.status == -signal.SIGSEGV:
        raise _too_large(f"folders so deep in one another that git itself breaks off; {_DEEPEST} are the most")
    if ended.status != 0:
        raise HostProblem(f"The tree of {commit[:12]} in {clone} cannot be read: {ended.errors.strip()}.", code="git-failed")
    found = []
    for line in ended.output.split("\0"):
        meta, tab, path = line.partition("\t")
        if tab:
            mode, _, name, size = meta.split()
            found.append(Entry(path, mode, name, int(size) if size.isdigit() else 0))
    return found


def _refuse_shapes(entries: Sequence[Entry], allowed: Tree) -> None:
    """RecipeProblem for names and kinds of entries that are traps, and for a tree beyond the limits."""
    for entry in entries:
        parts = entry.path.split("/")
        if any(part.lower().rstrip(". ") in ("", ".git", "git~1") for part in parts):
            raise _trap(entry.path, "would be written outside the recipe, or into git's own files")
        if len(parts) > _DEEPEST:
            raise _trap(entry.path, f"lies {len(parts) - 1} folders deep; {_DEEPEST} are the most")
        if entry.mode == _SUBMODULE and allowed.submodules == "refuse":
            raise _trap(
                entry.path, "is a submodule, which canonq does not fetch", 'or leave it empty: [tree] submodules = "empty"'
            )
        if entry.mode == _LINK and entry.size > _LONGEST_TARGET:
            raise _trap(entry.path, f"is a link of {entry.size} bytes")
    if len(entries) > _MOST_FILES:
        raise _too_large(f"{len(entries)} files; {_MOST_FILES} are the most")
    if (total := sum(entry.size for entry in entries)) > _MOST_BYTES:
        raise _too_large(f"{total >> 20} MiB of files; {_MOST_BYTES >> 20} MiB are the most")


def _refuse_pointers(git: GitProgram, clone: Path, entries: Sequence[Entry]) -> None:
    """RecipeProblem for a file whose content is kept elsewhere, in Git LFS."""
    if not any(entry.path.rpartition("/")[2] == ".gitattributes" for entry in entries):
        return  # nothing says that such a text would be a pointer
    small = [entry for entry in entries if entry.size <= _LONGEST_POINTER and entry.mode not in (_LINK, _SUBMODULE)]
    for entry, content in _contents(git, clone, small):
        if content.startswith(_POINTER):
            raise _trap(
                entry.path, "is kept in Git LFS, which canonq does not fetch", 'or take the pointer: [tree] lfs = "pointers"'
            )


def _contents(git: GitProgram, clone: Path, entries: Sequence[Entry]) -> Iterator[tuple[Entry, bytes]]:
    """Each entry with the bytes of its blob, by few programs and not too much of it in memory at once."""
    for batch in _batches(entries):
        asked = "".join(f"{entry.name}\n" for entry in batch).encode()
        ended = git.local(clone, "cat-file", "--batch", stdin=asked)
        if ended.status != 0:
            raise HostProblem(f"Files of {clone} cannot be read: {ended.errors.strip()}.", code="git-failed")
        at = 0
        for entry in batch:
            end = ended.raw.find(b"\n", at)
            said = ended.raw[at:end].split()
            if len(said) != 3 or said[1] != b"blob":
                raise HostProblem(
                    f"{clone} lacks the object {entry.name} of {shown(entry.path)}: missing blob.", code="git-failed"
                )
            start, size = end + 1, int(said[2])
            yield entry, ended.raw[start : start + size]
            at = start + size + 1


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    taken = 0
    for entry in entries:
        if batch and taken + entry.size > _AT_ONCE:
            yield batch
            batch, taken = [], 0
        batch.append(entry)
        taken += entry.size
    if batch:
        yield batch


def _made(folder: Path, path: str, make: Callable[[Path], object]) -> None:
    """Make one entry. RecipeProblem where its name is at fault, HostProblem where the disk is."""
    place = folder / path
    with told(place):
        try:
            make(place)
        except OSError as error:
            if error.errno not in _OF_NAMES:
                raise
            raise _trap(path, f"cannot be written beside the others of the tree: {error.strerror}") from error


def _write(mode: str, content: bytes, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o755 if mode == _EXECUTABLE else 0o644)


def _link(target: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, place)


def _prove(folder: Path, entries: Sequence[Entry]) -> None:
    """HostProblem unless the folder holds exactly the entries, each with the bytes that its object's name stands for."""
    there = dict(_found(folder))
    wanted = {entry.path: (entry.mode, entry.name) for entry in entries if entry.mode != _SUBMODULE}
    wrong = sorted(path for path in {**there, **wanted} if there.get(path) != _as_written(wanted.get(path)))
    if wrong:
        raise HostProblem(
            f"The tree written to {folder} is not the commit's: {', '.join(map(shown, wrong[:5]))} differ(s).",
            mend="look at the disk, and at what else writes there; then run it again.",
            code="tree-differs",
        )


def _as_written(entry: tuple[str, str] | None) -> tuple[str, str] | None:
    """The mode that an entry is written with: git knows older ones, which mean a plain file."""
    return None if entry is None else (entry[0] if entry[0] in (_EXECUTABLE, _LINK) else "100644", entry[1])


def _found(folder: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    for at, folders, files in os.walk(folder):
        for path in (Path(at, name) for name in (*folders, *files)):
            if path.is_symlink():
                yield str(path.relative_to(folder)), (_LINK, _blob_name(os.fsencode(os.readlink(path))))
            elif path.is_file():
                mode = _EXECUTABLE if path.stat().st_mode & 0o100 else "100644"
                yield str(path.relative_to(folder)), (mode, _blob_name(path.read_bytes()))


def _blob_name(content: bytes) -> str:
    # Git names objects by it; nothing is kept secret or signed.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def remove(folder: Path) -> None:
    """Remove a tree that was written out; not an error when it is gone."""
    remove_tree(folder)
    if folder.exists():
        raise HostProblem(f"{folder} cannot be removed.", mend="look at its rights and the disk.", code="state-not-writable")


def _trap(path: str, why: str, instead: str = "") -> RecipeProblem:
    return RecipeProblem(
        f"The recipe's file {shown(path)} {why}.",
        mend=f"remove it from the release{', ' + instead if instead else ''}.",
        code="unsafe-tree",
    )


def _too_large(what: str) -> RecipeProblem:
    return RecipeProblem(
        f"The recipe's tree has {what}.", mend="a recipe is configuration: keep data out of it.", code="unsafe-tree"
    )
