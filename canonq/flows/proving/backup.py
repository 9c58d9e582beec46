"""Backup and restore of a running app, as its backupbot labels ask for it (docs/rules.md 3).

canonq stands in for the backup bot: it runs the hooks in the containers, captures what the labels name, and puts it
back. What it found goes as facts to the tests of the two tiers, which judge it.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from canonq.adapters.data import counting, inside, markerfile
from canonq.adapters.data.artifact import keep, look_through, members, without_top
from canonq.adapters.files import remove_tree
from canonq.adapters.processes.stopping import check_stop
from canonq.core.backup import BackupPlan, Hook, Part
from canonq.core.errors import CanonqError, RecipeProblem, TimedOut
from canonq.core.stack.census import Census, users_of
from canonq.core.stack.dumps import where_expected
from canonq.core.stack.engines import SQLITE
from canonq.core.stack.resolved import Stack
from canonq.core.stack.witness import File, Files, called, is_beside_the_data, phrase, same
from canonq.core.text import ending, shown
from canonq.flows.deploying.deadline import left
from canonq.ports import Data
from canonq.tiers import markers as marks
from canonq.tiers.facts import BackupFacts, Captured, HookRan, Marker

_NOT_THERE = (126, 127)  #: exit statuses: the command cannot be run, is not there
_KILLED = 137  #: that of what goes with its container
_NOT_RUNNING = re.compile(r"[Cc]ontainer \S+ is not running")  #: what Docker says of one that is no more
_PAUSE = 0.5  #: seconds until a container that is gone is looked for again
# A dump that fails in the middle of a pipe must not count as one that worked.
_PIPEFAIL = '(set -o pipefail) 2>/dev/null && set -o pipefail; eval "$0"'


@dataclass(frozen=True)
class Backup:
    """An app to be backed up, and where its artifact goes."""

    data: Data  #: the ways to what it keeps
    stack: str
    plan: BackupPlan
    volumes: Mapping[str, str]  #: key in the recipe -> name in Docker
    folder: Path  #: the artifact's
    hook_timeout: float  #: seconds
    deadline: float  #: of the whole run, monotonic
    mounts: Mapping[str, Collection[str]] = field(default_factory=dict)  #: service -> keys of the volumes that it mounts
    volatile: Collection[str] = ()  #: what the enrolment says that may go: keys of volumes, and paths in them

    def left(self) -> float:
        """Seconds for the next hook."""
        return min(left(self.deadline), self.hook_timeout)

    def in_time(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """The stream, as long as the run has time."""
        for chunk in stream:
            left(self.deadline)
            yield chunk


@dataclass(frozen=True)
class Saved:
    """A backup that came back in place, and what has to be back elsewhere."""

    taken: Backup
    markers: tuple[Marker, ...]  #: those that it holds
    held: Census  #: of the app, when it was taken

    @property
    def covered(self) -> Census:
        """What of the census the backup has to bring back: of all else a new install has only its own."""
        whole = {part.volume for part in self.taken.plan.parts if part.whole}
        services = {part.service for part in self.taken.plan.parts}
        rows = {marker.place for marker in self.markers if marker.kind == "database"}
        beside = beside_the_data(self.taken, self.held, {marker.place for marker in self.markers})
        return Census(
            volumes={key: it for key, it in self.held.volumes.items() if key in whole},
            databases={
                where: it for where, it in self.held.databases.items()
                if where in rows or (it.kind == SQLITE and where.partition(":")[0] in services and where not in beside)
            },
        )  # fmt: skip


def take(backup: Backup, markers: Sequence[Marker]) -> BackupFacts:
    """Run the pre-hooks, capture every part, run the post-hooks. `markers` were written before."""
    remove_tree(backup.folder)
    backup.folder.mkdir(parents=True, mode=0o700)
    since = time.time() if backup.plan.before else None
    hooks = [_run(backup, hook) for hook in backup.plan.before]
    captured = [_capture(backup, number, part, markers, since) for number, part in enumerate(backup.plan.parts)]
    hooks += [_run(backup, hook) for hook in backup.plan.after]
    own_parts = {marker.text for marker in markers if marker.kind == "part"}
    captured = list(_expecting(captured, own_parts))
    return BackupFacts(problems=backup.plan.problems, hooks=tuple(hooks), captured=tuple(captured), hooks_since=since)


def _run(backup: Backup, hook: Hook) -> HookRan:
    command = ["sh", "-c", _PIPEFAIL, hook.command]
    try:
        ended = backup.data.execute(backup.stack, hook.service, command, backup.left())
        if ended.status in _NOT_THERE and "executable file not found" in ended.output:  # an image without a shell
            ended = backup.data.execute(backup.stack, hook.service, hook.command.split(), backup.left())
    except TimedOut as error:
        left(backup.deadline, f"{hook.label} of '{hook.service}'")
        raise RecipeProblem(
            f"{hook.label} of '{hook.service}' did not end within {backup.hook_timeout:.0f} s.",
            mend="mend the hook, or raise [limits] hook in recipe.toml.",
            code="hook-timed-out",
        ) from error
    return HookRan(label=hook.label, service=hook.service, status=ended.status, output=ending(ended.tail, 1000))


def _capture(backup: Backup, number: int, part: Part, markers: Sequence[Marker], since: float | None) -> Captured:
    expected = _expected(backup, part, markers)
    path = backup.folder / f"{number}.tar"
    problems: list[str] = []
    checksum = ""
    try:
        checksum = keep(backup.in_time(backup.data.read_archive(backup.stack, part.service, part.path)), path)
    except RecipeProblem as error:
        problems.append(error.what)
        path.unlink(missing_ok=True)  # nothing of what is not there can be looked through
    looked_for = [*expected, *(one.text for one in markers if one.kind in ("database", "sqlite", "part"))]
    found = (
        look_through(path, looked_for, dumps=not part.whole, hooks_since=since, in_time=lambda: left(backup.deadline))
        if path.is_file()
        else None
    )
    return Captured(
        service=part.service,
        path=part.path,
        volume=part.volume,
        whole=part.whole,
        file=path.name,
        checksum=checksum,
        archive_bytes=path.stat().st_size if path.is_file() else 0,
        files=found.files if found else 0,
        bytes=found.bytes if found else 0,
        marks=tuple(sorted(found.found)) if found else (),
        expected_marks=tuple(expected),
        problems=tuple(problems + (found.problems if found else [])),
        closed=tuple(found.closed) if found else (),
        rows_in=found.rows_in if found else "",
        may_be_empty=any(f"{part.volume}/{_below(backup, part)}/".startswith(f"{one.rstrip('/')}/") for one in backup.volatile),
    )


def _expected(backup: Backup, part: Part, markers: Sequence[Marker]) -> list[str]:
    """What is looked for in a part: the file of a volume taken whole; in any other, what is in its service's database."""
    volume = backup.volumes.get(part.volume or "")
    if part.whole:
        return [marker.text for marker in markers if marker.kind == "file" and marker.place == volume]
    return [
        marker.text
        for marker in markers
        if (marker.kind == "database" and marker.place == part.service)
        or (marker.kind == "part" and marker.place == f"{volume}/{_below(backup, part)}")
    ]


