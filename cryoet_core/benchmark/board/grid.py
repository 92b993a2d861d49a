"""One table of the leaderboard as HTML: ours, the published figure below it, links to reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.board import markdown
from cryoet_core.benchmark.board.summary import Board, Figure, SummaryRow
from cryoet_core.benchmark.results import report_of
from cryoet_core.report.drawing.words import Markup, text

STYLE = Markup("""<style>
.board td { white-space: nowrap; }
.board td.num { line-height: 1.3; } .board b { font-weight: 650; }
.board small { display: block; font-size: 12px; } .board .best { background: #e8f4ee; }
.board .none { color: #9aa0a9; } .board .failed { color: #d55e00; }
.board a, .overview a { color: inherit; }
.board th.group { text-align: center; border-bottom: 0; padding-bottom: 0; }
.board .first { border-left: 1px solid var(--line); padding-left: 12px; }
.overview td:first-child { white-space: nowrap; }
.under { display: flex; flex-wrap: wrap; gap: 10px 36px; align-items: flex-start;
  margin-top: 14px; }
details { margin-top: 12px; font-size: 14px; } details p { margin: 8px 0 2px; }
summary { cursor: pointer; color: #626973; }
details code { display: block; margin: 2px 0 2px 14px; }
</style>""")


def grid(board: Board, folder: Path) -> Markup:
    """Return the table; with several metrics a condition is written once, above them.

    Parameters
    ----------
    board : Board
        A table of the leaderboard.
    folder : Path
        Where the page will lie.

    Returns
    -------
    Markup
        HTML.
    """
    best = best_of(board)
    body = "".join(
        _row(board, row, before, folder, best) for row, before in _with_the_row_before(board.rows)
    )
    return Markup(
        '<div class="scroll"><table '
        f'class="board"><thead>{_head(board)}</thead><tbody>{body}</tbody></table></div>'
    )


def _head(board: Board) -> str:
    table = board.table
    fixed = [*list(table.axes)[:-1], "method"]
    if len(table.metrics) == 1 or not board.columns[0][0]:
        cells = "".join(
            f"<th class=num>{text(markdown.head(board, column))}</th>" for column in board.columns
        )
        return f"<tr>{''.join(f'<th>{text(name)}</th>' for name in fixed)}{cells}</tr>"
    axis, wide = list(table.axes)[-1], len(table.metrics)
    groups = "".join(
        f'<th class="group first" colspan={wide}>{text(f"{axis} {value}")}</th>'
        for value, index in board.columns
        if not index
    )
    names = table.names or table.metrics
    cells = "".join(
        f'<th class="num{_first(index)}">{text(names[index])}</th>' for _, index in board.columns
    )
    heads = "".join(f"<th>{text(name)}</th>" for name in fixed)
    return f"<tr><th colspan={len(fixed)}></th>{groups}</tr><tr>{heads}{cells}</tr>"


def _first(index: int) -> str:
    return "" if index else " first"


def _with_the_row_before(rows: Sequence[SummaryRow]) -> list[tuple[SummaryRow, SummaryRow | None]]:
    return list(zip(rows, [None, *rows[:-1]], strict=True))


def _row(
    board: Board, row: SummaryRow, before: SummaryRow | None, folder: Path, best: set[int]
) -> str:
    same = before is not None and before.heads == row.heads
    heads = "".join(f"<td>{'' if same else text(head)}</td>" for head in row.heads)
    several = len(board.table.metrics) > 1
    cells = "".join(
        f'<td class="num{_first(index) if several else ""}">'
        f"{_cell(board, figure, index, folder, best)}</td>"
        for figure, (_, index) in zip(row.figures, board.columns, strict=True)
    )
    return f"<tr>{heads}<td>{text(row.entry.label)}</td>{cells}</tr>"


def best_of(board: Board) -> set[int]:
    """Return the ids of the figures that are the best of their column under the same heads."""
    found: set[int] = set()
    for heads in dict.fromkeys(row.heads for row in board.rows):
        group = [row for row in board.rows if row.heads == heads]
        for column in range(len(board.columns)):
            values = {
                id(f): f.ours.value
                for f in (row.figures[column] for row in group)
                if f.ours is not None
            }
            if len(set(values.values())) > 1:
                top = min(values.values()) if board.table.lower_is_better else max(values.values())
                found |= {name for name, value in values.items() if value == top}
    return found


def _cell(board: Board, figure: Figure, index: int, folder: Path, best: set[int]) -> Markup:
    mine = markdown.ours(board, figure, index)
    if mine:
        shown = f'<span class="{"best" if id(figure) in best else ""}"><b>{text(mine)}</b></span>'
    else:
        kind = "failed" if figure.status == "failed" else "none"
        shown = f'<span class="{kind}" title="{text(figure.reason)}">{figure.status}</span>'
    paper = markdown.printed(board, figure)
    last = index == len(board.table.metrics) - 1
    below = ([f"paper {text(paper)}"] if paper else []) + (
        _links(figure.lines, folder) if last else []
    )
    return Markup(shown + (f"<small>{' · '.join(below)}</small>" if below else ""))


def _links(lines: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """The reports of the runs behind a figure, by seed; nothing where there is none."""
    found = [
        (line["seed"], path) for line in lines if (path := report_of(line, folder)) is not None
    ]
    one = len(lines) == 1
    links = [
        f'<a href="{text(path)}" title="report of seed {seed}">{"report" if one else seed}</a>'
        for seed, path in found
    ]
    return [("" if one else "reports ") + " ".join(links)] if links else []
