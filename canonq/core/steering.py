"""What people have said about a release: approved, blocked, hurried; and what a release asks a person to say first. Pure.

Nothing said is ever taken out of the record: the newest word about a version counts, until its time is over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from canonq.core.gate import Refusal
from canonq.core.stack.databases import database_kind
from canonq.core.text import beginning, readable
from canonq.core.versions import NotARelease, Release, parse, version_key

What = Literal["approve", "block", "unblock", "hurry"]
#: Words of notes that ask for something. "Nothing to do", or what has changed, asks for nothing.
_ASKS = re.compile(
    r"\b(action (is )?required|breaking|by hand|manual(ly)?|beforehand|you (must|need|have to|should)|must \w+"
    r"|needs? to be|have to be|please \w+|(before|after) (you )?(upgrad|updat|deploy)|run (the|this|abra)"
    r"|set the|rename|migrate)",
    re.IGNORECASE,
)
_NOTE = 300  #: characters of a release's notes that are told


class Word(BaseModel):
    """One thing that a person has said about a version of a recipe."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    what: What
    version: str
    commit: str  #: of the version, when it was said
    by: str
    at: str  #: as 20260617T050314Z
    reason: str
    until: str | None = None  #: from when on it does not count any more


def in_force(words: Iterable[Word], version: str, now: str, *kinds: What) -> Word | None:
    """The newest word of these kinds about a version, where its time is not over."""
    found = [word for word in words if word.version == version and word.what in kinds]
    return found[-1] if found and (found[-1].until is None or now < found[-1].until) else None


def blocked(words: Iterable[Word], version: str, now: str) -> Refusal | None:
    """Why a version is neither proven nor promoted, if a person has blocked it."""
    word = in_force(words, version, now, "block", "unblock")
    if word is None or word.what == "unblock":
        return None
    until = f" until {word.until}" if word.until else ""
    why = f"{word.by} blocked {version} at {word.at}{until}: {word.reason}; a newer release passes it"
    return Refusal("blocked", why)


def is_said(words: Iterable[Word], what: What, version: str, commit: str, now: str) -> bool:
    """Whether it was said of this very commit."""
    word = in_force(words, version, now, what)
    return word is not None and word.commit == commit


def needs_approval(
    recipe: str, canonical: str, version: str, images: tuple[Mapping[str, str], Mapping[str, str]], notes: Mapping[str, str]
) -> Refusal | None:
    """Why a person is to approve a version before it is promoted; None where nothing asks for that.

    `images`: those of the canonical's release and of the version's, service -> image as it is written; `notes`: what the releases
    in between tell whoever upgrades.
    """
    asked = [*_majors(canonical, version), *_moved_databases(*images)]
    if not asked and not any(asks_for_action(text) for text in notes.values()):
        return None
    asked += [f"{tag} has release notes: {shown_note(text)}" for tag, text in notes.items()]
    does = f"`canonq approve {recipe} '{version}' --reason TEXT` does it"
    why = f"{version} is to be approved by a person: {'; '.join(asked).rstrip(' .')}. {does}"
    return Refusal("needs-approval", why)


def asks_for_action(text: str) -> bool:
    """Whether a release's notes ask whoever upgrades to do something, by the words that such notes have."""
    return _ASKS.search(" ".join(text.split())) is not None


def shown_note(text: str) -> str:
    """A release's notes, for a sentence."""
    return beginning(readable(" ".join(text.split())), _NOTE)


def noted_between(releases: Sequence[Release], canonical: str, version: str) -> tuple[Release, ...]:
    """The releases after the canonical, up to a version."""
    if isinstance(parse(canonical), NotARelease) or isinstance(parse(version), NotARelease):
        return ()
    return tuple(one for one in releases if version_key(canonical) < one.key <= version_key(version))


def _majors(canonical: str, version: str) -> list[str]:
    old, new = parse(canonical), parse(version)
    if isinstance(old, NotARelease) or isinstance(new, NotARelease):
        return []
    was, now = (one.recipe_part.partition(".")[0] for one in (old, new))
    return [f"the recipe's major version goes from {was} to {now}"] if was != now else []


def _moved_databases(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Databases whose image goes to another major version: most of them do not read the files of the one before."""
    told = []
    for service in sorted(was.keys() & now.keys()):
        kinds = database_kind(was[service]), database_kind(now[service])
        before, after = _major(was[service]), _major(now[service])
        if kinds[0] is None or kinds[1] is None:
            continue
        if kinds[0] != kinds[1]:
            told.append(f"the database {service} goes from {kinds[0]} to {kinds[1]}")
        elif before and after and before != after:
            told.append(f"the database {service} goes from {kinds[0]} {before} to {after}")
    return told


def _major(image: str) -> str | None:
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    found = re.match(r"(?:v|pg)?([0-9]+)", tag)
    return found[1] if found else None


def too_young(version: str, age: float | None, min_age: float, hurried: bool) -> str | None:
    """What to tell of a release that is to be older before it is proven; None when it is, or a person is in a hurry."""
    if hurried or age is None or age >= min_age:
        return None
    left = (min_age - age) / 3600
    return f"{version} was first seen {age / 3600:.0f} h ago and is to be {min_age / 3600:.0f} h old (min_age): in {left:.0f} h."
