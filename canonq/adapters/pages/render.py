"""Values -> pages. Whatever a recipe, a tag, a log or a forge says stands in them as text."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import jinja2
from markupsafe import Markup

from canonq.adapters.pages import plots
from canonq.core.ago import ago, duration
from canonq.core.ladder import TIERS
from canonq.core.outcomes import HELD, KINDS
from canonq.core.report import plotted, words
from canonq.core.report.standing import STANDINGS
from canonq.core.story import without_mend
from canonq.core.text import readable

#: Outcome -> the letter in a strip's square: colour alone tells nothing to many.
LETTERS = {"promoted": "P", "skipped": "·", "red": "R", "error": "E", "deferred": "D", None: " "}
#: Tier's status -> the sign beside its name.
SIGNS = {"pass": "✓", "fail": "✗", "skip": "-", "unverified": "?", "not-reached": "·"}
_MOST_CURVES = 3  #: in a plot: as many as have a colour of their own
_GREEN = frozenset({"promoted", "current", "waiting"})
_BADGE_COLOURS = {"good": "#1a7f37", "behind": "#9a6700", "bad": "#b42318", "none": "#57606a"}


def _said(value: object) -> str:
    """What is put into a page: readable, so without characters that XML forbids or that turn a line round."""
    return readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value  # type: ignore[return-value]


#: Standing or whom it is for -> the heading of its cards; the rest is a table.
_GROUPS = (
    ("person", "Needs a person"),
    ("machinery", "Could not be done, or was put off"),
    ("waiting", "Green, waiting to be promoted"),
    ("promoted", "Promoted"),
)


def _group(card: Mapping[str, Any]) -> str:
    if card["needs_person"]:
        return "person"
    return "machinery" if card["standing"] in ("error", "deferred") else str(card["standing"])


def _groups(cards: Sequence[Mapping[str, Any]]) -> list[tuple[list[Mapping[str, Any]], str]]:
    """The cards of the page below their headings; none without a card."""
    found = [([card for card in cards if _group(card) == name], title) for name, title in _GROUPS]
    return [(group, title) for group, title in found if group]


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("canonq.adapters.pages"), autoescape=True, undefined=jinja2.StrictUndefined, finalize=_said,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"took": _took, "size": words.size, "day": words.day, "lines": _lines,
                            "findings": words.findings, "without_mend": without_mend}  # fmt: skip
    environment.globals |= {
        "SIGNS": SIGNS,
        "LETTERS": LETTERS,
        "TIERS": TIERS,
        "STANDINGS": STANDINGS,
        "KINDS": KINDS,
        "HELD": HELD,
        "groups": _groups,
    }
    return environment


def _took(seconds: float | None) -> str:
    return "" if seconds is None else duration(seconds)


def _lines(found: Sequence[str]) -> Markup:
    return Markup("\n").join(readable(line) for line in found)


@functools.cache
def style() -> str:
    """The style sheet that stands in each page."""
    return _text("style.css")


@functools.cache
def style_source() -> str:
    """What a page's content policy names it by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()}'"


@functools.cache
def script() -> str:
    """The script of live pages."""
    return _text("live.js")


def _text(name: str) -> str:
    loader = _environment().loader
    assert loader is not None  # it is given above
    return loader.get_source(_environment(), name)[0]


def prepare() -> None:
    """Compile all templates, for processes that are forked afterwards."""
    for name in _environment().list_templates(extensions=["html", "svg", "atom"]):
        _environment().get_template(name)


def first_page(report: Mapping[str, Any], *, live: bool = False) -> str:
    """The first page. `live`: as `canonq web` serves it."""
    timeline = plots.timeline(report["timeline"], (report["newest"] or {}).get("started"))
    drawn = [(disk, plots.disk(disk)) for disk in report["disks"]]
    return _page("index.html", report["made"], live, report=report, timeline=_svg(timeline),
                 disks=[(disk, _svg(plot)) for disk, plot in drawn])  # fmt: skip


def recipe_page(history: Mapping[str, Any], *, live: bool = False) -> str:
    """A recipe's page."""
    runs = list(reversed(history["runs"]))
    seconds, data = plots.seconds_over_time(runs), plots.bytes_over_time(runs)
    return _page("recipe.html", history["made"], live, card=history, seconds=_svg(seconds), data=_svg(data))


def log_page(recipe: str, run: str, logs: Sequence[str], made: str) -> str:
    """The logs of a run, by name; only live pages have one."""
    return _page("logs.html", made, True, recipe=recipe, run=run, logs=logs)


def simulation_page(found: Mapping[str, Any], by_hosts: Sequence[tuple[int, float]], made: str) -> str:
    """A night that `simulate` has found, what its runs take of each host, and its seconds with fewer and with more hosts."""
    runs, hosts = found["recipes"], [host["host"] for host in found["hosts"]][:_MOST_CURVES]

    def taken(key: str) -> Markup:
        of = {
            host: plotted.taken((run["start_seconds"], run["end_seconds"], run[key]) for run in runs if run["host"] == host)
            for host in hosts
        }
        return _svg(plots.curves(of, duration, words.size))

    counts = [count for count, _ in by_hosts]
    more = _svg(plots.curves({"": by_hosts}, lambda count: f"{count:.0f}", duration, ticks=counts))
    return _page("simulation.html", made, False, found=found, night=_svg(plots.night(runs)), drawn=hosts,
                 memory=taken("memory_bytes"), disk=taken("disk_bytes"), by_hosts=by_hosts, more=more)  # fmt: skip


def badge(card: Mapping[str, Any]) -> str:
    """A recipe's badge: its canonical, and whether that is all there is to say."""
    record = card["canonical"]
    level = "" if record is None or record["level"] is None else f" level {record['level']}"
    told = f"{record['version']}{level}" if record else "none yet"
    where = card["standing"]
    colour = "none" if record is None else "good" if where in _GREEN else "bad" if where == "broken" else "behind"
    if where not in _GREEN and where != "new":
        told += f", {STANDINGS[where]}"
    return _environment().get_template("badge.svg").render(label="canonq", told=told, colour=_BADGE_COLOURS[colour])


def feed(entries: Sequence[Mapping[str, Any]], made: str, url: str | None, instance: str) -> str:
    """The Atom feed of changes."""
    listed = [{**entry, "at": _iso(entry["ts"])} for entry in entries]
    newest = listed[0]["at"] if listed else _iso(made)
    page = f"{url.rstrip('/')}/" if url else ""
    return _environment().get_template("feed.atom").render(entries=listed, updated=newest, page=page, instance=instance)


def _page(template: str, made: str, live: bool, **more: Any) -> str:
    now = words.when(made) or datetime.now(UTC)
    more |= {"made": made, "live": live, "style": Markup(style()), "policy": style_source(),  # noqa: S704 - our own file
             "ago": functools.partial(ago, now=now)}  # fmt: skip
    return _environment().get_template(template).render(**more)


def _svg(text: str) -> Markup:
    return Markup(text)  # noqa: S704 - drawn from an element tree, which escapes


def _iso(stamp: object) -> str:
    then = words.when(stamp)
    return (then or datetime.fromtimestamp(0, UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
