"""The `canonq` command: wrong use, errors and exit statuses in one place."""

from __future__ import annotations

import gc
import sys
import traceback

import click

from canonq.adapters.files import of_host
from canonq.cli import asjson
from canonq.cli.commands import canonq
from canonq.cli.interrupts import interrupts
from canonq.cli.readers import readers
from canonq.core.errors import CanonqError, ExitStatus, HostProblem, Interrupted, WrongUse, interrupted
from canonq.core.text import ended


def main() -> None:
    """Entry point. Exit status: 0 done, 1 red, deferred or refused, 2 wrong use, 3 machinery (docs/rules.md 6)."""
    as_json = "--json" in sys.argv[1:]
    asjson.begin()
    interrupts.install()
    readers.install()
    try:
        status = canonq.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        status = ExitStatus.WRONG_USE
    except click.ClickException as error:
        wrong = WrongUse(ended(_words(error)))
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
        status = _fail(wrong, as_json)
    except (click.exceptions.Abort, KeyboardInterrupt):
        if as_json:
            _print_error(interrupted())
        click.echo("Stopped.", err=True)
        status = Interrupted.exit_status
    except CanonqError as error:
        status = _fail(error, as_json)
    except Exception as error:  # noqa: BLE001 - Python's own exit status would say that something is red
        problem: CanonqError | None = of_host(error)
        if problem is None:
            traceback.print_exc()
            what = f"canonq broke: {type(error).__name__}: {error}."
            problem = CanonqError(what, mend="this is canonq's own fault; report it.")
        status = _fail(problem, as_json)
    if (lost := readers.lost()) is not None:
        lost.filename = "standard output"
        problem = of_host(lost) or HostProblem(
            f"Standard output cannot be written: {lost.strerror}.", mend="look where it leads."
        )
        click.echo(problem.line, err=True)
        status = problem.exit_status
    gc.freeze()  # what is left by now is not looked through for garbage: it goes with the process
    sys.exit(int(status or 0))


def _words(error: click.ClickException) -> str:
    """click's own words, but for an option of a command's that is typed before it."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and error.ctx.parent is None:
        return f"canonq itself has no option {error.option_name}: options stand behind the command, as in `canonq status --json`."
    return error.format_message()


def _fail(error: CanonqError, as_json: bool) -> ExitStatus:
    if as_json:
        _print_error(error)
    click.echo(error.line, err=True)
    return error.exit_status


def _print_error(error: CanonqError) -> None:
    """One JSON value is what is promised: where a command has printed its own before it failed, that one stays alone."""
    if not asjson.was_printed():
        asjson.print_json(error.for_programs)
