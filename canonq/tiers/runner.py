"""The process in which the code of an enrolment and canonq's own proofs run; see `canonq.adapters.processes.preloaded`.

It has imported pytest and all that tests and hooks need before there is anything to do.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

import pytest

from canonq.adapters.processes.preloaded import serve
from canonq.tiers import hooks, plugin
from canonq.tiers.facts import BROKE, HOOK, TIER, VARIABLE
from canonq.tiers.hanging import tell_where_it_hangs


def run_pytest(facts: str, arguments: Sequence[str], plugins: bool, limit: float) -> int:
    """One tier: pytest's exit status, or BROKE where it is pytest itself that cannot go on.

    `facts` names the file of the tier's facts; `plugins`: whether pytest loads those that happen to be installed; `limit`:
    seconds until it is killed.
    """
    os.environ[VARIABLE] = facts
    if not plugins:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    plugin.ends_after(limit)
    try:
        return int(pytest.main(list(arguments), plugins=[plugin]))
    except Exception:  # noqa: BLE001 - its own, or of what it stands on: what tests raise it keeps to itself
        traceback.print_exc()
        return BROKE


def call_hook(facts: str, answer: str, path: str, function: str, arguments: Sequence[str], limit: float) -> int:
    """One function of a hooks.py: 0 when it returned; what it returned, or raised, is in the file `answer`. `limit` as above."""
    os.environ[VARIABLE] = facts
    tell_where_it_hangs(limit)
    return hooks.main(path, function, answer, *arguments)


def prepare() -> None:
    """Have pytest import what it imports when it begins: most of its own plugins, in which each fork would go on for longer than
    in the tests of a tier. The environment's plugins are none of that.
    """
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    pytest.main(["--markers", "--noconftest", "-c", os.devnull, "-p", "no:cacheprovider", "-p", "no:faulthandler"])
    del os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"]


CALLS: Mapping[str, Callable[..., int]] = {TIER: run_pytest, HOOK: call_hook}

if __name__ == "__main__":
    prepare()
    sys.exit(serve(CALLS))
