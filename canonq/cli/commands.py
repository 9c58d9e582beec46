"""The commands. Each unpacks its options, calls one flow, and prints."""

from __future__ import annotations

import contextlib
import getpass
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
from celery import Celery, Signature, chain
from kombu.exceptions import OperationalError

from beat_schedule import nights_since
from canonq import __version__
from canonq.cli.interrupts import interrupts
from canonq.cli.output import OUTCOME_COLUMNS, outcome_rows, print_json, print_table, told_tries
from canonq.cli.waiting import (
    await_result,
    await_sweep,
    ends_here,
    locks_for,
    require_workers,
    stopping,
    workers_for,
)
from canonq.core.enrolment import LONGEST_RUN
from canonq.core.errors import CanonqError, ExitStatus, HostProblem, WrongUse
from canonq.core.names import ref_name
from canonq.core.outcomes import status_of_rows, status_of_step
from canonq.core.records import Promotion, Verdict
from canonq.flows import doctor as doctor_flow
from canonq.flows import enrol as enrol_flow
from canonq.flows import plan as plan_flow
from canonq.flows import restore as restore_flow
from canonq.flows import rollback as rollback_flow
from canonq.flows import room as room_flow
from canonq.flows import status as status_flow
from canonq.flows import sync as sync_flow
from canonq.flows.nights import DueSince
from canonq.flows.sweep import open_sweep, who
from canonq.flows.sweep import stop as stop_sweep
from canonq.flows.world import World
from canonq.settings import Settings, load_settings
from canonq.wiring import checking, live, looking
from workers import tree as process_tree
from workers import webhook as webhook_server
from workers.broker import check_broker
from workers.factory import LIGHT, make_app

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value, for programs.")


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done and nothing red; 1 something red, deferred or refused; 2 wrong use, wrong "
    "configuration or a hollow sweep; 3 the machinery failed.",
)
@click.version_option(__version__, prog_name="canonq")
def canonq() -> None:
    """Keep, for every enrolled Co-op Cloud recipe, one canonical: the newest release proven from a cold start."""


@canonq.command()
@click.argument("recipes", nargs=-1, metavar="[RECIPE]...")
@click.option("--wait", is_flag=True, help="Wait for every outcome and print the table.")
@json_option
def sweep(recipes: tuple[str, ...], wait: bool, as_json: bool) -> ExitStatus:
    """Run one sweep now, over all enrolled recipes or those named."""
    settings = load_settings()
    world = live(settings)
    _, names = who(world, recipes)  # wrong use, and a hollow sweep, are told before anything is started or put on record
    with workers_for(settings, quiet=as_json) as tree:
        app = make_app(load_settings())
        if tree is None:
            require_workers(app, _queues(world, names) | {LIGHT}, wait=wait)
        opened = open_sweep(world, recipes, awaited=wait or tree is not None)
        if not as_json:
            enrolled = world.sweeps.read(opened.sweep)["enrolled"]
            click.echo(f"Sweep {opened.sweep} of {len(enrolled)} recipes.", err=True)
        try:
            _enqueue(app, app.signature("canonq.sweep", args=[list(recipes), opened.sweep]))
        except (CanonqError, OperationalError) as error:
            stop_sweep(world, opened.sweep, f"It could not be handed to a worker: {error}", refused=True)
            raise
        if not wait and tree is None:
            shown = {"sweep": opened.sweep, "enrolled": len(world.sweeps.read(opened.sweep)["enrolled"])}
            print_json(shown) if as_json else click.echo(f"Sweep {opened.sweep} of {shown['enrolled']} recipes was enqueued.")
            return ExitStatus.DONE
        with stopping(f"the sweep {opened.sweep}", lambda: _stopped(world, opened.sweep, tree)):
            result = await_sweep(live(), opened.sweep, tree, quiet=as_json)
    if as_json:
        print_json(result)
    else:
        _print_sweep(result)
    return ExitStatus(result["exit_status"])


