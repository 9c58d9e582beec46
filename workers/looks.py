"""Looks that are taken once for all who ask for them at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


class Shared(Generic[T]):
    """What many want to know and one look tells: whoever asks while somebody looks waits for the next look, with the others."""

    def __init__(self, look: Callable[[], T], thread: ThreadPoolExecutor) -> None:
        self._look, self._thread = look, thread
        self._turn = asyncio.Lock()
        self._found: tuple[float, T] | None = None

    async def since(self, moment: float) -> T:
        """What was found by a look that began at `moment` or later, by the monotonic clock."""
        async with self._turn:
            if self._found is None or self._found[0] < moment:
                began = time.monotonic()
                self._found = began, await asyncio.get_running_loop().run_in_executor(self._thread, self._look)
            return self._found[1]


class InUse(Generic[K, T]):
    """Things by their names: each is made for its first user, and forgotten with its last."""

    def __init__(self) -> None:
        self._things: dict[K, tuple[T, int]] = {}

    def __len__(self) -> int:
        return len(self._things)

    @contextlib.contextmanager
    def used(self, name: K, make: Callable[[], T]) -> Iterator[T]:
        """The thing of this name, for as long as the block lasts."""
        thing, users = self._things.get(name) or (make(), 0)
        self._things[name] = (thing, users + 1)
        try:
            yield thing
        finally:
            _, users = self._things[name]
            self._things[name] = (thing, users - 1)
            if users == 1:
                del self._things[name]
