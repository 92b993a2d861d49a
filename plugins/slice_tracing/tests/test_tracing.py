"""Linking detections of slices into particles."""

from __future__ import annotations

import numpy as np
import pytest
from cryoet_slice_tracing.tracing import Detections, centres, link


def detections(rows: list[tuple[float, ...]]) -> Detections:
    """Rows z, y, x and perhaps a confidence."""
    table = np.array([(*row, 0.8)[:4] for row in rows], dtype=float).reshape(-1, 4)
    return Detections(table[:, 0].astype(int), table[:, 1:3], table[:, 3])


def traced(
    rows: list[tuple[float, ...]], memory: int = 0, min_length: float = 5, max_length: float = 100
) -> np.ndarray:
    found = detections(rows)
    positions, _ = centres(found, link(found, 3.0, memory), min_length, max_length)
    return positions[np.lexsort(positions.T)]


COLUMN = [(z, 10.0, 20.0) for z in range(4, 11)]


def test_a_column_is_one_particle_at_its_middle() -> None:
    assert traced(COLUMN) == pytest.approx(np.array([[7.0, 10.0, 20.0]]))


def test_two_columns_twice_the_range_apart_are_two() -> None:
    assert len(traced(COLUMN + [(z, y + 6.0, x) for z, y, x in COLUMN])) == 2


def test_the_memory_bridges_a_gap() -> None:
    gap = [row for row in COLUMN if row[0] != 7]
    assert len(traced(gap, memory=0, min_length=3)) == 2
    assert traced(gap, memory=1) == pytest.approx(np.array([[7.0, 10.0, 20.0]]))


def test_short_traces_are_dropped_and_long_ones_split() -> None:
    assert len(traced(COLUMN[:4])) == 0
    tall = [(z, 10.0, 20.0) for z in range(12)]
    assert traced(tall, max_length=6) == pytest.approx(
        np.array([[2.5, 10.0, 20.0], [8.5, 10.0, 20.0]])
    )


def test_the_order_of_detections_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    rows = [
        (z, *(base + generator.normal(0, 0.3, 2)))
        for z in range(8)
        for base in generator.uniform(0, 40, (6, 2))
    ]
    rows += [(z, 5.0 + z / 4, 30.0) for z in range(8)]
    shuffled = [rows[i] for i in generator.permutation(len(rows))]
    assert traced(shuffled, min_length=3) == pytest.approx(traced(rows, min_length=3))


def test_no_detection_is_in_two_traces_and_none_is_lost() -> None:
    generator = np.random.default_rng(1)
    found = detections([(z, *generator.uniform(0, 12, 2)) for z in range(10) for _ in range(5)])
    rows = [row for trace in link(found, 3.0, 1) for row in trace]
    assert sorted(rows) == list(range(50))


def test_the_assignment_is_the_cheapest_in_total_not_the_nearest_first() -> None:
    found = detections([(0, 0.0, 0.0), (0, 0.0, 2.0), (1, 0.0, 1.0), (1, 0.0, -1.9)])
    assert sorted(map(sorted, link(found, 3.0, 0))) == [[0, 3], [1, 2]]


def test_a_trace_cut_off_at_one_end_leans_to_its_confident_slices() -> None:
    rows = [(z, 5.0, 5.0, c) for z, c in zip(range(5), (0.9, 0.8, 0.6, 0.4, 0.3), strict=True)]
    assert traced(rows)[0, 0] < 1.6


def test_nothing_comes_of_nothing() -> None:
    assert traced([]).shape == (0, 3)
