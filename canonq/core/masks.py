"""Secrets' values taken out of texts: whatever is kept, shown or sent goes through here. Pure.

A value is found as it is, and in the forms in which programs write it: in JSON, in XML, in an address, in base64, and as a
shell quotes it when it shows its commands. Of a value of several lines each longer line is found by itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
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
        longest_first = sorted(self._names, key=lambda form: (-len(form), form))
        # In one go: a name that was put in may hold another value.
        self._any = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str) -> str:
        """`text` with the name of each value in its place."""
        return self._any.sub(lambda found: f"***{self._names[found[0]]}***", text) if self._any else text

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
