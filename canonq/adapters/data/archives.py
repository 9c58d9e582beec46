"""Volume data on the host: copies, and archives of it (zstd-compressed tar).

GNU tar keeps owners, modes, times, xattrs, ACLs, hard links and holes; the archive is hashed as it is written,
made durable by one fsync, and never held in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import stat
import subprocess
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

import zstandard

from canonq.adapters.data.markerfile import OWN
from canonq.adapters.files import not_readable, sync_folder, told, walk
from canonq.adapters.processes.programs import plain_environment, run
from canonq.core.errors import HostProblem
from canonq.core.records import Snapshot

_CHUNK = 1 << 20
_LEVEL = 3
_ONLY_WHILE_IT_RUNS = (".pid", ".lock")
_AHEAD = 16  #: chunks that may wait to be written
#: Bytes after which the disk is to begin with them: at the end, when they are made durable, all of them would be waited for.
_BEGIN_WRITING = 16 << 20
_TAR_LIMIT = 6 * 3600.0  #: seconds
_KINDS = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
}  #: kind of a member -> kind of a file; all others are regular files


def copy_tree(source: Path, target: Path) -> None:
    """Make `target` hold exactly what `source` holds, sharing blocks where the file system can."""
    _can_read(source)
    run_checked(["find", str(target), "-mindepth", "1", "-delete"], f"empty {target}")
    run_checked(["cp", "-a", "--reflink=auto", "--sparse=auto", f"{source}/.", str(target)], f"copy {source}")


def has_files(folder: Path) -> bool:
    """Whether an app's data lies anywhere in a folder: a regular file, but for such as a program has only while it runs."""
    for where, _, names in walk(os.fspath(folder)):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the app is at work
                passing = name.endswith(_ONLY_WHILE_IT_RUNS) or name.startswith(OWN)
                if not passing and stat.S_ISREG((Path(where) / name).lstat().st_mode):
                    return True
    return False


def run_checked(command: list[str], what: str) -> None:
    """Run a file program; HostProblem with its words when it fails."""
    ended = run(command, timeout=_TAR_LIMIT, env=plain_environment())
    if ended.status != 0:
        raise HostProblem(f"Could not {what}: {ended.tail[-400:]}", mend="look at the disk and its room.", code="copy-failed")


def sync_tree(folder: Path) -> None:
    """Make everything on the folder's file system durable."""
    run_checked(["sync", "--file-system", str(folder)], f"make {folder} durable")


def archive(volumes: Mapping[str, Path], path: Path, progress: Callable[[int], None] = lambda _: None) -> Snapshot:
    """Archive volumes (key -> folder) into `path`, durably. The app must be stopped.

    `progress` is told now and then how many bytes were read. Memory is bounded, whatever the size.
    """
    for folder in volumes.values():
        _can_read(folder)
    command = ["tar", "--create", "--numeric-owner", "--xattrs", "--acls", "--sparse", "--directory=/"]
    command += _renamed({str(folder).lstrip("/"): key for key, folder in volumes.items()})
    command += ["--files-from=/dev/null"] if not volumes else ["--", *(str(folder).lstrip("/") for folder in volumes.values())]
    with told(path), path.open("xb") as file:
        checksum, read = _compress(command, file, progress)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    return Snapshot(path=str(path), bytes=path.stat().st_size, checksum=f"sha256:{checksum}", content_bytes=read)


def _renamed(names: Mapping[str, str]) -> list[str]:
    """tar's options that call each member `old`, and all below it, `new`; targets of symbolic links stay as they are.

    tar applies one rule after the other to the same name, so each goes by way of a mark that neither a path nor a
    volume's key begins with: what one rule has renamed, no other rule can take for its own.
    """
    steps = [(old, f"@{number}@") for number, old in enumerate(names)]
    steps += [(f"@{number}@", new) for number, new in enumerate(names.values())]
    return [f"--transform=flags=rhS;s,^{_pattern(old)}\\(/\\|$\\),{_replacement(new)}\\1," for old, new in steps]


def _pattern(text: str) -> str:
    return re.sub(r"([][\\.*^$,])", r"\\\1", text)


def _replacement(text: str) -> str:
    return re.sub(r"([\\&,])", r"\\\1", text)


def _compress(command: list[str], file: IO[bytes], progress: Callable[[int], None]) -> tuple[str, int]:
    """Compress what `command` prints into `file`; sha256 of what was written, and bytes read."""
    summed, read = hashlib.sha256(), 0
    compressor = zstandard.ZstdCompressor(level=_LEVEL, threads=2).compressobj()
    # Its complaints go to a file: through a pipe that nobody reads meanwhile, many of them would stop it.
    with tempfile.TemporaryFile() as said, ThreadPoolExecutor(1, "snapshot") as writer:
        process = subprocess.Popen(
            command, bufsize=0, stdout=subprocess.PIPE, stderr=said, env=plain_environment(), start_new_session=True
        )
        assert isinstance(process.stdout, io.RawIOBase)  # a pipe without a buffer
        _widen(process.stdout)
        begun = 0  #: bytes that the disk has been told to begin with

        def write(packed: bytes) -> None:
            nonlocal begun
            summed.update(packed)
            file.write(packed)
            if (now := file.tell()) >= begun + _BEGIN_WRITING:
                file.flush()
                os.posix_fadvise(file.fileno(), begun, now - begun, os.POSIX_FADV_DONTNEED)
                begun = now

        written: deque[Future[None]] = deque()
        try:
            chunk = memoryview(bytearray(_CHUNK))
            while size := process.stdout.readinto(chunk):
                read += size
                progress(read)
                if packed := compressor.compress(chunk[:size]):
                    written.append(writer.submit(write, packed))
                while len(written) > _AHEAD:
                    written.popleft().result()
            written.append(writer.submit(write, compressor.flush()))
            for piece in written:
                piece.result()
            if process.wait() != 0:
                raise HostProblem(f"tar could not read the volumes: {_tail(said)}", code="snapshot-failed")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    return summed.hexdigest(), read