def _below(backup: Backup, part: Part | Captured) -> str:
    """The path of a part below the root of its volume."""
    name = backup.volumes.get(part.volume or "")
    at = next((at for volume, service, at in backup.data.mounted(backup.stack) if (volume, service) == (name, part.service)), "")
    return part.path.removeprefix(at.rstrip("/")).strip("/")


def mark_parts(backup: Backup, token: str, kinds: Mapping[str, str]) -> list[Marker]:
    """A file in each folder of a volume that a label names, where no hook makes that folder: what is put back has it again."""
    hooked = {hook.service for hook in backup.plan.before}
    made = []
    for part in backup.plan.parts:
        name = backup.volumes.get(part.volume or "")
        if part.whole or name is None or part.service in hooked or part.service in kinds:
            continue
        volume, below = backup.data.volume_path(name), _below(backup, part)
        if volume is None or not below or not markerfile.is_folder(volume, below):
            continue
        text = f"{token}.{below}."
        markerfile.write(volume, text, below=below)
        made.append(Marker(kind="part", place=f"{name}/{below}", text=text))
    return made


def _expecting(captured: Sequence[Captured], own_parts: Collection[str]) -> Iterator[Captured]:
    """The same, where what is in a service's database is expected only in those of its parts that must hold it."""
    for part in captured:
        if part.whole:
            yield part
            continue
        same = [other for other in captured if other.service == part.service and not other.whole]
        wanted = []
        for mark in part.expected_marks:
            if mark in own_parts:
                wanted.append(mark)
                continue
            where = where_expected([mark in other.marks for other in same], [bool(other.closed) for other in same])
            wanted += [mark] if where[same.index(part)] else []
        yield part.model_copy(update={"expected_marks": tuple(wanted)})


