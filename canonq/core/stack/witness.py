"""Which plain files of an app are its users', and which are lost or not backed up (docs/decisions/0041-witnesses.md). Pure.

A database that canonq cannot read is one of them: what is in it is not known; that it is there, and how large, is.

Size says little: what people write is often small, and beside much that an app brings along. Two installs of its own say what an
app makes by itself, and one of them what the target makes of the same use; what the base has beside that is somebody's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from canonq.core.stack.engines import BOLT
from canonq.core.stack.passing import is_passing
from canonq.core.text import readable, shown


class File(NamedTuple):
    """A plain file, or a database that canonq cannot read: a file as well, or a folder of them."""

    bytes: int
    digest: str  #: of what is in it; empty where it is too large to be read each time, and of a database that is not looked into
    kind: str = ""  #: of that database


#: Key of a volume -> path below its root -> what is there.
Files = Mapping[str, Mapping[str, File]]

#: Words in names of files that tell of the moment, and of folders with what is made anew or is on its way.
_STATES = frozenset(("state", "status", "session", "sessions", "cache", "lock", "queue", "stats"))
_MADE_ANEW = frozenset(
    ("index", "indexes", "indices", "indexer", "indexers", "queue", "queues", "transcodes", "previews", "node_modules", "vendor",
     "compiled", "generated")
)  # fmt: skip
#: The same of files of rows which an app keeps beside the one that has its data.
_BESIDE = _STATES | {"caches", "queues", "cable", "jobs", "locks"}
_APART = str.maketrans("-_@.", "    ")
_MOST_TOLD = 3
_SMALLER = 4  #: how much smaller the same data may be in another form
_LITTLE = 1024  #: bytes in a database that may come and go by themselves


@dataclass(frozen=True)
class Witness:
    """What is known of an app's files from installs that nobody else has used."""

    first: Files | None = None  #: what the base makes by itself; None: not known
    default: Files = field(default_factory=dict)  #: what the version under test makes by itself
    later: Files = field(default_factory=dict)  #: what it has after a while, before it is deployed once more
    used: bool = False  #: whether somebody has used it meanwhile, as the base was

    @property
    def filled(self) -> Files:
        """What the same use makes of a new install."""
        return self.later if self.used else {}


def same(one: File | None, other: File | None) -> bool:
    """Whether the same is in both, as far as that is known: of a large file, whether it is as large."""
    if one is None or other is None:
        return False
    return one.bytes == other.bytes and (one.digest == other.digest or not (one.digest and other.digest))


def new_bytes(now: File, was: File | None) -> int:
    """Bytes that are new in a file that is another one: all of them, but for a database of which is known how much is in it."""
    known = was is not None and now.kind == was.kind == BOLT and now.digest and was.digest
    return max(0, now.bytes - was.bytes) if was is not None and known else now.bytes


def is_nobodys(key: str, path: str, volatile: Collection[str]) -> bool:
    """Whether a file is of no account: of the moment, made anew by the app, or declared so (a volume, or a path in it)."""
    if is_passing(path) or is_passing(f"{key}/x") or key in volatile or any(_is_in(f"{key}/{path}", one) for one in volatile):
        return True
    *folders, name = path.lower().strip("/").split("/")
    return is_of_the_moment(name.lstrip(".").partition(".")[0]) or any(
        not _MADE_ANEW.isdisjoint((folder, *folder.translate(_APART).split())) for folder in folders
    )


def place_of(key: str, path: str) -> str:
    """Whereabouts a file is: its volume, with the folder below the root that it is in."""
    folder, slash, _ = path.partition("/")
    return f"{key}/{folder}" if slash else key


def as_anywhere(path: str, names: Mapping[str, str]) -> str:
    """A path as it would be called on any stack; `names`: what is another in each place, the longest first -> a word for it.

    Programs write the dots of a domain in several ways.
    """
    for name, word in names.items():
        for dot in (".", "%2e", "%2E", "_", "-"):
            path = path.replace(name.replace(".", dot), word)
    return path


def called(path: str, names: Mapping[str, str]) -> str:
    """What a file at that path of a volume is told as, on all stacks alike."""
    return readable(as_anywhere(path, names))


def is_of_the_moment(name: str) -> bool:
    """Whether a name says that what has it tells of the moment alone: all of its words do."""
    words = name.lower().translate(_APART).split()
    return bool(words) and _STATES.issuperset(words)


def is_beside_the_data(key: str, path: str, tables: Mapping[str, int], kept: Collection[str]) -> bool:
    """Whether nobody misses an SQLite file that is in no backup, as its name says, or those of all its tables that have rows.

    `kept`: paths in the same volume of those that are in one: `shop_cache.db` beside `shop.db` is of the moment, too.
    """
    filled = [table for table, rows in tables.items() if rows]
    if is_nobodys(key, path, ()) or (filled and all(is_of_the_moment(table) for table in filled)):
        return True
    folder, words = _words(path)
    return not _BESIDE.isdisjoint(words) and any(
        of == folder and its and [word for word in words if word not in _BESIDE] == its for of, its in map(_words, kept)
    )


