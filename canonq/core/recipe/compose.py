"""A recipe's compose files as one resolved stack. Pure: text in, values out.

The resolved stack is what is deployed and what every rule reads (names, images, backup labels, policy), so that
no second reader can see it otherwise. Merging follows `docker stack config`; a test compares the two.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from canonq.core.errors import RecipeProblem
from canonq.core.recipe.interpolate import interpolate, variables
from canonq.core.recipe.shape import Misshapen, contrary, misshapen, undeclared
from canonq.core.recipe.yamlfile import line_of, load_yaml
from canonq.core.stack.lengths import seconds
from canonq.core.stack.resolved import SECTIONS, Stack, Unreadable, long_form, stack_of
from canonq.core.text import did_you_mean, ended, shown

_REPLACED = ("command", "entrypoint", "test")  #: lists that the enrolment's overlay replaces whole
#: Of what a later file of a recipe says, Docker replaces these whole, and takes a 0 of these numbers for a number.
_WHOLE = frozenset({"command", "entrypoint", "aliases"})
_COUNTS = frozenset({"replicas", "parallelism", "max_attempts", "retries"})
_WORDS = frozenset({"labels", "sysctls", "options"})  #: mappings in which a text may be empty
_DURATIONS = frozenset({
    "delay", "interval", "monitor", "start_interval", "start_period", "stop_grace_period", "timeout", "window",
})  # fmt: skip
_NEWEST = "3.13"  #: the version of a file that says none, and of "3"
#: Keys of a service that only newer versions have.
_SINCE = {"start_interval": "3.12", "oom_score_adj": "3.13"}
MAX_SERVICES = 200
_VERSION = re.compile(r"3(\.[0-9]{1,2})?")
_MOST_TOLD = 20  #: variables that nothing sets


def resolve(
    files: Sequence[tuple[str, str]],
    env: Mapping[str, str],
    overlay: tuple[str, str] | None = None,
    told: list[tuple[str, str]] | None = None,
) -> Stack:
    """Read, fill in and merge compose files, given as (name, text) in order. RecipeProblem names the file.

    They are merged as Docker does it; the enrolment's `overlay` is laid over the outcome by what it says (`merge`).
    `told` is given what Docker loses on the way and canonq does not, as (place, what).
    """
    merged: dict[str, Any] = {}
    versions: list[tuple[str, str]] = []
    everything = [*files, *([overlay] if overlay is not None else [])]
    for name, text in everything:
        said = load_yaml(text, where=name)
        _check_shape(said, name, text)
        filled = interpolate(said, env, where=partial(placed, name, text))
        for wrong in misshapen(filled):
            raise _bad(placed(name, text, wrong.path), wrong.what)
        sections = {section: _normal(filled.get(section) or {}, section, name, text) for section in SECTIONS}
        if (name, text) == overlay:
            merged = merge(merged, sections)
            continue
        versions.append((_version(said, name, text), name))
        if told is not None and merged:
            told += _lost(merged, sections, name)
        merged = _laid(merged, sections, env) if merged else sections
    merged["version"] = _one_of(versions, merged)
    try:
        stack = stack_of(merged)
    except Unreadable as error:
        raise _bad(files[0][0], str(error)) from error
    _check_services(stack, everything)
    for wrong in (*undeclared(stack), *contrary(stack)):
        raise _bad(*_last_place(everything, wrong))
    return stack


def _version(said: Mapping[str, Any], name: str, text: str) -> str:
    """The version that a file says, or the newest where it says none."""
    version = said.get("version", _NEWEST)
    if not isinstance(version, str):
        what = f'version must be a text in quotes, such as version: "{version or "3.8"}"'
        raise _bad(placed(name, text, ("version",)), what)
    if version and not _VERSION.fullmatch(version):
        raise _bad(placed(name, text, ("version",)), f"Swarm reads files of version 3, and this is of {shown(version)}")
    return _NEWEST if version in ("", "3") else version


def _one_of(versions: Sequence[tuple[str, str]], merged: Mapping[str, Any]) -> str:
    """The version of all files, which Docker wants to be one.

    Where none is said, it is the lowest that has their keys: an older Docker reads no newer one.
    """
    if not versions:
        return "3.8"
    first, where = versions[0]
    for version, name in versions[1:]:
        if version != first:
            said, other = (f"version {one}" if one != _NEWEST else f"no version, which is {_NEWEST}," for one in (version, first))
            raise _bad(name, f"it has {said} and {where} has {other}; Docker takes files of one version only")
    if first != _NEWEST:
        return first
    named = [key for body in merged["services"].values() for key in (*body, *(body.get("healthcheck") or ()))]
    needed = (_SINCE[key] for key in named if key in _SINCE)
    return max(needed, key=lambda version: int(version.partition(".")[2]), default="3.8")


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
    """For people: the variables that the files take and nothing sets, which Docker fills in with nothing, each once.

    A default is as good as a value, but in a name that has to be another one when its content is. In such a name, what is
    empty is as good as nothing.
    """
    found: dict[str, str] = {}
    for name, text in files:
        for variable, path, default in variables(load_yaml(text, where=name)):
            if len(found) == _MOST_TOLD:
                break
            if variable in found or (default is not None and not _is_name(path)):
                continue
            if variable in env:
                if not env[variable] and _is_name(path):
                    found[variable] = f"{placed(name, text, path)}: {variable} is empty"
                continue
            stays = "" if default is None else f", so it stays at its default {shown(default)}"
            found[variable] = f"{placed(name, text, path)}: nothing sets {variable}{stays}{did_you_mean(variable, env)}"
    return [ended(told) for told in found.values()]


def needed(files: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The variables that the files take without a default -> where each is taken first."""
    found: dict[str, str] = {}
    for name, text in files:
        for variable, path, default in variables(load_yaml(text, where=name)):
            if default is None:
                found.setdefault(variable, placed(name, text, path))
    return found


