"""`canonq web`: who may look, that nobody can do more, and that what changes is seen."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from redis import Redis

import workers.looks
import workers.site
from canonq.core.errors import HostProblem, WrongConfiguration, WrongUse
from canonq.flows.looking import report as report_flow
from canonq.flows.sweeps.nights import none_due
from canonq.settings import Settings, WebSettings
from tests.flows.mornings import HOSTILE, MORNING, Mornings, idle, red, stamp
from workers import web
from workers.looks import Shared
from workers.site import Followed, Site

ENOUGH = 300  #: seconds; what is waited for takes a few
LOGIN = ("canonq", "a-long-password")
PAGES = ("/", "/index.html", "/report.json", "/index.json", "/feed.atom", "/metrics", "/live.js", "/events", "/badges/site.svg",
         "/recipes/site.html", "/logs/site/20260617T030000Z-site-aaaaaa",
         "/logs/site/20260617T030000Z-site-aaaaaa/follow")  # fmt: skip


class Served:
    """A page that is served by a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.mornings = Mornings(folder)
        self.mornings.enrol("site")
        self.password = folder / "password"
        self.password.write_text(LOGIN[1])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CANONQ_")}
        own = {"CANONQ_REPO": str(folder / "checkout"), "CANONQ_STATE": str(folder / "state"),
               "CANONQ_REDIS_URL": "redis://127.0.0.1:1/0", "CANONQ_WEB__PASSWORD_FILE": str(self.password),
               "CANONQ_WEB__LISTEN": f"127.0.0.1:{self.port}"}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "canonq", "web", "--json"], env={**kept, **own}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stderr and self.process.stdout
        while b"The report is live" not in (line := self.process.stderr.readline()):
            assert line, "it ended"
        self.told = b"".join(iter(self.process.stdout.readline, b"}\n")) + b"}"

    def get(self, path: str, auth: Any = LOGIN, **more: Any) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", auth=auth, timeout=ENOUGH, **more)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(ENOUGH) == 0
        assert self.process.stderr and self.process.stdout
        assert self.process.stdout.read() == b""
        self.process.stderr.close()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    found = Served(tmp_path_factory.mktemp("web"))
    yield found
    found.stop()


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("auth", [None, ("canonq", "wrong"), ("other", LOGIN[1]), ("canonq", "")], ids=str)
def test_nobody_sees_anything_without_the_login(served: Served, path: str, auth: Any) -> None:
    answer = served.get(path, auth)
    assert (answer.status_code, answer.text) == (401, "Log in.\n")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "header", ["Basic", "Basic %%%", "Basic " + base64.b64encode(b"\xff:x").decode(), "Bearer a", "x" * 9000]
)
def test_a_login_that_is_none_is_refused_and_no_error(served: Served, header: str) -> None:
    answer = served.get("/", None, headers={"Authorization": header})
    assert answer.status_code == 401


def test_a_new_password_counts_at_once(served: Served) -> None:
    served.password.write_text("another")
    assert served.get("/").status_code == 401
    served.password.write_text(LOGIN[1])
    assert served.get("/").status_code == 200


def test_a_program_is_told_where_it_is_once_it_listens(served: Served) -> None:
    assert json.loads(served.told) == {"web": f"http://127.0.0.1:{served.port}"}


def test_health_needs_no_login_and_says_nothing_else(served: Served) -> None:
    assert served.get("/healthz", None).json() == {"healthy": True}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_done_there(served: Served, method: str) -> None:
    for path in ("/", "/recipes/site.html", "/nowhere", "/healthz"):
        answer = requests.request(method, f"http://127.0.0.1:{served.port}{path}", auth=LOGIN, timeout=ENOUGH)
        assert answer.status_code in (404, 405), path


@pytest.mark.parametrize("path", ["/", "/recipes/site.html", "/metrics", "/healthz", "/events", "/nowhere"])
def test_who_only_asks_for_the_head_is_told_what_there_is_and_is_not_kept(served: Served, path: str) -> None:
    answer = requests.head(f"http://127.0.0.1:{served.port}{path}", auth=LOGIN, timeout=ENOUGH)
    assert (answer.status_code, answer.content) == (404 if path == "/nowhere" else 200, b"")
    if path not in ("/events", "/nowhere"):
        assert answer.headers["Content-Type"] == served.get(path).headers["Content-Type"]


@pytest.mark.parametrize("path", ["/", "/nowhere", "/recipes/site.html", "/metrics", "/healthz"])
def test_every_answer_has_a_policy_that_lets_no_words_act(served: Served, path: str) -> None:
    headers = served.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert "Server" not in headers


