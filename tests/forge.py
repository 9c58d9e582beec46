"""A stand-in for a forge: Gitea's API v1 as it is published, and its git over smart HTTP, on 127.0.0.1, with faults to order.

It keeps what it is told in plain values, so that a test sees what became of it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from git.repo import Repo

TOKEN = "t0ken-of-the-forge"
_REPO = re.compile(r"/api/v1/repos/([^/]+/[^/]+)")
_PULLS = re.compile(r"/api/v1/repos/([^/]+/[^/]+)/pulls")
_PULL = re.compile(r"/api/v1/repos/([^/]+/[^/]+)/pulls/([0-9]+)")
_COMMENTS = re.compile(r"/api/v1/repos/([^/]+/[^/]+)/issues/([0-9]+)/comments")
_STATUSES = re.compile(r"/api/v1/repos/([^/]+/[^/]+)/statuses/([0-9a-f]{40})")

Fault = Callable[["_Answers"], None]


@dataclass
class Forge:
    """The state of the stand-in."""

    folder: Path
    largest_page: int = 50
    pulls: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    comments: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    statuses: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)  #: "GET /api/v1/..." of every question, in order
    tokens: list[str] = field(default_factory=list)  #: the Authorization headers that came
    faults: list[tuple[str, Fault]] = field(default_factory=list)  #: (pattern of the question, what happens), once each
    says_link: bool = True
    no_pulls: set[str] = field(default_factory=set)  #: repositories whose pull requests are switched off
    archived: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)  #: those that the forge itself copies from elsewhere
    renamed: dict[str, str] = field(default_factory=dict)  #: what they were called -> what they are called
    unnoticed: int = 0  #: how many more questions are answered as if nothing had been pushed yet
    open_to_all: bool = False  #: whether git may be pushed to without a token
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)  #: set when it is gone

    def repo(self, name: str) -> Repo:
        """A bare repository of the forge, made when it is missing."""
        folder = self.folder / f"{name}.git"
        if not folder.is_dir():
            Repo.init(folder, bare=True, initial_branch="main").git.config("http.receivepack", "true")
        return Repo(folder)

    def begin(self, name: str) -> str:
        """Have a first commit in a repository."""
        repo = self.repo(name)
        commit = str(repo.git.commit_tree(repo.git.hash_object("-t", "tree", "-w", "/dev/null"), "-m", "first"))
        repo.git.update_ref("refs/heads/main", commit)
        return commit

    def empty(self, name: str) -> bool:
        """Whether nothing was pushed yet, as far as the forge has noticed."""
        if self.unnoticed > 0:
            self.unnoticed -= 1
            return True
        return not self.repo(name).references

    def address(self, name: str) -> str:
        """Where its git is."""
        return f"{self.url}/{name}.git"

    def open_pull(self, name: str, head: str, *, base: str = "main", title: str = "A change") -> int:
        """Open a pull request for a commit that is in the repository."""
        pulls = self.pulls.setdefault(name, {})
        number = len(pulls) + 1
        self.repo(name).git.update_ref(f"refs/pull/{number}/head", head)
        pulls[number] = {"number": number, "state": "open", "title": title, "head": {"sha": head}, "base": {"ref": base}}
        return number

    def order(self, pattern: str, *faults: Fault) -> None:
        """Let the next questions that match go wrong, one after the other."""
        self.faults += [(pattern, fault) for fault in faults]


def status(code: int, **headers: str) -> Fault:
    """An answer with a status and nothing behind it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answers: answers.say(code, b'{"message": "as ordered"}', named)


def truncated(answers: _Answers) -> None:
    """Half of a JSON list, as whole as HTTP can tell."""
    answers.say(200, b'[{"number": 1, "head"')


def cut_off(answers: _Answers) -> None:
    """Fewer bytes than were promised."""
    answers.send_response(200)
    answers.send_header("Content-Length", "1000")
    answers.end_headers()
    answers.wfile.write(b"[")
    answers.close_connection = True


def hang_up(answers: _Answers) -> None:
    """No answer at all."""
    answers.close_connection = True


