"""What is kept of a run: logs, the resolved compose file, the env. No secret's value is in any of it."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from canonq.adapters.disks import bytes_below
from canonq.flows.deployment import App, owned_by
from canonq.flows.world import World

_SHORTEST_SECRET = 4  #: characters; what is shorter stands in every other text too
_SHORTEST_IN_ENV = 8  #: characters; PASSWORD_LOGIN=true is no secret
_SECRET_NAME = re.compile(r"pass|secret|token|key|credential|auth", re.IGNORECASE)
_TAIL = 15  #: log lines quoted with a red


def confidential(app: App) -> dict[str, str]:
    """Name -> value of all that must not be kept: the secrets, and what the env gives names like theirs."""
    named = {
        key: value
        for key, value in app.env.items()
        if _SECRET_NAME.search(key) and not key.endswith("_VERSION") and len(value) >= _SHORTEST_IN_ENV
    }
    return {**named, **app.secrets}


def keep_deployment(app: App, folder: Path) -> None:
    """Keep what was deployed: the resolved compose file, the env, what Docker and the install steps said."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("resolved.json", "deploy.log", "install_steps.log"):
        if (app.work / name).is_file():
            shutil.copyfile(app.work / name, folder / name)
    (folder / "images.json").write_text(json.dumps(app.images, indent=1))
    (folder / "env.txt").write_text("".join(f"{key}={_shown(key, value)}\n" for key, value in sorted(app.env.items())))
    mask(folder, confidential(app))


def _shown(key: str, value: str) -> str:
    return "***" if value and _SECRET_NAME.search(key) and not key.endswith("_VERSION") else value


def keep_logs(world: World, app: App, folder: Path) -> dict[str, str]:
    """Keep the last lines of every service's log; service -> text."""
    found = {
        service: masked(text, confidential(app))
        for service, text in world.engine.logs(app.identity.stack, world.settings.log_lines).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    for service, text in found.items():
        (folder / f"{service}.log").write_text(text)
    for service, text in world.engine.failing_checks(app.identity.stack).items():
        (folder / f"{service}.health.txt").write_text(f"{masked(text, confidential(app))}\n")
    return found


def tail(text: str) -> list[str]:
    """The last lines of a log, for a verdict."""
    return [line[:400] for line in text.splitlines() if line.strip()][-_TAIL:]


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """`text` with every secret's value replaced by its name; also as it stands in JSON."""
    for name, value in sorted(secrets.items(), key=lambda item: -len(item[1])):
        if len(value) >= _SHORTEST_SECRET:
            for form in {value, json.dumps(value)[1:-1]}:
                text = text.replace(form, f"***{name}***")
    return text


def mask(folder: Path, secrets: Mapping[str, str]) -> None:
    """Mask secrets in every text file below a folder: tests print what they compare."""
    for path in _texts(folder):
        text = path.read_text(errors="replace")
        clean = masked(text, secrets)
        if clean != text:
            path.write_text(clean)


def _texts(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.suffix in (".log", ".xml", ".json", ".txt"):
            yield path


def volume_bytes(world: World, app: App) -> int:
    """Bytes that all volumes of a deployment's owner take on disk, those of what runs beside it too."""
    folders = (world.engine.volume_path(name) for name in world.engine.owned(owned_by(app)).get("volumes", []))
    return sum(bytes_below(folder) for folder in folders if folder is not None)


def keep_beside(folder: Path, name: str, value: object) -> None:
    """Keep a file that the verdict has as well, as far as the disk allows: it is for whoever looks into the folder."""
    with contextlib.suppress(OSError):
        (folder / name).write_text(json.dumps(value, indent=1))