def left_out(stack: Stack, plan: BackupPlan) -> list[str]:
    """A sentence for each volume that is written to and is in no backup, in whole or in part."""
    written = {
        one.source for service in stack.services.values() for one in service.mounts if one.kind == "volume" and not one.read_only
    }
    there = {part.volume for part in plan.parts}
    return [f"not-backed-up: no backup has the volume {shown(key)}" for key in sorted(written & set(stack.volumes) - there)]


def unproven(facts: BackupFacts, markers: Sequence[Marker]) -> str:
    """A gap where nothing that canonq or hooks.py wrote is in what the labels name, so that its way back is not proven."""
    if any(part.expected_marks or part.marks or part.closed for part in facts.captured) or any(
        one.kind == "own" for one in markers
    ):
        return ""
    listed = ", ".join(f"{shown(part.path)} of '{part.service}'" for part in facts.captured)
    return (
        f"backup-unproven: nothing that canonq wrote is in {listed or 'the backup'}, so that data comes back is not proven; "
        "write_marker and read_marker in hooks.py prove it"
    )


def keys_unproven(facts: BackupFacts, markers: Sequence[Marker]) -> Iterator[str]:
    """A gap for each store of keys whose files are in a backup: what it has in memory outlives a restore."""
    saved = {part.service for part in facts.captured}
    if any(one.kind == "own" for one in markers):
        return
    for place, server in sorted({(one.place, one.server) for one in markers if one.kind == "key" and one.place in saved}):
        yield (
            f"backup-unproven: whether a restore brings back the keys of '{place}' ({server}) was not looked at, as it goes on "
            "with those that it has in memory; write_marker and read_marker in hooks.py prove it"
        )


def not_backed_up(
    backup: Backup, facts: BackupFacts, markers: Sequence[Marker], held: Census, volatile: Mapping[str, str]
) -> list[str]:
    """The services whose database took a mark that is in nothing which was captured, and of which no label covers anything; and
    SQLite files whose mark is in nothing.

    Where a hook has made something that cannot be looked into, they may be in there: that the restore has to tell (`destroy`).
    """
    if any(part.rows_in for part in facts.captured):
        return []
    return [where for _, where in _nowhere(backup, facts.captured, markers, held, volatile)]


def _nowhere(
    backup: Backup, captured: Sequence[Captured], markers: Sequence[Marker], held: Census, volatile: Mapping[str, str]
) -> list[tuple[Marker, str]]:
    """The marks of databases that are in nothing which could be looked into, where something has to be; each with whose it is."""
    covered = {part.service for part in backup.plan.parts}
    whole = {backup.volumes.get(part.volume or "") for part in backup.plan.parts if part.whole}
    saved = {service for volume, service, _ in backup.data.mounted(backup.stack) if volume in whole}
    there = {mark for part in captured for mark in part.marks}
    servers = [
        (marker, marker.place) for marker in markers
        if marker.kind == "database" and marker.place not in {*covered, *saved, *volatile} and marker.text not in there
    ]  # fmt: skip
    return [*servers, *_left_out_of_parts(backup, markers, there, held, volatile)]


