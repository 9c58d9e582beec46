"""What the files of one version come to: its env, the exports of its abra.sh, and the stack that they fill in. Pure.

The one assembly of a deployment, a look ahead and `canonq enrol`; where the files are, whoever asks says by `ReadFile`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from canonq.core.errors import RecipeProblem, WrongConfiguration
from canonq.core.recipe.compose import from_variables, needed, resolve, unset
from canonq.core.recipe.envfile import parse_env, parse_exports
from canonq.core.recipe.yamlfile import load_yaml
from canonq.core.stack.resolved import Stack
from canonq.core.text import shown

#: Text of a file of the recipe, by its path there; None when there is no such file.
ReadFile = Callable[[str], str | None]

SAMPLE, EXPORTS, COMPOSE = ".env.sample", "abra.sh", "compose.yml"
LISTED = "COMPOSE_FILE"  #: names the compose files, in the env
_ITS_OTHER_NAMES = ("docker-compose.yml", "compose.yaml", "docker-compose.yaml")  #: that Compose knows, and Co-op Cloud does not
#: The enrolment's overlay, in its folder.
TEST_OVERLAY = "compose.canonq.yml"
MOST_FILES = 50  #: under COMPOSE_FILE: each is read anew, however often it is named
MOST_TEXT = 512 << 10  #: characters of all of them
EXTRA = "EXTRA_DOMAINS"  #: by Co-op Cloud's convention further hosts of the app, as a piece of a label's rule
_GIVEN = ("DOMAIN", "STACK_NAME", "LETS_ENCRYPT_ENV")  #: what canonq gives, and no file of a release says
_HOST = re.compile(r"(?<![A-Za-z0-9*_-])[A-Za-z0-9*_-]++(?:\.[A-Za-z0-9*_-]++)+")
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Assembled:
    """The files of one version, put together."""

    env: Mapping[str, str]  #: the app's `.env`
    exports: Mapping[str, str]  #: of its abra.sh
    stack: Stack
    unset: tuple[str, ...]  #: variables that its compose files take and nothing sets, as sentences
    overlay: Mapping[str, Mapping[str, Any]]  #: what the enrolment's overlay says of services
    windows: tuple[str, ...]  #: files of code among them whose lines end as in Windows
    typed: tuple[tuple[str, str], ...] = ()  #: (place, what) of numbers, durations and the like that come from variables
    lost: tuple[tuple[str, str], ...] = ()  #: (place, what) of what Docker loses when it lays the files over each other
    needs: Mapping[str, str] = field(default_factory=dict)  #: variable that its files take without a default -> where

    @property
    def variables(self) -> dict[str, str]:
        """All that its compose files were filled in with."""
        return {**self.env, **self.exports}


def app_env(
    sample: str,
    *,
    named: str,
    domain: str,
    stack: str,
    beside: Mapping[str, str] = _NOTHING,
    own: Mapping[str, str] = _NOTHING,
) -> dict[str, str]:
    """The app's `.env`: the sample, with what canonq sets and then the enrolment's [env] on top.

    `named`: `recipe:version`, as Co-op Cloud has it. `beside`: where to find what runs beside it.
    """
    given = {**dict(zip(_GIVEN, (domain, stack, ""), strict=True)), **beside}
    forced = {"TYPE": named, "RECIPE": named, **own}
    if EXTRA not in own and (extra := parse_env(sample, given, forced=forced).get(EXTRA)):
        forced[EXTRA] = own_hosts(extra, domain)
    return parse_env(sample, given, forced=forced)


def own_hosts(text: str, domain: str) -> str:
    """The text with hosts below `domain` in place of all others, in the same form: nobody else's requests are taken."""
    hosts = dict.fromkeys(
        host for host in _HOST.findall(text) if host.lower() != domain and not host.lower().endswith(f".{domain}")
    )
    numbers = {host: number for number, host in enumerate(hosts, start=1)}
    return _HOST.sub(lambda found: f"extra{numbers[found[0]]}.{domain}" if found[0] in numbers else found[0], text)


