"""Registries of images, asked for a manifest without a login: a status says without words what Docker tells in prose.

No credential is ever sent: what an anonymous token is needed for is asked for without one. Nothing that a registry says
is followed to another host but the address where it hands out such tokens, as Docker follows it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import time
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from canonq import __version__
from canonq.adapters.files import table_in
from canonq.adapters.lazily import http, requests
from canonq.core.jsontext import json_of
from canonq.core.pulling import Asked
from canonq.core.stack.images import HUB, ImageName

_HUB_ADDRESS = "registry-1.docker.io"
_HUB_LOGIN = "https://index.docker.io/v1/"
_LONGEST = 20.0  #: seconds for one question, tokens and all
_EACH = 8.0  #: seconds for one connection or read
_LARGEST = 1 << 18  #: bytes of an answer that are read
_MANIFESTS = ", ".join((
    "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
))  # fmt: skip
_PARAMETER = re.compile(r'(?<!\w)(\w++)="([^"]*)"')
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


def ask(name: ImageName, insecure: Collection[str] = ()) -> Asked:
    """Ask for an image's manifest. Never fails: what cannot be asked is "silent".

    `insecure`: networks whose registries Docker also asks without TLS, as it says itself (127.0.0.0/8 as a rule).
    """
    scheme = "http" if is_insecure(name.registry, insecure) else "https"
    address = _HUB_ADDRESS if name.registry == HUB else name.registry
    with http.Session() as session:
        session.trust_env = False  # a .netrc would send a login
        question = _Question(session, f"{scheme}://{address}/v2/{name.repository}/manifests/{name.wanted}", name.repository)
        try:
            return question.answer()
        except (requests.RequestException, ValueError, OSError) as error:
            return Asked("silent", type(error).__name__)


class _Question:
    """One manifest that is asked for."""

    def __init__(self, session: http.Session, url: str, repository: str) -> None:
        self._session, self._url, self._repository = session, url, repository
        self._ends = time.monotonic() + _LONGEST

    def answer(self) -> Asked:
        answer, _ = self._send("HEAD", self._url)
        headers: dict[str, str] = {}
        if answer.status_code == 401:
            token = self._token(answer)
            if isinstance(token, Asked):
                return token
            headers = {"Authorization": f"Bearer {token}"}
            answer, _ = self._send("HEAD", self._url, headers)
        if answer.status_code not in (401, 403, 404):
            return _meant(answer, b"")
        answer, body = self._send("GET", self._url, headers)  # whose words are they? The answer to HEAD has none
        return _meant(answer, body, with_token=bool(headers))

    def _token(self, answer: requests.Response) -> str | Asked:
        """An anonymous token, or what the answer is without one."""
        scheme, _, rest = answer.headers.get("WWW-Authenticate", "").partition(" ")
        said = dict(_PARAMETER.findall(rest))
        realm = urlsplit(said.get("realm", ""))
        plain = self._url.startswith("http://")
        if scheme.lower() != "bearer" or not realm.hostname or realm.username or realm.scheme not in ("https", "http" * plain):
            return Asked("login", "it wants a login")
        query = urlencode({"service": said.get("service", ""), "scope": f"repository:{self._repository}:pull"})
        answer, body = self._send("GET", realm._replace(query=query, fragment="").geturl())
        if answer.status_code != 200:
            return _meant(answer, body)
        value = json_of(body)
        token = value.get("token") or value.get("access_token") if isinstance(value, dict) else None
        return token if isinstance(token, str) and _TOKEN.fullmatch(token) else Asked("silent", "it gives no token")

    def _send(self, method: str, url: str, headers: dict[str, str] | None = None) -> tuple[requests.Response, bytes]:
        left = min(_EACH, self._ends - time.monotonic())
        if left <= 0:
            raise requests.Timeout
        with http.within(self._session, min(self._ends, time.monotonic() + left)), self._session.request(
            method, url, timeout=left, stream=True, allow_redirects=False,
            proxies=requests.utils.get_environ_proxies(url),
            headers={"Accept": _MANIFESTS, "User-Agent": f"canonq/{__version__}", **(headers or {})},
        ) as answer:  # fmt: skip
            return answer, http.read_within(answer, ends=self._ends, largest=_LARGEST) if method == "GET" else b""


def _meant(answer: requests.Response, body: bytes, *, with_token: bool = False) -> Asked:
    """What an answer means. A registry names what it does not know or show; a bare 403 or 404 comes from something else that
    answers in its place."""
    status, words = answer.status_code, _own_words(body)
    told = f"status {status}" + (f", {words}" if words else "")
    match status:
        case 200:
            return Asked("there")
        case 429:
            return Asked("limited", told, _left_alone(answer))
        case 404 if words:
            return Asked("missing", told)
        case 404:
            return Asked("trouble", "404, in words that no registry uses; is it down behind a proxy?")
        case 401 | 403 if words and (with_token or status == 403):
            return Asked("denied", told)
        case 401:
            return Asked("login", told)
        case _ if status >= 500:
            return Asked("trouble", told, _left_alone(answer))
    return Asked("silent", told)


def _own_words(body: bytes) -> str:
    """The code of a registry's error, such as MANIFEST_UNKNOWN; empty for what is no registry's answer."""
    with contextlib.suppress(ValueError):
        value = json_of(body)
        errors = value.get("errors") if isinstance(value, dict) else None
        if isinstance(errors, list) and errors and isinstance(errors[0], dict) and errors[0].get("code"):
            return ascii(str(errors[0]["code"]))[1:-1][:40]
    return ""


def _left_alone(answer: requests.Response) -> float | None:
    """Seconds that it asks to be left alone."""
    if wait := http.retry_after(answer):
        return wait
    for name in ("X-RateLimit-Reset", "RateLimit-Reset"):
        with contextlib.suppress(ValueError):
            seconds = float(answer.headers.get(name, ""))
            seconds -= time.time() if seconds > 1e9 else 0.0  # a time, or a while
            return seconds if 0 < seconds < 1e6 else None
    return None


def is_insecure(registry: str, networks: Collection[str]) -> bool:
    """Whether Docker asks a registry without TLS too."""
    host = urlsplit(f"//{registry}").hostname or ""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        return any(address in ipaddress.ip_network(network) for network in networks)
    return registry in networks


def has_login(registry: str) -> bool:
    """Whether this user's Docker has a login for a registry; the login itself is not looked at."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path(os.environ.get("HOME", "/")) / ".docker")
    value = table_in(folder / "config.json")
    wanted = (
        {_HUB_LOGIN, "index.docker.io", HUB} if registry == HUB else {registry, f"https://{registry}", f"https://{registry}/"}
    )
    listed = [value.get(key) for key in ("auths", "credHelpers")]
    return any(wanted & set(names) for names in listed if isinstance(names, dict))
