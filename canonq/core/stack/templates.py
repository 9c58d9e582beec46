"""What a ref may say where Swarm fills texts in: environments, host names, mounts, and files with a `template_driver`. Pure.

The Engine itself does that, as root and without any limit: a text that pads, repeats or doubles itself takes the host's memory
before a container has begun. So what is known to grow by no more than what it names passes, and that often only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from canonq.core.text import shown

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