def _left_out_of_parts(
    backup: Backup, markers: Sequence[Marker], there: Collection[str], held: Census, volatile: Mapping[str, str]
) -> Iterator[tuple[Marker, str]]:
    """SQLite files of volumes of which labels name nothing or parts, where no part has what was last written into the file."""
    keys = {name: key for key, name in backup.volumes.items()}
    parts = [part for part in backup.plan.parts if part.volume is not None]
    covered = {*backup.plan.off, *(part.volume for part in parts if part.whole)}
    users = users_of(backup.data.mounted(backup.stack))
    nobodys = beside_the_data(backup, held, _saved(markers, there))
    for marker in markers:
        name, _, path = marker.place.partition("/")
        key = keys.get(name, "")
        if marker.kind != "sqlite" or key not in backup.volumes or key in covered or marker.text in there:
            continue
        where = f"{users.get(name, key)}:{path}"
        if {key, where} & {*volatile, *nobodys}:
            continue
        if any(f"{path}/".startswith(f"{_below(backup, part)}/") for part in parts if part.volume == key):
            yield marker, f"{where} (what was written last is in {path}-wal, which no label names)"
        else:
            yield marker, where


def _saved(markers: Sequence[Marker], there: Collection[str]) -> set[str]:
    """The places of those marks that are in what was captured."""
    return {marker.place for marker in markers if marker.text in there}


def beside_the_data(backup: Backup, held: Census, saved: Collection[str]) -> list[str]:
    """SQLite files that are in no part of a backup, and that nobody misses: sessions, a cache. `saved`: volume/path of those of
    which what is in them was captured, wherever that was."""
    users = users_of(backup.data.mounted(backup.stack))
    found: dict[str, list[tuple[str, str]]] = {}  # who has it -> key and name of each volume
    for key, name in backup.volumes.items():
        found.setdefault(users.get(name, key), []).append((key, name))
    told = []
    for user, volumes in found.items():
        there = {where.partition(":")[2]: it for where, it in held.databases.items()
                 if it.kind == SQLITE and where.partition(":")[0] == user}  # fmt: skip
        kept = {
            path for path in there for key, name in volumes
            if f"{name}/{path}" in saved or _is_covered(backup, key, path)
        }  # fmt: skip
        for path in there.keys() - kept:
            if any(is_beside_the_data(key, path, there[path].tables, kept) for key, _ in volumes):
                told.append(f"{user}:{path}")
    return sorted(told)


def told_beside(backup: Backup, facts: BackupFacts, held: Census, markers: Sequence[Marker]) -> list[str]:
    """A sentence for each SQLite file that is in no backup and need not be."""
    there = {mark for part in facts.captured for mark in part.marks}
    left = beside_the_data(backup, held, _saved(markers, there)) if backup.plan.parts else []
    return [f"not-backed-up: no backup has {where}, which by its name, or its tables', is of the moment" for where in left]


@dataclass(frozen=True)
class NotInParts:
    """What of the files that somebody has made no part has where they lie."""

    missed: tuple[str, ...] = ()  #: phrases of those that are in nothing that was captured
    gaps: tuple[str, ...] = ()  #: of those that may be in something that canonq does not look into
    copied: Mapping[str, Sequence[str]] = field(default_factory=dict)  #: key of a volume -> paths of those that a hook has copied


