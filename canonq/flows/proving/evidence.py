"""What is kept of a run: logs, the resolved compose file, the env. No secret's value is in any of it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from canonq.adapters.docker.disks import bytes_below
from canonq.core.budget import Need
from canonq.core.deployable import Identity
from canonq.core.errors import CanonqError
from canonq.core.masks import Masks
from canonq.core.recipe.envfile import parse_env
from canonq.flows.deploying.deployment import IMAGES, RESOLVED
from canonq.flows.deploying.secrecy import ENV, is_secret_name, keep_masked
from canonq.flows.deploying.stages import owned_by
from canonq.flows.world import World

_TAIL = 15  #: log lines quoted with a red


def keep_deployment(work: Path, folder: Path, masks: Masks) -> None:
    """Keep what was deployed: the resolved compose file, the images, the env, what Docker and the install steps said."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (RESOLVED, IMAGES, "deploy.log", "install_steps.log"):
        if (work / name).is_file():
            keep_masked(work / name, folder / name, masks)
    with contextlib.suppress(CanonqError, OSError, UnicodeDecodeError):  # it is not there yet, or install steps spoilt it
        env = parse_env((work / ENV).read_text(), where=ENV)
        shown = "".join(f"{key}={_shown(key, value)}\n" for key, value in sorted(env.items()))
        (folder / "env.txt").write_text(masks.text(shown))


def _shown(key: str, value: str) -> str:
    return "***" if value and is_secret_name(key) else value


def keep_logs(world: World, stack: str, folder: Path, masks: Masks) -> dict[str, str]:
    """Keep the last lines of every service's log; service -> text."""
    found = {service: masks.text(text) for service, text in world.stacks.logs(stack, world.settings.log_lines).items()}
    folder.mkdir(parents=True, exist_ok=True)
    for service, text in found.items():
        (folder / f"{service}.log").write_text(text)
    for service, text in world.stacks.failing_checks(stack).items():
        (folder / f"{service}.health.txt").write_text(f"{masks.text(text)}\n")
    return found


def tail(text: str) -> list[str]:
    """The last lines of a log, for a verdict."""
    return [line[:400] for line in text.splitlines() if line.strip()][-_TAIL:]


def volume_bytes(world: World, identity: Identity) -> int:
    """Bytes that all volumes of a deployment's owner take on disk, those of what runs beside it too."""
    return sum(bytes_below(folder) for folder in world.ownership.volumes_owned(owned_by(identity)).values())


def beside_bytes(world: World, identity: Identity) -> Need:
    """Bytes that the containers of a deployment's owner have written beside its volumes: into themselves, and into volumes that
    nobody has named."""
    found = world.ownership.written_beside(owned_by(identity))
    return Need(volumes=sum(map(bytes_below, found.unnamed)), images=sum(map(bytes_below, found.layers)))


def keep_beside(folder: Path, name: str, value: object) -> None:
    """Keep a file that the verdict has as well, as far as the disk allows: it is for whoever looks into the folder."""
    with contextlib.suppress(OSError):
        (folder / name).write_text(json.dumps(value, indent=1))
