"""What a container has written into its own layer, as it lies on this host: Docker's own list of it has no end."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from canonq.adapters.data import inside
from canonq.core.dockerinfo import upper_folder

_PROCESSES = Path("/proc")
_MOST_FILES = 20_000  #: plain files of one layer that are named
_MOST_NAMES = 500_000  #: of whatever kind, what was removed too, that are looked at
_UNNAMED = re.compile(r"[0-9a-f]{64}")  #: how Docker calls a volume that nobody has named


def layer_of(looked: Mapping[str, Any], images: Path, processes: Path = _PROCESSES) -> Path | None:
    """The folder of an inspected container's own layer; None where it cannot be told, or not be seen from here.

    Docker tells it of an overlay of its own. Of one of containerd's it is read from the mount that is the container's root, and
    has to be below `images`, where layers are kept.
    """
    said = str(((looked.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or "")
    if not said and (process := int(looked["State"]["Pid"])):
        with contextlib.suppress(OSError):
            mounts = (processes / str(process) / "mountinfo").read_text(errors="surrogateescape")
            said = upper_folder(mounts) or ""
        said = said if Path(os.path.normpath(said)).is_relative_to(images) else ""
    return Path(said) if said.startswith("/") and Path(said).is_dir() else None


def unnamed_volumes(looked: Mapping[str, Any]) -> dict[str, Path]:
    """Where an inspected container has volumes mounted that nobody has named -> where they lie on this host."""
    return {
        mount["Destination"]: Path(mount["Source"])
        for mount in looked["Mounts"]
        if mount["Type"] == "volume" and _UNNAMED.fullmatch(mount["Name"])
    }


def written_into(layer: Path) -> tuple[str, ...]:
    """Paths in the container of plain files in its own layer, made or changed since it was started; of so many the first."""
    found: list[str] = []
    seen = 0
    for below, _, names, handle in inside.walk(layer):
        for name in names:
            with contextlib.suppress(OSError):  # gone meanwhile
                if stat.S_ISREG(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode):
                    found.append(f"/{os.path.join(below, name)}")
            seen += 1
            if len(found) >= _MOST_FILES or seen >= _MOST_NAMES:
                return tuple(found)
    return tuple(found)
