"""Release tags: which are releases, and in which order (docs/rules.md 2).

The raw tag is the identity. The order is a key computed from it: the recipe part first (N.N.N, numeric,
as SemVer writes it), then the app part as a mere tie-break. `packaging` reads the one part it is good at,
a recipe part with a pre-release, and never a whole tag.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from packaging.version import Version

from canonq.core.names import ref_problem, shown

_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_RECIPE_PART = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}")
_PRERELEASE_PART = re.compile(rf"({_NUMBER}\.{_NUMBER}\.{_NUMBER})[-.]?(a|b|c|alpha|beta|pre|preview|rc|dev)[-.]?([0-9]{{0,9}})")
_APP_PART = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
#: What nearly all tags look like. All that it matches is a name that git takes as well (no `..`, nor `.` or `.lock` at the end).
_STABLE = re.compile(rf"({_RECIPE_PART.pattern})(?:\+([0-9A-Za-z](?:[0-9A-Za-z_-]|\.(?!\.)){{0,160}})(?<!\.)(?<!\.lock))?")
#: As Python, Java, the JDK, npm and Docker's images write what comes before a final release. A single letter needs its number
#: and an end behind it: `a1b2c3d` is a commit.
_APP_PRERELEASE = re.compile(
    r"^[-._]?(?:(?:alpha|beta|pre|preview|rc|cr|dev|nightly|snapshot|milestone|ea|eap|canary|unstable)(?![a-z])"
    r"|[abcm][-.]?[0-9]{1,3}(?![0-9a-z]))",
    re.I,
)

AppKey: TypeAlias = tuple[tuple[int, ...], int, tuple[tuple[int, int, str], ...]]
RecipeKey: TypeAlias = tuple[tuple[int, ...], int, int]
Key: TypeAlias = tuple[RecipeKey, AppKey, str]
#: What comes before a final release, earliest first, as `packaging` names it.
_BEFORE_FINAL = ("dev", "a", "b", "rc")
_MOST_KEPT = 4096  #: keys that are not computed again: releases of one recipe are compared with each other a few times


class Release(NamedTuple):
    """A tag that parses as a release, with the commit it peels to."""

    tag: str
    commit: str  #: full id of the peeled commit
    recipe_part: str
    app_part: str
    prerelease: bool

    @property
    def key(self) -> Key:
        """Sort key: recipe part, app part in natural order, raw tag (so that the order is total)."""
        return _recipe_key(self.recipe_part), app_key(self.app_part), self.tag


@dataclass(frozen=True)
class NotARelease:
    """A tag that is never a release, with the reason."""

    tag: str
    reason: str


def parse(tag: str, commit: str = "") -> Release | NotARelease:
    """Read one tag. Only `N.N.N[-pre][+app]` is a release; everything else says why it is not."""
    if found := _STABLE.fullmatch(tag):
        return Release(tag, commit, found[1], found[2] or "", False)
    if problem := ref_problem(tag):
        return NotARelease(tag, f"the name {problem}")
    left, plus, right = tag.partition("+")
    stable = _RECIPE_PART.fullmatch(left) is not None
    if not stable and not _PRERELEASE_PART.fullmatch(left):
        return NotARelease(tag, f"the recipe part {shown(left)} is not N.N.N without leading zeros")
    if plus and not _APP_PART.fullmatch(right):
        return NotARelease(tag, f"the app part {shown(right)} is empty or has characters a version has not")
    return Release(tag, commit, left, right, prerelease=not stable)


def version_key(tag: str) -> Key:
    """Compute the sort key of a tag that parses; ValueError for one that does not."""
    release = parse(tag)
    if isinstance(release, NotARelease):
        raise ValueError(f"{shown(tag)} is not a release: {release.reason}")
    return release.key


def is_newer(tag: str, than: str) -> bool:
    """Whether one tag is a newer release than another; what does not parse is never outdone, so it counts as newer."""
    return isinstance(parse(tag), NotARelease) or version_key(tag) > version_key(than)


@functools.lru_cache(maxsize=_MOST_KEPT)
def _recipe_key(part: str) -> RecipeKey:
    """The numbers, then how far before the final release it is."""
    numbers = part.split(".")
    if len(numbers) == 3 and numbers[2].isdecimal():
        return (int(numbers[0]), int(numbers[1]), int(numbers[2])), len(_BEFORE_FINAL), 0
    found = _PRERELEASE_PART.fullmatch(part)
    assert found is not None  # it is the recipe part of what `parse` has read
    version = Version(f"{found[1]}{found[2]}{found[3] or 0}")
    kind, number = version.pre or ("dev", version.dev or 0)
    return version.release, _BEFORE_FINAL.index(kind), number


@functools.lru_cache(maxsize=_MOST_KEPT)
def app_key(part: str) -> AppKey:
    """Key of an app part: leading numbers, final after pre-release, the rest in natural order."""
    text = part[1:] if re.match(r"v[0-9]", part) else part
    leading = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    numbers = tuple(int(n) for n in leading.group().split(".")) if leading else ()
    rest = text[leading.end() :] if leading else text
    pieces = tuple((0, int(piece), "") if piece.isdigit() else (1, 0, piece) for piece in re.findall(r"[0-9]+|[^0-9]+", rest))
    return numbers, 0 if _APP_PRERELEASE.match(rest) else 1, pieces


def read_tags(tags: Mapping[str, str], *, prereleases: bool = False) -> tuple[tuple[Release, ...], tuple[NotARelease, ...]]:
    """Split `tags` (name -> peeled commit) into releases, oldest first, and refused tags with reasons."""
    releases: list[Release] = []
    refused: list[NotARelease] = []
    for tag, commit in tags.items():
        read = parse(tag, commit)
        if isinstance(read, NotARelease):
            refused.append(read)
        elif read.prerelease and not prereleases:
            refused.append(NotARelease(tag, "it is a pre-release, and the enrolment does not ask for them"))
        else:
            releases.append(read)
    return tuple(_in_order(releases)), tuple(sorted(refused, key=lambda no: no.tag))


def _in_order(releases: Iterable[Release]) -> Iterator[Release]:
    """By their keys; app parts are looked into only where they decide, which is seldom."""
    parts: dict[RecipeKey, list[Release]] = {}
    for release in releases:
        parts.setdefault(_recipe_key(release.recipe_part), []).append(release)
    for _, alike in sorted(parts.items()):
        yield from sorted(alike, key=lambda release: release.key) if len(alike) > 1 else alike


def newest_older(releases: Iterable[Release], tag: str) -> Release | None:
    """The newest release that is older than `tag`, or None."""
    limit = version_key(tag)
    older = [release for release in releases if release.key < limit]
    return max(older, key=lambda release: release.key, default=None)


def same_version(releases: Iterable[Release], tag: str) -> str | None:
    """Another tag with the very same recipe and app version as `tag`, such as 1.0.0+2.0 and 1.0.0+v2.0; else None."""
    mine = version_key(tag)[:2]
    return next((release.tag for release in releases if release.tag != tag and release.key[:2] == mine), None)


def tie_broken_by_app(releases: Iterable[Release], tag: str) -> str | None:
    """The next older tag that shares `tag`'s recipe part, when only the app part decided; else None."""
    below = newest_older(releases, tag)
    if below is not None and _recipe_key(below.recipe_part) == version_key(tag)[0]:
        return below.tag
    return None
