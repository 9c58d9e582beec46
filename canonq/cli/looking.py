"""Commands that only look at what is kept: status, verify."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from canonq.cli.asjson import print_json
from canonq.cli.options import json_option, maybe_recipe
from canonq.cli.output import print_table, progress, say
from canonq.core.ago import ago
from canonq.core.errors import ExitStatus, Fault
from canonq.flows.looking import status as status_flow
from canonq.flows.looking import verify as verify_flow
from canonq.flows.sweeps.brokenoff import is_broken_off
from canonq.flows.upstream.asked import recipe_asked
from canonq.settings import load_settings
from canonq.wiring import due_since, looking


@click.command()
@maybe_recipe
@json_option
def status(recipe: str | None, as_json: bool) -> ExitStatus:
    """Show canonicals, last verdicts and what is running."""
    settings = load_settings()
    world = looking(settings)
    found = status_flow.status(world, recipe, due_since(settings))
    told = ExitStatus(found.pop("exit_status"))
    if as_json:
        print_json(found)
        return told
    now = world.now()
    columns = ("recipe", "canonical", "promoted", "verdict", "version", "level", "reason", "last run", "weight", "now")
    print_table(
        "Canonicals", columns, [_status_row(row, now) for row in found["recipes"]],
        give_way=("weight", "promoted", "level", "reason", "version", "last run", "verdict"), sentence="now",
    )  # fmt: skip
    if found["recipes"] and not recipe and not any(row["canonical"] or row["last_run"] for row in found["recipes"]):
        say("Nothing of them was proven yet: `canonq sweep --wait` does all, `canonq test RECIPE` one of them.")
    if found["newest_sweep_failed"]:
        say(f"The newest sweep {found['newest_sweep']} was not done: {found['newest_sweep_failed']}")
    if found["last_night"]:
        last = found["last_night"]
        say(f"The last night with a report is that of {last['due']}: sweep {last['sweep']}, {last['state']}.")
    if found["nights_told"]:
        say(found["nights_told"])
    for name in found["open_sweeps"]:
        if is_broken_off(world, name):
            say(f"The sweep {name} was broken off: its command was killed. The next sweep, or `canonq stop {name}`, closes it.")
        else:
            say(f"The sweep {name} is open; `canonq stop {name}` stops it.")
    for row in found["recipes"]:
        if row["problem"]:
            say(f"{row['recipe']}: {row['problem']}")
        if row["proven"]:
            say(_told_proven(row["recipe"], row["proven"]))
        if recipe and row.get("runs"):
            runs = [
                [run["run"], ago(run["ts"], now), run["verdict"], run["level"], run["version"], run["reason"], run["detail"]]
                for run in reversed(row["runs"])
            ]
            heads = ("run", "began", "verdict", "level", "version", "reason", "detail")
            print_table("Runs, newest first", heads, runs, give_way=("level", "reason", "version"), sentence="detail")
            say(f"Files: {row['runs'][-1]['directory']}")
    return told


def _told_proven(recipe: str, proven: dict[str, Any]) -> str:
    if proven["held"]:
        return f"{recipe}: {proven['version']} is green (run {proven['run']}), and held: {proven['held']}."
    failed = f", after {proven['failures']} promotion(s) that failed" if proven["failures"] else ""
    return (
        f"{recipe}: {proven['version']} is green (run {proven['run']}), waiting to be promoted{failed}; the next sweep "
        f"does that, and `canonq sweep {recipe}` does it now."
    )


def _status_row(row: dict[str, Any], now: datetime) -> list[Any]:
    record, last = row["canonical"] or {}, row["last_run"] or {}
    held = ", ".join(row.get("running", []))
    if row["held_by"]:
        since = row["held_by"].get("since")
        held = str(row["held_by"].get("holder"))
        held += f" since {datetime.fromtimestamp(since, UTC):%H:%M:%S} UTC" if isinstance(since, int) else ""
        held += f", step {row['promoting']}" if row["promoting"] else ""
    return [
        row["recipe"], record.get("version"), ago(record.get("promoted_at"), now), last.get("verdict"), last.get("version"),
        last.get("level"), last.get("reason"), ago(last.get("ts"), now), row["weight"], held,
    ]  # fmt: skip


@click.command()
@maybe_recipe
@json_option
def verify(recipe: str | None, as_json: bool) -> ExitStatus:
    """Check records, snapshots, checksums and retained volumes."""
    world = looking()
    rows = verify_flow.verify(world, recipe_asked(world, recipe) if recipe else None, progress)
    if as_json:
        print_json({"recipes": rows})
    else:
        columns = ("recipe", "canonical", "state", "reason", "problems")
        cells = [[r["recipe"], r["version"], r["state"], r["reason"], "; ".join(r["problems"])] for r in rows]
        print_table("Canonicals on record", columns, cells, sentence="problems")
        if not rows:
            say(f"Nothing was verified: no canonical is on record in {world.settings.state.absolute()}.")
    if any(row["state"] == "broken" or row["fault"] == Fault.HOST for row in rows):
        return ExitStatus.MACHINERY
    return ExitStatus.DONE if all(row["ok"] for row in rows) else ExitStatus.ATTENTION
