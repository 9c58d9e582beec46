"""What Flower's list says of a task, from the texts that Celery's events carry, also where these were cut."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.events.state import Task
from celery.utils.saferepr import saferepr
from git.repo import Repo

from canonq.core.records import Decision, Promotion
from tests.core.test_gate import verdict
from tests.support import Installation, make_recipe
from workers.taskpage import RESULT_LENGTH, format_task, in_order

LIMIT = 600.0  #: seconds


def shown(name: str, value: Any = None, *, args: str = "site", state: str = "SUCCESS", exception: str = "") -> Task:
    result = saferepr(in_order(value.model_dump(mode="json")), RESULT_LENGTH) if value is not None else None
    return format_task(Task(name=name, args=args, kwargs="{'x': 1}", result=result, state=state, exception=exception))


@pytest.mark.parametrize(
    ("task", "value", "state"),
    [
        ("test", verdict(), "✓ GREEN"),
        ("test", verdict(verdict="red", reason="rolled-back"), "✗ RED"),
        ("test", verdict(verdict="error", reason="docker-unreachable"), "! ERROR"),
        ("promote", Promotion(recipe="site", outcome="promoted", reason="seed", detail=""), "✓ PROMOTED"),
        ("promote", Promotion(recipe="site", outcome="refused", reason="not-green", detail=""), "✗ REFUSED"),
        ("promote", Promotion(recipe="site", outcome="failed", reason="promote-failed", detail=""), "! FAILED"),
        ("decide", Decision(recipe="site", action="skip", reason="no-new-version", detail=""), "· SKIPPED"),
        ("decide", Decision(recipe="site", action="run", reason="seed", detail=""), "→ TEST"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_red_refused_and_skipped_are_told_from_green(task: str, value: Any, state: str) -> None:
    found = shown(f"canonq.{task}", value)
    assert (found.state, found.args, found.kwargs) == (state, "site", "")
    assert value.reason in found.result


def test_version_and_reason_are_there_however_long_the_sentence_is() -> None:
    found = shown("canonq.test", verdict(verdict="red", reason="rolled-back", detail="It exits. " * 900, notes=("x" * 900,)))
    assert found.result.startswith("1.1.0+1.1 (rolled-back) It exits.")
    assert len(found.result) < 200


def test_of_what_failed_the_sentence_is_told_and_not_the_class() -> None:
    told = "StepFailed('sync-failed: There is no such repository. Mend: correct it.')"
    found = shown("canonq.sync", state="FAILURE", exception=told, args="('site',)")
    assert (found.state, found.args) == ("FAILURE", "site")
    assert found.result == "sync-failed: There is no such repository. Mend: correct it."


@pytest.mark.parametrize("args", ["site", "('site',)", "['site']", "[{'recipe': 'site', 'tags': 3}]"])
def test_the_recipe_is_told_however_it_was_called(args: str) -> None:
    assert shown("canonq.test", args=args, state="STARTED").args == "site"


def test_a_sweep_says_how_many_it_began_with_and_that_more_were_cut_off() -> None:
    def result(count: int) -> str:
        value = {"sweep": "s-1", "started": ["a"], "failed": [], "idle": [f"recipe-{at}" for at in range(count)]}
        return str(format_task(Task(name="canonq.sweep", result=saferepr(value, RESULT_LENGTH), state="SUCCESS")).result)

    assert result(2) == "s-1: 1 started, 2 idle, 0 failed"
    assert "+ idle" in result(300)


@pytest.mark.parametrize(
    "text", ["", "None", "{'verdict': 'red", "{'verdict': 'nonsense'}", "\x1b[2J<script>", "{'recipe': '", "7"]
)
def test_texts_that_are_none_of_canonqs_end_nothing(text: str) -> None:
    for name in ("canonq.test", "canonq.sweep", None, "other.task"):
        found = format_task(Task(name=name, args=text, result=text, state="SUCCESS"))
        assert "\x1b" not in f"{found.args}{found.result}"


# -- the page itself -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[tuple[Installation, str]]:
    """An installation with a worker, and Flower as `celery flower` starts it; its address."""
    root = tmp_path_factory.mktemp("page")
    make_recipe(root / "upstream", {"1.0.0+1.0": {"compose.yml": "services: {}\n"}})
    made = Installation(root, {"CANONQ_REDIS_URL": redis_url})
    made.enrol("site", f'upstream = "{root}/upstream"\n')
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    celery = [sys.executable, "-m", "celery"]
    environment = made.environment | {"FLOWER_BASIC_AUTH": "me:secret", "FLOWER_PORT": str(port)}
    commands = ([*celery, "worker", "-n", "page@%h", "-Q", "light,heavy", "-c", "1", "-E"], [*celery, "flower"])
    with (root / "log").open("wb") as log:
        running = [subprocess.Popen(one, env=environment, cwd=root, stdout=log, stderr=log) for one in commands]
    try:
        yield made, f"http://127.0.0.1:{port}"
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(LIMIT)


def asked(url: str, *, login: str | None = "me:secret", data: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, data=data)
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, None
    except OSError:
        return 0, None


def listed(url: str) -> list[dict[str, Any]]:
    query = "draw=1&start=0&length=100&order[0][column]=0&columns[0][data]=name&order[0][dir]=asc"
    status, found = asked(f"{url}/tasks/datatable?{query}")
    return list(found["data"]) if status == 200 else []


@pytest.mark.long
def test_the_list_of_a_real_flower_says_recipe_and_outcome(page: tuple[Installation, str]) -> None:
    installed, url = page
    ends = time.monotonic() + LIMIT
    while asked(f"{url}/api/workers?refresh=1")[1] in (None, {}):
        assert time.monotonic() < ends
        time.sleep(0.5)
    Repo.init(installed.state / "repos" / "site" / "repo.git", bare=True, mkdir=True)  # a clone of what has no release yet
    assert installed.celery("call", "canonq.decide", "--args", "site").status == 0
    while not (rows := [row for row in listed(url) if str(row["state"]).startswith("· ")]):
        assert time.monotonic() < ends, listed(url)
        time.sleep(0.5)
    assert (rows[0]["args"], rows[0]["state"]) == ("site", "· SKIPPED")
    assert "(never-released)" in rows[0]["result"]


@pytest.mark.long
def test_nobody_looks_without_the_login_and_nobody_acts_with_it(page: tuple[Installation, str]) -> None:
    _, url = page
    ends = time.monotonic() + LIMIT
    while not (status := asked(f"{url}/tasks", login=None)[0]):
        assert time.monotonic() < ends
        time.sleep(0.5)
    assert status == 401
    for path in ("task/send-task/canonq.promote", "task/async-apply/canonq.sweep", "task/revoke/x", "worker/shutdown/page"):
        assert asked(f"{url}/api/{path}", data=b'{"args": ["site"]}')[0] == 403


@pytest.mark.long
def test_without_a_login_it_does_not_start(page: tuple[Installation, str], tmp_path: Path) -> None:
    installed, _ = page
    environment = {name: value for name, value in installed.environment.items() if not name.startswith("FLOWER_")}
    command = [sys.executable, "-m", "celery", "flower", "--port=0"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 2
    assert "canonq: [no-login] " in done.stderr
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []
