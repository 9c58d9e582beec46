"""Commands that tell people: report, notify."""

from __future__ import annotations

import click

from canonq.adapters.network.notify import Notifier
from canonq.cli.asjson import print_json
from canonq.cli.options import json_option
from canonq.cli.output import print_table, say
from canonq.core.errors import ExitStatus, WrongConfiguration, WrongUse
from canonq.core.text import did_you_mean, ended, shown
from canonq.flows.looking import report as report_flow
from canonq.flows.looking import telling
from canonq.settings import load_settings
from canonq.wiring import due_since, live, looking


@click.command()
@json_option
def report(as_json: bool) -> ExitStatus:
    """Write the report: pages, JSON, badges, feed; and say where it is.

    It is written after each sweep by itself. Exit status 2 where nothing is enrolled (the page says so), 1 where something
    needs a person, a night was missed or the newest sweep was not done.
    """
    settings = load_settings()
    world = live(settings)
    found = report_flow.write(world, due_since(settings))
    if as_json:
        print_json(found)
    else:
        say(found["headline"])
        say(f"The report is {report_flow.folder_of(world) / 'index.html'}.")
    if found["problem"]:
        return ExitStatus.WRONG_USE
    attention = found["need_a_person"] or found["missed_nights"] or found["newest_sweep_failed"]
    return ExitStatus.ATTENTION if attention else ExitStatus.DONE


@click.command()
@click.option("--test", "try_it", is_flag=True, help="Send a message to each channel now, and say what became of it.")
@click.option("--channel", help="Only to this channel.")
@json_option
def notify(try_it: bool, channel: str | None, as_json: bool) -> ExitStatus:
    """Show the channels that messages go to and what waits to be delivered, or test them."""
    settings = load_settings()
    notifier = Notifier(settings.notify)
    names = notifier.names if channel is None else [channel]
    if not notifier.names:
        raise WrongConfiguration(
            "No channel is configured.", mend="set [notify] channels_file (docs/configuration.md).", code="no-channel"
        )
    if channel is not None and channel not in notifier.names:
        raise WrongUse(
            ended(f"There is no channel {shown(channel)}{did_you_mean(channel, notifier.names)}"),
            mend=f"there are: {', '.join(notifier.names)}.",
        )
    text = "This is a test of canonq. Whoever reads this gets a digest after each sweep, and a message when a recipe turns red."
    rows = []
    for name in names:
        for number, kind in enumerate(notifier.addresses(name), 1):
            problem = notifier.problem(name, number, "canonq: a test", text) if try_it else None
            rows.append({"channel": name, "address": number, "kind": kind, "problem": problem})
    waits = [one.model_dump(mode="json", exclude={"text"}) for one in telling.waiting(looking(settings))]
    if as_json:
        print_json({"tested": try_it, "addresses": rows, "waiting": waits})
    else:
        told = "delivered" if try_it else ""
        cells = [[row["channel"], row["address"], row["kind"], row["problem"] or told] for row in rows]
        print_table("Channels", ("channel", "address", "kind", "what came of it"), cells)
        for one in waits:
            say(f"It waits to be delivered: {one['title']} to {one['channel']}, tried {one['tries']} times. {one['problem']}")
    return ExitStatus.ATTENTION if any(row["problem"] for row in rows) or any(one["tries"] for one in waits) else ExitStatus.DONE
