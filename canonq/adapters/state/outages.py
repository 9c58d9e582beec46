"""Which registries are down in a sweep: one small file for each, shared by all workers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from canonq.adapters.filelocks import locked
from canonq.adapters.files import write_json
from canonq.core.errors import CanonqError
from canonq.core.sweeps.outages import Outage, after


class Outages:
    """The outages of one sweep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, registry: str) -> Outage | None:
        """What is known of a registry's outage."""
        with contextlib.suppress(FileNotFoundError, ValueError):  # none, or one that was cut off: it is asked again
            return Outage.model_validate_json(self._path(registry).read_bytes())
        return None

    def note(self, error: CanonqError, image: str, now: float, first: float) -> None:
        """Note that an image could not be had from the registry that the error is about."""
        with self._locked():
            if outage := after(self.of(error.outside), error, image, now, first):
                write_json(self._path(error.outside), outage.model_dump(mode="json"))

    def over(self, registry: str) -> None:
        """Note that something was had from a registry."""
        self._path(registry).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with locked(self._folder / "lock"):
            yield

    def _path(self, registry: str) -> Path:
        return self._folder / f"{quote(registry, safe='')}.json"
