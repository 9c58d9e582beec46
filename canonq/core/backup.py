"""What a release's backup consists of, read from the backupbot labels of its resolved compose. Pure.

Both generations of labels are read, as recipes in the wild mix them (docs/rules.md 3, backup): version 2 names
volumes, version 1 paths in the container. Asked anew of every tag.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from canonq.core.stack.mounts import binds
from canonq.core.stack.resolved import Service, Stack
from canonq.core.text import shown

_PREFIX = "backupbot."
_VOLUMES = "backupbot.backup.volumes."
_HOOKS = {
    "backupbot.backup.pre-hook": "before",
    "backupbot.backup.post-hook": "after",
    "backupbot.restore.pre-hook": "restore_before",
    "backupbot.restore.post-hook": "restore_after",
}
_YES = ("true", "1", "yes", "on")


@dataclass(frozen=True)
class Hook:
    """A command that a label asks to be run in a service's container."""

    label: str
    service: str
    command: str


@dataclass(frozen=True)
class Part:
    """One thing that is captured."""

    service: str
    path: str  #: in the service's container
    volume: str | None  #: key of the volume it lies in; None: in the container's own layer
    whole: bool  #: the volume's root, so everything in it


@dataclass(frozen=True)
class BackupPlan:
    """What the labels ask for."""

    capable: bool
    why_not: str = ""
    before: tuple[Hook, ...] = ()
    parts: tuple[Part, ...] = ()
    after: tuple[Hook, ...] = ()
    restore_before: tuple[Hook, ...] = ()
    restore_after: tuple[Hook, ...] = ()
    problems: tuple[str, ...] = ()  #: labels that cannot mean what they say
    off: tuple[str, ...] = ()  #: volumes that labels leave out by name, or with all of their service


def backup_plan(stack: Stack) -> BackupPlan:
    """Read the labels of every service of a resolved stack."""
    labels = {name: _labels(service) for name, service in stack.services.items()}
    wanted = [name for name, found in labels.items() if _is_on(found.get("backupbot.backup"))]
    if not wanted:
        switched = [name for name, found in labels.items() if any(key.startswith(_PREFIX) for key in found)]
        why = f"backupbot.backup is not true on {', '.join(switched)}" if switched else "no service has a backupbot.backup label"
        return BackupPlan(False, why)
    hooks: dict[str, list[Hook]] = {phase: [] for phase in _HOOKS.values()}
    parts: list[Part] = []
    problems: list[str] = []
    for name in wanted:
        for label, phase in _HOOKS.items():
            if labels[name].get(label):
                hooks[phase].append(Hook(label, name, labels[name][label]))
        parts += _parts(stack.services[name], labels[name], stack, problems)
    return BackupPlan(
        True,
        before=tuple(hooks["before"]),
        parts=tuple(dict.fromkeys(parts)),
        after=tuple(hooks["after"]),
        restore_before=tuple(hooks["restore_before"]),
        restore_after=tuple(hooks["restore_after"]),
        problems=tuple(problems),
        off=tuple(sorted(_off(stack, labels) - {part.volume for part in parts})),
    )


def _off(stack: Stack, labels: Mapping[str, Mapping[str, str]]) -> set[str]:
    """Keys of the volumes that labels say no backup is to have."""
    found: set[str] = set()
    for name, said in labels.items():
        if "backupbot.backup" in said and not _is_on(said["backupbot.backup"]):
            found |= {key for _, key in _mounts(stack.services[name], stack)}
        for label, value in said.items():
            key = label.removeprefix(_VOLUMES)
            if label.startswith(_VOLUMES) and key in stack.volumes and not _is_on(value):
                found.add(key)
    return found


def _labels(service: Service) -> dict[str, str]:
    return {key: value for key, value in service.labels.items() if value is not None}


def _is_on(value: str | None) -> bool:
    return value is not None and value.strip().lower() in _YES


def _parts(of: Service, labels: Mapping[str, str], stack: Stack, problems: list[str]) -> Iterator[Part]:
    service, places = of.name, dict(_mounts(of, stack))
    mounts: dict[str, str] = {}  # a volume's first place, where it has several
    for target, key in places.items():
        mounts.setdefault(key, target)
    second = {key: value for key, value in labels.items() if key.startswith(_VOLUMES)}
    if "backupbot.backup.path" in labels and not second:
        for path in _listed(labels["backupbot.backup.path"]):
            if not path.startswith("/"):
                problems.append(f"backupbot.backup.path of '{service}' names {shown(path)}, which is not an absolute path")
                continue
            plain = posixpath.normpath(path)
            if any(_overlap(plain, host) for host in binds(of)):
                continue  # what lies there is the host's: it is neither taken nor emptied
            # The deepest mount is the one that it lies in; a volume may be mounted at several places, or in another.
            within = max((target for target in places if _is_in(plain, target)), key=len, default=None)
            yield Part(service, plain, None if within is None else places[within], whole=within == plain)
        return
    chosen: dict[str, list[str]] = {key: [] for key in mounts}
    for label, value in second.items():
        key = label.removeprefix(_VOLUMES).removesuffix(".path")
        if key in stack.volumes and stack.volumes[key].external:
            continue  # another app's, so never in this one's backup
        if key not in stack.volumes:
            problems.append(f"{label} of '{service}' names a volume that the recipe does not have")
        elif key not in mounts:
            problems.append(f"{label}: '{service}' does not mount the volume '{key}'")
        elif label.endswith(".path"):
            chosen[key] = _listed(value)
        elif not _is_on(value):
            chosen.pop(key, None)
    for key, paths in chosen.items():
        if not paths:
            yield Part(service, mounts[key], key, whole=True)
        for path in paths:
            whole = posixpath.normpath(posixpath.join(mounts[key], path.lstrip("/")))
            if not _is_in(whole, mounts[key]):
                problems.append(f"{_VOLUMES}{key}.path of '{service}' names {shown(path)}, outside the volume")
            else:
                yield Part(service, whole, key, whole=whole == mounts[key])


def _mounts(service: Service, stack: Stack) -> Iterator[tuple[str, str]]:
    """(path in the container, volume key) of the recipe's own volumes that a service mounts, each place once."""
    for mount in service.mounts:
        if mount.kind == "volume" and mount.source in stack.volumes and not stack.volumes[mount.source].external:
            yield posixpath.normpath(mount.target), mount.source


def _overlap(one: str, other: str) -> bool:
    """Whether one of two paths lies in the other."""
    return _is_in(one, other) or _is_in(other, one)


def _is_in(path: str, folder: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def _listed(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()]
