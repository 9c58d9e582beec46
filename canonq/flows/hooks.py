"""A recipe's hooks.py: `before_<tier>(app)`, `after_<tier>(app)`, and its own markers. Each call is a process of its own."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from canonq.core.errors import EnrolmentProblem, TimedOut, WrongConfiguration
from canonq.flows.deployment import left
from canonq.flows.tiers import TIERS, tier_environment
from canonq.tiers.facts import HOOK, TierFacts, write_facts

HOOKS = "hooks.py"
WRITE_MARKER, READ_MARKER = "write_marker", "read_marker"


def hook_names(folder: Path) -> frozenset[str]:
    """The functions that an enrolment's hooks.py defines, read without running it. WrongConfiguration when it is not Python."""
    path = folder / HOOKS
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except FileNotFoundError:
        return frozenset()
    except (SyntaxError, ValueError, OSError, RecursionError) as error:
        raise WrongConfiguration(
            f"{path} cannot be read as Python: {error}.", mend="correct it.", code="hooks-invalid"
        ) from error
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def call_hook(folder: Path, function: str, facts: TierFacts, kept: Path, limit: float, deadline: float, *arguments: str) -> Any:
    """Call one function with the app; what it returned. EnrolmentProblem names the function, and where it raised what.

    `limit` is in seconds from when the function's file is read; `deadline` is the run's, whose end is TimedOut.
    """
    path = folder / HOOKS
    kept.mkdir(parents=True, exist_ok=True)
    told, answer, log = (kept / f"{function}.{kind}" for kind in ("facts.json", "answer.json", "log"))
    write_facts(told, facts)
    answer.unlink(missing_ok=True)
    orders = {"facts": str(told), "answer": str(answer), "path": str(path), "function": function, "arguments": arguments}
    try:
        ended = TIERS.start(HOOK, orders, env=tier_environment(), cwd=kept, until=deadline).finish(
            timeout=limit, until=deadline, log=log, strangers=True
        )
    except TimedOut as error:
        left(deadline)
        raise EnrolmentProblem(
            f"{function} of {path} did not end within {limit:.0f} s and was killed.",
            mend="mend it, or raise [limits] hook in recipe.toml.",
            code="hook-timed-out",
        ) from error
    said = _answer(answer)
    if ended.status != 0 or "returned" not in said:
        last = next((line for line in reversed(ended.output.splitlines()) if line.strip()), "nothing was printed")
        how = str(said.get("raised") or f"ended with status {ended.status}; its last words: {last}")
        raise EnrolmentProblem(
            f"{function} of {path}: {how[:600]}.",
            mend=f"correct {HOOKS}; all that it printed is in {log}.",
            code="hook-failed",
            certain=said.get("certain") is True,
        )
    return said["returned"]


def _answer(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
