"""check: whether enrolments can be used, by their own files alone: for whoever changes them, and for their checkout's own CI."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from canonq.adapters.files import plain_bytes
from canonq.adapters.processes.programs import plain_environment, read
from canonq.core.enrol.misnamed import misnamed
from canonq.core.errors import CanonqError, EnrolmentInvalid
from canonq.core.recipe.assembly import TEST_OVERLAY, says_something
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.text import ended, readable
from canonq.flows.deploying.filling import INSTALL_STEPS
from canonq.flows.proving.hooks import HOOKS, hook_names, hooks_told
from canonq.flows.proving.tiers import no_proof
from canonq.flows.upstream.remotes import problems_of_addresses
from canonq.flows.world import World


def check(world: World, recipes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """A row for each enrolment, or those named: `state` is ok, off (not enrolled, and looked at all the same) or broken; `reason`
    the code of the first problem, or empty.

    Neither upstream nor Docker is asked, and nothing is run. HollowSweep where nobody is enrolled, WrongUse for an unknown name.
    """
    enrolled = world.checkout.enrolled()
    names = sorted({*enrolled.names, *enrolled.off})
    for name in recipes:
        if name not in names:
            world.checkout.enrolment(name)  # says who is enrolled
    names = sorted(set(recipes)) or names
    wrong = problems_of_addresses(world, (world.checkout.enrolment(name) for name in names if name not in enrolled.broken))
    rows = []
    for name in names:
        if (error := enrolled.broken.get(name)) is not None:
            problems, notes = [error], list[str]()
        else:
            problems, notes = _files(world.checkout.folder(name))
            problems = [*([wrong[name]] if name in wrong else []), *problems]
        rows.append(
            {
                "recipe": name,
                "state": "broken" if problems else "off" if name in enrolled.off else "ok",
                "reason": problems[0].code if problems else "",
                "problems": [str(problem) for problem in problems],
                "notes": notes,
            }
        )
    return rows


def _files(folder: Path) -> tuple[list[CanonqError], list[str]]:
    """What is wrong with the files beside recipe.toml, and what a person should know of them."""
    problems: list[CanonqError] = []
    tests = sorted(folder.glob("test_*.py"))
    looks: list[Callable[[], None]] = [
        *(lambda path=path: _python(path) for path in [*sorted(folder.glob("conftest.py")), *tests]),
        lambda: _overlay(folder / TEST_OVERLAY),
        lambda: _shell(folder / INSTALL_STEPS),
    ]
    names: frozenset[str] | None = None
    try:
        names = hook_names(folder)
    except CanonqError as error:
        problems.append(error)
    for look in looks:
        try:
            look()
        except CanonqError as error:
            problems.append(error)
    notes = [f"misnamed-file: {told}" for told in misnamed(path.name for path in folder.iterdir())]
    if names is not None:
        notes += hooks_told(names, there=(folder / HOOKS).is_file())
    return problems, [*notes, *no_proof(folder, tests)]


def _python(path: Path) -> None:
    try:
        compile(ast.parse(plain_bytes(path), filename=str(path)), str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise _invalid(path, f"line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _invalid(path, str(error)) from error


def _overlay(path: Path) -> None:
    try:
        if says_something(text := plain_bytes(path).decode()):
            load_yaml(text, where=str(path))
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise _invalid(path, str(error)) from error
    except CanonqError as error:
        raise EnrolmentInvalid(error.what, mend=f"correct {path.name}.") from error


def _shell(path: Path) -> None:
    if not path.is_file():
        return
    asked = read(["bash", "-n", str(path)], timeout=20, env=plain_environment(), harmless=True)
    if asked.status != 0:
        raise _invalid(path, " ".join(asked.errors.split()).removeprefix(f"{path}: ") or "bash does not read it")


def _invalid(path: Path, why: str) -> EnrolmentInvalid:
    return EnrolmentInvalid(ended(f"{path} cannot be used: {readable(why)}"), mend="correct it.")


def troubles(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The names of those that cannot be used."""
    return (row["recipe"] for row in rows if row["state"] == "broken")