def _widen(pipe: IO[bytes] | io.RawIOBase) -> None:
    """Let a pipe hold a whole chunk, so that both ends are woken less often."""
    with contextlib.suppress(OSError):  # the host limits it
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _CHUNK)


def _tail(said: IO[bytes]) -> str:
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - 400))
    return said.read().decode(errors="replace").strip()


def archive_problem(kept: Snapshot) -> str | None:
    """Why an archive is not whole, or None: it is there, has its size and its checksum."""
    path = Path(kept.path)
    try:
        if path.stat().st_size != kept.bytes:
            return f"{path} has {path.stat().st_size} bytes instead of {kept.bytes}"
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except PermissionError as error:
        raise not_readable(path) from error
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}"
    if f"sha256:{found}" != kept.checksum:
        return f"{path} does not have its checksum any more"
    return None


def unpack_archive(kept: Snapshot, volumes: Mapping[str, Path]) -> None:
    """Put an archive's data into folders (key -> folder), each made to hold exactly that; all in one pass.

    HostProblem (`unpack-failed`) when what came out is not what the archive lists.
    """
    for folder in volumes.values():
        run_checked(["find", str(folder), "-mindepth", "1", "-delete"], f"empty {folder}")
    if not volumes:
        return
    # From the root, under each folder's own path, so that its owner and mode come back as well.
    command = ["tar", "--extract", "--numeric-owner", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--acls",
               "--directory=/", *_renamed({key: str(folder).lstrip("/") for key, folder in volumes.items()}),
               "--", *volumes]  # fmt: skip
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said, env=plain_environment(), start_new_session=True)
        assert process.stdin  # a pipe
        _widen(process.stdin)
        try:
            with Path(kept.path).open("rb") as file, contextlib.suppress(BrokenPipeError), process.stdin as pipe:
                zstandard.ZstdDecompressor().copy_stream(file, pipe, read_size=_CHUNK, write_size=_CHUNK)
            if process.wait() != 0:
                raise HostProblem(f"tar could not unpack {', '.join(volumes)}: {_tail(said)}", code="unpack-failed")
        finally:
            process.kill()
            process.wait()
    _compare(kept, volumes)


def _compare(kept: Snapshot, volumes: Mapping[str, Path]) -> None:
    """See that each folder holds what the archive lists for it, and nothing else; content was proven by the checksum."""
    count = dict.fromkeys(volumes, 0)
    with (
        Path(kept.path).open("rb") as file,
        zstandard.ZstdDecompressor().stream_reader(file, read_size=_CHUNK) as stream,
        tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK, errors="surrogateescape") as listing,
    ):
        for member in listing:
            listing.members = []  # type: ignore[attr-defined]  # it would keep them all
            place = _placed(member.name, volumes)
            if place is None:
                continue  # of a volume that was not asked for
            count[member.name.partition("/")[0]] += 1
            if problem := _differs(member, place, volumes):
                raise _not_unpacked(f"{member.name} {problem}")
    for key, folder in volumes.items():
        found = 1 + sum(len(folders) + len(files) for _, folders, files in walk(os.fsencode(folder)))
        if found != count[key]:
            raise _not_unpacked(f"the volume '{key}' has {found} entries, and the archive lists {count[key]}")


def _placed(name: str, volumes: Mapping[str, Path]) -> bytes | None:
    key, _, below = name.partition("/")
    return os.path.join(os.fsencode(volumes[key]), os.fsencode(below)) if key in volumes else None


def _differs(member: tarfile.TarInfo, place: bytes, volumes: Mapping[str, Path]) -> str | None:
    """What is not as the archive has it, or None."""
    try:
        found = os.lstat(place)
    except OSError as error:
        return f"is not there ({error.strerror})"
    if member.islnk():
        other = _placed(member.linkname, volumes)
        return None if other and os.path.samestat(found, os.lstat(other)) else "is not the hard link that it was"
    if stat.S_IFMT(found.st_mode) != _KINDS.get(member.type, stat.S_IFREG):
        return "is of another kind"
    if member.isreg() and found.st_size != member.size:
        return f"has {found.st_size} bytes instead of {member.size}"
    if member.issym() and os.readlink(place) != os.fsencode(member.linkname):
        return "points elsewhere"
    if (found.st_uid, found.st_gid) != (member.uid, member.gid) and os.geteuid() == 0:
        return "has another owner"
    if not member.issym() and stat.S_IMODE(found.st_mode) != member.mode & 0o7777:
        return "has another mode"
    return None


def _not_unpacked(why: str) -> HostProblem:
    return HostProblem(
        f"What came out of the snapshot is not what is in it: {why}.",
        mend="look at the disk that Docker's volumes are on, and at its room; the snapshot itself is whole.",
        code="unpack-failed",
    )


def _can_read(folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise HostProblem(
            f"The volume data in {folder} cannot be read by uid {os.geteuid()}.",
            mend="run the workers as root; in a container, mount Docker's volumes folder at the same path.",
            code="volumes-not-readable",
        )
