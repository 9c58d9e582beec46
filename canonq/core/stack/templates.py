"""What a ref may say where Swarm fills texts in: environments, host names, mounts, and files with a `template_driver`. Pure.

The Engine itself does that, as root and without any limit: a text that pads, repeats or doubles itself takes the host's memory
before a container has begun. So what is known to grow by no more than what it names passes, and that often only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from canonq.core.recipe.envfile import LONGEST_SECRET
from canonq.core.text import did_you_mean, shown

#: Words of Go's templates that give what is there, or choose: none of them makes something longer.
_HARMLESS = frozenset({
    "if", "else", "end", "with", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "true", "false",
    "nil", "env", "secret", "config",
})  # fmt: skip
_TAKES = ("env", "secret", "config")
MOST_TAKEN = 200  #: values of one text: each may be half a megabyte
MOST_MADE = 64 << 20  #: bytes that all texts of a stack may become together
MUCH = "template:much"
_LARGEST_SECRET, _LARGEST_CONFIG = 500 << 10, 1000 << 10  #: bytes that Swarm takes
MOST_PARTS = 10_000  #: words, names and signs in the templates of one text
_ENV_FILE = ".env_file"  #: at the end of the place of what an `env_file` says
_LEAF = 512  #: bytes, of an id or a name of Swarm's at most
#: What is small whoever wrote the release; `.Service`, `.`, and what is kept in a variable have all labels in them.
_SMALL = re.compile(r"\$?\.(?:Service\.(?:ID|Name)|(?:Node|Task)(?:\.[A-Za-z.]+)?)")
_BEGINS = re.compile(r"\{\{")
#: What Go takes for blanks, which is less than Python does: what stands before the sign of a remark.
_BLANKS = " \t\v\f\r\u0085\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_PART = re.compile(
    r"""(?P<end>(?:[ \t\r\n]-)?\}\})
    | (?P<blank>[ \t\r\n]+)
    | (?P<quoted>"(?:[^"\\\n]|\\.)*" | `[^`]*` | '(?:[^'\\\n]|\\.)+')
    | (?P<comment>/\*.*?\*/)
    | (?P<field>[.$][A-Za-z0-9_.]*)
    | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<number>[-+]?[0-9][A-Za-z0-9_.+-]*)
    | (?P<sign>:=|[|(),=-])""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Text:
    """A text in which Swarm fills something in when a task of a service begins."""

    where: str
    service: str  #: empty: no service has it
    said: str


def strange(text: str) -> str | None:
    """The word for what a template does that may grow: a function or statement, `many`, or `?` for what cannot be read; or None.

    What no reader takes for a template is none to Swarm either: it says no to it, and the stack does not come up.
    """
    taken = 0
    for count, part in enumerate(_parts(text)):
        if part is None:
            return "?"
        if count >= MOST_PARTS:
            return "many"
        if (word := part["word"]) is not None and word not in _HARMLESS:
            return word
        taken += word in _TAKES or part["field"] is not None
    return "many" if taken > MOST_TAKEN else None


def _parts(text: str) -> Iterator[re.Match[str] | None]:
    """What stands in the templates of a text, but blanks; None, and no more, where that cannot be read."""
    at = 0
    while (begun := _BEGINS.search(text, at)) is not None:
        at = begun.end()
        while True:
            if (part := _PART.match(text, at)) is None:
                yield None
                return
            at = part.end()
            if part["end"]:
                break
            if not part["blank"]:
                yield part


#: A value that a template takes by its name, and nothing else; and words by which it may take none of what it names.
_TAKEN = re.compile(r"""\{\{-?[ \t]*(secret|config)[ \t]+["`]([^"`\\\n]+)["`][ \t]*-?\}\}""")
_CHOOSES = re.compile(r"\{\{-?\s*(?:if|with|range|define|block|/\*)")


def taken(text: str) -> Iterator[tuple[str, str]]:
    """(secret or config, its name in the service) of all that a template takes in any case."""
    if _CHOOSES.search(text) is None:
        for found in _TAKEN.finditer(text):
            yield found[1], found[2]


