"""Reading what another host answers over HTTP, within limits: the library's own timeout is for each read only."""

from __future__ import annotations

import math
import time
from email.utils import parsedate_to_datetime

from canonq.adapters.lazily import requests


def read_within(answer: requests.Response, *, ends: float, largest: int) -> bytes:
    """The whole body of a streamed answer. requests.Timeout when it is longer than `largest` bytes or comes after `ends`.

    `ends`: a value of time.monotonic().
    """
    read = bytearray()
    for chunk in answer.iter_content(1 << 16):
        read += chunk
        if len(read) > largest or time.monotonic() > ends:
            raise requests.Timeout("its answer was too large or took too long")
    return bytes(read)


def retry_after(answer: requests.Response) -> float:
    """Seconds by `Retry-After`, a count or a date; between two clocks that differ, a date may say anything."""
    said = answer.headers.get("Retry-After", "")
    try:
        wait = float(said)
    except ValueError:
        try:
            wait = parsedate_to_datetime(said).timestamp() - time.time()
        except (TypeError, ValueError):
            return 0.0
    return 0.0 if math.isnan(wait) else max(wait, 0.0)
