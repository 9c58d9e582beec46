"""watch: joins what is under way, from any terminal; to leave it ends nothing but the looking."""

from __future__ import annotations

import time
from typing import Any

import click
from click.shell_completion import CompletionItem

from canonq.cli.asjson import print_json
from canonq.cli.options import json_option
from canonq.cli.output import say
from canonq.cli.readers import readers
from canonq.cli.view import View
from canonq.core.errors import CanonqError, ExitStatus, WrongUse
from canonq.core.names import SWEEP_ID, identifier
from canonq.core.sweeps.progress import Progress
from canonq.core.text import did_you_mean, ended
from canonq.flows.looking.progress import Watcher
from canonq.flows.sweeps.summary import summary
from canonq.flows.world import World
from canonq.settings import load_settings
from canonq.wiring import looking

_LOOK_EVERY = 1.0  #: seconds


def sweeps_typed(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
    """Open sweeps, for a shell to propose."""
    del ctx, param
    try:
        return [CompletionItem(name) for name in looking(load_settings()).sweeps.open_sweeps() if name.startswith(typed)]
    except CanonqError:
        return []


@click.command()
@click.argument("sweep", required=False, shell_complete=sweeps_typed)
@json_option
def watch(sweep: str | None, as_json: bool) -> ExitStatus:
    """Follow what is under way: a sweep (the newest open one), or else what was started by hand.

    Each recipe's step, tier and time beside its usual one, its place in the queue, and when the end is expected. It ends with the
    sweep, and with its exit status; Ctrl-C ends only the watching. With --json: how far it is now.
    """
    world = looking()
    if sweep is not None and not world.sweeps.read(sweep):
        near = did_you_mean(identifier(sweep, SWEEP_ID, "sweep id"), world.sweeps.newest_first())
        what = ended(f"There is no sweep {sweep}{near}")
        raise WrongUse(what, mend=f"open are: {', '.join(world.sweeps.open_sweeps()) or 'none'}.", code="no-such-sweep")
    watcher = Watcher(world)
    if as_json:
        found = _now(watcher, sweep)
        print_json(found.model_dump(mode="json") if found else {"sweep": None, "state": "idle", "recipes": []})
        return ExitStatus.DONE
    try:
        return _watch(world, watcher, sweep)
    except KeyboardInterrupt:
        say("You no longer watch; what is under way goes on, and `canonq stop` stops it.", err=True)
        return ExitStatus.DONE


def _now(watcher: Watcher, sweep: str | None) -> Progress | None:
    """How far the sweep is, or the newest open one, or what was called by hand."""
    name = sweep or watcher.newest_open()
    return watcher.sweep(name) if name is not None else watcher.calls()


def _watch(world: World, watcher: Watcher, sweep: str | None) -> ExitStatus:
    watched: str | None = sweep
    with View(err=False) as view:
        while (found := _now(watcher, watched)) is not None:
            watched = watched or found.sweep
            view.show(found)
            if readers.left():
                return ExitStatus.DONE
            if found.state != "open":
                break
            time.sleep(_LOOK_EVERY)
    if watched is None:
        say("Nothing is under way." if found is None and not view.has_shown else "What was called by hand has ended.")
        return ExitStatus.DONE
    whole = summary(world, watched)
    if whole["failed"]:
        say(f"The sweep {whole['state']}: {whole['failed']}", err=True)
    say(f"Sweep {watched}: {_told_counts(whole)}")
    return ExitStatus(whole["exit_status"])


def show_open(view: View, watcher: Watcher, world: World) -> None:
    """Show the newest open sweep, if there is one, and once how it ended."""
    name = watcher.newest_open() or view.shows
    if name is None or name == view.over:
        return
    if name != view.shows:
        say(f"Sweep {name} of {len(world.sweeps.read(name).get('enrolled', []))} recipes.", err=True)
    view.show(watcher.sweep(name))
    if view.over == name:
        say(f"Sweep {name}: {_told_counts(summary(world, name))}", err=True)


def _told_counts(whole: dict[str, Any]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in whole["counts"].items() if count) or "nobody was swept"
