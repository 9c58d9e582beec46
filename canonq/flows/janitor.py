"""The janitor: removes what dead runs left, by label and by lease, and nothing else (SPEC section 5.4)."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

from canonq.adapters.files import told
from canonq.core.deployable import LABEL_INSTANCE, LABEL_KIND, LABEL_OWNER
from canonq.flows.world import World

_ALIVE = "alive"


@contextlib.contextmanager
def alive(work: Path) -> Iterator[None]:
    """Show that the owner of this scratch folder lives. The file lock ends with the process, however it dies."""
    # Built under another name and renamed when locked, so that no janitor sees it without its lock.
    half = work.with_name(f".new-{work.name}")
    with told(work):
        half.mkdir(parents=True, mode=0o700)
        file = (half / _ALIVE).open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        half.rename(work)
        yield


def is_alive(work: Path) -> bool:
    """Whether the owner of this scratch folder lives."""
    try:
        with (work / _ALIVE).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False


def clean(world: World, *, recipe: str | None = None, dry_run: bool = False) -> list[str]:
    """Remove everything of runs whose owner is dead; a sentence for each."""
    done = []
    ours = {LABEL_INSTANCE: world.instance, LABEL_KIND: "run"}
    owners = set(world.engine.owners(ours)) | {path.name for path in world.work.glob("[!.]*") if path.is_dir()}
    for owner in sorted(owners):
        folder = world.work / owner
        if is_alive(folder) or (recipe is not None and f"-{recipe}-" not in owner):
            continue
        left = world.engine.owned({**ours, LABEL_OWNER: owner})
        listed = [f"{kind} {', '.join(names)}" for kind, names in left.items() if names]
        if folder.is_dir():
            listed.append(f"folder {folder}")
        if not dry_run:
            world.engine.remove_owned({**ours, LABEL_OWNER: owner}, world.settings.teardown_timeout)
            shutil.rmtree(folder, ignore_errors=True)
        done.append(
            f"{'would remove' if dry_run else 'removed'} what the dead run {owner} left: {'; '.join(listed) or 'nothing'}"
        )
    return done
