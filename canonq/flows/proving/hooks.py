"""A recipe's hooks.py: `before_<tier>(app)`, `after_<tier>(app)`, and its own markers. Each call is a process of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from canonq.adapters.files import plain_bytes, table_in
from canonq.core.errors import EnrolmentProblem, TimedOut, WrongConfiguration
from canonq.core.ladder import PROVEN_TIERS
from canonq.core.masks import Masks
from canonq.core.text import beginning, shown
from canonq.flows.deploying.deadline import left
from canonq.flows.deploying.ownfiles import last_line, own_name
from canonq.flows.deploying.secrecy import masked_into
from canonq.flows.proving.tiers import TIERS, hangs_in, tier_environment
from canonq.ports import Ended
from canonq.tiers.facts import HOOK, TierFacts, write_facts

HOOKS = "hooks.py"
WRITE_MARKER, READ_MARKER = "write_marker", "read_marker"
POPULATE = "populate"
#: All that canonq calls, if it is there.
KNOWN_HOOKS = frozenset({f"{when}_{tier}" for when in ("before", "after") for tier in PROVEN_TIERS}
                        | {WRITE_MARKER, READ_MARKER, POPULATE})  # fmt: skip
_LISTED = f"before_TIER and after_TIER ({', '.join(PROVEN_TIERS)}), {WRITE_MARKER}, {READ_MARKER} and {POPULATE}"


#: What has names of its own, which are none of the module's.
_OWN_NAMES = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip


@dataclass(frozen=True)
class Names:
    """The names that a module has when it has run, as far as its text tells."""

    names: frozenset[str]
    waited: frozenset[str]  #: of these, the async functions
    starred: tuple[str, ...]  #: modules from which it takes all names
    same: tuple[frozenset[str], ...] = ()  #: names that are given to one thing together, as in `after_install = populate = fill`


def read_names(tree: ast.Module) -> Names:
    """The names that are bound at a module's top, also within its if, try, with and for statements."""
    names: set[str] = set()
    waited: set[str] = set()
    starred: list[str] = []
    same: list[frozenset[str]] = []
    for node in _at_the_top(tree.body):
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.AsyncFunctionDef():
                waited.add(node.name)
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    if alias.name == "*":
                        starred.append(str(getattr(node, "module", None) or "."))
                    else:
                        names.add(alias.asname or alias.name.partition(".")[0])
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Assign():
                same.append(frozenset(one.id for one in (*node.targets, node.value) if isinstance(one, ast.Name)))
    return Names(frozenset(names | waited), frozenset(waited - names), tuple(starred), tuple(same))


def _at_the_top(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for node in body:
        yield node
        if not isinstance(node, _OWN_NAMES):
            yield from _at_the_top(ast.iter_child_nodes(node))


def hook_names(folder: Path) -> frozenset[str]:
    """The names that an enrolment's hooks.py has for canonq to call, read without running it: defined, imported or assigned.

    WrongConfiguration when it is not Python, or hides its names where they cannot be seen without running it.
    """
    return _read(folder).names


def are_one(folder: Path, *hooks: str) -> bool:
    """Whether hooks are one function under several names: one assignment has them all. Errors as of hook_names."""
    return any(set(hooks) <= group for group in _read(folder).same)


def _read(folder: Path) -> Names:
    path = folder / HOOKS
    named = own_name(path)
    try:
        tree = ast.parse(plain_bytes(path), filename=named)
        compile(tree, named, "exec", dont_inherit=True)  # some faults, as a `return` outside of functions, are found only here
    except FileNotFoundError:
        return Names(frozenset(), frozenset(), ())
    except (SyntaxError, ValueError, OSError, RecursionError) as error:
        raise WrongConfiguration(
            f"{named} cannot be read as Python: {error}.", mend="correct it.", code="hooks-invalid"
        ) from error
    found = read_names(tree)
    if found.starred:
        raise WrongConfiguration(
            f"{named} takes all names of {shown(found.starred[0])} with *, so it cannot be seen which hooks it has.",
            mend="name them: from ... import write_marker, read_marker.",
            code="hooks-invalid",
        )
    if waited := sorted(found.waited & KNOWN_HOOKS):
        raise WrongConfiguration(
            f"{waited[0]} of {named} is an `async def`, which does nothing when it is called.",
            mend="make it a plain function; asyncio.run(...) inside it runs what must be waited for.",
            code="hooks-invalid",
        )
    return found


def hooks_told(names: frozenset[str], there: bool) -> tuple[str, ...]:
    """What a person should know of a hooks.py with these names: what looks like a hook and is never called."""
    called = names & KNOWN_HOOKS
    told = [
        f"{HOOKS} has {name}, which canonq never calls; hooks are {_LISTED}"
        for name in sorted(names - KNOWN_HOOKS)
        if name.startswith(("before_", "after_")) or get_close_matches(name, KNOWN_HOOKS, n=1, cutoff=0.85)
    ]
    if len(pair := called & {WRITE_MARKER, READ_MARKER}) == 1:
        (missing,) = {WRITE_MARKER, READ_MARKER} - pair
        told.append(f"{HOOKS} has no {missing}, so its own marker is neither written nor read; it takes both")
    if there and not called and not told:
        told.append(f"{HOOKS} has no name that canonq calls; hooks are {_LISTED}")
    return tuple(told)


def call_hook(
    folder: Path, function: str, facts: TierFacts, kept: Path, limit: float, deadline: float, masks: Masks, *arguments: str
) -> Any:
    """Call one function with the app; what it returned. EnrolmentProblem names the function, and where it raised what.

    `limit` is in seconds from when the function's file is read; `deadline` is the run's, whose end is TimedOut.
    """
    path = folder / HOOKS
    log = kept / f"{function}.log"
    with masked_into(kept, Path(facts.secrets_file).parent / f"evidence-{function}", masks) as scratch:
        ended, said = _called(path, function, facts, scratch, limit, deadline, *arguments)
    if ended.status != 0 or "returned" not in said:
        last = next((line for line in reversed(ended.output.splitlines()) if line.strip()), "nothing was printed")
        how = str(said.get("raised") or f"ended with status {ended.status}; its last words: {last}")
        raise EnrolmentProblem(
            f"{function} of {own_name(path)}: {beginning(how, 600)}.",
            mend=f"correct {HOOKS}; all that it printed is in {log}.",
            code="hook-failed",
            certain=said.get("certain") is True,
        )
    return said["returned"]


def _called(
    path: Path, function: str, facts: TierFacts, kept: Path, limit: float, deadline: float, *arguments: str
) -> tuple[Ended, dict[str, Any]]:
    told, answer, log = (kept / f"{function}.{kind}" for kind in ("facts.json", "answer.json", "log"))
    write_facts(told, facts)
    orders = {
        "facts": str(told),
        "answer": str(answer),
        "path": str(path),
        "function": function,
        "arguments": arguments,
        "limit": limit,
    }
    try:
        ended = TIERS.start(HOOK, orders, env=tier_environment(), cwd=kept, until=deadline).finish(
            timeout=limit, until=deadline, log=log
        )
    except TimedOut as error:
        left(deadline, f"{function} of {own_name(path)}")
        place = hangs_in(kept, path.parent)
        said = last_line(log)
        raise EnrolmentProblem(
            f"{function} of {own_name(path)} did not end within {limit:.0f} s and was killed"
            f"{f'; it hangs in {place}' if place else ''}; its last words: {said or 'nothing was printed'}.",
            mend="nobody is there to answer it: have it wait for less, or raise [limits] hook in recipe.toml.",
            code="hook-timed-out",
        ) from error
    return ended, table_in(answer)
