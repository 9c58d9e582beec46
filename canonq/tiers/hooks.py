"""Calls one function of a recipe's hooks.py, in a process that is there for this alone.

What came of it goes as JSON into a file: `returned`, or what it `raised` and where.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType

from canonq.adapters.engine import SwarmEngine
from canonq.adapters.processes.programs import begun
from canonq.core.enrolment import SHARED
from canonq.tiers.app import DeployedApp
from canonq.tiers.facts import read_facts

#: What a mistake in the code raises, and a busy host never does.
MISTAKES = (LookupError, NameError, AttributeError, TypeError, SyntaxError, ImportError, ArithmeticError)


def main(path: str, function: str, answer: str, *arguments: str) -> int:
    """Load the file and call the function with the app; the exit status."""
    folder = str(Path(path).parent)
    sys.path[:0] = [folder, str(Path(folder).parent / SHARED)]
    begun()
    said: dict[str, object]
    try:
        said = {"returned": _call(path, function, arguments)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a person's code raises is told with its place
        own = told_in(error, folder)
        sys.stderr.write("".join(traceback.format_exception(type(error), error, own)))
        said = {"raised": raised(error, folder), "certain": isinstance(error, MISTAKES)}
    Path(answer).write_text(json.dumps(said, default=str))
    return 0 if "returned" in said else 1


def _call(path: str, function: str, arguments: tuple[str, ...]) -> object:
    spec = importlib.util.spec_from_file_location("hooks", path)
    assert spec is not None and spec.loader is not None  # a path that ends in .py
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    app = DeployedApp(read_facts(), SwarmEngine())
    try:
        return getattr(module, function)(app, *arguments)
    finally:
        app.close()


def told_in(error: BaseException, folder: str) -> TracebackType | None:
    """The traceback from the first frame of the person's own code on: canonq's and Python's before it say nothing."""
    found = error.__traceback__
    while found is not None and not found.tb_frame.f_code.co_filename.startswith(folder + os.sep):
        found = found.tb_next
    return found


def raised(error: BaseException, folder: str) -> str:
    """In one line: the last place in the person's own code, and what was raised there."""
    what = " ".join("".join(traceback.format_exception_only(type(error), error)).split())
    if isinstance(error, SyntaxError):
        return what
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder + os.sep)]
    return f"{os.path.relpath(own[-1].filename, folder)}:{own[-1].lineno}, {own[-1].name}: {what}" if own else what