def _queues(world: World, names: Sequence[str]) -> set[str]:
    """The queues that recipes need; broken enrolments need none."""
    recipes = world.checkout.enrolled().recipes
    return {recipes[name].queue for name in names if name in recipes}


def _stopped(world: World, sweep: str, tree: process_tree.Tree | None) -> str:
    stop_sweep(world, sweep, "A person stopped it (Ctrl-C).")
    return f"Nothing more of it starts. {ends_here(tree)}"


def _print_sweep(result: dict[str, Any]) -> None:
    print_table(f"Sweep {result['sweep']}", OUTCOME_COLUMNS, outcome_rows(result["outcomes"], result["troubles"]))
    for outcome in result["outcomes"]:
        for line in [*(f"{outcome['recipe']}: {note}" for note in outcome["notes"]), *told_tries(outcome)]:
            click.echo(line)
    for line in result["findings"]:
        click.echo(line)
    if result["proven"]:
        click.echo(f"Green, waiting to be promoted: {', '.join(result['proven'])}.")
    if result["failed"]:
        click.echo(f"The sweep {result['state']}: {result['failed']}", err=True)
    click.echo(", ".join(f"{count} {kind}" for kind, count in result["counts"].items()) + f" = {result['enrolled']} enrolled")


@canonq.command()
@click.argument("sweep", required=False)
@json_option
def stop(sweep: str | None, as_json: bool) -> ExitStatus:
    """Stop a sweep, or every open one: nothing more of it starts, and steps under way end by themselves."""
    world = live()
    if sweep is not None and not world.sweeps.read(sweep):
        raise WrongUse(f"There is no sweep {sweep}.", mend=f"open are: {', '.join(world.sweeps.open_sweeps()) or 'none'}.")
    stopped = [
        name
        for name in ([sweep] if sweep is not None else world.sweeps.open_sweeps())
        if stop_sweep(world, name, "A person stopped it (canonq stop).")
    ]
    if as_json:
        print_json({"stopped": stopped})
    else:
        for name in stopped:
            click.echo(f"Stopped the sweep {name}. {ends_here(None)}")
        if not stopped:
            click.echo(f"The sweep {sweep} is over." if sweep else "No sweep is open.")
    return ExitStatus.DONE


def _enqueue(app: Celery, what: Signature[Any]) -> Any:
    """Send a task or chain; HostProblem at once when the broker does not answer."""
    check_broker(app)
    return what.apply_async()


@canonq.command()
@json_option
def plan(as_json: bool) -> ExitStatus:
    """Say what a sweep would do and why; changes nothing."""
    found = plan_flow.plan(looking())
    rows = found["recipes"]
    if as_json:
        print_json(found)
    else:
        columns = ("recipe", "action", "reason", "latest", "canonical", "base", "queue", "seconds", "MiB", "detail")
        print_table(
            "Plan",
            columns,
            [
                [*(row[key] for key in columns[:7]), row["expected_seconds"], _mib(row["expected_disk_bytes"]), row["detail"]]
                for row in rows
            ],
        )
    return status_of_rows(rows)


def _mib(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:.0f}"


@canonq.command()
@click.argument("recipe", required=False)
@json_option
def status(recipe: str | None, as_json: bool) -> ExitStatus:
    """Show canonicals, last verdicts and what is running."""
    settings = load_settings()
    found = status_flow.status(looking(settings), recipe, _due_since(settings))
    told = ExitStatus(found.pop("exit_status"))
    if as_json:
        print_json(found)
        return told
    columns = ("recipe", "weight", "canonical", "promoted at", "last run", "verdict", "version", "level", "reason", "now")
    print_table("Canonicals", columns, [_status_row(row) for row in found["recipes"]])
    if found["newest_sweep_failed"]:
        click.echo(f"The newest sweep {found['newest_sweep']} was not done: {found['newest_sweep_failed']}")
    if found["last_night"]:
        last = found["last_night"]
        click.echo(f"The last night with a report is that of {last['due']}: sweep {last['sweep']}, {last['state']}.")
    if found["nights_told"]:
        click.echo(found["nights_told"])
    for name in found["open_sweeps"]:
        click.echo(f"The sweep {name} is open; `canonq stop {name}` stops it.")
    for row in found["recipes"]:
        if row["problem"]:
            click.echo(f"{row['recipe']}: {row['problem']}")
        if row["proven"]:
            click.echo(_told_proven(row["recipe"], row["proven"]))
        for run in row.get("runs", []) if recipe else []:
            click.echo(f"{run['run']}  {run['verdict']:5}  level {run['level']}  {run['version']}  {run['detail']}")
    return told


