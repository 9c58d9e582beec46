"""What looks like a test and is never run, by the text of a module. Pure: pytest says nothing of it, or in a warning at most."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence


def never_collected(text: str) -> Iterator[tuple[int, str]]:
    """(line, why) of tests that pytest passes over. SyntaxError or ValueError when it is no Python."""
    yield from _in(ast.parse(text).body, "")


def _in(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[int, str]]:
    seen: dict[str, int] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _is_a_test(node):
            name = f"{prefix}{node.name}"
            if node.name in seen:
                yield seen[node.name], f"{name} is never run: line {node.lineno} takes its name"
            seen[node.name] = node.lineno
            if isinstance(node, ast.AsyncFunctionDef):
                yield node.lineno, f"{name} is an async function, which nothing here runs"
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            made = next(
                (one for one in node.body if isinstance(one, ast.FunctionDef) and one.name in ("__init__", "__new__")), None
            )
            if made is not None:
                yield node.lineno, f"no test of {prefix}{node.name} is run, as it has {made.name}; use a fixture, or setup_method"
            else:
                yield from _in(node.body, f"{prefix}{node.name}.")


def _is_a_test(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    return node.name.startswith("Test" if isinstance(node, ast.ClassDef) else "test")
