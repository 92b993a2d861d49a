"""The result in numbers, the classes as pictures, and where the result goes wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from cryoet_core.report.drawing import images, palette, plots
from cryoet_core.report.drawing.section import Section, figures, paragraph, slot
from cryoet_core.report.drawing.words import Markup, number, percent, plural, table, text
from cryoet_core.report.embedding import EmbeddingMap
from cryoet_core.report.facts import Facts

_COLUMNS = (
    ("matched_accuracy", "matched accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("ari", "ARI"),
    ("nmi", "NMI"),
    ("homogeneity", "homogeneity"),
    ("completeness", "completeness"),
    ("purity", "purity"),
)


def notes(facts: Facts) -> Section | None:
    """List the notes of the method and the remarks of the report."""
    lines = facts.notes + facts.remarks
    if not lines:
        return None
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return Section("Notes", f'<ul class="notes">{items}</ul>')


def comparison(facts: Facts) -> Section | None:
    """Compare the method with baselines and with one class for all."""
    scores = facts.scores
    if not scores or not scores.get("n") or facts.task == "classification":
        return None
    others = {name: values for name, values in facts.yardsticks.items() if name != facts.method}
    lines = [
        (facts.method, "this method", scores),
        *((name, "baseline", values) for name, values in others.items()),
    ]
    best = {
        key: max((float(s[key]) for _, _, s in lines if s.get(key) is not None), default=None)
        for key, _ in _COLUMNS
    }
    rows: list[list[Any]] = []
    for name, role, values in lines:
        cells = [_best(values.get(key), best[key], len(lines) > 1) for key, _ in _COLUMNS]
        rows.append([Markup(f"<b>{text(name)}</b> <small>{role}</small>"), values.get("k"), *cells])
    constant = [scores.get("majority"), 1 / scores["classes"] if scores.get("classes") else None]
    rows.append(
        [
            Markup("one class for all <small>majority</small>"),
            1,
            *constant,
            0.0,
            0.0,
            0.0,
            1.0,
            constant[0],
        ]
    )
    words = [
        f"{plural(scores['n'], 'labelled subtomogram')} of "
        f"{plural(scores.get('classes') or 0, 'class', 'es')}"
    ]
    words += (
        [f"{scores['unlabelled']:,} without a label left out"] if scores.get("unlabelled") else []
    )
    words += (
        [f"{scores['unassigned']:,} not assigned, counted as errors"]
        if scores.get("unassigned")
        else []
    )
    caption = paragraph(
        "; ".join(words),
        ". Each cluster is matched with at most one class (the best one-to-one matching); further "
        "clusters of a class count as errors. Balanced accuracy is the mean over the classes. NMI "
        "is normalised by the mean of the two entropies.",
        kind="caption",
    )
    missing = ""
    if not others and not facts.is_baseline:
        absent = "No baseline was run beside this method, so it has no line here."
        missing = paragraph(absent, kind="caption")
    return Section(
        "Agreement with the known classes",
        table(["", "K", *(n for _, n in _COLUMNS)], rows) + caption + missing,
    )


def _best(value: float | None, best: float | None, several: bool) -> Any:
    shown = number(value)
    return (
        Markup(f"<b>{shown}</b>")
        if several and value is not None and value == best
        else Markup(shown)
    )


def class_averages(facts: Facts) -> Section | None:
    """Show a card for each class: slices, count, fraction, and the known class matched to it."""
    names = facts.classes or tuple(facts.averages)
    if not facts.averages:
        return None
    total = max(int(facts.counts.sum()), 1)
    matching = (facts.scores or {}).get("matching", {})
    cards = []
    for index, name in enumerate(names):
        if len(facts.counts) and not facts.counts[index]:
            continue
        found = facts.average_of(name)
        pictures = _slices(*found) if found else '<div class="absent">no average</div>'
        count = int(facts.counts[index]) if len(facts.counts) else None
        held = f"{plural(count, 'particle')}, {percent(count / total)}" if count is not None else ""
        known = (
            f"known class: <b>{text(matching[name])}</b>"
            if name in matching
            else "no known class of its own"
        )
        matched = f'<div class="matched">{known}</div>' if matching else ""
        swatch = palette.mark(index).swatch()
        cards.append(
            '<div class="card"><div '
            f'class="cardhead">{swatch}<b>{text(name)}</b><span>{held}</span></div>'
            f"{pictures}{matched}</div>"
        )
    empty = [name for name, count in zip(facts.classes, facts.counts, strict=True) if not count]
    missed = len(facts.predictions) - int(facts.counts.sum()) if facts.predictions else 0
    lines = ["Each class has its own grey scale; protein is bright."]
    lines.append(_poses_of_averages(facts))
    if empty:
        lines.append(f"Without particles: {', '.join(empty)}.")
    if missed:
        lines.append(f"Not assigned to any class: {plural(missed, 'particle')}.")
    return Section(
        "Class averages",
        f'<div class="cards">{"".join(cards)}</div>' + paragraph(" ".join(lines), kind="caption"),
    )


def _poses_of_averages(facts: Facts) -> str:
    """How the averaged particles lie, for it decides what an average can show."""
    wanted = (facts.record.get("config") or {}).get("align_averages")
    if facts.predictions and "rotations" in facts.predictions.labels.extra and wanted is not False:
        return "Particles were rotated back by the poses that the method found."
    if wanted:
        return "The particles of each class were aligned to one another by a search."
    return (
        "Particles were not aligned, so an average shows only the envelope that is common to "
        "all orientations."
    )


def _slices(volume: np.ndarray, voxel_size: float) -> str:
    """Three slices, their planes named, and a bar of a round length in nm below the first."""
    parts = []
    width = volume.shape[2] * voxel_size / 10  # nm
    for plane, pixels in zip(("xy", "xz", "yz"), images.central_slices(volume), strict=True):
        address = images.strip([pixels])
        bar = named = ""
        if plane == "xy" and width > 0 and np.isfinite(width):
            length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= width / 2), default=1)
            bar, named = (
                f'<i style="width:{100 * length / width:.1f}%"></i>',
                f"<span>{length} nm</span>",
            )
        image = f'<img src="{address}" alt="central {plane} slice">'
        parts.append(f"<div>{image}{bar}<p><span>{plane}</span>{named}</p></div>")
    return f'<div class="slices">{"".join(parts)}</div>'


def choice_of_k(facts: Facts) -> Section | None:
    """Show how the number of clusters was chosen."""
    plot = plots.selection_curve(facts.selection or {}, 560)
    if plot is None or facts.selection is None:
        return None
    words = (
        f"K = {facts.selection.get('chosen')} was chosen." if facts.selection.get("chosen") else ""
    )
    used = int((facts.counts > 0).sum())
    if facts.predictions and facts.selection.get("chosen") not in (None, used):
        later = {
            str(row["phase"])
            for row in facts.metrics
            if row.get("phase") and row.get("k") is not None
        }
        after = f", after the phase {' and '.join(sorted(later))}" if later else ""
        verb = "holds" if used == 1 else "hold"
        words += f" {plural(used, 'cluster')} {verb} particles in the end{after}."
    return Section(
        "Number of clusters",
        figures([("Bayesian information criterion of each K. " + words, "bic")]),
        {"bic": plot},
    )


def iterations(facts: Facts) -> Section | None:
    """Plot the numbers that were logged during the training."""
    word = "iteration" if facts.task == "clustering" else "step"
    found = plots.metric_curves(facts.metrics, word)
    if not found:
        return None
    return Section(
        f"Course of the training, by {word}",
        figures([(plots.WORDS.get(name, ""), f"curve {name}") for name in found]),
        {f"curve {name}": plot for name, plot in found.items()},
    )


def embedding(facts: Facts, found: EmbeddingMap | None) -> Section | None:
    """Show the map of the embedding with its legends.

    Parameters
    ----------
    facts : Facts
        What is known of the run.
    found : EmbeddingMap or None
        The plot.

    Returns
    -------
    Section or None
        None without a plot.
    """
    if found is None or facts.predictions is None:
        return None
    n = len(facts.predictions)
    which = (
        f"{found.shown:,} of {n:,} particles, drawn at random"
        if found.shown < n
        else f"All {plural(n, 'particle')}"
    )
    if found.with_slices:
        assert facts.data is not None
        sigma = images.SMOOTHING * facts.data.voxel_size
        hint = (
            " Under the pointer: the central xy, xz and yz slices of the particle, smoothed by "
            "a Gaussian of "
            f"σ = {images.SMOOTHING:g} voxel ({sigma:.0f}\u00a0Å), each particle on a grey scale "
            "of its own."
        )
    else:
        hint = (
            " Slices of the particles cannot be shown, because the data file was not found when "
            "this report was written."
        )
    kinds = {
        "t-SNE": "t-SNE keeps neighbours together; distances between groups mean little.",
        "PCA": "PCA: the two directions of largest variance.",
    }
    words = " ".join(kinds[name] for name in found.layouts)
    controls = _buttons("layout", found.layouts) if len(found.layouts) > 1 else ""
    if found.classes:
        found_word = "cluster" if facts.task == "clustering" else "class found"
        controls += _buttons("colour", (found_word, "true class"), ("cluster", "true class"))
    clusters = {i: palette.mark(i) for i in found.clusters}
    legends = '<p class="hint">Click a name to see its points alone.</p>'
    legends += _legend("cluster", found.clusters, clusters, False)
    legends += _legend("class", found.classes, found.class_marks, True) if found.classes else ""
    html = (
        f'<div class="map"><div>{slot("map")}</div><div class="side"><div '
        f'class="controls">{controls}</div>{legends}'
        f"</div></div>" + paragraph(f"{which}. {words}{hint}", kind="caption")
    )
    return Section("Map of the embedding", html, {"map": found.plot})


def _buttons(what: str, names: tuple[str, ...], values: tuple[str, ...] = ()) -> str:
    """A button for each name; ``values`` are what the script is told, the names themselves if not
    given.
    """
    parts = "".join(
        f'<button data-{what}="{text(value)}" '
        f'aria-pressed="{"true" if i == 0 else "false"}">{text(name)}</button>'
        for i, (name, value) in enumerate(zip(names, values or names, strict=True))
    )
    label = {"layout": "layout", "colour": "colour by"}[what]
    return f'<div class="choice"><span>{label}</span><div>{parts}</div></div>'


def _legend(kind: str, names: dict[int, str], marks: dict[int, palette.Mark], hidden: bool) -> str:
    items = "".join(
        f'<li data-label="{label}" '
        f'tabindex="0">{marks.get(label, palette.NONE).swatch()}{text(name)}</li>'
        for label, name in names.items()
    )
    long = " long" if len(names) > 16 else ""
    return (
        f'<ul class="legend{long}" data-legend="{kind}"{" hidden" if hidden else ""}>{items}</ul>'
    )


def certainty(facts: Facts) -> Section | None:
    """Show how sure the method is of its labels."""
    if facts.predictions is None or not len(facts.predictions) or not facts.classes:
        return None
    best = facts.predictions.labels.probabilities.max(axis=1)
    right = facts.right()
    if right is not None:
        best, right = best[facts.counted], right[facts.counted]
    sure = float((best > 0.9).mean()) if len(best) else 0.0
    words = f"{percent(sure)} of the labels have a posterior above 0.9"
    if right is not None and (best > 0.9).any():
        words += f"; of these, {percent(float(right[best > 0.9].mean()))} are right"
    plot = plots.posterior_histogram(best, right, 560)
    return Section(
        "Certainty of the labels", figures([(words + ".", "posterior")]), {"posterior": plot}
    )
