"""When images were pulled from each registry: one small file for each, shared by all that pull on this host."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import quote, unquote

from canonq.adapters.filelocks import locked
from canonq.adapters.files import entries, table_in, told, write_json
from canonq.core.pulls import Limit, pause_before, within

_LONGEST = 7 * 86400.0  #: seconds after which a pull counts for nothing
_MOST = 10_000  #: pulls of one registry on record


class Pulls:
    """The pulls of this host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, registry: str, now: float, limit: Limit | None) -> float:
        """Count one more pull, unless the limit asks for a pause before it: its seconds, and nothing is counted."""
        path = self._path(registry)
        with told(path), locked(path.with_suffix(".lock")):
            before = within(self.of(registry), _LONGEST, now)
            if limit is not None and (wait := pause_before(before, limit, now)) > 0:
                return wait
            write_json(path, {"pulls": [*before, now][-_MOST:]})
        return 0.0

    def of(self, registry: str) -> list[float]:
        """When each of its pulls was, in seconds since 1970; none where that cannot be read."""
        listed = table_in(self._path(registry)).get("pulls")
        return [float(at) for at in listed if isinstance(at, int | float)] if isinstance(listed, list) else []

    def registries(self) -> list[str]:
        """All that anything was pulled from."""
        with contextlib.suppress(OSError):
            return sorted(unquote(path.stem) for path in entries(self._folder) if path.suffix == ".json")
        return []

    def _path(self, registry: str) -> Path:
        return self._folder / f"{quote(registry, safe='')}.json"
