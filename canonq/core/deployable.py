"""Making a resolved stack deployable: names, labels, env and file paths for one deployment. Pure.

Environmental changes only: nothing here alters which image runs, or how (known failure: an overlay that
replaced the image under test).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from canonq.core.errors import CanonqError, RecipeProblem
from canonq.core.names import check_docker_name, check_stack_name, shown
from canonq.core.recipe.compose import escape_dollars
from canonq.core.stack.images import image_name
from canonq.core.stack.mounts import theirs
from canonq.core.stack.resolved import DEFAULT_NETWORK, Declared, Service, Stack

#: Labels by which canonq knows its own (docs/rules.md 5.4: ownership is a label, not a name pattern).
LABEL_INSTANCE = "canonq.instance"
LABEL_KIND = "canonq.kind"
LABEL_RECIPE = "canonq.recipe"
LABEL_OWNER = "canonq.owner"
LABEL_VOLUME = "canonq.volume"
LABEL_COMMIT = "canonq.commit"
LABEL_STACK = "canonq.stack"
LABEL_STATE = "canonq.state"  #: on retained volumes: the state folder whose records speak of them
_VOLUME = re.compile(r"[a-zA-Z0-9._-]{1,200}")
#: What the last word of a secret's name is when it is a version.
_VERSION = re.compile(r"(?:v?[0-9][0-9.]*)?")


@dataclass(frozen=True)
class Identity:
    """Whose deployment it is."""

    instance: str  #: id of this canonq installation
    kind: str  #: run or warm
    recipe: str
    owner: str  #: id of the run or promotion
    stack: str
    domain: str
    version: str
    commit: str
    state: str = ""  #: the state folder whose records are to speak of its volumes, where they stay

    @property
    def volume_labels(self) -> dict[str, str]:
        """The same for volumes."""
        return {**self.labels, **({LABEL_STATE: self.state} if self.state else {})}

    @property
    def labels(self) -> dict[str, str]:
        """Ownership labels for everything that is created."""
        return {
            LABEL_INSTANCE: self.instance,
            LABEL_KIND: self.kind,
            LABEL_RECIPE: self.recipe,
            LABEL_OWNER: self.owner,
            LABEL_STACK: self.stack,
        }


@dataclass(frozen=True)
class Deployable:
    """What goes to Docker."""

    stack: str
    file: dict[str, Any]  #: the compose file, `$` doubled
    images: dict[str, str]  #: service -> reference
    volumes: dict[str, str]  #: key in the recipe -> name in Docker
    secrets: dict[str, str]  #: name in Docker -> name in the recipe; to be there before the deploy
    networks: tuple[str, ...]  #: external networks that must be there


def version_label(stack: str) -> str:
    """The label that says which version of a stack is deployed (Co-op Cloud's convention)."""
    return f"coop-cloud.{stack}.version"


def deployable(
    stack: Stack,
    identity: Identity,
    env: Mapping[str, str],
    *,
    folder: str,
    volume_names: Mapping[str, str],
) -> Deployable:
    """Fit a resolved stack out for one deployment.

    `env` is the app's whole env, handed to the service `app` as abra does. `folder` is the recipe's worktree:
    files of configs and secrets must lie in it. `volume_names` gives each volume its name in Docker.
    """
    if "app" not in stack.services:
        raise RecipeProblem(
            "The recipe has no service called 'app'.",
            mend="call the main service 'app', as Co-op Cloud asks.",
            code="no-app-service",
        )
    for name in stack.services:
        check_stack_name("service", name, identity.stack, identity.recipe)
    file: dict[str, Any] = {"version": stack.version}
    file["services"] = {name: _service(service, identity, env, folder) for name, service in stack.services.items()}
    file["networks"] = _networks(stack, identity)
    file["volumes"] = {key: _volume(volume, identity, volume_names) for key, volume in stack.volumes.items()}
    for section in ("configs", "secrets"):
        file[section] = {key: _object(section, one, identity, folder) for key, one in stack.declared(section).items()}
    return Deployable(
        stack=identity.stack,
        file=escape_dollars({key: body for key, body in file.items() if body}),
        images={service: _named(service, reference) for service, reference in stack.images.items()},
        volumes={key: body["name"] for key, body in file["volumes"].items()},
        secrets=external_secrets(stack, identity.stack, env),
        networks=tuple(network.name for network in stack.networks.values() if network.external),
    )


def _named(service: str, reference: str) -> str:
    """The reference as it is, once it is known to be one: Docker would say no to it only when half is deployed."""
    image_name(reference, where=f"the service '{service}'")
    return reference


def _service(of: Service, identity: Identity, env: Mapping[str, str], folder: str) -> dict[str, Any]:
    name, service = of.name, {key: value for key, value in of.body.items() if not key.startswith("x-")}
    deploy = dict(of.deploy)
    labels = {**(deploy.get("labels") or {}), **identity.labels}
    if name == "app":
        prefix = f"coop-cloud.{identity.stack}"
        labels |= {
            version_label(identity.stack): identity.version,
            f"{prefix}.recipe": identity.recipe,
            f"{prefix}.chaos": "false",
            LABEL_COMMIT: identity.commit,
        }
    if environment := _environment(service.get("environment") or {}, env, expose_all=name == "app"):
        service["environment"] = environment
    service["deploy"] = {**deploy, "labels": labels}
    service["labels"] = {**(service.get("labels") or {}), **identity.labels}
    if listed := service.pop("env_file", None):
        service["env_file"] = [_inside(folder, str(path), f"services.{name}.env_file") for path in listed]
    return service


def _environment(own: Mapping[str, Any], env: Mapping[str, str], *, expose_all: bool) -> dict[str, Any]:
    """A service's environment: `- NAME` without a value takes the app's; abra hands `app` all there is."""
    given = {key: env.get(key) if value is None else value for key, value in own.items()}
    return {**(env if expose_all else {}), **{key: value for key, value in given.items() if value is not None}}


def _networks(stack: Stack, identity: Identity) -> dict[str, Any]:
    declared = dict(stack.networks)
    if any(not service.networks and not service.body.get("network_mode") for service in stack.services.values()):
        declared.setdefault("default", DEFAULT_NETWORK)
    networks = {}
    for key, network in declared.items():
        if network.external:
            networks[key] = {"external": True, "name": network.name}
        else:
            check_stack_name("network", key, identity.stack, identity.recipe)
            labels = {**network.labels, **identity.labels}
            networks[key] = {**network.body, "name": f"{identity.stack}_{key}", "labels": labels}
    return networks


def _volume(volume: Declared, identity: Identity, names: Mapping[str, str]) -> dict[str, Any]:
    """A volume of the stack's own. CanonqError for one that leads to somebody else's data: `with_own` has replaced it before."""
    if whose := theirs(volume):
        raise CanonqError(
            f"The volume {shown(volume.key)} is {whose}, and was about to be given to the stack {identity.stack}.",
            mend="nothing was deployed; report it.",
            code="foreign-volume",
        )
    if volume.key in (".", "..") or not _VOLUME.fullmatch(volume.key):  # its data is kept under this name
        raise RecipeProblem(
            f"The volume {shown(volume.key)} has a name that Docker does not take, or no folder can have.",
            mend="name it with letters, digits, '-' and '_', 200 at the most.",
            code="name-invalid",
        )
    return {"name": names[volume.key], "labels": {**volume.labels, **identity.volume_labels, LABEL_VOLUME: volume.key}}


def _object(section: str, one: Declared, identity: Identity, folder: str) -> dict[str, Any]:
    kind = section.removesuffix("s")
    if one.external:
        if one.name.startswith(f"{identity.stack}_"):
            check_stack_name(kind, one.name.removeprefix(f"{identity.stack}_"), identity.stack, identity.recipe)
        else:
            check_docker_name(kind, one.name)
        return {"external": True, "name": one.name}
    inner = one.name.removeprefix(f"{identity.stack}_")
    check_stack_name(kind, inner, identity.stack, identity.recipe)
    name = f"{identity.stack}_{inner}"  # a fixed name would clash between a cold run and the warm stack
    made = {**one.body, "name": name, "labels": {**one.labels, **identity.labels}}
    if one.file is not None:
        made["file"] = _inside(folder, one.file, f"{section}.{one.key}.file")
    return made


def _inside(folder: str, path: str, where: str) -> str:
    """The absolute path of a recipe's file; RecipeProblem when it leads out of the recipe."""
    whole = posixpath.normpath(posixpath.join(folder, path))
    if not whole.startswith(posixpath.normpath(folder) + "/"):
        raise RecipeProblem(
            f"{where} names {shown(path)}, which lies outside the recipe.",
            mend="keep the recipe's files inside its repository.",
            code="path-outside-recipe",
        )
    return whole


def external_secrets(of: Stack, stack: str, env: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Name in Docker -> name in the recipe of each secret that is to be there before the deploy.

    Co-op Cloud's are `<stack>_<name>_<version>`, where `SECRET_<NAME>_VERSION` in the env is the version. What has no version
    there keeps its last word.
    """
    found = {}
    for key, secret in of.secrets.items():
        if secret.external:
            name = secret.name
            inner = name.removeprefix(f"{stack}_")
            found[name] = key if inner == name else _without_version(inner, env)
    return found


def _without_version(name: str, env: Mapping[str, str]) -> str:
    """A secret's name without its version: what the env names as one, which may have a `_` in it; else a last word like one."""
    parts = name.split("_")
    for count in range(len(parts) - 1, 0, -1):
        word, version = "_".join(parts[:count]), "_".join(parts[count:])
        if env.get(f"SECRET_{word.upper().replace('-', '_')}_VERSION") == version:
            return word
    word, _, version = name.rpartition("_")
    return word if word and _VERSION.fullmatch(version) else name
