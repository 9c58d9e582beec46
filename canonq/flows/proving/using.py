"""What the enrolment's hooks leave in a new install of the base and of the version under test (core/stack/use.py)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from canonq.core.stack.census import Census
from canonq.core.stack.use import Use, not_kept, use_between
from canonq.core.stack.witness import Files
from canonq.flows.deploying.stages import Running
from canonq.flows.proving.counting import take_census
from canonq.flows.proving.run import Run
from canonq.flows.proving.witnesses import files_of

HOOK = "after_install"
_KEPT = "use.json"  #: in a run's folder: what its hooks have left in a new install of its version
_LARGEST = 4 << 20  #: bytes of that file


def before_use(run: Run, running: Running) -> Census | None:
    """What a new install holds before it is used; None where no hook uses it."""
    return take_census(run.world.data, running, run.servers(running)) if HOOK in run.hooks else None


def note_use_of_base(run: Run, base: Running, before: Census | None) -> None:
    """Note what the use of the base has left just now, on empty volumes; of a canonical, it is known or not by then."""
    found = run.findings
    if run.target.data is None and before is not None and found.base_first_files is not None:
        found.base_use = since(run, base, before, found.base_first_files)


def note_use(run: Run, census: Census, files: Files) -> None:
    """Note what the use of the fresh install has left, for this run and those from it on."""
    found = run.findings
    if found.before_use is None:
        return
    found.use = use_between(found.before_use, census, found.first_files, files, run.enrolment.data.volatile)
    keep_use(run.folder, found.use)


def keep_use(folder: Path, use: Use | None) -> None:
    """Keep what use has left, in a folder."""
    with contextlib.suppress(OSError):
        if use is not None:
            (folder / _KEPT).write_text(use.model_dump_json())


def look_again(run: Run, fresh: Running) -> None:
    """Where it left less than in the base, or that is not known yet: look once more, when it has had time and more use."""
    found = run.findings
    if found.before_use is None or found.use is None or (found.base_use is not None and not unused(run)):
        return
    found.use = found.use.also(since(run, fresh, found.before_use, found.first_files))


def unused(run: Run) -> list[str]:
    """A phrase for each kind of data that the same use leaves in the base, and not in the fresh install."""
    found = run.findings
    if found.base_use is None or found.use is None:
        return []
    held = found.held_files or found.base_used_files
    return not_kept(found.base_use, found.use, found.census, held, run.enrolment.data.shrink)


def since(run: Run, running: Running, before: Census, was: Files) -> Use:
    """What has come since two earlier looks at an install: at all that it holds, and at its plain files."""
    now = take_census(run.world.data, running, run.servers(running))
    return use_between(before, now, was, files_of(run, running), run.enrolment.data.volatile)


def kept_use(folder: Path) -> Use | None:
    """What was kept in a folder; None where nothing was."""
    try:
        with (folder / _KEPT).open("rb") as file:
            return Use.model_validate_json(file.read(_LARGEST))
    except (OSError, ValueError):
        return None  # of an older canonq, or spoilt: nothing is concluded from it
