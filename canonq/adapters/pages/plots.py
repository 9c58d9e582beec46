"""Plots as SVG that stands in a page: drawn by pygal, coloured by the page's own style sheet, without scripts."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pygal

from canonq.core.ago import duration
from canonq.core.outcomes import KINDS
from canonq.core.report.words import size, when
from canonq.core.text import readable

# pygal puts a finder of plug-ins before all imports of this process, which no Python asks any more and others stumble over.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

_SVG = "http://www.w3.org/2000/svg"
#: What is of no use without scripts, or is the page's own to say.
_DROPPED = ("script", "style", "defs", "title", "desc")
_NO_KIND = "open"  #: of a recipe that has no outcome yet
_MOST_LANES = 40
ET.register_namespace("", _SVG)


def timeline(bars: Sequence[Mapping[str, Any]], began: object) -> str:
    """Who worked when in a sweep: a lane for each worker's slot, a bar for each step, coloured by the recipe's outcome."""
    start = when(began)
    if start is None:
        return ""
    kinds = (*KINDS, _NO_KIND)
    drawn = [(str(bar["lane"]), bar["outcome"] or _NO_KIND, bar["began"], bar["ended"]) for bar in bars]
    return _lanes(drawn, kinds, lambda seconds: f"{start + timedelta(seconds=seconds):%H:%M}")


def night(runs: Sequence[Mapping[str, Any]]) -> str:
    """A simulated night: a lane for each slot of each host, a bar for each run, heavy ones told from light ones."""
    drawn = [(f"{run['host']} {run['slot']}", run["weight"], run["start_seconds"], run["end_seconds"]) for run in runs]
    return _lanes(drawn, ("heavy", "light"), duration)


def _lanes(bars: Sequence[tuple[str, str, float, float]], kinds: Sequence[str], shown: Callable[[float], str]) -> str:
    """(lane, kind, began, ended) of each bar, in seconds from the beginning; `shown`: such a moment in words."""
    names = sorted({lane for lane, *_ in bars})[:_MOST_LANES]
    if not names:
        return ""
    places = {name: len(names) - number for number, name in enumerate(names)}
    longest = max(ended for *_, ended in bars) or 1.0
    chart = pygal.XY(**_common(height=70 + 26 * len(names), allow_interruptions=True, show_dots=False), xrange=(0, longest))
    chart.range = (0.5, len(names) + 0.5)
    for kind in kinds:
        points: list[tuple[float | None, float | None]] = []
        for lane, of, began, ended in bars:
            if of == kind and lane in places:
                points += [(began, places[lane]), (max(ended, began + longest / 300), places[lane]), (None, None)]
        chart.add(kind, points)
    chart.y_labels = [{"label": readable(name), "value": place} for name, place in places.items()]
    step = longest / 6
    chart.x_labels = [{"label": shown(number * step), "value": number * step} for number in range(7)]
    return _drawn(chart, "timeline", kinds)


def over_time(points: Iterable[tuple[str, float | None]], shown: Callable[[float], str]) -> str:
    """One value over time, oldest first; nothing where there are fewer than two of them."""
    known = [(stamp, value) for stamp, value in points if value is not None]
    return lines({"": known}, shown) if len(known) > 1 else ""


def lines(series: Mapping[str, Sequence[tuple[str, float]]], shown: Callable[[float], str], floor: float | None = None) -> str:
    """Values over time, a line each, and the floor under them."""
    timed = {name: [(at.timestamp(), value) for stamp, value in points if (at := when(stamp))] for name, points in series.items()}
    moments = [moment for points in timed.values() for moment, _ in points]
    pattern = "%H:%M" if moments and max(moments) - min(moments) < 86400 else "%d %b"
    return curves(timed, lambda moment: f"{datetime.fromtimestamp(moment, UTC):{pattern}}", shown, floor)


def curves(
    series: Mapping[str, Sequence[tuple[float, float]]],
    places: Callable[[float], str],
    shown: Callable[[float], str],
    floor: float | None = None,
    ticks: Sequence[float] = (),
) -> str:
    """Lines through points; `places` and `shown`: what stands beside the axes, at `ticks` where some are given.

    The values begin at 0.
    """
    every = [point for points in series.values() for point in points]
    if not every:
        return ""
    first, last = min(every)[0], max(every)[0]
    last = last if last > first else first + 1
    top = max([value for _, value in every] + ([floor] if floor else [])) or 1.0
    chart = pygal.XY(**_common(height=220, dots_size=3), xrange=(first, last))
    chart.range = (0, top)
    for name, points in series.items():
        chart.add(readable(name), sorted(points, key=lambda point: point[0]))
    if floor:
        chart.add("floor", [(first, floor), (last, floor)])
    chart.y_labels = [{"label": shown(top * part / 4), "value": top * part / 4} for part in range(5)]
    ticks = ticks or [first + (last - first) * part / 5 for part in range(6)]
    chart.x_labels = [{"label": places(tick), "value": tick} for tick in ticks]
    kinds = [f"line-{number % 4}" for number in range(len(series))] + (["floor"] if floor else [])
    return _drawn(chart, "lines", kinds)


def seconds_over_time(runs: Sequence[Mapping[str, Any]]) -> str:
    """How long a recipe's runs took, oldest first."""
    return over_time([(run["ts"], run["seconds"] or None) for run in runs], duration)


