"""A Redis that sentinels know the address of: `sentinel://[:password@]host:port,host:port/0?master=NAME`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

SCHEME = "sentinel"
_PORT = 26379
_SHAPE = "is not the address of sentinels: write sentinel://[:password@]host:port,host:port/0?master=NAME"


@dataclass(frozen=True)
class Sentinels:
    """Who is asked which of several Redis is the master, and how that one is spoken with."""

    places: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    user: str | None = None
    password: str | None = None

    @property
    def for_celery(self) -> str:
        """The same as kombu and Celery's backend read it: an address for each, without the name of the master."""
        login = f"{quote(self.user or '', safe='')}:{quote(self.password, safe='')}@" if self.password is not None else ""
        return ";".join(f"{SCHEME}://{login}{_shown(host)}:{port}/{self.database}" for host, port in self.places)


def is_of_sentinels(url: str) -> bool:
    """Whether a Redis URL names sentinels."""
    return url.startswith(f"{SCHEME}://")


def sentinels_in(url: str) -> Sentinels:
    """What such a URL says. ValueError, which does not show it, for one that is none."""
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    asked = parse_qs(parts.query, keep_blank_values=True)
    database, names = parts.path.removeprefix("/") or "0", asked.pop("master", [])
    if parts.scheme != SCHEME or asked or parts.fragment or len(names) != 1 or not names[0] or not database.isdecimal():
        raise ValueError(_SHAPE)
    user, _, password = login.partition(":")
    return Sentinels(
        tuple(_place(host) for host in hosts.split(",")), names[0], int(database),
        unquote(user) or None, unquote(password) if at and password else None,
    )  # fmt: skip


def _place(text: str) -> tuple[str, int]:
    try:
        found = urlsplit(f"//{text}")
        host, port = found.hostname, found.port
    except ValueError:
        raise ValueError(_SHAPE) from None
    if not host or found.path or "@" in text or port == 0:
        raise ValueError(_SHAPE)
    return host, port or _PORT


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
