"""Where the labels go wrong: the confusion matrix and the table of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from cryoet_core.report.drawing import palette, plots
from cryoet_core.report.drawing.section import Section, paragraph
from cryoet_core.report.drawing.words import Markup, percent, table, text
from cryoet_core.report.facts import Facts

_WIDE_MATRIX = 14
"""With more rows or columns cells are small and show counts alone."""


def errors(facts: Facts) -> Section | None:
    """Show the confusion matrix and the table of the classes; None without known classes."""
    scores = facts.scores
    if not scores or not scores.get("n") or not scores.get("confusion"):
        return None
    matrix = _matrix(scores["confusion"], facts)
    html = f'<div class="confused"><div>{matrix}</div><div>{per_class(scores, facts)}</div></div>'
    return Section("Known and found classes", html)


def _matrix(confusion: dict[str, Any], facts: Facts) -> str:
    counts = np.array(confusion["counts"], dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(totals, 1)
    wide = max(counts.shape) > _WIDE_MATRIX
    rows = []
    for i, name in enumerate(confusion["rows"]):
        cells = "".join(
            _cell(int(n), float(s), i == j, wide)
            for j, (n, s) in enumerate(zip(counts[i], fractions[i], strict=True))
        )
        rows.append(
            f"<tr><th>{text(name)}</th>{cells}<td class=num>{int(totals[i, 0]):,}</td></tr>"
        )
    task, index = facts.task, {name: i for i, name in enumerate(facts.classes)}
    marks = [palette.mark(index.get(name, -1)).swatch() for name in confusion["columns"]]
    pairs = zip(confusion["columns"], marks, strict=True)
    heads = "".join(
        f"<th>{'' if wide else drawn}<span>{text(name)}</span></th>" for name, drawn in pairs
    )
    found = "found clusters" if task == "clustering" else "predicted classes"
    caption = paragraph(
        f"Rows: known classes; columns: {found}. Each cell: number of subtomograms"
        + (
            " (the colour shows the fraction of its row)."
            if wide
            else " and its fraction of the row."
        )
        + (
            " Matched clusters come first, so agreement lies on the framed diagonal."
            if task == "clustering"
            else ""
        ),
        kind="caption",
    )
    size = " wide" if wide else ""
    return (
        '<div class="scroll"><table '
        f'class="confusion{size}"><thead><tr><th></th>{heads}<th><span>all</span></th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>{caption}"
    )


def _cell(count: int, fraction: float, diagonal: bool, wide: bool) -> str:
    # a ramp from white to the accent's blue; white text where the blue is dark
    red, green, blue = (round(255 + fraction * (c - 255)) for c in (0, 114, 178))
    ink = "#fff" if fraction > 0.8 else plots.INK
    inner = f"{count}" if wide or not count else f"{count:,}<small>{100 * fraction:.0f} %</small>"
    kind = ' class="diagonal"' if diagonal else ""
    return (
        f"<td{kind} "
        f'style="background:rgb({red},{green},{blue});color:{ink}">{inner if count else ""}</td>'
    )


def per_class(scores: dict[str, Any], facts: Facts) -> str:
    """Return the table of the scores of each class as HTML.

    Parameters
    ----------
    scores : dict
        A clustering or classification report.
    facts : Facts
        What is known of the run.

    Returns
    -------
    str
        HTML; empty where the report has no classes.
    """
    rows = scores.get("per_class") or []
    if not rows:
        return ""
    if facts.task == "classification":
        heads = ["class", "subtomograms", "predicted", "precision", "recall", "F1"]
        body = [
            [r["class"], r["n"], r["predicted"], r["precision"], r["recall"], r["f1"]] for r in rows
        ]
        macro, micro = scores["macro"], scores["micro"]
        body.append([Markup("<b>mean over classes</b>"), None, None, *macro.values()])
        body.append([Markup("<b>over all rows</b>"), None, None, *micro.values()])
        return table(heads, body, "classes")
    heads = ["known class", "subtomograms", "matched cluster", "precision", "recall", "F1"]
    index = {name: i for i, name in enumerate(facts.classes)}
    body = []
    for r in rows:
        cluster = r["cluster"]
        drawn = palette.mark(index[cluster]).swatch() if cluster in index else ""
        named = Markup(f"{drawn}{text(cluster)}") if cluster is not None else Markup("<i>none</i>")
        body.append([r["class"], r["n"], named, r["precision"], r["recall"], r["f1"]])
    return table(heads, body, "classes", [1, 3, 4, 5])


def cluster_table(facts: Facts) -> Section | None:
    """Show counts and certainty of each class where no true label is known."""
    if (facts.scores and facts.scores.get("n")) or facts.predictions is None or not facts.classes:
        return None
    labels = facts.predictions.labels
    best = labels.probabilities.max(axis=1)
    total = max(len(labels), 1)
    rows = []
    for i, name in enumerate(facts.classes):
        chosen = best[labels.labels == i]
        mean = float(chosen.mean()) if len(chosen) else None
        sure = Markup(percent(float((chosen > 0.9).mean()))) if len(chosen) else None
        head = Markup(f"{palette.mark(i).swatch()}{text(name)}")
        rows.append([head, len(chosen), Markup(percent(len(chosen) / total)), mean, sure])
    heads = ["class", "subtomograms", "fraction", "mean posterior", "posterior above 0.9"]
    return Section("Classes in numbers", table(heads, rows, "classes"))
