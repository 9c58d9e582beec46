"""What people are told after a sweep: one digest, and a message for each recipe that turned red or is green again. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from canonq.core.outcomes import Outcome
from canonq.core.report.changes import Change, State, changes_in
from canonq.core.text import beginning, readable

DEFAULT = "default"  #: the channel of digests, and of recipes that name none
MOST_TRIES = 30  #: so about a day
_PAUSES = (60, 300, 900, 3600)  #: seconds until a delivery is tried again; the last one from then on
_LINES = 25  #: recipes of each kind that a digest names
_LONGEST = 600  #: characters of one recipe's reason
#: What services take for a call to everybody, or to somebody, wherever it stands in a message.
_CALLS = re.compile(r"@(?=(?:all|channel|everyone|here|online|room)\b)|<(?=[!@#])", re.IGNORECASE)


class Message(BaseModel):
    """One message on its way to one channel."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str  #: the same message has the same, so that it is on its way once
    channel: str
    address: int = 0  #: which of the channel's, from 1; 0: all of them
    title: str
    text: str
    tries: int = 0
    not_before: float = 0.0  #: seconds since 1970
    problem: str = ""  #: why the last try failed, without what is secret

    def failed(self, problem: str, now: float) -> Message | None:
        """It again, for later; None when it was tried often enough."""
        tries = self.tries + 1
        if tries >= MOST_TRIES:
            return None
        pause = _PAUSES[min(tries, len(_PAUSES)) - 1]
        return self.model_copy(update={"tries": tries, "not_before": now + pause, "problem": problem})


def messages(
    sweep: Mapping[str, Any],
    cards: Mapping[str, Mapping[str, Any]],
    states: dict[str, State],
    channels: Mapping[str, str],
    *,
    url: str | None,
    first: bool,
    said: str | None,
) -> tuple[list[Message], str]:
    """The messages about one sweep's report, and the mark of its digest.

    `cards`: the report's, by recipe; `states`: what each recipe was before, brought up to date; `channels`: those that recipes
    name; `first`: nobody was told of a sweep before, so nothing has changed; `said`: the mark of the last digest, which is not
    sent again on the same day.
    """
    changed = [change for change in changes_in(sweep, states) if change.kind != "promoted" and not first]
    found = [_of_change(change, cards.get(change.recipe), channels.get(change.recipe, DEFAULT), url) for change in changed]
    told = sweep.get("whole", True) and sweep["state"] != "open"
    if not told:
        return found, said or ""
    mark = _mark(sweep)
    if mark != said or changed or sweep["counts"]["promoted"]:
        title, text = digest(sweep, url)
        found.insert(0, Message(id=f"{sweep['sweep']}:digest", channel=DEFAULT, title=title, text=text))
    return found, mark


def _mark(sweep: Mapping[str, Any]) -> str:
    """Of the day, and of all that a person would have to know of it beside what was promoted."""
    loud = sorted(
        f"{one['recipe']} {one['version']} {one['cause'] or one['reason']}"
        for one in sweep["outcomes"]
        if one["outcome"] in ("red", "error", "deferred") or one["recipe"] in sweep["held"]
    )
    moved = _moved(Outcome.model_validate(one) for one in sweep["outcomes"])
    told = [str(sweep["started"])[:8], str(sweep["failed"]), *sweep["findings"], *loud, *moved]
    return hashlib.sha256("\n".join(told).encode(errors="replace")).hexdigest()


def calling_nobody(text: str) -> str:
    """A text in which nobody is called: it quotes what containers, tags and registries say."""
    return _CALLS.sub("\\g<0>\N{WORD JOINER}", text)


def digest(sweep: Mapping[str, Any], url: str | None) -> tuple[str, str]:
    """A sweep in a few lines: title and text."""
    outcomes = [Outcome.model_validate(value) for value in sweep["outcomes"]]
    if sweep["failed"]:
        title = f"canonq: the sweep was not done ({sweep['state']})"
        lines = [readable(sweep["failed"])]
    else:
        counts = ", ".join(f"{count} {kind}" for kind, count in sweep["counts"].items() if count)
        title = f"canonq: {counts or 'nothing'} of {sweep['enrolled']}"
        lines = []
    lines += [readable(line) for line in sweep["findings"]]
    shared = {recipe for trouble in sweep["troubles"] for recipe in trouble["recipes"]}
    for trouble in sweep["troubles"]:
        lines.append(
            readable(f"{len(trouble['recipes'])} recipes, [{trouble['reason']}] {trouble['outside']}: {trouble['detail']}")
        )
    lines += _listed(one for one in outcomes if one.outcome in ("red", "error") and one.recipe not in shared)
    lines += _listed(one for one in outcomes if one.recipe in sweep["held"])
    lines += _listed(one for one in outcomes if one.outcome == "deferred")
    lines += _few(_moved(outcomes))
    promoted = [readable(f"{one.recipe} {one.version}") for one in outcomes if one.outcome == "promoted"]
    if promoted:
        more = f" and {len(promoted) - _LINES} more" if len(promoted) > _LINES else ""
        lines.append(f"promoted: {', '.join(promoted[:_LINES])}{more}")
    if not lines:
        lines.append("Nothing is new, and nothing needs anybody.")
    return title, "\n".join([*lines, *([url] if url else [])])


def _listed(outcomes: Iterable[Outcome]) -> list[str]:
    told = (f"{_word(one)}: {one.recipe} {one.version or ''} [{one.cause or one.reason}] {one.detail}" for one in outcomes)
    return _few([line.replace("  ", " ") for line in told])


def _moved(outcomes: Iterable[Outcome]) -> list[str]:
    """The images of canonicals that are others by now, also where all is well with them."""
    return [f"{one.recipe}: {note}" for one in outcomes for note in one.notes if note.startswith("image-moved: ")]


def _few(told: Sequence[str]) -> list[str]:
    lines = [readable(beginning(line, _LONGEST)) for line in told[:_LINES]]
    return [*lines, f"and {len(told) - _LINES} more"] if len(told) > _LINES else lines


def _word(outcome: Outcome) -> str:
    return "held" if outcome.outcome == "skipped" else outcome.outcome


def _of_change(change: Change, card: Mapping[str, Any] | None, channel: str, url: str | None) -> Message:
    lines: Sequence[str] = [readable(beginning(change.text, 4 * _LONGEST))]
    if card is not None and change.kind == "red":
        fault = (card["outcome"] or {}).get("fault")
        lines = [*lines, *([f"Fault: {fault}."] if fault else [])]
        if (card["verdict"] or {}).get("regression") == "no":
            lines = [*lines, "The canonical's own version fails here as well, so the release may not be to blame."]
        if following := card.get("next"):
            lines = [*lines, f"Next: {following['text']}{' ' + following['command'] if following['command'] else ''}"]
    if url:
        lines = [*lines, f"{url.rstrip('/')}/recipes/{change.recipe}.html"]
    title = readable(f"canonq: {change.title}")
    return Message(id=f"{change.sweep}:{change.recipe}:{change.kind}", channel=channel, title=title, text="\n".join(lines))