def _due_since(settings: Settings) -> DueSince:
    return lambda night, now: nights_since(night, now, settings.nightly)


def _told_proven(recipe: str, proven: dict[str, Any]) -> str:
    failed = f", after {proven['failures']} promotion(s) that failed" if proven["failures"] else ""
    return (
        f"{recipe}: {proven['version']} is green (run {proven['run']}), waiting to be promoted{failed}; the next sweep "
        f"does that, and `canonq sweep {recipe}` does it now."
    )


def _status_row(row: dict[str, Any]) -> list[Any]:
    record, last = row["canonical"] or {}, row["last_run"] or {}
    held = ", ".join(row.get("running", []))
    if row["held_by"]:
        since = row["held_by"].get("since")
        held = str(row["held_by"].get("holder"))
        held += f" since {datetime.fromtimestamp(since, UTC):%H:%M:%S} UTC" if isinstance(since, int) else ""
        held += f", step {row['promoting']}" if row["promoting"] else ""
    return [
        row["recipe"], row["weight"], record.get("version"), record.get("promoted_at"), last.get("id"),
        last.get("verdict"), last.get("version"), last.get("level"), last.get("reason"), held,
    ]  # fmt: skip


@canonq.command()
@click.argument("recipe")
@click.option("--tag", help="The release to prove; when not given, the newest, or with --quick the canonical's own.")
@click.option("--ref", help="A branch, commit or pull request (pull/7/head) to test instead; it can never be promoted.")
@click.option("--quick", is_flag=True, help="On a copy of the canonical's data, few tiers; it can never be promoted.")
@json_option
def test(recipe: str, tag: str | None, ref: str | None, quick: bool, as_json: bool) -> ExitStatus:
    """Prove one release from a cold start, now; or look at a ref, or at the canonical's data."""
    settings = load_settings()
    enrolment = live(settings).checkout.enrolment(recipe)
    if tag is not None and ref is not None:
        raise WrongUse("--tag and --ref exclude each other.", mend="give one of them.")
    for name in (name for name in (tag, ref) if name is not None):
        ref_name(name)
    with workers_for(settings, quiet=as_json) as tree:
        app = make_app(load_settings())
        if tree is None:
            require_workers(app, {enrolment.queue, LIGHT})
        links = chain(
            app.signature("canonq.sync", args=[recipe], options={"queue": "light"}),
            app.signature("canonq.test", kwargs={"tag": tag, "ref": ref, "quick": quick}, options={"queue": enrolment.queue}),
            app=app,
        )
        verdict = await_result(_enqueue(app, links), tree, LONGEST_RUN * 2)
    if as_json:
        print_json(verdict)
    else:
        rungs = [[name, rung["status"], rung["reason"]] for name, rung in verdict["rungs"].items()]
        print_table(
            f"{recipe} {verdict['version']}: {verdict['verdict']}, level {verdict['level']}", ("rung", "status", "reason"), rungs
        )
        click.echo(verdict["detail"])
        for line in verdict["log_tail"]:
            click.echo(f"  {verdict['service']}: {line}")
        for line in [*verdict["gaps"], *verdict["stale"]]:
            click.echo(f"note: {line}")
        click.echo(f"Everything about this run is in {verdict['directory']}.")
    return status_of_step(Verdict.model_validate(verdict))


