"""What the enrolment's overlay says of a service, and which troubles of the service that may be behind. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: By the code of a trouble: the keys of a service that may be behind it; none named: any of them.
_BEHIND: Mapping[str, tuple[str, ...]] = {
    "deploy-refused": (),
    "cannot-start": (
        "command", "entrypoint", "user", "working_dir", "cap_add", "cap_drop", "sysctls", "ulimits", "read_only", "tmpfs",
        "volumes", "configs", "secrets", "hostname", "extra_hosts", "stop_signal", "logging", "isolation",
        "deploy.resources.limits.memory",
    ),
    "mount-invalid": ("volumes", "configs", "secrets", "tmpfs"),
    "host-too-small": ("deploy.resources.reservations", "deploy.resources.limits.cpus"),
    "log-driver-away": ("logging",),
    "no-node-fits": ("deploy.placement",),
    "port-taken": ("ports",),
    "plugin-missing": ("logging", "volumes", "networks"),
}  # fmt: skip
_CHECK = "healthcheck"


def says(said: Mapping[str, Any], key: str) -> bool:
    """Whether an overlay says something of a service under `key`, such as `deploy.resources.limits.memory`."""
    found: Any = said
    for step in key.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found is not None


def suspects(said: Mapping[str, Any], code: str, *, check_failed: bool) -> list[str]:
    """The keys under which an overlay says something of a service that may be behind its trouble.

    `check_failed`: whether it was the service's health check that failed.
    """
    if check_failed:
        return [_CHECK] if says(said, _CHECK) else []
    if code not in _BEHIND:
        return []
    return [key for key in _BEHIND[code] or map(str, said) if says(said, key)]
