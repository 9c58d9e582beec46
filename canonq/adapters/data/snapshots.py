"""Snapshots of a canonical's volumes, with a manifest of all that is kept beside them (docs/rules.md 4).

Where the file system shares blocks, a snapshot is a tree of copies that cost nothing and take no time, whatever
their size. Where it does not, it is one compressed archive. Which one, the record says.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from canonq.adapters.data.archives import archive, archive_problem, copy_tree, sync_tree, unpack_archive
from canonq.adapters.files import not_readable, told, walk, write_durably
from canonq.core.errors import CanonqError, HostProblem
from canonq.core.jsontext import table_of
from canonq.core.records import Snapshot

ARCHIVE = "volumes.tar.zst"
TREE = "volumes"
MANIFEST = "manifest.jsonl"
_FICLONE = 0x40049409  #: of linux/fs.h


def take(volumes: Mapping[str, Path], folder: Path, progress: Callable[[int], None] = lambda _: None) -> Snapshot:
    """Keep volumes (key -> folder) in a generation's folder, durably. The app must be stopped. See `seal`."""
    if volumes and all(shares_blocks(path, folder) for path in volumes.values()):
        return take_tree(volumes, folder)
    return archive(volumes, folder / ARCHIVE, progress)


def take_tree(volumes: Mapping[str, Path], folder: Path) -> Snapshot:
    """Keep volumes as copies that share their blocks with them."""
    root = folder / TREE
    for key, path in volumes.items():
        with told(root):
            (root / key).mkdir(parents=True)
        copy_tree(path, root / key)
    sync_tree(root)
    size = _bytes(root)
    return Snapshot(path=str(root), kind="tree", bytes=size, content_bytes=size, checksum=_checksum(_listed(root)))


def shares_blocks(source: Path, target: Path) -> bool:
    """Whether a copy from one folder to the other can share its blocks: same file system, and one that can."""
    if source.stat().st_dev != target.stat().st_dev:
        return False
    with tempfile.TemporaryFile(dir=target) as one, tempfile.TemporaryFile(dir=target) as two:
        one.write(b"x" * 4096)
        one.flush()
        try:
            fcntl.ioctl(two, _FICLONE, one.fileno())
        except OSError:
            return False
    return True


def seal(kept: Snapshot, folder: Path) -> Snapshot:
    """Write the manifest of a generation's folder, for its owner's eyes only; the snapshot with the manifest's checksum.

    One JSON object on each line. A file beside the volumes has its size and sha256. An entry of a tree has its kind,
    mode, owner, size, time and link target instead: reading its content would cost what sharing blocks has saved.
    """
    summed = hashlib.sha256()
    beside = [path for path in sorted(folder.iterdir()) if path.is_file() and path != Path(kept.path)]

    def lines() -> Iterator[bytes]:
        files = ({"path": path.name, "size": path.stat().st_size, "sha256": _sha256(path)} for path in beside)
        for line in itertools.chain(files, _listed(Path(kept.path)) if kept.kind == "tree" else ()):
            text = f"{json.dumps(line)}\n".encode()
            summed.update(text)
            yield text

    write_durably(folder / MANIFEST, lines(), mode=0o600)
    return kept.model_copy(update={"manifest": f"sha256:{summed.hexdigest()}"})


def problem_of(kept: Snapshot) -> str | None:
    """Why a snapshot is not whole, or None: all that the manifest lists is there and as it was.

    NotReadable where this user may not look: that says nothing about the snapshot.
    """
    path = Path(kept.path)
    manifest = path.parent / MANIFEST
    try:
        found = archive_problem(kept) if kept.kind == "archive" else _tree_problem(kept)
        if found or kept.manifest is None:
            return found
        if f"sha256:{_sha256(manifest)}" != kept.manifest:
            return f"{manifest} does not have its checksum any more"
        with manifest.open("rb") as file:
            for line in map(table_of, file):
                beside = path.parent / str(line["path"])
                if "sha256" in line and _sha256(beside) != line["sha256"]:
                    return f"{beside} does not have its checksum any more"
    except PermissionError as error:
        raise not_readable(Path(os.fsdecode(error.filename or path))) from error
    except OSError as error:
        return f"{os.fsdecode(error.filename or path)} cannot be read: {error.strerror}"
    except (ValueError, KeyError) as error:
        return f"{manifest} has a line that cannot be read: {error}"
    return None


