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
from dataclasses import dataclass
from typing import Any

from canonq.core.compose import external_name, is_external, mount_target
from canonq.core.errors import WrongConfiguration
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
_DRIVE = re.compile(r"[A-Za-z]:(?!/)[^:]*:")
_OWN = ("volume", "tmpfs")


@dataclass(frozen=True)
class Mount:
    """One entry of a service's `volumes`."""

    kind: str  #: volume, bind, tmpfs, npipe, cluster, ...
    source: str  #: a volume's key, or a path of the host; empty: an anonymous one
    target: str
    read_only: bool


def mount(item: Any) -> Mount:
    """Read an entry of a service's `volumes`, in short (`a:/b:ro`) or long form."""
    target = mount_target(item)
    if isinstance(item, Mapping):
        return Mount(
            str(item.get("type", "volume")), str(item.get("source") or ""), target, item.get("read_only") in (True, "true")
        )
    text = str(item)
    if _DRIVE.match(text):  # docker takes the letter for a drive, and all that follows for a path of the host
        source, _, target = text.rpartition(":")
        return Mount("bind", source, target, False)
    parts = text.split(":")
    source = parts[0] if len(parts) > 1 else ""
    options = parts[2].split(",") if len(parts) > 2 else []
    kind = "bind" if source[:1] in ("/", ".", "~", "\\", "$") or "/" in source else "volume"
    return Mount(kind, source, target, "ro" in options or "readonly" in options)


def binds(resolved: Mapping[str, Any], service: str) -> tuple[str, ...]:
    """Where in a service's container something of the host is mounted."""
    found = (mount(item) for item in resolved["services"][service].get("volumes") or [])
    return tuple(posixpath.normpath(one.target) for one in found if one.kind not in _OWN)


def with_own(resolved: Mapping[str, Any], keep: Collection[str] = ()) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The stack with plain volumes of its own for what is somebody else's; and a sentence for each that was replaced.

    `keep`: paths of the host that the enrolment lets the release have. WrongConfiguration for what can be neither.
    """
    volumes: dict[str, Any] = {}
    notes: list[str] = []
    for key, body in (resolved.get("volumes") or {}).items():
        whose = theirs(str(key), body or {})
        if whose:
            notes.append(f"the volume '{key}' is {whose}: canonq's stacks get a plain volume of their own in its place")
        volumes[key] = {name: value for name, value in (body or {}).items() if name == "labels"} if whose else body
    services: dict[str, Any] = {}
    for name, body in resolved["services"].items():
        made = [_entry(name, item, keep, volumes, notes) for item in body.get("volumes") or []]
        services[name] = {**body, "volumes": made} if made else body
    return {**resolved, "services": services, "volumes": volumes}, tuple(dict.fromkeys(notes))


def theirs(key: str, body: Mapping[str, Any]) -> str:
    """Whose data lies behind a declared volume; empty when it is the stack's own."""
    if is_external(body):
        return f"another's ({external_name(key, body)}, external)"
    driver = str(body.get("driver") or "local")
    if driver != "local":
        return f"kept by the driver {shown(driver)}"
    options = body.get("driver_opts") or {}
    if options:
        device = options.get("device") or options.get("type") or "something" if isinstance(options, Mapping) else "something"
        return f"mounted by options of its driver ({shown(str(device))})"
    return ""


def _entry(service: str, item: Any, keep: Collection[str], volumes: dict[str, Any], notes: list[str]) -> Any:
    found = mount(item)
    if found.kind in _OWN:
        return item
    path = posixpath.normpath(found.source) if found.source else ""
    path = "/" + path.lstrip("/") if path.startswith("/") else path
    if path in keep or (found.read_only and any(_is_in(path, fact) for fact in _FACTS)):
        return item
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