@pytest.mark.parametrize(
    "path",
    ["/recipes/nobody.html", "/recipes/..%2f..%2fetc.html", "/badges/nobody.svg", "/logs/site/20260617T030000Z-site-bbbbbb",
     "/logs/site/..%2f..", "/logs/site/20260617T030000Z-site-bbbbbb/follow", "/logs/..%2fsite/x", "/%00"],
)  # fmt: skip
def test_what_is_not_there_is_not_found_and_tells_no_path(served: Served, path: str) -> None:
    answer = served.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


def test_pages_and_files_are_those_of_the_report(served: Served) -> None:
    run = served.mornings.run("site", MORNING - timedelta(hours=3), verdict="red", detail=HOSTILE)
    served.mornings.night(0, red("site", run=run.run, detail=HOSTILE))
    first = served.get("/").text
    assert "<script>alert" not in first
    assert '<script src="/live.js" defer>' in first
    assert served.get("/report.json").json()["recipes"][0]["standing"] == "red"
    assert "canonq_recipes_for_a_person 1.0" in served.get("/metrics").text
    page = served.get("/recipes/site.html").text
    (link,) = set(re.findall(r'href="(/logs/[^"]+)"', page))
    assert served.get(link).status_code == 200
    served.mornings.night(-1, idle("site"))
    assert "<b>0</b>" not in served.get("/").text
    assert served.get("/report.json").json()["recipes"][0]["standing"] != "red", "what is kept is not served when it is old"


def test_a_folder_whose_name_is_no_text_breaks_no_page(served: Served) -> None:
    folder = os.path.join(os.fsencode(served.mornings.place.folder), b"checkout/tests/caf\xe9")
    os.mkdir(folder)
    Path(os.fsdecode(folder), "recipe.toml").write_text("")
    try:
        assert "caf" in served.get("/").text
        assert len(served.get("/report.json").json()["recipes"]) == 2
    finally:
        shutil.rmtree(folder)


def events(served: Served, path: str) -> Iterator[str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=ENOUGH)
    login = base64.b64encode(":".join(LOGIN).encode()).decode()
    connection.request("GET", path, headers={"Authorization": f"Basic {login}"})
    answer = connection.getresponse()
    try:
        assert answer.status == 200
        assert (answer.headers["Content-Type"] or "").startswith("text/event-stream")
        for line in answer:
            yield line.decode().rstrip("\n")
    finally:
        answer.close()
        connection.close()


def test_an_open_page_is_told_when_something_has_changed(served: Served) -> None:
    heard = events(served, "/events")
    assert next(heard) == "event: changed", "it begins with what is there"
    threading.Timer(1, lambda: served.mornings.night(-2, idle("site"))).start()
    assert "event: changed" in heard
    heard.close()  # type: ignore[attr-defined]


def test_a_log_is_seen_as_it_grows_without_its_secrets_until_the_run_is_over(served: Served) -> None:
    world = served.mornings.world
    run = f"{stamp(MORNING)}-site-00abcd"
    folder = world.runs.make("site", run)
    work = world.work / run / "app"
    work.mkdir(parents=True)
    (work / "secrets.json").write_text('{"password": "s3cret-of-the-run"}')
    (folder / "functional").mkdir()
    log = folder / "functional" / "pytest.log"
    log.write_text("begun with s3cret-of-the-run\nhalf a line s3cret-of")
    heard = (line for line in events(served, f"/logs/site/{run}/follow") if line.startswith(("data: {", "event:")))
    first = next(heard)
    assert "begun with ***" in first
    assert "s3cret" not in first
    log.write_text("begun with s3cret-of-the-run\nhalf a line s3cret-of-the-run\nand \u202eon\n")
    second = next(heard)
    assert "half a line ***" in second
    assert "s3cret" not in second
    assert "202e" in second
    (folder / "run.json").write_text(served.mornings.run("site", MORNING).model_copy(update={"run": run}).model_dump_json())
    assert "event: over" in list(heard)


@pytest.mark.long
def test_pages_that_were_closed_are_not_served_any_more(served: Served) -> None:
    """Else each page that was ever open would cost something for ever."""
    for _ in range(3):
        heard = events(served, "/events")
        next(heard)
        heard.close()  # type: ignore[attr-defined]
    before = _ticks(served.process.pid)
    time.sleep(5)
    assert _ticks(served.process.pid) - before <= 5, "1 % of a processor"


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_it_stays_small(served: Served) -> None:
    for path in PAGES:
        if not path.endswith(("events", "follow")):
            served.get(path)
    (kib,) = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{served.process.pid}/status").read_text())
    assert int(kib) < 80 << 10