def bytes_over_time(runs: Sequence[Mapping[str, Any]]) -> str:
    """What a recipe's volumes held, oldest first."""
    return over_time([(run["ts"], run["volume_bytes"]) for run in runs], size)


def disk(found: Mapping[str, Any]) -> str:
    """What was free of one disk, and the floor."""
    points = [(str(stamp), float(free)) for stamp, free in found["points"]]
    return lines({"free": points}, size, float(found["floor"])) if len(points) > 1 else ""


def _common(**more: Any) -> dict[str, Any]:
    return {"width": 900, "show_legend": False, "js": [], "no_prefix": True, "disable_xml_declaration": True, "margin": 8,
            "truncate_label": -1, **more}  # fmt: skip


def _drawn(chart: Any, kind: str, series: Sequence[str]) -> str:
    """The SVG of a chart, with the classes that the page's style sheet knows, and nothing that the page forbids."""
    drawn = ET.fromstring(chart.render(is_unicode=True))  # noqa: S314 - pygal's own
    for parent in list(drawn.iter()):
        for child in list(parent):
            name = child.tag.rpartition("}")[2] if isinstance(child.tag, str) else "comment"
            classes = (child.get("class") or "").split()
            if (
                name in _DROPPED
                or name == "comment"
                or {"overlay", "text-overlay", "tooltip-overlay", "titles", "legends"} & {*classes}
            ):
                parent.remove(child)
    for element in drawn.iter():
        words = (element.get("class") or "").split()
        element.set("class", " ".join(_class(word, series) for word in words))
        for attribute in [name for name in element.attrib if name in ("style", "id")]:
            del element.attrib[attribute]
        for name in ("x", "y", "d", "cx", "cy", "r", "transform"):
            if name in element.attrib:
                element.set(name, _shorter(element.attrib[name]))
    drawn.set("class", f"drawn {kind}")
    drawn.set("aria-hidden", "true")  # what it shows stands in words beside it
    drawn.set("focusable", "false")
    return ET.tostring(drawn, encoding="unicode")


def _class(word: str, series: Sequence[str]) -> str:
    head, _, number = word.rpartition("-")
    if head == "color" and number.isdigit() and int(number) < len(series):
        return f"k-{series[int(number)]}"
    return word


def _shorter(text: str) -> str:
    """Coordinates to a tenth of a pixel."""
    words = text.replace(",", " , ").replace("(", " ( ").replace(")", " ) ").split(" ")
    return (
        "".join(f"{_number(word)} " for word in words if word).replace(" , ", ",").replace(" ( ", "(").replace(" )", ")").strip()
    )


def _number(word: str) -> str:
    prefix = word[:1] if word[:1] in "MLhvHVz" else ""
    try:
        value = float(word[len(prefix) :])
    except ValueError:
        return word
    return f"{prefix}{value:.1f}".removesuffix(".0") if math.isfinite(value) else f"{prefix}0"
