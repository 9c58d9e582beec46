"""A recipe's compose files as one resolved stack. Pure: text in, values out.

The resolved stack is what is deployed and what every rule reads (names, images, backup labels, policy), so that
no second reader can see it otherwise. Merging follows `docker stack config`; a test compares the two.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from canonq.core.errors import RecipeProblem
from canonq.core.interpolate import interpolate, variables
from canonq.core.shape import Misshapen, misshapen, undeclared
from canonq.core.text import did_you_mean, ended, shown
from canonq.core.yamlfile import line_of, load_yaml

SECTIONS = ("services", "networks", "volumes", "secrets", "configs")
_MAPS = ("environment", "labels", "sysctls")  #: written as a list or as a mapping; merged by key
_REPLACED = ("command", "entrypoint", "test")  #: lists that an overlay replaces whole
MAX_SERVICES = 200


def resolve(files: Sequence[tuple[str, str]], env: Mapping[str, str]) -> dict[str, Any]:
    """Read, fill in and merge compose files, given as (name, text) in order. RecipeProblem names the file."""
    merged: dict[str, Any] = {}
    for name, text in files:
        stack = load_yaml(text, where=name)
        _check_shape(stack, name, text)
        filled = interpolate(stack, env, where=partial(placed, name, text))
        for wrong in misshapen(filled):
            raise _bad(placed(name, text, wrong.path), wrong.what)
        merged = merge(merged, {section: _normal(filled.get(section) or {}, section) for section in SECTIONS})
        merged["version"] = str(stack.get("version", merged.get("version", "3.8")))
    for section in SECTIONS:
        merged[section] = {name: body if body is not None else {} for name, body in merged.get(section, {}).items()}
    _check_services(merged, files[0][0] if files else "compose.yml")
    for wrong in undeclared(merged):
        raise _bad(*_last_place(files, wrong))
    return merged


def placed(name: str, text: str, path: Sequence[str]) -> str:
    """A place in a file for people: the file, its line, and the keys that lead there."""
    line = line_of(text, path)
    return f"{name}{f':{line}' if line else ''} {'.'.join(path)}".rstrip()


def _last_place(files: Sequence[tuple[str, str]], wrong: Misshapen) -> tuple[str, str]:
    """Where something of the whole stack was said: in the last of its files that has such a place."""
    for name, text in reversed(files):
        found = load_yaml(text, where=name)
        for step in wrong.path:
            found = found.get(step) or {} if isinstance(found, dict) else {}
        if found:
            return placed(name, text, wrong.path), wrong.what
    return files[0][0], wrong.what


def unset(files: Sequence[tuple[str, str]], env: Mapping[str, str]) -> list[str]:
    """For people: the variables that the files take and nothing sets, which Docker fills in with nothing, each once."""
    found: dict[str, str] = {}
    for name, text in files:
        for variable, path in variables(load_yaml(text, where=name)):
            if variable not in env and variable not in found:
                found[variable] = f"{placed(name, text, path)}: nothing sets {variable}{did_you_mean(variable, env)}"
    return [ended(told) for told in found.values()]


def _check_shape(stack: Mapping[str, Any], name: str, text: str) -> None:
    for section in SECTIONS:
        body = stack.get(section)
        if body is not None and not isinstance(body, dict):
            raise _bad(placed(name, text, (section,)), "is not a mapping")
        for key, inner in (body or {}).items():
            if inner is not None and not isinstance(inner, dict):
                raise _bad(placed(name, text, (section, str(key))), "is not a mapping")
    known = {"version", *SECTIONS}
    if unknown := [key for key in stack if key not in known and not key.startswith("x-")]:
        what = f"the top-level key {shown(unknown[0])} is not one of {', '.join(sorted(known))}{did_you_mean(unknown[0], known)}"
        raise _bad(placed(name, text, (unknown[0],)), what)


def _check_services(merged: Mapping[str, Any], name: str) -> None:
    services = merged["services"]
    if not services:
        raise _bad(name, "there are no services")
    if len(services) > MAX_SERVICES:
        raise _bad(name, f"there are {len(services)} services; at most {MAX_SERVICES} are deployed")
    for service, body in services.items():
        if not isinstance(body.get("image"), str) or not body["image"]:
            raise _bad(name, f"the service {shown(service)} has no image")


def _normal(section: dict[str, Any], kind: str) -> dict[str, Any]:
    return {name: _normal_entry(body or {}, kind) for name, body in section.items()}


def _normal_entry(body: dict[str, Any], kind: str) -> dict[str, Any]:
    entry = dict(body)
    for key in _MAPS:
        if key in entry:
            entry[key] = as_map(entry[key])
    if kind == "services":
        if isinstance(entry.get("networks"), list):
            entry["networks"] = {str(name): None for name in entry["networks"]}
        if isinstance(entry.get("deploy"), dict) and "labels" in entry["deploy"]:
            entry["deploy"] = {**entry["deploy"], "labels": as_map(entry["deploy"]["labels"])}
    return entry


def as_map(value: Any) -> dict[str, Any]:
    """Turn `["A=b", "C"]` into `{"A": "b", "C": None}`; a mapping stays as it is."""
    if isinstance(value, dict):
        return dict(value)
    pairs = (str(item).partition("=") for item in value or [])
    return {key: text if equals else None for key, equals, text in pairs}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over` on `base`: mappings by key, lists joined (mounts by target, configs by source), scalars replaced.

    So are the lists that are one command: `command`, `entrypoint`, a health check's `test`.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = merge(old, value)
        elif isinstance(old, list) and isinstance(value, list) and key not in _REPLACED:
            merged[key] = _join(key, old, value)
        elif value is not None or key not in merged:
            merged[key] = copy.deepcopy(value)
    return merged


def _join(key: str, old: list[Any], new: list[Any]) -> list[Any]:
    joined = {_identity(key, item): item for item in old}
    joined.update({_identity(key, item): item for item in new})
    return list(joined.values())


def _identity(key: str, item: Any) -> str:
    if key == "volumes":
        return mount_target(item)
    if key in ("configs", "secrets"):
        return str(item.get("source") if isinstance(item, dict) else item)
    return repr(item)


def mount_target(item: Any) -> str:
    """Where a service's volume entry is mounted, in short (`a:/b:ro`) or long form."""
    if isinstance(item, dict):
        return str(item.get("target"))
    parts = str(item).split(":")
    return parts[1] if len(parts) > 1 else parts[0]


