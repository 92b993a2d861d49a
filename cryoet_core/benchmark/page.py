"""leaderboard.html: the same tables as one offline page, with links to the runs' reports and accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoet_core.benchmark import markdown
from cryoet_core.benchmark.results import report_of
from cryoet_core.benchmark.summary import Board, Figure, Row, cost
from cryoet_core.report import palette, plots
from cryoet_core.report.page import document
from cryoet_core.report.section import Section, paragraph, slot
from cryoet_core.report.words import Markup, duration, table, text

_STYLE = Markup("""<style>
.board td { white-space: nowrap; } .board td.num { line-height: 1.3; } .board b { font-weight: 650; }
.board small { display: block; font-size: 12px; } .board .best { background: #e8f4ee; }
.board .none { color: #9aa0a9; } .board .failed { color: #d55e00; } .board a { color: inherit; }
.under { display: flex; flex-wrap: wrap; gap: 10px 36px; align-items: flex-start; margin-top: 14px; }
details { margin-top: 12px; font-size: 14px; } details p { margin: 8px 0 2px; }
summary { cursor: pointer; color: #626973; } details code { display: block; margin: 2px 0 2px 14px; }
</style>""")


def leaderboard(found: Sequence[Board], facts: Mapping[str, Any], folder: Path) -> str:
    """The page; links to reports are relative to ``folder``, where it will lie."""
    parts = [_overview(found, facts), *(_section(board, folder) for board in found), *_failures(found), _origin(facts)]
    return document("cryoet: leaderboard", _head(facts), parts)


def _head(facts: Mapping[str, Any]) -> str:
    tiles = [
        ("runs measured", str(facts["measured"]), f"{facts['failed']} failed" if facts["failed"] else "none failed"),
        ("methods", str(len(facts["methods"])), f"in {facts['tables']} tables"),
        ("seeds", str(facts["seeds"]), f"scale {facts['scale']}"),
        ("time of the runs", duration(facts["seconds"]), facts["devices"]),
    ]
    shown = "".join(f"<div><small>{text(a)}</small><b>{text(b)}</b><span>{text(c)}</span></div>" for a, b, c in tiles)
    line = f"{facts['date']} · commit {facts['commit']} · data from {facts['data']}"
    return f'{_STYLE}<header><h1>Leaderboard</h1><p>{text(line)}</p><div class="tiles">{shown}</div></header>'


def _overview(found: Sequence[Board], facts: Mapping[str, Any]) -> Section:
    rows = []
    for board in found:
        counts = board.counts()
        name, value, n = board.best
        best = f"{name} {value * board.scale:.{markdown.digits_of(board, 0)}f}" if name else "–"
        link = Markup(f'<a href="#{_anchor(board)}">{text(f"{board.suite.name} {board.table.id}")}</a>')
        rows.append((link, board.table.title, counts["measured"], counts["failed"], counts["not run"], best, n or "–"))
    heads = ("table", "", "measured", "failed", "not run", "best in the runs that all share", "runs")
    words = [
        "A figure is our mean over the seeds ± half of its 95 % interval (Student's t; none for one seed); below it "
        "what the paper prints. "
    ]
    if facts["scale"] != "paper":
        words.append(
            f"At the scale {facts['scale']} data and training are smaller than the papers': the two compare in kind "
            "only. "
        )
    if facts["without_a_table"]:
        words.append(f"No table takes {', '.join(facts['without_a_table'])}.")
    return Section("Tables", paragraph(*words, kind="caption") + table(heads, rows, "board", (2, 3, 4, 6)))


def _anchor(board: Board) -> str:
    return f"{board.suite.name}-{board.table.id}".replace(" ", "-")


def _section(board: Board, folder: Path) -> Section:
    said = board.table
    heads = [*list(said.axes)[:-1], "method", *(markdown.head(board, column) for column in board.columns)]
    best = _best(board)
    rows = [
        [*row.heads, row.entry.label, *(_cell(board, row, i, folder, best) for i in range(len(row.figures)))]
        for row in _without_repeats(board.rows)
    ]
    numeric = range(len(heads) - len(board.columns), len(heads))
    html = f'<a id="{_anchor(board)}"></a>'
    html += paragraph(
        " ".join(part for part in (f"{said.source}." if said.source else "", said.note) if part), kind="caption"
    )
    html += f'<div class="scroll">{table(heads, rows, "board", tuple(numeric))}</div>'
    plot = _cost(board)
    under = _tests(board) + (f"<figure>{slot(_anchor(board))}</figure>" if plot else "")
    html += f'<div class="under">{under}</div>' if under else ""
    html += _missing(board)
    return Section(f"{board.suite.name} {said.id}: {said.title}", html, {_anchor(board): plot} if plot else {})


def _without_repeats(rows: Sequence[Row]) -> list[Row]:
    """A head that is the same as in the row above is not said again."""
    out: list[Row] = []
    for index, row in enumerate(rows):
        same = index > 0 and rows[index - 1].heads == row.heads
        out.append(Row(row.entry, ("",) * len(row.heads) if same else row.heads, row.figures))
    return out


def _best(board: Board) -> set[int]:
    """The ids of figures that are the best of their column (and of the rows under the same heads)."""
    found: set[int] = set()
    for heads in dict.fromkeys(row.heads for row in board.rows):
        group = [row for row in board.rows if row.heads == heads]
        for column in range(len(board.columns)):
            known = [row.figures[column] for row in group if row.figures[column].ours is not None]
            values = [figure.ours.value for figure in known if figure.ours is not None]
            if len(values) > 1:
                top = min(values) if board.table.lower_is_better else max(values)
                found |= {id(figure) for figure, value in zip(known, values, strict=True) if value == top}
    return found


def _cell(board: Board, row: Row, column: int, folder: Path, best: set[int]) -> Markup:
    figure, (_, index) = row.figures[column], board.columns[column]
    mine = markdown.ours(board, figure, index)
    kind = "best" if id(figure) in best else ""
    if mine:
        shown = f'<span class="{kind}"><b>{text(mine)}</b></span>'
    else:
        kind = "failed" if figure.status == "failed" else "none"
        shown = f'<span class="{kind}" title="{text(figure.reason)}">{figure.status}</span>'
    paper = markdown.printed(board, figure)
    below = [f"paper {text(paper)}"] if paper else []
    links = _links(figure, folder)
    below += [links] if links else []
    return Markup(shown + (f"<small>{' · '.join(below)}</small>" if below else ""))


def _links(figure: Figure, folder: Path) -> str:
    """The reports of the runs behind a figure, by seed."""
    found = [(line["seed"], report_of(line, folder)) for line in figure.lines]
    links = [
        f'<a href="{text(path)}" title="report of seed {seed}">{"report" if len(found) == 1 else seed}</a>'
        for seed, path in found
        if path is not None
    ]
    return ("" if len(found) == 1 else "reports ") + " ".join(links) if links else ""


def _tests(board: Board) -> str:
    if not board.tests:
        return ""
    rows = [
        (
            f"{test.first} − {test.second}",
            markdown.signed(test.difference * board.scale, board),
            markdown.p_value(test.p),
            test.n,
        )
        for test in board.tests
    ]
    note = paragraph(
        "Paired t-tests over runs of the same data and seed; the conditions of the table count as repeats.",
        kind="caption",
    )
    return f"<div><h3>Differences</h3>{table(('', 'mean', 'p (Holm)', 'n'), rows)}{note}</div>"


def _cost(board: Board) -> Any:
    """The first metric against the time of a run, a mark for each entry; None for fewer than two entries."""
    points = cost(board)
    if len(points) < 2 or board.table.metrics[0].endswith("seconds"):
        return None
    name = (board.table.names or board.table.metrics)[0].replace("_", " ")
    plot = plots.figure("seconds of a run", name, 520, 300, x_axis_type="log")
    marks = []
    for index, (label, seconds, value) in enumerate(points):
        mark = palette.mark(index)
        source = {"x": [seconds], "y": [value], "name": [label]}
        marks.append(
            plot.scatter("x", "y", source=source, size=10, color=mark.colour, marker=mark.marker, legend_label=label)
        )
    plot.add_layout(plot.legend[0], "right")
    plot.legend.label_text_font, plot.legend.label_text_font_size = plots.FONT, "12px"
    plot.legend.border_line_color = None
    plots.hover(plot, [("", "@name"), ("seconds", "@x{0.0}"), (name, "@y{0.000}")], marks)
    return plot


def _missing(board: Board) -> str:
    if not board.missing:
        return ""
    parts = [
        f"<p>{text(reason)}:</p>" + "".join(f"<code>{text(command)}</code>" for command in commands)
        for reason, commands in board.missing.items()
    ]
    number = sum(board.counts()[state] for state in ("failed", "not run"))
    summary = f"<summary>{number} figures are missing: why, and what would measure them</summary>"
    return f"<details>{summary}{''.join(parts)}</details>"


def _failures(found: Sequence[Board]) -> list[Section]:
    lines = {line["key"]: line for board in found for row in board.rows for line in row.lines if line["status"] != "ok"}
    if not lines:
        return []
    rows = [
        (line["method"], line["seed"], line["reason"], Markup(f"<code>{text(Path(line['run']).parent)}</code>"))
        for line in lines.values()
    ]
    return [Section("Failed runs", table(("method", "seed", "why", "folder"), rows, "facts", ()))]


def _origin(facts: Mapping[str, Any]) -> Section:
    rows = [(name, value) for name, value in facts["origin"].items() if value]
    note = paragraph(
        "Every run with its options, data hashes, versions and cost is a line of results.jsonl.", kind="caption"
    )
    return Section("Where this comes from", table(("", ""), rows, "facts", ()) + note)
