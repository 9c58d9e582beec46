"""The checkout that CANONQ_REPO names: which recipes are enrolled, and with what."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from canonq.adapters.files import plain_bytes, remove_tree, told, told_error
from canonq.adapters.git.program import GitProgram
from canonq.adapters.processes.programs import plain_environment, read
from canonq.core.enrolment import SHARED, Enrolment, circle, parse_enrolment
from canonq.core.errors import CanonqError, EnrolmentInvalid, HollowSweep, HostProblem, WrongUse
from canonq.core.names import RECIPE_NAME, recipe_name, shown
from canonq.core.text import did_you_mean, ended
from canonq.core.upstream.addresses import masked
from canonq.ports import Ended

ENROLMENT_FILE = "recipe.toml"
NO_CHECKOUT = "not a git checkout"
#: What nobody but canonq reads: a folder with one of them was meant as an enrolment.
_OURS = frozenset({"hooks.py", "install_steps.sh", "compose.canonq.yml"})
_READINGS = 5  #: how often an enrolment is read that changes while it is
_GIT_LIMIT = 30.0  #: seconds
_MOST_NAMED = 30  #: recipes in one sentence
_PULLED = "refs/canonq/pulled"  #: what was fetched for `pull`; not the remote's own branch, which is the person's to fetch


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
    """Reads enrolments; writes nothing, but for `pull`."""

    def __init__(self, repo: Path | None, readings: Path | None = None, git: GitProgram | None = None) -> None:
        self._repo = repo
        self._readings = readings  #: enrolments that were kept when a sweep began
        self._program = git  #: with its limits and credentials, for what is asked of a remote

    @property
    def root(self) -> Path:
        """The checkout. HollowSweep when it is not configured or not there."""
        if self._repo is None:
            raise HollowSweep(
                "No checkout is configured: CANONQ_REPO is not set.",
                mend="set CANONQ_REPO (or `repo` in canonq.toml) to the folder that holds tests/<recipe>/recipe.toml.",
            )
        if self._readings is None and not self._repo.is_dir():
            raise HollowSweep(f"The checkout {self._repo} (CANONQ_REPO) does not exist.", mend="clone it, or correct the path.")
        return self._repo.resolve()

    @property
    def tests(self) -> Path:
        """The folder of enrolments. HollowSweep when it is not there."""
        folder = self.root / "tests"
        if not folder.is_dir():
            raise HollowSweep(
                f"The checkout has no folder {folder}.",
                mend="point CANONQ_REPO at the folder above tests/; in a new git checkout `canonq enrol RECIPE` makes it.",
            )
        return folder

    @property
    def tests_to_be(self) -> Path:
        """The same for who writes the first enrolment: in a git checkout it need not be there yet. HollowSweep elsewhere."""
        return self.root / "tests" if (self.root / ".git").exists() else self.tests

    def folder(self, recipe: str) -> Path:
        """One recipe's enrolment folder."""
        name = recipe_name(recipe)
        if self._readings is not None and (self._readings / name).is_dir():
            return self._readings / name
        return self.tests / name

    def enrolled(self) -> Enrolled:
        """Read every enrolment; one that is broken, cannot be read or is misspelt is kept with its error.

        HollowSweep when there is none at all.
        """
        tests = self.tests
        found, broken, off = {}, {}, []
        try:
            with os.scandir(tests) as entries:
                folders = sorted(tests / entry.name for entry in entries if _may_be_one(entry))
        except OSError as error:
            raise HollowSweep(f"{tests} cannot be read: {error.strerror}.", mend="let canonq read it.") from error
        for folder in folders:
            try:
                if not _is_enrolment(folder):
                    continue
                enrolment = self._read(folder)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one is its own
                broken[folder.name] = told_error(error, f"{folder.name}: reading its enrolment")
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
        folder = self.folder(name)
        if not (folder.is_dir() and _is_enrolment(folder)):
            known = self.enrolled().names
            raise WrongUse(
                ended(
                    f"The recipe {shown(name)} is not enrolled: there is no {folder / ENROLMENT_FILE}{did_you_mean(name, known)}"
                ),
                mend=f"enrolled recipes: {', '.join(known[:_MOST_NAMED])}{' ...' if len(known) > _MOST_NAMED else ''}.",
                code="not-enrolled",
            )
        return self._read(folder)

    def keep_shared(self, readings: Path) -> None:
        """Have what lies beside the recipes for all in `readings`, too. Once for all of them: it looks at each folder."""
        with told(readings):
            readings.mkdir(parents=True, exist_ok=True)
            for path in self.tests.iterdir():
                link = readings / path.name
                if not os.path.lexists(link) and not (path / ENROLMENT_FILE).exists():
                    with contextlib.suppress(FileExistsError):
                        link.symlink_to(path)

    def keep(self, recipe: str, readings: Path) -> None:
        """Copy a recipe's enrolment to `readings`, as it is at one moment."""
        source, target = self.tests / recipe_name(recipe), readings / recipe_name(recipe)
        if target.is_dir():
            return
        with told(readings):
            readings.mkdir(parents=True, exist_ok=True)
            for _ in range(_READINGS):
                half = Path(tempfile.mkdtemp(prefix=".new-", dir=readings))
                before = _digest(source)
                _copy(source, half)
                if _digest(half) == before == _digest(source):
                    break
                remove_tree(half)
            else:
                raise EnrolmentInvalid(f"{source} changed again and again while it was read.", mend="sweep again.")
            try:
                half.chmod(0o755)
                half.rename(target)
            except OSError:
                remove_tree(half)
                if not target.is_dir():  # else another worker has kept it just now
                    raise

    def reading(self, readings: Path) -> Checkout:
        """The same checkout, with the enrolments that were kept as they were when they were."""
        return Checkout(self._repo, readings, self._program)

    def _read(self, folder: Path) -> Enrolment:
        path = folder / ENROLMENT_FILE
        if not RECIPE_NAME.fullmatch(folder.name):
            raise EnrolmentInvalid(
                f"{folder} is not named like a recipe.",
                mend="use lower-case letters, digits, '-' and '_', at most 40.",
                code="bad-recipe-name",
            )
        try:
            content = plain_bytes(path)
            text = content.decode()
        except UnicodeDecodeError as error:
            line = content[: error.start].count(b"\n") + 1
            raise EnrolmentInvalid(f"{path}:{line} is not UTF-8 text: {error.reason}.", mend="save the file as UTF-8.") from error
        except OSError as error:
            mend = "let canonq read it." if path.is_file() else "it has to be a file."
            raise EnrolmentInvalid(f"{path} cannot be read: {error.strerror}.", mend=mend) from error
        enrolment = parse_enrolment(folder.name, text, where=str(path))
        self._check_deps(enrolment, path)
        return enrolment

    def _check_deps(self, enrolment: Enrolment, path: Path) -> None:
        """EnrolmentInvalid when a recipe depends on one that is not enrolled, or by a way round on itself."""
        for name in enrolment.deps:
            if not (self.folder(name) / ENROLMENT_FILE).is_file():
                others = [one.parent.name for one in self.tests.glob(f"*/{ENROLMENT_FILE}")]
                raise EnrolmentInvalid(
                    ended(f"{path}: deps names {shown(name)}, which is not enrolled{did_you_mean(name, others)}"),
                    mend=f"enrol it, or take it out of deps of {enrolment.recipe}.",
                )
        if way := circle(enrolment.recipe, self._deps) if enrolment.deps else ():
            raise EnrolmentInvalid(
                f"{path}: {enrolment.recipe} needs itself first: {' -> '.join(way)}.",
                mend="take one of these out of the deps of the one before it; none of them can have a canonical otherwise.",
                code="deps-circle",
            )

    def _deps(self, recipe: str) -> list[str]:
        """What a recipe depends on; nothing where its own enrolment cannot be read, which is told of that one."""
        try:
            return parse_enrolment(recipe, plain_bytes(self.folder(recipe) / ENROLMENT_FILE).decode(), where=recipe).deps
        except (CanonqError, OSError, UnicodeDecodeError):
            return []

    def digest(self, recipe: str) -> str:
        """Digest of all files of an enrolment and of what all share, so that a changed one releases a held red."""
        own, shared = _digest(self.folder(recipe)), self.tests / SHARED
        return hashlib.sha256(f"{own}{_digest(shared)}".encode()).hexdigest() if shared.is_dir() else own

    def code_digest(self, recipe: str) -> str:
        """The same without recipe.toml: of hooks, tests, and what they read."""
        own, shared = self.folder(recipe), self.tests / SHARED
        files = _digest(own, but=ENROLMENT_FILE)
        return hashlib.sha256(f"{files}{_digest(shared)}".encode()).hexdigest() if shared.is_dir() else files

    def was_removed(self, recipe: str, since: str) -> bool:
        """Whether a recipe was taken out by a commit after the revision `since`: somebody meant it."""
        file = f"./tests/{recipe}/{ENROLMENT_FILE}"
        then, now = self._git("cat-file", "-e", f"{since.removesuffix('+U')}:{file}"), self._git("cat-file", "-e", f"HEAD:{file}")
        return then is not None and now is None and self._git("rev-parse", "HEAD") is not None

    def behind(self) -> str | None:
        """What its remote has for its branch and it has not, as a sentence; None when it has all, or that cannot be told."""
        tracked = self.tracked()
        if tracked is None:
            return None
        branch, remote, theirs = tracked
        listed = (self._git("ls-remote", remote, theirs) or "").splitlines()
        newest = next((line.partition("\t")[0] for line in listed if line.endswith(f"\t{theirs}")), "")
        if not newest or self._git("merge-base", "--is-ancestor", newest, "HEAD") is not None:
            return None
        return f"The checkout {self.root} is behind its remote: {branch} is at {newest[:12]} there."

    def tracked(self) -> tuple[str, str, str] | None:
        """The branch that is checked out, its remote, and what it follows there; None when it follows nothing."""
        branch = (self._git("symbolic-ref", "--quiet", "--short", "HEAD") or "").strip()
        remotes = (self._git("remote") or "").split()
        if not branch or not remotes:
            return None
        # A branch may track one of another name, on another remote than the first.
        remote = (self._git("config", f"branch.{branch}.remote") or "").strip() or remotes[0]
        return branch, remote, (self._git("config", f"branch.{branch}.merge") or "").strip() or f"refs/heads/{branch}"

    def pull(self) -> None:
        """Go forward to what the branch that is checked out follows; HostProblem when that cannot be done, and nothing is then.

        What somebody has changed or committed here is left alone: there is no merging.
        """
        tracked = self.tracked()
        if tracked is None:
            raise _not_pulled(
                self.root, "it follows no branch of a remote", "make it a git clone on a branch, or set pull = false."
            )
        _, remote, theirs = tracked
        folder = Path((self._git("rev-parse", "--absolute-git-dir") or "").strip())
        url = (self._git("remote", "get-url", remote) or "").strip()
        if url.startswith(("./", "../")):
            url = os.path.normpath(Path((self._git("rev-parse", "--show-toplevel") or "").strip()) / url)
        program = self._program or GitProgram()
        fetched = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", url, f"+{theirs}:{_PULLED}")
        ended = program.transfer(folder, url, *fetched)
        if ended.status == 0:
            ended = self._ask("merge", "--ff-only", "--quiet", _PULLED, harmless=False)
        if ended.status != 0:
            said = " ".join(masked(ended.errors or ended.output).split())[-300:]
            raise _not_pulled(
                self.root,
                said or "git gave no reason",
                "run `git pull` there; what was changed or committed there may be in the way.",
            )

    def _git(self, *arguments: str) -> str | None:
        """What a git command says about the checkout, whoever owns it; None when it fails."""
        try:
            ended = self._ask(*arguments)
        except CanonqError:
            return None
        return ended.raw.decode(errors="replace") if ended.status == 0 else None

    def _ask(self, *arguments: str, harmless: bool = True) -> Ended:
        # What runs from this folder is trusted; git need not mistrust its owner, and neither a file system monitor nor a hook is
        # asked for.
        options = ("safe.directory=*", "core.fsmonitor=false", "core.hooksPath=/dev/null")
        command = ["git", *(part for option in options for part in ("-c", option)), "-C", str(self.root), *arguments]
        return read(command, timeout=_GIT_LIMIT, env=plain_environment(GIT_TERMINAL_PROMPT="0"), harmless=harmless)

    def revision(self) -> str:
        """Commit of the checkout with `+U` when it has changes, whoever owns it; NO_CHECKOUT when it is none."""
        commit = self._git("rev-parse", "--verify", "HEAD")
        if commit is None:
            return NO_CHECKOUT
        return f"{commit.strip()[:12]}{'+U' if self._git('status', '--porcelain') else ''}"


