"""What a ref may say where Swarm fills texts in: environments, host names, mounts, and files with a `template_driver`. Pure.

The Engine itself does that, as root and without any limit: a text that pads, repeats or doubles itself takes the host's memory
before a container has begun. So what is known to grow by no more than what it names passes, and that often only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from canonq.core.text import did_you_mean, shown

#: Words of Go's templates that give what is there, or choose: none of them makes something longer.
_HARMLESS = frozenset({
    "if", "else", "end", "with", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "true", "false",
    "nil", "env", "secret", "config",
})  # fmt: skip
_TAKES = ("env", "secret", "config")
MOST_TAKEN = 200  #: values of one text: each may be half a megabyte
_BEGINS = re.compile(r"\{\{")
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


def strange(text: str) -> str | None:
    """The word for what a template does that may grow: a function or statement, `many`, or `?` for what cannot be read; or None.

    What no reader takes for a template is none to Swarm either: it says no to it, and the stack does not come up.
    """
    at, taken = 0, 0
    while (begun := _BEGINS.search(text, at)) is not None:
        at = begun.end()
        while True:
            if (part := _PART.match(text, at)) is None:
                return "?"
            at = part.end()
            if part["end"]:
                break
            if (word := part["word"]) is not None and word not in _HARMLESS:
                return word
            taken += word in _TAKES or part["field"] is not None
    return "many" if taken > MOST_TAKEN else None


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


def filled_in(file: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(place, text) of all that Swarm fills in of a deployable file itself, whose `$` are doubled."""
    for name, service in file["services"].items():
        where = f"services.{name}"
        for key, value in (service.get("environment") or {}).items():
            yield f"{where}.environment.{key}", f"{key}={value}".replace("$$", "$")
        yield f"{where}.hostname", str(service.get("hostname") or "").replace("$$", "$")
        for mount in service.get("volumes") or ():
            yield f"{where}.volumes", f"{mount.get('source', '')} {mount.get('target', '')}".replace("$$", "$")


def why(word: str) -> str:
    """What is wrong with it, for people."""
    match word:
        case "many":
            return f"has Swarm fill in more than {MOST_TAKEN} values (template:many)"
        case "?":
            return "has a template that cannot be read (template:?)"
    return f"has a template with {shown(word)}, by which it may become of any size (template:{word})"
