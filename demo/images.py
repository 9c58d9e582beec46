"""Images for the demonstration, made from Debian's packages: no registry is asked for any of them.

`python -m demo.images [static|guestbook]` builds what is missing and prints one line for each image. What an
image is made from is hashed into a label, so that a second run finds it there and does nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import docker
from docker.errors import BuildError, DockerException, ImageNotFound

from canonq.adapters.files import write_durably
from canonq.adapters.processes import programs
from canonq.core.errors import CanonqError, HostProblem, WrongUse

SOURCES: Final = Path(__file__).with_name("images")
_PREFIX: Final = "canonq-demo"
_LABEL: Final = "canonq.demo"
_STATIC_TAGS: Final = (
    "1.29.0", "1.30.0", "1.31.1", "2.42.0", "2.43.0", "1.24.2-rootless", "1.25.0-rootless", "v1.5.735-0", "v1.6.870-0",
)  # fmt: skip

_GUESTBOOK_TAGS: Final = ("6.41.0-alpine", "6.42.0-alpine")
POSTGRES_PACKAGES: Final = ("postgresql-15", "postgresql-client-15", "tzdata")
_VERSIONED: Final = "postgresql/15"
_PROXY_PACKAGES: Final = ("nginx",)
#: Groups that are built only when they are asked for: no recipe of the demonstration needs them.
_EXTRA: Final = ("proxy",)
CLIENT_PROGRAMS: Final = ("psql", "pg_isready")
_SERVER_PROGRAMS: Final = (*CLIENT_PROGRAMS, "postgres", "initdb", "pg_ctl", "pg_dump")
_MODULES: Final = ("plpgsql.so", "hstore.so", "dict_snowball.so", "libpqwalreceiver.so", "pgoutput.so")
_POSTGRES: Final = 999  #: user and group id


class Root:
    """The files of an image, as a tar archive which is the same whenever its files are."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {}

    def folder(self, path: str, mode: int = 0o755, owner: int = 0) -> None:
        """Add a folder, and those above it."""
        self._put(path, tarfile.DIRTYPE, mode, owner)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file."""
        self._put(path, tarfile.REGTYPE, mode).size = len(content)
        self._entries[path] = (self._entries[path][0], content)

    def append(self, path: str, content: bytes) -> None:
        """Add to the end of a file that is there."""
        self.file(path, self._entries[path][1] + content)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self._put(path, tarfile.SYMTYPE, 0o777).linkname = target

    def copy(self, source: Path, path: str) -> None:
        """Add a file, a link or a whole folder of the host under another path."""
        if source.is_symlink():
            self.link(path, os.readlink(source))
        elif source.is_dir():
            self.folder(path)
            for child in source.iterdir():
                self.copy(child, f"{path}/{child.name}")
        else:
            self.file(path, source.read_bytes(), 0o755 if source.stat().st_mode & 0o100 else 0o644)

    def packed(self) -> bytes:
        """The archive, in a fixed order and without times."""
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            for path in sorted(self._entries):
                entry, content = self._entries[path]
                archive.addfile(entry, io.BytesIO(content))
        return stream.getvalue()

    def _put(self, path: str, kind: bytes, mode: int, owner: int = 0) -> tarfile.TarInfo:
        above = path.rpartition("/")[0]
        if above and above not in self._entries:
            self.folder(above)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode, entry.uid, entry.gid = kind, mode, owner, owner
        self._entries[path] = (entry, b"")
        return entry


@dataclass(frozen=True)
class Image:
    """One image: where its Dockerfile is, what goes into it, and what it stands on."""

    name: str
    tag: str
    group: str
    fill: Callable[[Root, str, Path], None]  #: takes the tag, and a folder which lasts as long as the run
    packages: tuple[str, ...] = ()  #: Debian packages it takes files from
    prefix: str = _PREFIX
    sources: Path = SOURCES
    inputs: tuple[Path, ...] = ()  #: further files that it is made from
    kept: Path | None = None  #: a folder where its files are kept once they are put together: what is dear to make, or to fetch

    @property
    def reference(self) -> str:
        """The image's full name."""
        return f"{self.prefix}/{self.name}:{self.tag}"

    @property
    def folder(self) -> Path:
        """Its Dockerfile and scripts."""
        return self.sources / self.name

    def digest(self) -> str:
        """A hash over everything that is known before the build."""
        sums = hashlib.sha256(repr((self.reference, self.packages)).encode())
        shared = (Path(__file__), _busybox(), *self.inputs)
        for path in (*shared, *sorted((SOURCES / "static").rglob("*")), *sorted(self.folder.rglob("*"))):
            if path.is_file():
                sums.update(f"{path.name}\0".encode() + path.read_bytes())
        return sums.hexdigest()

    def files(self, scratch: Path) -> bytes:
        """All that is in it, as an archive; from where it is kept, if it is."""
        place = self.kept and self.kept / f"{self.name}-{self.tag}-{self.digest()[:12]}.tar"
        if place and place.is_file():
            return place.read_bytes()
        root = Root()
        self.fill(root, self.tag, scratch)
        packed = root.packed()
        if place:
            place.parent.mkdir(parents=True, exist_ok=True)
            for earlier in place.parent.glob(f"{self.name}-{self.tag}-*.tar"):
                earlier.unlink()
            write_durably(place, packed)
        return packed


