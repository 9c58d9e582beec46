"""Validation of names that come from outside, before they touch a path, a shell or a stack name."""

from __future__ import annotations

import re

from canonq.core.errors import RecipeProblem, WrongUse
from canonq.core.text import shown as shown  # hostile names are what is shown most

RECIPE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?")
COMMIT = re.compile(r"[0-9a-f]{40}")
RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-(?P<recipe>[a-z0-9_-]+)-[0-9a-f]{6}")
HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?")
SWEEP_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}")
_FORBIDDEN_IN_REF = re.compile(r"[\x00-\x20\x7f~^:?*\[\\\"'`$;&|<>(){}!#]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock(?:/|$)|/\.")
_MAX_REF = 200
DOCKER_NAME_LIMIT = 64
#: What Swarm takes as the name of a thing: how long it may be, and of what it may consist.
_SWARM_NAMES = {
    **dict.fromkeys(("config", "secret"), (DOCKER_NAME_LIMIT, re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?"))),
    **dict.fromkeys(("service", "network"), (63, re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9])*"))),
}


def recipe_name(text: object) -> str:
    """Return `text` when it is a recipe name (lower case, digits, `-`, `_`; 1 to 40), else WrongUse."""
    if isinstance(text, str) and RECIPE_NAME.fullmatch(text):
        return text
    raise WrongUse(
        f"{shown(text)} is not a recipe name.",
        mend="a recipe's name, and its folder's below tests/, has lower-case letters, digits, '-' and '_', at most 40; "
        "a folder that enrols nobody begins with '_'.",
        code="bad-recipe-name",
    )


def host_name(text: object) -> str:
    """Return `text` when it can be the name of a host (lower case, digits, `-`, `.`; 1 to 63), else WrongUse.

    It becomes part of a queue's name, and of the command that reads that host's state folder.
    """
    if isinstance(text, str) and HOST_NAME.fullmatch(text) and ".." not in text:
        return text
    raise WrongUse(
        f"{shown(text)} is not a host's name.",
        mend="it has lower-case letters, digits, '-' and '.', at most 63; `canonq hosts` lists those that have joined.",
        code="bad-host-name",
    )


def ref_problem(text: str) -> str | None:
    """Say why `text` cannot be used as a git ref or tag name, or None when it can.

    Stricter than git: printable ASCII only, nothing a shell or an option parser could take up.
    """
    if not text:
        return "is empty"
    if len(text) > _MAX_REF:
        return f"is {len(text)} characters long; at most {_MAX_REF} are allowed"
    if not text.isascii():
        return "has characters outside ASCII"
    if found := _FORBIDDEN_IN_REF.search(text):
        return f"has {shown(found.group())}, which a ref name must not have there"
    return None


def ref_name(text: object) -> str:
    """Return `text` when it is a safe git ref, tag or commit name, else WrongUse."""
    if not isinstance(text, str):
        raise WrongUse(f"{shown(text)} is not a ref name.", code="bad-ref-name")
    if problem := ref_problem(text):
        raise WrongUse(
            f"{shown(text)} is not a ref name: it {problem}.",
            mend="name a tag, branch or full commit as git shows it.",
            code="bad-ref-name",
        )
    return text


def commit_id(text: object) -> str:
    """Return `text` when it is a full 40-digit commit id, else WrongUse."""
    if isinstance(text, str) and COMMIT.fullmatch(text):
        return text
    raise WrongUse(f"{shown(text)} is not a full commit id.", code="bad-commit")


def identifier(text: object, pattern: re.Pattern[str], what: str, mend: str = "") -> str:
    """Return `text` when `pattern` matches it whole, else WrongUse naming `what`."""
    if isinstance(text, str) and pattern.fullmatch(text):
        return text
    raise WrongUse(f"{shown(text)} is not a {what}.", mend=mend, code="bad-identifier")


def recipe_in(run: str) -> str | None:
    """The recipe whose run or promotion an id names; None for what is no such id."""
    found = RUN_ID.fullmatch(run)
    return found["recipe"] if found else None


def cold_stack(recipe: str, token: str) -> str:
    """Name a cold run's stack: the first letters of the recipe's words and 6 hex digits.

    Short, because Docker allows 64 characters for `<stack>_<config>_<version>`.
    """
    letters = "".join(word[0] for word in re.split(r"[-_]+", recipe) if word)[:6]
    return f"{letters}-{token}"


def warm_stack(recipe: str) -> str:
    """Name the warm stack (docs/rules.md 2: `warm-<recipe>`)."""
    return f"warm-{recipe}"


def kept_volume(recipe: str, key: str, owner: str) -> str:
    """Name in Docker of a canonical's volume: the warm stack's, told apart by the promotion that made it."""
    return f"{warm_stack(recipe)}_{key}.{owner.rpartition('-')[2]}"


def volume_key(recipe: str, name: str) -> str:
    """The recipe's own name of a volume that `kept_volume` named."""
    return name.removeprefix(f"{warm_stack(recipe)}_").rpartition(".")[0]


def flat_ref(name: str) -> str:
    """A ref's name as one component of another's: no ref can then be in the way of one whose name goes on."""
    return name.replace("%", "%25").replace("/", "%2F")


def check_docker_name(kind: str, name: str) -> None:
    """Raise RecipeProblem when Swarm would not take `name` for a config, secret, service or network."""
    limit, allowed = _SWARM_NAMES[kind]
    if len(name) > limit:
        raise RecipeProblem(
            f"The {kind} name '{name}' has {len(name)} characters; Docker allows {limit}.",
            mend=f"shorten the {kind}'s name{' or its *_VERSION' if limit == DOCKER_NAME_LIMIT else ''} in the recipe.",
            code="name-too-long",
        )
    if not allowed.fullmatch(name):
        raise RecipeProblem(
            f"Docker takes no {kind} with the name {shown(name, 80)}: it may have letters, digits, '-' and '_', and ends with "
            "a letter or a digit.",
            mend=f"correct the {kind}'s name in the recipe.",
            code="name-invalid",
        )


def check_stack_name(kind: str, inner: str, stack: str, recipe: str) -> None:
    """Raise RecipeProblem when Swarm would not take what a stack calls `inner`: under its own name, or as the canonical.

    A run's stack has a short name; what is proven under it must be possible under the warm one too.
    """
    check_docker_name(kind, f"{stack}_{inner}")
    warm = f"{warm_stack(recipe)}_{inner}"
    try:
        check_docker_name(kind, warm)
    except RecipeProblem as error:
        raise RecipeProblem(
            f"It could never be promoted: as the canonical, {error.what[0].lower()}{error.what[1:]}",
            mend=f"{error.mend.removesuffix('.')}, or enrol it under a shorter name.",
            code=error.code,
        ) from error
