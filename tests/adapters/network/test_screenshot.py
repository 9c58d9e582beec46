"""Pictures: of the app and nothing else, whatever the page or what stands in the browser's place does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from canonq.adapters.network import screenshot
from canonq.adapters.network.screenshot import browser, take_picture
from tests import memory

PNG = "printf '\\211PNG\\r\\n\\032\\nrest'"


@contextmanager
def serving(page: str) -> Iterator[tuple[str, list[str]]]:
    """A server on 127.0.0.1; its host:port, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.headers['Host']}{self.path}")
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            del format, args

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def in_its_place(folder: Path, script: str) -> str:
    path = folder / "chromium"
    path.write_text(f"#!/bin/sh\nfor o; do case $o in --screenshot=*) out=${{o#*=}};; esac; done\n{script}\n")
    path.chmod(0o755)
    memory.open_to_others(folder)  # nobody runs it
    return str(path)


@pytest.mark.parametrize(
    ("script", "kept"),
    [
        (f"{PNG} > $out", True),
        ("echo text > $out", False),
        ("ln -s /etc/passwd $out", False),
        ("mkfifo $out", False),
        ("mkdir $out", False),
        ("exit 3", False),
        (f"{PNG} > $out; truncate -s 9M $out", False),
    ],
    ids=["a picture", "text", "a link", "a pipe", "a folder", "nothing", "too large"],
)
def test_only_a_picture_is_taken_for_one(tmp_path: Path, script: str, kept: bool) -> None:
    program = in_its_place(tmp_path, script)
    trouble = take_picture(program, "http://app.test/", "127.0.0.1:1", tmp_path / "kept.png")
    assert (trouble is None) is kept
    assert (tmp_path / "kept.png").exists() is kept


def test_a_browser_that_hangs_is_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screenshot, "_LIMIT", 0.5)
    trouble = take_picture(in_its_place(tmp_path, "sleep 600"), "http://app.test/", "127.0.0.1:1", tmp_path / "kept.png")
    assert trouble is not None


@pytest.mark.long
def test_a_browser_sees_the_app_under_its_own_name_and_nothing_else_of_this_host(tmp_path: Path) -> None:
    program = browser()
    if program is None:
        pytest.skip("NOT TRIED with a real browser: there is no Chromium here (Debian: chromium-headless-shell)")
    with serving("secret") as (other, seen):
        page = "".join(f'<img src="http://{host}/x">' for host in (other, other.replace("127.0.0.1", "localhost")))
        with serving(f"<h1>Hello</h1>{page}<script>fetch('http://{other}/y',{{mode:'no-cors'}})</script>") as (app, asked):
            assert take_picture(program, "http://app.canonq.test/", app, tmp_path / "kept.png") is None
    assert "app.canonq.test/" in asked
    assert seen == []
    assert (tmp_path / "kept.png").stat().st_size > 1000