def mount_source(item: Any) -> str | None:
    """The named volume of a service's volume entry; None for a bind, tmpfs or anonymous volume."""
    if isinstance(item, dict):
        source = item.get("source") if item.get("type", "volume") == "volume" else None
    else:
        parts = str(item).split(":")
        source = parts[0] if len(parts) > 1 else None
    return source if source and source[0] not in "/.~" else None


def images(stack: Mapping[str, Any]) -> dict[str, str]:
    """Service -> image reference."""
    return {name: body["image"] for name, body in stack["services"].items()}


def is_external(body: Mapping[str, Any]) -> bool:
    """Whether a network, volume, secret or config is declared as made elsewhere."""
    return bool(body.get("external"))


def external_name(key: str, body: Mapping[str, Any]) -> str:
    """The name an external thing has in Docker: `name`, the old `external.name`, or the key."""
    external = body.get("external")
    old = external.get("name") if isinstance(external, dict) else None
    return str(body.get("name") or old or key)


def escape_dollars(value: Any) -> Any:
    """Double every `$` in texts, since `docker stack deploy` fills a resolved file in once more."""
    if isinstance(value, dict):
        return {key: escape_dollars(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escape_dollars(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _bad(name: str, what: str) -> RecipeProblem:
    return RecipeProblem(ended(f"{name}: {what}"), mend="correct the compose file.", code="compose-invalid")
