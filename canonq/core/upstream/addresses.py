"""Addresses of git repositories: which canonq uses, whose host they are on, whether two name the same repository. Pure."""

from __future__ import annotations

import posixpath
import re
from urllib.parse import SplitResult, unquote, urlsplit

from canonq.core.errors import EnrolmentInvalid
from canonq.core.names import shown

_URL = re.compile(r"(?P<scheme>https?|ssh|git|file)://(?P<rest>[^\s]+)")
_LIKE_SCP = re.compile(r"(?P<user>[A-Za-z0-9._][A-Za-z0-9._-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^\s:-][^\s]*)")
_PATH = re.compile(r"/[^\s]*")
_HOST = re.compile(r"(?:[^@/\s]*@)?(?:[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_UNUSABLE = {"upstream": "bad-upstream", "mirror": "bad-mirror"}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_MEND = "give an https, ssh, git or file URL, user@host:path, or a path that begins with '/' or './'."


def masked(text: str) -> str:
    """A text without users and passwords of the URLs in it, for messages."""
    return _CREDENTIALS.sub("***@", text)


def address(text: str, checkout: str, *, key: str = "upstream") -> str:
    """What git is given for `upstream` or `mirror`: a URL, an absolute path, or a path below the checkout.

    EnrolmentInvalid for `ext::` and anything else that could make git start a program, and for an address that
    carries a password or token: addresses are shown and logged, and git passes them to other programs.
    """
    if not text.isprintable():  # control characters, what is no text, ends of lines of any kind
        raise EnrolmentInvalid(f"{key} = {shown(masked(text))} has characters no address has.", mend=_MEND, code=_UNUSABLE[key])
    if text.startswith(("./", "../")):
        return posixpath.normpath(posixpath.join(checkout, text))
    if (problem := _problem(text)) is not None:
        why, mend, code = problem
        raise EnrolmentInvalid(f"{key} = {shown(masked(text))} {why}.", mend=mend, code=code or _UNUSABLE[key])
    return text


def _problem(text: str) -> tuple[str, str, str] | None:
    url = _URL.fullmatch(text)
    if url is not None:
        authority = url["rest"].partition("/")[0]
        if not (_HOST.fullmatch(authority) or (url["scheme"] == "file" and not authority)) or not _can_be_split(text):
            return _unusable()
        user = authority.rpartition("@")[0]
        if user and (":" in user or url["scheme"] != "ssh"):
            return (
                "carries a credential, which would be seen in logs and process lists",
                "write the address without it, and give the credential in a file: docs/configuration.md, [git].",
                "credential-in-address",
            )
        return None
    return None if _LIKE_SCP.fullmatch(text) or _PATH.fullmatch(text) else _unusable()


def _can_be_split(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:  # a port or an IPv6 address that is none
        return False


def _unusable() -> tuple[str, str, str]:
    return "is not an address canonq uses", _MEND, ""


def same_host(url: str, there: str) -> bool:
    """Whether a web address leads to the host and port of another; from HTTP to HTTPS, too."""
    one, other = urlsplit(url), urlsplit(there)
    where, whither = (one.scheme, one.hostname, one.port), (other.scheme, other.hostname, other.port)
    return where == whither or (where == ("http", other.hostname, None) and whither == ("https", one.hostname, None))


def _split(url: str) -> SplitResult:
    """The parts of an address. A path has none: what would be a host in `//host/path` is a folder of this machine."""
    return SplitResult("", "", url, "", "") if url.startswith("/") else urlsplit(url)


def host_of(url: str) -> str:
    """The host (with its port, if one is named) that an address is on; empty for this machine."""
    if like := _LIKE_SCP.fullmatch(url):
        return like["host"].lower()
    parts = _split(url)
    return "" if parts.scheme in ("", "file") else parts.netloc.rpartition("@")[2].lower()


def identity(url: str) -> tuple[str, str]:
    """(host, path) without user, port, scheme and `.git`: equal for the addresses by which a forge offers one repository."""
    if like := _LIKE_SCP.fullmatch(url):
        host, path = like["host"], like["path"]
    else:
        parts = _split(url)
        host, path = parts.hostname or "", unquote(parts.path)
    return host.lower(), path.strip("/").removesuffix(".git").lower()


def moved(which: str, url: str, moved_to: str | None) -> str | None:
    """What a person should know of an address that its host sends on to another; None when it is another spelling of the same."""
    if moved_to is None or identity(moved_to) == identity(url):
        return None
    return f"the {which} has moved to {shown(moved_to, 200)}: write {which} = ... with that address into recipe.toml"


def forge_repo(url: str, forge: str) -> str | None:
    """`owner/name` of an address that is on the forge at the URL `forge`, else None."""
    base = urlsplit(forge)
    host = host_of(url)
    whole = _split(url)
    path = _LIKE_SCP.fullmatch(url)["path"] if _LIKE_SCP.fullmatch(url) else unquote(whole.path)  # type: ignore[index]
    if whole.scheme in ("http", "https"):
        prefix = base.path.rstrip("/") + "/"
        if host != base.netloc.lower() or not path.startswith(prefix):
            return None
        path = path.removeprefix(prefix)
    elif not host or host.partition(":")[0] != (base.hostname or ""):
        return None
    names = path.strip("/").removesuffix(".git").split("/")
    return "/".join(names) if len(names) == 2 and all(_NAME.fullmatch(name) for name in names) else None
