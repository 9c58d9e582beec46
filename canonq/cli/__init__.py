"""The `canonq` command: wrong use, errors and exit statuses in one place."""

from __future__ import annotations

import json
import sys

import click

from canonq.cli.commands import canonq
from canonq.cli.interrupts import interrupts
from canonq.core.errors import CanonqError, ExitStatus


def main() -> None:
    """Entry point. Exit status: 0 done, 1 red, deferred or refused, 2 wrong use, 3 machinery (docs/rules.md 6)."""
    as_json = "--json" in sys.argv[1:]
    interrupts.install()
    try:
        status = canonq.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        status = error.exit_code
    except click.ClickException as error:
        error.show()
        status = ExitStatus.WRONG_USE
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        status = ExitStatus.MACHINERY
    except CanonqError as error:
        if as_json:
            told = {"code": error.code, "fault": error.fault, "what": error.what, "mend": error.mend}
            click.echo(json.dumps({"error": told}, indent=2))
        click.echo(f"canonq: {error}", err=True)
        status = error.exit_status
    except BrokenPipeError:
        status = ExitStatus.DONE
    sys.exit(int(status or 0))
