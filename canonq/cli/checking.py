"""Commands that say what a sweep would find: plan, doctor, check, config."""

from __future__ import annotations

import os
from pathlib import Path

import click

from canonq.cli.asjson import print_json
from canonq.cli.options import json_option, recipes_argument
from canonq.cli.output import print_table, say
from canonq.core.ago import duration
from canonq.core.amounts import bytes_in, seconds_in
from canonq.core.errors import ExitStatus
from canonq.core.outcomes import status_of_rows
from canonq.core.text import ended
from canonq.flows.hosts import light_workers
from canonq.flows.looking import check as check_flow
from canonq.flows.looking import doctor as doctor_flow
from canonq.flows.sweeps import plan as plan_flow
from canonq.flows.sweeps import simulate as simulate_flow
from canonq.settings import config_file, explained, load_settings, unknown_variables
from canonq.wiring import checking, due_since, looking


@click.command()
@recipes_argument
@json_option
def plan(recipes: tuple[str, ...], as_json: bool) -> ExitStatus:
    """Say what a sweep would do and why; changes nothing."""
    found = plan_flow.plan(looking(), recipes)
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
            give_way=("MiB", "seconds", "queue", "base", "canonical", "latest", "reason"),
            sentence="detail",
        )
        if found["blocked"]:
            say(f"As things are, none of that would be done: {found['trouble']}")
        elif found["trouble"] and any(row["action"] in ("run", "promote") for row in rows):
            say(f"Whether Docker is ready for that could not be looked at: {found['trouble']}")
        for row in rows:
            for note in row["notes"]:
                say(f"{row['recipe']}: {note}")
    return ExitStatus.MACHINERY if found["blocked"] else status_of_rows(rows)


def _mib(count: int | None) -> str | None:
    return None if count is None else f"{count / 2**20:.0f}"


@click.command()
@json_option
def doctor(as_json: bool) -> ExitStatus:
    """Check everything a sweep needs, and say how to mend each."""
    settings = load_settings()
    checks = doctor_flow.doctor(checking(settings), due_since(settings))
    if as_json:
        print_json({"checks": checks})
    else:
        rows = [
            [
                check["check"],
                check["state"],
                check["reason"],
                f"{ended(check['detail'])} Mend: {check['mend']}" if check["mend"] else check["detail"],
            ]
            for check in checks
        ]
        print_table("Doctor", ("check", "state", "reason", "what is found"), rows, sentence="what is found")
    broken = [check for check in checks if check["state"] == "broken"]
    if any(check["check"] in ("checkout", "enrolments") for check in broken):
        return ExitStatus.WRONG_USE
    missed = any(check["check"] == "nights" and check["state"] == "warning" for check in checks)
    return ExitStatus.MACHINERY if broken else ExitStatus.ATTENTION if missed else ExitStatus.DONE


@click.command()
@recipes_argument
@json_option
def check(recipes: tuple[str, ...], as_json: bool) -> ExitStatus:
    """Check enrolments by their own files, without a sweep: for whoever writes them, and for their checkout's CI.

    recipe.toml, hooks.py, own tests, install_steps.sh and compose.canonq.yml are read and nothing of them is run; neither Docker
    nor upstream is asked. Exit status 2 where one cannot be used.
    """
    rows = check_flow.check(looking(), recipes)
    if as_json:
        print_json({"recipes": rows})
    else:
        cells = [[row["recipe"], row["state"], row["reason"], "; ".join([*row["problems"], *row["notes"]])] for row in rows]
        print_table("Enrolments", ("recipe", "state", "reason", "what is found"), cells, sentence="what is found")
        broken = sum(row["state"] == "broken" for row in rows)
        say(f"{len(rows)} looked at, {broken or 'none'} of them broken.")
    return ExitStatus.WRONG_USE if any(row["state"] == "broken" for row in rows) else ExitStatus.DONE


@click.command()
@json_option
def config(as_json: bool) -> ExitStatus:
    """Show each setting, its value and where it came from; secrets are not shown."""
    settings = load_settings()
    rows = explained(settings, os.environ)
    file, unread = config_file(), unknown_variables(os.environ)
    if as_json:
        print_json({"file": str(file.absolute()) if file else None, "settings": rows, "unread": sorted(unread)})
        return ExitStatus.DONE
    cells = [[row["key"], row["value"], row["from"], row["variable"]] for row in rows]
    print_table("Settings", ("setting", "value", "from", "variable"), cells, give_way=("variable", "from"))
    say(f"The file in force is {file.absolute()}." if file else "No canonq.toml is in force: neither here nor in /etc/canonq.")
    for name, meant in unread.items():
        say(f"{name} is set, and nothing reads it{f'; did you mean {meant}?' if meant else '.'}")
    return ExitStatus.DONE


@click.command()
@click.option("--fleet", type=int, metavar="N", help="So many made-up recipes, instead of those that are enrolled.")
@click.option("--hosts", type=click.IntRange(min=1), default=1, show_default=True, help="Hosts that share the work.")
@click.option("--light", type=int, help="Light slots of each host; when not given, `light_workers`.")
@click.option("--heavy", type=int, default=1, show_default=True, help="Heavy slots of each host.")
@click.option("--memory", metavar="SIZE", help="Memory of each host for what runs, such as 16 GiB.")
@click.option("--disk", metavar="SIZE", help="Disk of each host for what runs.")
@click.option("--window", metavar="TIME", help="Nothing starts that would not end within it, such as 6h.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed makes up other recipes.")
@click.option("--page", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw it as a page, too.")
@json_option
def simulate(
    fleet: int | None,
    hosts: int,
    light: int | None,
    heavy: int,
    memory: str | None,
    disk: str | None,
    window: str | None,
    seed: int,
    page: Path | None,
    as_json: bool,
) -> ExitStatus:
    """Estimate how long a night takes, from what is on record or for a made-up fleet; changes nothing."""
    world = looking(load_settings())
    jobs = simulate_flow.recorded(world) if fleet is None else simulate_flow.imagined(fleet, seed)
    night = simulate_flow.Night(
        hosts=hosts,
        light=light_workers(world) if light is None else light,
        heavy=heavy,
        memory=bytes_in(memory) if memory is not None else None,
        disk=bytes_in(disk) if disk is not None else None,
        window=seconds_in(window, most=7 * 86400) if window is not None else None,
    )
    found = simulate_flow.simulate(jobs, night)
    if page is not None:
        simulate_flow.draw(page, jobs, night, found, world.stamp())
    if as_json:
        print_json(found)
        return ExitStatus.ATTENTION if found["left_out"] else ExitStatus.DONE
    columns = ("host", "light", "heavy", "recipes", "use")
    print_table("Hosts", columns, [[row[key] for key in columns] for row in found["hosts"]])
    say(f"{len(found['recipes'])} recipes in {duration(found['makespan_seconds'])}; no schedule can take less than "
        f"{duration(found['lower_bound_seconds'])}. With one host more: {duration(found['one_host_more_seconds'])}.")  # fmt: skip
    for row in found["left_out"]:
        say(f"{row['recipe']} is left out: {row['reason']}.")
    if page is not None:
        say(f"It is drawn in {page}.")
    return ExitStatus.ATTENTION if found["left_out"] else ExitStatus.DONE
