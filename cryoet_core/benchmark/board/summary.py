"""What the leaderboard says: figures with intervals, published figures, tests and cost."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from cryoet_core.benchmark.board.intervals import Mean, mean_of
from cryoet_core.benchmark.plan import BenchmarkPlan, Place
from cryoet_core.benchmark.suite import Condition, Entry, Suite, SuiteTable
from cryoet_core.evaluation.significance import holm, paired_t

Lines = Mapping[str, Mapping[str, Any]]
LEAST_PAIRS = 3
"""Of fewer matched pairs nothing is tested."""


@dataclass(frozen=True)
class Figure:
    """One number of a table.

    Attributes
    ----------
    ours : Mean or None
        The mean over the seeds.
    printed : (float, float or None) or None
        What is published, with what is printed after its ±.
    status : str
        "measured", "failed" or "not run".
    reason, command : str
        Why it is missing, and what would measure it.
    lines : tuple of mapping
        The results behind it.
    """

    ours: Mean | None
    printed: tuple[float, float | None] | None
    status: str
    reason: str = ""
    command: str = ""
    lines: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class SummaryRow:
    """The figures of an entry under all axes but the last.

    Attributes
    ----------
    entry : Entry
        The entry.
    heads : tuple of str
        Values of the axes.
    figures : tuple of Figure
        One for each column.
    """

    entry: Entry
    heads: tuple[str, ...]
    figures: tuple[Figure, ...]

    @property
    def lines(self) -> list[Mapping[str, Any]]:
        """The results behind all figures, each once."""
        return list(
            {line["key"]: line for figure in self.figures for line in figure.lines}.values()
        )


@dataclass(frozen=True)
class Test:
    """One entry against another in matched runs (same condition and seed).

    Attributes
    ----------
    first, second : str
        The entries.
    difference : float
        The mean difference.
    p : float
        Corrected by Holm's method.
    n : int
        How many runs.
    """

    first: str
    second: str
    difference: float
    p: float
    n: int


@dataclass
class Board:
    """One table of the leaderboard.

    Attributes
    ----------
    suite : Suite
        The suite.
    table : SuiteTable
        The table.
    columns : list of (str, int)
        Value of the last axis, and number of the metric.
    rows : list of SummaryRow
        The rows.
    tests : list of Test
        Comparisons of entries.
    best : (str, float, int)
        The leading entry, its mean over the runs that all entries have, and their number.
    """

    suite: Suite
    table: SuiteTable
    columns: list[tuple[str, int]]
    rows: list[SummaryRow]
    tests: list[Test] = field(default_factory=list)
    best: tuple[str, float, int] = ("", float("nan"), 0)
    """The leading entry, its mean over the runs that all entries share, and their number."""

    @cached_property
    def missing(self) -> dict[str, list[str]]:
        """Return why figures are missing: the reason, and the commands that would measure them."""
        found: dict[str, list[str]] = {}
        for figure in (
            figure for row in self.rows for figure in row.figures if figure.status != "measured"
        ):
            commands = found.setdefault(figure.reason, [])
            if figure.command not in commands:
                commands.append(figure.command)
        return found

    @property
    def scale(self) -> float:
        """What measured values are multiplied with to be as printed."""
        return 100.0 if self.table.percent else 1.0

    def counts(self) -> dict[str, int]:
        """Return how many figures are measured, failed and not run."""
        states = [figure.status for row in self.rows for figure in row.figures]
        return {state: states.count(state) for state in ("measured", "failed", "not run")}


def boards(plan: BenchmarkPlan, lines: Lines) -> list[Board]:
    """Return every table of a plan with what the results hold for it.

    Parameters
    ----------
    plan : BenchmarkPlan
        What is measured.
    lines : mapping of str to mapping
        Results by the key of the cell.

    Returns
    -------
    list of Board
        The tables.
    """
    grouped: dict[tuple[str, str], list[Place]] = defaultdict(list)
    for place in plan.places:
        grouped[place.suite.name, place.table.id].append(place)
    return [_board(places, lines) for places in grouped.values()]


def _board(places: Sequence[Place], lines: Lines) -> Board:
    table = places[0].table
    last = list(table.axes)[-1] if table.axes else None
    values = table.axes[last] if last else [""]
    columns = [(value, index) for value in values for index in range(len(table.metrics))]
    rows: dict[tuple[str, tuple[str, ...]], dict[str, Place]] = defaultdict(dict)
    for place in places:
        heads = tuple(value for axis, value in place.condition if axis != last)
        rows[place.entry.label, heads][dict(place.condition).get(last or "", "")] = place
    ordered = sorted(rows.items(), key=lambda item: _order(table, item[0][1]))
    made = [_row(heads, by_value, columns, lines) for (_, heads), by_value in ordered]
    best = leader(matched_scores(places, lines), lowest=table.lower_is_better)
    return Board(places[0].suite, table, columns, made, _tests(places, lines), best)


def _order(table: SuiteTable, heads: Sequence[str]) -> list[int]:
    return [values.index(head) for values, head in zip(table.axes.values(), heads, strict=False)]


def _row(
    heads: tuple[str, ...],
    by_value: Mapping[str, Place],
    columns: Sequence[tuple[str, int]],
    lines: Lines,
) -> SummaryRow:
    figures = tuple(figure_of(by_value[value], index, lines) for value, index in columns)
    return SummaryRow(next(iter(by_value.values())).entry, heads, figures)


def figure_of(place: Place, index: int, lines: Lines) -> Figure:
    """Return a figure from the lines of its cells.

    Parameters
    ----------
    place : Place
        Where it stands.
    index : int
        Number of the metric.
    lines : mapping of str to mapping
        Results by the key of the cell.

    Returns
    -------
    Figure
        A metric that a run did not report is a failure with that reason.
    """
    printed = place.table.printed(place.entry, place.condition, index)
    if not place.cells:
        return Figure(None, printed, "not run", place.reason, place.command)
    metric = place.table.metric_of(place.entry, index)
    found = [lines[cell.key] for cell in place.cells if cell.key in lines]
    failed = [line for line in found if line["status"] != "ok"]
    values = [line["metrics"].get(metric) for line in found if line["status"] == "ok"]
    known = [value for value in values if value is not None]
    if known:
        return Figure(mean_of(known), printed, "measured", lines=tuple(found))
    if failed:
        return Figure(
            None, printed, "failed", str(failed[0]["reason"]), place.command, tuple(found)
        )
    if found:
        reason = f"{place.entry.method} reports no {metric}"
        return Figure(None, printed, "failed", reason, place.command, tuple(found))
    return Figure(None, printed, "not run", "not run yet", place.command)


def _tests(places: Sequence[Place], lines: Lines) -> list[Test]:
    """Paired t-tests between the entries on the main metric, p corrected by Holm's method over all
    of them.
    """
    scores = matched_scores(places, lines)
    raw: list[Test] = []
    for first, second in itertools.combinations(scores, 2):
        shared = sorted(set(scores[first]) & set(scores[second]))
        pairs = [(scores[first][key], scores[second][key]) for key in shared]
        if len(pairs) >= LEAST_PAIRS:
            found = paired_t(*zip(*pairs, strict=True))
            raw.append(Test(first, second, found.difference, found.p, len(pairs)))
    corrected = holm([test.p for test in raw])
    tests = [replace(test, p=float(p)) for test, p in zip(raw, corrected, strict=True)]
    return sorted(tests, key=lambda test: test.p)


def matched_scores(
    places: Sequence[Place], lines: Lines
) -> dict[str, dict[tuple[Condition, int], float]]:
    """Return the main metric of every entry by condition and seed.

    Parameters
    ----------
    places : sequence of Place
        Places of one table.
    lines : mapping of str to mapping
        Results by the key of the cell.

    Returns
    -------
    dict of str to dict
        By entry, then by (condition, seed).
    """
    scores: dict[str, dict[tuple[Condition, int], float]] = defaultdict(dict)
    for place in places:
        metric = place.table.metric_of(place.entry, place.table.main_index)
        for cell in place.cells:
            value = lines.get(cell.key, {}).get("metrics", {}).get(metric)
            if value is not None:
                scores[place.entry.label][place.condition, cell.seed] = value
    return scores


def leader(
    scores: Mapping[str, Mapping[tuple[Condition, int], float]], *, lowest: bool = False
) -> tuple[str, float, int]:
    """Return the entry with the best mean over the runs that all entries have in common.

    Parameters
    ----------
    scores : mapping of str to mapping
        Those of ``matched_scores``.
    lowest : bool
        Whether the lowest value is the best.

    Returns
    -------
    (str, float, int)
        The entry, its mean and the number of runs. Where several are equal: the first of them, and
        how many more.
    """
    if not scores:
        return "", float("nan"), 0
    shared = set.intersection(*(set(found) for found in scores.values()))
    if not shared:
        return "", float("nan"), 0
    means = {
        name: sum(found[key] for key in shared) / len(shared) for name, found in scores.items()
    }
    best = min(means.values()) if lowest else max(means.values())
    names = [name for name, mean in means.items() if mean == best]
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return names[0] + others, best, len(shared)


def cost(board: Board) -> list[tuple[str, float, float]]:
    """Return (entry, mean seconds, mean of the main metric) over its runs that have both."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in board.rows:
        metric = board.table.metric_of(row.entry, board.table.main_index)
        for line in row.lines:
            seconds, value = line["metrics"].get("wall_seconds"), line["metrics"].get(metric)
            if seconds and value is not None and line["status"] == "ok":
                found[row.entry.label].append((seconds, value * board.scale))
    return [
        (name, sum(s for s, _ in some) / len(some), sum(v for _, v in some) / len(some))
        for name, some in found.items()
    ]
