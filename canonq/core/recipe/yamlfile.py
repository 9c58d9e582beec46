"""Reading compose files as Docker's own YAML reader does, within limits. Pure.

PyYAML's safe loader follows YAML 1.1, where `yes` is a boolean and `22:22` a number in base 60; Docker's does
not. Duplicate keys, alias bombs and merges that multiply, which PyYAML lets pass, are refused; so is what no JSON can say.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

from canonq.core.errors import RecipeProblem
from canonq.core.text import shown, unmerged

MAX_BYTES = 256 << 10
MAX_NODES = 50_000
_DEEPEST = 60  #: levels
_NO_NUMBER = 2**64
#: What PyYAML raises for one text or another: more than its own errors.
_RAISED = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class _Loader(yaml.SafeLoader):
    """SafeLoader with Docker's idea of scalars, that counts what merge keys bring in."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._merged = 0

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Begin a `[` or `{`. ScannerError for one that lies too deep: each token then costs as much as there are open ones."""
        if self.flow_level >= _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, f"brackets lie more than {_DEEPEST} deep", self.get_mark())
        super().fetch_flow_collection_start(token)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Bring in what a mapping merges. ConstructorError where that makes more of the file than may be."""
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > 4 * MAX_NODES:
            raise yaml.constructor.ConstructorError(None, None, "merge keys bring in too much", node.start_mark)


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float",
                       "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}  # fmt: skip
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(?:0[bB]_*[01][01_]*|0[oO]_*[0-7][0-7_]*|0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|[0-9][0-9_]*)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+|\.[0-9]+)$"),
    list("-+0123456789."),
)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    """A whole number as Docker reads it: `010` and `0o10` are 8, and `08` is 8 as well."""
    text = node.value.replace("_", "").lower()
    sign, digits = (-1 if text.startswith("-") else 1), text.lstrip("+-")
    if digits[:2] in ("0b", "0o", "0x"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if digits.startswith("0") and set(digits) <= set("01234567") else 10)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float | str:
    """A number; as it is written where it is beyond all."""
    number = float(node.value.replace("_", ""))
    return number if math.isfinite(number) else str(node.value)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            what = "a key is no text; what begins with '{' or '[' has to be in quotes where it is meant as one"
            raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {shown(key.value)} stands twice", key.start_mark)
        seen.add(key.value)
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


def _as_if_untagged(loader: _Loader, tag: str, node: yaml.Node) -> Any:
    """A tag of somebody's own, such as `!reset`, says nothing to Docker."""
    del tag
    if isinstance(node, yaml.MappingNode):
        return _mapping(loader, node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_multi_constructor("!", _as_if_untagged)


def _why(text: str, mark: Any) -> str:
    """What people do that makes such a file, where it shows."""
    lines = text.split("\n")
    line = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return "; it is indented with a tab, and YAML takes spaces only"
    return unmerged(text)


def load_yaml(text: str, *, where: str) -> dict[str, Any]:
    """Read one YAML mapping as plain dicts, lists and scalars, no node shared.

    RecipeProblem names `where` and the line for anything else, for a file above 256 KiB and for one that
    grows above 50,000 nodes when its aliases are written out.
    """
    if len(text) > MAX_BYTES:
        raise _bad(where, f"has {len(text)} bytes; at most {MAX_BYTES} are read")
    try:
        loaded = _loaded(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise _bad(f"{where}{line}", f"is not YAML: {_told(error)}{_why(text, mark)}") from error
    except _RAISED as error:
        raise _bad(where, f"is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(loaded, dict):
        raise _bad(where, "is not a mapping of services, volumes, networks, ...")
    left = [MAX_NODES]
    copied = _copy(loaded, left, where, 0)
    assert isinstance(copied, dict)  # a copy of a dict is a dict
    return copied


@functools.lru_cache(maxsize=16)
def _loaded(text: str) -> Any:
    """Read once what is asked for several times; nobody but `_copy` is given it. Of several documents the first."""
    loader = _Loader(text)
    try:
        return loader.get_data() if loader.check_data() else None  # type: ignore[no-untyped-call]
    finally:
        loader.dispose()


def _copy(value: Any, left: list[int], where: str, depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise _bad(where, f"grows above {MAX_NODES} values or {_DEEPEST} levels when its aliases are written out")
    if isinstance(value, dict):
        if odd := [key for key in value if not isinstance(key, str)]:
            raise _bad(where, f"has a key that is no text, {shown(str(odd[0]))}: put it into quotes")
        return {_plain(key, where): _copy(inner, left, where, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_copy(inner, left, where, depth + 1) for inner in value]
    return _plain(value, where)


def _plain(value: Any, where: str) -> Any:
    """A scalar, as it is. RecipeProblem for one that neither JSON nor Docker can take."""
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= one <= "\udfff" for one in value):
            raise _bad(where, f"has a text that Docker cannot take: {shown(value)}")
    elif not (value is None or isinstance(value, bool | int | float)) or not _is_small(value):
        raise _bad(
            where, f"has a value of a kind that compose files do not have ({type(value).__name__}), or a number beyond all"
        )
    return value


def _told(error: yaml.MarkedYAMLError) -> str:
    """What the reader says, with the line where it began to read what it could not end."""
    begun = error.context_mark
    since = f" ({error.context}, which begins in line {begun.line + 1})" if error.context and begun else ""
    return f"{error.problem}{since}"[:300]


def line_of(text: str, path: Sequence[str]) -> int | None:
    """The line (from 1) in which a key of a YAML text stands, given as the keys and places of lists that lead to it.

    That of the last one on the way that is there: what an anchor or a merge brings in stands elsewhere. None for no YAML.
    """
    try:
        node = _composed(text)
    except _RAISED:
        return None
    line = None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if getattr(key, "value", None) == step), None)
        elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
            found = (node.value[int(step)],) * 2
        else:
            found = None
        if found is None:
            break
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def _is_small(value: float | None) -> bool:
    return value is None or (math.isfinite(value) if isinstance(value, float) else abs(value) < _NO_NUMBER)


@functools.lru_cache(maxsize=4)
def _composed(text: str) -> Any:
    """The nodes of a text, for several questions after their lines."""
    loader = _Loader(text)
    try:
        return loader.get_node() if loader.check_node() else None
    finally:
        loader.dispose()


def dump_yaml(value: dict[str, Any]) -> str:
    """Write a mapping as YAML that Docker's reader and `load_yaml` read back to the same values."""
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False, allow_unicode=True, width=1000)


def _bad(where: str, what: str) -> RecipeProblem:
    return RecipeProblem(f"{where} {what}.", mend="correct the file in the recipe.", code="compose-invalid")
