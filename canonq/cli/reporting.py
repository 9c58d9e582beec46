"""Commands that tell: report."""

from __future__ import annotations

import click

from canonq.cli.options import json_option
from canonq.cli.output import print_json
from canonq.core.errors import ExitStatus
from canonq.flows import report as report_flow
from canonq.settings import load_settings
from canonq.wiring import due_since, live


@click.command()
@json_option
def report(as_json: bool) -> ExitStatus:
    """Write the report: pages, JSON, badges, feed; and say where it is.

    It is written after each sweep by itself. Exit status 2 where nothing is enrolled (the page says so), 1 where something
    needs a person or a night was missed.
    """
    settings = load_settings()
    world = live(settings)
    found = report_flow.write(world, due_since(settings))
    if as_json:
        print_json(found)
    else:
        click.echo(found["headline"])
        click.echo(f"The report is {report_flow.folder_of(world) / 'index.html'}.")
    if found["problem"]:
        return ExitStatus.WRONG_USE
    return ExitStatus.ATTENTION if found["need_a_person"] or found["missed_nights"] else ExitStatus.DONE
