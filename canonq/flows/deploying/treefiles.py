"""What canonq and Docker read of a version's tree: each file is opened so that it cannot lie outside, and within limits.

Docker is given copies that canonq has read and written itself: it opens nothing of a tree.
"""

from __future__ import annotations

import copy
import hashlib
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from canonq.adapters.beneath import read_beneath
from canonq.core.deployable import Deployable
from canonq.core.errors import RecipeProblem
from canonq.core.recipe.assembly import ReadFile
from canonq.core.stack.resolved import Stack
from canonq.core.text import did_you_mean, ended, shown
from canonq.flows.deploying.deadline import left

MOST_OF_TEXT = 256 << 10  #: bytes of a file that canonq reads itself
MOST_OF_ONE = 1 << 20  #: bytes of a file that Docker is given
#: Bytes that Swarm takes as one config or secret, each less than this many.
_MOST_OF = {"configs": 1000 << 10, "secrets": 500 << 10}
MOST_OF_ALL = 64 << 20
_FORMS = ("configs", "secrets")


def text_in(tree: Path, name: str) -> str | None:
    """The text of a file of the tree; None when there is none. RecipeProblem for one that is no text."""
    content = read_beneath(tree, name, MOST_OF_TEXT)
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as error:
        raise RecipeProblem(f"{shown(name)} is not text: {error}.", mend="write it as UTF-8.", code="not-text") from error


def reads(tree: Path, deadline: float) -> ReadFile:
    """Reads files of a tree, as long as there is time."""

    def read(name: str) -> str | None:
        left(deadline)
        return text_in(tree, name)

    return read


class Files:
    """Files of a tree that a stack names, each read once, all of them within a limit."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._read: dict[str, bytes | None] = {}

    def content(self, name: str) -> bytes | None:
        """The bytes of one; None when there is none."""
        if name not in self._read:
            self._read[name] = read_beneath(self._tree, name, MOST_OF_ONE)
            if sum(len(content or b"") for content in self._read.values()) > MOST_OF_ALL:
                raise RecipeProblem(
                    f"The files that become configs and secrets have more than {MOST_OF_ALL >> 20} MiB.",
                    mend="a recipe is configuration: keep data out of it.",
                    code="file-too-large",
                )
        return self._read[name]


def hashes(tree: Path, stack: Stack) -> dict[str, str]:
    """Path in the recipe -> SHA-256 of each file that becomes a config or secret of the stack."""
    files = Files(tree)
    named = {one.file for one in (*stack.configs.values(), *stack.secrets.values()) if one.file is not None}
    found = {name: files.content(name) for name in sorted(named) if not _leads_out(name)}  # whoever fits it out says so
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items() if content is not None}


def _leads_out(name: str) -> bool:
    return name.startswith("/") or posixpath.normpath(name).split("/")[0] == ".."


def check_files(stack: Deployable, tree: Path) -> None:
    """RecipeProblem for a file that the stack is made of and the release does not have."""
    files = Files(tree)
    for where, body, key in _named(stack.file):
        size = len(_content(files, tree, where, body[key]))
        most = _MOST_OF.get(where.partition(".")[0], MOST_OF_ONE + 1)
        if not 0 < size < most and where.startswith(_FORMS):
            name = posixpath.relpath(body[key].replace("$$", "$"), str(tree))
            said = f"has {size} bytes, and Swarm takes fewer than {most}" if size else "is empty, and Swarm takes nothing empty"
            raise RecipeProblem(
                f"{where} is made from the file {shown(name)}, which {said}.",
                mend="keep data out of it." if size else "give it a content, if only a newline, or take it out.",
                code="file-too-large" if size else "file-empty",
            )


def filled_in_by_swarm(stack: Deployable, tree: Path) -> Iterator[tuple[str, str]]:
    """(place, text) of the files of the tree in which Swarm fills something in: as they lie there."""
    files = Files(tree)
    for where, body, key in _named(stack.file):
        if isinstance(key, int) or body.get("template_driver"):
            yield where, _content(files, tree, where, body[key]).decode(errors="surrogateescape")


def own_copies(stack: Deployable, tree: Path, folder: Path) -> Deployable:
    """The stack made of copies in `folder`, which is canonq's own."""
    files, made = Files(tree), copy.deepcopy(stack.file)
    folder.mkdir(mode=0o700, exist_ok=True)
    written: dict[str, Path] = {}
    for where, body, key in _named(made):
        if (path := body[key]) not in written:
            content = _content(files, tree, where, path)
            written[path] = folder / hashlib.sha256(path.encode(errors="surrogateescape")).hexdigest()[:16]
            written[path].write_bytes(content)
        body[key] = str(written[path]).replace("$", "$$")
    return replace(stack, file=made)


def _named(file: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Where a deployable file names files of the tree: the place in words, and the one in it."""
    for section in _FORMS:
        for key, body in file.get(section, {}).items():
            if "file" in body:
                yield f"{section}.{key}", body, "file"
    for service, body in file["services"].items():
        for place in range(len(listed := body.get("env_file") or [])):
            yield f"services.{service}.env_file", listed, place


def _content(files: Files, tree: Path, where: str, path: str) -> bytes:
    name = posixpath.relpath(path.replace("$$", "$"), str(tree))
    content = files.content(name)
    if content is None:
        there = [str(other.relative_to(tree)) for other in tree.rglob("*") if other.is_file() and ".git" not in other.parts]
        raise RecipeProblem(
            ended(f"{where} is made from {_what_is_not_there(tree, name)}{did_you_mean(name, there)}"),
            mend="add the file to the recipe, or correct its name.",
            code="file-missing",
        )
    return content


def _what_is_not_there(tree: Path, name: str) -> str:
    """For people: the file that something is to be made from, and why it is none of this version's."""
    modules = read_beneath(tree, ".gitmodules", MOST_OF_TEXT) or b""
    paths = [line.partition("=")[2].strip() for line in modules.decode(errors="replace").splitlines() if "path" in line]
    below = next((path for path in paths if path and name.startswith(f"{path}/")), "")
    if (tree / name).is_dir():
        return f"{shown(name)}, which is a folder"
    if below:
        return f"the file {shown(name)}, which lies in the submodule {shown(below)}: a release is what its own repository has"
    return f"the file {shown(name)}, which this version does not have"
