"""The whole round with a forge: a push is told of, the mirror follows, the release is promoted, a pull request has its status."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from git.repo import Repo

from canonq.adapters.engine import SwarmEngine
from tests.forge import TOKEN, Forge, serving
from tests.real.conftest import Processes, enrol_small, installed, tree, until, working
from tests.support import Installation, release

pytestmark = pytest.mark.real

SECRET = "s3cret-of-the-webhook"
RECIPE = "pushed"  # of this file's own: other files' tests promote theirs at the same time
NAME = f"mirror/{RECIPE}"
NEXT = "1.1.0+1.29.0"


@pytest.fixture
def small(engine: SwarmEngine, tmp_path: Path) -> Iterator[Installation]:
    """An installation with one small recipe of one release."""
    with installed(engine, tmp_path) as made:
        enrol_small(made, RECIPE)
        yield made


@pytest.fixture
def forge(small: Installation) -> Iterator[Forge]:
    """A forge that has the small recipe's mirror, with its token and the webhook's secret in files."""
    with serving(small.root / "forge") as forge:
        forge.repo(NAME)
        (small.root / "token").write_text(TOKEN)
        (small.root / "secret").write_text(SECRET)
        small.settings |= {
            "CANONQ_FORGE__URL": forge.url,
            "CANONQ_FORGE__TOKEN_FILE": str(small.root / "token"),
            "CANONQ_WEBHOOK__SECRET_FILE": str(small.root / "secret"),
            "CANONQ_WEBHOOK__LISTEN": f"127.0.0.1:{free_port()}",
            "CANONQ_WEBHOOK__DELAY": "1",
        }
        mirror = f'mirror = "{forge.address(NAME)}"\n'
        small.enrol(RECIPE, f'upstream = "{small.root}/{RECIPE}"\n{mirror}[health]\ntimeout = 600\n')
        yield forge


@pytest.fixture
def hooked(small: Installation, forge: Forge) -> Iterator[Processes]:
    """Workers, and the server that takes pushes."""
    with working(small) as workers:
        workers.start("webhook", sys.executable, "-m", "canonq", "webhook")
        until("the webhook", lambda: "Pushes are taken" in workers.log("webhook"), workers)
        yield workers


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def tell(small: Installation, body: dict[str, Any], *, secret: str = SECRET) -> tuple[int, dict[str, Any]]:
    """Post what a forge posts."""
    raw = json.dumps(body).encode()
    headers = {
        "X-Gitea-Event": "push",
        "X-Gitea-Delivery": "1",
        "X-Gitea-Signature": hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest(),
        "Content-Type": "application/json",
    }
    request = urllib.request.Request(f"http://{small.settings['CANONQ_WEBHOOK__LISTEN']}/webhook", raw, headers)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def push(forge: Forge, number: int = 1) -> dict[str, Any]:
    return {"ref": "refs/heads/main", "after": str(number), "repository": {"clone_url": forge.address(NAME)}}


def canonical(small: Installation) -> str | None:
    path = small.state / "warm" / RECIPE / "canonical.json"
    return str(json.loads(path.read_text())["version"]) if path.is_file() else None


def sweeps(small: Installation) -> list[Path]:
    return sorted((small.state / "sweeps").glob("*/sweep.json"))


def test_a_push_that_is_told_of_is_promoted_without_waiting_for_the_night(
    small: Installation, forge: Forge, hooked: Processes
) -> None:
    assert tell(small, push(forge)) == (202, {"started": [RECIPE]})
    until("the promotion", lambda: canonical(small) == "1.0.0+1.29.0", hooked)
    assert forge.repo(NAME).commit("main") == Repo(small.root / RECIPE).commit("main")
    release(Repo(small.root / RECIPE), NEXT, tree(NEXT))
    assert tell(small, push(forge, 2))[0] == 202
    until("the next promotion", lambda: canonical(small) == NEXT, hooked)
    assert NEXT in [tag.name for tag in forge.repo(NAME).tags]
    for path in (small.state / "sweeps").rglob("*.json"):
        assert TOKEN not in path.read_text()
        assert SECRET not in path.read_text()
    for name in hooked.running:
        assert TOKEN not in hooked.log(name)
        assert SECRET not in hooked.log(name)


def test_forged_and_repeated_words_start_nothing_and_many_at_once_start_one_sweep(
    small: Installation, forge: Forge, hooked: Processes
) -> None:
    assert tell(small, push(forge), secret="guess")[0] == 401
    assert tell(small, {"repository": {"clone_url": f"{forge.url}/someone/else.git"}})[1]["started"] == []
    assert sweeps(small) == []
    with ThreadPoolExecutor(5) as forges:  # at once, as those are one sweep that come within some seconds
        answers = forges.map(lambda number: tell(small, push(forge, number))[1]["started"], range(5))
    assert sorted(answers) == [[], [], [], [], [RECIPE]]
    assert "taken before" in tell(small, push(forge, 3))[1]["why"]
    until("its sweep", lambda: sweeps(small), hooked)
    assert len(sweeps(small)) == 1
    redis = hooked.running["redis"]
    os.kill(redis.pid, signal.SIGKILL)
    redis.wait()
    assert tell(small, push(forge, 9))[0] == 503, "the forge may say it again later"


def test_a_pull_requests_head_is_tested_and_its_commit_has_the_status(small: Installation, forge: Forge) -> None:
    assert small.canonq("sync", "--json").json["recipes"][0]["pushed"] == 2
    forge.open_to_all = True
    work = Repo.clone_from(forge.address(NAME), small.root / "work")
    work.git.checkout("-q", "-b", "proposal")
    (small.root / "work" / "README").write_text("hello\n")
    work.git.add("--all")
    work.git.commit("-qm", "A proposal")
    work.git.push("-q", "origin", "proposal")
    number = forge.open_pull(NAME, work.head.commit.hexsha)
    ended = small.canonq("test", RECIPE, "--ref", f"pull/{number}/head", "--json")
    assert ended.json["verdict"] == "green", ended.err
    assert [(repo, commit, told["state"]) for repo, commit, told in forge.statuses] == [
        (NAME, work.head.commit.hexsha, "pending"),
        (NAME, work.head.commit.hexsha, "success"),
    ]
    assert canonical(small) is None


def test_the_command_up_takes_pushes_too(small: Installation, forge: Forge) -> None:
    processes = Processes(small)
    try:
        processes.start("up", sys.executable, "-m", "canonq", "up")
        until("canonq up", lambda: "Up with" in processes.log("up"), processes)

        def taken() -> bool:
            try:
                return tell(small, push(forge))[0] == 202
            except OSError:
                return False

        until("the webhook", taken, processes)
        until("the promotion", lambda: canonical(small), processes)
    finally:
        processes.stop()
