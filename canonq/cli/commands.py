"""The commands by name. Each unpacks its options, calls one flow, and prints, in the module that stands here."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from canonq import __version__
from canonq.core.text import did_you_mean, ended, shown


class _Entry(NamedTuple):
    """A command in the list."""

    module: str  #: beside this one
    line: str
    examples: tuple[str, ...]


#: What a command does not need is not imported for it.
COMMANDS = {
    "hurry": _Entry(
        "steering", "Let a release be proven although it is younger than the recipe's `min_age`.",
        ("canonq hurry custom-html 1.13.0+1.31.1 --reason 'a security fix'",),
    ),
    "unblock": _Entry(
        "steering", "Lift a block.",
        ("canonq unblock custom-html 1.13.0+1.31.1 --reason 'it stays after all'",),
    ),
    "block": _Entry(
        "steering", "Keep a release from being proven and promoted; a newer one passes it.",
        ("canonq block custom-html 1.13.0+1.31.1 --reason 'it loses mail' --until 7d",),
    ),
    "approve": _Entry(
        "steering", "Let a release be promoted that waits for a person (`needs-approval`).",
        ("canonq approve custom-html 2.0.0+1.31.1 --reason 'I read the notes'",),
    ),
    "check": _Entry(
        "checking", "Check enrolments by their own files, without a sweep: for whoever writes them, and for their checkout's CI.",
        ("canonq check", "CANONQ_REPO=. canonq check custom-html"),
    ),
    "config": _Entry(
        "checking", "Show each setting, its value and where it came from; secrets are not shown.",
        ("canonq config",),
    ),
    "doctor": _Entry(
        "checking", "Check everything a sweep needs, and say how to mend each.",
        ("canonq doctor",),
    ),
    "drain": _Entry(
        "hosts", "Take a host out of service: it gets nothing new, and its canonicals move to the others.",
        ("canonq drain old-server",),
    ),
    "enrol": _Entry(
        "keeping", "Look into a recipe's newest release and write a commented recipe.toml for you to finish.",
        ("canonq enrol custom-html", "canonq enrol site --upstream https://git.example.org/me/site.git"),
    ),
    "hosts": _Entry(
        "hosts", "Show the hosts that share one Redis, which of them live and what each has; or let one join, or leave.",
        ("canonq hosts", "canonq hosts join", "canonq hosts remove old-server --reason 'its disk broke'"),
    ),
    "janitor": _Entry(
        "keeping", "Remove what killed runs left behind, and what is beyond `keep` and `keep_runs`.",
        ("canonq janitor --dry-run",),
    ),
    "kept": _Entry(
        "keeping", "Show environments of red runs that `canonq test --keep-on-red` left up.",
        ("canonq kept",),
    ),
    "logs": _Entry(
        "telling", "Show what was logged by a recipe's run: its tiers, and its services.",
        ("canonq logs custom-html --tier upgrade", "canonq logs custom-html --service app --lines 50"),
    ),
    "move": _Entry(
        "hosts", "Move a recipe's canonical, with all that is kept of it, to another host.",
        ("canonq move custom-html new-server",),
    ),
    "notify": _Entry(
        "reporting", "Show the channels that messages go to and what waits to be delivered, or test them.",
        ("canonq notify --test",),
    ),
    "plan": _Entry(
        "checking", "Say what a sweep would do and why; changes nothing.",
        ("canonq plan", "canonq plan custom-html"),
    ),
    "promote": _Entry(
        "proofs", "Put a recipe's newest verdict through the gate, and promote it if it passes.",
        ("canonq promote custom-html", "canonq promote custom-html --again --reason 'its data was damaged'"),
    ),
    "report": _Entry(
        "reporting", "Write the report: pages, JSON, badges, feed; and say where it is.",
        ("canonq report",),
    ),
    "restore": _Entry(
        "keeping", "Bring a canonical's data up as a live stack under another name.",
        ("canonq restore custom-html --stack look", "canonq restore custom-html --stack look --remove"),
    ),
    "rollback": _Entry(
        "keeping", "Go back to a kept canonical, with its data.",
        ("canonq rollback custom-html --reason 'it lost mail'",),
    ),
    "simulate": _Entry(
        "checking", "Estimate how long a night takes, from what is on record or for a made-up fleet.",
        ("canonq simulate", "canonq simulate --fleet 200 --hosts 3 --memory '16 GiB'", "canonq simulate --page night.html"),
    ),
    "status": _Entry(
        "looking", "Show canonicals, last verdicts and what is running.",
        ("canonq status", "canonq status custom-html"),
    ),
    "stop": _Entry(
        "sweeps", "Stop a sweep, or every open one: nothing more of it starts, and steps under way end by themselves.",
        ("canonq stop", "canonq stop 20261123T030000Z-4f1c2a", "canonq stop 20261123T030004Z-custom-html-9ab3d0"),
    ),
    "sweep": _Entry(
        "sweeps", "Run one sweep now, over all enrolled recipes or those named.",
        ("canonq sweep --wait", "canonq sweep custom-html --wait"),
    ),
    "sync": _Entry(
        "sweeps", "Bring clones, mirrors and pull requests in line with upstream, now.",
        ("canonq sync custom-html --dry-run",),
    ),
    "test": _Entry(
        "proofs", "Test one release now, from a cold start; or a branch or pull request, or the canonical's data.",
        ("canonq test custom-html", "canonq test custom-html --tag 1.13.0+1.31.1", "canonq test custom-html --ref pull/7/head"),
    ),
    "up": _Entry(
        "running", "Run everything a single host needs until it is stopped: Redis if none is configured, workers, beat.",
        ("canonq up", "canonq up --flower"),
    ),
    "verify": _Entry(
        "looking", "Check records, snapshots, checksums and retained volumes.",
        ("canonq verify custom-html",),
    ),
    "watch": _Entry(
        "watching", "Follow what is under way: a sweep (the newest open one), or else what was started by hand.",
        ("canonq watch", "canonq watch 20261123T030000Z-4f1c2a"),
    ),
    "web": _Entry(
        "running",
        "Serve the report's pages live, with logs as they grow and metrics, until it is stopped; only with [web] configured.",
        ("CANONQ_WEB__PASSWORD=... canonq web",),
    ),
    "webhook": _Entry(
        "running", "Receive a forge's notices of pushes, until it is stopped; only with [webhook] configured.",
        ("CANONQ_WEBHOOK__SECRET_FILE=/etc/canonq/webhook canonq webhook",),
    ),
    "why": _Entry(
        "telling", "Tell a recipe's story: what was last decided, proven and promoted, and the one next step.",
        ("canonq why custom-html",),
    ),
}  # fmt: skip


def _examples(lines: Sequence[str]) -> str:
    """The end of a command's help; the mark keeps its lines as they are."""
    listed = "\n".join(f"  {line}" for line in lines)
    return f"\b\nExample{'s' if len(lines) > 1 else ''}:\n{listed}\n\nWhat an exit status means: canonq --help."


def command_named(name: str) -> click.Command:
    """A command of the table, imported."""
    found = getattr(importlib.import_module(f"canonq.cli.{COMMANDS[name].module}"), name)
    assert isinstance(found, click.Command)  # a test looks at each
    found.epilog = _examples(COMMANDS[name].examples)
    return found


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return command_named(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if not ctx.resilient_parsing and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(ended(f"No such command {shown(args[0])}{did_you_mean(args[0], COMMANDS)}"))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # which click ends without a word, as if it were who reads us
            raise RuntimeError(f"a pipe broke: {error}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].line) for name in self.list_commands(ctx)])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Begin with: canonq enrol RECIPE, canonq doctor, canonq sweep --wait. Options stand behind the command.\n\n"
    "Exit status: 0 done and nothing red; 1 something red, deferred, refused or waiting for a person; 2 wrong use, wrong "
    "configuration or a hollow sweep; 3 the machinery failed.",
)
@click.version_option(__version__, prog_name="canonq")
def canonq() -> None:
    """Keep, for every enrolled Co-op Cloud recipe, one canonical: the newest release proven from a cold start."""
