"""The plain files of a run's stacks, and what they say of each other (core/stack/witness.py)."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from canonq.adapters.data import counting
from canonq.adapters.processes.stopping import check_stop
from canonq.core.jsontext import table_of
from canonq.core.stack.census import Census, has_more
from canonq.core.stack.databases import are_alone
from canonq.core.stack.witness import File, Files, Witness, called, lost_files, somebodys_own
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.hooks import POPULATE, WRITE_MARKER
from canonq.flows.proving.run import Run
from canonq.flows.world import World

_KEPT = "first-files.json"  #: in a run's folder: what a new install of its version makes by itself
_MOST_KEPT = 20_000  #: files
_LARGEST = 32 << 20  #: bytes of that file
_AGAIN = (1.0, 2.0, 0.0)  #: seconds after a look that shows a loss, until it is looked again


def files_of(run: Run, running: Running) -> Files:
    """The plain files in the volumes of what runs, but for a database server's own."""
    began, names = time.monotonic(), own_names(running)
    own = are_alone(run.servers(running), running.stack.images)
    servers = {volume for volume, service, _ in run.world.data.mounted(running.stack.stack) if service in own}
    found = {
        key: {called(path, names): one for path, one in counting.contents(folder, run.known_files, tuple(names)).items()}
        for key, folder in folders(run.world, running).items()
        if running.stack.volumes[key] not in servers
    }
    spent = run.account.timings.get("files", 0.0)
    run.account.timings["files"] = round(spent + time.monotonic() - began, 3)
    return found


def own_names(running: Running) -> dict[str, str]:
    """What is another in each place, and an app may write into its files, the longest first -> a word for it."""
    names = {running.identity.domain: "DOMAIN", running.identity.stack: "STACK"}
    return dict(sorted(names.items(), key=lambda one: len(one[0]), reverse=True))


def folders(world: World, running: Running) -> dict[str, Path]:
    """Key in the recipe -> where each volume lies on this host that what runs has mounted."""
    used = world.volumes.volumes_in_use(running.stack.stack)
    return {key: used[name] for key, name in running.stack.volumes.items() if name in used}


def note_first_files(run: Run, running: Running) -> None:
    """Note what a new install of the version under test has made by itself, for this run and those from it on."""
    run.findings.first_files = found = files_of(run, running)
    keep_files(run.folder, found)


def keep_files(folder: Path, files: Files) -> None:
    """Keep what a new install has made by itself, in a folder."""
    kept = {key: {path: list(one) for path, one in sorted(there.items())[:_MOST_KEPT]} for key, there in files.items()}
    with contextlib.suppress(OSError):
        (folder / _KEPT).write_text(json.dumps(kept))


def kept_files(folder: Path) -> Files | None:
    """What was kept in a folder; None where nothing was."""
    try:
        with (folder / _KEPT).open("rb") as file:
            kept = table_of(file.read(_LARGEST))
        return {
            key: {name: File(int(one[0]), str(one[1]), str(one[2]) if len(one) > 2 else "") for name, one in files.items()}
            for key, files in kept.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, IndexError, KeyError):
        return None  # of an older canonq, or spoilt: nothing is concluded from it


def witness(run: Run) -> Witness:
    """What is known by now."""
    found = run.findings
    return Witness(
        first=found.base_first_files,
        default=found.first_files,
        later=found.later_files,
        used="after_install" in run.hooks,
    )


def _somebody_was_there(run: Run) -> bool:
    """Whether anybody has put something into the app: the person who enrolled it, or whoever proved the canonical."""
    return bool(run.hooks & {"after_install", "before_upgrade", POPULATE, WRITE_MARKER})


def lost_of(run: Run, running: Running, by: Witness, before: Files, was: Census, now: Callable[[], Census]) -> list[str]:
    """A phrase for each volume with files of somebody's that are lost, also when they are looked for again."""
    told = list[str]()
    for pause in _AGAIN if before else ():
        after, count = files_of(run, running), now()
        grown = not _somebody_was_there(run) or has_more(was, count)
        told = lost_files(before, after, by, run.enrolment.data.volatile, grown=grown, unread=bool(count.unread))
        if not told:
            break
        check_stop()
        time.sleep(min(pause, left(run.deadline)))
    return told


def made_by_somebody(run: Run, held: Files) -> Mapping[str, list[str]]:
    """Key of a volume -> the paths in it that somebody has made or changed, of what is there now."""
    if not _somebody_was_there(run):
        return {}
    earlier = run.findings.base_used_files if run.findings.base.version is not None else None
    return somebodys_own(held, earlier, witness(run), run.enrolment.data.volatile)


def paths_declared(run: Run) -> set[str]:
    """Names under [data] volatile that are a path in a volume where something was in this run."""
    found = run.findings
    seen = {
        f"{key}/{path}/"
        for files in (found.first_files, found.later_files, found.base_used_files, found.held_files)
        for key, paths in files.items()
        for path in paths
    }
    named = [name for name in run.enrolment.data.volatile if "/" in name]
    return {name for name in named if any(one.startswith(f"{name.rstrip('/')}/") for one in seen)}
