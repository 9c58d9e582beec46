"""What the containers of a stack hold beside its volumes, looked at on this host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.data import counting
from canonq.core.stack.engines import SQLITE
from canonq.core.stack.layers import InContainer, may_be_data
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.run import Run
from canonq.ports import Outside

_MOST_FILES = 2000  #: of one container that are looked into


def in_containers(run: Run, running: Running) -> tuple[list[InContainer], tuple[str, ...]]:
    """The files that may be data, and a gap for each container that could not be looked into."""
    with run.account.timed("layers"):
        found: list[InContainer] = []
        gaps = []
        for one in run.world.containers.outside_volumes(running.identity.stack):
            if one.why_not:
                gaps.append(f"layer-not-seen: what '{one.service}' keeps in its container could not be looked at: {one.why_not}")
            else:
                found += _of(one)
        return found, tuple(gaps)


def _of(one: Outside) -> Iterator[InContainer]:
    if one.pid:
        yield from _seen(one.service, Path(f"/proc/{one.pid}/root"), [path for path in one.paths if may_be_data(path)])
    for target, folder in one.unnamed.items():
        at = target.rstrip("/")
        inside = [path for path in counting.paths(folder) if not path.endswith("/") and may_be_data(f"{at}/{path}")]
        yield from _seen(one.service, folder, inside, at)


def _seen(service: str, root: Path, paths: list[str], at: str = "") -> Iterator[InContainer]:
    looked = [(path, about) for path in paths[:_MOST_FILES] if (about := counting.look(root, path)) is not None]
    tables = counting.ask_sqlite(root, "count", [path.lstrip("/") for path, about in looked if about.kind == SQLITE])
    for path, about in looked:
        asked = tables.get(path.lstrip("/"), {}).get("tables")
        names = tuple(sorted(map(str, asked))) if isinstance(asked, dict) else ()
        yield InContainer(service, f"{at}/{path.lstrip('/')}", about.bytes, about.written, about.kind, names)
