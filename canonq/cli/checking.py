"""Commands that say what a sweep would find: plan, doctor, check, config."""

from __future__ import annotations

import os

import click

from canonq.cli.options import json_option, recipes_argument
from canonq.cli.output import print_json, print_table, say
from canonq.core.errors import ExitStatus
from canonq.core.outcomes import status_of_rows
from canonq.core.text import ended
from canonq.flows import check as check_flow
from canonq.flows import doctor as doctor_flow
from canonq.flows import plan as plan_flow
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
        for row in rows:
            for note in row["notes"]:
                say(f"{row['recipe']}: {note}")
    return status_of_rows(rows)


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
                f"{ended(check['detail'])} Mend: {check['mend']}" if check["mend"] else check["detail"],
            ]
            for check in checks
        ]
        print_table("Doctor", ("check", "state", "what is found"), rows, sentence="what is found")
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
        cells = [[row["recipe"], row["state"], "; ".join([*row["problems"], *row["notes"]])] for row in rows]
        print_table("Enrolments", ("recipe", "state", "what is found"), cells, sentence="what is found")
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