def build(names: Iterable[str] | None = None) -> dict[str, str]:
    """Build what is missing or out of date; return image reference -> id.

    `names` are groups (`static`, `guestbook`, `proxy`) or image references; None means all but the proxy. An image that is there
    already, made from the same inputs, is left alone. HostProblem says what is missing and how to get it.
    """
    return put_together(chosen(names))


def put_together(wanted: Iterable[Image]) -> dict[str, str]:
    """Build those of these images that are missing or out of date; return image reference -> id."""
    try:
        engine = docker.from_env(timeout=120)
        try:
            with _alone(), tempfile.TemporaryDirectory(prefix="canonq-demo-") as scratch:
                return {image.reference: _present(engine, image) or _made(engine, image, Path(scratch)) for image in wanted}
        finally:
            engine.close()
    except BuildError as error:
        raise HostProblem(f"An image could not be built: {error.msg}", mend="read the builder's message.") from error
    except DockerException as error:
        raise HostProblem(f"Docker Engine does not do what is asked: {error}", mend="start dockerd.") from error


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One build at a time: with containerd's image store, two that give an image the same name at once both fail."""
    folder = os.open(SOURCES, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def chosen(names: Iterable[str] | None) -> list[Image]:
    """The images of these groups and references; WrongUse for what is neither."""
    images = _images()
    if names is None:
        return [image for image in images if image.group not in _EXTRA]
    asked = list(names)
    known = {"static", "guestbook", "proxy"} | {image.reference for image in images}
    for name in asked:
        if name not in known:
            raise WrongUse(f"There is no demo image '{name}'.", mend=f"take one of: {', '.join(sorted(known))}.")
    return [image for image in images if image.group in asked or image.reference in asked]


def _present(engine: docker.DockerClient, image: Image) -> str | None:
    try:
        found = engine.images.get(image.reference)
    except ImageNotFound:
        return None
    return found.id if found.labels.get(f"{_LABEL}.inputs") == image.digest() else None


def _made(engine: docker.DockerClient, image: Image, scratch: Path) -> str:
    context = Root()
    context.copy(image.folder / "Dockerfile", "Dockerfile")
    context.file("root.tar", image.files(scratch))
    built, _ = engine.images.build(
        fileobj=io.BytesIO(context.packed()),
        custom_context=True,
        tag=image.reference,
        labels={_LABEL: "true", f"{_LABEL}.tag": image.tag, f"{_LABEL}.inputs": image.digest()},
        rm=True,
        forcerm=True,
    )
    assert built.id is not None
    return built.id


def _images() -> list[Image]:
    return [
        *(Image("static", tag, "static", _fill_static) for tag in _STATIC_TAGS),
        Image("postgres", "15", "guestbook", _fill_postgres, POSTGRES_PACKAGES),
        *(Image("guestbook", tag, "guestbook", _fill_guestbook, POSTGRES_PACKAGES) for tag in _GUESTBOOK_TAGS),
        Image("nginx", "1", "proxy", _fill_proxy, _PROXY_PACKAGES),
    ]


def _fill_static(root: Root, tag: str, scratch: Path) -> None:
    del tag, scratch
    base(root)


def _fill_postgres(root: Root, tag: str, scratch: Path) -> None:
    del tag
    base(root)
    tree = unpacked(scratch, POSTGRES_PACKAGES)
    add_programs(root, tree, of_postgres([f"bin/{name}" for name in _SERVER_PROGRAMS] + [f"lib/{name}" for name in _MODULES]))
    root.copy(tree / f"usr/share/{_VERSIONED}", f"usr/share/{_VERSIONED}")
    for zone in ("UTC", "GMT", "Etc"):
        root.copy(tree / "usr/share/zoneinfo" / zone, f"usr/share/zoneinfo/{zone}")
    root.append("etc/passwd", f"postgres:x:{_POSTGRES}:{_POSTGRES}::/var/lib/postgresql:/bin/sh\n".encode())
    root.append("etc/group", f"postgres:x:{_POSTGRES}:\n".encode())
    # An empty volume takes owner and mode from here.
    root.folder("var/lib/postgresql/data", 0o700, _POSTGRES)
    root.folder("var/run/postgresql", 0o755, _POSTGRES)
    root.copy(SOURCES / "postgres/postgres-start", "usr/bin/postgres-start")


def _fill_guestbook(root: Root, tag: str, scratch: Path) -> None:
    base(root)
    add_programs(root, unpacked(scratch, POSTGRES_PACKAGES), of_postgres([f"bin/{name}" for name in CLIENT_PROGRAMS]))
    common, release = SOURCES / "guestbook/common", SOURCES / "guestbook" / tag
    root.copy(common / "guestbook", "usr/bin/guestbook")
    root.copy(common / "answer.sh", "usr/share/guestbook/answer.sh")
    for source in (common, release):
        root.copy(source / "srv", "srv")
        if (source / "migrations").is_dir():
            root.copy(source / "migrations", "usr/share/guestbook/migrations")


def _fill_proxy(root: Root, tag: str, scratch: Path) -> None:
    del tag
    base(root)
    add_programs(root, unpacked(scratch, _PROXY_PACKAGES), ["usr/sbin/nginx"])
    for folder in ("var/log/nginx", "var/lib/nginx", "run", "etc/nginx"):
        root.folder(folder)


def of_postgres(names: list[str]) -> list[str]:
    return [f"usr/lib/{_VERSIONED}/{name}" for name in names]


def unpacked(scratch: Path, packages: tuple[str, ...]) -> Path:
    """Packages and their libraries as one tree; nothing is installed and no service is started."""
    tree = scratch / f"unpacked-{packages[0]}"
    if tree.is_dir():
        return tree
    for needed in ("apt-get", "apt-cache", "dpkg-deb", "ldd"):
        if shutil.which(needed) is None:
            raise HostProblem(
                f"An image is put together from Debian's packages, and '{needed}' is not there.",
                mend=f"run this on Debian 12, or where apt offers {packages[0]}.",
                code="program-missing",
            )
    downloads = scratch / f"packages-{packages[0]}"
    downloads.mkdir()
    _apt("download", *packages, *_libraries_of(packages[0]), cwd=downloads)
    for package in sorted(downloads.glob("*.deb")):
        ended = programs.run(["dpkg-deb", "-x", str(package), str(tree)], timeout=120)
        if ended.status != 0:
            raise HostProblem(f"`dpkg-deb -x {package.name}` failed:\n{ended.tail}", mend="free disk space and try again.")
    return tree


def _libraries_of(package: str) -> list[str]:
    """The library packages it stands on: without LLVM (120 MB for the JIT) and the C library, taken from the host."""
    options = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    ended = programs.run(["apt-cache", "depends", "--recurse", *options, package], timeout=60)
    names = {line for line in ended.output.splitlines() if line.startswith("lib")}
    return sorted(name for name in names if not name.startswith(("libc6", "libc-", "libllvm", "libz3", "libperl", "libnginx")))


def add_programs(root: Root, tree: Path, names: list[str]) -> None:
    """Add programs, under the path they have in their package, and every shared library that they load."""
    places = [tree / "usr/lib" / folder for folder in os.listdir(tree / "usr/lib") if "-linux-" in folder]
    places += [tree / "lib" / place.name for place in places]
    environment = programs.plain_environment(LD_LIBRARY_PATH=":".join(map(str, places)))
    for name in names:
        source = tree / name
        root.copy(source, name)
        ended = programs.run(["ldd", str(source)], timeout=30, env=environment)
        for line in ended.output.splitlines():
            library, _, found = line.strip().rpartition(" (")[0].partition(" => ")
            if "not found" in line:
                raise HostProblem(f"No package brings what {name} needs: {line.strip()}", mend="run this on Debian 12.")
            if found:
                root.file(f"usr/lib/{library}", Path(found).read_bytes(), 0o755)
            elif library.startswith("/"):  # the loader, which programs name by its full path
                root.file(library.lstrip("/"), Path(library).read_bytes(), 0o755)


def base(root: Root) -> None:
    """A shell and its tools, the places programs expect, and two users."""
    busybox = _busybox()
    root.file("bin/busybox", busybox.read_bytes(), 0o755)
    for applet in programs.run([str(busybox), "--list"], timeout=10).output.split():
        if applet != "busybox":
            root.link(f"bin/{applet}", "busybox")
    root.folder("tmp", 0o1777)
    root.folder("root", 0o700)
    root.copy(SOURCES / "static" / "etc", "etc")


@functools.cache
def _busybox() -> Path:
    """Debian's statically linked busybox; fetched where that is possible."""
    places = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
    if not any(_is_static(place) for place in places) and os.geteuid() == 0 and shutil.which("apt-get"):
        _apt("install", "-y", "--no-install-recommends", "busybox-static")
    for place in places:
        if _is_static(place):
            return place
    raise HostProblem(
        "The statically linked busybox is not there.", mend="apt-get install busybox-static.", code="program-missing"
    )


def _is_static(program: Path) -> bool:
    # A dynamically linked ELF file names its loader, which an image from scratch does not have.
    return program.is_file() and b"ld-linux" not in program.read_bytes()[:4096]


def have_programs(packages: Mapping[str, str]) -> None:
    """Have programs of Debian's that tests need; program -> package. HostProblem where they cannot be had."""
    if missing := sorted({package for program, package in packages.items() if not shutil.which(program)}):
        _apt("install", "-y", "--no-install-recommends", *missing)


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    environment = programs.plain_environment(DEBIAN_FRONTEND="noninteractive")
    command = ["apt-get", "-q", *arguments]
    ended = programs.run(command, timeout=300, cwd=cwd, env=environment)
    if ended.status != 0:
        # Package lists are often missing in containers, or older than the mirror.
        programs.run(["apt-get", "-q", "update"], timeout=300, env=environment)
        ended = programs.run(command, timeout=300, cwd=cwd, env=environment)
    if ended.status != 0:
        raise HostProblem(
            f"`{' '.join(command)}` failed:\n{ended.tail}", mend="make Debian's packages reachable, then try again."
        )


def main(arguments: list[str]) -> int:
    """Build the named groups, or all, and print one line for each image."""
    try:
        for reference, identity in build(arguments or None).items():
            print(f"{reference}  {identity.removeprefix('sha256:')[:12]}", flush=True)
    except CanonqError as error:
        print(error, file=sys.stderr)
        return int(error.exit_status)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
