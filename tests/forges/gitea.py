"""A real Gitea on 127.0.0.1, with SQLite and as an ordinary user, from a folder that `scripts/engine build gitea` has made."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from canonq.adapters.processes.programs import with_parent

FOLDER = "CANONQ_GITEA"  #: the variable that names the folder
_OWNER = "mirror"
_STARTS_WITHIN = 120.0

_SETTINGS = """
RUN_USER = {user}
RUN_MODE = prod
[server]
PROTOCOL = http
HTTP_ADDR = 127.0.0.1
HTTP_PORT = {port}
ROOT_URL = http://127.0.0.1:{port}/
STATIC_ROOT_PATH = {built}
APP_DATA_PATH = {work}/data
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {work}/gitea.db
[repository]
ROOT = {work}/repositories
DEFAULT_BRANCH = main
[security]
INSTALL_LOCK = true
SECRET_KEY = {secret}
PASSWORD_HASH_ALGO = pbkdf2_v1
[indexer]
ISSUE_INDEXER_TYPE = db
[migrations]
ALLOW_LOCALNETWORKS = true
[log]
LEVEL = warn
ROOT_PATH = {work}/log
[service]
DISABLE_REGISTRATION = true
[cron]
ENABLED = false
[actions]
ENABLED = false
"""


@dataclass
class Gitea:
    """One that runs, and an administrator of it."""

    url: str
    token: str

    def ask(self, method: str, path: str, body: Any = None, *, allowed: tuple[int, ...] = ()) -> Any:
        """Ask its API as the administrator; what it answers, or None."""
        headers = {"Authorization": f"token {self.token}"}
        answer = requests.request(method, f"{self.url}/api/v1/{path}", json=body, headers=headers, timeout=60)
        assert answer.ok or answer.status_code in allowed, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if answer.content and answer.ok else None


@contextmanager
def running(built: Path, work: Path) -> Iterator[Gitea]:
    """A Gitea with an administrator who is called `mirror`."""
    user = pwd.getpwuid(os.geteuid() or pwd.getpwnam("nobody").pw_uid)  # it does not run as root
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    work.mkdir(parents=True)
    if os.geteuid() == 0:  # nobody may not look into root's home
        built = Path(shutil.copytree(built, work / "built"))
    settings = work / "app.ini"
    settings.write_text(_SETTINGS.format(user=user.pw_name, port=port, built=built, work=work, secret=secrets.token_hex(32)))
    if os.geteuid() == 0:
        for path in (work, settings):
            os.chown(path, user.pw_uid, user.pw_gid)
    env = {"PATH": os.environ["PATH"], "HOME": str(work), "USER": user.pw_name, "GITEA_WORK_DIR": str(work)}
    as_user: dict[str, Any] = {"env": env, "cwd": work}
    if os.geteuid() == 0:
        as_user |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    program = [str(built / "bin" / "gitea"), "--config", str(settings)]

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [*program, *arguments], capture_output=True, text=True, timeout=_STARTS_WITHIN, check=False, **as_user
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout).strip()

    call("migrate")
    call(
        "admin", "user", "create", "--admin", "--username", _OWNER, "--password", secrets.token_hex(16),
        "--email", "mirror@localhost", "--must-change-password=false",
    )  # fmt: skip
    token = call("admin", "user", "generate-access-token", "--username", _OWNER, "--scopes", "all", "--raw").splitlines()[-1]
    with (work / "output").open("wb") as said:
        server = subprocess.Popen(
            with_parent([*program, "web"], signal.SIGKILL), stdout=said, stderr=said, start_new_session=True, **as_user
        )
    try:
        gitea = Gitea(f"http://127.0.0.1:{port}", token)
        _until_it_answers(gitea, server, work / "output")
        yield gitea
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(work, ignore_errors=True)


def _until_it_answers(gitea: Gitea, server: subprocess.Popen[bytes], said: Path) -> None:
    ends = time.monotonic() + _STARTS_WITHIN
    while True:
        try:
            gitea.ask("GET", "version")
            return
        except requests.ConnectionError:
            assert server.poll() is None, said.read_text()
            assert time.monotonic() < ends, said.read_text()
            time.sleep(0.1)
