"""The enrolment: `tests/<recipe>/recipe.toml`, validated (docs/rules.md 3).

An unknown key or a wrong type is an error that names the file, the key and what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from canonq.core.amounts import Size, seconds_in
from canonq.core.errors import EnrolmentInvalid, WrongUse
from canonq.core.ladder import NotApplying
from canonq.core.names import HOST_NAME, RECIPE_NAME, ref_problem
from canonq.core.text import did_you_mean, ended, shown, unmerged

_ENV_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_SERVICE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
_PATH = r"^/[^\s]*$"
EnvName = Annotated[str, StringConstraints(pattern=_ENV_NAME)]
_RECIPE_NAME = f"^{RECIPE_NAME.pattern}$"
_HOST_NAME = f"^{HOST_NAME.pattern}$"
RecipeName = Annotated[str, StringConstraints(pattern=_RECIPE_NAME)]
HostName = Annotated[str, StringConstraints(pattern=_HOST_NAME)]
ServiceName = Annotated[str, StringConstraints(pattern=_SERVICE_NAME, max_length=63)]
Text = Annotated[str, StringConstraints(min_length=1)]
Status = Annotated[int, Field(ge=100, le=599)]

#: The folder beside the recipes' own whose modules all of their tests and hooks may import.
SHARED = "_shared"

#: Seconds. Every run must end well below the broker's visibility timeout, or it would be delivered twice.
LONGEST_RUN = 3 * 3600


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Health(_Strict):
    """How "the app answers" is judged."""

    kind: Literal["http", "tcp", "exec"] = "http"
    service: ServiceName = "app"
    port: Annotated[int, Field(ge=1, le=65535)] = 80  #: container port
    path: Annotated[str, StringConstraints(pattern=_PATH)] = "/"
    status: Annotated[list[Status], Field(min_length=1)] = [200]
    allow_empty: bool = False  #: whether an answer without a body counts
    timeout: Annotated[int, Field(ge=1, le=LONGEST_RUN)] = 300  #: seconds, from deploy to healthy
    soak: Annotated[int, Field(ge=0, le=3600)] = 30  #: seconds that it must then stay up
    command: list[str] = []  #: for kind "exec"

    @model_validator(mode="after")
    def _exec_has_a_command(self) -> Self:
        if (self.kind == "exec") != bool(self.command):
            raise ValueError('command = [...] goes with kind = "exec", and only with it')
        return self


class SecretSource(_Strict):
    """Where a secret comes from that cannot be generated from `.env.sample`: one of the three."""

    hex: Annotated[int, Field(ge=1, le=512)] | None = None  #: so many random bytes, written as hex digits
    file: Text | None = None
    env: EnvName | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(source is not None for source in (self.hex, self.file, self.env)) != 1:
            raise ValueError('give exactly one of hex = N, file = "...", env = "..."')
        return self


class Upgrade(_Strict):
    """The escape hatch for the upgrade base."""

    base: Text | None = None
    why: Text | None = None  #: why it is needed, so that whoever finds it stale knows

    @model_validator(mode="after")
    def _base_is_a_ref(self) -> Self:
        if self.base is not None and (problem := ref_problem(self.base)):
            raise ValueError(f"base {problem}")
        return self


class Limits(_Strict):
    """Limits of one run."""

    run: Annotated[int, Field(ge=10, le=LONGEST_RUN)] = 2400  #: seconds for the whole test
    tests: Annotated[int, Field(ge=1, le=LONGEST_RUN)] = 600  #: seconds for the recipe's own tests
    hook: Annotated[int, Field(ge=1, le=LONGEST_RUN)] = 300  #: seconds for one hook, of canonq's or of a backup label


class DataRules(_Strict):
    """What of an app's data may go or get smaller, each with the reason (core/stack/census.py)."""

    volatile: dict[Text, Text] = {}  #: volumes, databases and tables that may be empty or go
    shrink: dict[Text, Text] = {}  #: those that may get smaller


