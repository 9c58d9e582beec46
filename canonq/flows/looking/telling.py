"""What follows a sweep: its report is written, and people are told. Late or twice, it does no harm, and no sweep fails by it."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from canonq.adapters.filelocks import locked
from canonq.adapters.files import write_json
from canonq.adapters.network.notify import Notifier
from canonq.adapters.state.records import readable_json
from canonq.core.errors import CanonqError
from canonq.core.report.messages import DEFAULT, Message, messages
from canonq.core.text import shown
from canonq.flows.looking import report
from canonq.flows.sweeps.nights import DueSince, none_due
from canonq.flows.world import World

log = logging.getLogger("canonq")

_REMEMBERED = 200  #: sweeps
_LOOKED_AT = 30  #: newest sweeps; older ones were told of, or never will be


def tell(world: World, due_since: DueSince = none_due) -> list[str]:
    """Tell of sweeps that were closed and not told of yet; those it told of. Messages that wait are tried again.

    At the first time only the newest is: what came before is history.
    """
    record = _record(world)
    if not _untold(world, record) and not _due(record, world.now().timestamp()):
        return []
    with locked(_file(world).with_suffix(".lock")):
        record = _record(world)
        found = _untold(world, record)
        if found:
            told = report.write(world, due_since)
            record = _with_messages(world, record, found, told)
            kept = [*record.get("sweeps", _closed(world)), *found]
            record["sweeps"] = list(dict.fromkeys(kept))[-_REMEMBERED:]
            write_json(_file(world), record)  # what is on its way is on record before it goes
        _deliver(world, record)
    return found


def _with_messages(world: World, record: dict[str, Any], sweeps: Sequence[str], told: Mapping[str, Any]) -> dict[str, Any]:
    """The record with the messages about sweeps, for those whom the settings name."""
    cards = {card["recipe"]: card for card in told["recipes"]}
    channels: dict[str, str] = {}
    with contextlib.suppress(CanonqError):
        channels = {name: one.notify for name, one in world.checkout.enrolled().recipes.items() if one.notify}
    states, mark = dict(record.get("states") or {}), record.get("digest")
    found: list[Message] = []
    for sweep in sweeps:
        if whole := world.sweeps.report(sweep):
            first = "states" not in record
            more, mark = messages(whole, cards, states, channels, url=world.settings.report.url, first=first, said=mark)
            found += more
    wanted = found if world.settings.notify is not None else []
    return {**record, "states": states, "digest": mark, "waiting": [*record.get("waiting", ()), *map(_dumped, wanted)]}


def _to_addresses(notifier: Notifier, message: Message) -> list[Message]:
    """A message, one for each address of its channel; of a channel that there is not, to the default one."""
    if message.address:
        return [message]
    channel = message.channel
    if channel not in notifier.names:
        log.warning("There is no channel %s in [notify]; %s goes to %s", shown(channel), shown(message.title), DEFAULT)
        channel = DEFAULT
    numbers = range(1, len(notifier.addresses(channel)) + 1)
    return [message.model_copy(update={"id": f"{message.id}:{n}", "channel": channel, "address": n}) for n in numbers]


def _deliver(world: World, record: dict[str, Any]) -> None:
    """Send what is due; what does not arrive waits for another try, and an address that has failed is left alone meanwhile."""
    now = world.now().timestamp()
    if not _due(record, now):
        return
    notifier = Notifier(world.settings.notify)
    listed = [one for message in _waiting(record) for one in _to_addresses(notifier, message)]
    failed: dict[tuple[str, int], str] = {}
    for message in listed:
        if message.not_before > now:
            continue
        place = (message.channel, message.address)
        problem = failed.get(place) or notifier.problem(*place, message.title, message.text)
        again = None
        if problem is not None:
            failed[place] = problem
            again = message.failed(problem, now)
            log.warning("%s; %s", told_failure(message, problem), "it is tried again" if again else "it is given up")
        listed = [one for one in listed if one.id != message.id] + ([again] if again else [])
        record["waiting"] = [_dumped(one) for one in listed]
        write_json(_file(world), record)
    record["waiting"] = [_dumped(one) for one in listed]
    write_json(_file(world), record)


def told_failure(message: Message, problem: str) -> str:
    """A failed delivery in words."""
    where = f"address {message.address} of the channel {shown(message.channel)}"
    return f"The message {shown(message.title)} was not taken by {where}: {problem}"


def waiting(world: World) -> list[Message]:
    """Messages that were not delivered yet."""
    return _waiting(_record(world))


def _waiting(record: Mapping[str, Any]) -> list[Message]:
    found = []
    for value in record.get("waiting") or ():
        with contextlib.suppress(ValidationError):
            found.append(Message.model_validate(value))
    return found


def _dumped(message: Message) -> dict[str, Any]:
    return message.model_dump(mode="json")


def _due(record: Mapping[str, Any], now: float) -> bool:
    return any(message.not_before <= now for message in _waiting(record))


def tell_gently(world: World, due_since: DueSince = none_due) -> None:
    """The same, where what goes wrong with it is logged and nothing else."""
    try:
        for sweep in tell(world, due_since):
            log.info("The report tells of sweep %s.", sweep)
    except Exception as error:  # noqa: BLE001 - a page that cannot be written is no reason for a sweep to fail
        log.error("The report could not be written, or its messages sent: %s: %s", type(error).__name__, error)


def _untold(world: World, record: dict[str, Any]) -> list[str]:
    """Sweeps that are closed and were not told of, oldest first."""
    closed = _closed(world)
    if not isinstance(told := record.get("sweeps"), list):
        return closed[-1:]
    return [sweep for sweep in closed if sweep not in told]


def _closed(world: World) -> list[str]:
    newest = list(itertools.islice(world.sweeps.newest_first(), _LOOKED_AT))
    return [sweep for sweep in reversed(newest) if world.sweeps.closed(sweep)]


def _file(world: World) -> Path:
    return world.settings.state / "report" / "told.json"


def _record(world: World) -> dict[str, Any]:
    return readable_json(_file(world))
