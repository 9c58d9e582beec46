"""Commands that run until they are stopped: up, webhook."""

from __future__ import annotations

import contextlib
import os
import time

import click

from canonq.adapters.state.work_folders import at_work, is_alive
from canonq.cli.asjson import print_json
from canonq.cli.interrupts import interrupts
from canonq.cli.options import json_option
from canonq.cli.output import say
from canonq.cli.view import View
from canonq.cli.waiting import clean_up, ends_here, tell_of_one
from canonq.cli.watching import show_open
from canonq.core.errors import CanonqError, ExitStatus
from canonq.flows.looking.progress import Watcher
from canonq.flows.world import World
from canonq.settings import Settings, load_settings
from canonq.wiring import live
from workers import tree as process_tree
from workers import web as web_server
from workers import webhook as webhook_server


@click.command()
@click.option("--flower", is_flag=True, help="Flower too: a page of tasks on 127.0.0.1:5555, or FLOWER_PORT, behind a login.")
@click.option("--web", "with_web", is_flag=True, help="Serve the report's pages too, as `canonq web` does.")
@json_option
def up(flower: bool, with_web: bool, as_json: bool) -> ExitStatus:
    """Run everything a single host needs until it is stopped: Redis if none is configured, workers, beat.

    What ends is started again, after a pause that grows, and told. What a sweep does is shown as it goes on.
    """
    settings = load_settings()
    if with_web:
        web_server.required(settings)
    world = live(settings)
    enrolled = world.checkout.enrolled()  # a hollow installation is told now, not at 03:00
    login, kept = process_tree.flower_login(settings) if flower else (None, None)
    with process_tree.running(
        settings, beat=True, keep_redis=True, flower=login, web=with_web, hurried=interrupts.hurried, tell=tell_of_one
    ) as tree:
        told = {"up": True, "enrolled": enrolled.names, "logs": str(process_tree.log_folder(settings))}
        told["redis"] = load_settings().broker_url() if settings.configured_broker() is None else None
        told["flower"] = f"http://127.0.0.1:{os.environ.get('FLOWER_PORT', '5555')}" if flower else None
        told["web"] = f"http://{settings.web.listen}" if with_web and settings.web else None
        if as_json:
            print_json(told)
        else:
            click.echo(f"Up with {len(enrolled.names)} recipes; logs in {told['logs']}.")
            if told["redis"]:
                click.echo(
                    f"Its Redis is {told['redis']}; canonq and celery with CANONQ_STATE={settings.state} find it by themselves."
                )
            if flower:
                click.echo(f"Flower is at {told['flower']}; its login is in {kept or 'FLOWER_BASIC_AUTH'}.")
            if told["web"]:
                click.echo(f"The report is at {told['web']}, live; its login is that of [web].")
        try:
            with View(quiet=as_json) as view:
                _keep_up(tree, view, world)
        except KeyboardInterrupt:
            say(f"Stopping. {ends_here(tree)}", err=True)
    _tell_what_stays(settings, world)
    return ExitStatus.DONE


def _keep_up(tree: process_tree.Tree, view: View, world: World) -> None:
    """Start again what ends and show what goes on, for ever."""
    watcher = Watcher(world)
    while True:
        for line in tree.keep_up():
            say(f"{time.strftime('%H:%M:%S')}  {line}", err=True)
        with contextlib.suppress(CanonqError, OSError):  # to look is no work: what is wrong there is told by who works
            show_open(view, watcher, world)
        time.sleep(1)


def _tell_what_stays(settings: Settings, world: World) -> None:
    """The workers are gone: remove what they had under way, and say what becomes of open sweeps."""
    if any(not is_alive(path) for path in at_work(world.work)):
        clean_up(settings)
    for sweep in world.sweeps.open_sweeps():
        say(f"The sweep {sweep} is open, and goes on when there are workers again. `canonq stop {sweep}` ends it.", err=True)


@click.command()
@json_option
def web(as_json: bool) -> ExitStatus:
    """Serve the report's pages live, with logs as they grow and metrics, until it is stopped; only with [web] configured.

    With --json: where it is, once it listens.
    """
    settings = load_settings()
    at = web_server.required(settings).listen
    web_server.serve(settings, lambda: print_json({"web": f"http://{at}"}) if as_json else None)
    return ExitStatus.DONE


@click.command()
@json_option
def webhook(as_json: bool) -> ExitStatus:
    """Receive a forge's notices of pushes, until it is stopped; only with [webhook] configured.

    With --json: where it is, once it listens.
    """
    settings = load_settings()
    at = settings.webhook.listen if settings.webhook else None
    webhook_server.serve(settings, lambda: print_json({"webhook": f"http://{at}{webhook_server.PATH}"}) if as_json else None)
    return ExitStatus.DONE