def done_but(code: int) -> Fault:
    """The forge does what it was asked for, and then says that it failed."""

    def answer(answers: _Answers) -> None:
        answers.silent = True
        answers.route()
        answers.silent = False
        answers.say(code, b"{}")

    return answer


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    silent = False
    body = b""

    @property
    def forge(self) -> Forge:
        return self.server.forge  # type: ignore[attr-defined,no-any-return]

    def do_GET(self) -> None:
        self._take(b"")

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding", "") == "chunked":  # a large push
            self._take(b"".join(self._chunks()))
        else:
            self._take(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def do_PATCH(self) -> None:
        self.do_POST()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _take(self, body: bytes) -> None:
        self.body = body
        question = f"{self.command} {self.path}"
        self.forge.asked.append(question)
        self.forge.tokens.append(self.headers.get("Authorization", ""))
        for number, (pattern, fault) in enumerate(self.forge.faults):
            if re.search(pattern, question):
                del self.forge.faults[number]
                fault(self)
                return
        self.route()

    def route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if not path.startswith("/api/"):
            self._git()
            return
        if self.headers.get("Authorization") != f"token {TOKEN}":
            self.say(401, b'{"message": "token is required"}')
        elif path == "/api/v1/version":
            self._json(200, {"version": "1.24.2"})
        elif (found := re.match(r"/api/v1/repos/([^/]+/[^/]+)", path)) and found[1] in self.forge.renamed:
            self.say(307, b"", {"Location": self.path.replace(found[1], self.forge.renamed[found[1]], 1)})
        elif (found := _REPO.fullmatch(path)) and (self.forge.folder / f"{found[1]}.git").is_dir():
            self._json(200, self._repo(found[1]))
        elif (found := _PULLS.fullmatch(path)) and not self._has_pulls(found[1]):
            self.say(404, json.dumps({"errors": None, "message": "not found", "url": f"{self.forge.url}/api/swagger"}).encode())
        elif found and self.command == "GET":
            wanted = parse_qs(urlsplit(self.path).query).get("state", ["open"])[0]
            self._page([one for one in self.forge.pulls.get(found[1], {}).values() if wanted in ("all", one["state"])])
        elif (found := _PULL.fullmatch(path)) and self.command == "PATCH":
            pull = self.forge.pulls[found[1]][int(found[2])]
            pull |= json.loads(self.body)
            self._json(201, pull)
        elif (found := _COMMENTS.fullmatch(path)) and self.command == "GET":
            self._page([{"body": text} for text in self.forge.comments.get((found[1], int(found[2])), [])])
        elif (found := _COMMENTS.fullmatch(path)) and self.command == "POST":
            text = json.loads(self.body)["body"]
            self.forge.comments.setdefault((found[1], int(found[2])), []).append(text)
            self._json(201, {"body": text})
        elif (found := _STATUSES.fullmatch(path)) and self.command == "POST":
            self.forge.statuses.append((found[1], found[2], json.loads(self.body)))
            self._json(201, {})
        else:
            self.say(404, b'{"message": "Not Found"}')

    def _repo(self, name: str) -> dict[str, Any]:
        return {
            "full_name": name,
            "empty": self.forge.empty(name),
            "archived": name in self.forge.archived,
            "mirror": name in self.forge.copied,
            "has_pull_requests": name not in self.forge.no_pulls,
            "permissions": {"admin": False, "push": True, "pull": True},
        }

    def _has_pulls(self, name: str) -> bool:
        return name not in self.forge.no_pulls | self.forge.copied and not self.forge.empty(name)

    def _page(self, items: list[Any]) -> None:
        query = parse_qs(urlsplit(self.path).query)
        size = min(int(query.get("limit", ["30"])[0]), self.forge.largest_page)
        page = int(query.get("page", ["1"])[0])
        last = max(1, -(-len(items) // size))
        headers = {"X-Total-Count": str(len(items))}
        if self.forge.says_link and last > 1:
            links = [f'<{self.forge.url}/x?page={page + 1}>; rel="next"'] if page < last else []
            headers["Link"] = ", ".join([*links, f'<{self.forge.url}/x?page={last}>; rel="last"'])
        self._json(200, items[(page - 1) * size : page * size], headers)

    def _json(self, code: int, value: Any, headers: dict[str, str] | None = None) -> None:
        self.say(code, json.dumps(value).encode(), headers)

    def say(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        if self.silent:
            return
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _git(self) -> None:
        """Git's own smart HTTP; pushing needs the token as password, as on a forge."""
        name = self.path.partition(".git/")[0].strip("/")
        if name in self.forge.renamed:
            self.say(307, b"", {"Location": self.path.replace(name, self.forge.renamed[name], 1)})
            return
        pushes = "git-receive-pack" in self.path
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        password = base64.b64decode(login).decode().partition(":")[2] if kind == "Basic" else ""
        if pushes and password != TOKEN and not self.forge.open_to_all:
            self.say(401, b"", {"WWW-Authenticate": 'Basic realm="forge"'})
            return
        if pushes and name in self.forge.archived:
            self.say(
                403,
                b"This repo is archived. You can view files and clone it, but cannot push or open issues/pull-requests.",
                {"Content-Type": "text/plain; charset=UTF-8"},
            )
            return
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(self.forge.folder), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_USER": "canonq",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(self.body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        said = subprocess.run(["git", "http-backend"], input=self.body, env=env, capture_output=True, check=True).stdout
        head, _, rest = said.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.say(int(lines.pop("Status", "200").split()[0]), rest, lines)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        del format, args


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, as those do that are given up, is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(folder: Path) -> Iterator[Forge]:
    """A forge with its repositories below `folder`, for as long as the block lasts."""
    forge = Forge(folder)
    server = _Server(("127.0.0.1", 0), _Answers)
    server.forge = forge  # type: ignore[attr-defined]
    forge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield forge
    finally:
        forge.over.set()
        server.shutdown()
        server.server_close()


def when(event: threading.Event) -> Fault:
    """The right answer, not before something has happened."""

    def answer(answers: _Answers) -> None:
        event.wait(600)
        answers.route()

    return answer


def never() -> Fault:
    """No answer, for as long as the forge is there."""

    def answer(answers: _Answers) -> None:
        answers.forge.over.wait()

    return answer
