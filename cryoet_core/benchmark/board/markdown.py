"""leaderboard.md: the tables as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cryoet_core.benchmark.board.summary import Board, Figure, Test
from cryoet_core.benchmark.suite import SuiteTable

NOT_RUN, FAILED = "not run", "failed"


def leaderboard(found: Sequence[Board], facts: Mapping[str, Any]) -> str:
    """Return the whole page.

    Parameters
    ----------
    found : sequence of Board
        The tables.
    facts : mapping
        Those of ``leaderboard.closing_facts``.

    Returns
    -------
    str
        Markdown.
    """
    parts = ["# Leaderboard", "", *_about(facts), ""]
    for board in found:
        parts += _table(board)
    return "\n".join(parts)


def _about(facts: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Scale {facts['scale']}, {facts['seeds']} seed{'s' * (facts['seeds'] != 1)}; data from "
        f"{facts['data']}. "
        f"{facts['measured']} runs measured, {facts['failed']} failed. Commit {facts['commit']}; "
        f"{facts['devices']}; "
        f"{facts['date']}.",
        "",
        "A cell is our mean over the seeds ± half of its 95 % interval (Student's t; none for one "
        "seed), then the "
        "figure printed in the paper. Where the scale is not *paper*, data and training are "
        "smaller than the papers', "
        "and the figures can be compared in trend only.",
    ]
    if facts["without_a_table"]:
        lines += [
            "",
            f"Installed methods that no table takes: {', '.join(facts['without_a_table'])}.",
        ]
    return lines


def _table(board: Board) -> list[str]:
    table = board.table
    title = f"## {board.suite.name} {table.id}: {table.title}"
    heads = [*list(table.axes)[:-1], "method", *(head(board, column) for column in board.columns)]
    lines = [title, "", *([_said(table), ""] if table.source or table.note else [])]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in board.rows:
        cells = [
            _cell(board, figure, index)
            for figure, (_, index) in zip(row.figures, board.columns, strict=True)
        ]
        lines.append("| " + " | ".join([*row.heads, row.entry.label, *cells]) + " |")
    lines += [""]
    if board.tests:
        lines += [
            f"Paired over runs of the same data and seed, p after Holm ({len(board.tests)} tests):",
            "",
        ]
        lines += [*(_test(board, test) for test in board.tests), ""]
    for reason, commands in board.missing.items():
        lines += [f"Missing ({reason}):", "", *(f"    {command}" for command in commands), ""]
    return lines


def _said(table: SuiteTable) -> str:
    return " ".join(
        part for part in (f"{table.source}." if table.source else "", table.note) if part
    )


def _test(board: Board, test: Test) -> str:
    difference = signed(test.difference * board.scale, board)
    return f"* {test.first} − {test.second}: {difference}, p = {p_value(test.p)}, n = {test.n}"


def head(board: Board, column: tuple[str, int]) -> str:
    """Return the name of a column.

    Parameters
    ----------
    board : Board
        A table of the leaderboard.
    column : (str, int)
        Value of the last axis, and number of the metric.

    Returns
    -------
    str
        The value, or the metric where there are several.
    """
    value, index = column
    table = board.table
    name = (table.names or table.metrics)[index]
    axis = list(table.axes)[-1] if table.axes else ""
    if not value:
        return name
    return f"{axis} {value}" + (f", {name}" if len(table.metrics) > 1 else "")


def _cell(board: Board, figure: Figure, index: int) -> str:
    mine = ours(board, figure, index) or figure.status
    paper = printed(board, figure)
    return f"{mine} (paper {paper})" if paper else mine


def ours(board: Board, figure: Figure, index: int) -> str:
    """Return a measured figure as ``0.912 ± 0.010``.

    Parameters
    ----------
    board : Board
        A table of the leaderboard.
    figure : Figure
        The figure.
    index : int
        Number of the metric.

    Returns
    -------
    str
        Empty where nothing is measured.
    """
    if figure.ours is None:
        return ""
    digits = digits_of(board, index)
    value = f"{figure.ours.value * board.scale:.{digits}f}"
    half = figure.ours.half
    return value if half is None else f"{value} ± {half * board.scale:.{digits}f}"


def printed(board: Board, figure: Figure) -> str:
    """Return the published figure as printed.

    Parameters
    ----------
    board : Board
        A table of the leaderboard.
    figure : Figure
        The figure.

    Returns
    -------
    str
        The figure.
    """
    if figure.printed is None:
        return ""
    value, spread = figure.printed
    form = ".1f" if board.table.percent else "g"
    return (
        f"{value:{form}}"
        if spread is None or math.isnan(spread)
        else f"{value:{form}} ± {spread:{form}}"
    )


def digits_of(board: Board, index: int) -> int:
    """Return the decimals of a metric: percent and seconds have one.

    Parameters
    ----------
    board : Board
        A table of the leaderboard.
    index : int
        Number of the metric.

    Returns
    -------
    int
        Decimals.
    """
    return 1 if board.table.percent or board.table.metrics[index].endswith("seconds") else 3


def signed(value: float, board: Board) -> str:
    """Return a difference with its sign.

    Parameters
    ----------
    value : float
        The difference.
    board : Board
        A table of the leaderboard.

    Returns
    -------
    str
        The difference as the figures of the table are written.
    """
    return f"{value:+.{digits_of(board, board.table.main_index)}f}"


def p_value(p: float) -> str:
    """Return p as ``0.012`` or ``< 0.0001``."""
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"
