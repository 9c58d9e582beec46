"""The enrolment: `tests/<recipe>/recipe.toml`, validated (docs/rules.md 3).

An unknown key or a wrong type is an error that names the file, the key and what is allowed.
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from canonq.core.errors import WrongConfiguration
from canonq.core.ladder import TierName
from canonq.core.names import RECIPE_NAME, ref_problem

EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
RecipeName = Annotated[str, StringConstraints(pattern=f"^{RECIPE_NAME.pattern}$")]
ServiceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=63)]
Text = Annotated[str, StringConstraints(min_length=1)]
Status = Annotated[int, Field(ge=100, le=599)]

#: Seconds. Every run must end well below the broker's visibility timeout, or it would be delivered twice.
LONGEST_RUN = 3 * 3600


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Health(_Strict):
    """How "the app answers" is judged."""

    kind: Literal["http", "tcp", "exec"] = "http"
    service: ServiceName = "app"
    port: Annotated[int, Field(ge=1, le=65535)] = 80  #: container port
    path: Annotated[str, StringConstraints(pattern=r"^/[^\s]*$")] = "/"
    status: Annotated[list[Status], Field(min_length=1)] = [200]
    allow_empty: bool = False  #: whether an answer without a body counts
    timeout: Annotated[int, Field(ge=1, le=LONGEST_RUN)] = 300  #: seconds, from deploy to healthy
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


class Refs(_Strict):
    """What the code of branches and pull requests may ask of this host (core/policy.py)."""

    allow: list[Text] = []


class Mounts(_Strict):
    """What of the host a release may have as it is (core/mounts.py); everything else is a plain volume of the stack's own."""

    keep: list[Text] = []  #: paths


class Tree(_Strict):
    """What to do about parts of a release that are not in its repository; canonq fetches neither."""

    submodules: Literal["refuse", "empty"] = "refuse"
    lfs: Literal["refuse", "pointers"] = "refuse"


class Promote(_Strict):
    """How a promotion treats the canonical's data."""

    data: Literal["carry", "fresh"] = "carry"


class Enrolment(_Strict):
    """One recipe's enrolment. `recipe` comes from the folder's name, the rest from recipe.toml."""

    recipe: RecipeName
    upstream: Text  #: git URL or path
    mirror: Text | None = None
    weight: Literal["light", "heavy"] = "light"
    enrolled: bool = True
    prereleases: bool = False
    deps: list[RecipeName] = []
    health: Health = Health()
    env: dict[EnvName, str] = {}
    secrets: dict[ServiceName, SecretSource] = {}
    expected_na: dict[TierName, Text] = {}
    upgrade: Upgrade = Upgrade()
    limits: Limits = Limits()
    refs: Refs = Refs()
    mounts: Mounts = Mounts()
    tree: Tree = Tree()
    promote: Promote = Promote()

    @field_validator("expected_na")
    @classmethod
    def _install_always_applies(cls, declared: dict[TierName, str]) -> dict[TierName, str]:
        if "install" in declared:
            raise ValueError("the install tier applies to every recipe")
        return declared

    @property
    def queue(self) -> str:
        """The Celery queue that `test` and `promote` of this recipe run on."""
        return self.weight


def parse_enrolment(recipe: str, text: str, *, where: str) -> Enrolment:
    """Read the text of a recipe.toml. WrongConfiguration names `where`, every bad key and what is allowed."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WrongConfiguration(f"{where} is not TOML: {error}.", mend="correct that line.", code="enrolment-invalid") from error
    if "recipe" in table:
        raise _invalid(where, ["recipe: not a key here; the folder's name is the recipe's name"])
    try:
        return Enrolment.model_validate({"recipe": recipe, **table})
    except ValidationError as error:
        raise _invalid(where, faults(error, Enrolment)) from error


def _invalid(where: str, found: list[str]) -> WrongConfiguration:
    return WrongConfiguration(
        f"{where} cannot be used: " + "; ".join(found) + ".",
        mend="correct the keys named; docs/enrolment.md lists every key.",
        code="enrolment-invalid",
    )


def faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """All faults of a validation, each as `key: what is wrong` with what is allowed."""
    found = []
    for fault in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in fault["loc"] if part != "[key]") or "file"
        if fault["type"] == "extra_forbidden":
            allowed = ", ".join(_keys_at(model, fault["loc"][:-1]))
            found.append(f"{key}: unknown key (allowed: {allowed})")
        elif fault["type"] == "missing":
            found.append(f"{key}: is required")
        else:
            found.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}")
    return found


def _keys_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    for part in path:
        field = model.model_fields.get(str(part))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return sorted(SecretSource.model_fields)  # the one model that sits inside a mapping
        model = inner
    return sorted(name for name in model.model_fields if name != "recipe")
