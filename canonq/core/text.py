"""Other people's words, fit to be shown: as they are written, but for what acts on a terminal or turns the line round."""

from __future__ import annotations

import difflib
import itertools
import re
import unicodedata
from collections.abc import Iterable

#: Characters that say in which direction what follows is read: with them, a text shows something else than it says.
_DIRECTION = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
#: Of these, what JSON does not escape.
_UNESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff" + "".join(sorted(_DIRECTION)) + "]")
#: Of what is compared with a word that is none: other people write both.
_MOST_WORDS, _LONGEST_WORD = 1000, 100
#: Control characters, ends of lines and of paragraphs, and halves of characters, which no output takes.
_ACTING = ("Cc", "Zl", "Zp", "Cs")


def readable(text: str) -> str:
    """A text as it is written, on one line; only control and direction characters are escaped."""
    return "".join(_escaped(one) if one in _DIRECTION or unicodedata.category(one) in _ACTING else one for one in text)


def escaped(json: str) -> str:
    """A text of JSON with the same escaped that `readable` escapes, as JSON does it: it leaves most of them as they are."""
    return _UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def readable_lines(text: str) -> str:
    """The same of a text of several lines, which stay so."""
    return "\n".join(map(readable, text.split("\n")))


def kept_text(typed: str) -> str:
    """What was typed or stands in the environment, as text that every record takes: what is not UTF-8 of it is escaped."""
    return typed.encode(errors="backslashreplace").decode()


def shown(text: object, limit: int = 60) -> str:
    """Quote other people's words for a message: readable, and cut."""
    said = readable(text if isinstance(text, str) else repr(text))
    if isinstance(text, str):
        mark = '"' if "'" in said and '"' not in said else "'"
        said = f"{mark}{said}{mark}"
    return said if len(said) <= limit else said[: limit - 3] + "..."


def whole_number(said: object, most: int) -> int | None:
    """The number that a text of others is, from 0 to `most`; None for all else, however many digits, and of whatever script."""
    digits = str(said)
    if not (digits.isascii() and digits.isdecimal()):
        return None
    digits = digits.lstrip("0") or "0"
    number = int(digits) if len(digits) <= len(str(most)) else most + 1
    return number if number <= most else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a sentence about a word that is none: the nearest right one, where there is a near one."""
    known = [str(one) for one in itertools.islice(words, _MOST_WORDS)]
    near = difflib.get_close_matches(word[:_LONGEST_WORD], [one for one in known if len(one) <= _LONGEST_WORD], n=1, cutoff=0.7)
    return f"; did you mean {shown(near[0])}?" if near else ""


def unmerged(text: str) -> str:
    """A clause for a text that was committed in the middle of a merge, with the line of git's first mark; nothing for others."""
    marks = [(number, line[:8]) for number, line in enumerate(text.split("\n"), 1) if line.startswith(("<<<<<<< ", ">>>>>>> "))]
    return f"; a merge was not finished in it: line {marks[0][0]} begins with '{marks[0][1].strip()}'" if marks else ""


def ended(sentence: str) -> str:
    """A sentence with the one mark that ends it."""
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def beginning(text: str, limit: int) -> str:
    """At most `limit` characters of a text from its beginning, in whole words: half a secret would not be known for one."""
    if len(text) <= limit:
        return text
    whole = re.match(r".*(?=\s)", text[:limit], re.S) or re.match(r".*[^\w+/=.~-]", text[:limit], re.S)
    return f"{whole[0].rstrip()} ..." if whole else "..."


def ending(text: str, limit: int) -> str:
    """At most `limit` characters of a text up to its end, in whole words."""
    if len(text) <= limit:
        return text
    whole = re.search(r"\s(.*)", text[-limit:], re.S) or re.search(r"[^\w+/=.~-](.*)", text[-limit:], re.S)
    return f"... {whole[1].lstrip()}" if whole else "..."


def _escaped(one: str) -> str:
    return one.encode("unicode_escape", "surrogatepass").decode("ascii")
