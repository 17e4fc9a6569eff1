"""A small registry of figures in the Prometheus text format, version 0.0.4."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

LabelValues = tuple[str, ...]
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counter:
    """A figure that only grows, per combination of label values."""

    def __init__(self, name: str, description: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.description, self.labels = name, description, labels
        self._values: dict[LabelValues, float] = {}

    def add(self, *label_values: str, amount: float = 1.0) -> None:
        self._values[label_values] = self._values.get(label_values, 0.0) + amount

    def lines(self) -> Iterable[str]:
        yield from _head(self.name, self.description, "counter")
        for values, figure in sorted(self._values.items()):
            yield f"{self.name}{_labels(dict(zip(self.labels, values, strict=True)))} {_told(figure)}"


class Histogram:
    """How observations spread over buckets, in seconds, per combination of label values."""

    def __init__(self, name: str, description: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.description, self.labels = name, description, labels
        self._counts: dict[LabelValues, list[int]] = {}
        self._sums: dict[LabelValues, float] = {}

    def observe(self, seconds: float, *label_values: str) -> None:
        counts = self._counts.setdefault(label_values, [0] * (len(LATENCY_BUCKETS_S) + 1))
        counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self._sums[label_values] = self._sums.get(label_values, 0.0) + seconds

    def lines(self) -> Iterable[str]:
        yield from _head(self.name, self.description, "histogram")
        for values, counts in sorted(self._counts.items()):
            labels = dict(zip(self.labels, values, strict=True))
            reached = 0
            for bound, count in zip((*map(str, LATENCY_BUCKETS_S), "+Inf"), counts, strict=True):
                reached += count
                yield f"{self.name}_bucket{_labels({**labels, 'le': bound})} {reached}"
            yield f"{self.name}_sum{_labels(labels)} {self._sums[values]:.6f}"
            yield f"{self.name}_count{_labels(labels)} {reached}"


class Metrics:
    """What the doors count. Labels are routes, never paths: their number is bounded and names no tenant's thing."""

    def __init__(self) -> None:
        self.requests = Counter("voiced_requests_total", "HTTP requests answered.", ("method", "route", "status"))
        self.latency = Histogram("voiced_request_seconds", "Time to the end of the answer.", ("route",))
        self.first_sound = Histogram("voiced_first_sound_seconds", "Request to first audio bytes.", ("door",))
        self.spoken = Counter("voiced_spoken_seconds_total", "Seconds of audio sent.", ("door",))
        self.cancelled = Counter("voiced_cancelled_total", "Answers given up because the client left.", ("route",))

    def text(self, gauges: Iterable[Gauge]) -> str:
        """Everything, with figures that other rooms lend at this moment."""
        families = (self.requests, self.latency, self.first_sound, self.spoken, self.cancelled)
        lines = [line for family in families for line in family.lines()]
        for gauge in gauges:
            lines += gauge.lines()
        return "\n".join(lines) + "\n"


class Gauge:
    """Figures read at scrape time: label mapping -> value."""

    def __init__(self, name: str, description: str, kind: str = "gauge") -> None:
        self.name, self.description, self.kind = name, description, kind
        self._rows: list[tuple[Mapping[str, str], float]] = []

    def set(self, figure: float, **labels: str) -> Gauge:
        self._rows.append((labels, figure))
        return self

    def lines(self) -> Iterable[str]:
        yield from _head(self.name, self.description, self.kind)
        for labels, figure in self._rows:
            yield f"{self.name}{_labels(labels)} {_told(figure)}"


def _head(name: str, description: str, kind: str) -> tuple[str, str]:
    return f"# HELP {name} {description}", f"# TYPE {name} {kind}"


def _told(figure: float) -> str:
    """In full: with six digits the start of the daemon is off by an hour, and a counter of millions stands still."""
    return f"{figure:.16g}"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items()) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
