"""Commands that tell of one recipe: why."""

from __future__ import annotations

import click

from canonq.cli.options import json_option
from canonq.cli.output import print_json, say
from canonq.core.ago import ago
from canonq.core.errors import ExitStatus
from canonq.core.story import Story
from canonq.flows.story import story
from canonq.settings import load_settings
from canonq.wiring import looking

_WHO = {
    "nobody": "Next", "you": "Next, you", "recipe": "Next, the recipe's maintainers", "host": "Next, this host's admin",
    "canonq": "Next, canonq's developers",
}  # fmt: skip


@click.command()
@click.argument("recipe")
@json_option
def why(recipe: str, as_json: bool) -> ExitStatus:
    """Tell a recipe's story: what was last decided, proven and promoted, and the one next step.

    Whose fault it is and where the files are stand there too. Exit status 1 where it waits for somebody or ended badly.

    \b
    Example:
      canonq why custom-html
    """
    settings = load_settings()
    world = looking(settings)
    found = story(world, recipe)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return _status(found)
    now = world.now()
    kept = f"the canonical is {found.canonical}" if found.canonical else "no canonical yet"
    say(f"{recipe}: {kept}{f', promoted {ago(found.promoted_at, now)}' if found.promoted_at else ''}", style="bold")
    for event in found.events:
        when = ago(event.at, now)
        say(f"{when + ': ' if when else ''}{event.text}", by=2)
    if not found.events:
        say("Nothing is on record of it.", by=2)
    if found.verdict is not None and found.verdict.verdict != "green":
        for line in found.verdict.log_tail:
            say(f"{found.verdict.service or 'log'}: {line}", by=4)
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


def _status(found: Story) -> ExitStatus:
    """1 where the story ends with something that is not well, or that waits for somebody."""
    waits = found.next.who != "nobody" or found.ends in ("red", "error", "deferred")
    return ExitStatus.ATTENTION if waits else ExitStatus.DONE