def _is_name(path: Sequence[str]) -> bool:
    return path[0] in ("configs", "secrets") and path[-1] == "name"


#: What a variable that nothing sets may have spoilt, by the code of the trouble: parts of the places to look at.
_SPOILT = {"name-invalid": (" configs.", " secrets.", " networks.", " volumes."), "image-name-invalid": (".image",)}


def unset_near(code: str, told: Sequence[str]) -> list[str]:
    """Those sentences of `unset` that may be the cause of a trouble with this code."""
    return [one for one in told if any(part in one for part in _SPOILT.get(code, ()))]


def _check_shape(stack: Mapping[str, Any], name: str, text: str) -> None:
    for section in SECTIONS:
        body = stack.get(section, {})
        if not isinstance(body, dict):
            raise _bad(
                placed(name, text, (section,)), f"is not a mapping{', as nothing stands below it' if body is None else ''}"
            )
        for key, inner in body.items():
            if not isinstance(inner, dict) and (inner is not None or section == "services"):
                raise _bad(placed(name, text, (section, str(key))), "is not a mapping")
    known = {"version", *SECTIONS}
    if unknown := [key for key in stack if key not in known and not key.startswith("x-")]:
        what = f"the top-level key {shown(unknown[0])} is not one of {', '.join(sorted(known))}{did_you_mean(unknown[0], known)}"
        raise _bad(placed(name, text, (unknown[0],)), what)


def _check_services(stack: Stack, files: Sequence[tuple[str, str]]) -> None:
    name = files[0][0] if files else "compose.yml"
    if not stack.services:
        raise _bad(name, "there are no services")
    if len(stack.services) > MAX_SERVICES:
        raise _bad(name, f"there are {len(stack.services)} services; at most {MAX_SERVICES} are deployed")
    for service in stack.services.values():
        if not service.image:
            near = did_you_mean(service.name, [other for other, one in stack.services.items() if one.image])
            builds = " ('build' says how to make one, and Swarm makes none)" if service.body.get("build") and not near else ""
            wrong = Misshapen(("services", service.name), f"the service {shown(service.name)} has no image{builds}{near}")
            raise _bad(*_last_place(files, wrong))


def _normal(section: Mapping[str, Any], kind: str, name: str, text: str) -> dict[str, Any]:
    """A section of one file, in the long form."""
    if kind != "services":
        return {key: body or {} for key, body in section.items()}
    made = {}
    for service, body in section.items():
        try:
            made[service] = long_form(body or {})
        except Unreadable as error:
            raise _bad(placed(name, text, (kind, service, error.key)), str(error)) from error
    return made


