"""What commands share: options, and who typed them."""

from __future__ import annotations

import getpass
import os

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value, for programs.")


def caller() -> str:
    """Who typed the command, for the record."""
    return os.environ.get("SUDO_USER") or getpass.getuser()