def not_given(file: Mapping[str, Any], texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(place, why) of each template that takes what its service is not given, so that Swarm cannot fill it in.

    `texts`: place in the file -> what is filled in there.
    """
    for name, service in file["services"].items():
        given = {
            kind: {str(item.get("target") or item["source"]) for item in service.get(f"{kind}s") or ()}
            for kind in ("secret", "config")
        }
        for section in ("configs", "secrets"):
            for item in service.get(section) or ():
                where = f"{section}.{item['source']}"
                for kind, wanted in taken(texts.get(where, "")):
                    if wanted not in given[kind]:
                        near = did_you_mean(wanted, given[kind])
                        yield where, f"takes the {kind} {shown(wanted)}, which the service {shown(name)} is not given{near}"


def filled_in(file: Mapping[str, Any], files: Mapping[str, str]) -> Iterator[Text]:
    """All that Swarm fills in of a deployable file, whose `$` are doubled.

    `files`: place in it -> what it fills in of the recipe's files.
    """
    asked: set[str] = set()
    for name, service in file["services"].items():
        where = f"services.{name}"
        for key, value in (service.get("environment") or {}).items():
            yield _text(f"{where}.environment.{key}", name, f"{key}={value}")
        yield _text(f"{where}.hostname", name, str(service.get("hostname") or ""))
        for mount in service.get("volumes") or ():
            yield _text(f"{where}.volumes", name, f"{mount.get('source', '')} {mount.get('target', '')}")
            # A volume is made with its labels by the first task that mounts it, and each fills them in.
            if mount.get("type", "volume") == "volume" and (volume := file.get("volumes", {}).get(mount.get("source"))):
                for key, value in (volume.get("labels") or {}).items():
                    yield _text(f"volumes.{mount['source']}.labels.{key}", name, str(value))
        if (place := f"{where}{_ENV_FILE}") in files:
            asked.add(place)
            yield from (Text(place, name, said) for said in _variables(files[place]))
        for place in [f"{section}.{item['source']}" for section in ("configs", "secrets") for item in service.get(section) or ()]:
            if place in files:
                asked.add(place)
                yield Text(place, name, files[place])
    yield from (Text(place, "", text) for place, text in files.items() if place not in asked)


def _variables(text: str) -> Iterator[str]:
    """What an `env_file` says, as Docker reads it: each line is a variable, which is filled in by itself, or a remark. Those in
    which nothing is filled in come together. Read whole, remarks could make of what is between them a comment."""
    plain = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if "{{" in line and not line.lstrip(_BLANKS).startswith("#"):
            yield line
        else:
            plain.append(line)
    yield re.sub(r"\{\{+", "", "\n".join(plain))


def _text(where: str, service: str, doubled: str) -> Text:
    return Text(where, service, doubled.replace("$$", "$"))


def become(file: Mapping[str, Any], texts: Iterable[Text], given: Collection[str] = ()) -> int:
    """Bytes that all tasks of a stack may be filled in to, together, at most; or any more than `MOST_MADE` where it is more.

    `given`: keys of secrets that somebody else wrote, and that may be as large as Swarm takes them.
    """
    counted = Counter((text.service, text.said) for text in texts if text.service and "{{" in text.said)
    read = {said: _read(said) for said in dict.fromkeys(said for _, said in counted)}
    from_files: dict[str, list[_Parts]] = {}
    for service, said in {(text.service, text.said) for text in texts if text.where.endswith(_ENV_FILE)}:
        from_files.setdefault(service, []).append(read.get(said) or _read(said))
    largest = {name: _Largest.of(service, file, given, from_files.get(name, ())) for name, service in file["services"].items()}
    total = 0
    for (service, said), times in counted.items():
        total += times * replicas_of(file["services"][service]) * _becomes(read[said], largest[service])
        if total > MOST_MADE:
            break
    return total


def replicas_of(service: Mapping[str, Any]) -> int:
    """How many tasks of a service there are at a time, on one node."""
    said = str((service.get("deploy") or {}).get("replicas", 1))
    return int(said) if said.isdecimal() and len(said) < 10 else 1


@dataclass(frozen=True)
class _Largest:
    """Bytes of what a service's templates may name, at most."""

    labels: int
    values: Mapping[str, Mapping[str, int]]  #: env, secret or config -> name -> bytes

    @classmethod
    def of(
        cls, service: Mapping[str, Any], file: Mapping[str, Any], given: Collection[str], from_files: Iterable[_Parts]
    ) -> _Largest:
        """`from_files`: what its `env_file`s say."""
        labels, env = (service.get("deploy") or {}).get("labels") or {}, service.get("environment") or {}
        values: dict[str, dict[str, int]] = {
            "env": {key: _bytes(value) for key, value in env.items()},
            "secret": {},
            "config": {},
        }
        for kind, most in (("secret", _LARGEST_SECRET), ("config", _LARGEST_CONFIG)):
            for item in service.get(f"{kind}s") or ():
                made_up = kind == "secret" and (file.get("secrets") or {}).get(item["source"], {}).get("external")
                size = LONGEST_SECRET if made_up and item["source"] not in given else most
                values[kind][str(item.get("target") or item["source"])] = size
        if service.get("env_file"):
            values["env"][""] = _LARGEST_CONFIG  # which of its lines is which variable, this has not read
        found = cls(_LEAF + sum(_bytes(key) + _bytes(value) + 2 for key, value in labels.items()), values)
        # Swarm fills the environment in first: whatever takes a variable after it takes what became of it.
        filled = {key: _becomes(_read(str(value).replace("$$", "$")), found) for key, value in env.items()}
        filled |= {"": sum((_becomes(parts, found) for parts in from_files), _LARGEST_CONFIG)} if service.get("env_file") else {}
        return cls(found.labels, {**values, "env": filled})

    def taken(self, kind: str, name: str | None) -> int:
        """Bytes of one value; of any where its name is worked out."""
        of = self.values[kind]
        return of[name] if name is not None and name in of else max(of.values(), default=0)


def _bytes(said: object) -> int:
    return len(str(said).encode(errors="replace"))


@dataclass(frozen=True)
class _Parts:
    """A text as its templates are read, once for all services that have it."""

    bytes: int
    takes: tuple[tuple[str, str | None], ...] = ()  #: env, secret or config, and the name; None where that is worked out
    longest: int = 0  #: bytes of the longest text that a template itself has
    small: int = 0  #: fields that are small whoever wrote the release
    fields: int = 0  #: others


def _read(text: str) -> _Parts:
    parts = [part for part in _parts(text) if part is not None]
    takes = tuple(
        (part["word"], then["quoted"][1:-1] if then is not None and then["quoted"] else None)
        for part, then in zip_longest(parts, parts[1:])
        if part["word"] in _TAKES
    )
    fields = [part["field"] for part in parts if part["field"]]
    small = sum(_SMALL.fullmatch(field) is not None for field in fields)
    longest = max((_bytes(part["quoted"]) for part in parts if part["quoted"]), default=0)
    return _Parts(_bytes(text), takes, longest, small, len(fields) - small)


def _becomes(parts: _Parts, largest: _Largest) -> int:
    sizes = [largest.taken(kind, name) for kind, name in parts.takes]
    # Whatever else is named may be any value that came before: of a variable, or of a `with`.
    any_value = max([largest.labels, parts.longest, *sizes])
    return parts.bytes + sum(sizes) + parts.small * _LEAF + parts.fields * any_value


def why(word: str) -> str:
    """What is wrong with it, for people."""
    match word:
        case "many":
            most = f"more than {MOST_TAKEN} values, or has more than {MOST_PARTS} words in its templates"
            return f"has Swarm fill in {most} (template:many)"
        case "much":
            return f"has templates that may become more than {MOST_MADE >> 20} MiB together ({MUCH})"
        case "?":
            return "has a template that cannot be read (template:?)"
    return f"has a template with {shown(word)}, by which it may become of any size (template:{word})"
