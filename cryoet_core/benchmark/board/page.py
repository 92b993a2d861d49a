"""leaderboard.html: the tables as one offline page, with reports and accuracy against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoet_core.benchmark.board import markdown
from cryoet_core.benchmark.board.grid import STYLE, grid
from cryoet_core.benchmark.board.summary import Board, cost
from cryoet_core.report.drawing import palette, plots
from cryoet_core.report.drawing.section import Section, paragraph, slot
from cryoet_core.report.drawing.words import Markup, duration, table, text
from cryoet_core.report.page import document


def leaderboard(found: Sequence[Board], facts: Mapping[str, Any], folder: Path) -> str:
    """Return the page.

    Parameters
    ----------
    found : sequence of Board
        The tables.
    facts : mapping
        Those of ``leaderboard.closing_facts``.
    folder : Path
        Where the page will lie; links to reports are relative to it.

    Returns
    -------
    str
        HTML.
    """
    parts = [
        _overview(found, facts),
        *(_section(board, folder) for board in found),
        *_failures(found, facts),
        _origin(facts),
    ]
    return document("cryoet: leaderboard", _head(facts), parts)


def _head(facts: Mapping[str, Any]) -> str:
    tiles = [
        (
            "runs measured",
            str(facts["measured"]),
            f"{facts['failed']} failed" if facts["failed"] else "none failed",
        ),
        ("methods", str(len(facts["methods"])), f"in {facts['tables']} tables"),
        ("seeds", str(facts["seeds"]), f"scale {facts['scale']}"),
        ("time of the runs", duration(facts["seconds"]), facts["devices"]),
    ]
    shown = "".join(
        f"<div><small>{text(a)}</small><b>{text(b)}</b><span>{text(c)}</span></div>"
        for a, b, c in tiles
    )
    line = f"{facts['date']} · commit {facts['commit']} · data from {facts['data']}"
    return (
        f"{STYLE}<header><h1>Leaderboard</h1><p>{text(line)}</p><div "
        f'class="tiles">{shown}</div></header>'
    )


def _overview(found: Sequence[Board], facts: Mapping[str, Any]) -> Section:
    rows = []
    for board in found:
        counts = board.counts()
        name, value, n = board.best
        best = (
            f"{name} {value * board.scale:.{markdown.digits_of(board, board.table.main_index)}f}"
            if name
            else "–"
        )
        link = Markup(
            f'<a href="#{_anchor(board)}">{text(f"{board.suite.name} {board.table.id}")}</a>'
        )
        rows.append(
            (
                link,
                board.table.title,
                counts["measured"],
                counts["failed"],
                counts["not run"],
                best,
                n or "–",
            )
        )
    heads = (
        "table",
        "",
        "measured",
        "failed",
        "not run",
        "best in the runs that all entries have",
        "runs",
    )
    words = [
        "A figure is our mean over the seeds ± half of its 95 % interval (Student's t; none for "
        "one seed). The figure that the paper prints is below it. "
    ]
    if facts["scale"] != "paper":
        words.append(
            f"At the scale {facts['scale']} data and training are smaller than the papers': the "
            "figures can be compared in trend only. "
        )
    if facts["without_a_table"]:
        words.append(f"No table takes {', '.join(facts['without_a_table'])}.")
    return Section(
        "Tables", paragraph(*words, kind="caption") + table(heads, rows, "overview", (2, 3, 4, 6))
    )


def _anchor(board: Board) -> str:
    return f"{board.suite.name}-{board.table.id}".replace(" ", "-")


def _section(board: Board, folder: Path) -> Section:
    said = board.table
    words = [f"{said.source}." if said.source else "", said.note]
    plot = _cost(board)
    under = _tests(board) + (f"<figure>{slot(_anchor(board))}</figure>" if plot else "")
    html = f'<a id="{_anchor(board)}"></a>' + paragraph(
        " ".join(part for part in words if part), kind="caption"
    )
    html += (
        grid(board, folder)
        + (f'<div class="under">{under}</div>' if under else "")
        + _missing(board)
    )
    return Section(
        f"{board.suite.name} {said.id}: {said.title}", html, {_anchor(board): plot} if plot else {}
    )


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
        "Paired t-tests over runs of the same data and seed; the conditions of the table count as "
        "repeats.",
        kind="caption",
    )
    return f"<div><h3>Differences</h3>{table(('', 'mean', 'p (Holm)', 'n'), rows)}{note}</div>"


def _cost(board: Board) -> Any:
    """The main metric against the time of a run, a mark for each entry; None for fewer than two
    entries.
    """
    from bokeh.models import Range1d

    points = cost(board)
    main = board.table.main_index
    if len(points) < 2 or board.table.metrics[main].endswith("seconds"):
        return None
    name = (board.table.names or board.table.metrics)[main].replace("_", " ")
    plot = plots.figure("seconds of a run", name, 520, 300, x_axis_type="log")
    times = [seconds for _, seconds, _ in points]
    plot.x_range = Range1d(start=min(times) / 1.3, end=1.3 * max(times))
    plot.y_range = Range1d(start=0, end=1.05 * max(value for _, _, value in points) or 1)
    marks = []
    for index, (label, seconds, value) in enumerate(points):
        mark = palette.mark(index)
        source = {"x": [seconds], "y": [value], "name": [label]}
        marks.append(
            plot.scatter(
                "x",
                "y",
                source=source,
                size=10,
                color=mark.colour,
                marker=mark.marker,
                legend_label=label,
            )
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


def _failures(found: Sequence[Board], facts: Mapping[str, Any]) -> list[Section]:
    """Runs that failed, and plugins that cannot be used."""
    lines = {line["key"]: line for board in found for row in board.rows for line in row.lines}
    rows = []
    for key, reason in facts["failures"].items():
        line = lines.get(key)
        folder = Markup(f"<code>{text(Path(line['run']).parent)}</code>") if line else "–"
        rows.append(
            (line["method"] if line else key, line["seed"] if line else "–", reason, folder)
        )
    return (
        [Section("Failed", table(("method", "seed", "why", "folder"), rows, "facts", ()))]
        if rows
        else []
    )


def _origin(facts: Mapping[str, Any]) -> Section:
    rows = [(name, value) for name, value in facts["origin"].items() if value]
    note = paragraph(
        "Every run with its options, data hashes, versions and cost is a line of results.jsonl.",
        kind="caption",
    )
    return Section("Where this comes from", table(("", ""), rows, "facts", ()) + note)