def assemble(read: ReadFile, env: Mapping[str, str], overlay: str | None = None) -> Assembled:
    """Read, merge and fill in the compose files that `env` names, and the text of the enrolment's overlay over them.

    RecipeProblem for what the files say, WrongConfiguration for what the overlay must not.
    """
    code = read(EXPORTS) or ""
    exports = parse_exports(code, env, _GIVEN)
    if EXTRA in exports:
        exports[EXTRA] = own_hosts(exports[EXTRA], env.get("DOMAIN", ""))
    variables = {**env, **exports}
    files = [(name, _compose_file(read, name)) for name in _listed(variables.get(LISTED) or COMPOSE)]
    if (total := sum(len(text) for _, text in files)) > MOST_TEXT:
        raise RecipeProblem(
            f"The compose files have {total} characters; at most {MOST_TEXT} are read.",
            mend="a recipe is configuration: keep data out of it.",
            code="compose-invalid",
        )
    laid_over: dict[str, Mapping[str, Any]] = {}
    own = (TEST_OVERLAY, overlay) if overlay is not None and says_something(overlay) else None
    if own is not None:
        laid_over = _of_overlay(files, own[1])
    lost: list[tuple[str, str]] = []
    stack = resolve(files, variables, own, lost)
    lacks = tuple(unset([*files, *([own] if own else [])], variables))
    needs = needed(files)
    windows = (EXPORTS,) if "\r\n" in code else ()
    return Assembled(env, exports, stack, lacks, laid_over, windows, tuple(from_variables(files)), tuple(lost), needs)


def says_something(overlay: str) -> bool:
    """Whether there is anything in an overlay but comments."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in overlay.splitlines())


def _listed(text: str) -> list[str]:
    names = [name for name in text.split(":") if name]
    if len(names) > MOST_FILES:
        raise RecipeProblem(
            f"COMPOSE_FILE names {len(names)} files; at most {MOST_FILES} are read.",
            mend="name each overlay once.",
            code="compose-invalid",
        )
    return names


def _compose_file(read: ReadFile, name: str) -> str:
    path = posixpath.normpath(name)
    if path.startswith("/") or path.split("/")[0] == "..":
        raise RecipeProblem(f"COMPOSE_FILE names {shown(name)}, outside the recipe.", code="path-outside-recipe")
    if (text := None if "\0" in path else read(path)) is None:
        there = [shown(other) for other in _ITS_OTHER_NAMES if path == COMPOSE and _is_there(read, other)]
        raise RecipeProblem(
            f"COMPOSE_FILE names {shown(name)}, which this version of the recipe does not have"
            f"{f'; there is {there[0]}, which nobody looks for' if there else ''}.",
            mend="name files that this version has, in .env.sample or under [env].",
            code="compose-missing",
        )
    return text


def _is_there(read: ReadFile, name: str) -> bool:
    try:
        return read(name) is not None
    except RecipeProblem:  # it is, and is no text
        return True


def _of_overlay(files: list[tuple[str, str]], overlay: str) -> dict[str, Mapping[str, Any]]:
    """What the overlay says of services. It may be environmental only: an image in it would mean testing something else."""
    there = {service for name, text in files for service in _services(text, name)}
    said: dict[str, Mapping[str, Any]] = {
        name: body for name, body in _services(overlay, TEST_OVERLAY).items() if isinstance(body, dict)
    }
    for service, body in said.items():
        if service in there and {"image", "build"} & set(body):
            raise WrongConfiguration(
                f"{TEST_OVERLAY} replaces the image of '{service}', so the release's own would not be tested.",
                mend="take `image` out of the overlay.",
                code="overlay-replaces-image",
            )
    return said


def _services(text: str, name: str) -> dict[str, Any]:
    found = load_yaml(text, where=name).get("services")
    return found if isinstance(found, dict) else {}