def in_no_part(
    backup: Backup, facts: BackupFacts, held: Files, before: Files, made: Mapping[str, Collection[str]], names: Mapping[str, str]
) -> NotInParts:
    """Look for all that somebody has made in what was captured. A volume that a label leaves out is left out on purpose, which is
    noted elsewhere.

    `before`: what was there before any hook was called; `names`: see `own_names`.
    """
    missed = {
        key: [path for path in paths if not _is_covered(backup, key, path)]
        for key, paths in made.items()
        if key not in backup.plan.off
    }
    if not any(missed.values()):
        return NotInParts()
    copies = _copies(backup, facts, before, names) if backup.plan.before else _Copies()
    saved = {
        key: [path for path in paths if held[key][path] in copies.all or any(same(held[key][path], one) for one in copies.all)]
        for key, paths in missed.items()
    }
    copied = {key: [path for path in paths if held[key][path] in copies.by_hooks] for key, paths in saved.items()}
    missed = {key: [path for path in paths if path not in saved[key]] for key, paths in missed.items()}
    told = {key: phrase(key, paths, held) for key, paths in sorted(missed.items()) if paths}
    unsure = {key for key in told if copies.packed and _hooks_see(backup, key)}
    gaps = tuple(
        f"backup-unproven: whether {copies.packed} has {one} was not looked at" for key, one in told.items() if key in unsure
    )
    return NotInParts(tuple(one for key, one in told.items() if key not in unsure), gaps, copied)


