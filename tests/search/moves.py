"""Playing a sequence of moves in a house, each alone or met by something: a kill, a full disk, another process."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import random
import select
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from canonq.core.errors import CanonqError
from tests.faults.scenario import Faults, breaking, version
from tests.search.house import Broken, House, Message
from tests.search.stage import staged

#: Moves of people and workers: those that a kill, a fault or another process may meet.
ACTS = (
    "prove", "promote", "prove+promote", "again", "rollback", "restore", "janitor", "sweep", "deliver", "upkeep", "stop",
    "quick", "night",
)  # fmt: skip
#: What the world does. None of it is damage that canonq may not be able to mend.
EVENTS = ("release", "release+prove", "call", "double", "lose", "redden", "clock", "move_state", "lose_fence", "lose_locks")
#: What only some sequences are about, so that each is about few things, and those meet each other often.
THEMES = {
    "harm": ("lose_record", "spoil_record", "old_record", "spoil_kept", "lose_volume"),
    "words": ("block", "approve", "hurry", "demand", "enrol"),
    "tags": ("move_tag", "accept"),
    "looking": ("look_at", "ref", "redden"),
    "keep": ("set_keep", "set_keep"),
    "beside": ("meet", "meet", "part", "neighbour_on", "neighbour_back", "neighbour_on"),
    "hosts": ("second", "second", "move", "move", "go_over", "drain", "upkeep", "deliver", "deliver"),
}
#: Acts among them.
_MORE_ACTS = ("look_at", "ref", "move", "neighbour_on", "neighbour_back")
#: How an act is met: killed, its disk full once or from then on, its Docker gone, the clock set, another act in the middle of it
#: or all the time beside it.
WAYS = ("killed", "disk-full", "disk-stays-full", "docker-away", "clock-jumps", "beside", "race")
#: What may come into the middle of an act; two with `+` one after the other.
INTRUSIONS = (
    *ACTS,
    *_MORE_ACTS[-2:],
    "lose",
    "lose_locks",
    "lose_fence",
    *(f"lose_locks+{act}" for act in ("promote", "rollback", "janitor")),
)
#: What changes the canonical while somebody is at it.
_RIVALS = ("promote", "prove+promote", "rollback", "again", "night")
#: Points that an act passes, about; what it asks before it holds the recipe, it asks before the first few.
_FARTHEST, _FIRST = 220, 2

#: Seconds that an act of another process may take, and between two looks at whether it waits for a file lock of ours.
_WAITS_AT_MOST, _LOOK_EVERY = 60.0, 0.05
_JUMP = 400 * 24 * 3600  #: seconds


@dataclass(frozen=True)
class Move:
    """One line of a sequence: `rollback 1`, `promote 0 killed 37`, `promote 0 beside 12 rollback 0`."""

    act: str
    number: int = 0
    way: str = ""
    at: int = 0
    other: str = ""

    def __str__(self) -> str:
        said = f"{self.act} {self.number}"
        return f"{said} {self.way} {self.at} {self.other}".strip() if self.way else said

    @classmethod
    def read(cls, line: str) -> Move:
        """The move that a line says."""
        act, number, way, at, other = [*line.split(), *[""] * 5][:5]
        return cls(act, int(number or 0), way, int(at or 0), other)


def is_met(dice: random.Random, act: str) -> tuple[str, int, str] | None:
    """By what an act is met, and at which point; None: by nothing."""
    rivals = act in ("promote", "prove+promote", "rollback")
    if act not in (*ACTS, *_MORE_ACTS) or dice.random() >= (0.4 if rivals else 0.3):
        return None
    way = dice.choice((*WAYS, "beside", "beside", "race") if rivals else WAYS)
    if way in ("beside", "race"):
        others = _RIVALS if rivals and dice.random() < 0.7 else INTRUSIONS if way == "beside" else ACTS
        early = dice.random() < (0.7 if rivals else 0.3)
        return way, 1 + int(dice.random() ** (1 if early else 2) * (_FIRST if early else _FARTHEST)), dice.choice(others)
    return way, 1 + int(dice.random() ** 2 * (_FARTHEST if way == "killed" else 60)), ""


def play(house: House, moves: list[Move]) -> None:
    """Play a sequence to its end. Broken says what did not hold, and after which move."""
    with staged(house):
        for number, move in enumerate(moves, 1):
            house.offset += 60  # so that ids sort in the order in which they were made
            house.broken_into = bool(move.way)
            acts = {*move.act.split("+"), *move.other.split("+")}
            house.named_beside = move.way in ("beside", "race") and "prove" in acts
            if "neighbour_on" in acts and house.neighbours:
                house.neighbour_held.discard(version(house.neighbours))
            if acts & {"prove", "look_at", "call"} or ("sweep" in acts and move.number % 3 == 1):
                house.held.discard(house.newest_exactly)  # also where it is done by a process of its own
            _do(house, move)
            house.broken_into = False
            house.check(f"move {number}, {move}")
        house.check_end()


def _do(house: House, move: Move) -> None:
    act = functools.partial(_tried, house, move.act, move.number)
    match move.way:
        case "":
            act()
        case "killed":
            _apart(house, [act], Faults("kill", move.at))
        case "disk-full" | "docker-away":
            with breaking(Faults(cast(Any, move.way), move.at), cast(Any, move.way)):
                act()
        case "disk-stays-full":
            with breaking(cast(Any, _Full(move.at)), "disk-full"):
                act()
        case "clock-jumps":
            with breaking(cast(Any, _Once(move.at, functools.partial(_jump, house, move.at))), "docker-away"):
                act()
        case "beside":
            other = functools.partial(_tried, house, move.other, move.number)
            with breaking(cast(Any, _Once(move.at, lambda: _apart(house, [other], None))), "kill"):
                act()
        case "race":
            _apart(house, [act, functools.partial(_tried, house, move.other, move.number)], None)
        case _:
            raise ValueError(f"{move} is no move")


def _jump(house: House, at: int) -> None:
    house.offset += _JUMP if at % 2 else -_JUMP


def _tried(house: House, acts: str, number: int) -> None:
    """An error that is told is an answer; anything else is a fault."""
    for act in acts.split("+"):
        try:
            call = getattr(house, act)
            call(number) if call.__func__.__code__.co_argcount > 1 else call()
        except (CanonqError, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.ENOSPC:
                raise Broken(f"5.7 errors are told: {act}: {type(error).__name__}: {error}") from error
        except Broken:
            raise
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise Broken(f"5.7 errors are told: {act}: {type(error).__name__}: {error} ({where.name})") from error


class _Once:
    """At one point of an act something else happens, to its end."""

    def __init__(self, at: int, happens: Callable[[], None]) -> None:
        self._left, self._happens = at, happens

    def __call__(self, name: str) -> None:
        del name
        self._left -= 1
        if self._left == 0:
            self._happens()


class _Full:
    """From one point of an act on the disk is full: nothing new can be written, and what is there can still be removed."""

    def __init__(self, at: int) -> None:
        self._left = at

    def __call__(self, name: str) -> None:
        self._left -= 1
        if self._left <= 0 and not name.startswith(("before unlink", "before rmdir", "before rename")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _end_of(child: int) -> int:
    """Wait for a child's end; its status. One that waits for a lock which we hold, in the middle of an act, is killed there."""
    handle, ends = os.pidfd_open(child), time.monotonic() + _WAITS_AT_MOST
    try:
        while not select.select([handle], [], [], _LOOK_EVERY)[0]:
            if _waits_for_us(child) or time.monotonic() > ends:
                os.kill(child, signal.SIGKILL)
                break
    finally:
        os.close(handle)
    return os.waitpid(child, 0)[1]


