"""A Gitea or Forgejo over its API v1: pull requests of mirrors, comments, commit statuses.

The token comes from a file and goes to the forge's own origin only, whatever a redirect says.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
)

from canonq import __version__
from canonq.adapters.network.http import Session, read_within, retry_after, why, within
from canonq.core.errors import ForgeProblem
from canonq.core.jsontext import json_of, table_of
from canonq.core.names import COMMIT, shown
from canonq.core.upstream.addresses import forge_repo
from canonq.core.upstream.pulls import Hosted, Pull, StatusState
from canonq.settings import secret_in

CONTEXT = "canonq"
_PAGE = 50
_MOST_PAGES = 200
_MOST_BYTES = 32 << 20
_MOST_REDIRECTS = 3
_MOST_ATTEMPTS = 6
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class _Passing(Exception):
    """A failure that may be over in a moment. `wait`: seconds that the forge asked for."""

    def __init__(self, what: str, wait: float = 0.0, *, maybe_done: bool = True) -> None:
        super().__init__(what)
        self.wait = wait
        self.maybe_done = maybe_done  #: whether the forge may have done what it was asked for all the same


class HttpForge:
    """Forge (see ports) at a URL such as https://git.example.org."""

    def __init__(
        self,
        url: str,
        token_file: Path | None,
        *,
        ca_file: Path | None = None,
        total: float = 120.0,
        dry_run: bool = False,
        backoff: float = 0.5,
    ) -> None:
        """`total`: seconds for one question with all its retries. `dry_run`: whatever would change something is only told."""
        self._url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._total = total
        self.dry_run = dry_run
        self._backoff = backoff
        self._session = Session()

    def repo_of(self, url: str) -> str | None:
        """See ports.Forge.repo_of."""
        return forge_repo(url, self._url)

    def version(self) -> str:
        """See ports.Forge.version."""
        return str(dict(self._json(self._ask("GET", "version"))).get("version", "unknown"))

    def hosted(self, repo: str) -> Hosted:
        """See ports.Forge.hosted."""
        found = self._json(self._ask("GET", f"repos/{_path(repo)}"))
        if not isinstance(found, Mapping) or not isinstance(found.get("full_name"), str):
            raise self._strange(f"{repo} is not a repository with a name")
        return Hosted(
            empty=found.get("empty") is True,
            # A forge that does not say has them.
            pulls=found.get("has_pull_requests") is not False,
            archived=found.get("archived") is True,
            copies=found.get("mirror") is True,
        )

    def open_pulls(self, repo: str) -> list[Pull]:
        """See ports.Forge.open_pulls."""
        found = []
        for item in self._pages(f"repos/{_path(repo)}/pulls", {"state": "open"}):
            try:
                number, head, base = int(item["number"]), str(item["head"]["sha"]), str(item["base"]["ref"])
            except (KeyError, TypeError, ValueError) as error:
                raise self._strange(f"a pull request of {repo} without number, head or base ({error!r})") from error
            # The head is gone when its branch was deleted: there is nothing to compare.
            if COMMIT.fullmatch(head) and item.get("state", "open") == "open":
                found.append(Pull(number, head, base, str(item.get("title", ""))))
        return found

    def comment_once(self, repo: str, number: int, mark: str, text: str) -> bool:
        """See ports.Forge.comment_once."""
        where = f"repos/{_path(repo)}/issues/{number}/comments"

        def there() -> bool:
            return any(mark in str(comment.get("body", "")) for comment in self._pages(where, {}))

        if there():
            return False
        self._ask("POST", where, body={"body": text}, done_already=there)
        return True

    def close(self, repo: str, number: int) -> None:
        """See ports.Forge.close."""
        self._ask("PATCH", f"repos/{_path(repo)}/pulls/{number}", body={"state": "closed"})

    def set_status(self, repo: str, commit: str, state: StatusState, description: str, *, quick: bool = False) -> None:
        """See ports.Forge.set_status. Setting the same twice shows the same."""
        if not COMMIT.fullmatch(commit):
            raise ValueError(commit)
        body = {"context": f"{CONTEXT}/quick" if quick else CONTEXT, "state": state, "description": description}
        self._ask("POST", f"repos/{_path(repo)}/statuses/{commit}", body=body)

    # -- asking -------------------------------------------------------------------------------------------------

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        """All items of a list. `Link` says whether there is more; a forge that does not say is asked until a page is empty."""
        seen = 0
        for page in range(1, _MOST_PAGES + 1):
            answer = self._ask("GET", path, query={**query, "limit": str(_PAGE), "page": str(page)})
            items = self._json(answer)
            if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
                raise self._strange(f"{path} is not a list of objects")
            yield from items
            seen += len(items)
            total = answer.headers.get("X-Total-Count", "")
            if not items or ("next" not in answer.links and ("Link" in answer.headers or total == str(seen))):
                return
        raise self._strange(f"{path} has more than {_MOST_PAGES} pages")

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None, done_already: Any = None
    ) -> requests.Response:
        """One question, asked again while its failure may pass, within the total limit.

        `done_already` tells, after a failure that may have come too late, whether the forge did it all the same.
        """
        url = f"{self._url}/api/v1/{path}"
        asked = Retrying(
            retry=retry_if_exception_type(_Passing),
            stop=stop_after_attempt(_MOST_ATTEMPTS) | stop_before_delay(self._total),
            wait=self._pause,
            reraise=True,
        )
        ends = time.monotonic() + self._total
        try:
            for attempt in asked:
                with attempt:
                    try:
                        return self._once(method, url, query, body, ends)
                    except _Passing as passing:
                        if passing.maybe_done and done_already is not None and done_already():
                            return requests.Response()
                        raise
        except _Passing as error:
            raise ForgeProblem(
                f"The forge {self._url} did not answer {method} {path}: {error}.",
                mend="look at the forge and the network; the next sync tries again.",
                code="forge-unreachable",
            ) from error
        raise AssertionError("tenacity ends with a value or an error")

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        wanted = error.wait if isinstance(error, _Passing) else 0.0
        return max(wanted, wait_exponential_jitter(multiplier=self._backoff, max=20, jitter=self._backoff)(state))

    def _once(
        self, method: str, url: str, query: Mapping[str, str] | None, body: Any, ends: float, redirects: int = 0
    ) -> requests.Response:
        try:
            with within(self._session, ends):
                answer = self._session.request(
                    method,
                    url,
                    params=query,
                    json=body,
                    headers=self._headers(),
                    timeout=max(0.1, min(30.0, ends - time.monotonic())),
                    # Of its own accord the library would follow to other hosts.
                    allow_redirects=False,
                    verify=str(self._ca_file) if self._ca_file else True,
                    stream=True,
                    # Without one, the library would look for a password of this host in ~/.netrc and prefer it.
                    auth=_no_other_credential,
                )
                with answer:
                    answer._content = read_within(answer, ends=ends, largest=_MOST_BYTES)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            if isinstance(error, requests.exceptions.SSLError):
                raise ForgeProblem(
                    f"The forge {self._url} has a certificate that is not trusted: {why(error)}.",
                    mend="set [forge] ca_file to the authority that signed it.",
                    code="forge-certificate",
                ) from error
            raise _Passing(why(error), maybe_done=not isinstance(error, requests.exceptions.ConnectTimeout)) from error
        except requests.RequestException as error:
            raise ForgeProblem(f"The forge {self._url} cannot be asked: {why(error)}.", mend="correct [forge] url.") from error
        if answer.is_redirect:
            return self._redirected(method, url, query, body, ends, redirects, answer)
        return self._judged(method, url, answer)

    def _redirected(
        self,
        method: str,
        url: str,
        query: Mapping[str, str] | None,
        body: Any,
        ends: float,
        redirects: int,
        answer: requests.Response,
    ) -> requests.Response:
        target = urljoin(answer.url, answer.headers.get("Location", ""))
        same = urlsplit(target)[:2] == urlsplit(self._url)[:2]
        if not same or redirects >= _MOST_REDIRECTS or (method != "GET" and answer.status_code not in (307, 308)):
            raise ForgeProblem(
                f"The forge {self._url} sends canonq on from {urlsplit(url).path} to {shown(target, 120)}. "
                "The token was not sent there.",
                mend="set [forge] url to where the forge is, and the mirror's address to what the repository is called now.",
                code="forge-redirect",
            )
        # The target names its own query.
        return self._once(method, target, None if urlsplit(target).query else query, body, ends, redirects + 1)

    def _judged(self, method: str, url: str, answer: requests.Response) -> requests.Response:
        status, where = answer.status_code, f"{method} {urlsplit(url).path}"
        if status in _PASSING:
            raise _Passing(f"status {status}", retry_after(answer), maybe_done=status >= 500)
        if status in (401, 403):
            raise ForgeProblem(
                f"The forge {self._url} refused {where} with {status}: {_message(answer)}",
                mend="give [forge] token_file a token that may read and write repositories and issues.",
                code="forge-denied",
            )
        if status == 404:
            raise ForgeProblem(
                f"The forge {self._url} knows nothing of {where}: {_message(answer)}",
                mend="correct the mirror's address in recipe.toml, or let the token's user see the repository.",
                code="forge-not-found",
            )
        if not answer.ok:
            raise ForgeProblem(
                f"The forge {self._url} answered {where} with {status}: {_message(answer)}", mend="look at its log."
            )
        if method == "GET":
            self._json(answer)  # half an answer is no answer
        return answer

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": f"canonq/{__version__}"}
        if self._token_file is not None:
            headers["Authorization"] = f"token {secret_in(self._token_file, '[forge] token_file')}"
        return headers

    def _json(self, answer: requests.Response) -> Any:
        try:
            return json_of(answer.content)
        except ValueError as error:
            raise _Passing(f"its answer is not whole JSON: {error}") from error

    def _strange(self, what: str) -> ForgeProblem:
        return ForgeProblem(
            f"The forge {self._url} answered something strange: {what}.", mend="is it a Gitea or Forgejo?", code="forge-strange"
        )


def _no_other_credential(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _path(repo: str) -> str:
    return quote(repo, safe="/")


def _message(answer: requests.Response) -> str:
    try:
        said = str(table_of(answer.content).get("message", ""))
    except (ValueError, AttributeError):
        said = answer.text
    return shown(" ".join(said.split()), 200) + "."