def unpack(kept: Snapshot, volumes: Mapping[str, Path]) -> None:
    """Put a snapshot's data into folders (key -> folder), each made to hold exactly that.

    CanonqError (`snapshot-damaged`), and no folder touched, when it is not whole.
    """
    if problem := problem_of(kept):
        raise CanonqError(
            f"The snapshot cannot be used: {problem}.",
            mend="choose another kept canonical; `canonq verify` looks at all of them.",
            code="snapshot-damaged",
        )
    if kept.kind == "archive":
        unpack_archive(kept, volumes)
        return
    for key, folder in volumes.items():
        source = Path(kept.path) / key
        copy_tree(source, folder)
        both = itertools.zip_longest(_listed(folder, source), _listed(source, source))
        if any(came != kept_there for came, kept_there in both):
            raise HostProblem(
                f"What came out of the snapshot is not what is in it: the volume '{key}' differs.",
                mend="look at the disk that Docker's volumes are on, and at its room; the snapshot itself is whole.",
                code="unpack-failed",
            )


def _tree_problem(kept: Snapshot) -> str | None:
    root = Path(kept.path)
    if not root.is_dir():
        return f"{root} is not there"
    if _checksum(_listed(root)) == kept.checksum:
        return None
    try:
        with (root.parent / MANIFEST).open("rb") as file:
            then = {str(line["path"]): line for line in map(table_of, file)}
    except (OSError, ValueError, KeyError):
        return f"{root} is not as it was kept"
    found = {line["path"]: line for line in _listed(root)}
    gone = [path for path in then if path.startswith(f"{TREE}/") and path not in found]
    other = [path for path, line in found.items() if then.get(path) != line]
    return (
        f"{root} is not as it was kept: {', '.join([*(f'{p} is gone' for p in gone), *(f'{p} was changed' for p in other)][:3])}"
    )


def _listed(root: Path, named: Path | None = None) -> Iterator[dict[str, Any]]:
    """Every entry below a folder, in a fixed order, by the names that it has in its generation's folder.

    One at a time: there may be millions.
    """
    above, whole = os.fsencode(root), os.fsencode((named or root).name)
    return (
        {
            "path": os.fsdecode(os.path.join(whole, os.path.relpath(path, above))),
            "kind": stat.filemode(found.st_mode)[0],
            "mode": oct(stat.S_IMODE(found.st_mode)),
            "owner": f"{found.st_uid}:{found.st_gid}",
            "size": found.st_size if stat.S_ISREG(found.st_mode) else 0,
            "mtime_ns": found.st_mtime_ns,
            "links": found.st_nlink if stat.S_ISREG(found.st_mode) else 1,
            "target": os.fsdecode(os.readlink(path)) if stat.S_ISLNK(found.st_mode) else None,
            "xattrs": _xattrs(path),
        }
        for path, found in _entries(os.fsencode(root))
    )


def _xattrs(path: bytes) -> dict[str, str]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names)}
    except OSError:  # the file system has none
        return {}


def _entries(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    for place, folders, files in walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = os.path.join(place, name)
            yield path, os.lstat(path)


def _checksum(lines: Iterator[dict[str, Any]]) -> str:
    """Of all lines as one JSON list, though it is never in memory as a whole."""
    summed = hashlib.sha256(b"[")
    for number, line in enumerate(lines):
        summed.update((", " if number else "").encode() + json.dumps(line).encode())
    summed.update(b"]")
    return f"sha256:{summed.hexdigest()}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(root: Path) -> int:
    return sum(found.st_size for _, found in _entries(os.fsencode(root)) if stat.S_ISREG(found.st_mode))
