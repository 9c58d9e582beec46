"""What is in a file of bolt's (bbolt's), read as its own program does: by the pages to which its root leads.

Such a file has room beside what is in it, often megabytes: its size says little. It may be written to meanwhile: the pages of its
last state are not written over until there is another one, so what was read is one state where the root is the same afterwards.

A file is what an app makes it: pages and entries have an end.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

#: Gives so many bytes of the file, or fewer at its end, from a place on.
Read: TypeAlias = Callable[[int, int], bytes]

_MAGIC, _VERSION = 0xED0CDAED, 2
_META, _META_CHECKED = struct.Struct("<4I6Q"), 56
_PAGE, _BRANCH, _LEAF = struct.Struct("<QHHI"), struct.Struct("<IIQ"), struct.Struct("<IIII")
_IS_BRANCH, _IS_LEAF, _IS_BUCKET = 1, 2, 1
_BUCKET = 16  #: bytes of a bucket's value before a page that is in it
_PAGE_SIZES = tuple(1 << power for power in range(9, 17))
_MOST_BYTES, _MOST_ENTRIES = 64 << 20, 200_000  #: of what is read: a page may say the same bytes many times
_TRIES = 5


class _Root(NamedTuple):
    state: int
    page_size: int
    page: int


def contents(read: Read) -> tuple[int, str] | None:
    """Bytes of all keys and values, and their digest; None where it cannot be read, is too large, or is never the same twice."""
    for _ in range(_TRIES):
        if (root := _root(read)) is None:
            return None
        try:
            found = _in_pages(read, root)
        except (ValueError, struct.error):
            found = None
        if _root(read) == root:
            return found
    return None


def _root(read: Read) -> _Root | None:
    """Where its newest state begins, of the two that it keeps."""
    found = []
    for at in (0, *_PAGE_SIZES):
        text = read(_META.size, at + _PAGE.size)
        if len(text) < _META.size:
            break
        magic, version, size, _, page, _, _, _, state, told = _META.unpack(text)
        known = (magic, version) == (_MAGIC, _VERSION) and size in _PAGE_SIZES and at in (0, size)
        if known and told == checksum(text[:_META_CHECKED]):
            found.append(_Root(state, size, page))
    return max(found, default=None)


def _in_pages(read: Read, root: _Root) -> tuple[int, str] | None:
    """ValueError or struct.error where a page is not what it has to be."""
    digest, size, entries, room = hashlib.blake2b(digest_size=12), 0, _MOST_ENTRIES, _MOST_BYTES
    left: list[int | bytes] = [root.page]
    while left:
        one = left.pop()
        page = one if isinstance(one, bytes) else _page(read, root.page_size, one, room)
        room -= len(page)
        below: list[int | bytes] = []
        for entry in _entries(page):
            entries -= 1
            if isinstance(entry, int):
                below.append(entry)
                continue
            key, value, is_bucket = entry
            size, room = size + len(key), room - len(key) - len(value)
            if min(room, entries) < 0:
                return None
            digest.update(struct.pack("<IB", len(key), is_bucket) + key)
            if is_bucket:
                (start,) = struct.unpack_from("<Q", value)
                below.append(start or value[_BUCKET:])
            else:
                size += len(value)
                digest.update(struct.pack("<I", len(value)) + value)
        if min(room, entries) < 0:
            return None
        left += reversed(below)
    return size, digest.hexdigest()


def _page(read: Read, page_size: int, number: int, room: int) -> bytes:
    at = number * page_size
    told, _, _, more = _PAGE.unpack(read(_PAGE.size, at))
    length = (1 + more) * page_size
    if told != number or length > max(room, page_size):
        raise ValueError(number)
    return read(length, at)


def _entries(page: bytes) -> Iterator[int | tuple[bytes, bytes, bool]]:
    """The pages below a page; or its keys, with their values, and whether each is a bucket."""
    _, kind, count, _ = _PAGE.unpack_from(page)
    if kind not in (_IS_BRANCH, _IS_LEAF):
        raise ValueError(kind)
    for number in range(count):
        at = _PAGE.size + number * _LEAF.size
        if kind == _IS_BRANCH:
            yield _BRANCH.unpack_from(page, at)[2]
            continue
        flags, place, key, value = _LEAF.unpack_from(page, at)
        start = at + place
        if start + key + value > len(page):
            raise ValueError(number)
        yield page[start : start + key], page[start + key : start + key + value], bool(flags & _IS_BUCKET)


def checksum(text: bytes) -> int:
    """Of what says where a state begins: FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
