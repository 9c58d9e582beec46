"""A recipe's hooks.py: `before_<tier>(app)`, `after_<tier>(app)`, and its own markers. Each call is a process of its own."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

from canonq.adapters.programs import plain_environment, run
from canonq.core.errors import RecipeProblem, TimedOut, WrongConfiguration
from canonq.flows.deployment import left
from canonq.tiers.facts import VARIABLE, TierFacts, write_facts
from canonq.tiers.hooks import ANSWER

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
    """Call one function with the app; what it returned. RecipeProblem names the function and its last words.

    `limit` is in seconds from when the function's file is read; `deadline` is the run's, whose end is TimedOut.
    """
    path = folder / HOOKS
    kept.mkdir(parents=True, exist_ok=True)
    told, answer, log = (kept / f"{function}.{kind}" for kind in ("facts.json", "answer.json", "log"))
    write_facts(told, facts)
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-m", "canonq.tiers.hooks", str(path), function, *arguments]
    env = plain_environment(**{VARIABLE: str(told), ANSWER: str(answer), "PYTHONDONTWRITEBYTECODE": "1"})
    try:
        ended = run(command, timeout=limit, until=deadline, env=env, cwd=kept, log=log, strangers=True, tells_begin=True)
    except TimedOut as error:
        left(deadline)
        raise RecipeProblem(
            f"{function} of {path} did not end within {limit:.0f} s and was killed.",
            mend="mend it, or raise [limits] hook in recipe.toml.",
            code="hook-timed-out",
        ) from error
    if ended.status != 0:
        last = next((line for line in reversed(ended.output.splitlines()) if line.strip()), "nothing was printed")
        raise RecipeProblem(
            f"{function} of {path} ended with status {ended.status}: {last[:300]}",
            mend=f"its whole output is in {log}.",
            code="hook-failed",
        )
    try:
        return json.loads(answer.read_text())
    except (OSError, ValueError) as error:
        raise RecipeProblem(f"{function} of {path} ended before it returned.", code="hook-failed") from error