def _laid(base: Mapping[str, Any], over: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Lay the sections of a later file of the recipe over those of the files before it, as Docker does.

    What is declared again is what it says the second time; services are laid over each other key by key.
    """
    made = {section: {**base[section], **over[section]} for section in SECTIONS}
    for name, body in over["services"].items():
        if name in base["services"]:
            made["services"][name] = _over(base["services"][name], _found_in(env, body))
    return made


#: Lists that Docker takes for a mapping by this key when a later file speaks of their service: of several only the last stays.
_BY = {"ports": "published", "configs": "source", "secrets": "source"}


def _lost(base: Mapping[str, Any], over: Mapping[str, Any], name: str) -> Iterator[tuple[str, str]]:
    """What Docker drops of the services that a later file, `name`, says something of, whatever that is."""
    for service in over["services"]:
        for section, by in _BY.items():
            seen: set[str] = set()
            for item in base["services"].get(service, {}).get(section) or ():
                key = str(item.get(by) or 0)
                if key in seen:
                    one = (
                        f"published {key}"
                        if section == "ports" and key != "0"
                        else "not published"
                        if by == "published"
                        else shown(key)
                    )
                    yield (
                        f"services.{service}.{section}",
                        f"Of two entries ({one}) Docker keeps the last alone, as {name} says something of {shown(service)} too: "
                        "state them in the last file that speaks of it.",
                    )
                    break
                seen.add(key)


def from_variables(files: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(place, what) of each value that has to be a number, a duration or the like and is filled in from a variable.

    abra reads the files once before it fills anything in, and refuses these.
    """
    for name, text in files:
        said = load_yaml(text, where=name)
        services = said.get("services")
        found = [(wrong.path, wrong.what) for wrong in misshapen(said)]
        for service, body in services.items() if isinstance(services, dict) else ():
            for place, port in enumerate(body.get("ports") or () if isinstance(body, dict) else ()):
                parts = (port.get("target"), port.get("published")) if isinstance(port, dict) else (port,)
                if any(isinstance(one, str) and "$" in one for one in parts):
                    found.append(
                        (("services", service, "ports", str(place)), f"a port must be a number, and is {shown(str(port))}")
                    )
        for path, what in found:
            if "$" in str(_at(said, path)):
                yield (
                    placed(name, text, path),
                    f"{what}: abra looks at it before it is filled in, and refuses it; write the value.",
                )


def _at(value: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
    return value


def _found_in(env: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """A service without the variables of its environment that are to come from an env that has none of that name."""
    said = body.get("environment") or {}
    found = {key: value for key, value in said.items() if value is not None or key in env}
    return {**body, "environment": found} if said else dict(body)


def _over(base: Mapping[str, Any], over: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    """One mapping over another, `of`: the key that it stands under. What is empty says nothing to Docker, with few exceptions."""
    made = dict(base)
    for key, said in over.items():
        old, value = made.get(key), said
        if key == "test":
            old, value = _as_test(old), _as_test(said)
        if key == "logging" and isinstance(old, dict) and isinstance(value, dict) and _is_another_driver(old, value):
            made[key] = value
        elif isinstance(old, dict) and isinstance(value, dict):
            made[key] = {**old, **value} if key == "ulimits" else _over(old, value, key)
        elif isinstance(old, list) and isinstance(value, list) and value and key not in _WHOLE:
            made[key] = [*old, *value] if key == "test" else _join(key, old, value)
        elif _says_something(key, value, of) or key not in made:
            made[key] = copy.deepcopy(value)
    return made


def _says_something(key: str, value: Any, of: str) -> bool:
    """Whether a value of a later file takes the place of an earlier one's."""
    if isinstance(value, str) and key in _DURATIONS:
        return bool(seconds(value))
    return bool(value) or key in _COUNTS or of in _WORDS or (of == "environment" and value is None)


def _as_test(said: Any) -> Any:
    return ["CMD-SHELL", said] if isinstance(said, str) and said else said


def _is_another_driver(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether options of the one mean nothing to the other."""
    return bool(old.get("driver") and new.get("driver") and old["driver"] != new["driver"])


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `over`, which the enrolment says, on `base`: mappings by key, lists joined (mounts by target, ...), scalars replaced.

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
    """By what an entry of an overlay is known to be meant for one that is there."""
    by = {"volumes": "target", "configs": "source", "secrets": "source", "ports": "published"}.get(key)
    return (
        str(item.get(by) or 0) if by and isinstance(item, dict) else repr(item)
    )  # to Docker, all ports that are not published are one


#: What a reader of YAML takes in an escape alone, or may take for the end of a line.
_NOT_PLAIN = re.compile(r"[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def written(file: Mapping[str, Any]) -> str:
    """A compose file as JSON that Docker's reader of YAML reads: it takes no pair of surrogates, in which JSON escapes emoji."""
    text = json.dumps(file, indent=1, ensure_ascii=False)
    return _NOT_PLAIN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def escape_dollars(value: Any) -> Any:
    """Double every `$` in texts, since `docker stack deploy` fills a resolved file in once more."""
    if isinstance(value, dict):
        return {key: escape_dollars(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escape_dollars(inner) for inner in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


def _bad(name: str, what: str) -> RecipeProblem:
    return RecipeProblem(ended(f"{name}: {what}"), mend="correct the compose file.", code="compose-invalid")