class Refs(_Strict):
    """What the code of branches and pull requests may ask of this host (core/stack/policy.py)."""

    allow: list[Text] = []
    secrets: list[ServiceName] = []  #: those of [secrets] that they are given; all others are made up
    data: bool = False  #: whether they run on a copy of the canonical's data, with its secrets; else on empty volumes


class Resources(_Strict):
    """What a deployment may take of the host; what is not said has a default by the recipe's weight."""

    memory: Annotated[Size, Field(ge=16 * 2**20)] | None = None  #: bytes
    cpus: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] | None = None
    pids: Annotated[int, Field(ge=10, le=4_000_000)] = 4096  #: processes and threads of one container
    log: Annotated[Size, Field(ge=2**16)] = ByteSize(20 * 2**20)  #: bytes that Docker keeps of one container's log
    replicas: Annotated[int, Field(ge=1, le=100)] = 5  #: of one service


class Mounts(_Strict):
    """What of the host a release may have as it is (core/stack/mounts.py); all else is a plain volume of the stack's own."""

    keep: list[Text] = []  #: paths


class Tree(_Strict):
    """What to do about parts of a release that are not in its repository; canonq fetches neither."""

    submodules: Literal["refuse", "empty"] = "refuse"
    lfs: Literal["refuse", "pointers"] = "refuse"