@canonq.command()
@click.argument("recipe")
@click.option("--again", is_flag=True, help="Make the canonical anew at its own version, from a new green run of it.")
@click.option("--reason", help="Why; with --again. It is kept with the record.")
@json_option
def promote(recipe: str, again: bool, reason: str | None, as_json: bool) -> ExitStatus:
    """Put a recipe's newest verdict through the gate, and promote it if it passes."""
    if again != bool(reason and reason.strip()):
        raise WrongUse("--again and --reason belong together.", mend="give both, or neither.")
    settings = load_settings()
    enrolment = live(settings).checkout.enrolment(recipe)
    with workers_for(settings, quiet=as_json) as tree:
        app = make_app(load_settings())
        if tree is None:
            require_workers(app, {enrolment.queue})
        wanted = {"again": {"by": _who(), "reason": reason}} if again else {}
        task = app.signature("canonq.promote", args=[recipe], kwargs=wanted, options={"queue": enrolment.queue})
        done = await_result(_enqueue(app, task), tree, LONGEST_RUN * 2)
    if as_json:
        print_json(done)
    else:
        click.echo(f"{recipe} {done['version'] or ''}: {done['outcome']} ({done['reason']}). {done['detail']}")
        for reason in done["reasons"]:
            click.echo(f"  {reason}")
    return status_of_step(Promotion.model_validate(done))


@canonq.command()
@click.argument("recipe", required=False)
@json_option
def verify(recipe: str | None, as_json: bool) -> ExitStatus:
    """Check records, snapshots, checksums and retained volumes."""
    world = looking()
    rows = status_flow.verify(world, world.checkout.enrolment(recipe).recipe if recipe else None)
    if as_json:
        print_json({"recipes": rows})
    else:
        columns = ("recipe", "canonical", "state", "problems")
        print_table(
            "Canonicals on record", columns,
            [[r["recipe"], r["version"], r["state"], "; ".join(r["problems"])] for r in rows],
        )  # fmt: skip
    states = {row["state"] for row in rows}
    return ExitStatus.MACHINERY if "broken" in states else ExitStatus.ATTENTION if "unknown" in states else ExitStatus.DONE


@canonq.command()
@click.argument("recipe")
@click.option("--to", metavar="VERSION", help="The kept version to go back to; the one before when not given.")
@click.option("--reason", required=True, help="Why; it is kept with the record.")
@json_option
def rollback(recipe: str, to: str | None, reason: str, as_json: bool) -> ExitStatus:
    """Go back to a kept canonical, with its data."""
    with locks_for(load_settings()) as world:
        record = rollback_flow.rollback(world, world.checkout.enrolment(recipe).recipe, to=to, reason=reason, who=_who())
    if as_json:
        print_json(record.model_dump(mode="json", by_alias=True))
    else:
        click.echo(f"The canonical of {recipe} is {record.version} again, as promoted at {record.promoted_at}.")
        held = [back.version for back in record.rolled_back if record.held(back.version, back.commit)]
        if held:
            click.echo(f"Held until a newer release, or `canonq sweep {recipe}`: {', '.join(held)}.")
    return ExitStatus.DONE


def _who() -> str:
    return os.environ.get("SUDO_USER") or getpass.getuser()


@canonq.command()
@click.argument("recipe")
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
    made = restore_flow.restore(world, recipe, stack, to=to)
    if as_json:
        print_json(made)
    else:
        click.echo(f"{recipe} {made['version']} runs as the stack {stack}, at {made['domain']}, on a copy of the data.")
        click.echo(f"`canonq restore {recipe} --stack {stack} --remove` takes it away again.")
    return ExitStatus.DONE


