"""Commands that tell of one recipe: why, logs."""

from __future__ import annotations

import click

from canonq.cli.asjson import print_json
from canonq.cli.options import json_option, recipe_argument
from canonq.cli.output import say
from canonq.core.ago import ago
from canonq.core.errors import ExitStatus
from canonq.core.flakes import told
from canonq.core.ladder import TIERS
from canonq.core.story import Story
from canonq.core.text import readable
from canonq.flows.hosts import must_be_here
from canonq.flows.looking.logs import logs as logs_of
from canonq.flows.looking.logs import run_of
from canonq.flows.looking.story import story
from canonq.settings import load_settings
from canonq.wiring import looking

_WHO = {
    "nobody": "Next", "you": "Next, you", "recipe": "Next, the recipe's maintainers", "host": "Next, this host's admin",
    "canonq": "Next, canonq's developers",
}  # fmt: skip


@click.command()
@recipe_argument
@json_option
def why(recipe: str, as_json: bool) -> ExitStatus:
    """Tell a recipe's story: what was last decided, proven and promoted, and the one next step.

    Whose fault it is and where the files are stand there too. Exit status 1 where it waits for somebody or ended badly.
    """
    settings = load_settings()
    world = looking(settings)
    must_be_here(world, recipe, f"canonq why {recipe}")
    found = story(world, recipe)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return _status(found)
    now = world.now()
    say(f"{recipe}: {_canonical(found)}{f', promoted {ago(found.promoted_at, now)}' if found.promoted_at else ''}", style="bold")
    for event in found.events:
        when = ago(event.at, now)
        say(f"{when + ': ' if when else ''}{event.text}", by=2)
    if not found.events:
        say("Nothing is on record of it.", by=2)
    if found.verdict is not None and found.verdict.verdict != "green":
        for line in found.verdict.log_tail:
            say(f"{found.verdict.service or 'log'}: {line}", by=4)
    for line in found.remarks:
        say(line, by=2)
    for flake in found.flakes:
        say(told(flake), by=2)
    if found.fault:
        say(f"Fault: {found.fault}.")
    if found.reason:
        say(f"Reason: {found.reason}, a heading of docs/runbook.md.")
    if found.verdict is not None:
        say(f"Files: {found.verdict.directory}")
    say(f"{_WHO[found.next.who]}: {found.next.text}")
    if found.next.command:
        say(found.next.command, by=2)
    return _status(found)


def _canonical(found: Story) -> str:
    if found.record_lost:
        return "its record cannot be used, so nobody knows its canonical"
    return f"the canonical is {found.canonical}" if found.canonical else "no canonical yet"


def _status(found: Story) -> ExitStatus:
    """1 where the story ends with something that is not well, or that waits for somebody."""
    waits = found.next.who != "nobody" or found.ends in ("red", "error", "deferred")
    return ExitStatus.ATTENTION if waits else ExitStatus.DONE


@click.command()
@recipe_argument
@click.option("--run", "run", metavar="ID", help="The run; the newest when not given.")
@click.option("--tier", type=click.Choice(TIERS), help="Only what this tier logged.")
@click.option("--service", metavar="NAME", help="Only what this service wrote.")
@click.option("--lines", type=click.IntRange(min=1, max=10**9), metavar="N", help="Only the last N lines of each.")
@json_option
def logs(recipe: str, run: str | None, tier: str | None, service: str | None, lines: int | None, as_json: bool) -> ExitStatus:
    """Show what was logged by a recipe's run: its tiers, and its services.

    Of a run that goes on, what is there by now. Control characters are shown escaped: no log acts on a terminal.
    """
    world = looking()
    folder = run_of(world, recipe, run)
    found = logs_of(folder, tier=tier, service=service)
    if as_json:
        told = [{"file": log.name, "tier": log.tier, "service": log.service, "lines": log.last(lines)} for log in found]
        print_json({"recipe": recipe, "run": folder.name, "directory": str(folder), "logs": told})
        return ExitStatus.DONE
    for log in found:
        click.echo(f"==> {log.name} <==")
        for line in log.last(lines):
            click.echo(readable(line.replace("\t", "    ")))
        click.echo()
    if not found:
        say(f"Nothing was logged{f' by the tier {tier}' if tier else ''} in {folder}.", err=True)
    return ExitStatus.DONE
