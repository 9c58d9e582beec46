"""The files of one version: read from its tree, filled in for a deployment, and asked whether they may have what they ask for."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from canonq.core.deployable import Deployable, deployable
from canonq.core.enrolment import SecretSource
from canonq.core.errors import CanonqError, EnrolmentProblem, HostProblem, RecipeProblem, WrongConfiguration
from canonq.core.recipe.assembly import SAMPLE, TEST_OVERLAY, ReadFile, app_env, assemble
from canonq.core.recipe.compose import unset_near
from canonq.core.recipe.envfile import LARGEST_SECRET, SecretRule, generate_secret, secret_rules
from canonq.core.stack.mounts import with_own
from canonq.core.stack.policy import refusals
from canonq.core.stack.resolved import Stack
from canonq.core.text import did_you_mean, ended, shown
from canonq.flows.stages import Deployment, Filled
from canonq.flows.world import World

INSTALL_STEPS = "install_steps.sh"

#: What install steps that are run before the deploy cannot mend.
_PAST_MENDING = ("policy-refused", "foreign-mount", "image-name-invalid")


class SecretMissing(WrongConfiguration):
    """A secret that neither the version's own .env.sample nor the enrolment makes."""

    code = "secret-missing"

    def __init__(self, secret: str, what: str, *, mend: str) -> None:
        super().__init__(what, mend=mend)
        self.secret = secret  #: its name in the recipe


def look_ahead(world: World, deployment: Deployment) -> tuple[Filled, tuple[str, ...]] | None:
    """Say what the files of a tree say already, without asking Docker anything; what they are filled in to, and its images.

    Where the enrolment has install steps, the files are not yet what will be deployed: what these may mend is told when they
    were run (None is the answer then).
    """
    steps = (world.checkout.folder(deployment.identity.recipe) / INSTALL_STEPS).is_file()
    try:
        sample = read_text(deployment.tree / SAMPLE)
        filled, stack = fitted(world, deployment, sample, build_env(sample, deployment))
        make_secrets(deployment, stack, secret_rules(sample, filled.env))
    except (RecipeProblem, WrongConfiguration) as error:
        if steps and error.code not in _PAST_MENDING:
            return None
        raise
    return filled, tuple(sorted(set(stack.images.values())))


def read_files(world: World, deployment: Deployment) -> Filled:
    """Fill a tree's files in, to be looked at and not to be deployed; what is wrong with them is told as for a deployment."""
    sample = read_text(deployment.tree / SAMPLE)
    return fitted(world, deployment, sample, build_env(sample, deployment))[0]


def fitted(world: World, deployment: Deployment, sample: str, env: Mapping[str, str]) -> tuple[Filled, Deployable]:
    """The files of the tree, filled in from `env`, and the stack that they make for this deployment.

    RecipeProblem for what Docker would refuse; EnrolmentProblem where the person's own overlay, [env] or [health] makes it so.
    """
    recipe, version = deployment.identity.recipe, deployment.identity.version
    folder, filled = world.checkout.folder(recipe), None
    try:
        filled = deployment.account.fills(_filled(deployment, sample, env, folder / TEST_OVERLAY))
        filled = deployment.account.fills(_with_own(deployment, filled))
        stack = _fit(deployment, filled)
    except RecipeProblem as error:
        if filled is not None and (near := unset_near(error.code, filled.unset)):
            error.what = " ".join([error.what, *near])
        if not _is_the_enrolments(deployment, sample, folder):
            raise
        beside = error.code == "file-missing" and any(path.is_file() and path.name in error.what for path in folder.iterdir())
        copy = f"; a path in it counts from the recipe's folder, into which {INSTALL_STEPS} may copy what lies beside it"
        raise EnrolmentProblem(
            f"{error.what} Without the enrolment's own files the release can be read.",
            mend=f"correct {TEST_OVERLAY} or [env] in tests/{recipe}{copy if beside else ''}.",
            code=error.code,
            certain=True,
        ) from error
    service, there = deployment.enrolment.health.service, filled.resolved.services
    if service not in there:
        raise EnrolmentProblem(
            ended(f"[health] service = {shown(service)}, which {version} does not have{did_you_mean(service, there)}"),
            mend=f"name one of {', '.join(there)} in tests/{recipe}/recipe.toml.",
            code="health-service-unknown",
            certain=True,
        )
    return filled, stack


def _is_the_enrolments(deployment: Deployment, sample: str, folder: Path) -> bool:
    """Whether the release's files could be used without what the enrolment lays over them."""
    if not (deployment.enrolment.env or (folder / TEST_OVERLAY).is_file()):
        return False
    alone = replace(deployment, enrolment=deployment.enrolment.model_copy(update={"env": {}}))
    try:
        _fit(alone, _with_own(alone, _filled(alone, sample, build_env(sample, alone), overlay=None)))
    except CanonqError:
        return False
    return True


def _filled(deployment: Deployment, sample: str, env: Mapping[str, str], overlay: Path | None) -> Filled:
    """The files of the tree put together, with the enrolment's overlay."""
    made = assemble(_files_of(deployment.tree), env, read_text(overlay) if overlay is not None and overlay.is_file() else None)
    hashes = _hashes(deployment.tree, made.stack)
    return Filled(deployment.identity, sample, made.env, made.exports, made.stack, hashes, unset=made.unset)


def _files_of(tree: Path) -> ReadFile:
    """Reads files of a tree; what leads out of it is not there."""

    def read(name: str) -> str | None:
        path = (tree / name).resolve()
        return read_text(path) if path.is_relative_to(tree.resolve()) and path.is_file() else None

    return read


