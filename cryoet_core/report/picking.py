"""The parts of a report on picked particles: how well, where, and how long it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cryoet_core.picks.table import Picks
from cryoet_core.report.drawing import palette, plots
from cryoet_core.report.drawing.section import Section, figures, paragraph
from cryoet_core.report.drawing.tomogram_slices import Rings, key, planes, side_by_side
from cryoet_core.report.drawing.words import Markup, duration, number, percent, plural, table, text
from cryoet_core.report.surveys import SurveyFacts, hits_of
from cryoet_core.support.errors import UserError
from cryoet_core.tomograms import Tomogram, Tomograms

MOST_PICTURES = 3
_MOST_ROWS = 60
_HIT, _MISS, _FALSE = ("#56B4E9", ""), ("#F0E442", "3 3"), ("#D55E00", "8 2")
"""Colours told apart with any colour vision, and dashes besides."""
_RULES = {
    "optimal": "the largest one-to-one matching within the radius",
    "greedy": "picks in the order of their scores take the nearest free particle within the radius",
    "r1.5": "the published script's assignment, which reaches r^1.5 voxels",
    "shrec": "the particle whose occupancy mask a pick hits, once",
}


def sections(surveys: Sequence[SurveyFacts]) -> list[Section]:
    """Return the sections of each survey: agreement, scores, tomograms and pictures.

    Parameters
    ----------
    surveys : sequence of SurveyFacts
        What the run left.

    Returns
    -------
    list of Section
        The sections, one survey after the other.
    """
    found = []
    for survey in surveys:
        on = f", {survey.name}" if survey.name else ""
        tomograms, why = _opened(survey)
        truth = survey.truth if survey.truth is not None else tomograms.picks if tomograms else None
        parts = [
            _agreement(survey, on),
            _curves(survey, on),
            _rows(survey, on),
            _pictures(survey, truth, tomograms, why, on),
        ]
        found += [part for part in parts if part is not None]
    return found


# ---- agreement -----------------------------------------------------------------------------------


def _agreement(survey: SurveyFacts, on: str) -> Section | None:
    scores = survey.scores
    if scores is None:
        return None
    heads = (
        "",
        "particles",
        "picks",
        "precision",
        "recall",
        "F1",
        "F-beta (4)",
        "AP",
        "best F1",
        "at score",
    )
    rows = [_scores(Markup("<b>all</b>"), scores)]
    if len(scores.get("per_class") or ()) > 1:
        rows += [_scores(row["class"], row) for row in scores["per_class"]]
    voxels = (
        f" ({number(scores['radius_voxels'], 1)} voxels)" if scores.get("radius_voxels") else ""
    )
    words = [
        f"A pick and a particle match at most {scores['radius']:g} Å{voxels} apart, one to one: "
        f"{_RULES.get(scores['rule'], scores['rule'])}. AP is the area under the "
        "precision-recall curve of all picks, in steps. F-beta (4): a missed particle counts as "
        "much as 16 false picks. Best F1 is that of the picks above the best threshold, which can "
        "be chosen only where the particles are known."
    ]
    if scores.get("mean_distance") is not None:
        words.append(
            f"Matched picks lie {scores['mean_distance']:.1f} Å from the particle on average."
        )
    if scores.get("measured"):
        values = (
            f"{name.replace('_', ' ')} {number(value)}"
            for name, value in scores["measured"].items()
        )
        words.append(f"Measured by the method itself: {', '.join(values)}.")
    words += _left_out(scores.get("left_out") or {})
    return Section(
        f"Agreement with the known particles{on}",
        table(heads, rows) + paragraph(" ".join(words), kind="caption"),
    )


def _scores(name: Any, row: dict[str, Any]) -> list[Any]:
    counts = [f"{row['n_truth']:,}", f"{row['n_picks']:,}"]
    keys = ("precision", "recall", "f1", "f_beta4", "ap", "best_f1", "best_threshold")
    return [name, *counts, *(Markup(number(row.get(key))) for key in keys)]


def _left_out(left: dict[str, Any]) -> list[str]:
    words = []
    if left.get("tomograms"):
        names = left["tomograms"]
        words.append(
            f"{plural(left.get('picks_there', 0), 'pick')} in {_few(names)}, whose particles are "
            "not known."
        )
    for what, key_ in (("picks", "picks"), ("particles", "truth")):
        counts = left.get(key_) or {}
        if counts:
            words.append(
                f"{what.capitalize()} of {_few([f'{n} ({c:,})' for n, c in counts.items()])}."
            )
    return [f"Not compared: {' '.join(words)}"] if words else []


def _curves(survey: SurveyFacts, on: str) -> Section | None:
    titled, drawn = [], {}
    scores = survey.scores
    if scores and scores.get("ap") is not None and (scores.get("curve") or {}).get("recall"):
        titled.append(("Ring: all picks. Dot: the threshold with the best F1.", f"curve{on}"))
        drawn[f"curve{on}"] = plots.precision_recall(scores, 560)
    histogram = scores.get("histogram") if scores else None
    if histogram:
        groups = [
            ("hits", np.array(histogram["hits"]), palette.ACCENT),
            ("false picks", np.array(histogram["false"]), palette.WRONG),
        ]
        drawn[f"scores{on}"] = plots.stacked(
            np.array(histogram["edges"]), groups, "score", "picks", 560
        )
        titled.append(("Where the two overlap, no threshold can part them.", f"scores{on}"))
    elif survey.picks is not None:
        known = survey.picks.scores[np.isfinite(survey.picks.scores)]
        if len(known) > 1 and np.ptp(known) > 0:
            drawn[f"scores{on}"] = plots.counts(known, "score", "picks", 560)
            titled.append(("", f"scores{on}"))
    if not titled:
        return None
    title = "Precision, recall and scores" if len(titled) > 1 else "Scores of the picks"
    return Section(f"{title}{on}", figures(titled), drawn)


# ---- tomograms -----------------------------------------------------------------------------------


def _opened(survey: SurveyFacts) -> tuple[Tomograms | None, str]:
    """The tomograms, or why they cannot be shown."""
    from cryoet_core.runs.inputs import reading_of
    from cryoet_core.tomograms import open_tomograms

    gone = [path for path in survey.paths if not path.exists()]
    if gone or not survey.paths:
        return None, f"{gone[0].name if gone else 'the data'} is no longer where the run found it"
    said = {name: value for name, value in survey.reading.items() if value not in (None, (), [])}
    try:
        return open_tomograms(survey.paths, reading_of({"default_contrast": "dark", **said})), ""
    except (UserError, TypeError) as error:
        return None, f"the data could not be read ({error})"


def _pictures(
    survey: SurveyFacts, truth: Picks | None, tomograms: Tomograms | None, why: str, on: str
) -> Section | None:
    if survey.picks is None or not len(survey.picks):
        return None
    title = f"Picks in the tomograms{on}"
    if tomograms is None:
        return Section(title, paragraph(f"No pictures: {why}.", kind="caption"))
    groups = _groups(survey, truth)
    radius = (survey.diameter or 200.0) / 2
    shown, parts = _worth_showing(survey, tomograms), []
    for tomogram in shown:
        mine = [
            Rings(picks.within(tomogram.name).positions, colour, dashes, word)
            for picks, (colour, dashes), word in groups
        ]
        middle = np.concatenate([rings.positions for rings in mine])
        try:
            three = planes(tomogram, middle, radius)
        except UserError as error:
            parts.append(paragraph(f"{tomogram.name}: {error}", kind="caption"))
            continue
        parts.append(
            Markup(f"<h3>{text(tomogram.name)}</h3>{key(mine)}{side_by_side(three, mine, radius)}")
        )
    words = [
        f"The slabs with the most of these, {radius / 2:.0f} Å thick, protein bright; rings of "
        f"{2 * radius:.0f} Å."
    ]
    if survey.scores and len(groups) == 1:
        words.append(
            "Which picks are hits is not shown: the known particles are not at hand as they were "
            "compared."
        )
    if len(shown) < len(survey.rows):
        words.append(f"{len(shown)} of {len(survey.rows)} tomograms are shown.")
    return Section(title, "".join(parts) + paragraph(" ".join(words), kind="caption"))


def _groups(survey: SurveyFacts, truth: Picks | None) -> list[tuple[Picks, tuple[str, str], str]]:
    """Hits, misses and false picks; all picks where that is not known."""
    assert survey.picks is not None
    found = hits_of(survey, truth)
    if found is None or truth is None:
        return [(survey.picks, _HIT, "picks")]
    hits, false, missed = found
    return [
        (survey.picks.select(hits), _HIT, "hits"),
        (truth.select(missed), _MISS, "missed particles"),
        (survey.picks.select(false), _FALSE, "false picks"),
    ]


def _worth_showing(survey: SurveyFacts, tomograms: Tomograms) -> list[Tomogram]:
    """The best, the worst and the middle one by F1 where there are scores, else those with the most
    picks.
    """
    known = {tomogram.name: tomogram for tomogram in tomograms}
    rows = (survey.scores or {}).get("per_tomogram") or []
    if rows:
        names = [
            row["tomogram"]
            for row in sorted(rows, key=lambda row: -row["f1"])
            if row["tomogram"] in known
        ]
    else:
        counts = sorted(survey.rows, key=lambda row: -int(row.get("picks") or 0))
        names = [
            row["name"]
            for row in counts
            if row.get("name") in known and row.get("status") == "done"
        ]
        return [known[name] for name in names[:MOST_PICTURES]]
    if len(names) > MOST_PICTURES:
        names = [names[0], names[len(names) // 2], names[-1]]
    return [known[name] for name in names]


def _rows(survey: SurveyFacts, on: str) -> Section | None:
    if not survey.rows:
        return None
    scores = {row["tomogram"]: row for row in (survey.scores or {}).get("per_tomogram") or ()}
    failed_first = sorted(survey.rows, key=lambda row: row.get("status") == "done")
    heads = ["tomogram", "picks", "time"]
    heads += ["particles", "precision", "recall", "F1"] if scores else []
    heads += ["what went wrong"] if survey.failed else []
    rows = []
    for row in failed_first[:_MOST_ROWS]:
        done = row.get("status") == "done"
        cells = [row.get("name"), f"{int(row.get('picks') or 0):,}" if done else None]
        cells.append(Markup(duration(float(row.get("seconds") or 0))) if done else None)
        if scores:
            own = scores.get(row.get("name"), {})
            cells.append(f"{own['n_truth']:,}" if own else None)
            cells += [Markup(number(own.get(name))) for name in ("precision", "recall", "f1")]
        if survey.failed:
            cells.append("" if done else Markup(f"<b>failed</b>: {text(row.get('message') or '')}"))
        rows.append(cells)
    more = len(survey.rows) - len(rows)
    words = f"{plural(len(survey.rows), 'tomogram')}, {duration(survey.seconds)} in all"
    words += (
        f", {survey.failed} failed ({percent(survey.failed / len(survey.rows))})"
        if survey.failed
        else ""
    )
    words += f"; {more} more are in {on.removeprefix(', ') or 'status.json'}" if more > 0 else ""
    numeric = range(1, len(heads) - bool(survey.failed))
    html = f'<div class="scroll">{table(heads, rows, "", list(numeric))}</div>'
    return Section(f"Tomograms{on}", html + paragraph(f"{words}.", kind="caption"))


def _few(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


# ---- the top of the page -------------------------------------------------------------------------


def tiles(surveys: Sequence[SurveyFacts]) -> list[tuple[str, str, str]]:
    """Return the numbers that matter first.

    Parameters
    ----------
    surveys : sequence of SurveyFacts
        What the run left.

    Returns
    -------
    list of (str, str, str)
        Name, value and what stands below it.
    """
    survey = next((survey for survey in surveys if survey.scores), surveys[0])
    count = sum(int(row.get("picks") or 0) for row in survey.rows)
    failed = f"{survey.failed} failed" if survey.failed else "all done"
    found = [("picks", f"{count:,}", survey.name), ("tomograms", f"{len(survey.rows):,}", failed)]
    scores = survey.scores
    if scores:
        below = f"precision {number(scores['precision'])}\nrecall {number(scores['recall'])}"
        found.append(("F1", number(scores["f1"]), below))
        if scores.get("ap") is not None:
            found.append(
                ("average precision", number(scores["ap"]), f"best F1 {number(scores['best_f1'])}")
            )
    return found
