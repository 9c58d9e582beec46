"""Playing bad input for long: `python -m tests.fuzz.play --cases 100000 --seed 7`, or `make fuzz`.

It says how many cases of each target there were and how long they took, and each kind of crash with its smallest case.
"""

from __future__ import annotations

import argparse
import gc
import logging
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.targets import TARGETS, Target, own_errors_only

SOON = 1.0  #: seconds of a processor
LARGE = 65536  #: bytes, from which a case may take longer


def ask(one: Target, case: Any) -> float:
    """Ask one target about one case; seconds of a processor that it took.

    AssertionError when the answer takes too long; what is no error of the project's goes up.
    """
    logging.disable()
    gc.disable()  # what the cases before have left behind is not this one's
    began = time.process_time()
    try:
        with own_errors_only():
            one.asked(case)
    finally:
        took = time.process_time() - began
        gc.enable()
        logging.disable(logging.NOTSET)
    assert took < SOON or len(repr(case)) > LARGE, f"it took {took:.1f} s of a processor"
    return took


def main() -> int:
    """Play all targets, or those that are named; 1 when something broke."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="all, when none is named")
    options.add_argument("--cases", type=int, default=100_000, help="in all")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args()
    names = chosen.targets or list(TARGETS)
    began, broke, played = time.monotonic(), 0, 0
    for name in names:
        found, slowest, count = _play(TARGETS[name], max(1, chosen.cases // len(names)), chosen.seed)
        played += count
        broke += len(found)
        print(f"{name}: {count} cases, the slowest took {slowest:.2f} s of a processor", flush=True)
        for kind, (times, case) in found.items():
            print(f"  BROKE {times} times: {kind}\n    {case}", flush=True)
    took = f"{time.monotonic() - began:.0f} s ({time.process_time():.0f} s of a processor)"
    print(f"{played} cases with the seed {chosen.seed} in {took}; {broke} kinds of crash")
    return 1 if broke else 0


def _play(one: Target, cases: int, number: int) -> tuple[dict[str, tuple[int, str]], float, int]:
    """Kind of crash -> how often, and its shortest case; the slowest case in seconds; how many cases there were."""
    times: Counter[str] = Counter()
    shortest: dict[str, str] = {}
    slowest, count = 0.0, 0

    def play(case: Any) -> None:
        nonlocal slowest, count
        count += 1
        try:
            slowest = max(slowest, ask(one, case))
        except Exception as error:  # noqa: BLE001 - told below, each kind once
            kind = _kind(error)
            times[kind] += 1
            shortest[kind] = min(shortest.get(kind, repr(case)), repr(case), key=len)

    for case in one.broke:
        play(case)
    generated = settings(
        max_examples=cases, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    seed(number)(generated(given(one.made)(play)))()
    return {kind: (times[kind], case[:400]) for kind, case in shortest.items()}, slowest, count


def _kind(error: Exception) -> str:
    """The exception and the line of the project's in which it came up."""
    place, at = "?", error.__traceback__
    while at is not None:
        if "tests/fuzz/play" not in at.tb_frame.f_code.co_filename and "/site-packages/" not in at.tb_frame.f_code.co_filename:
            place = f"{at.tb_frame.f_code.co_filename.rpartition('/canonq/')[2]}:{at.tb_lineno}"
        at = at.tb_next
    said = f": {str(error)[:120]!r}" if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} at {place}{said}"


if __name__ == "__main__":
    raise SystemExit(main())
