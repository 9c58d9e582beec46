"""What must not be said of a deployment: one place for test, promotion and restore, and for files, errors and records alike."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from canonq.adapters.files import remove_tree, table_in
from canonq.core.enrolment import Enrolment
from canonq.core.errors import CanonqError
from canonq.core.masks import Masks
from canonq.core.recipe.envfile import parse_env
from canonq.core.records import Verdict

SECRETS, ENV = "secrets.json", "app.env"  #: in a deployment's scratch folder, gone with it
_SHORTEST_IN_ENV = 8  #: characters; PASSWORD_LOGIN=true is no secret
_SECRET_NAME = re.compile(r"pass|secret|token|key|credential|auth", re.IGNORECASE)
_PORT = re.compile(r"[0-9]{1,5}(?:[/?#]|$)")  #: what looks like no password, but a port and a path
_MOST_SIGNS = 5  #: '@' in one address, of which each may be what ends its password
MOST_IN_ENV = 1000  #: values of untrusted code's env, each line by itself, that are looked for in all that is kept and shown
_LOOKED_AT = 8192  #: bytes, by which a file that is no text is known


class Secrecy:
    """What must not be said of work under way: its secrets, and what its env gives names like theirs; learnt bit by bit."""

    def __init__(self) -> None:
        self._kinds: tuple[dict[tuple[str, str], None], ...] = ({}, {}, {})
        self._masks: Masks | None = None

    def env(self, env: Mapping[str, str]) -> None:
        """Learn an app's env."""
        self._learn(0, _in_env(env))

    def given(self, enrolment: Enrolment) -> None:
        """Learn what a person gives under [secrets], also before a deployment has come as far as to need it."""
        self._learn(1, _given(enrolment))

    def secrets(self, values: Mapping[str, str]) -> None:
        """Learn secrets, by their names in the recipe."""
        self._learn(2, values.items())

    def _learn(self, kind: int, pairs: Iterable[tuple[str, str]]) -> None:
        self._kinds[kind].update(dict.fromkeys(pairs))
        self._masks = None

    @property
    def masks(self) -> Masks:
        """The masks for all that was learnt; where several names have one value, a secret's stands in its place."""
        if self._masks is None:
            self._masks = Masks(pair for kind in self._kinds for pair in kind)
        return self._masks


def _given(enrolment: Enrolment) -> Iterator[tuple[str, str]]:
    for name, source in enrolment.secrets.items():
        if source.env is not None:
            yield name, os.environ.get(source.env, "")
        elif source.file is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):  # whoever needs it says so
                yield name, Path(source.file).read_text().rstrip("\n")


def masks_in(work: Path) -> Masks:
    """The same of deployments that have ended, or were killed, as far as their scratch folder still tells."""
    pairs: list[tuple[str, str]] = []
    for app in (work / "app", work / "fresh", *work.glob("dep-*/app")):
        pairs += [(name, str(value)) for name, value in table_in(app / SECRETS).items()]
        with contextlib.suppress(OSError, ValueError, CanonqError):
            pairs += _in_env(parse_env((app / ENV).read_text(), where=ENV))
    return Masks(pairs)


def _in_env(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in env.items():
        if is_secret_name(key) and len(value) >= _SHORTEST_IN_ENV:
            yield key, value
        for user, password in _passwords(value):
            if len(password) >= _SHORTEST_IN_ENV and password != user:  # postgres:postgres hides nothing, and is in every log
                yield key, password


def _passwords(value: str) -> Iterator[tuple[str, str]]:
    """User and password of each address in a text. Whoever wrote it may have left signs in the password that end it for some
    readers, and not for others: each reading counts, and what programs make of `%40`, too."""
    for address in value.split("://")[1:]:
        user, colon, rest = address.partition(":")
        parts = (rest.split(maxsplit=1) or [""])[0].split("@")
        if not colon or len(parts) < 2 or re.search(r"[/\s]", user):
            continue
        for count in range(1, min(len(parts), _MOST_SIGNS + 1)):
            password = "@".join(parts[:count])
            if not _PORT.match(password):
                yield user, password
                yield user, unquote(password)


def count_in_env(env: Mapping[str, str]) -> int:
    """How many values of an env are taken for secrets, each line by itself."""
    return sum(1 + value.count("\n") + value.count("\r") for _, value in _in_env(env))


def is_secret_name(key: str) -> bool:
    """Whether a variable of this name is likely to hold a secret."""
    return bool(_SECRET_NAME.search(key)) and not key.endswith("_VERSION")


@contextlib.contextmanager
def unsaid(secrecy: Secrecy) -> Iterator[None]:
    """Whatever is raised within, what it says has no secret in it that was learnt by then."""
    try:
        yield
    except BaseException as error:
        secrecy.masks.error(error)
        raise


def masked_verdict(verdict: Verdict, masks: Masks) -> Verdict:
    """The verdict with every text masked that somebody else's program may have had a say in."""
    tiers = {
        name: tier.model_copy(
            update={"reason": masks.text(tier.reason), "tests": masks.texts(tier.tests), "fresh": masks.texts(tier.fresh)}
        )
        for name, tier in verdict.tiers.items()
    }
    rungs = {name: rung.model_copy(update={"reason": masks.text(rung.reason)}) for name, rung in verdict.rungs.items()}
    lists = {name: masks.texts(getattr(verdict, name)) for name in ("notes", "gaps", "stale", "log_tail")}
    return verdict.model_copy(update={**lists, "detail": masks.text(verdict.detail), "tiers": tiers, "rungs": rungs})


def mask(folder: Path, masks: Masks) -> None:
    """Mask every text file below a folder: programs and tests print and write what they like."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or _is_no_text(path):
            continue
        text = path.read_text(errors="surrogateescape")
        if (clean := masks.text(text)) != text:
            path.write_text(clean, errors="surrogateescape")


@contextlib.contextmanager
def masked_into(kept: Path, scratch: Path, masks: Masks) -> Iterator[Path]:
    """A new folder beside a deployment's secrets, for whatever programs and tests write; when the block ends, what is in it goes
    into `kept`, masked. Killed before that, it goes with the scratch folder."""
    remove_tree(scratch)
    scratch.mkdir(parents=True, mode=0o700)
    try:
        yield scratch
    finally:
        mask(scratch, masks)
        kept.mkdir(parents=True, exist_ok=True)
        for path in scratch.iterdir():
            if (kept / path.name).is_dir():
                remove_tree(kept / path.name)
            shutil.move(path, kept / path.name)
        remove_tree(scratch)


def keep_masked(source: Path, target: Path, masks: Masks) -> None:
    """Copy a text file; no secret is in its new place, not for a moment."""
    target.write_text(masks.text(source.read_text(errors="surrogateescape")), errors="surrogateescape")


def _is_no_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(_LOOKED_AT)
