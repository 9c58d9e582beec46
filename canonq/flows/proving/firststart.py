"""What a canonical's version makes of itself where somebody installs it anew, and what use leaves in it: told by the run that
proved it, or seen once where nobody tells (docs/decisions/0047-the-same-use.md)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from canonq.adapters.files import remove_tree
from canonq.core.errors import EnrolmentProblem, RecipeProblem
from canonq.core.records import Canonical
from canonq.flows.deploying.stages import Deployment
from canonq.flows.proving.intier import about_version, comes_up, remove_stack, start_of
from canonq.flows.proving.inuse import in_use
from canonq.flows.proving.marking import hook_of_tier
from canonq.flows.proving.run import Run
from canonq.flows.proving.using import HOOK, before_use, keep_use, kept_use, since
from canonq.flows.proving.witnesses import files_of, keep_files, kept_files

_FOLDER = "first-start"  #: in a run's folder, and in a recipe's warm folder: what was seen of its canonical
_ABOUT = "about.json"


class _About(BaseModel):
    """Of what it was seen."""

    model_config = ConfigDict(frozen=True)

    commit: str
    enrolment: str  #: its digest
    trusted: bool  #: whether as a release is deployed: what a ref runs beside has other names, and no secrets of others
    filled: dict[str, int]


def recall_first_start(run: Run) -> bool:
    """Note what is known of the first start of the canonical's version, by this very enrolment; whether anything is."""
    found, record = run.findings, run.target.data
    for folder, filled in _told(run, record) if record is not None else ():
        files, use = kept_files(folder), kept_use(folder)
        if files is not None and (use is not None or HOOK not in run.hooks):
            found.base_first_start, found.base_first_files, found.base_use = filled, files, use
            return True
    return False


def see_first_start(run: Run, fresh: Deployment) -> None:
    """Install the canonical's version once on empty volumes, where the fresh install is to be, and note what it makes of itself,
    for this run and, where it is of a release, those from that canonical on. Where it does not come up, that is told, and nothing
    is known."""
    base, record = run.target.base, run.target.data
    if record is None or base.version is None or base.commit is None:
        return
    app, found = fresh.of(base.version, base.commit), run.findings
    kept = run.world.registry.folder(run.enrolment.recipe) / _FOLDER
    try:
        with about_version(base.version):
            hook_of_tier(run, "before", "install", app)
            found.phase = "first start"
            running = comes_up(run, _FOLDER, start_of(run, _FOLDER, app, new=True))
            files, before = files_of(run, running), before_use(run, running)
            hook_of_tier(run, "after", "install", running)
            filled = in_use(run, running)
            use = since(run, running, before, files) if before is not None else None
    except (RecipeProblem, EnrolmentProblem) as error:
        found.not_looked_at += (
            f"in-use-unproven: what {base.version} fills where it is installed anew is not known, so a release that leaves its "
            f"data alone may not be seen: {run.masks.text(error.what)}",
        )
        return
    finally:
        remove_stack(run, app)
        run.vigils.pop(app.identity.stack, None)
    found.base_first_start, found.base_first_files, found.base_use = filled, files, use
    run.account.note(
        f"first-start: {base.version} was installed on empty volumes once more, as nothing was on record of what it fills there"
    )
    if not app.is_trusted:
        return
    digest = run.world.checkout.digest(run.enrolment.recipe)
    about = _About(commit=base.commit, enrolment=digest, trusted=True, filled=dict(filled))
    with contextlib.suppress(OSError):
        remove_tree(kept)
        kept.mkdir(parents=True)
        keep_files(kept, files)
        keep_use(kept, use)
        (kept / _ABOUT).write_text(about.model_dump_json())


def _told(run: Run, record: Canonical) -> Iterator[tuple[Path, dict[str, int]]]:
    """The folders that may tell of the canonical's first start, each with what it filled."""
    recipe, enrolment = run.enrolment.recipe, run.world.checkout.digest(run.enrolment.recipe)
    verdict = run.world.runs.verdict(recipe, record.run) if record.run else None
    if verdict is not None and verdict.version == record.version == run.target.base.version and verdict.enrolment == enrolment:
        yield Path(verdict.directory), dict(verdict.first_start)
    kept = run.world.registry.folder(recipe) / _FOLDER
    with contextlib.suppress(OSError, ValueError):
        about = _About.model_validate_json((kept / _ABOUT).read_bytes())
        if (about.commit, about.enrolment, about.trusted) == (record.commit, enrolment, run.app.is_trusted):
            yield kept, about.filled
