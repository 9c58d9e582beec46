"""Filling variables in, within a limit: what is filled in may be longer than what it stands in, and stand there often. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable


class TooLong(ValueError):
    """A text would grow beyond its limit."""


def fill(pattern: re.Pattern[str], text: str, piece: Callable[[re.Match[str]], str], most: int) -> str:
    """`pattern.sub(piece, text)`, which gives up as soon as more than `most` characters have come together."""
    pieces: list[str] = []
    at = taken = 0
    for found in pattern.finditer(text):
        between, new = text[at : found.start()], piece(found)
        taken += len(between) + len(new)
        if taken > most:
            raise TooLong
        pieces += (between, new)
        at = found.end()
    if taken + len(text) - at > most:
        raise TooLong
    return "".join((*pieces, text[at:]))
