"""Commands by which a person has a say in what becomes of a release: approve, block, unblock, hurry."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click

from canonq.cli.asjson import print_json
from canonq.cli.options import caller, json_option, reason_option, recipe_argument
from canonq.cli.output import say
from canonq.core.amounts import seconds_in
from canonq.core.errors import ExitStatus, WrongUse
from canonq.core.records import STAMP_FORMAT
from canonq.core.steering import What, Word
from canonq.core.text import shown
from canonq.flows.decide import foreseen
from canonq.flows.hosts import must_count_here
from canonq.flows.upstream.steering import say as put_on_record
from canonq.flows.world import World
from canonq.wiring import live

_LONGEST = 3650 * 86400.0
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

version_argument = click.argument("version")
asks_why = reason_option("Why; it is kept with who said it and when.")
until_option = click.option("--until", metavar="WHEN", help="Until when it counts: 36h, 7d, or a day such as 2026-12-24 (UTC).")


def _until(text: str | None, now: datetime) -> str | None:
    """A stamp of what was typed. WrongUse for what is no time, or is over."""
    if text is None:
        return None
    if not _DAY.fullmatch(text):
        return (now + timedelta(seconds=seconds_in(text, most=_LONGEST))).strftime(STAMP_FORMAT)
    try:
        found = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=now.tzinfo)
    except ValueError:
        found = None
    if found is None or found <= now:
        raise WrongUse(
            f"{shown(text)} is not a day in the future.", mend="write it as 2026-12-24, or as 7d.", code="bad-duration"
        )
    return found.strftime(STAMP_FORMAT)


def _said(world: World, recipe: str, version: str, what: What, reason: str, until: str | None, as_json: bool) -> Word:
    must_count_here(world, recipe, f"canonq {what} {recipe} '{version}' --reason TEXT")
    word = put_on_record(world, recipe, version, what, by=caller(), reason=reason, until=_until(until, world.now()))
    if as_json:
        print_json({"recipe": recipe, **word.model_dump(mode="json")})
    return word


def _unless_left(world: World, recipe: str, word: Word, then: str) -> str:
    """What comes of the release `then`, or why nothing does, as things are on record."""
    enrolment = world.checkout.enrolment(recipe)
    if not enrolment.enrolled:
        return "No sweep is at the recipe while it has `enrolled = false`."
    tonight = foreseen(world, enrolment, also={word.version: word.commit})
    if tonight is None or (tonight.version == word.version and tonight.action in ("run", "promote")):
        return then
    if tonight.action in ("run", "promote"):
        return f"As things are, the next sweep is at {tonight.version} instead."
    return f"As things are, the next sweep leaves the recipe as it is ({tonight.reason}): {tonight.detail}"


@click.command()
@recipe_argument
@version_argument
@asks_why
@until_option
@json_option
def approve(recipe: str, version: str, reason: str, until: str | None, as_json: bool) -> ExitStatus:
    """Let a release be promoted that waits for a person (`needs-approval`); this commit, and no other."""
    world = live()
    word = _said(world, recipe, version, "approve", reason, until, as_json)
    if not as_json:
        then = f"Once it is proven, the next sweep promotes it, and `canonq promote {recipe}` does it now."
        say(f"{recipe} {word.version} at {word.commit[:12]} is approved. {_unless_left(world, recipe, word, then)}")
    return ExitStatus.DONE


@click.command()
@recipe_argument
@version_argument
@asks_why
@until_option
@json_option
def block(recipe: str, version: str, reason: str, until: str | None, as_json: bool) -> ExitStatus:
    """Keep a release from being proven and promoted; a newer one passes it."""
    word = _said(live(), recipe, version, "block", reason, until, as_json)
    if not as_json:
        said = f" until {word.until}" if word.until else f", until `canonq unblock {recipe} '{word.version}' --reason TEXT`"
        say(f"{recipe} {word.version} is blocked{said}.")
    return ExitStatus.DONE


@click.command()
@recipe_argument
@version_argument
@asks_why
@json_option
def unblock(recipe: str, version: str, reason: str, as_json: bool) -> ExitStatus:
    """Lift a block."""
    word = _said(live(), recipe, version, "unblock", reason, None, as_json)
    if not as_json:
        say(f"{recipe} {word.version} is not blocked any more; the next sweep looks at it.")
    return ExitStatus.DONE


@click.command()
@recipe_argument
@version_argument
@asks_why
@until_option
@json_option
def hurry(recipe: str, version: str, reason: str, until: str | None, as_json: bool) -> ExitStatus:
    """Let a release be proven although it is younger than the recipe's `min_age`; this commit, and no other."""
    world = live()
    word = _said(world, recipe, version, "hurry", reason, until, as_json)
    if not as_json:
        then = f"The next sweep proves it, and `canonq sweep {recipe}` does it now."
        say(f"{recipe} {word.version} waits for no age. {_unless_left(world, recipe, word, then)}")
    return ExitStatus.DONE