@canonq.command()
@click.argument("recipes", nargs=-1, metavar="[RECIPE]...")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be done to clone, mirror and forge; nothing is changed, here or there."
)
@click.option("--accept-moved", "moved", metavar="TAG", help="Take what this tag of the one recipe names now for what it names.")
@json_option
def sync(recipes: tuple[str, ...], dry_run: bool, moved: str | None, as_json: bool) -> ExitStatus:
    """Bring clones, mirrors and pull requests in line with upstream, now; all enrolled recipes, or those named."""
    if moved is not None and len(recipes) != 1:
        raise WrongUse("--accept-moved is about one recipe.", mend="name it.")
    rows = sync_flow.sync_all(looking() if dry_run else live(), recipes, dry_run=dry_run, moved=moved)
    if as_json:
        print_json({"dry_run": dry_run, "recipes": rows})
    else:
        columns = ("recipe", "state", "newest release", "fetched", "pushed", "detail")
        cells = [
            [r["recipe"], r["state"], r["latest"], "yes" if r["changed"] else "", r["pushed"] or "", r["detail"]] for r in rows
        ]
        print_table("Sync (nothing was changed)" if dry_run else "Sync", columns, cells)
        for row in rows:
            for note in row["notes"]:
                click.echo(f"{row['recipe']}: {note}")
    return status_of_rows(row for row in rows if row["state"] == "error")


@canonq.command()
@click.argument("recipe")
@click.option("--upstream", metavar="ADDRESS", help="The recipe's git repository; looked up in the catalogue when not given.")
@click.option("--catalogue", "--catalog", metavar="FILE_OR_URL", help="The recipes.json to look in.")
@click.option("--force", is_flag=True, help="Write a recipe.toml anew that is there already.")
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
    click.echo(f"Look it over, commit it, and try it: canonq test {recipe}")
    return ExitStatus.DONE


@canonq.command()
def webhook() -> ExitStatus:
    """Take pushes that a forge tells of, until it is stopped; only with [webhook] configured."""
    webhook_server.serve(load_settings())
    return ExitStatus.DONE


@canonq.command()
@json_option
def doctor(as_json: bool) -> ExitStatus:
    """Check everything a sweep needs, and say how to mend each."""
    settings = load_settings()
    checks = doctor_flow.doctor(checking(settings), _due_since(settings))
    if as_json:
        print_json({"checks": checks})
    else:
        print_table("Doctor", ("check", "state", "detail", "mend"), [list(check.values()) for check in checks])
    broken = [check for check in checks if check["state"] == "broken"]
    if any(check["check"] in ("checkout", "enrolments") for check in broken):
        return ExitStatus.WRONG_USE
    missed = any(check["check"] == "nights" and check["state"] == "warning" for check in checks)
    return ExitStatus.MACHINERY if broken else ExitStatus.ATTENTION if missed else ExitStatus.DONE


@canonq.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def janitor(dry_run: bool, as_json: bool) -> ExitStatus:
    """Remove what dead work left, and what is beyond `keep` and `keep_runs`; never the canonical or what is not canonq's."""
    with contextlib.nullcontext(looking()) if dry_run else locks_for(load_settings()) as world:
        lines = room_flow.tidy(world, dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "removed": lines})
    else:
        click.echo("\n".join(lines) or "There was nothing to remove.")
    return ExitStatus.DONE


@canonq.command()
@json_option
def up(as_json: bool) -> ExitStatus:
    """Run everything a single host needs until it is stopped: Redis if none is configured, workers, beat."""
    settings = load_settings()
    world = live(settings)
    enrolled = world.checkout.enrolled()  # a hollow installation is told now, not at 03:00
    with process_tree.running(settings, beat=True, keep_redis=True, hurried=interrupts.hurried) as tree:
        told = {"up": True, "enrolled": enrolled.names, "logs": str(process_tree.log_folder(settings))}
        told["redis"] = load_settings().broker_url() if settings.configured_broker() is None else None
        if as_json:
            print_json(told)
        else:
            click.echo(f"Up with {len(enrolled.names)} recipes; logs in {told['logs']}.")
            if told["redis"]:
                click.echo(
                    f"Its Redis is {told['redis']}; canonq and celery with CANONQ_STATE={settings.state} find it by themselves."
                )
        try:
            while (dead := tree.dead()) is None:
                time.sleep(1)
        except KeyboardInterrupt:
            return ExitStatus.DONE
        raise HostProblem(f"{dead} ended, so everything was stopped.", mend="look at its log.", code="process-ended")