def _hashes(tree: Path, stack: Stack) -> dict[str, str]:
    """Path in the recipe -> SHA-256 of each file that becomes a config or secret of the stack."""
    named = {one.file for one in (*stack.configs.values(), *stack.secrets.values()) if one.file is not None}
    inside = {name: path for name in named if (path := (tree / name).resolve()).is_relative_to(tree.resolve())}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in inside.items() if path.is_file()}


def _with_own(deployment: Deployment, filled: Filled) -> Filled:
    """The same with plain volumes of its own for what is somebody else's; refused where the policy for refs says so."""
    _ask_policy(deployment, filled)
    resolved, replaced = with_own(filled.resolved, _kept_mounts(deployment))
    return replace(filled, resolved=resolved, replaced=replaced)


def _fit(deployment: Deployment, filled: Filled) -> Deployable:
    names = {key: deployment.volume_name(key) for key in filled.resolved.volumes}
    env = {**filled.env, **filled.exports}
    stack = deployable(filled.resolved, deployment.identity, env, folder=str(deployment.tree), volume_names=names)
    _check_files(stack, deployment.tree)
    return stack


def _check_files(stack: Deployable, tree: Path) -> None:
    """RecipeProblem for a file that the stack is made of and the release does not have."""
    named = {f"{section}.{key}": body["file"] for section in ("configs", "secrets")
             for key, body in stack.file.get(section, {}).items() if "file" in body}  # fmt: skip
    for service, body in stack.file["services"].items():
        named |= {f"services.{service}.env_file": path for path in body.get("env_file") or ()}
    for where, path in named.items():
        if not Path(path.replace("$$", "$")).is_file():
            name = os.path.relpath(path, tree)
            there = [str(other.relative_to(tree)) for other in tree.rglob("*") if other.is_file() and ".git" not in other.parts]
            raise RecipeProblem(
                ended(
                    f"{where} is made from the file {shown(name)}, which this version does not have{did_you_mean(name, there)}"
                ),
                mend="add the file to the recipe, or correct its name.",
                code="file-missing",
            )


def _kept_mounts(deployment: Deployment) -> set[str]:
    """Paths of the host that a person lets this code have: of releases and, by the words for these, of refs."""
    allowed = {word.removeprefix("bind:") for word in deployment.allow or () if word.startswith("bind:")}
    return {*deployment.enrolment.mounts.keep, *allowed}


def _ask_policy(deployment: Deployment, filled: Filled) -> None:
    """Refuse what untrusted code asks of this host and is not allowed by name."""
    if deployment.allow is None:
        return
    identity = deployment.identity
    denied = refusals(filled.resolved, allow=deployment.allow, name=identity.stack, domain=identity.domain)
    if denied:
        raise RecipeProblem(
            "The policy for refs refuses it: " + "; ".join(f"{no.where}: {no.why}" for no in denied) + ".",
            mend=f"if this is meant, allow it in recipe.toml: [refs] allow = {json.dumps([no.what for no in denied])}.",
            code="policy-refused",
        )


def build_env(sample: str, deployment: Deployment) -> dict[str, str]:
    """The app's `.env`, which is noted for its masks."""
    identity = deployment.identity
    named = f"{identity.recipe}:{identity.version}"
    own, beside = deployment.enrolment.env, deployment.beside
    env = app_env(sample, named=named, domain=identity.domain, stack=identity.stack, beside=beside, own=own)
    deployment.account.secrecy.env(env)
    return env


def make_secrets(deployment: Deployment, stack: Deployable, rules: Mapping[str, SecretRule]) -> dict[str, str]:
    """A value for every secret the stack needs; those that the deployment has already stay as they are."""
    made, enrolment, identity = dict(deployment.secrets), deployment.enrolment, deployment.identity
    for name in sorted(set(stack.secrets.values()) - set(made)):
        if source := enrolment.secrets.get(name):
            made[name] = _given_secret(identity.recipe, name, source)
        elif (rule := rules.get(name)) and rule.generate:
            made[name] = generate_secret(rule, secrets.choice)
        else:
            near = did_you_mean(name, set(enrolment.secrets) - set(stack.secrets.values())).replace("did you mean", "is it")
            raise SecretMissing(
                name,
                ended(
                    f"The secret '{name}' of {identity.recipe} {identity.version} cannot be generated, "
                    f"and [secrets] does not give it{near}"
                ),
                mend=f"give it under [secrets] in tests/{identity.recipe}/recipe.toml, such as {name} = {{ hex = 32 }}.",
            )
        deployment.account.secrecy.secrets({name: made[name]})
    return made


def _given_secret(recipe: str, name: str, source: SecretSource) -> str:
    if source.hex is not None:
        return secrets.token_hex(source.hex)

    def missing(why: str, mend: str) -> WrongConfiguration:
        origin = f"the variable {source.env}" if source.env is not None else str(source.file)
        return WrongConfiguration(
            f"The secret '{name}' of {recipe} comes from {origin}, which {why}.", mend=mend, code="secret-missing"
        )

    if source.env is not None and source.env not in os.environ:
        raise missing("is not set here", "set it for every worker.")
    try:
        value = os.environ[source.env] if source.env is not None else Path(str(source.file)).read_text().rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise missing(f"cannot be read: {error}", "let the workers read it.") from error
    if not value:
        raise missing("is empty", "write the secret there; Docker takes no empty one.")
    if (length := len(value.encode(errors="surrogateescape"))) > LARGEST_SECRET:
        raise missing(f"has {length} bytes", f"give a shorter one; Docker takes at most {LARGEST_SECRET}.")
    return value


def read_text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise RecipeProblem(f"{path.name} is not text: {error}.", mend="write it as UTF-8.", code="not-text") from error
    except OSError as error:
        raise HostProblem(f"{path} cannot be read: {error}.") from error
