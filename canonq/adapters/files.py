"""Durable files: absent or complete, also after a power loss."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, AnyStr

from canonq.core.errors import CanonqError, HostProblem, NotReadable
from canonq.core.jsontext import table_of

log = logging.getLogger("canonq")

#: How the names of folders begin that are being made.
NEW = ".new-"
#: Folders of the state in which files are written this way; what runs leave is the janitor's by other signs.
_WRITTEN_TO = ("sweeps", "calls", "images", "repos", "warm", "locks", "report")
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  #: as mkstemp names them, below
_STILL_WRITTEN = 6 * 3600.0  #: seconds
_LARGEST_WRITTEN = 4 << 20  #: bytes of a file that people write
_LONGEST_REMOVAL = 600  #: seconds
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NEXT_TO_NOTHING = 128 << 10  #: bytes; with less than that on a disk, what could not be written had no room


def write_durably(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace `path` in one step, with `data` or its pieces: temporary file, fsync, rename, fsync of the folder.

    HostProblem when the file system refuses (full, read-only, not writable); the old file is then still whole.
    """
    with told(path):
        _replace(path, [data] if isinstance(data, bytes) else data, mode, durably=True)
        sync_folder(path.parent)


def write_whole(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file that can be made again, in one step: whoever reads it sees the old one or the new one whole."""
    with told(path):
        _replace(path, [text.encode(errors="backslashreplace")], mode, durably=False)


def _replace(path: Path, pieces: Iterable[bytes], mode: int, *, durably: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.writelines(pieces)
            file.flush()
            if durably:
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write `value` as indented JSON, durably."""
    write_durably(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode(), mode=mode)


def plain_bytes(path: Path) -> bytes:
    """What is in a file that people write. OSError for what is no plain file, and may never end, and for more than 4 MiB."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        content = file.read(_LARGEST_WRITTEN + 1)
    if len(content) > _LARGEST_WRITTEN:
        raise OSError(errno.EFBIG, f"it has more than {_LARGEST_WRITTEN >> 20} MiB", str(path))
    return content


def table_in(path: Path) -> dict[str, Any]:
    """The JSON object in a file, as far as it can be read; empty where there is none."""
    try:
        return table_of(path.read_text())
    except (OSError, ValueError):
        return {}


def half_written(state: Path) -> list[Path]:
    """What killed writes have left in a state folder: temporary files, and clones and readings that were not yet whole.

    Nothing takes so long to write as it must have lain there. A time of the future is one, too: the clock was ahead.
    """
    found = []
    for name in _WRITTEN_TO:
        for folder, folders, files in walk(os.fspath(state / name)):
            folders[:] = [each for each in folders if not each.endswith(".git") and each not in ("volumes", "artifact")]
            half = [each for each in folders if each.startswith(NEW)]
            folders[:] = [each for each in folders if each not in half]
            found += [Path(folder, each) for each in (*half, *filter(_TEMPORARY.fullmatch, files))]
    return sorted(path for path in found if _is_left(path))


def _is_left(path: Path) -> bool:
    try:
        return abs(time.time() - path.lstat().st_mtime) > _STILL_WRITTEN
    except OSError:  # it is whole by now, and has its name
        return False


def remove_tree(folder: Path) -> None:
    """Remove a folder with all below it, as far as it can be; also where somebody has put a thousand folders into each other."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        from canonq.adapters.processes.programs import plain_environment, run  # with much that hardly ever is needed

        with contextlib.suppress(CanonqError):
            run(["rm", "-rf", "--", str(folder)], timeout=_LONGEST_REMOVAL, env=plain_environment())


def walk(root: AnyStr) -> Iterator[tuple[AnyStr, list[AnyStr], list[AnyStr]]]:
    """What os.walk gives, top down, without a call inside a call for each level: how deep a volume is, its app decides."""
    waiting = [root]
    while waiting:
        place = waiting.pop()
        folders: list[AnyStr] = []
        names: list[AnyStr] = []
        linked: set[AnyStr] = set()
        try:
            with os.scandir(place) as found:
                for entry in found:
                    is_folder = _is_folder(entry)
                    (folders if is_folder else names).append(entry.name)
                    if is_folder and entry.is_symlink():
                        linked.add(entry.name)
        except OSError:  # it is gone by now, or nobody may look
            continue
        yield place, folders, names
        waiting += [os.path.join(place, name) for name in reversed(folders) if name not in linked]


def _is_folder(entry: os.DirEntry[AnyStr]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def entries(folder: Path) -> list[Path]:
    """What is in a folder, in order; nothing where there is none. NotReadable where this user may not look: it is not empty by
    that, as a glob would have it."""
    try:
        with os.scandir(folder) as found:
            return sorted(Path(entry.path) for entry in found)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except PermissionError as error:
        raise not_readable(folder) from error


def copy_tree(source: Path, target: Path) -> None:
    """Copy a folder with all that is in it. HostProblem where the file system refuses; NotReadable for what may not be read."""
    with told(target):
        try:
            shutil.copytree(source, target, symlinks=True)
        except shutil.Error as error:  # it goes on after each failure, and keeps nothing of them but their texts
            said = [str(why) for *_, why in error.args[0]]
            for path, _, why in error.args[0]:
                if os.strerror(errno.EACCES) in str(why) and str(path) in str(why):
                    raise not_readable(Path(path)) from error
            number = next((one for one in (*_FULL, errno.EROFS) if any(os.strerror(one) in why for why in said)), errno.EIO)
            raise OSError(number, os.strerror(number)) from error


def is_there(path: Path) -> bool:
    """Whether a file or folder is there. NotReadable where this user may not look."""
    try:
        return path.exists()
    except PermissionError as error:
        raise not_readable(path) from error


def not_readable(path: Path) -> NotReadable:
    """What to raise where the system refuses to let this user read."""
    return NotReadable(
        f"{path} cannot be read by this user (uid {os.geteuid()}).",
        mend="let it read there, or look as the user that runs canonq.",
    )


def of_host(error: BaseException) -> HostProblem | None:
    """What the host has refused, where nobody has expected that it would; None for what is no such refusal."""
    if not isinstance(error, OSError):
        return None
    where = error.filename or "a file"
    if error.errno in _FULL:
        return _no_room(where, error)
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return HostProblem(
                f"{where} may not be used by this user (uid {os.geteuid()}): {error.strerror}.",
                mend="give it the right, or run this as the user that runs canonq.",
                code="state-not-readable",
            )
        case errno.EROFS:
            return read_only(Path(os.fsdecode(where)))
        case errno.EIO:
            mend = "look at the disk: it may be failing, `dmesg` tells."
            return HostProblem(f"{where} cannot be used: {error.strerror}.", mend=mend, code="state-not-writable")
    return None


def is_read_only(folder: Path) -> bool:
    """Whether a folder is on a file system that nobody can write to; one that cannot be looked at is not."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def is_full(path: Path) -> bool:
    """Whether hardly anything can be written where a path is, or its nearest folder; False where that cannot be seen."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            found = os.statvfs(folder)
            return found.f_bavail * found.f_frsize < _NEXT_TO_NOTHING or (found.f_files > 0 and found.f_favail == 0)
    return False


def read_only(path: Path) -> HostProblem:
    """What to raise where nobody can write, whatever rights they have."""
    return HostProblem(
        f"{path} cannot be written: its file system is read-only.",
        mend="`dmesg` says why, mostly a disk that fails: check it, then `mount -o remount,rw` it, and restart Docker where "
        "its folders are on it.",
        code="disk-read-only",
    )


def told_error(error: Exception, doing: str) -> CanonqError:
    """What came up while something was done for one recipe, as an error of canonq: it is that one, and the others go on."""
    if isinstance(error, CanonqError):
        return error
    if (refused := of_host(error)) is not None:
        return refused
    log.error("%s broke", doing, exc_info=error)
    return CanonqError(f"{doing} broke: {type(error).__name__}: {error}", mend="this is canonq's own fault; report it.")


def _no_room(where: Path | str, error: OSError) -> HostProblem:
    mend = "free some disk; where `df` shows room, `df -i` shows that no more files can be made."
    return HostProblem(f"{where} cannot be written: {error.strerror}.", mend=mend, code="disk-full")


def sync_folder(path: Path) -> None:
    """Make the entries of a folder durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn an OSError into a HostProblem that names the path and the mend."""
    try:
        yield
    except PermissionError as error:
        raise HostProblem(
            f"{path} cannot be written: {error.strerror}.",
            mend=f"let the user that runs canonq (uid {os.geteuid()}) write there, or set CANONQ_STATE.",
            code="state-not-writable",
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise _no_room(path, error) from error
        if error.errno == errno.EROFS:
            raise read_only(path) from error
        raise HostProblem(
            f"{path} cannot be written: {error.strerror or error}.",
            mend="look at the disk: is it full or failing?",
            code="state-not-writable",
        ) from error