def _waits_for_us(child: int) -> bool:
    """Whether a file lock that a child waits for is one that this process has taken, as Linux tells it (proc(5))."""
    taken, wanted = set(), set()
    for line in Path("/proc/locks").read_text().splitlines():
        number, *words = line.split()
        if words[0] == "->" and words[4] == str(child):
            wanted.add(number)
        elif words[3] == str(os.getpid()):
            taken.add(number)
    return bool(taken & wanted)


def _apart(house: House, acts: Sequence[Callable[[], None]], faults: Faults | None) -> None:
    """Do each in a process of its own, all at the same time; one may be killed. What they queued comes back unless it was."""
    began = list(house.queue)
    children = {}
    for number, act in enumerate(acts):
        told = house.root / f"told-{number}.json"
        told.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            os._exit(_in_child(house, act, faults, told.open("w")))
        children[child] = told
    found = []
    for child, told in children.items():
        ended = _end_of(child)
        if not (os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL):
            found.append(json.loads(told.read_text()))
    if broken := next((one["broken"] for one in found if one["broken"]), None):
        raise Broken(broken)
    queues = [[Message(**message) for message in one["queue"]] for one in found]
    taken = [message for message in began if any(message not in queue for queue in queues)]
    house.queue[:] = [message for message in began if message not in taken]
    house.queue += [message for queue in queues for message in queue if message not in began]


def _in_child(house: House, act: Callable[[], None], faults: Faults | None, told: IO[str]) -> int:
    try:
        with breaking(faults, "kill") if faults else contextlib.nullcontext():
            act()
        value: dict[str, Any] = {"queue": [one.__dict__ for one in house.queue], "broken": None}
    except Broken as error:
        value = {"queue": [], "broken": str(error)}
    except BaseException as error:  # noqa: BLE001 - told by the parent
        value = {"queue": [], "broken": f"5.7 errors are told: {type(error).__name__}: {error}"}
    with contextlib.suppress(BaseException):
        with told:
            json.dump(value, told)
        return 0
    return 1
