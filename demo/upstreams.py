"""Recipes' git repositories for the demonstration, made from the plain files in `demo/recipes`.

`demo/recipes/<name>/history.toml` lists a repository's commits in order; each names the folder beside it that holds
the whole tree of that commit. The same files give the same commits, wherever and whenever they are made.
"""

from __future__ import annotations

import datetime
import os
import shutil
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from git import Repo
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

RECIPES: Final = Path(__file__).with_name("recipes")
ENROLMENTS: Final = Path(__file__).with_name("enrolments")
_HISTORY: Final = "history.toml"
_PLACEHOLDER: Final = "@UPSTREAM@"
_BEGINNING: Final = datetime.datetime(2026, 3, 2, 9, tzinfo=datetime.UTC)
_AUTHOR: Final = {"NAME": "Recipe Maintainer", "EMAIL": "maintainer@example.com"}
#: Settings of whoever runs this would change the commits: signing, line ends, templates with hooks.
_WITHOUT_THE_HOST: Final = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_TEMPLATE_DIR": ""}

_Text = Annotated[str, StringConstraints(min_length=1)]


class Commit(BaseModel):
    """One commit of a recipe's history, and the tag on it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    tree: _Text  #: the folder, beside history.toml, that holds the whole tree
    message: _Text
    tag: _Text | None = None
    annotated: bool = True
    phase: Literal["first", "later"] = "first"


class History(BaseModel):
    """A recipe's history.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    branch: _Text = "main"
    commit: Annotated[list[Commit], Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        phases = [commit.phase for commit in self.commit]
        if phases != sorted(phases) or phases[0] != "first":
            raise ValueError('commits of the phase "later" come after at least one of the phase "first"')
        return self


def recipe_names() -> list[str]:
    """Every recipe there is a history for."""
    return sorted(path.parent.name for path in RECIPES.glob(f"*/{_HISTORY}"))


def history(name: str) -> History:
    """What history.toml of a recipe says; ValueError when there is none or it is wrong."""
    path = RECIPES / name / _HISTORY
    if name not in recipe_names():
        raise ValueError(f"There is no demo recipe '{name}'; there are: {', '.join(recipe_names())}.")
    try:
        return History.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise ValueError(f"{name}/{_HISTORY} cannot be used: {error}") from error


def make_upstreams(target: Path, names: Iterable[str] | None = None) -> dict[str, Path]:
    """Make the repositories `target/<name>`, as they are before anything is published; return name -> path.

    A repository that is there already is made anew; what else is in `target` stays. `names` None means all.
    """
    made: dict[str, Path] = {}
    for name in recipe_names() if names is None else names:
        told = history(name)
        made[name] = (target / name).resolve()
        repo = _fresh_repo(made[name], told.branch)
        try:
            for number, commit in enumerate(told.commit):
                if commit.phase == "first":
                    _add(repo, name, number, commit)
        finally:
            repo.close()
    return made


def publish(target: Path, name: str) -> str:
    """Add what a recipe's maintainers publish later to `target/<name>`; return the new tag.

    ValueError says so when there is nothing (more) to publish.
    """
    told = history(name)
    later = [(number, commit) for number, commit in enumerate(told.commit) if commit.phase == "later"]
    tags = [commit.tag for _, commit in later if commit.tag]
    if not tags:
        raise ValueError(f"The demo recipe '{name}' has no later release to publish.")
    if not (target / name / ".git").is_dir():
        raise ValueError(f"The repository of '{name}' is not in {target}: make it first.")
    repo = Repo(target / name)
    try:
        repo.git.update_environment(**_WITHOUT_THE_HOST)
        if tags[-1] in [tag.name for tag in repo.tags]:
            raise ValueError(f"The later release {tags[-1]} of '{name}' is published already.")
        for number, commit in later:
            _add(repo, name, number, commit)
    finally:
        repo.close()
    return tags[-1]


def make_checkout(target: Path, upstreams: Path, names: Iterable[str] | None = None) -> Path:
    """Make a git repository with the recipes' enrolments in `tests/<name>`, pointing at `upstreams`; return its path.

    A repository that is there already is made anew. `names` None means every recipe that has an enrolment.
    """
    chosen = [name for name in recipe_names() if _enrolment(name).is_file()] if names is None else list(names)
    for name in chosen:
        if not _enrolment(name).is_file():
            raise ValueError(f"There is no demo enrolment for '{name}'.")
    repo = _fresh_repo(target.resolve(), "main")
    # A TOML string has the same escapes for these two.
    place = str(upstreams.resolve()).replace("\\", "\\\\").replace('"', '\\"')
    try:
        for name in chosen:
            folder = target / "tests" / name
            shutil.copytree(ENROLMENTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
            told = (folder / "recipe.toml").read_text(encoding="utf-8")
            (folder / "recipe.toml").write_text(told.replace(_PLACEHOLDER, place), encoding="utf-8")
        _commit(repo, "chore: enrol the demo's recipes", 0)
    finally:
        repo.close()
    return target.resolve()


def _enrolment(name: str) -> Path:
    return ENROLMENTS / name / "recipe.toml"


def _fresh_repo(path: Path, branch: str) -> Repo:
    if path.exists() and any(path.iterdir()):
        if not (path / ".git").is_dir():
            raise ValueError(f"{path} holds something that is no git repository: remove it by hand, or take another folder.")
        shutil.rmtree(path)
    repo = Repo.init(path, initial_branch=branch, env=_WITHOUT_THE_HOST)
    repo.git.update_environment(**_WITHOUT_THE_HOST)
    return repo


def _add(repo: Repo, name: str, number: int, commit: Commit) -> None:
    """Make the tree of a commit the work tree, commit and tag it."""
    place = Path(repo.working_dir)
    for path in place.iterdir():
        if path.name == ".git":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(RECIPES / name / commit.tree, place, dirs_exist_ok=True)
    _commit(repo, commit.message, number)
    if commit.tag:
        annotation = ["--annotate", "--message", commit.tag] if commit.annotated else []
        with repo.git.custom_environment(**_signed_and_dated(number)):
            repo.git.tag(*annotation, commit.tag)


def _commit(repo: Repo, message: str, number: int) -> None:
    with repo.git.custom_environment(**_signed_and_dated(number)):
        # Copies keep their times, and git takes a file of the same size and second for one it knows.
        repo.git.read_tree("--empty")
        repo.git.add("--all", "--force", ".")
        repo.git.commit("--quiet", "--allow-empty", "--message", message)


def _signed_and_dated(number: int) -> dict[str, str]:
    """git's environment for the commit of this number: each is a week after the one before."""
    when = (_BEGINNING + number * datetime.timedelta(weeks=1)).isoformat()
    return {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in {**_AUTHOR, "DATE": when}.items()}
