"""Commands that change what is kept: rollback, restore, janitor, enrol."""

from __future__ import annotations

import contextlib

import click

from canonq.cli.asjson import print_json
from canonq.cli.options import caller, json_option, reason_option, recipe_argument
from canonq.cli.output import progress
from canonq.cli.waiting import await_result, enqueue, locks_for, require_workers, stopping
from canonq.core.enrolment import LONGEST_RUN
from canonq.core.errors import ExitStatus
from canonq.core.records import Canonical
from canonq.core.versions import is_newer
from canonq.flows.hosts import fence_there, must_be_here, where_is
from canonq.flows.keeping import kept as kept_flow
from canonq.flows.keeping import room as room_flow
from canonq.flows.keeping.janitor import NotRemoved
from canonq.flows.keeping.orphans import orphans
from canonq.flows.looking import enrol as enrol_flow
from canonq.flows.looking.status import tell_now
from canonq.flows.promoting import restore as restore_flow
from canonq.flows.promoting import rollback as rollback_flow
from canonq.flows.upstream.asked import recipe_asked
from canonq.flows.world import World
from canonq.settings import load_settings
from canonq.wiring import live, looking
from workers.factory import LIGHT, declare, make_app, queue_on


@click.command()
@recipe_argument
@click.option("--to", metavar="VERSION", help="The kept version to go back to; the one before when not given.")
@reason_option("Why; it is kept with the record.")
@json_option
def rollback(recipe: str, to: str | None, reason: str, as_json: bool) -> ExitStatus:
    """Go back to a kept canonical, with its data."""
    with locks_for(load_settings()) as world:
        recipe = recipe_asked(world, recipe)
        if (there := where_is(world, recipe)) is not None:
            record = _roll_back_on(there, recipe, to, reason, fence_there(world, recipe, there))
        else:
            with stopping(f"the rollback of {recipe}", lambda: _in_force(world, recipe)):
                record = rollback_flow.rollback(world, recipe, to=to, reason=reason, who=caller(), tell=progress)
            tell_now(world, recipe)
    if as_json:
        print_json(record.model_dump(mode="json", by_alias=True))
    else:
        click.echo(f"The canonical of {recipe} is {record.version} again, as promoted at {record.promoted_at}.")
        held = [back.version for back in record.rolled_back if is_newer(back.version, record.version)]
        if held:
            click.echo(f"Held until a newer release, or `canonq sweep {recipe}`: {', '.join(held)}.")
    return ExitStatus.DONE


def _in_force(world: World, recipe: str) -> str:
    record = world.registry.read(recipe)
    return f"Its canonical is {record.version}." if record is not None else "It has no canonical."


def _roll_back_on(host: str, recipe: str, to: str | None, reason: str, seen: int | None) -> Canonical:
    """Have the host do it that has the canonical, whose record had the fence `seen`; its new record.

    Redis may deliver an order twice: by the fence the host knows that this one was carried out.
    """
    app, queue = make_app(load_settings()), queue_on(LIGHT, host)
    require_workers(app, {queue})
    declare(app, queue)
    task = app.signature(
        "canonq.rollback", args=[recipe, to, reason, caller(), seen], options={"queue": queue, "argsrepr": recipe}
    )
    return Canonical.model_validate(await_result(enqueue(app, task), None, LONGEST_RUN, recipe=recipe))


@click.command()
@recipe_argument
@click.option("--stack", required=True, metavar="NAME", help="The name of the new stack.")
@click.option("--to", metavar="VERSION", help="A kept version; the canonical when not given.")
@click.option("--remove", is_flag=True, help="Remove the stack again, with its copy of the data.")
@json_option
def restore(recipe: str, stack: str, to: str | None, remove: bool, as_json: bool) -> ExitStatus:
    """Bring a canonical's data up as a live stack under another name, to look at; the canonical stays as it is."""
    world = live()
    if remove:
        removed = restore_flow.remove(world, recipe, stack)
        print_json({"removed": removed}) if as_json else click.echo(f"Removed the stack {stack} and its data.")
        return ExitStatus.DONE
    must_be_here(world, recipe, f"canonq restore {recipe} --stack {stack}")
    made = restore_flow.restore(world, recipe, stack, to=to, tell=progress)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{recipe} {made['version']} runs as the stack {stack}, at {made['domain']}, on a copy of the data.")
        click.echo(f"`canonq restore {recipe} --stack {stack} --remove` takes it away again.")
    return ExitStatus.DONE


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def janitor(dry_run: bool, as_json: bool) -> ExitStatus:
    """Remove what killed runs left behind, and what is beyond `keep` and `keep_runs`; never a canonical or what is others'."""
    with contextlib.nullcontext(looking()) if dry_run else locks_for(load_settings()) as world:
        lines = room_flow.tidy(world, dry_run=dry_run)
        alone = orphans(world)
    failed = [line for line in lines if isinstance(line, NotRemoved)]
    if as_json:
        removed = [line for line in lines if not isinstance(line, NotRemoved)]
        print_json({"dry_run": dry_run, "removed": removed, "not_removed": failed, "left_alone": alone})
    else:
        click.echo("\n".join([*(lines or ["There was nothing to remove."]), *alone]))
    return ExitStatus.MACHINERY if failed else ExitStatus.DONE


@click.command()
@click.option("--end", "run", metavar="RUN", help="End the one of this run now.")
@json_option
def kept(run: str | None, as_json: bool) -> ExitStatus:
    """Show environments of red runs that `canonq test --keep-on-red` left up, and the way into each."""
    if run is not None:
        line = kept_flow.end(live(), run)
        if as_json:
            print_json({"ended": line})
        else:
            click.echo(line)
        return ExitStatus.DONE
    rows = kept_flow.rows(looking())
    if as_json:
        print_json({"kept": rows})
        return ExitStatus.DONE
    for row in rows:
        click.echo(f"{row['recipe']} {row['version']}, red ({row['reason']}), until {row['until']}: run {row['run']}")
        click.echo(f"  {row['address'] or row['domain'] + ', which no ingress routes'}")
        click.echo(f"  {row['enter']}")
    if not rows:
        click.echo("No environment is kept.")
    return ExitStatus.DONE


@click.command()
@recipe_argument
@click.option("--upstream", metavar="ADDRESS", help="The recipe's git repository; looked up in the catalogue when not given.")
@click.option("--catalogue", "--catalog", metavar="FILE_OR_URL", help="The recipes.json to look in.")
@click.option("--force", is_flag=True, help="Replace a recipe.toml that is there already.")
@json_option
def enrol(recipe: str, upstream: str | None, catalogue: str | None, force: bool, as_json: bool) -> ExitStatus:
    """Look into a recipe's newest release and write a commented recipe.toml for you to finish."""
    made = enrol_flow.enrol(live(), recipe, upstream=upstream, catalogue=catalogue, force=force)
    if as_json:
        print_json(made)
        return ExitStatus.DONE
    click.echo(f"Wrote {made['path']}, from {made['version'] or 'no release'} of {made['upstream']}.")
    if made["problem"]:
        click.echo(f"The recipe could not be looked into: {made['problem']}")
    for name in (made["found"] or {}).get("secrets", []):
        click.echo(f"The secret {name} needs a value: see [secrets] in the file.")
    if made["hooks"]:
        click.echo(f"Wrote {made['hooks']}, to be finished: canonq cannot write into a database of this recipe.")
    click.echo(f"Look it over, commit it, and try it: canonq test {recipe}")
    return ExitStatus.DONE
