"""The catalogue of recipes, from a file or over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from canonq.adapters.network.http import Session, read_within, why, within
from canonq.core.errors import HostProblem, WrongConfiguration
from canonq.core.upstream.addresses import masked

_LARGEST = 64 << 20  #: bytes
_TIMEOUT = 30.0  #: seconds without a word
_TOTAL = 120.0  #: seconds


def read_catalogue(where: str) -> bytes:
    """The text of a `recipes.json` at a path or URL. WrongConfiguration or HostProblem when there is none."""
    if urlsplit(where).scheme not in ("http", "https"):
        try:
            return Path(where).read_bytes()
        except (OSError, ValueError) as error:
            raise WrongConfiguration(
                f"The catalogue {where} cannot be read: {getattr(error, 'strerror', None) or error}.",
                mend="correct `catalogue`, or give --upstream.",
                code="catalogue-unusable",
            ) from error
    try:
        ends = time.monotonic() + _TOTAL
        with Session() as session, within(session, ends), session.get(where, timeout=_TIMEOUT, stream=True) as answer:
            answer.raise_for_status()
            return read_within(answer, ends=ends, largest=_LARGEST)
    except requests.RequestException as error:
        raise HostProblem(
            f"The catalogue {masked(where)} could not be read: {masked(why(error))}.",
            mend="look at the network, name a file with --catalogue, or give --upstream.",
            code="catalogue-unreachable",
        ) from error