def at_revision(place: object, revision: str) -> str:
    """A checkout with its revision, for people."""
    return f"{place} ({revision})" if revision == NO_CHECKOUT else f"{place} at {revision}"


def _not_pulled(root: Path, why: str, mend: str) -> HostProblem:
    return HostProblem(f"The checkout {root} could not be brought up to date: {why}.", mend=mend, code="checkout-not-pulled")


def _may_be_one(entry: os.DirEntry[str]) -> bool:
    """Whether an entry below tests/ is a folder of a recipe, or a link that was to be one; `_` and `.` begin other names."""
    return not entry.name.startswith((".", "_")) and (entry.is_dir() or entry.is_symlink())


def _is_enrolment(folder: Path) -> bool:
    """Whether a folder enrols a recipe. EnrolmentInvalid when it was to, and does not: it must not drop out in silence."""
    try:
        with os.scandir(folder) as entries:
            names = {entry.name for entry in entries}
    except OSError as error:
        raise EnrolmentInvalid(f"{folder} cannot be read: {error.strerror}.", mend="let canonq read it.") from error
    if ENROLMENT_FILE in names:
        return True
    spelt = difflib.get_close_matches(ENROLMENT_FILE, sorted(names), n=1, cutoff=0.8)
    meant = spelt or sorted(names & _OURS)
    if meant:
        raise EnrolmentInvalid(
            f"{folder} has {meant[0]} and no {ENROLMENT_FILE}.",
            mend=f"write {ENROLMENT_FILE} (`enrolled = false` switches it off), or begin the folder's name with '_'.",
            code="enrolment-missing",
        )
    return False


def _digest(folder: Path, but: str = "") -> str:
    summed = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and str(path.relative_to(folder)) != but:
            summed.update(f"{path.relative_to(folder)}\0{path.stat().st_mode & 0o111}\0".encode())
            summed.update(hashlib.sha256(path.read_bytes()).digest())
    return summed.hexdigest()


def _copy(source: Path, target: Path) -> None:
    """Copy all that a digest looks at; a link to a folder still leads there."""
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if "__pycache__" in path.parts:
            continue
        if path.is_dir():
            copy.symlink_to(path.resolve()) if path.is_symlink() else copy.mkdir()
        elif path.is_file():
            shutil.copy(path, copy)
