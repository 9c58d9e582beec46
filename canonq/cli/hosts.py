"""Commands about the hosts that share a broker."""

from __future__ import annotations

import time

import click

from canonq.cli.asjson import print_json
from canonq.cli.options import caller, json_option, reason_option, recipe_argument
from canonq.cli.output import print_table, say
from canonq.cli.waiting import await_result
from canonq.core.ago import duration
from canonq.core.budget import gib
from canonq.core.errors import ExitStatus, HostProblem, WrongUse
from canonq.core.names import host_name, recipe_name
from canonq.core.sweeps.placement import home
from canonq.flows import hosts as hosts_flow
from canonq.flows.world import World
from canonq.settings import load_settings
from canonq.wiring import live, looking
from workers.broker import check_broker
from workers.factory import LIGHT, declare, make_app, queue_on

_PATIENCE = 600.0  #: seconds until a host has said that a canonical leaves
_LOOK_EVERY = 1.0  #: seconds


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def hosts(ctx: click.Context, as_json: bool) -> ExitStatus | None:
    """Show the hosts that share one Redis, which of them live and what each has; or let one join, or leave.

    Exit status 1 where one has not been heard of for longer than its lease.
    """
    if ctx.invoked_subcommand is not None:
        ctx.default_map = {ctx.invoked_subcommand: {"as_json": as_json}}
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
@reason_option("Why; it is told with who said so.")
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


@click.command()
@recipe_argument
@click.argument("host")
@click.option("--wait", is_flag=True, help="Wait until the canonical is on the new host.")
@click.option("--give-up", is_flag=True, help="Move nothing: give up this host's canonical, as HOST has one too.")
@json_option
def move(recipe: str, host: str, wait: bool, give_up: bool, as_json: bool) -> ExitStatus:
    """Move a recipe's canonical, with all that is kept of it, to another host.

    It is in force nowhere while it is under way, and given up where it was only when the new host has it whole. Named the
    host that it leaves, the move is taken back as long as it has not ended.
    """
    settings = load_settings()
    world = live(settings)
    recipe, host = recipe_name(recipe), host_name(host)
    world.hosts.must_be_known()
    members = [one.member() for one in hosts_flow.known(world)]
    homes = [one.name for one in home(recipe, members)]
    source = world.hosts.own if give_up or len(homes) > 1 else homes[0] if homes else None
    if source is None:
        raise WrongUse(
            f"No host has a canonical of {recipe}.", mend="set `host` in its recipe.toml: it is begun there.", code="no-canonical"
        )
    if not give_up and host != source and any(one.name == host and not one.alive and not one.removed for one in members):
        raise WrongUse(
            f"The host {host} has not been heard of for longer than its lease, and what is on its way is in force nowhere.",
            mend="start its workers first, or name another one.",
            code="host-away",
        )
    app = make_app(settings)
    check_broker(app)
    queue = queue_on(LIGHT, source)
    declare(app, queue)
    task = app.signature("canonq.leave", args=[recipe, host, caller(), give_up], options={"queue": queue})
    told = await_result(task.apply_async(), None, _PATIENCE)
    state = _await_move(world, recipe, host) if wait and told["state"] != "here" else told["state"]
    if as_json:
        print_json({"recipe": recipe, "from": source, "to": host, "state": state})
    elif give_up and state == "leaving":
        click.echo(f"That of {source} is given up as soon as {host} says that its own stays; `canonq hosts` shows it.")
    elif state == "there":
        click.echo(f"{recipe} is on {host} now.")
    else:
        click.echo(
            f"{recipe} is on its way from {source} to {host}; `canonq hosts` shows it." if state != "here" else f"{recipe} stays."
        )
    return ExitStatus.DONE


def _await_move(world: World, recipe: str, host: str) -> str:
    """Wait until a canonical is on a host, and on no other."""
    ends = time.monotonic() + world.settings.hosts.timeout
    while time.monotonic() < ends:
        members = [one.member() for one in hosts_flow.known(world)]
        homes = home(recipe, members)
        if [one.name for one in homes] == [host] and (homes[0].claims or {})[recipe].leaving is None:
            return "there"
        time.sleep(_LOOK_EVERY)
    raise HostProblem(
        f"{recipe} is not on {host} yet.", mend="`canonq hosts` shows how it stands; it goes on by itself.", code="moving"
    )


@click.command()
@click.argument("host")
@click.option("--undo", is_flag=True, help="Let it have new recipes again; what has moved stays where it is.")
@json_option
def drain(host: str, undo: bool, as_json: bool) -> ExitStatus:
    """Take a host out of service: it gets nothing new, and its canonicals move to the others.

    One after the other; its workers do it.
    """
    world = live(load_settings())
    world.hosts.must_be_known()
    hosts_flow.drain(world, host, undo=undo)
    has = next((row["canonicals"] for row in hosts_flow.rows(world) if row["host"] == host), None) or []
    if as_json:
        print_json({"host": host, "draining": not undo, "canonicals": has})
    elif undo:
        click.echo(f"{host} takes new recipes again.")
    else:
        click.echo(f"{host} gets nothing new. To be moved: {', '.join(has) or 'nothing'}; `canonq hosts` shows how far it is.")
    return ExitStatus.DONE
