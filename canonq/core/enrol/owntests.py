"""What looks like a test and proves nothing, by the text of a module. Pure: pytest says little or nothing of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence


def prove_nothing(text: str) -> Iterator[tuple[int, str]]:
    """(line, why) of tests that are passed over, or ask something else. SyntaxError or ValueError when it is no Python."""
    body = ast.parse(text).body
    yield from _in(body, "")
    for node in body:
        if isinstance(node, ast.FunctionDef) and "app" in _fixtures(node):
            yield node.lineno, "the fixture `app` is one of its own: tests that take it do not ask what is deployed"


def _fixtures(node: ast.FunctionDef) -> Iterator[str]:
    """The names of the fixtures that a function is."""
    for decorator in node.decorator_list:
        call = decorator if isinstance(decorator, ast.Call) else None
        if ast.unparse(call.func if call else decorator).split(".")[-1] == "fixture":
            named = [one.value for one in call.keywords if one.arg == "name"] if call else []
            yield next((str(one.value) for one in named if isinstance(one, ast.Constant)), node.name)


def _only_returns(node: ast.FunctionDef) -> bool:
    """Whether a test gives an answer instead of asserting it."""
    inner = [one for one in ast.walk(node) if isinstance(one, ast.Return | ast.Assert | ast.Raise | ast.With)]
    gives = any(isinstance(one, ast.Return) and one.value is not None and ast.unparse(one.value) != "None" for one in inner)
    return gives and all(isinstance(one, ast.Return) for one in inner)


def _in(body: Sequence[ast.stmt], prefix: str) -> Iterator[tuple[int, str]]:
    seen: dict[str, int] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and _is_a_test(node):
            name = f"{prefix}{node.name}"
            if node.name in seen:
                yield seen[node.name], f"{name} is never run: line {node.lineno} takes its name"
            seen[node.name] = node.lineno
            if isinstance(node, ast.FunctionDef) and _only_returns(node):
                yield node.lineno, f"{name} returns its answer, which pytest passes over; assert it"
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
