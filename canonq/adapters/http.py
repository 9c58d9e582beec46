"""Reading what another host answers over HTTP, within limits: the library's own timeout is for each read only."""

from __future__ import annotations

import time

import requests


def read_within(answer: requests.Response, *, ends: float, largest: int) -> bytes:
    """The whole body of a streamed answer. requests.Timeout when it is longer than `largest` bytes or comes after `ends`.

    `ends`: a value of time.monotonic().
    """
    read = bytearray()
    for chunk in answer.iter_content(1 << 16):
        read += chunk
        if len(read) > largest or time.monotonic() > ends:
            raise requests.Timeout("its answer has no end")
    return bytes(read)
