"""What the log lines of long-lived processes carry: sweep, recipe, run and step as fields, and levels that mean something.

Progress is info, what a person has to look at is a warning, what went wrong is an error; Celery's own processes show canonq's
progress too, as its absence is what tells of a night that does nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from canonq.core.text import readable_lines

FIELDS = ("sweep", "recipe", "run", "step")
#: How lines begin in a process that is named.
FORMAT = "[%(asctime)s: %(levelname)s/{process}] %(about)s%(message)s"

_about: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039 - nobody changes it


@contextlib.contextmanager
def about(**fields: str | None) -> Iterator[None]:
    """What is logged in the block is about this sweep, recipe, run or step; None says nothing."""
    token = _about.set({**_about.get(), **{name: value for name, value in fields.items() if value}})
    try:
        yield
    finally:
        _about.reset(token)


def install() -> None:
    """Give every record of this process the fields, and let canonq's progress be shown. Calling twice changes nothing."""
    make = logging.getLogRecordFactory()
    if getattr(make, "of_canonq", False):
        return

    def made(*arguments: Any, **more: Any) -> logging.LogRecord:
        record, told = make(*arguments, **more), _about.get()
        for name in FIELDS:
            setattr(record, name, told.get(name, ""))
        if record.name == "canonq":  # it quotes what containers and forges say, and may go to a terminal
            record.msg, record.args = readable_lines(record.getMessage()), ()
        record.about = "".join(f"{name}={told[name]} " for name in FIELDS if name in told)
        return record

    made.of_canonq = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(made)
    logging.getLogger("canonq").setLevel(logging.INFO)


def to_standard_error(process: str) -> None:
    """Log to standard error, for a process that has no logging of Celery's."""
    install()
    logging.basicConfig(level=logging.WARNING, format=FORMAT.format(process=process))
