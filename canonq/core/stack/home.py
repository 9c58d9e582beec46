"""Whether a new install keeps in another folder of a volume what its base keeps there, and where the data is then. Pure.

An app that was told another folder begins anew in it, beside data that is whole. What each version makes by itself says where its
home is; what lies in the new one after the upgrade, whether anybody has brought the data along.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping

from canonq.core.stack.engines import BOLT
from canonq.core.stack.witness import File, Files, Witness, is_nobodys, new_bytes, same

_SMALLER = 4  #: how much smaller the same data may be in another form
_MOST = 20  #: files of an install that are looked at; of another, to each of them


def left_behind(before: Files, after: Files, by: Witness, volatile: Collection[str]) -> list[str]:
    """A phrase for each folder that was an app's home and is no more, with somebody's data that is not in the new one.

    `before`, `after`: what was there before the upgrade, and after it.
    """
    told = []
    for key, made in sorted((by.first or {}).items()):
        was, now, first, default, later = (
            {path: one for path, one in files.get(key, {}).items() if not is_nobodys(key, path, volatile)}
            for files in (before, after, {key: made}, by.default, by.later)
        )
        changed = {
            path: new_bytes(one, first.get(path))
            for path, one in was.items()
            if path in now and not same(one, first.get(path)) and _is_known(one)
        }
        brought = {path: new_bytes(one, default.get(path)) for path, one in now.items() if not same(one, default.get(path))}
        moves = list(_moves(first, default))
        if by.used and not moves:
            moves = list(_moves_by_use(was, first, later, default, after.get(key, {})))
        for old, new in moves:
            theirs = sum(size for path, size in changed.items() if _is_of(path, old, new))
            if not theirs or any(_is_of(path, old, new) for path in later):
                continue  # nothing of it is there, or it is used still
            own = [path for path in default if _is_in(path, new)]
            there = sum(size for path, size in brought.items() if _is_in(path, new))
            # Where it is not there after the upgrade, it is of that install alone.
            if sum(path in now for path in own) * 2 >= len(own) and there * _SMALLER < theirs:
                told.append(f"{_named(key, old)} ({theirs} bytes, which it keeps in {_named(key, new)} now)")
        if not moves:
            told += _databases_begun_anew(key, changed, now, first, default, later)
    return told


def _databases_begun_anew(
    key: str,
    changed: Mapping[str, int],
    now: Mapping[str, File],
    first: Mapping[str, File],
    default: Mapping[str, File],
    later: Mapping[str, File],
) -> Iterator[str]:
    """A phrase for each folder in which an app has another database of a kind that canonq cannot read than its base had.

    `changed`: path of what lies there still -> bytes of somebody's. Those that use alone makes have any name.
    """
    left: dict[tuple[str, str], list[str]] = {}
    for path in changed:
        if now[path].kind and path not in default and path not in later:
            left.setdefault((posixpath.dirname(path), now[path].kind), []).append(path)
    for (folder, kind), old in sorted(left.items()):
        new = [
            path for path, one in now.items()
            if one.kind == kind and posixpath.dirname(path) == folder and path in default and path not in first
        ]  # fmt: skip
        is_used = any(not same(later.get(path), default[path]) for path in new) and any(path in first for path in old)
        theirs = sum(changed[path] for path in old)
        there = sum(new_bytes(now[path], default[path]) for path in new if not same(now[path], default[path]))
        if is_used and all(_is_known(now[path]) for path in new) and there * _SMALLER < theirs:
            yield f"{_named(key, old[0])} ({theirs} bytes, which it keeps in {_named(key, new[0])} now)"


def _moves(first: Mapping[str, File], default: Mapping[str, File]) -> Iterator[tuple[str, str]]:
    """Folders in which one version makes something by itself, each with that in which the other makes most of it, and nothing in
    the old one. An empty path is the volume itself."""
    alike_named: dict[str, list[str]] = {}
    for path in sorted(default.keys() - first.keys()):
        alike_named.setdefault(posixpath.basename(path), []).append(path)
    seen = set()
    for path in sorted(first.keys() - default.keys())[:_MOST]:
        for other in alike_named.get(posixpath.basename(path), ())[:_MOST]:
            pair = old, new = _apart(path, other)
            if pair in seen:
                continue
            seen.add(pair)
            mine = [one for one in first if _is_of(one, old, new)]
            alike = sum(posixpath.join(new, _below(one, old)) in default for one in mine)
            if alike * 2 >= len(mine) and not any(one in default for one in mine):
                yield pair


def _moves_by_use(
    was: Mapping[str, File],
    first: Mapping[str, File],
    later: Mapping[str, File],
    default: Mapping[str, File],
    after: Collection[str],
) -> Iterator[tuple[str, str]]:
    """The same where versions make nothing by themselves that tells: most of what the same use leaves in a folder of the new
    install is in another one of the base, which had nothing in that one; and the upgraded app has been there."""
    base = {path: one for path, one in was.items() if not same(one, first.get(path))}
    fresh = {path: one for path, one in later.items() if not same(one, default.get(path))}
    for new, old in _moves(fresh, base):
        if any(_is_of(path, new, old) for path in was) or any(_is_of(path, old, new) for path in default):
            continue  # a further folder, beside the old one
        if any(_is_in(path, new) for path in after):
            yield old, new


def _is_known(one: File) -> bool:
    """Whether its size says how much is in it: in a file of bolt's there is room beside that."""
    return one.kind != BOLT or bool(one.digest)


def _apart(path: str, other: str) -> tuple[str, str]:
    """What two paths have before that in which they end alike."""
    one, two = path.split("/"), other.split("/")
    while one and two and one[-1] == two[-1]:
        one.pop()
        two.pop()
    return "/".join(one), "/".join(two)


def _is_of(path: str, old: str, new: str) -> bool:
    """Whether it lies in the one folder, and not in the other within it."""
    return _is_in(path, old) and not (new.startswith(old) and _is_in(path, new))


def _is_in(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def _below(path: str, folder: str) -> str:
    return path[len(folder) + 1 :] if folder else path


def _named(key: str, folder: str) -> str:
    return f"'{key}/{folder}'" if folder else f"'{key}'"
