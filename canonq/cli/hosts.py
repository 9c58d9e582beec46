"""Commands about the hosts that share a broker."""

from __future__ import annotations

import click

from canonq.cli.options import caller, json_option
from canonq.cli.output import print_json, print_table, say
from canonq.core.ago import duration
from canonq.core.budget import gib
from canonq.core.errors import ExitStatus
from canonq.flows import hosts as hosts_flow
from canonq.settings import load_settings
from canonq.wiring import live, looking


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def hosts(ctx: click.Context, as_json: bool) -> ExitStatus | None:
    """Show the hosts that share the broker, who lives and what each has; or let one join, or go.

    Exit status 1 where one has not been heard of for longer than its lease.
    """
    if ctx.invoked_subcommand is not None:
        return None
    rows = hosts_flow.rows(looking())
    if as_json:
        print_json({"hosts": rows})
    else:
        columns = ("host", "state", "heard of", "light", "heavy", "memory", "disk", "load", "canonicals")
        cells = [
            [
                f"{row['host']} (this one)" if row["here"] else row["host"], row["state"],
                "" if row["heard_of_seconds"] is None else f"{duration(row['heard_of_seconds'])} ago", row["light"], row["heavy"],
                gib(row["memory_bytes"]) if row["memory_bytes"] is not None else "",
                gib(row["disk_bytes"]) if row["disk_bytes"] is not None else "", row["load"],
                "not told yet" if row["canonicals"] is None else ", ".join(row["canonicals"]),
            ]
            for row in rows
        ]  # fmt: skip
        print_table("Hosts", columns, cells, give_way=("load", "light", "heavy", "memory", "disk"), sentence="canonicals")
        for row in rows:
            for recipe, where in row["leaving"].items():
                say(f"{recipe} is on its way from {row['host']} to {where}.")
            if row["why"]:
                say(f"{row['host']} was removed: {row['why']}")
        if not rows:
            say("No host has joined yet; the first one that starts workers does so by itself.")
    return ExitStatus.ATTENTION if any(row["state"] == "away" for row in rows) else ExitStatus.DONE


@hosts.command()
@click.option("--name", help="What it is to be called; when not given, what CANONQ_HOST says, or the machine's name.")
@json_option
def join(name: str | None, as_json: bool) -> ExitStatus:
    """Let this host, with its state folder, work for the broker beside others."""
    world = live(load_settings())
    joined = world.hosts.join(world.stamp(), asked=True, name=name)
    hosts_flow.tell(world)
    if as_json:
        print_json({"host": joined})
    else:
        click.echo(f"This host has joined as {joined}. Its workers can be started now; beat runs on one host, or on each.")
    return ExitStatus.DONE


@hosts.command()
@click.argument("name")
@click.option("--reason", required=True, help="Why; it is told with who said so.")
@json_option
def remove(name: str, reason: str, as_json: bool) -> ExitStatus:
    """Say that a host does not come back: what it had is begun anew elsewhere, and its workers do not start again.

    A host that lives is drained instead.
    """
    world = live(load_settings())
    had = hosts_flow.remove(world, name, by=caller(), reason=reason)
    if as_json:
        print_json({"host": name, "canonicals": had})
    else:
        click.echo(f"{name} was removed.")
        if had:
            click.echo(f"Its canonicals are lost to the others, and are begun anew by the next sweep: {', '.join(had)}.")
    return ExitStatus.DONE