def _words(path: str) -> tuple[str, list[str]]:
    """The folder of a file, and the words of its name."""
    folder, _, name = path.lower().rpartition("/")
    return folder, name.lstrip(".").partition(".")[0].translate(_APART).split()


def lost_files(
    before: Files, after: Files, by: Witness, volatile: Collection[str], *, grown: bool, unread: bool = False
) -> list[str]:
    """A phrase for each volume with files of somebody's that are gone, or are what a new install makes. `grown`: whether anything
    else than plain files holds more than before, so that what is gone may be there, in another form (see `_for_good`); `unread`:
    whether there is a database that may hold it, and says nothing."""
    gone: dict[str, list[str]] = {}
    used_up: dict[str, list[str]] = {}
    reset: dict[str, list[str]] = {}
    emptied: dict[str, list[str]] = {}
    missed: dict[str, list[str]] = {}
    there = [one for files in after.values() for one in files.values()]
    for key, path in _somebodys(before, volatile):
        if key not in after:
            continue  # which is told as that
        was, now = before[key][path], after[key].get(path)
        first, default = _of(by.first or {}, key).get(path), _of(by.default, key).get(path)
        if same(was, first) or same(was, default):
            continue
        if now is not None:
            if now.digest and same(now, default) and _is_of_use(key, path, by):
                reset.setdefault(key, []).append(path)
            elif not grown and _is_of_use(key, path, by) and _is_emptied(was, now, first, default, _of(by.filled, key).get(path)):
                emptied.setdefault(key, []).append(path)
        elif any(same(was, one) for one in there):
            continue
        elif _is_of_use(key, path, by) and (default is not None or path in _of(by.filled, key)):
            (gone if default is not None else used_up).setdefault(key, []).append(path)
        elif by.first is not None and first is None:
            missed.setdefault(key, []).append(path)
    came = sum(size for key, path, size in _arrived(before, after, by) if not is_nobodys(key, path, volatile)) if emptied else 0
    if came * _SMALLER >= sum(_bytes_of(before, key, paths) for key, paths in emptied.items()):
        emptied = {}  # it may be in there by now
    instead = _in_their_place(before, after, by, volatile)
    for key, paths in used_up.items():
        if key not in instead or instead[key] * _SMALLER < _bytes_of(before, key, paths):
            gone.setdefault(key, []).extend(paths)
    for key, path in _for_good(missed, before, after, by, instead, grown=grown or unread):
        gone.setdefault(key, []).append(path)
    return [
        *(f"{_listed(paths)} of the volume {key} {_is(paths)} gone" for key, paths in sorted(gone.items())),
        *(f"{_listed(paths)} of the volume {key} {_is(paths)} as a new install makes {'it' if len(paths) == 1 else 'them'}"
          for key, paths in sorted(reset.items())),
        *(f"{_listed(paths)} of the volume {key} {_is(paths)} next to empty ({_bytes_of(before, key, paths)} bytes were in "
          f"{'it' if len(paths) == 1 else 'them'}, and {_bytes_of(after, key, paths)} are now)"
          for key, paths in sorted(emptied.items())),
    ]  # fmt: skip


def _is_emptied(was: File, now: File, first: File | None, default: File | None, filled: File | None) -> bool:
    """Whether a database of which is known how much is in it has nearly nothing of what somebody has put there: less than the
    same use puts into a new install, where it does."""
    if not was.kind == now.kind == BOLT or not was.digest or not now.digest:
        return False
    theirs = new_bytes(was, first)
    if filled is not None:
        theirs = min(theirs, new_bytes(filled, default))
    return theirs > _LITTLE and new_bytes(now, default) * _SMALLER < theirs


def _is_of_use(key: str, path: str, by: Witness) -> bool:
    """Whether a file that differs from what the installs make has come to that by somebody's use: the same use changes it in the
    new install too, or both versions make it alike, or the base does not make it at all."""
    default, filled = _of(by.default, key).get(path), _of(by.filled, key).get(path)
    if filled is not None and not same(filled, default):
        return True
    if by.first is None:
        return False
    first = _of(by.first, key).get(path)
    return first is None or same(first, default)


