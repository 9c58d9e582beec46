"""Commands about many recipes at once: sweep, stop, plan, sync."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import click
from celery import Celery
from kombu.exceptions import OperationalError

from canonq.cli.asjson import print_json
from canonq.cli.options import caller, json_option, reason_option, recipes_argument
from canonq.cli.output import OUTCOME_COLUMNS, OUTCOME_GIVES_WAY, outcome_rows, print_table, say, told_tries
from canonq.cli.waiting import await_sweep, ends_here, enqueue, require_workers, stopping, workers_for
from canonq.cli.watching import sweeps_typed
from canonq.core.errors import CanonqError, ExitStatus, WrongUse
from canonq.core.names import RUN_ID
from canonq.core.outcomes import status_of_rows
from canonq.flows import sync as sync_flow
from canonq.flows.hosts import must_be_here
from canonq.flows.looking.telling import tell_gently
from canonq.flows.proving.stopping import ask, await_end, left_of
from canonq.flows.sweeps import shares
from canonq.flows.sweeps.brokenoff import end_broken_off, nobody_works
from canonq.flows.sweeps.closing import stop as stop_sweep
from canonq.flows.sweeps.opening import open_sweep, who
from canonq.flows.world import World
from canonq.settings import load_settings
from canonq.wiring import due_since, live, looking
from workers import tree as process_tree
from workers.factory import LIGHT, make_app, queue_on

_LOOK_EVERY = 0.5  #: seconds
_TO_NOTICE = 60.0  #: seconds until what is under way has come to where it waits


@click.command()
@recipes_argument
@click.option("--wait", is_flag=True, help="Wait for every outcome and print the table.")
@json_option
def sweep(recipes: tuple[str, ...], wait: bool, as_json: bool) -> ExitStatus:
    """Run one sweep now, over all enrolled recipes or those named.

    With --wait, and where no Redis is configured, it is shown as it goes on, and ends with the table of outcomes.
    """
    settings = load_settings()
    world = live(settings)
    _, names = who(world, recipes)  # wrong use, and a hollow sweep, are told before anything is started or put on record
    alone = nobody_works(world)
    with workers_for(settings, quiet=as_json) as tree, contextlib.ExitStack() as attending:
        app = make_app(load_settings())
        if tree is None:
            world.hosts.must_be_known()
            own = world.hosts.own
            require_workers(app, {queue_on(LIGHT, own)} | _queues(world, names, own), wait=wait)
        for line in end_broken_off(world, alone=alone):
            click.echo(line, err=True)
        sweep_id = world.new_id()
        if tree is not None:
            attending.enter_context(world.sweeps.attended(sweep_id))
        with stopping(f"the sweep {sweep_id}", lambda: _stopped(world, sweep_id, tree)):
            enrolled = _begun(world, app, recipes, sweep_id, awaited=wait or tree is not None, bound=tree is not None)
            if not as_json:
                click.echo(f"Sweep {sweep_id} of {enrolled} recipes.", err=True)
            if not wait and tree is None:
                shown = {"sweep": sweep_id, "enrolled": enrolled}
                print_json(shown) if as_json else click.echo(f"Sweep {sweep_id} of {enrolled} recipes was enqueued.")
                return ExitStatus.DONE
            result = await_sweep(live(), sweep_id, tree, quiet=as_json)
        tell_gently(live(), due_since(settings))
    if as_json:
        print_json(result)
    else:
        _print_sweep(result)
    return ExitStatus(result["exit_status"])


def _begun(world: World, app: Celery, recipes: Sequence[str], sweep: str, *, awaited: bool, bound: bool) -> int:
    """Put a sweep on record and hand it to a worker; how many are enrolled in it."""
    open_sweep(world, recipes, sweep, awaited=awaited, bound=bound)
    try:
        queue = queue_on(LIGHT, world.hosts.own)  # the sweep is on this disk
        enqueue(app, app.signature("canonq.sweep", args=[list(recipes), sweep], options={"queue": queue}))
    except (CanonqError, OperationalError) as error:
        stop_sweep(world, sweep, f"It could not be handed to a worker: {error}", refused=True)
        raise
    return len(world.sweeps.read(sweep)["enrolled"])


def _queues(world: World, names: Sequence[str], host: str | None) -> set[str]:
    """The queues that recipes need where this host is the only one; broken enrolments need none."""
    if world.hosts.are_several():
        return set()
    recipes = world.checkout.enrolled().recipes
    return {queue_on(recipes[name].queue, host) for name in names if name in recipes}


def _stopped(world: World, sweep: str, tree: process_tree.Tree | None) -> str:
    if not world.sweeps.read(sweep):
        return "It was not begun."
    stop_sweep(world, sweep, "A person stopped it (Ctrl-C).")
    shares.stopped(world, sweep)
    return f"Nothing more of it starts. {ends_here(tree)}"


def _print_sweep(result: dict[str, Any]) -> None:
    rows = outcome_rows(result["outcomes"], result["troubles"])
    print_table(f"Sweep {result['sweep']}", OUTCOME_COLUMNS, rows, give_way=OUTCOME_GIVES_WAY, sentence="detail")
    for outcome in result["outcomes"]:
        for line in [*(f"{outcome['recipe']}: {note}" for note in outcome["notes"]), *told_tries(outcome)]:
            say(line)
    for line in result["findings"]:
        say(line)
    if result["proven"]:
        say(f"Green, waiting to be promoted: {', '.join(result['proven'])}.")
    if result["failed"]:
        say(f"The sweep {result['state']}: {result['failed']}", err=True)
    if told := [o["recipe"] for o in result["outcomes"] if o["outcome"] in ("red", "error")]:
        say(f"`canonq why {told[0]}` tells one of them whole.")
    say(", ".join(f"{count} {kind}" for kind, count in result["counts"].items()) + f" = {result['enrolled']} enrolled")


@click.command()
@click.argument("sweep", metavar="[SWEEP|RUN]", required=False, shell_complete=sweeps_typed)
@reason_option("Why; it is told with who stopped it.", required=False, default="")
@json_option
def stop(sweep: str | None, reason: str, as_json: bool) -> ExitStatus:
    """Stop a sweep, or every open one: nothing more of it starts, and steps under way end by themselves.

    Of a run, or a promotion, all that it has made is removed, and nothing of it counts.
    """
    world = live()
    if sweep is not None and RUN_ID.fullmatch(sweep):
        return _stop_run(world, sweep, reason, as_json)
    why = f": {reason}" if reason else ""
    if sweep is not None and not world.sweeps.read(sweep):
        open_ones = ", ".join(world.sweeps.open_sweeps()) or "none"
        raise WrongUse(f"There is no sweep {sweep}.", mend=f"open are: {open_ones}.", code="no-such-sweep")
    stopped = [
        name
        for name in ([sweep] if sweep is not None else world.sweeps.open_sweeps())
        if stop_sweep(world, name, f"A person stopped it (canonq stop{why}).")
    ]
    for name in stopped:
        shares.stopped(world, name)
    if as_json:
        print_json({"stopped": stopped, "left": []})
    else:
        for name in stopped:
            click.echo(f"Stopped the sweep {name}. {ends_here(None)}")
        if not stopped:
            click.echo(f"The sweep {sweep} is over." if sweep else "No sweep is open.")
    return ExitStatus.DONE


def _stop_run(world: World, run: str, reason: str, as_json: bool) -> ExitStatus:
    ask(world, run, by=caller(), reason=reason)
    if not as_json:
        say(f"Asked {run} to end; it cleans up first.", err=True)
    ends = time.monotonic() + world.settings.teardown_timeout + _TO_NOTICE

    def pause() -> bool:
        time.sleep(_LOOK_EVERY)
        return time.monotonic() < ends

    over = await_end(world, run, pause)
    left = left_of(world, run) if over else []
    if as_json:
        print_json({"stopped": [run] if over else [], "left": left})
    elif not over:
        say(f"{run} has not ended yet; it will. `canonq watch` shows it.")
    else:
        say(f"Stopped {run}. " + (" ".join(f"Left behind: {line}." for line in left) or "Nothing is left of it."))
    return ExitStatus.DONE if over and not left else ExitStatus.ATTENTION


@click.command()
@recipes_argument
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done to clone, mirror and forge; nothing is changed, here or there."
)
@click.option(
    "--accept-moved", "moved", metavar="TAG", help="Accept that this tag points to another commit now; one recipe only."
)
@json_option
def sync(recipes: tuple[str, ...], dry_run: bool, moved: str | None, as_json: bool) -> ExitStatus:
    """Bring clones, mirrors and pull requests in line with upstream, now; all enrolled recipes, or those named."""
    if moved is not None and len(recipes) != 1:
        raise WrongUse("--accept-moved is about one recipe.", mend="name it.")
    world = looking() if dry_run else live()
    if moved is not None:
        must_be_here(world, recipes[0], f"canonq sync {recipes[0]} --accept-moved '{moved}'")
    rows = sync_flow.sync_all(world, recipes, dry_run=dry_run, moved=moved)
    if as_json:
        print_json({"dry_run": dry_run, "recipes": rows})
    else:
        columns = ("recipe", "state", "reason", "newest release", "fetched", "pushed", "detail")
        cells = [
            [r["recipe"], r["state"], r["cause"] or r["reason"], r["latest"], "yes" if r["changed"] else "", r["pushed"] or "",
             r["detail"]] for r in rows
        ]  # fmt: skip
        title = "Sync (nothing was changed)" if dry_run else "Sync"
        print_table(title, columns, cells, give_way=("pushed", "fetched", "newest release"), sentence="detail")
        for row in rows:
            for note in row["notes"]:
                say(f"{row['recipe']}: {note}")
    return status_of_rows(row for row in rows if row["state"] == "error")
