"""Figures keep every digit that matters, however long a box has run."""

from __future__ import annotations

import pytest

from appliance.doors.metrics import Counter, Gauge


@pytest.mark.parametrize(
    ("figure", "told"),
    [
        (1_790_000_123.25, "1790000123.25"),
        (12_345_678, "12345678"),
        (0.25, "0.25"),
        (3.0, "3"),
        (1e15 + 1, "1000000000000001"),
    ],
)
def test_figures_are_told_in_full(figure, told):
    assert list(Gauge("start", "When.").set(figure).lines())[-1] == f"start {told}"
    counter = Counter("requests", "How many.")
    counter.add(amount=figure)
    assert list(counter.lines())[-1] == f"requests {told}"
