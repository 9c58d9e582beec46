"""Commands that say what a sweep would find: plan, doctor."""

from __future__ import annotations

import click

from canonq.cli.looking import due_since
from canonq.cli.options import json_option
from canonq.cli.output import print_json, print_table, say
from canonq.core.errors import ExitStatus
from canonq.core.outcomes import status_of_rows
from canonq.core.text import ended
from canonq.flows import doctor as doctor_flow
from canonq.flows import plan as plan_flow
from canonq.settings import load_settings
from canonq.wiring import checking, looking


@click.command()
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
