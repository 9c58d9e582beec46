"""Random sequences, until one breaks something or the time is over; what breaks is shrunk to a few lines.

`make search` (SECONDS=3600 SEED=1 MOVES=60), and `python -m tests.search.search --replay FILE` for the lines it printed.
"""

from __future__ import annotations

import argparse
import logging
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import redis

from canonq.adapters.redis_server import embedded_redis
from canonq.adapters.state.locks import redis_client
from tests import memory
from tests.search.house import ENROLMENTS, MOST_KEPT, Broken, House
from tests.search.moves import ACTS, EVENTS, THEMES, Move, is_met, play

LONGEST = 60  #: moves in a sequence
_TOLD_EVERY = 20  #: sequences
#: How often each move is made, beside the others.
WEIGHTS = {
    "promote": 7, "prove": 3, "prove+promote": 3, "release": 5, "release+prove": 4, "night": 4, "rollback": 4, "deliver": 8,
    "sweep": 2, "janitor": 2,
    "approve": 4, "block": 2, "demand": 3, "enrol": 3, "move_tag": 2, "accept": 3, "move": 2, "look_at": 2, "ref": 2,
}  # fmt: skip
_DRAWN = {"clock": 1000, "enrol": len(ENROLMENTS), "set_keep": MOST_KEPT}  #: how many numbers a move has; of others these are few


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    sequences: int
    moves: int
    seconds: float
    seed: int | None = None  #: of the sequence that broke something
    broken: str = ""
    shrunk: tuple[Move, ...] = ()

    def __str__(self) -> str:
        said = f"{self.sequences} sequences, {self.moves} moves in {self.seconds:.0f} s"
        if not self.broken:
            return f"{said}: nothing was found."
        lines = "\n".join(str(move) for move in self.shrunk)
        return f"{said}; seed {self.seed} broke this:\n{self.broken}\nThe shortest way there:\n{lines}"


class Search:
    """Plays sequences on a Redis of its own, each in an empty folder."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._redis: redis.Redis = redis_client(url)
        self._folder = folder

    def broken_by(self, moves: Sequence[Move]) -> str | None:
        """Play; what broke, or None."""
        self._redis.flushall()
        with tempfile.TemporaryDirectory(dir=self._folder) as root:
            try:
                play(House(Path(root), self._redis, self._url).prepare(), list(moves))
            except Broken as error:
                return str(error)
        return None

    def run(
        self,
        seed: int,
        *,
        seconds: float,
        most: int = 10**9,
        moves: int = LONGEST,
        shrink_seconds: float = 60.0,
        only: Sequence[str] = (),
        tell: Callable[[int, int], None] = lambda played, seed: None,
    ) -> Found:
        """Play sequences of seed, seed + 1, ... until one breaks something. `only`: the moves they are made of; `tell` is called
        with how many were played, and the next seed."""
        began, played = time.monotonic(), 0
        for number in range(most):
            if time.monotonic() - began > seconds:
                break
            tell(number, seed + number)
            sequence = make(seed + number, moves, only)
            played += len(sequence)
            if broken := self.broken_by(sequence):
                took = time.monotonic() - began
                shrunk = shrink(sequence, rule(broken), self.broken_by, time.monotonic() + shrink_seconds)
                return Found(number + 1, played, took, seed + number, self.broken_by(shrunk) or broken, tuple(shrunk))
        else:
            number = most
        return Found(number, played, time.monotonic() - began)


def make(seed: int, moves: int = LONGEST, only: Sequence[str] = ()) -> list[Move]:
    """The sequence of a seed."""
    dice = random.Random(seed)
    names = only or [*ACTS, *EVENTS, *(name for theme in THEMES.values() if dice.random() < 0.4 for name in theme)]
    weights = [WEIGHTS.get(name, 1) for name in names]
    made: list[Move] = []
    for _ in range(moves):
        name = dice.choices(names, weights)[0]
        move = Move(name, dice.randrange(_DRAWN.get(name, 4)))
        if not only and (met := is_met(dice, name)) is not None:
            way, at, other = met
            move = replace(move, way=way, at=at, other=other)
        made.append(move)
    return made


def rule(broken: str) -> str:
    """Which rule was broken, whatever the names in it."""
    return broken.partition(":")[0]


def shrink(moves: Sequence[Move], wanted: str, broken_by: Callable[[list[Move]], str | None], ends: float) -> list[Move]:
    """The fewest and plainest moves that break the same rule, as far as there is time."""

    def still(candidate: list[Move]) -> bool:
        return time.monotonic() < ends and rule(broken_by(candidate) or "") == wanted

    best, size = list(moves), max(1, len(moves) // 2)
    while size:
        place, before = 0, len(best)
        while place < len(best):
            candidate = best[:place] + best[place + size :]
            if still(candidate):
                best = candidate
            else:
                place += size
        size = size if size == 1 and len(best) < before else size // 2
    for one in range(len(best) - 1, -1, -1):  # two that undo each other go together
        for other in range(one - 1, -1, -1):
            candidate = [move for place, move in enumerate(best) if place not in (one, other)]
            if len(best) == len(candidate) + 2 and best[one].act == best[other].act and still(candidate):
                best = candidate
                break
    for place, move in enumerate(best):
        for plainer in (Move(move.act), Move(move.act, move.number), replace(move, number=0), replace(move, at=1)):
            candidate = [*best[:place], plainer, *best[place + 1 :]]
            if plainer != move and still(candidate):
                best = candidate
                break
    return best


def main() -> None:
    """Search or replay, as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.search.search", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--sequences", type=int, default=10**9)
    parser.add_argument("--moves", type=int, default=LONGEST)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--replay", type=Path, help="a file with one move in each line")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with embedded_redis() as url, tempfile.TemporaryDirectory(dir=memory.place()) as folder:
        search = Search(url, Path(folder))
        if given.replay:
            broken = search.broken_by([Move.read(line) for line in given.replay.read_text().splitlines() if line.strip()])
            print(broken or "Nothing was broken.")  # noqa: T201
            sys.exit(1 if broken else 0)
        seed = secrets.randbelow(10**9) if given.seed is None else given.seed
        print(f"Searching from seed {seed} on.", flush=True)  # noqa: T201
        found = search.run(seed, seconds=given.seconds, most=given.sequences, moves=given.moves, shrink_seconds=300, tell=_told)
        print(found)  # noqa: T201
        sys.exit(1 if found.broken else 0)


def _told(played: int, seed: int) -> None:
    """Say now and then how far it is: who watches may want to know, and one that is ended loses nothing."""
    if played and played % _TOLD_EVERY == 0:
        print(f"{played} sequences; the next seed is {seed}.", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
