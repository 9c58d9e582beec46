"""The view of what is under way: drawn again and again on a terminal, elsewhere a line for each thing that happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import click
from rich.console import Group
from rich.live import Live
from rich.text import Text

from canonq.cli.output import COLOURS, console, laid_out, width_of, wrapped
from canonq.core.ago import duration
from canonq.core.records import STAMP_FORMAT
from canonq.core.sweeps.progress import Doing, Progress
from canonq.core.text import readable

_LOOK_EVERY = 1.0  #: seconds
_LINES_BESIDE = 3  #: lines of a terminal beside rows and footer: heads, what is more, and the cursor's


class View:
    """Shows one sweep, or one call, as it goes on. `quiet` shows nothing."""

    def __init__(self, *, quiet: bool = False, err: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console(err=err)
        self._err = err
        self._told: dict[str, str] = {}
        self._quiet = quiet
        self._clock = clock
        self._looked: float | None = None
        self._live: Live | None = None
        self.has_shown = False
        self.shows: str | None = None  #: the open sweep that was shown last, and is to be shown as it ended
        self.over: str | None = None  #: the one that was shown as it ended

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the drawing away, so that something else can be said."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def look(self, asked: Callable[[], Progress]) -> None:
        """Ask how far it is and show it, unless that was done a moment ago."""
        if not self._quiet and (self._looked is None or self._clock() - self._looked >= _LOOK_EVERY):
            self._looked = self._clock()
            self.show(asked())

    def show(self, now: Progress) -> None:
        """Show how far it is by now; what has not changed is not said again."""
        if self._quiet or (now.sweep is not None and now.sweep == self.over):
            return
        if now.sweep != self.shows:
            self._told = {}
        self.has_shown, self.shows = True, now.sweep
        for doing in now.recipes:
            line = _line(doing)
            if line is not None and self._told.get(doing.recipe) != line:
                self._told[doing.recipe] = line
                if self._live is None or doing.state in ("done", "put-off"):
                    self._say(f"{time.strftime('%H:%M:%S')}  {doing.recipe}: {line}")
        if self._live is not None and now.state != "open":
            self._live.update(Text(""), refresh=True)
        elif self._live is not None:
            self._live.update(Group(*self.drawn(now)), refresh=True)
        if now.state != "open":
            self.shows, self.over = None, now.sweep

    def _say(self, line: str) -> None:
        if self._live is None:
            click.echo(readable(line), err=self._err)
        else:
            self._console.print(Text(readable(line)), soft_wrap=True)

    def drawn(self, now: Progress) -> list[Text]:
        """The lines that are drawn on a terminal: never more than it has, and never longer."""
        width = width_of(self._console) or self._console.width
        listed = [one for one in now.recipes if one.state == "under-way"]
        waiting = [one for one in now.recipes if one.state == "waiting" and one.step in ("test", "promote")]
        footer = wrapped(Text(_footer(now, len(listed)), style="bold"), width)
        rows = [*listed, *waiting]
        shown = rows[: max(1, self._console.height - len(footer) - _LINES_BESIDE)]
        cells = [[_cell(text) for text in _row(one)] for one in shown]
        lines = (
            laid_out(("recipe", "doing", "for", "usually"), cells, width, give_way=("usually", "for"), cut=True) if cells else []
        )
        more = [Text(f"... and {len(rows) - len(shown)} more")] if len(rows) > len(shown) else []
        return [*lines, *more, *footer]


def _line(doing: Doing) -> str | None:
    """What is said of a recipe where nothing is drawn; None for what is not worth a line, such as a look at its upstream."""
    match doing.state:
        case "done" | "put-off":
            at = doing.retry_at
            again = f", tried again at {time.strftime('%H:%M:%S', time.localtime(at))}" if at is not None else ""
            return f"{doing.outcome} ({doing.reason}) after {doing.seconds or 0:.0f} s{again}"
        case "waiting":
            return "green, waiting to be promoted" if doing.proven else None
        case "under-way" if doing.step in ("test", "promote"):
            # Not each tier: of some hundred recipes that would be thousands of lines.
            what = _what(doing.model_copy(update={"tier": None}))
            usual = f", usually {duration(doing.usual)}" if doing.usual and doing.step == "test" else ""
            return f"{what}{usual} ..."
    return None


def _row(one: Doing) -> tuple[str, str, str, str]:
    usual = duration(one.usual) if one.usual is not None else ""
    if one.state == "under-way":
        return (
            one.recipe,
            _what(one),
            duration(one.elapsed) if one.elapsed is not None else "",
            usual if one.step == "test" else "",
        )
    where = f"{one.place}. of {one.queue}" if one.place is not None else ""
    return one.recipe, f"waits for its {'promotion' if one.step == 'promote' else 'test'}, {where}", "", usual


def _what(one: Doing) -> str:
    if one.step != "test":
        return str(one.step or "begins")
    return f"{'tried again alone' if one.again else 'test'}{f', {one.tier}' if one.tier else ''}"


def _footer(now: Progress, under_way: int) -> str:
    said = f"{now.done} of {now.enrolled} done, {under_way} under way"
    kinds = ", ".join(f"{count} {kind}" for kind, count in now.counts.items() if count)
    if kinds:
        said += f" ({kinds})"
    if now.expected_end is not None and now.seconds_left is not None:
        if now.seconds_left < 1:
            return f"{said}; it takes longer than usual"
        at = datetime.strptime(now.expected_end, STAMP_FORMAT).replace(tzinfo=UTC).astimezone()
        said += f"; the end is expected in {duration(now.seconds_left)}, at about {at:%H:%M}"
    return said


def _cell(text: str) -> Text:
    return Text(readable(text), style=COLOURS.get(text, ""))
