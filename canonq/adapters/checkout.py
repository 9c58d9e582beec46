"""The checkout that CANONQ_REPO names: which recipes are enrolled, and with what."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from canonq.adapters.programs import plain_environment, read
from canonq.core.enrolment import Enrolment, parse_enrolment
from canonq.core.errors import CanonqError, HollowSweep, WrongUse
from canonq.core.names import RECIPE_NAME, recipe_name, shown

ENROLMENT_FILE = "recipe.toml"
NO_CHECKOUT = "not a git checkout"


@dataclass(frozen=True)
class Enrolled:
    """All enrolments found."""

    recipes: dict[str, Enrolment] = field(default_factory=dict)
    broken: dict[str, CanonqError] = field(default_factory=dict)  #: folder -> why it cannot be used
    off: tuple[str, ...] = ()  #: enrolled = false

    @property
    def names(self) -> list[str]:
        """Every recipe a sweep has to account for."""
        return sorted([*self.recipes, *self.broken])


class Checkout:
    """Reads enrolments; writes nothing."""

    def __init__(self, repo: Path | None) -> None:
        self._repo = repo

    @property
    def root(self) -> Path:
        """The checkout. HollowSweep when it is not configured or not there."""
        if self._repo is None:
            raise HollowSweep(
                "No checkout is configured: CANONQ_REPO is not set.",
                mend="set CANONQ_REPO (or `repo` in canonq.toml) to the folder that holds tests/<recipe>/recipe.toml.",
            )
        if not self._repo.is_dir():
            raise HollowSweep(f"The checkout {self._repo} (CANONQ_REPO) is not there.", mend="clone it, or correct the path.")
        return self._repo.resolve()

    @property
    def tests(self) -> Path:
        """The folder of enrolments. HollowSweep when it is not there."""
        folder = self.root / "tests"
        if not folder.is_dir():
            raise HollowSweep(f"The checkout has no folder {folder}.", mend="point CANONQ_REPO at the folder above tests/.")
        return folder

    def folder(self, recipe: str) -> Path:
        """One recipe's enrolment folder."""
        return self.tests / recipe_name(recipe)

    def enrolled(self) -> Enrolled:
        """Read every enrolment; a broken one is kept with its error. HollowSweep when there is none at all."""
        tests = self.tests
        found, broken, off = {}, {}, []
        try:
            folders = sorted(path.parent for path in tests.glob(f"*/{ENROLMENT_FILE}"))
        except OSError as error:
            raise HollowSweep(f"{tests} cannot be read: {error.strerror}.", mend="let canonq read it.") from error
        for folder in folders:
            try:
                enrolment = self._read(folder)
            except CanonqError as error:
                broken[folder.name] = error
                continue
            if enrolment.enrolled:
                found[folder.name] = enrolment
            else:
                off.append(folder.name)
        if not found and not broken:
            switched = f" ({len(off)} with enrolled = false)" if off else ""
            raise HollowSweep(
                f"Nobody is enrolled: no {ENROLMENT_FILE} in force below {tests}{switched}.",
                mend=f"write {tests}/<recipe>/{ENROLMENT_FILE}; the README shows how.",
            )
        return Enrolled(found, broken, tuple(off))

    def enrolment(self, recipe: object) -> Enrolment:
        """One recipe's enrolment, switched off or not. WrongUse, naming the enrolled ones, when there is none."""
        name = recipe_name(recipe)
        path = self.tests / name / ENROLMENT_FILE
        if not path.is_file():
            known = ", ".join(self.enrolled().names)
            raise WrongUse(
                f"The recipe {shown(name)} is not enrolled: there is no {path}.",
                mend=f"enrolled are: {known}.",
                code="not-enrolled",
            )
        return self._read(path.parent)

    def _read(self, folder: Path) -> Enrolment:
        path = folder / ENROLMENT_FILE
        if not RECIPE_NAME.fullmatch(folder.name):
            raise WrongUse(
                f"{folder} is not named like a recipe.",
                mend="use lower-case letters, digits, '-' and '_', at most 40.",
                code="bad-recipe-name",
            )
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise WrongUse(f"{path} cannot be read: {error}.", mend="correct the file.", code="enrolment-invalid") from error
        return parse_enrolment(folder.name, text, where=str(path))

    def digest(self, recipe: str) -> str:
        """Digest of all files of an enrolment, so that a changed one releases a held red."""
        folder = self.folder(recipe)
        summed = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                summed.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o111}\0".encode())
                summed.update(hashlib.sha256(path.read_bytes()).digest())
        return summed.hexdigest()

    def revision(self) -> str:
        """Commit of the checkout with `+U` when it has changes, whoever owns it; NO_CHECKOUT when it is none."""
        # What runs from this folder is trusted; git need not mistrust its owner, and a file system monitor is not asked for.
        git = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(self.root)]
        try:
            head = read([*git, "rev-parse", "--verify", "HEAD"], timeout=30, env=plain_environment(), harmless=True)
            changed = read([*git, "status", "--porcelain"], timeout=120, env=plain_environment(), harmless=True)
        except CanonqError:
            return NO_CHECKOUT
        return f"{head.output[:12]}{'+U' if changed.output.strip() else ''}" if head.status == 0 else NO_CHECKOUT
