"""The tiers' own tests, and a recipe's, on an Engine of files: in this process, in milliseconds, where runs have one for each."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from canonq.core.ladder import TierName, TierResult
from canonq.core.masks import Masks
from canonq.core.stack.access import Process
from canonq.flows.promoting import warming
from canonq.flows.proving import access, inplace, marking, staying
from canonq.ports import Engine
from canonq.tiers.app import DeployedApp
from canonq.tiers.facts import VARIABLE, TierFacts, write_facts

_SHOWN = "\nassert "  #: what pytest shows of an assertion, below what the test says


def on(engine: Engine, patched: pytest.MonkeyPatch) -> None:
    """Have the tests of every tier of a run done here, on this Engine, whose containers all are this process.

    It tells of deaths at once.
    """

    def generic(tier: TierName, facts: TierFacts, folder: Path, deadline: float, masks: Masks) -> TierResult:
        del deadline, masks
        return _run(engine, facts, folder / tier, [importlib.import_module(f"canonq.tiers.test_{tier}")])

    def own(facts: TierFacts, folder: Path, files: list[Path], limit: float, deadline: float, masks: Masks) -> TierResult:
        del limit, deadline, masks
        return _run(engine, facts, folder / "functional", [_loaded(path) for path in files])

    patched.setattr(marking, "run_generic", generic)
    patched.setattr(inplace, "run_own", own)
    patched.setattr(warming, "run_own", own)
    patched.setattr(access, "processes_below", lambda _: [Process(os.geteuid(), frozenset(os.getgroups()), True, began=0.0)])
    patched.setattr(staying, "_NOTICED", 0.0)


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(engine: Engine, facts: TierFacts, kept: Path, modules: list[ModuleType]) -> TierResult:
    kept.mkdir(parents=True, exist_ok=True)
    write_facts(kept / "facts.json", facts)
    began, problems, names = time.monotonic(), [], []
    app = DeployedApp(facts, engine)
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(os.environ, VARIABLE, str(kept / "facts.json"))
        for module in modules:
            for name, call in _calls(module, app):
                names.append(name)
                try:
                    call()
                except AssertionError as error:
                    problems.append(f"{name}: {str(error).partition(_SHOWN)[0]}")
    status = "fail" if problems or not names else "pass"
    reason = "; ".join(problems) if names else "no test was collected"
    return TierResult(status=status, reason=reason, seconds=round(time.monotonic() - began, 3), tests=tuple(names))


def _calls(module: ModuleType, app: DeployedApp) -> Iterator[tuple[str, Callable[[], object]]]:
    for name, test in vars(module).items():
        if not name.startswith("test_"):
            continue
        wants = inspect.signature(test).parameters
        given: dict[str, Any] = {"app": app}
        if "looks" in wants:
            given["looks"] = [app.look()]
        for rule in sorted(app.facts.lint) if "rule" in wants else [""]:
            chosen = {**given, "rule": rule}
            yield name, functools.partial(test, **{want: chosen[want] for want in wants})
