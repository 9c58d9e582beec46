"""Ctrl-C, SIGTERM and a closed terminal: the first stops, the second hurries, the third leaves the rest to the janitor."""

from __future__ import annotations

from types import FrameType

import click

from canonq.adapters.processes import signals


class Interrupts:
    """Counts them. Only the first and the third cut what the command is doing: cleaning up is not cut by the second."""

    def __init__(self) -> None:
        self.count = 0

    def install(self) -> None:
        """Take the signals from now on."""
        signals.take(self._take)

    def hurried(self) -> bool:
        """Whether what is left is to be ended at once."""
        return self.count > 1

    def _take(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 2:
            told = "Ending at once: what is under way is killed, then its leavings are removed (Ctrl-C again: not even that)."
            click.echo(told, err=True)
            return
        raise KeyboardInterrupt


interrupts = Interrupts()