def _for_good(
    missed: Mapping[str, Collection[str]],
    before: Files,
    after: Files,
    by: Witness,
    instead: Mapping[str, int],
    *,
    grown: bool,
) -> Iterator[tuple[str, str]]:
    """Those of the files that no install makes by itself that are gone for good, and not there in another form.

    Where the same use leaves files in the same folder of a new install, what is in there is no row by now, whatever has grown;
    it may be in what came to its volume `instead`.
    """
    came = list(_arrived(before, after, by))
    gone = [(key, path, before[key][path].bytes) for key, paths in missed.items() for path in paths]
    nowhere = not grown and sum(size for *_, size in came) * _SMALLER < sum(size for *_, size in gone)
    used = {
        folder
        for key, files in by.filled.items()
        for path, one in files.items()
        if (folder := _folder(key, path)) and not same(one, _of(by.default, key).get(path))
    }
    there, went = _by_folder(came), _by_folder(gone)
    all_that_went = {key: sum(before[key][path].bytes for path in paths) for key, paths in missed.items()}
    for key, path, _ in gone:
        folder = _folder(key, path)
        elsewhere = instead.get(key, 0) * _SMALLER >= all_that_went[key]
        if nowhere or (folder in used and not elsewhere and there.get(folder, 0) * _SMALLER < went[folder]):
            yield key, path


def _in_their_place(before: Files, after: Files, by: Witness, volatile: Collection[str]) -> dict[str, int]:
    """Key of a volume -> bytes of somebody's plain files that have come to it: what an app makes in the background of those that
    are gone, as soon as it has the time (a video is cut up, a mail goes into its box). What each new install has is none of it,
    whatever it is called and however it grows."""
    own = {one for files in by.default.values() for one in files.values()}
    found: dict[str, int] = {}
    for key, path, size in _arrived(before, after, by):
        if path not in _of(by.default, key) and after[key][path] not in own and not is_nobodys(key, path, volatile):
            found[key] = found.get(key, 0) + size
    return found


def _by_folder(files: Iterable[tuple[str, str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for key, path, size in files:
        folder = _folder(key, path)
        found[folder] = found.get(folder, 0) + size
    return found


def _folder(key: str, path: str) -> str:
    """The folder that a file is in, of those one or two below the root of its volume; in the root, all of one ending are as in a
    folder, and those without one in none."""
    *above, name = path.split("/")
    if above:
        return "/".join((key, *above[:2]))
    _, dot, end = name.lstrip(".").rpartition(".")
    return f"{key}/*.{end.lower()}" if dot else ""


def _arrived(before: Files, after: Files, by: Witness) -> Iterator[tuple[str, str, int]]:
    """Volume, path and bytes of plain files that are new, and that no new install makes by itself; or what they are larger by."""
    for key, files in after.items():
        for path, now in files.items():
            was = _of(before, key).get(path)
            if was is None and path not in _of(by.default, key):
                yield key, path, now.bytes
            elif was is not None and now.bytes > was.bytes:
                yield key, path, now.bytes - was.bytes


def somebodys_own(held: Files, earlier: Files | None, by: Witness, volatile: Collection[str]) -> dict[str, list[str]]:
    """Key of a volume -> paths in it of what somebody has made there, or changed. `earlier`: what was there before the upgrade,
    so that what a migration leaves is nobody's; None: nothing was upgraded."""
    found: dict[str, list[str]] = {}
    for key, path in _somebodys(held, volatile):
        if earlier is not None and path not in _of(earlier, key):
            continue
        first, default = None if by.first is None else _of(by.first, key).get(path), _of(by.default, key).get(path)
        if held[key][path].kind:
            made = True  # what is in a database that nobody can read may be anybody's, whatever its size
        elif first is None and default is None:
            by_itself = not by.used and path in _of(by.later, key)
            # Where nobody knows what the base makes by itself, the same use has to make it anew.
            made = not by_itself and (by.first is not None or earlier is None or path in _of(by.filled, key))
        else:
            made = first is not None and same(first, default) and not same(held[key][path], first)
        if made:
            found.setdefault(key, []).append(path)
    return found


def phrase(key: str, paths: Collection[str], held: Files) -> str:
    """What of a volume it is about."""
    size = sum(held[key][path].bytes for path in paths)
    return f"{_listed(sorted(paths))} of the volume {key} ({size} bytes)"


def _somebodys(files: Files, volatile: Collection[str]) -> Iterator[tuple[str, str]]:
    return ((key, path) for key in files for path in files[key] if not is_nobodys(key, path, volatile))


def _of(files: Files, key: str) -> Mapping[str, File]:
    return files.get(key, {})


def _is_in(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _listed(paths: Iterable[str]) -> str:
    first = sorted(paths)
    more = len(first) - _MOST_TOLD
    names = [shown(path, 100) for path in first[:_MOST_TOLD]]
    return ", ".join(names) + (f" and {more} other{'s' if more > 1 else ''}" if more > 0 else "")


def _bytes_of(files: Files, key: str, paths: Iterable[str]) -> int:
    return sum(files[key][path].bytes for path in paths)


def _is(paths: Collection[str]) -> str:
    return "is" if len(paths) == 1 else "are"
