"""enrol: find a recipe, look into its newest release, and write a commented recipe.toml for a person to finish."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from canonq.adapters.checkout import ENROLMENT_FILE
from canonq.adapters.files import NEW, told, write_durably
from canonq.adapters.network.catalogue import read_catalogue
from canonq.core.enrol.files import enrolment_text, hooks_text
from canonq.core.enrol.inspect import Inspected, inspect
from canonq.core.enrolment import parse_enrolment
from canonq.core.errors import RecipeProblem, SyncFailed, WrongUse
from canonq.core.names import recipe_name
from canonq.core.recipe.assembly import SAMPLE, app_env, assemble
from canonq.core.recipe.envfile import secret_rules
from canonq.core.stack.databases import unmarked_in
from canonq.core.upstream.addresses import address
from canonq.core.upstream.catalogue import Entry, find
from canonq.core.versions import Release, read_tags
from canonq.flows.proving.hooks import HOOKS
from canonq.flows.world import World
from canonq.ports import Listing, Repos

_STACK = "enrol"
#: Causes of which the address may be to blame.
_BY_ADDRESS = ("upstream-gone", "upstream-moved", "upstream-unreachable")


def enrol(
    world: World, recipe: object, *, upstream: str | None = None, catalogue: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `tests/<recipe>/recipe.toml`, and a hooks.py to be finished where one is needed; what was found: path, hooks,
    upstream, version, problem, and what the release tells.

    WrongUse when the recipe is enrolled already (unless `force`) or not in the catalogue, SyncFailed when its repository
    cannot be read. A release that cannot be looked into is no failure: the file says so.
    """
    name = recipe_name(recipe)
    path = world.checkout.tests_to_be / name / ENROLMENT_FILE
    if path.exists() and not force:
        raise WrongUse(
            f"{name} is enrolled already: {path} is there.", mend="edit it, or write it again with --force.", code="enrolled"
        )
    where = catalogue or world.settings.catalogue
    entry = Entry(name, upstream) if upstream else find(read_catalogue(where), name, where=where)
    url = address(entry.repository, str(world.checkout.root))
    release, found = _look(world, name, url, typed=upstream is not None)
    if isinstance(found, Inspected):
        found = _with_gaps(world, name, found)
    text = enrolment_text(name, entry.repository, found, version=release.tag if release else None, description=entry.description)
    parse_enrolment(name, text, where="what would be written")
    hooks = path.with_name(HOOKS)
    stub = hooks_text(name, found) if isinstance(found, Inspected) and not hooks.exists() else None
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, text.encode())
        if stub is not None:
            write_durably(hooks, stub.encode())
    return {
        "recipe": name,
        "path": str(path),
        "hooks": str(hooks) if stub is not None else None,
        "upstream": entry.repository,
        "version": release.tag if release else None,
        "problem": found if isinstance(found, str) else None,
        "found": _told(found) if isinstance(found, Inspected) else None,
    }


def _look(world: World, name: str, url: str, *, typed: bool) -> tuple[Release | None, Inspected | str]:
    """The newest release, and what it tells; in a clone of its own, as this may never become an enrolment."""
    with tempfile.TemporaryDirectory(prefix=f"{NEW}enrol-", dir=_scratch(world)) as folder:
        repos = world.repos.elsewhere(Path(folder))
        repos.update(name, url, _listed(repos, url, typed=typed))
        releases, refused = read_tags(repos.tags(name))
        if not releases:
            return None, f"it has no release ({len(refused)} tag(s) that are not releases)."
        release = releases[-1]
        try:
            return release, _inspected(repos, name, release)
        except RecipeProblem as error:
            return release, f"{release.tag}: {error.what}"


def _listed(repos: Repos, url: str, *, typed: bool) -> Listing:
    """What a repository has, of whose address no recipe.toml says anything yet: it was typed, or the catalogue has it."""
    try:
        return repos.listing(url)
    except SyncFailed as error:
        if typed and error.cause == "upstream-gone":
            raise WrongUse(error.what, mend="correct --upstream.") from error
        if error.cause in _BY_ADDRESS:
            error.mend = "look at the network and the server, or give another address with --upstream."
        raise


def _with_gaps(world: World, name: str, found: Inspected) -> Inspected:
    """With the databases that runs before have seen, and could not mark: those that are files tell nothing by an image."""
    last = world.runs.newest(name)
    seen = unmarked_in(last.gaps) if last is not None else {}
    return replace(
        found, unmarked={service: kind for service, kind in seen.items() if service in found.services} | found.unmarked
    )


def _scratch(world: World) -> Path:
    with told(world.work):
        world.work.mkdir(parents=True, exist_ok=True)
    return Path(os.fspath(world.work))


def _inspected(repos: Repos, name: str, release: Release) -> Inspected:
    def read(path: str) -> str | None:
        return repos.show(name, release.commit, path)

    sample = read(SAMPLE) or ""
    made = assemble(read, app_env(sample, named=f"{name}:{release.tag}", domain="enrol.example.org", stack=_STACK))
    return inspect(made.stack, secret_rules(sample, made.env), made.env, name=_STACK)


def _told(found: Inspected) -> dict[str, Any]:
    return {
        "services": found.services,
        "volumes": list(found.volumes),
        "secrets": list(found.wanted_secrets),
        "backup": found.backup.value,
        "health": {"kind": found.kind.value, "service": found.service.value, "port": found.port.value, "path": found.path.value},
        "weight": found.weight.value,
        "problems": list(found.problems),
    }
