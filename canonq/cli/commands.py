"""The commands by name. Each unpacks its options, calls one flow, and prints, in the module that stands here."""

from __future__ import annotations

import importlib

import click

from canonq import __version__

#: Command -> module beside this one, and its line in the list; what a command does not need is not imported for it.
COMMANDS = {
    "doctor": ("checking", "Check everything a sweep needs, and say how to mend each."),
    "enrol": ("keeping", "Look into a recipe's newest release and write a commented recipe.toml for you to finish."),
    "janitor": ("keeping", "Remove what dead work left, and what is beyond `keep` and `keep_runs`."),
    "kept": ("keeping", "Show environments of red runs that `canonq test --keep-on-red` left up."),
    "plan": ("checking", "Say what a sweep would do and why; changes nothing."),
    "promote": ("proofs", "Put a recipe's newest verdict through the gate, and promote it if it passes."),
    "restore": ("keeping", "Bring a canonical's data up as a live stack under another name."),
    "rollback": ("keeping", "Go back to a kept canonical, with its data."),
    "status": ("looking", "Show canonicals, last verdicts and what is running."),
    "stop": ("sweeps", "Stop a sweep, or every open one."),
    "sweep": ("sweeps", "Run one sweep now, over all enrolled recipes or those named."),
    "sync": ("sweeps", "Bring clones, mirrors and pull requests in line with upstream, now."),
    "test": ("proofs", "Prove one release from a cold start, now; or look at a ref, or at the canonical's data."),
    "up": ("running", "Run everything a single host needs until it is stopped: Redis if none is configured, workers, beat."),
    "verify": ("looking", "Check records, snapshots, checksums and retained volumes."),
    "why": ("telling", "Tell a recipe's story: what was last decided, proven and promoted, and the one next step."),
    "webhook": ("running", "Take pushes that a forge tells of, until it is stopped; only with [webhook] configured."),
}  # fmt: skip


def command_named(name: str) -> click.Command:
    """A command of the table, imported."""
    found = getattr(importlib.import_module(f"canonq.cli.{COMMANDS[name][0]}"), name)
    assert isinstance(found, click.Command)  # a test looks at each
    return found


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return command_named(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done and nothing red; 1 something red, deferred or refused; 2 wrong use, wrong "
    "configuration or a hollow sweep; 3 the machinery failed.",
)
@click.version_option(__version__, prog_name="canonq")
def canonq() -> None:
    """Keep, for every enrolled Co-op Cloud recipe, one canonical: the newest release proven from a cold start."""