class Counted:
    """A function that counts how often it is asked."""

    def __init__(self, asked: Callable[..., Any]) -> None:
        self.asked, self.times = asked, 0

    def __call__(self, *given: Any) -> Any:
        self.times += 1
        return self.asked(*given)


def site(folder: Path) -> tuple[Site, Mornings]:
    """What is served, without a server."""
    mornings = Mornings(folder)
    mornings.enrol("site")
    return Site(mornings.world, WebSettings(password="x"), none_due, Redis), mornings


def test_fifty_open_pages_cost_one_report_for_each_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, mornings = site(tmp_path)
    looks, made = Counted(found.state), Counted(report_flow.report)
    monkeypatch.setattr(found, "_state", Shared(looks, found._thread))
    monkeypatch.setattr(report_flow, "report", made)

    async def pages() -> set[bytes]:
        return set(await asyncio.gather(*(found.page("index.html", found.first) for _ in range(50))))

    async def morning() -> None:
        (before,) = await pages()
        assert await pages() == {before}, "nothing has changed"
        assert made.times == 1
        mornings.night(0, idle("site"))
        (after,) = await pages()
        assert (made.times, after != before) == (2, True)
        assert 3 <= looks.times <= 6, "nor does each of them look at the disk"

    asyncio.run(morning())


def test_fifty_who_follow_a_run_read_its_logs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, mornings = site(tmp_path)
    run = mornings.run("site", MORNING).run
    log = mornings.place.folder / "state" / "runs" / "site" / run / "functional" / "pytest.log"
    log.parent.mkdir()
    log.write_text("passed\n")
    read = Counted(found.tail)
    monkeypatch.setattr(found, "tail", read)

    begun = time.monotonic()

    async def follow() -> Followed:
        async with found.following("site", run) as shared:
            return await shared.since(begun)

    async def all_of_them() -> list[Followed]:
        return await asyncio.gather(*(follow() for _ in range(50)))

    for told in asyncio.run(all_of_them()):
        assert told.over
        assert [text for _, text in told.logs.values()] == ["passed\n"]
    assert read.times == 1
    assert not found._followed, "nobody follows it any more"


def test_pages_that_are_kept_have_a_size_and_those_asked_for_last_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = site(tmp_path)
    monkeypatch.setattr(workers.site, "_MOST_KEPT", 50_000)

    async def visitor() -> None:
        noise = Counted(lambda: base64.b85encode(os.urandom(4_000)).decode())
        for number in range(40):
            newest = await found.page(f"recipes/{number}", noise)
            assert found.kept_bytes <= 50_000
        assert await found.page("recipes/39", noise) == newest
        assert await found.page("recipes/30", noise)
        assert noise.times == 40
        with pytest.raises(WrongUse):
            await found.page("recipes/none", functools.partial(found.recipe, "none"))
        assert not found._turns, "nothing stays of a name that nobody asks for"

    asyncio.run(visitor())


def test_pages_hear_of_a_change_only_when_the_last_one_is_paid_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are open and however dear a page is, all of it together takes a fiftieth of a processor."""
    found, mornings = site(tmp_path)
    clock = SimpleNamespace(now=1000.0, spent=1.0)
    for module in (workers.site, workers.looks):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now, process_time=lambda: clock.spent))

    async def morning() -> None:
        before = await found.looked()
        clock.spent += 0.2  # what those who were told have asked for
        mornings.night(0, idle("site"))
        clock.now += 9.9
        assert await found.looked() == before
        clock.now += 0.2
        assert await found.looked() != before

    asyncio.run(morning())


@pytest.mark.parametrize("accepted", ["gzip, deflate", "identity"])
def test_a_page_is_sent_as_the_browser_takes_it(served: Served, accepted: str) -> None:
    answer = served.get("/", headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == ("gzip" if "gzip" in accepted else None)
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.text.lower().startswith("<!doctype html>")


def test_without_a_password_there_is_no_page(tmp_path: Path) -> None:
    for settings in (None, WebSettings(), WebSettings(password_file=tmp_path / "none")):
        with pytest.raises(WrongConfiguration):
            web.serve(Settings(state=tmp_path, web=settings))


def test_a_place_that_is_taken_is_told(tmp_path: Path) -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = WebSettings(listen=f"127.0.0.1:{taken.getsockname()[1]}", password="x")
        with pytest.raises(HostProblem, match="cannot be listened on"):
            web.serve(Settings(state=tmp_path, web=told))


@pytest.mark.long
def test_the_page_is_on_loopback_unless_somebody_says_otherwise() -> None:
    assert WebSettings().listen.startswith("127.0.0.1:")