def remove(backup: Backup, copied: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Remove files of volumes that a hook has copied elsewhere, so that something has to put them back; those of them."""
    removed: dict[str, list[str]] = {}
    for key, root, path in _places(backup, copied):
        folder, _, name = path.rpartition("/")
        with contextlib.suppress(OSError), inside.folder(root, folder) as handle:
            os.unlink(name, dir_fd=handle)
            removed.setdefault(key, []).append(path)
    return removed


def gone(backup: Backup, removed: Mapping[str, Sequence[str]], held: Files) -> list[str]:
    """A phrase for each volume with files of these that are not there again."""
    lost: dict[str, list[str]] = {}
    for key, root, path in _places(backup, removed):
        if counting.look(root, path) is None:
            lost.setdefault(key, []).append(path)
    return [phrase(key, paths, held) for key, paths in sorted(lost.items())]


def _places(backup: Backup, files: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Path, str]]:
    for key, paths in files.items():
        root = backup.data.volume_path(backup.volumes.get(key, ""))
        yield from ((key, root, path) for path in paths if root is not None)


def _hooks_see(backup: Backup, key: str) -> bool:
    """Whether a hook runs where that volume is mounted, so that it may have packed what is in there."""
    return not backup.mounts or any(key in backup.mounts.get(hook.service, ()) for hook in backup.plan.before)


def covered_files(backup: Backup, held: Files) -> Files:
    """Those of the files that the backup has to bring back where they are."""
    return {key: {path: one for path, one in files.items() if _is_covered(backup, key, path)} for key, files in held.items()}


def _is_covered(backup: Backup, key: str, path: str) -> bool:
    """Whether a part has what lies at that path of a volume."""
    volume = backup.volumes.get(key, "")
    places = [(service, at.rstrip("/")) for name, service, at in backup.data.mounted(backup.stack) if name == volume]
    return any(part.whole and part.volume == key for part in backup.plan.parts) or any(
        part.service == service and f"{at}/{path}/".startswith(f"{part.path.rstrip('/')}/")
        for part in backup.plan.parts
        for service, at in places
    )


@dataclass(frozen=True)
class _Copies:
    """What is in the files that were captured: hooks may have put it there."""

    all: frozenset[File] = frozenset()
    by_hooks: frozenset[File] = frozenset()  #: of those, what was not there before a hook ran beside it
    packed: str = ""  #: the name of one that has others in it


def _copies(backup: Backup, facts: BackupFacts, held: Files, names: Mapping[str, str]) -> _Copies:
    everything, by_hooks, packed = set[File](), set[File](), ""
    hooked = {hook.service for hook in backup.plan.before}
    for part in facts.captured:
        if not (kept := backup.folder / part.file).is_file():
            continue
        before, below = held.get(part.volume or "", {}), _below(backup, part) if part.volume and not part.whole else ""
        was_there = partial(_is_held, before, below, names)
        there = members(kept, tuple(names), facts.hooks_since, was_there)
        everything |= there.files
        packed = packed or there.packed
        if part.service in hooked:
            # An app may have the same twice by itself; and of what is not read, or empty, nobody knows whether it is the same.
            by_hooks |= {one for one in there.by_hooks if one.bytes and one.digest}
    return _Copies(frozenset(everything), frozenset(by_hooks), shown(packed, 100) if packed else "")


def _is_held(held: Collection[str], below: str, names: Mapping[str, str], name: str) -> bool:
    """Whether a file is among the paths of its volume; `below`: where in it the part begins that the name is in."""
    return called("/".join(filter(None, (below, name))), names) in held


def partly(backup: Backup, facts: BackupFacts, held: Census, markers: Sequence[Marker], volatile: Collection[str]) -> list[str]:
    """A gap for each volume of which labels name parts with less than half of its files or bytes, where nobody proves that these
    do: what an index says of the files that it names is in many small ones, and the data in a few large ones."""
    if any(marker.kind == "own" for marker in markers):
        return []
    told = []
    for key, volume in sorted(held.volumes.items()):
        parts = [part for part in facts.captured if part.volume == key]
        if not parts or any(part.whole for part in parts) or volume.service or volume.churns or key in volatile:
            continue
        files, size = sum(part.files for part in parts), sum(part.bytes for part in parts)
        if files * 2 < volume.files:
            has, rest = f"{files} of {volume.files} files", "the others need"
        elif size * 2 < volume.bytes:
            has, rest = f"{size} of {volume.bytes} bytes", "the rest need"
        else:
            continue
        listed = ", ".join(shown(part.path) for part in parts)
        told.append(
            f"backup-partly: of the volume '{key}' the backup has {listed}, {has}; that {rest} not come back is not proven"
        )
    return told


def left_to_the_restore(facts: BackupFacts, markers: Sequence[Marker]) -> tuple[str, ...]:
    """A sentence for each database that may be in something that canonq does not look into."""
    told = []
    for marker in markers:
        parts = [part for part in facts.captured if part.service == marker.place and not part.whole and marker.kind == "database"]
        closed = [f"{shown(what, 120)} ({shown(part.path)})" for part in parts for what in part.closed]
        if closed and not any(marker.text in part.marks for part in parts):
            told.append(
                f"whether the backup of '{marker.place}' holds its data was left to the restore to prove: "
                f"canonq cannot look into it, as {closed[0]}"
            )
    return tuple(told)


@dataclass(frozen=True)
class Unseen:
    """What has to be in a backup and can only be in a file of it that canonq cannot look into: the restore tells."""

    markers: tuple[Marker, ...] = ()  #: of databases
    where: tuple[str, ...] = ()  #: whose each of them is
    closed: str = ""  #: that file, whose it is and why it cannot be looked into

    def told(self) -> list[str]:
        """A sentence for each."""
        return [f"whether a backup holds the data of {one} was left to the restore to prove: {self.closed}" for one in self.where]

    def problem(self, lacking: Sequence[Marker]) -> RecipeProblem:
        """The problem when these did not come back."""
        gone = [where for marker, where in zip(self.markers, self.where, strict=True) if marker in lacking]
        return RecipeProblem(
            f"The restore did not bring back the data of {' and '.join(gone)}: no part of the backup has it that can be looked "
            f"into, and either what cannot has it not, or no hook loads it from there ({self.closed}).",
            mend="the maintainer has to label it, and to load back what a hook saves; a database that need not be kept is "
            "declared under [data] volatile.",
            code="restore-failed",
            service=gone[0].partition(":")[0],
        )


def only_closed(
    backup: Backup, facts: BackupFacts, markers: Sequence[Marker], held: Census, volatile: Mapping[str, str]
) -> Unseen:
    """Databases whose data can only be in something that canonq cannot look into."""
    part = next((part for part in facts.captured if part.rows_in), None)
    if part is None:
        return Unseen()
    closed = f"canonq cannot look into it, as {shown(part.rows_in, 120)} ({shown(part.path)} of '{part.service}')"
    found = _nowhere(backup, facts.captured, markers, held, volatile)
    return Unseen(tuple(marker for marker, _ in found), tuple(where for _, where in found), closed)


def destroy(
    backup: Backup,
    markers: Sequence[Marker],
    captured: Sequence[Captured],
    patience: marks.Patience,
    unseen: Collection[Marker] = (),
) -> tuple[tuple[Marker, ...], tuple[Marker, ...], tuple[str, ...]]:
    """Destroy what the backup must bring back: (markers destroyed, markers still there all the same, what could not be).

    Only markers that the backup covers are destroyed; a row also where a copy of the file, or a dump that another service's hook
    has made, is what was captured, or can be (`unseen`). A captured dump is removed from its volume as well, so that a restore
    hook which works on the old one is found out.
    """
    copied = {mark for part in captured for mark in part.marks}
    whole = {backup.volumes.get(part.volume or "") for part in backup.plan.parts if part.whole}
    services = {part.service for part in backup.plan.parts}
    covered = [
        marker for marker in markers
        if marker.kind == "part" or marker in unseen
        or (marker.kind in ("file", "sqlite") and marker.place.partition("/")[0] in whole)
        or (marker.kind == "sqlite" and marker.text in copied)
        or (marker.kind == "database" and (marker.place in services or marker.text in copied))
    ]  # fmt: skip
    still = marks.destroy(backup.data, backup.stack, covered, patience)
    kept = [told for part in backup.plan.parts if not part.whole and (told := _removed(backup, part))]
    return tuple(covered), tuple(still), tuple(kept)


def _removed(backup: Backup, part: Part) -> str:
    """Remove a part from its container; a sentence where it is there all the same, so that the restore is a weaker proof."""
    ended = backup.data.execute(backup.stack, part.service, ["rm", "-rf", "--", part.path], backup.left())
    if ended.status == 0:
        return ""
    try:
        next(iter(backup.data.read_archive(backup.stack, part.service, part.path)), b"")
    except RecipeProblem:  # there was nothing to remove
        return ""
    said = ending(" ".join(ended.output.split()), 200) or f"exit status {ended.status}"
    return (
        f"not-destroyed: {shown(part.path)} of '{part.service}' could not be removed before the restore ({said}), "
        "so that it is there afterwards proves nothing"
    )


def restore(backup: Backup) -> tuple[HookRan, ...]:
    """Run the restore pre-hooks, put every part back, run the post-hooks."""
    hooks = [_run(backup, hook) for hook in backup.plan.restore_before]
    for number, part in enumerate(backup.plan.parts):
        kept = backup.folder / f"{number}.tar"
        try:
            if part.whole:
                # At its own place: the folder above it may be one that the container cannot write to.
                backup.data.write_archive(backup.stack, part.service, part.path, backup.in_time(without_top(kept)))
                continue
            # Docker's archive of /a/b holds "b/...", so it goes into the folder above.
            with kept.open("rb") as archive:
                backup.data.write_archive(backup.stack, part.service, posixpath.dirname(part.path) or "/", archive)
        except OSError as error:
            raise CanonqError(f"The artifact of the backup cannot be read: {error}.", code="tier-machinery") from error
    return (*hooks, *(_after_restore(backup, hook) for hook in backup.plan.restore_after))


def _after_restore(backup: Backup, hook: Hook) -> HookRan:
    """Run a hook over what was put back, in a server that may have died of it and comes back, or that dies by the hook itself.

    A hook that has it begin anew may well be gone with its container: what is there when the app has come back says whether it
    did what it should.
    """
    ends = time.monotonic() + backup.left()
    while True:
        try:
            ran = _run(backup, hook)
            if ran.status != 1 or not _NOT_RUNNING.search(ran.output) or time.monotonic() > ends:
                return ran.model_copy(update={"status": 0}) if ran.status == _KILLED else ran
        except RecipeProblem as error:
            if error.code != "not-running" or time.monotonic() > ends:
                raise
        check_stop()
        time.sleep(_PAUSE)
