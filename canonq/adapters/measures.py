"""Measures as Prometheus reads them, by its own library."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from canonq.core.report.measures import Measure
from canonq.core.text import readable


class _Told(Collector):
    def __init__(self, measures: Iterable[Measure]) -> None:
        self._measures = measures

    def collect(self) -> Iterator[Metric]:
        for measure in self._measures:
            family = GaugeMetricFamily(measure.name, measure.help, labels=measure.labels)
            for labels, value in measure.samples:
                family.add_metric([readable(label) for label in labels], value)
            yield family


def exposition(measures: Iterable[Measure]) -> str:
    """The text that Prometheus scrapes, and that node_exporter's textfile collector reads."""
    registry = CollectorRegistry()
    registry.register(_Told(list(measures)))
    return generate_latest(registry).decode()
