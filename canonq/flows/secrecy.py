"""What must not be said of a deployment: one place for test, promotion and restore, and for files, errors and records alike."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from canonq.core.envfile import parse_env
from canonq.core.errors import CanonqError
from canonq.core.masks import Masks
from canonq.core.records import Verdict

if TYPE_CHECKING:
    from canonq.flows.deployment import App

SECRETS, ENV = "secrets.json", "app.env"  #: in a deployment's scratch folder, gone with it
_SHORTEST_IN_ENV = 8  #: characters; PASSWORD_LOGIN=true is no secret
_SECRET_NAME = re.compile(r"pass|secret|token|key|credential|auth", re.IGNORECASE)
_LOOKED_AT = 8192  #: bytes, by which a file that is no text is known


def masks_of(*apps: App) -> Masks:
    """The masks for all that is confidential in these deployments: their secrets, and what the env gives names like theirs."""
    return Masks(pair for app in apps for pair in _confidential(app))


def _confidential(app: App) -> Iterator[tuple[str, str]]:
    yield from _in_env(app.env)
    yield from _given(app)
    yield from app.secrets.items()


def _given(app: App) -> Iterator[tuple[str, str]]:
    """What a person gives under [secrets], also before a deployment has come as far as to need it."""
    for name, source in app.enrolment.secrets.items():
        if source.env is not None:
            yield name, os.environ.get(source.env, "")
        elif source.file is not None:
            with contextlib.suppress(OSError, UnicodeDecodeError):  # whoever needs it says so
                yield name, Path(source.file).read_text().rstrip("\n")


def masks_in(work: Path) -> Masks:
    """The same of deployments that have ended, or were killed, as far as their scratch folder still tells."""
    pairs: list[tuple[str, str]] = []
    for app in (work / "app", *work.glob("dep-*/app")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            pairs += [(str(name), str(value)) for name, value in json.loads((app / SECRETS).read_text()).items()]
        with contextlib.suppress(OSError, ValueError, CanonqError):
            pairs += _in_env(parse_env((app / ENV).read_text(), where=ENV))
    return Masks(pairs)


def _in_env(env: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    return ((key, value) for key, value in env.items() if is_secret_name(key) and len(value) >= _SHORTEST_IN_ENV)


def is_secret_name(key: str) -> bool:
    """Whether a variable of this name is likely to hold a secret."""
    return bool(_SECRET_NAME.search(key)) and not key.endswith("_VERSION")


@contextlib.contextmanager
def unsaid(apps: Callable[[], Iterable[App]]) -> Iterator[None]:
    """Whatever is raised within, what it says has no secret of these deployments in it. Asked when it is raised: they grow."""
    try:
        yield
    except BaseException as error:
        masks_of(*apps()).error(error)
        raise


def masked_verdict(verdict: Verdict, masks: Masks) -> Verdict:
    """The verdict with every text masked that somebody else's program may have had a say in."""
    tiers = {
        name: tier.model_copy(update={"reason": masks.text(tier.reason), "tests": masks.texts(tier.tests)})
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


def _is_no_text(path: Path) -> bool:
    with path.open("rb") as file:
        return b"\0" in file.read(_LOOKED_AT)
