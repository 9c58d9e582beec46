"""How git is started: no hooks, no prompts, no foreign protocols, no credential in an argument, always with limits."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urljoin, urlsplit, urlunsplit

from canonq.adapters.files import is_full
from canonq.adapters.lazily import requests
from canonq.adapters.processes.programs import read
from canonq.core.errors import HostProblem, SyncFailed, TimedOut, WrongConfiguration
from canonq.core.upstream.addresses import address, masked, same_host
from canonq.ports import Ended

MOST_AT_ONCE = 640 << 20  #: bytes that git may take for one thing: more than any file that is written out may have
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    # All but blobs, git takes into its memory whole: a few kilobytes of a pack may be a commit of many gigabytes.
    "GIT_ALLOC_LIMIT": f"{MOST_AT_ONCE}",
    "LC_ALL": "C.UTF-8",
}
#: On a clone nobody's settings count but canonq's: not the host's, not the user's.
_NO_SETTINGS = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_ATTR_NOSYSTEM": "1"}
#: What git gets of our own environment: ways to the network, and whose configuration counts. Secrets of recipes may be in it.
_INHERITED = (
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL",
    "GIT_SSL_CAINFO", "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "http_proxy", "https_proxy", "HTTPS_PROXY",
    "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
)  # fmt: skip
#: Asks nothing: a host that is not known, or a key that is missing, is an error and not a hang.
_SSH = "ssh -oBatchMode=yes -oConnectTimeout=20"
_OPTIONS = (
    "core.hooksPath=/dev/null",
    "core.autocrlf=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    "core.fsmonitor=false",
    # Larger blobs go through git's memory in pieces.
    "core.bigFileThreshold=32m",
    # The clones are bare, and named outright.
    "safe.bareRepository=all",
    "push.followTags=false",
    "push.recurseSubmodules=no",
    "fetch.recurseSubmodules=no",
    # One answer where version 2 needs two: a listing is what an idle night consists of.
    "protocol.version=0",
    # What git gives to one host it would give to whichever that host names; see `_followed`.
    "http.followRedirects=false",
    # A server that stands still is given up long before the limit for one that works.
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
)
#: Git asks a helper on its standard input, so neither the token nor the file's text is ever an argument.
_HELPER = """!f() { test "$1" = get && printf 'username=canonq\\npassword=%s\\n' "$(cat "$CANONQ_GIT_TOKEN_FILE")"; }; f"""

#: What git says of an answer that leads elsewhere.
_LEADS_AWAY = re.compile(r"error: 30[12378]\b")
_MOST_MOVES = 3
_ASKED = "info/refs"  #: below a repository's address, what git asks for first

#: What git says when there is no room for what it writes; not what a remote says of its own disk.
_NO_ROOM = re.compile(r"^(?!remote:)[^\n]*(?:No space left on device|Disk quota exceeded)", re.I | re.M)
_CAUSES = (
    ("disk-full", _NO_ROOM),
    # Before all others, as their words are those of many: of this host, and not what the other one said.
    ("local", re.compile(
        r"^(?!remote:)[^\n]*(?:Read-only file system|Too many open files"
        r"|unable to create (?:temporary )?file|Unable to create '|cannot run ssh|unable to fork|cannot create thread)",
        re.I | re.M)),
    # First, as its status otherwise means a credential; in the forge's own words, not in an address.
    ("archived", re.compile(
        r"^(?:remote:|fatal: remote error:|ERROR:).*\brepo(?:sitory)? (?:is|was|has been) archived", re.I | re.M)),
    ("damaged", re.compile(
        r"repository corruption|object (?:(?!object )[^\n])* is (?:corrupt|empty)"
        r"|unable to read [0-9a-f]{40}|bad config (?:line|file)", re.I)),
    ("owner", re.compile(r"dubious ownership", re.I)),
    ("denied", re.compile(
        r"Authentication failed|could not read (?:Username|Password)|Permission denied|error: 40[13]\b"
        r"|Host key verification", re.I)),
    ("moved", _LEADS_AWAY),
    ("gone", re.compile(
        r"not found|does not exist|does not appear to be a git repository|error: 404\b|not exported"
        r"|no such (?:file|repo)", re.I)),
    ("too-large", re.compile(
        rf"File too large|file size limit|died of signal {signal.SIGXFSZ:d}\b|attempting to allocate \d+ over limit"
        r"|\Afatal: fetch-pack: invalid index-pack output\s*\Z", re.I)),  # what wrote the pack has died, without a word
    ("shallow", re.compile(r"shallow (?:roots|update)", re.I)),
    ("certificate", re.compile(r"certificate (?:verification failed|problem|has expired|subject name)|SSL certificate|"
                               r"unable to get local issuer", re.I)),
)  # fmt: skip
_MENDS = {
    "disk-full": "free some disk where CANONQ_STATE is; where `df` shows room, `df -i` shows that no more files can be made.",
    "local": "it is this host that fails: its disk, its rights to CANONQ_STATE, or a program (ssh) that is not there.",
    "denied": "give a credential that may do this: docs/configuration.md, [git]; for ssh, a key and the host's key. Or correct "
    "the address: a forge asks for a login also where there is no such repository.",
    "owner": "git reads a repository on this host for its owner only: give it to the user that runs canonq (`chown -R`), or let "
    "that user say `git config --global --add safe.directory PATH`.",
    "damaged": "the repository itself is damaged: whoever keeps it has to mend it, and `git fsck` there names what is broken.",
    "archived": "take it out of the archive on its forge, or remove the mirror from recipe.toml.",
    "moved": "write the address into recipe.toml under which the repository is now, if that is still the one that is meant.",
    "gone": "correct the address in recipe.toml, or set enrolled = false if the repository is no more.",
    "too-large": "look at what the repository contains; if it is right, raise [git] largest.",
    "shallow": "name a repository with its whole history.",
    "certificate": "the server's certificate is not trusted here: look at it, at this host's clock and ca-certificates.",
    "timeout": "look at the network and the server; [git] timeout is the limit.",
    "unreachable": "look at the network and the server; the address is in recipe.toml.",
}


#: Commands that only read a clone.
_LOOKS = frozenset({"cat-file", "for-each-ref", "ls-tree", "merge-base", "rev-list", "rev-parse"})


@dataclass(frozen=True)
class GitLimits:
    """Limits and credentials for talking to other hosts."""

    listing: float = 60.0  #: seconds for one listing
    transfer: float = 600.0  #: seconds for one fetch or push
    largest: int = 2**30  #: bytes of one fetched pack
    credentials_file: Path | None = None  #: in the form of git's own credential store
    tokens: Mapping[str, Path] = field(default_factory=dict)  #: origin such as https://host -> file with a token for it
    ca_file: Path | None = None  #: authority for the origins under `tokens`


class GitProgram:
    """Starts git, for one repository or none."""

    def __init__(self, limits: GitLimits | None = None) -> None:
        self.limits = limits or GitLimits()
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._kept = {"PATH": os.defpath, "HOME": "/", "GIT_SSH_COMMAND": _SSH, **inherited, **_ENVIRONMENT}

    def local(
        self, clone: Path | None, *arguments: str, timeout: float = 120.0, stdin: bytes | None = None, most: int | None = None
    ) -> Ended:
        """A command that talks to nobody, on a clone or on none. HostProblem when it does not end, or says more than `most`."""
        named = {} if clone is None else {"GIT_DIR": str(clone)}
        env = {**self._environment(), **_NO_SETTINGS, **named}
        try:
            looks = arguments[0] in _LOOKS
            return read(self._command(arguments), timeout=timeout, env=env, stdin=stdin, most=most, harmless=looks)
        except TimedOut as error:
            raise HostProblem(f"`git {arguments[0]}` on {clone} timed out: {error.what}", code="git-failed") from error

    def listing(self, url: str, *patterns: str) -> Ended:
        """`git ls-remote`: who is asked writes nothing, and neither do we."""

        def ask(there: str) -> Ended:
            command = self._command(("ls-remote", "--symref", "--", there, *patterns), there)
            return read(command, timeout=self.limits.listing, env=self._environment(there), harmless=True)

        return self._followed(url, ask)

    def transfer(self, clone: Path, url: str, *arguments: str) -> Ended:
        """A fetch or a push between a clone and a remote. TimedOut after its limit, HostProblem (`too-much`) when the clone
        grows beyond what one fetch may bring: no file of it may be larger, and a server may send very many.
        """
        objects = clone / "objects"
        before = _size_of(objects)

        def in_bounds() -> None:
            if _size_of(objects) - before > self.limits.largest:
                raise HostProblem(f"It brings more than {self.limits.largest} bytes.", code="too-much")

        def ask(there: str) -> Ended:
            return read(
                self._command([there if part == url else part for part in arguments], there),
                timeout=self.limits.transfer,
                env={**self._environment(there), "GIT_DIR": str(clone)},
                largest_file=self.limits.largest,
                watch=in_bounds,
            )

        return self._followed(url, ask)

    def _followed(self, url: str, ask: Callable[[str], Ended]) -> Ended:
        """Ask at an address, and where its own host sends us on to, as one does after a rename: at no other host.

        Nothing is sent with the question where it leads: no credential ever goes where only an answer has named.
        """
        ended, at = ask(url), url
        for _ in range(_MOST_MOVES):
            if ended.status == 0 or not _LEADS_AWAY.search(ended.errors):
                break
            there = _leads_to(at, self.limits.ca_file if self._origins(at) else None, self.limits.listing)
            if there is None:
                break
            if not same_host(at, there):
                return replace(ended, errors=f"{ended.errors.strip()}; it leads to another host, {masked(there)}")
            ended, at = ask(there), there
        return ended if at == url else replace(ended, moved_to=masked(at))

    def _command(self, arguments: Iterable[str], url: str = "") -> list[str]:
        options = list(_OPTIONS)
        origins = self._origins(url)
        if url and (origins or self.limits.credentials_file is not None):
            # Given a credential, git asks no helper of the host's as well: that would hide a wrong one.
            options.append("credential.helper=")
        if self.limits.credentials_file is not None:
            options.append(f"credential.helper=store --file={_quoted(self.limits.credentials_file)}")
        for origin in origins:
            at = urlsplit(origin)  # git looks credentials up by host, not by path
            options.append(f"credential.{at.scheme}://{at.netloc}.helper={_HELPER}")
            if self.limits.ca_file is not None:
                options.append(f"http.{origin}.sslCAInfo={self.limits.ca_file}")
        return ["git", *(part for option in options for part in ("-c", option)), *arguments]

    def _environment(self, url: str = "") -> dict[str, str]:
        origins = self._origins(url)
        tokens = {"CANONQ_GIT_TOKEN_FILE": str(self.limits.tokens[origins[0]])} if origins else {}
        return {**self._kept, **tokens}

    def _origins(self, url: str) -> list[str]:
        return [origin for origin in self.limits.tokens if url == origin or url.startswith(origin.rstrip("/") + "/")]


def _size_of(folder: Path) -> int:
    """Bytes of the files in a folder and those below it; what goes away meanwhile has none."""
    size = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                size += _size_of(Path(entry.path)) if is_folder else entry.stat(follow_symlinks=False).st_size
    return size


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"


def failed(which: str, url: str, ended: Ended, clone: Path | None = None) -> SyncFailed:
    """What a failed command on a remote means: `which` is "upstream" or "mirror"; the cause is a stable code.

    `clone`: where it was to write.
    """
    said = masked(ended.errors or ended.output)
    if ended.status == -signal.SIGXFSZ:
        said = f"File too large. {said}"
    cause = next((name for name, pattern in _CAUSES if pattern.search(said)), "unreachable")
    if cause in ("local", "unreachable") and clone is not None and is_full(clone):  # git does not always say why
        cause = "disk-full"
    return sync_failed(which, url, cause, said)


def local_problem(ended: Ended, what: str, clone: Path) -> HostProblem:
    """What it means that a command on a clone of ours failed; `what`: a clause that says which."""
    said = ended.errors.strip() or ended.raw.decode(errors="replace").strip()
    if _NO_ROOM.search(ended.errors) or is_full(clone):  # git does not always say why
        return HostProblem(f"{what}: {said}.", mend=_MENDS["disk-full"], code="disk-full")
    return HostProblem(f"{what}: {said}.", code="git-failed")


def _leads_to(url: str, ca_file: Path | None, seconds: float) -> str | None:
    """The repository's address to which its host sends on who asks for it, without any credential; None when it does not."""
    parts = urlsplit(url)
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/{_ASKED}"))
    try:
        from canonq.adapters.network.http import Session, within  # with an HTTP client, which hardly any command needs

        with (
            Session() as session,
            within(session, time.monotonic() + seconds),
            session.get(
                f"{bare}?service=git-upload-pack",
                allow_redirects=False,
                stream=True,
                timeout=seconds,
                verify=str(ca_file) if ca_file else True,
                auth=lambda request: request,  # not one of ~/.netrc either
            ) as answer,
        ):
            if not answer.is_redirect:
                return None
            target = urlsplit(urljoin(answer.url, answer.headers["Location"]))
    except (requests.RequestException, ValueError):
        return None
    found = urlunsplit(target._replace(path=target.path.removesuffix(f"/{_ASKED}"), query="", fragment=""))
    try:
        return address(found, "") if target.scheme in ("http", "https") else None
    except WrongConfiguration:
        return None


def timed_out(which: str, url: str, error: TimedOut) -> SyncFailed:
    """A remote that did not answer in time."""
    return sync_failed(which, url, "timeout", error.what)


def sync_failed(which: str, url: str, cause: str, said: str, mend: str = "") -> SyncFailed:
    """An error for the recipe, named by what was asked and why it failed."""
    words = " ".join(said.split())[-400:] or "git gave no reason"
    return SyncFailed(
        f"The {which} {masked(url)} could not be {'read' if which == 'upstream' else 'brought in line'}: {words}",
        mend=f"{mend or _MENDS.get(cause, _MENDS['unreachable'])} Nothing was decided on old tags.",
        cause=f"{which}-{cause}",
    )
