"""history: what is on record must not fill the disk: what is beyond the settings goes, but for what is referred to."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.files import entries, remove_tree
from canonq.core.errors import CanonqError
from canonq.core.keeping import LEAST_DAYS, is_old, sweeps_to_drop
from canonq.core.names import RECIPE_NAME, SWEEP_ID
from canonq.flows.world import World

log = logging.getLogger("canonq")

LOG_SIZE = 16 * 2**20  #: bytes from which a log is put aside
_LOGS = 3  #: put aside, of each


def drop_old(world: World, *, dry_run: bool = False) -> list[str]:
    """Drop sweeps, calls, logs and what is left of recipes that nobody enrols; a sentence for each kind."""
    verb = "would remove" if dry_run else "removed"
    done: list[str] = []
    for what, paths in (
        ("old sweep", _sweeps(world)),
        ("old call", _calls(world)),
        ("folder of a recipe that nobody enrols", _gone(world)),
    ):
        found = list(paths)
        for path in found if not dry_run else ():
            remove_tree(path)
        if found:
            done.append(f"{verb} {len(found)} {what}{'s' if len(found) > 1 else ''}: {_named(found)}")
    return done + [
        f"{'would put' if dry_run else 'put'} aside {path}" for path in rotate(world.settings.state / "logs", dry_run=dry_run)
    ]


def _named(paths: list[Path]) -> str:
    names = [f"{path.parent.name}/{path.name}" for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _sweeps(world: World) -> Iterator[Path]:
    settings = world.settings
    names = [name for name in reversed(list(world.sweeps.newest_first())) if SWEEP_ID.fullmatch(name)]
    closed = [name for name in names if world.sweeps.closed(name) is not None]
    dropped = sweeps_to_drop(
        closed, keep=settings.keep_sweeps, days=settings.keep_days, now=world.now(), needed=_referred(world) if closed else ()
    )
    return (world.sweeps.folder(name) for name in dropped)


def _referred(world: World) -> set[str]:
    """Sweeps that a canonical's run, or the newest run of a recipe (an open red), came from, and those of nights on record."""
    found = {sweep for task in world.sweeps.nights.claimed().values() if (sweep := world.sweeps.calls.sweep_of(task)) is not None}
    for recipe in {*world.registry.begun(), *world.runs.recipes()}:
        with contextlib.suppress(CanonqError):
            verdicts = [world.runs.newest(recipe)]
            record = world.registry.read(recipe)
            verdicts += [world.runs.verdict(recipe, record.run)] if record is not None and record.run else []
            found |= {one.sweep for one in verdicts if one is not None and one.sweep}
    return found


def _calls(world: World) -> Iterator[Path]:
    """Calls by hand that are over for long; those that have claimed a night tell which night was swept."""
    claimed, now = set(world.sweeps.nights.claimed().values()), world.now().timestamp()
    for folder in entries(world.settings.state / "calls"):
        with contextlib.suppress(OSError):
            touched = max([folder.stat().st_mtime, *(path.stat().st_mtime for path in folder.rglob("*"))])
            if folder.is_dir() and folder.name not in claimed and is_old(touched, now, world.settings.keep_days, LEAST_DAYS):
                yield folder


def _gone(world: World) -> Iterator[Path]:
    """Runs and clones of recipes that are enrolled no more, have no canonical, and of which nothing has happened for long."""
    try:
        enrolled = world.checkout.enrolled()
    except CanonqError:
        return  # who is enrolled is not known: nobody is gone
    there, now = {*enrolled.names, *enrolled.off}, world.now().timestamp()
    kept = set(world.registry.begun())
    for kind in ("runs", "repos"):
        for folder in entries(world.settings.state / kind):
            if folder.name in there or folder.name in kept or not RECIPE_NAME.fullmatch(folder.name):
                continue
            with contextlib.suppress(OSError):
                touched = max([folder.stat().st_mtime, *(path.stat().st_mtime for path in entries(folder))])
                if is_old(touched, now, world.settings.keep_days):
                    yield folder


def rotate(folder: Path, *, dry_run: bool = False) -> list[Path]:
    """Put logs aside that have grown large, the newest few of each. Whoever writes to one goes on at its beginning."""
    done = []
    for path in entries(folder):
        with contextlib.suppress(OSError):
            if path.suffix != ".log" or path.is_symlink() or path.stat().st_size <= LOG_SIZE:
                continue
            done.append(path)
            if dry_run:
                continue
            for number in range(_LOGS - 1, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                if older.is_file():
                    older.replace(path.with_name(f"{path.name}.{number + 1}"))
            shutil.copyfile(path, path.with_name(f"{path.name}.1"))
            with path.open("r+b") as file:  # its writers append
                file.truncate()
    return done
