"""What lies behind the mounts of a release, and what a stack of canonq's gets in its place (docs/rules.md 5.4). Pure.

What is behind an external volume, a bind or a volume with options of its driver is somebody else's: a test that wrote
into it, or a restore that emptied it first, would do so to data that people use. Such a mount becomes a plain volume of
the stack's own, or, where an empty folder would mean nothing, the release is refused by name before anything runs.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Collection, Mapping
from typing import Any

from canonq.core.errors import WrongConfiguration
from canonq.core.stack.resolved import Declared, Mount, Service, Stack, stack_of
from canonq.core.text import shown

#: What is the same for everybody and changed by nobody: stays as it is, where it is mounted read-only.
_FACTS = (
    "/etc/localtime",
    "/etc/timezone",
    "/etc/machine-id",
    "/etc/ssl/certs",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
)
#: The host itself: an empty folder in its place is something else.
_HOST = (
    "/", "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys", "/usr", "/var", "/var/log",
    "/var/run", "/var/lib", "/var/lib/docker",
)  # fmt: skip
_HOST_BELOW = (
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/run",
    "/var/lib/docker",
)
_OWN = ("volume", "tmpfs")


def binds(service: Service) -> tuple[str, ...]:
    """Where in a service's container something of the host is mounted."""
    return tuple(posixpath.normpath(one.target) for one in service.mounts if one.kind not in _OWN)


def with_own(stack: Stack, keep: Collection[str] = ()) -> tuple[Stack, tuple[str, ...]]:
    """The stack with plain volumes of its own for what is somebody else's; and a sentence for each that was replaced.

    `keep`: paths of the host that the enrolment lets the release have. WrongConfiguration for what can be neither.
    """
    made = stack.written()
    notes: list[str] = []
    for key, declared in stack.volumes.items():
        if whose := theirs(declared):
            notes.append(f"the volume '{key}' is {whose}: canonq's stacks get a plain volume of their own in its place")
            made["volumes"][key] = {name: value for name, value in declared.body.items() if name == "labels"}
    for name, service in stack.services.items():
        if service.mounts:
            entries = zip(service.mounts, service.body["volumes"], strict=True)
            volumes = [_entry(name, one, said, keep, made["volumes"], notes) for one, said in entries]
            made["services"][name] = {**service.body, "volumes": volumes}
    return stack_of(made), tuple(dict.fromkeys(notes))


def shared_by_name(stack: Stack, own: str) -> tuple[str, ...]:
    """The external volumes that services mount, but for those that have the stack's `own` name in theirs."""
    used = {mount.source for service in stack.services.values() for mount in service.mounts if mount.kind == "volume"}
    found = {declared.name for key, declared in stack.volumes.items() if declared.external and key in used}
    return tuple(sorted(name for name in found if own not in name))


def theirs(volume: Declared) -> str:
    """Whose data lies behind a declared volume; empty when it is the stack's own."""
    if volume.external:
        return f"another's ({volume.name}, external)"
    if volume.driver not in ("", "local"):
        return f"kept by the driver {shown(volume.driver)}"
    if volume.options:
        device = volume.options.get("device") or volume.options.get("type") or "something"
        return f"mounted by options of its driver ({shown(str(device))})"
    return ""


def _entry(
    service: str, found: Mount, said: Mapping[str, Any], keep: Collection[str], volumes: dict[str, Any], notes: list[str]
) -> Mapping[str, Any]:
    if found.kind in _OWN:
        return said
    path = host_path(found.source)
    if path in keep or (found.read_only and any(_is_in(path, fact) for fact in _FACTS)):
        return said
    if found.kind != "bind" or not path.startswith("/") or _is_the_host(path):
        raise WrongConfiguration(
            f"services.{service}.volumes mounts {shown(found.source or found.target)} of the host ({found.kind}), "
            "which is not canonq's and cannot be replaced by an empty folder.",
            mend=f"if the release may have it on this host, say so in recipe.toml: [mounts] keep = [{_quoted(path)}]. "
            "Nothing in it is backed up, restored or emptied.",
            code="foreign-mount",
        )
    key = _key(path)
    volumes.setdefault(key, {})
    notes.append(f"{service} mounts {shown(path)} of the host: canonq's stacks get a plain volume of their own in its place")
    own: dict[str, Any] = {"type": "volume", "source": key, "target": found.target}
    return {**own, "read_only": True} if found.read_only else own


def host_path(source: str) -> str:
    """A path of the host as it is written shortest; a name that is no path stays as it is."""
    if not source or source[1:2] == ":":  # a drive's: what that leads to is Docker's to say
        return source
    path = posixpath.normpath(source)
    return "/" + path.lstrip("/") if path.startswith("/") else path


def _is_the_host(path: str) -> bool:
    socket = path.endswith(".sock")
    return socket or path in _HOST or any(_is_in(path, folder) for folder in _HOST_BELOW)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _key(path: str) -> str:
    """The name of the volume that stands for a path of the host: the same in every release, so that its data is carried on."""
    plain = re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")[:24].strip("-")
    return f"bind-{plain}-{hashlib.sha256(path.encode(errors='surrogateescape')).hexdigest()[:6]}"


def _quoted(path: str) -> str:
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
