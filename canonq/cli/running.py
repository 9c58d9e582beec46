"""Commands that run until they are stopped: up, webhook."""

from __future__ import annotations

import time

import click

from canonq.cli.interrupts import interrupts
from canonq.cli.options import json_option
from canonq.cli.output import print_json
from canonq.cli.view import View
from canonq.cli.watching import show_open
from canonq.core.errors import ExitStatus, HostProblem
from canonq.flows.progress import Watcher
from canonq.settings import load_settings
from canonq.wiring import live
from workers import tree as process_tree
from workers import webhook as webhook_server


@click.command()
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
            watcher = Watcher(world)
            with View(quiet=as_json) as view:
                while (dead := tree.dead()) is None:
                    show_open(view, watcher, world)
                    time.sleep(1)
        except KeyboardInterrupt:
            return ExitStatus.DONE
        raise HostProblem(f"{dead} ended, so everything was stopped.", mend="look at its log.", code="process-ended")


@click.command()
def webhook() -> ExitStatus:
    """Take pushes that a forge tells of, until it is stopped; only with [webhook] configured."""
    webhook_server.serve(load_settings())
    return ExitStatus.DONE