def _age(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError('write a length of time in quotes, such as "36h" or "3d"')
    try:
        return seconds_in(value, most=_OLDEST)
    except WrongUse as error:
        raise ValueError(str(error)) from error


_OLDEST = 90 * 86400.0
Age = Annotated[float, BeforeValidator(_age)]


class Promote(_Strict):
    """How a promotion treats the canonical's data."""

    data: Literal["carry", "fresh"] = "carry"
    approval: Literal["ask", "never"] = "never"  #: whether new majors, a database's too, and notes that ask for something wait


def _own_names(env: dict[str, str]) -> dict[str, str]:
    """Every deployment has a name and a domain of its own: a fixed one would be another app's, or two of canonq's at once."""
    if "STACK_NAME" in env:
        raise ValueError("STACK_NAME is canonq's to give: each run and the canonical have a name of their own")
    if "DOMAIN" in env and not re.search(r"\$(DOMAIN\b|\{DOMAIN\})", env["DOMAIN"]):
        raise ValueError(
            "DOMAIN is canonq's to give: each run has a domain of its own, and a fixed one would take the requests of whoever "
            'has it; DOMAIN = "www.${DOMAIN}" builds on it'
        )
    return env


class Enrolment(_Strict):
    """One recipe's enrolment. `recipe` comes from the folder's name, the rest from recipe.toml."""

    recipe: RecipeName
    upstream: Text  #: git URL or path
    mirror: Text | None = None
    weight: Literal["light", "heavy"] = "light"
    enrolled: bool = True
    host: HostName | None = None  #: the only one that it is worked on, where several share a broker
    prereleases: bool = False
    min_age: Age = 0.0  #: seconds that a release is known before it is proven
    deps: list[RecipeName] = []
    health: Health = Health()
    env: Annotated[dict[EnvName, str], AfterValidator(_own_names)] = {}
    secrets: dict[ServiceName, SecretSource] = {}
    expected_na: dict[NotApplying, Text] = {}
    upgrade: Upgrade = Upgrade()
    limits: Limits = Limits()
    refs: Refs = Refs()
    resources: Resources = Resources()
    mounts: Mounts = Mounts()
    tree: Tree = Tree()
    promote: Promote = Promote()
    data: DataRules = DataRules()
    notify: Text | None = None  #: the channel of its messages

    @field_validator("expected_na")
    @classmethod
    def _install_always_applies(cls, declared: dict[NotApplying, str]) -> dict[NotApplying, str]:
        if "install" in declared:
            raise ValueError("the install tier applies to every recipe")
        return declared

    @model_validator(mode="after")
    def _deps_are_others(self) -> Self:
        if self.recipe in self.deps:
            raise ValueError(f"deps: {self.recipe} cannot depend on itself")
        if twice := sorted({name for name in self.deps if self.deps.count(name) > 1}):
            raise ValueError(f"deps: {', '.join(twice)} stands there twice")
        return self

    @model_validator(mode="after")
    def _refs_get_what_is_there(self) -> Self:
        for name in self.refs.secrets:
            if name not in self.secrets:
                raise ValueError(f"refs.secrets names {name}, which [secrets] does not have{did_you_mean(name, self.secrets)}")
        return self

    @property
    def queue(self) -> str:
        """The Celery queue that `test` and `promote` of this recipe run on."""
        return self.weight


def parse_enrolment(recipe: str, text: str, *, where: str) -> Enrolment:
    """Read the text of a recipe.toml. WrongConfiguration names `where`, every bad key and what is allowed."""
    try:
        table = tomllib.loads(text.removeprefix("\ufeff"))  # editors of Windows put it there
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, nesting without an end
        raise EnrolmentInvalid(f"{where} is not TOML: {str(error)[:200]}{unmerged(text)}.", mend="correct that line.") from error
    if "recipe" in table:
        raise _invalid(where, ["recipe: not a key here; the folder's name is the recipe's name"])
    try:
        return Enrolment.model_validate({"recipe": recipe, **table})
    except ValidationError as error:
        raise _invalid(where, faults(error, Enrolment, text)) from error


def _invalid(where: str, found: list[str]) -> EnrolmentInvalid:
    return EnrolmentInvalid(
        ended(f"{where} cannot be used: " + "; ".join(found)), mend="correct the keys named; docs/enrolment.md lists every key."
    )


_MOST_FAULTS = 20  #: are told at once


def faults(
    error: ValidationError,
    model: type[BaseModel],
    text: str = "",
    *,
    patterns: Mapping[str, str] = MappingProxyType({}),
    variable: Callable[[tuple[int | str, ...]], str | None] = lambda path: None,
) -> list[str]:
    """The faults of a validation, the first of very many: `key: what is wrong`, what is allowed, the line in the TOML `text`.

    `patterns`: what further patterns ask for, in words. `variable`: the one that said what stands under a key, where one did.
    """
    words = {**_PATTERNS, **patterns}
    found = []
    all_of_them = error.errors(include_url=False)
    for fault in all_of_them[:_MOST_FAULTS]:
        path = tuple(part for part in fault["loc"] if part != "[key]")
        key = ".".join(str(part) for part in path) or "file"
        line = line_of(text, path)
        named = variable(path)
        place = f"line {line}, {key}" if line and not named else key
        if fault["type"] == "extra_forbidden":
            allowed = _keys_at(model, fault["loc"][:-1])
            above = _keys_at(model, ())
            belongs = len(path) > 1 and path[-1] in above
            why = f"; {path[-1]} belongs above the first [table] of the file" if belongs else did_you_mean(str(path[-1]), allowed)
            said = f"unknown key (allowed: {', '.join(allowed)}){why}"
        elif fault["type"] == "missing":
            said = "is required"
        else:
            said = _said(fault, model, words)
            for toml, json in _IN_VARIABLES.items() if named else ():
                said = said.replace(toml, json)
        found.append(f"{place}: {said}{f' ({named})' if named else ''}")
    if more := len(all_of_them) - len(found):
        found.append(f"and {more} more")
    return found


def _said(fault: ErrorDetails, model: type[BaseModel], patterns: Mapping[str, str]) -> str:
    """What is wrong with a value, in words of TOML instead of the library's."""
    ctx = fault.get("ctx") or {}
    match fault["type"]:
        case "model_type" if len(fault["loc"]) > 1:
            return f"must be {_TABLE}, with keys of {', '.join(_keys_at(model, fault['loc']))}"
        case "greater_than_equal":
            return f"must be {_amount(ctx['ge'])} or more"
        case "greater_than":
            return f"must be more than {ctx['gt']}"
        case "less_than_equal":
            return f"must be {ctx['le']} or less"
        case "string_too_long":
            return f"must have {ctx['max_length']} characters or fewer"
        case "literal_error":
            return f"must be {ctx['expected']}{_and_is(fault)}"
        case "byte_size" | "byte_size_unit":
            return f"{_WORDS[fault['type']]}{_and_is(fault)}"
        case "string_pattern_mismatch" if ctx["pattern"] in patterns:
            return patterns[ctx["pattern"]]
    return _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")


def _and_is(fault: ErrorDetails) -> str:
    """What stands there instead of one of a few words; nothing for what is no text."""
    return f", and is {shown(fault['input'])}" if isinstance(fault["input"], str) else ""


def _amount(number: float) -> str:
    """A bound as it is written: sizes are whole KiB or MiB, and no other bound is."""
    for unit, name in ((2**20, "MiB"), (2**10, "KiB")):
        if number and number % unit == 0:
            return f"{number // unit} {name}"
    return str(number)


_PATTERNS = {
    _RECIPE_NAME: "must be a recipe's name: lower-case letters, digits, '-' and '_', at most 40",
    _HOST_NAME: "must be a host's name: lower-case letters, digits, '-' and '.', at most 63",
    _PATH: "must begin with / and have no spaces",
    _ENV_NAME: "must be letters, digits and _, and not begin with a digit",
    _SERVICE_NAME: "must be letters, digits, '_', '.' and '-', and begin with a letter or digit",
}
_NO_QUOTES = ", without quotes"
_TABLE, _LIST = "a table, such as { key = ... }", "a list, such as [200]"
#: What is said of TOML -> the same of a variable, which is text or JSON.
_IN_VARIABLES = {_NO_QUOTES: "", _TABLE: 'an object in JSON, such as {"key": ...}', _LIST: 'a list in JSON, such as ["a", 1]'}
_WORDS = {
    "string_too_short": "must not be empty",
    "too_short": "must not be an empty list",
    "byte_size_unit": 'must be a size, such as "512 MiB"',
    "byte_size": 'must be a size, such as "512 MiB"',
    "list_type": f"must be {_LIST}",
    "string_type": 'must be a text in quotes, such as "80"',
    "int_type": f"must be a whole number{_NO_QUOTES}",
    "int_parsing": "must be a whole number",
    "float_type": f"must be a number{_NO_QUOTES}",
    "finite_number": "must be a number, and neither nan nor inf",
    "bool_type": f"must be true or false{_NO_QUOTES}",
    "dict_type": f"must be {_TABLE}",
    "model_type": f"must be {_TABLE}",
}


def line_of(text: str, path: Sequence[int | str]) -> int | None:
    """The line of a TOML text in which a key stands, as far as it is written the usual way: `[table]`, then `key = ...`."""
    table: tuple[str, ...] = ()
    nearest = None
    names = tuple(str(part) for part in path)
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.fullmatch(r"\s*\[([^\[\]]+)\]\s*(?:#.*)?", line):
            table = _parts(header[1])
            here = table
        elif (equals := line.find("=")) > 0:
            here = (*table, *_parts(line[:equals]))
        else:
            continue
        if names[: len(here)] == here and here:
            nearest = number
            if here == names:
                return number
    return nearest


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.strip().split("."))


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        if field is not None and (inner := _model_in(field.annotation)) is not None:
            model = inner  # else it is a key of a mapping, whose tables are this one
    return sorted(name for name in model.model_fields if name != "recipe")


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The table that a field has, or that stands under each key of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one)) is not None), None)


def circle(recipe: str, deps: Callable[[str], Sequence[str]]) -> tuple[str, ...]:
    """The way from a recipe over `deps` (what a recipe depends on) back to itself, or nothing."""
    ways: list[tuple[str, ...]] = [(recipe,)]
    seen: set[str] = set()
    while ways:
        way = ways.pop(0)
        for name in deps(way[-1]):
            if name == recipe:
                return (*way, name)
            if name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()
