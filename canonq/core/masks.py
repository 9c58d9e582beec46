"""Secrets' values taken out of texts: whatever is kept, shown or sent goes through here. Pure.

A value is found as it is, and in the forms in which programs write it: in JSON, in XML, in an address, in base64, and as a
shell quotes it when it shows its commands. Of a value of several lines each longer line is found by itself.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

_SHORTEST = 4  #: characters; what is shorter stands in every other text too
_SHORTEST_LINE = 16  #: characters of a line of a longer value
_SHORTEST_CODED = 8  #: characters of a value whose base64 is looked for
_ARMOUR = "-----"  #: begins the lines of a key that are the same in all of them


#: As HTML and XML are written: by Python, Go and Jinja, PHP, and what leaves apostrophes alone.
_ENTITIES: tuple[dict[str, str], ...] = (
    {}, {'"': "&quot;"}, {'"': "&quot;", "'": "&#x27;"}, {'"': "&quot;", "'": "&apos;"}, {'"': "&#34;", "'": "&#39;"},
    {'"': "&quot;", "'": "&#39;"}, {'"': "&quot;", "'": "&#039;"},
)  # fmt: skip
#: Go writes JSON so, that it may stand in HTML.
_SAFE_IN_HTML = str.maketrans({one: f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"})
_CODED = re.compile("%[0-9A-F]{2}")
_TOLD_IN = ("what", "mend", "strerror", "filename")  #: what errors say, beside their arguments


class Masks:
    """What must not be said, and the names that stand in its place."""

    def __init__(self, named: Iterable[tuple[str, str]] = ()) -> None:
        self._names = {form: name for name, value in named if len(value) >= _SHORTEST for form in _forms(value)}
        self._sorted = sorted(self._names)
        self._within = list(_within(self._sorted))
        self._longest = max(map(len, self._sorted), default=0)
        self._begins = _beginnings(self._sorted)

    def text(self, text: str) -> str:
        """`text` with the name of each value in its place."""
        # In one go: a name that was put in may hold another value. Not by one pattern of all forms, which tries each of them
        # at each place: an env may have thousands of values.
        pieces, done, at = list[str](), 0, 0
        while (found := self._begins.search(text, at)) is not None:
            at = found.start()
            if (form := self._longest_in(text[at : at + self._longest])) is None:
                at += 1
            else:
                pieces += (text[done:at], f"***{self._names[form]}***")
                done = at = at + len(form)
        return "".join((*pieces, text[done:])) if pieces else text

    def _longest_in(self, text: str) -> str | None:
        """The longest form that a text begins with."""
        place = bisect.bisect_right(self._sorted, text) - 1
        while place >= 0 and not text.startswith(self._sorted[place]):
            place = self._within[place]
        return self._sorted[place] if place >= 0 else None

    def texts(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The same of several."""
        return tuple(map(self.text, texts))

    def error(self, error: BaseException) -> None:
        """Mask an error where it stands, and whatever it came of: all that is said of it later is masked then."""
        seen: set[int] = set()
        waiting: list[BaseException | None] = [error]
        while waiting:
            if (one := waiting.pop()) is None or id(one) in seen:
                continue
            seen.add(id(one))
            one.args = tuple(self.text(said) if isinstance(said, str) else said for said in one.args)
            for name in _TOLD_IN:
                if isinstance(said := getattr(one, name, None), str):
                    setattr(one, name, self.text(said))
            waiting += [one.__cause__, one.__context__]


def _within(forms: Iterable[str]) -> Iterator[int]:
    """Of each of some texts in their order the place of the longest other one that it begins with; -1 where there is none."""
    around: list[tuple[int, str]] = []
    for place, form in enumerate(forms):
        while around and not form.startswith(around[-1][1]):
            around.pop()
        yield around[-1][0] if around else -1
        around.append((place, form))


def _beginnings(forms: Iterable[str]) -> re.Pattern[str]:
    """What finds the places where one of some texts may begin, by their first characters."""
    tree: dict[str, Any] = {}
    for form in forms:
        within = tree
        for letter in form[:_SHORTEST]:
            within = within.setdefault(letter, {})

    def written(within: dict[str, Any]) -> str:
        each = [re.escape(letter) + written(more) for letter, more in within.items()]
        return each[0] if len(each) == 1 else f"(?:{'|'.join(each)})" if each else ""

    return re.compile(written(tree) or "(?!)")


def _forms(value: str) -> Iterator[str]:
    yield from _written(value)
    lines = [line.strip() for line in re.split(r"[\r\n]+", value)]
    if len(lines) > 1:
        for line in lines:
            if len(line) >= _SHORTEST_LINE and not line.startswith(_ARMOUR):
                yield from _written(line)


def _written(value: str) -> Iterator[str]:
    raw = value.encode(errors="surrogateescape")
    yield value
    for plain in (True, False):
        once = json.dumps(value, ensure_ascii=plain)[1:-1]
        for form in (once, once.replace("/", "\\/"), once.translate(_SAFE_IN_HTML)):
            yield form
            yield json.dumps(form, ensure_ascii=plain)[1:-1]  # a log of JSON that quotes JSON
    yield repr(value)[1:-1]
    for quotes in _ENTITIES:
        yield escape(value, quotes)
    for form in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield form
        yield _CODED.sub(lambda found: found[0].lower(), form)
    yield value.replace("'", "'\\''")
    for mark in ("'", '"'):  # SQL, YAML, CSV
        yield value.replace(mark, mark * 2)
    if len(raw) >= _SHORTEST_CODED:
        yield raw.hex()
        yield from _coded(raw)


def _coded(raw: bytes) -> Iterator[str]:
    """The characters of its base64 that are the same whatever stands before it, as in `user:password`, and after it."""
    for before, own in enumerate((0, 2, 3)):
        whole = (before + len(raw)) // 3 * 4
        for code in (base64.b64encode, base64.urlsafe_b64encode):
            yield code(bytes(before) + raw).decode()[own:whole]
