"""Proofs that say one thing and then another of the very same release: red and green on one commit. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from canonq.core.ladder import PROVEN_TIERS, TierName
from canonq.core.records import Verdict

_TEST = re.compile(r"((?:[\w./-]+::)*(?:Test\w+[.:]+)?test\w*(?:\[[^\]]*\])?):\s")


class Flake(BaseModel):
    """A tier that was red and green on one commit: its test, the app or the host is not to be relied on."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    tier: TierName
    version: str | None
    commit: str
    tests: tuple[str, ...]  #: what failed, as far as the runs name it
    red: tuple[str, ...]  #: runs
    green: tuple[str, ...]


def flakes(verdicts: Iterable[Verdict]) -> tuple[Flake, ...]:
    """All that kept runs show, in their order. A run that a loaded host spoilt counts too: that it was red is what is told."""
    alike: dict[tuple[str, str], list[Verdict]] = {}
    for one in verdicts:
        if one.commit is not None and one.ref is None and not one.quick:
            alike.setdefault((one.commit, one.enrolment), []).append(one)
    found = []
    for (commit, _), runs in alike.items():
        for tier in PROVEN_TIERS:
            results = [(run, run.tiers[tier]) for run in runs if tier in run.tiers]
            red = [(run.run, result.reason) for run, result in results if result.status == "fail"]
            green = tuple(run.run for run, result in results if result.status == "pass")
            if red and green:
                tests = dict.fromkeys(name for _, reason in red if (name := _test_in(reason)))
                flake = Flake(
                    tier=tier,
                    version=runs[-1].version,
                    commit=commit,
                    tests=tuple(tests),
                    red=tuple(run for run, _ in red),
                    green=green,
                )
                found.append(flake)
    return tuple(found)


def _test_in(reason: str) -> str:
    """The test that a tier's reason begins with; empty where it names none."""
    found = _TEST.match(reason)
    return found[1] if found else ""


def told(flake: Flake) -> str:
    """It as a sentence."""
    what = ", ".join(flake.tests) or f"the tier {flake.tier}"
    return (
        f"flake: {what} was red {len(flake.red)} time(s) and green {len(flake.green)} time(s) on the very same {flake.version}; "
        f"the last red is run {flake.red[-1]}"
    )
